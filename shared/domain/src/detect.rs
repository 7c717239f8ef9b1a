//! Detection: what a page's records mean, given what is known of them.
//!
//! One record is judged at a time, from the record, its index entry and the [`Pass`]; the outcome is a change to
//! tell or a reason for silence, and the entry to remember. Nothing else decides what becomes an event, so the
//! same function answers *why*.
//!
//! What types forbid: only [`Missing::of_complete_listing`] yields deletions by absence, and only the end of a complete listing can
//! build one; a baseline has no way to tell anything.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::configuration::{CreatedRule, InitialPoll};
use crate::event::event_id;
use crate::id::InstanceId;
use crate::index::Entry;
use crate::record::{Change, ChangeKind, Record, Told};

/// What a pass brings to the judgement of each of its records.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// Whose records.
    pub instance: InstanceId,
    /// Of which resource.
    pub resource: String,
    /// First pass: what exists is remembered and not told.
    pub baseline: bool,
    /// Every record that exists is in the index, so an unknown one is new.
    pub index_is_complete: bool,
    /// The newest stamp of the baseline, in the vendor's own time: a record made at or after it is a creation.
    /// None: the baseline was empty or had no stamps.
    pub covered_since: Option<DateTime<Utc>>,
    /// What the revisions of a record that was never seen count from: 0, or more where an earlier life of the
    /// resource told of it already, so that no event id comes back and no sequence falls.
    pub first_revision: u32,
    /// `createdRule`.
    pub created_rule: CreatedRule,
    /// `createdCheckTolerance`.
    pub created_tolerance: TimeDelta,
    /// `initialPoll`.
    pub initial_poll: InitialPoll,
    /// `filterByCurrentDate`: leave what changed after this instant, by the vendor's clock, to the next poll.
    pub not_after: Option<DateTime<Utc>>,
}

/// Which rule made a record what it became. The words of the *why* answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The first poll remembers what exists and tells nothing.
    Baseline,
    /// The first poll was asked to tell what exists.
    BaselineTold,
    /// Never seen before, and made since coverage began.
    CreatedSinceCoverage,
    /// Created and updated lie within the tolerance.
    CreatedWithinTolerance,
    /// Never seen before, no creation date, and everything that existed before is known.
    NewToCompleteIndex,
    /// The vendor lists it as created.
    VendorSaysCreated,
    /// Known, and its fingerprint changed.
    FingerprintChanged,
    /// Never seen before, but made before coverage began.
    CreatedEarlier,
    /// The vendor lists it as updated.
    VendorSaysUpdated,
    /// It was gone and is there again.
    Returned,
    /// The vendor marks it as deleted.
    VendorSaysDeleted,
    /// A complete listing lacked it, and asking for it by id confirmed that.
    AbsenceConfirmed,
    /// Known with the same fingerprint: already told, or part of the baseline.
    AlreadyKnown,
    /// Older than the version already known: a stale listing.
    OlderThanKnown,
    /// Deleted, but never known: nothing was ever told of it.
    DeletedBeforeKnown,
    /// Changed after the poll began; `filterByCurrentDate` leaves it to the next one.
    AfterPollBegan,
}

/// The judgement of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Which rule decided.
    pub rule: Rule,
    /// What to tell, if anything.
    pub told: Option<ChangeKind>,
    /// What to remember; None leaves the index as it is.
    pub entry: Option<Entry>,
}

impl Judgement {
    fn silent(rule: Rule, entry: Option<Entry>) -> Self {
        Self { rule, told: None, entry }
    }
}

/// Judges one record.
pub fn judge(record: &Record, known: Option<Entry>, pass: &Pass) -> Judgement {
    let stamp = micros(record.updated);
    let seen = Entry {
        fingerprint: record.fingerprint,
        stamp,
        revision: known.map_or(pass.first_revision, |known| known.revision),
        gone: record.told == Told::Deleted,
    };
    let tell = |kind, rule| Judgement {
        rule,
        told: Some(kind),
        entry: Some(Entry { revision: seen.revision.saturating_add(1), ..seen }),
    };
    if pass.not_after.is_some_and(|limit| record.updated.is_some_and(|updated| updated > limit)) {
        return Judgement::silent(Rule::AfterPollBegan, None);
    }
    if pass.baseline && known.is_none() {
        return match pass.initial_poll {
            InitialPoll::Emit if record.told != Told::Deleted => tell(ChangeKind::Created, Rule::BaselineTold),
            _ => Judgement::silent(Rule::Baseline, Some(seen)),
        };
    }
    match (known, record.told) {
        (Some(known), Told::Deleted) if known.gone => Judgement::silent(Rule::AlreadyKnown, None),
        (Some(_), Told::Deleted) => tell(ChangeKind::Deleted, Rule::VendorSaysDeleted),
        (None, Told::Deleted) if pass.index_is_complete => Judgement::silent(Rule::DeletedBeforeKnown, Some(seen)),
        (None, Told::Deleted) => tell(ChangeKind::Deleted, Rule::VendorSaysDeleted),
        (Some(known), _) if known.gone => tell(ChangeKind::Created, Rule::Returned),
        (Some(known), _) if known.fingerprint == record.fingerprint => Judgement::silent(Rule::AlreadyKnown, None),
        (Some(known), _) if stamp != 0 && stamp < known.stamp => Judgement::silent(Rule::OlderThanKnown, None),
        (Some(_), _) => tell(ChangeKind::Updated, Rule::FingerprintChanged),
        (None, Told::Created) => tell(ChangeKind::Created, Rule::VendorSaysCreated),
        (None, Told::Updated) => tell(ChangeKind::Updated, Rule::VendorSaysUpdated),
        (None, Told::State) => {
            let (kind, rule) = created_or_updated(record, pass);
            tell(kind, rule)
        }
    }
}

/// CREATED or UPDATED, for a record that was never seen.
fn created_or_updated(record: &Record, pass: &Pass) -> (ChangeKind, Rule) {
    let within_tolerance = match (record.created, record.updated) {
        (Some(created), Some(updated)) => (updated - created).abs() <= pass.created_tolerance,
        _ => false,
    };
    if within_tolerance {
        return (ChangeKind::Created, Rule::CreatedWithinTolerance);
    }
    if pass.created_rule == CreatedRule::Tolerance {
        return (ChangeKind::Updated, Rule::CreatedEarlier);
    }
    match (record.created, pass.covered_since) {
        (Some(created), Some(since)) if latest(created) >= since => (ChangeKind::Created, Rule::CreatedSinceCoverage),
        (Some(_), Some(_)) => (ChangeKind::Updated, Rule::CreatedEarlier),
        _ if pass.index_is_complete => (ChangeKind::Created, Rule::NewToCompleteIndex),
        _ => (ChangeKind::Updated, Rule::CreatedEarlier),
    }
}

/// The latest instant that a date may stand for. Vendors cut the second's fraction off the one date and not off the
/// other (Google Calendar: off `created`), and what is made in the second of the newest known change is new.
fn latest(date: DateTime<Utc>) -> DateTime<Utc> {
    let whole_second = date.timestamp_subsec_nanos() == 0;
    if whole_second { date + TimeDelta::nanoseconds(999_999_999) } else { date }
}

/// The change that a judgement tells. `partition` and id come from the record.
pub fn change_of(record: &Record, kind: ChangeKind, entry: Entry, pass: &Pass) -> Change {
    Change {
        event: event_id(pass.instance, &pass.resource, &record.partition, &record.id, entry.revision),
        kind,
        id: record.id.clone(),
        partition: record.partition.clone(),
        revision: entry.revision,
        date: record.updated.or(record.created),
        raw: record.raw.clone(),
    }
}

/// Microseconds since 1970, 0 for none.
pub fn micros(instant: Option<DateTime<Utc>>) -> i64 {
    instant.map_or(0, |instant| instant.timestamp_micros())
}

/// How many missing records are let through whatever their share: small accounts delete their only three records.
pub const FUSE_FLOOR: u64 = 10;

/// What a complete listing did not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Few enough: each is to be confirmed by id and then told.
    ToConfirm(Vec<String>),
    /// So many that the listing is more likely wrong than the records gone: held until someone approves.
    Held(Vec<String>),
}

impl Missing {
    /// Weighs the keys that a complete listing lacked against all `known` live records.
    pub fn of_complete_listing(missing: Vec<String>, known: u64, largest_share: f64) -> Self {
        let count = missing.len() as u64;
        if count > FUSE_FLOOR && count as f64 > known as f64 * largest_share {
            Self::Held(missing)
        } else {
            Self::ToConfirm(missing)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap_or_default()
    }

    fn pass() -> Pass {
        Pass {
            instance: InstanceId(1),
            resource: "timesheets".into(),
            baseline: false,
            index_is_complete: true,
            covered_since: Some(at(1000)),
            first_revision: 0,
            created_rule: CreatedRule::Observed,
            created_tolerance: TimeDelta::zero(),
            initial_poll: InitialPoll::Silent,
            not_after: None,
        }
    }

    fn record(created: Option<i64>, updated: Option<i64>) -> Record {
        Record {
            id: "r".into(),
            partition: String::new(),
            raw: Bytes::from_static(b"{}"),
            updated: updated.map(at),
            created: created.map(at),
            fingerprint: 7,
            told: Told::State,
        }
    }

    fn known(fingerprint: u64, updated: i64) -> Option<Entry> {
        Some(Entry { fingerprint, stamp: micros(Some(at(updated))), revision: 3, gone: false })
    }

    #[track_caller]
    fn check(record: Record, known: Option<Entry>, pass: Pass, told: Option<ChangeKind>, rule: Rule) {
        let judgement = judge(&record, known, &pass);
        assert_eq!((judgement.told, judgement.rule), (told, rule));
        if let (Some(_), Some(entry)) = (judgement.told, judgement.entry) {
            assert_eq!(entry.revision, known.map_or(0, |known| known.revision) + 1, "a told change is a new revision");
            let again = judge(&record, Some(entry), &Pass { baseline: false, ..pass });
            assert_eq!(again.told, None, "judging twice tells once");
        }
    }

    #[test]
    fn unknown_records() {
        use ChangeKind::*;
        check(record(Some(1000), Some(1001)), None, pass(), Some(Created), Rule::CreatedSinceCoverage);
        check(record(Some(900), Some(900)), None, pass(), Some(Created), Rule::CreatedWithinTolerance);
        check(record(Some(900), Some(1001)), None, pass(), Some(Updated), Rule::CreatedEarlier);
        check(record(None, Some(1001)), None, pass(), Some(Created), Rule::NewToCompleteIndex);
        let incomplete = Pass { index_is_complete: false, ..pass() };
        check(record(None, Some(1001)), None, incomplete.clone(), Some(Updated), Rule::CreatedEarlier);
        let empty_baseline = Pass { covered_since: None, ..pass() };
        check(record(Some(900), Some(1001)), None, empty_baseline, Some(Created), Rule::NewToCompleteIndex);
        let tolerant =
            Pass { created_rule: CreatedRule::Tolerance, created_tolerance: TimeDelta::seconds(5), ..pass() };
        check(record(Some(1000), Some(1005)), None, tolerant.clone(), Some(Created), Rule::CreatedWithinTolerance);
        check(record(Some(1000), Some(1006)), None, tolerant, Some(Updated), Rule::CreatedEarlier);
        for (told, kind, rule) in [
            (Told::Created, Created, Rule::VendorSaysCreated),
            (Told::Updated, Updated, Rule::VendorSaysUpdated),
            (Told::Deleted, Deleted, Rule::VendorSaysDeleted),
        ] {
            check(Record { told, ..record(None, None) }, None, incomplete.clone(), Some(kind), rule);
        }
        check(Record { told: Told::Deleted, ..record(None, None) }, None, pass(), None, Rule::DeletedBeforeKnown);
    }

    #[test]
    fn known_records() {
        use ChangeKind::*;
        check(record(None, Some(1001)), known(7, 1001), pass(), None, Rule::AlreadyKnown);
        check(record(None, Some(1001)), known(8, 1001), pass(), Some(Updated), Rule::FingerprintChanged);
        check(record(None, Some(999)), known(8, 1001), pass(), None, Rule::OlderThanKnown);
        check(record(None, None), known(8, 1001), pass(), Some(Updated), Rule::FingerprintChanged);
        let gone = Some(Entry { gone: true, ..known(7, 1001).unwrap_or_else(|| unreachable!()) });
        check(record(None, Some(1001)), gone, pass(), Some(Created), Rule::Returned);
        check(Record { told: Told::Deleted, ..record(None, None) }, gone, pass(), None, Rule::AlreadyKnown);
        check(
            Record { told: Told::Deleted, ..record(None, None) },
            known(7, 1),
            pass(),
            Some(Deleted),
            Rule::VendorSaysDeleted,
        );
    }

    #[test]
    fn a_baseline_is_silent_unless_asked() {
        let baseline = Pass { baseline: true, index_is_complete: false, covered_since: None, ..pass() };
        check(record(Some(1), Some(1)), None, baseline.clone(), None, Rule::Baseline);
        let emit = Pass { initial_poll: InitialPoll::Emit, ..baseline };
        check(record(Some(1), Some(1)), None, emit.clone(), Some(ChangeKind::Created), Rule::BaselineTold);
        check(Record { told: Told::Deleted, ..record(None, None) }, None, emit, None, Rule::Baseline);
    }

    #[test]
    fn what_changed_after_the_poll_began_waits() {
        let bounded = Pass { not_after: Some(at(1001)), ..pass() };
        check(record(None, Some(1002)), None, bounded.clone(), None, Rule::AfterPollBegan);
        check(record(None, Some(1001)), None, bounded, Some(ChangeKind::Created), Rule::NewToCompleteIndex);
    }

    #[test]
    fn the_fuse_holds_mass_deletes_and_lets_small_ones_through() {
        let keys = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(matches!(Missing::of_complete_listing(keys(10), 10, 0.2), Missing::ToConfirm(_)));
        assert!(matches!(Missing::of_complete_listing(keys(11), 50, 0.2), Missing::Held(_)));
        assert!(matches!(Missing::of_complete_listing(keys(11), 55, 0.2), Missing::ToConfirm(_)));
    }
}
