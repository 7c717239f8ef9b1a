//! Detection: decides which records of a page become events, from what is known of them.
//!
//! [`judge`] takes one record, its index entry and the [`Pass`]. It answers the change to emit, if any, the rule that
//! decided, and the entry to remember. Nothing else decides what becomes an event, so the same function answers *why*.
//!
//! The types forbid two mistakes. Only [`Missing::of_complete_listing`] yields deletions by absence, and only the end
//! of a complete listing can build one. A baseline has no way to emit a change.

use chrono::{DateTime, TimeDelta, Utc};

use crate::configuration::{CreatedRule, InitialPoll};
use crate::event::event_id;
use crate::id::InstanceId;
use crate::index::Entry;
use crate::record::{Change, ChangeKind, ListedAs, Record};
use crate::rule::Rule;

/// The facts of a pass that the judgement of each record needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Pass {
    /// The instance that the records belong to.
    pub instance: InstanceId,
    /// The resource that the records belong to.
    pub resource: String,
    /// True in a first pass: records that exist are remembered and not emitted.
    pub baseline: bool,
    /// The start of the pass by our clock. It is only remembered with what the pass finds.
    pub began: DateTime<Utc>,
    /// Records updated after this instant, by the vendor's clock, are emitted even by a first pass. It is set where an
    /// earlier pass emitted up to then: after a restart of the resource, and for a partition that others preceded.
    pub emitted_until: Option<DateTime<Utc>>,
    /// True: fingerprints are made by another rule than the remembered ones. A new fingerprint with an old stamp is then
    /// no change.
    pub reshaped: bool,
    /// True: every record that exists is in the index, so an unknown one is new.
    pub index_is_complete: bool,
    /// The newest stamp of the baseline, in the vendor's own time: a record made at or after it is a creation.
    /// None: the baseline was empty or had no stamps.
    pub covered_since: Option<DateTime<Utc>>,
    /// The number that the revisions of an unknown record count from: 0, or more after a restart of the resource, so
    /// that no event id is repeated and no sequence falls.
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

/// The judgement of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The rule that decided.
    pub rule: Rule,
    /// The change to emit, if any.
    pub emit: Option<ChangeKind>,
    /// The entry to remember. None leaves the index as it is.
    pub entry: Option<Entry>,
}

impl Judgement {
    fn silent(rule: Rule, entry: Option<Entry>) -> Self {
        Self { rule, emit: None, entry }
    }
}

/// Judges one record.
pub fn judge(record: &Record, known: Option<Entry>, pass: &Pass) -> Judgement {
    let stamp = micros(record.updated);
    let remembered = |rule| Entry {
        fingerprint: record.fingerprint,
        // A tombstone without a stamp does not make older listings credible again.
        stamp: if stamp == 0 { known.map_or(0, |known| known.stamp) } else { stamp },
        revision: known.map_or(pass.first_revision, |known| known.revision),
        gone: record.listed_as == ListedAs::Deleted,
        rule,
        seen_minute: minute_of(pass.began),
    };
    let remember = |rule| Judgement::silent(rule, Some(remembered(rule)));
    let emit = |kind, rule| {
        let seen = remembered(rule);
        let entry = Entry { revision: seen.revision.saturating_add(1), ..seen };
        Judgement { rule, emit: Some(kind), entry: Some(entry) }
    };
    let silent = |rule| Judgement::silent(rule, None);
    if pass.not_after.is_some_and(|limit| record.updated.is_some_and(|updated| updated > limit)) {
        return silent(Rule::AfterPollBegan);
    }
    let never_emitted =
        pass.emitted_until.is_some_and(|until| record.updated.or(record.created).is_some_and(|at| at > until));
    if pass.baseline && known.is_none() && !never_emitted {
        return match pass.initial_poll {
            InitialPoll::Emit if record.listed_as != ListedAs::Deleted => {
                emit(ChangeKind::Created, Rule::BaselineEmitted)
            }
            _ => remember(Rule::Baseline),
        };
    }
    let stale = known.is_some_and(|known| stamp != 0 && micros(record.updated.map(latest)) < known.stamp);
    match (known, record.listed_as) {
        (Some(known), ListedAs::Deleted) if known.gone => silent(Rule::AlreadyKnown),
        (Some(known), ListedAs::State) if !known.gone && known.fingerprint == record.fingerprint => {
            silent(Rule::AlreadyKnown)
        }
        (Some(_), _) if stale => silent(Rule::OlderThanKnown),
        (Some(_), ListedAs::Deleted) => emit(ChangeKind::Deleted, Rule::VendorSaysDeleted),
        (None, ListedAs::Deleted) if pass.index_is_complete => remember(Rule::DeletedBeforeKnown),
        (None, ListedAs::Deleted) => emit(ChangeKind::Deleted, Rule::VendorSaysDeleted),
        (Some(known), _) if known.gone => emit(ChangeKind::Created, Rule::Returned),
        (Some(known), _) if known.fingerprint == record.fingerprint => silent(Rule::AlreadyKnown),
        (Some(known), _) if pass.reshaped && stamp == known.stamp => remember(Rule::Reshaped),
        (Some(_), _) => emit(ChangeKind::Updated, Rule::FingerprintChanged),
        (None, ListedAs::Created) => emit(ChangeKind::Created, Rule::VendorSaysCreated),
        (None, ListedAs::Updated) => emit(ChangeKind::Updated, Rule::VendorSaysUpdated),
        (None, ListedAs::State) => {
            let (kind, rule) = created_or_updated(record, pass);
            emit(kind, rule)
        }
    }
}

/// The entry of a record that a complete listing lacked and that is proved to be gone.
pub fn absent(known: Entry, pass: &Pass) -> Entry {
    let revision = known.revision.saturating_add(1);
    Entry { revision, gone: true, rule: Rule::AbsenceConfirmed, seen_minute: minute_of(pass.began), ..known }
}

fn minute_of(instant: DateTime<Utc>) -> u32 {
    u32::try_from(instant.timestamp().div_euclid(60)).unwrap_or(0)
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

/// The change that a judgement emits. `partition` and id come from the record.
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

/// Missing records that are let through without regard to their share: small accounts delete their only three records.
pub const FUSE_FLOOR: u64 = 10;

/// Missing keys that are named. More are only counted.
pub const MISSING_NAMED: usize = 10_000;

/// The known records that a complete listing lacked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Absent {
    /// The keys of the first ones.
    pub named: Vec<String>,
    /// The number of them all.
    pub count: u64,
    /// The number of live records that were known.
    pub known: u64,
}

impl Absent {
    /// Counts a known live record, and its key if the listing lacked it.
    pub fn count(&mut self, key: &str, listed: bool) {
        self.known += 1;
        if !listed {
            self.count += 1;
            if self.named.len() < MISSING_NAMED {
                self.named.push(key.to_owned());
            }
        }
    }
}

/// The decision about missing records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Few enough: each is confirmed by id and then emitted.
    ToConfirm(Absent),
    /// More than the allowed share, so the listing is probably wrong: held until a person approves.
    Held(Absent),
}

impl Missing {
    /// Weighs what a complete listing lacked against all known live records.
    pub fn of_complete_listing(absent: Absent, largest_share: f64) -> Self {
        if absent.count > FUSE_FLOOR && absent.count as f64 > absent.known as f64 * largest_share {
            Self::Held(absent)
        } else {
            Self::ToConfirm(absent)
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
            began: at(2000),
            emitted_until: None,
            reshaped: false,
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
            listed_as: ListedAs::State,
        }
    }

    fn known(fingerprint: u64, updated: i64) -> Option<Entry> {
        Some(Entry {
            fingerprint,
            stamp: micros(Some(at(updated))),
            revision: 3,
            gone: false,
            rule: Rule::Baseline,
            seen_minute: 1,
        })
    }

    #[track_caller]
    fn check(record: Record, known: Option<Entry>, pass: Pass, emit: Option<ChangeKind>, rule: Rule) {
        let judgement = judge(&record, known, &pass);
        assert_eq!((judgement.emit, judgement.rule), (emit, rule));
        if let (Some(_), Some(entry)) = (judgement.emit, judgement.entry) {
            assert_eq!(
                entry.revision,
                known.map_or(0, |known| known.revision) + 1,
                "an emitted change is a new revision"
            );
            let again = judge(&record, Some(entry), &Pass { baseline: false, ..pass });
            assert_eq!(again.emit, None, "judging twice emits once");
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
        for (listed_as, kind, rule) in [
            (ListedAs::Created, Created, Rule::VendorSaysCreated),
            (ListedAs::Updated, Updated, Rule::VendorSaysUpdated),
            (ListedAs::Deleted, Deleted, Rule::VendorSaysDeleted),
        ] {
            check(Record { listed_as, ..record(None, None) }, None, incomplete.clone(), Some(kind), rule);
        }
        check(
            Record { listed_as: ListedAs::Deleted, ..record(None, None) },
            None,
            pass(),
            None,
            Rule::DeletedBeforeKnown,
        );
    }

    #[test]
    fn known_records() {
        use ChangeKind::*;
        check(record(None, Some(1001)), known(7, 1001), pass(), None, Rule::AlreadyKnown);
        check(record(None, Some(999)), known(7, 1001), pass(), None, Rule::AlreadyKnown);
        check(record(None, Some(1001)), known(8, 1001), pass(), Some(Updated), Rule::FingerprintChanged);
        check(record(None, Some(999)), known(8, 1001), pass(), None, Rule::OlderThanKnown);
        let within_the_second = known(8, 1001).map(|known| Entry { stamp: known.stamp + 900_000, ..known });
        check(record(None, Some(1001)), within_the_second, pass(), Some(Updated), Rule::FingerprintChanged);
        check(record(None, None), known(8, 1001), pass(), Some(Updated), Rule::FingerprintChanged);
        let gone = Some(Entry { gone: true, ..known(7, 1001).unwrap_or_else(|| unreachable!()) });
        check(record(None, Some(1001)), gone, pass(), Some(Created), Rule::Returned);
        check(Record { listed_as: ListedAs::Deleted, ..record(None, None) }, gone, pass(), None, Rule::AlreadyKnown);
        check(
            Record { listed_as: ListedAs::Deleted, ..record(None, None) },
            known(7, 1),
            pass(),
            Some(Deleted),
            Rule::VendorSaysDeleted,
        );
    }

    #[test]
    fn a_change_is_named_by_its_revision_whenever_it_is_found() {
        let entry = Entry { revision: 4, ..known(7, 1).expect("an entry") };
        let change = |pass: &Pass, entry| change_of(&record(None, Some(1)), ChangeKind::Updated, entry, pass);
        let (early, late) = (pass(), Pass { began: at(90_000), ..pass() });
        assert_eq!(change(&early, entry), change(&late, entry));
        assert_eq!(change(&early, entry).event, event_id(InstanceId(1), "timesheets", "", "r", 4));
        assert_ne!(change(&early, entry).event, change(&early, Entry { revision: 5, ..entry }).event);
    }

    #[test]
    fn what_is_remembered_says_why_and_since_when() {
        let known = known(7, 1001).expect("an entry");
        let expected = Entry { revision: 4, gone: true, rule: Rule::AbsenceConfirmed, seen_minute: 2000 / 60, ..known };
        assert_eq!(absent(known, &pass()), expected);
        let changed = judge(&record(None, Some(1002)), Some(Entry { fingerprint: 8, ..known }), &pass());
        let expected = Entry {
            fingerprint: 7,
            stamp: 1_002_000_000,
            revision: 4,
            rule: Rule::FingerprintChanged,
            seen_minute: 2000 / 60,
            ..known
        };
        assert_eq!(changed.entry, Some(expected));
    }

    #[test]
    fn a_baseline_is_silent_unless_asked() {
        let baseline = Pass { baseline: true, index_is_complete: false, covered_since: None, ..pass() };
        check(record(Some(1), Some(1)), None, baseline.clone(), None, Rule::Baseline);
        let emit = Pass { initial_poll: InitialPoll::Emit, ..baseline };
        check(record(Some(1), Some(1)), None, emit.clone(), Some(ChangeKind::Created), Rule::BaselineEmitted);
        check(Record { listed_as: ListedAs::Deleted, ..record(None, None) }, None, emit, None, Rule::Baseline);
    }

    #[test]
    fn stale_listings_of_what_is_gone_or_back_tell_nothing() {
        let gone = known(7, 1001).map(|known| Entry { gone: true, ..known });
        check(record(None, Some(1000)), gone, pass(), None, Rule::OlderThanKnown);
        let tombstone = Record { listed_as: ListedAs::Deleted, ..record(None, Some(1000)) };
        check(tombstone.clone(), known(8, 1001), pass(), None, Rule::OlderThanKnown);
        let unstamped = Record { listed_as: ListedAs::Deleted, ..record(None, None) };
        let entry = judge(&unstamped, known(8, 1001), &pass()).entry.expect("remembered");
        check(record(None, Some(1000)), Some(entry), pass(), None, Rule::OlderThanKnown);
    }

    #[test]
    fn a_first_pass_after_an_earlier_life_tells_what_nobody_told() {
        let later = Pass { baseline: true, emitted_until: Some(at(1000)), covered_since: Some(at(1000)), ..pass() };
        check(record(Some(1), Some(1000)), None, later.clone(), None, Rule::Baseline);
        check(
            record(Some(1001), Some(1001)),
            None,
            later.clone(),
            Some(ChangeKind::Created),
            Rule::CreatedWithinTolerance,
        );
        check(record(Some(1), Some(1001)), None, later, Some(ChangeKind::Updated), Rule::CreatedEarlier);
    }

    #[test]
    fn another_rule_for_fingerprints_is_no_change() {
        let reshaped = Pass { reshaped: true, ..pass() };
        check(record(None, Some(1001)), known(8, 1001), reshaped.clone(), None, Rule::Reshaped);
        check(record(None, Some(1002)), known(8, 1001), reshaped, Some(ChangeKind::Updated), Rule::FingerprintChanged);
    }

    #[test]
    fn rules_keep_their_numbers() {
        for (number, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, number);
            assert!(!rule.in_words().is_empty());
        }
    }

    #[test]
    fn what_changed_after_the_poll_began_waits() {
        let bounded = Pass { not_after: Some(at(1001)), ..pass() };
        check(record(None, Some(1002)), None, bounded.clone(), None, Rule::AfterPollBegan);
        check(record(None, Some(1001)), None, bounded, Some(ChangeKind::Created), Rule::NewToCompleteIndex);
    }

    #[test]
    fn the_fuse_holds_mass_deletes_and_lets_small_ones_through() {
        let lacking = |missing: u64, known: u64| {
            let mut absent = Absent::default();
            (0..known).for_each(|n| absent.count(&n.to_string(), n >= missing));
            Missing::of_complete_listing(absent, 0.2)
        };
        assert!(matches!(lacking(10, 10), Missing::ToConfirm(_)));
        assert!(matches!(lacking(11, 50), Missing::Held(_)));
        assert!(matches!(lacking(11, 55), Missing::ToConfirm(_)));
        let Missing::Held(many) = lacking(20_000, 20_000) else { panic!("more than the share are held") };
        assert_eq!((many.named.len(), many.count, many.known), (MISSING_NAMED, 20_000, 20_000));
    }
}
