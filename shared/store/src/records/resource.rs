//! The state of a resource between polls: one small item, written once by an idle poll.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use domain::coverage::Coverage;
use domain::id::InstanceId;
use domain::index::Layout;
use domain::lateness::Lateness;
use elements::listing::Cursor;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::keys;
use crate::pages::Section;
use crate::port::Range;
use crate::record::RecordKey;

/// State of one resource of one instance. Its item's version fences every commit of a poll.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceRecord {
    /// The first pass is complete: from here on changes are emitted.
    #[serde(rename = "based", skip_serializing_if = "is_false")]
    pub has_baseline: bool,
    /// The end of the last finished pass, by fan-out partition (empty when there is none).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cursors: BTreeMap<String, Cursor>,
    /// Newest stamp of the baseline, in the vendor's time; see [`domain::detect::Pass::covered_since`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered_since: Option<DateTime<Utc>>,
    /// The number that revisions count from; see [`ResourceRecord::restarted`].
    #[serde(skip_serializing_if = "is_zero")]
    pub first_revision: u32,
    /// Before the first pass is complete: changes stamped later are emitted although the pass is the first, because
    /// nobody has emitted them; see [`domain::detect::Pass::emitted_until`].
    #[serde(rename = "toldUntil", skip_serializing_if = "Option::is_none")]
    pub emitted_until: Option<DateTime<Utc>>,
    /// The rules by which the records of the index were recognized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The vendor's account, hashed, among whose instances this one is filed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The index holds every record that existed at the baseline.
    #[serde(skip_serializing_if = "is_false")]
    pub index_is_complete: bool,
    /// The number of buckets of the record index.
    pub buckets: Layout,
    /// The number of its entries, tombstones included.
    pub entries: u64,
    /// The number of tombstones among them: records that are gone and only remembered, should they return.
    #[serde(skip_serializing_if = "is_zero")]
    pub gone: u64,
    /// The records listed last near the cursor, so that an idle poll need not read the index.
    #[serde(skip_serializing_if = "Recent::is_empty")]
    pub recent: Recent,
    /// The stretches of time that are covered.
    pub coverage: Coverage,
    /// The measured lateness of records.
    pub lateness: Lateness,
    /// When a complete listing last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_at: Option<DateTime<Utc>>,
    /// When a complete listing was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep_tried: Option<DateTime<Utc>>,
    /// The place of a pass that outlived its invocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// The end of the lease of a poll that takes long. Scheduled polls do nothing until then, so that short polls do not
    /// supersede a long one for ever.
    #[serde(rename = "takenUntil", skip_serializing_if = "Option::is_none")]
    pub leased_until: Option<DateTime<Utc>>,
    /// Scheduled polls before this instant do nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_until: Option<DateTime<Utc>>,
    /// The last failure, until a poll succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// The last finished poll in figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastPoll>,
    /// Deletions that wait for approval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Sort keys of deliveries that the next poll looks after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handed_over: Vec<String>,
}

/// A complete listing that did not get to its end is tried again after this time, if not due earlier.
const RETRY_SWEEP: Duration = Duration::from_secs(3600);

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero<N: Default + PartialEq>(value: &N) -> bool {
    *value == N::default()
}

/// A suspended pass: what is done of it, and the place of its listing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resume {
    /// The partition that was being listed.
    pub partition: String,
    /// The listing's own saved place.
    pub listing: String,
    /// It is a complete listing.
    pub complete: bool,
    /// Newest stamp of the listing so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DateTime<Utc>>,
    /// The listing's lower bound, as it was when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<DateTime<Utc>>,
    /// The number of stored pieces of what the listing has seen.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seen_pieces: u32,
    /// The part of the pass that is done.
    #[serde(rename = "soFar")]
    pub progress: PassProgress,
    /// The minute of the job that goes on. It owns the pass; others leave it alone for a while.
    pub minute: i64,
    /// When this was written.
    pub saved: DateTime<Utc>,
}

/// The progress of a pass over all partitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassProgress {
    /// When the pass began: it covers up to then and no further, however long it takes.
    pub began: DateTime<Utc>,
    /// Everything is listed, though a cursor would do.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sweep: bool,
    /// Partitions that are done, with where the next pass goes on in each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub done: BTreeMap<String, Cursor>,
    /// Some partition was not listed completely.
    #[serde(default, skip_serializing_if = "is_false")]
    pub incomplete: bool,
    /// Some partition's history cannot be learned any more.
    #[serde(default, skip_serializing_if = "is_false")]
    pub lost_history: bool,
    /// Newest stamp of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<DateTime<Utc>>,
    /// Missing records were looked for.
    #[serde(default, skip_serializing_if = "is_false")]
    pub swept: bool,
    /// Deletions that are held, of the partitions that are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Missing records that nobody had the time to confirm.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unconfirmed: bool,
}

impl PassProgress {
    /// Nothing yet.
    pub fn beginning(began: DateTime<Utc>) -> Self {
        Self {
            began,
            sweep: false,
            done: BTreeMap::new(),
            incomplete: false,
            lost_history: false,
            newest: None,
            swept: false,
            held: None,
            unconfirmed: false,
        }
    }
}

/// The rules by which records are recognized: hashes of the rules for ids and for fingerprints. An index that was made by other
/// rules would call every record new or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Of the rules for ids.
    pub ids: u32,
    /// Of the rules for fingerprints and stamps.
    pub versions: u32,
}

/// The reason why polls fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trouble {
    /// Since when, without a success in between.
    pub since: DateTime<Utc>,
    /// In words for people; no secrets, no record contents.
    pub message: String,
}

/// The last finished poll in figures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastPoll {
    /// When it began.
    pub at: DateTime<Utc>,
    /// Records read.
    pub records: u64,
    /// Changes emitted.
    pub changes: u64,
    /// The time it took.
    pub duration_ms: u64,
    /// The part of it that the vendor took. None: an earlier release polled, which did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_ms: Option<u64>,
}

/// A mass deletion that is not emitted until someone approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The number of records that the listing lacked.
    pub missing: u64,
    /// The number of known records.
    pub known: u64,
    /// A few of their ids.
    pub sample: Vec<String>,
    /// Someone approved: the next complete listing emits them, each confirmed by id as ever.
    #[serde(default)]
    pub approved: bool,
}

impl ResourceRecord {
    /// The number of records known to exist.
    pub fn living(&self) -> u64 {
        self.entries.saturating_sub(self.gone)
    }

    /// The empty state of a resource that starts at `now` on an instance made at `made`.
    ///
    /// Receivers may remember events of the same resource under an earlier configuration. Revisions therefore count from
    /// the tenths of seconds since the instance was made: higher than any earlier revision, as a revision takes a poll
    /// and a poll takes longer.
    pub fn restarted(made: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let tenths = (now - made).num_milliseconds().max(0) as u64 / 100;
        Self { first_revision: u32::try_from(tenths).unwrap_or(u32::MAX / 2), ..Self::default() }
    }

    /// This empty state as successor of one whose records were recognized by other rules. Its coverage stays, changes
    /// since its last pass are emitted by the first pass of this one, and its unattempted deliveries are taken over.
    pub fn succeeding(self, earlier: &Self) -> Self {
        let watermarks = earlier.cursors.values().filter_map(|cursor| match cursor {
            Cursor::Watermark(stamp) => Some(*stamp),
            Cursor::Token(_) => earlier.coverage.until(),
            Cursor::Start => None,
        });
        let emitted_until = if earlier.has_baseline { watermarks.min() } else { earlier.emitted_until };
        let (coverage, lateness) = (earlier.coverage.clone(), earlier.lateness.clone());
        Self { emitted_until, coverage, lateness, handed_over: earlier.handed_over.clone(), ..self }
    }

    /// True if a complete listing is due at `now`, when one is made `every` so often. One that did not get to its end
    /// is tried again within the hour.
    pub fn sweep_is_due(&self, every: Duration, now: DateTime<Utc>) -> bool {
        let past = |since: Option<DateTime<Utc>>, span: Duration| {
            since.is_none_or(|since| TimeDelta::from_std(span).is_ok_and(|span| since + span <= now))
        };
        let approved = self.held.as_ref().is_some_and(|held| held.approved);
        (approved || past(self.swept_at, every)) && past(self.sweep_tried, every.min(RETRY_SWEEP))
    }

    /// True if it has not been covered for two intervals, and a minute's grace for the poll itself.
    pub fn is_stale(&self, interval_minutes: u16, now: DateTime<Utc>) -> bool {
        let allowed = TimeDelta::minutes(2 * i64::from(interval_minutes) + 1);
        self.coverage.until().is_some_and(|until| until + allowed < now)
    }

    /// True if a poll that was due at `due` is done by a later one.
    pub fn covers(&self, due: DateTime<Utc>) -> bool {
        self.resume.is_none() && self.last.as_ref().is_some_and(|last| last.at >= due)
    }

    /// The distance below the cursor from which the next pass reads.
    pub fn overlap(&self, floor: Duration) -> Duration {
        self.lateness.overlap(floor)
    }

    /// The state that a commit in the middle of a pass stores in place of this one: this one, with the few things that
    /// `draft`, the state under work, may say before the pass is complete.
    pub fn interim(&self, draft: &Self) -> Self {
        Self {
            lateness: draft.lateness.clone(),
            resume: draft.resume.clone().or_else(|| self.resume.clone()),
            emitted_until: draft.emitted_until,
            // The index moves on, and what it no longer holds must not be taken for known.
            recent: Recent::default(),
            handed_over: draft.handed_over.clone(),
            ..self.clone()
        }
    }

    /// Completes a pass: moves cursors and coverage, and forgets failures and the lease.
    pub fn complete_pass(&mut self, pass: PassSummary) {
        let PassSummary { progress, shape, recent } = pass;
        let all_complete = !progress.incomplete;
        if !self.has_baseline {
            self.has_baseline = true;
            self.covered_since = progress.newest;
            self.emitted_until = None;
        }
        self.index_is_complete |= all_complete;
        if all_complete && !progress.unconfirmed {
            self.swept_at = Some(progress.began);
        }
        if progress.sweep || all_complete {
            self.sweep_tried = (!progress.unconfirmed).then_some(progress.began);
        }
        if progress.swept {
            self.held = progress.held;
        }
        if progress.lost_history {
            self.coverage.break_off(progress.began);
        }
        // Changes made while the pass was under way may have been behind it: it covers up to where it began.
        self.coverage.extend(progress.began);
        self.cursors = progress.done;
        self.resume = None;
        self.failures = 0;
        self.skip_until = None;
        self.leased_until = None;
        self.trouble = None;
        self.shape = Some(shape);
        self.recent = recent;
    }
}

/// The result of a pass over all partitions of a resource.
#[derive(Debug)]
pub struct PassSummary {
    /// The progress when the last partition was done.
    pub progress: PassProgress,
    /// The rules by which the records were recognized.
    pub shape: Shape,
    /// The records listed last.
    pub recent: Recent,
}

/// Key of a resource's state.
pub fn key(instance: InstanceId, resource: &str) -> RecordKey<ResourceRecord> {
    RecordKey::of(keys::resource_key(instance, resource))
}

/// The states of an instance's resources, by name.
pub fn of_instance(instance: InstanceId) -> Section<ResourceRecord> {
    Section::of(keys::instance_partition(instance), Range::prefix(keys::RESOURCE_PREFIX))
}

/// So many records near the cursor are remembered beside it; with them an idle poll reads no bucket.
const RECENT_KEPT: usize = 32;

/// A listed record: its stamp, the hash of its key, and its version (a fingerprint).
pub type ListedVersion = (Option<DateTime<Utc>>, u64, u64);

/// Hashes over key and fingerprint of the records listed last. A hit means "known with this very fingerprint".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recent(Vec<u64>);

impl Recent {
    fn mark(key_hash: u64, fingerprint: u64) -> u64 {
        xxh3_64_with_seed(&fingerprint.to_le_bytes(), key_hash)
    }

    /// Keeps the newest few once there are far more, so that listing a million records takes no memory for this.
    pub fn shorten(listed: &mut Vec<ListedVersion>) {
        if listed.len() >= 64 * RECENT_KEPT {
            listed.sort_unstable_by(|a, b| b.cmp(a));
            listed.truncate(RECENT_KEPT);
        }
    }

    /// True if this record was listed last time with this fingerprint.
    pub fn contains(&self, key_hash: u64, fingerprint: u64) -> bool {
        self.0.contains(&Self::mark(key_hash, fingerprint))
    }

    /// The newest few of what a pass listed.
    pub fn of(mut listed: Vec<ListedVersion>) -> Self {
        listed.sort_unstable_by(|a, b| b.cmp(a));
        Self(listed.into_iter().take(RECENT_KEPT).map(|(_, key, version)| Self::mark(key, version)).collect())
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Recent {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = self.0.iter().flat_map(|mark| mark.to_le_bytes()).collect();
        serializer.serialize_str(&STANDARD_NO_PAD.encode(bytes))
    }
}

impl<'de> Deserialize<'de> for Recent {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD_NO_PAD.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        Ok(Self(bytes.chunks_exact(8).map(|mark| u64::from_le_bytes(mark.try_into().expect("of eight"))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_idle_state_is_one_write_unit() {
        let now = DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap_or_default();
        let mut state = ResourceRecord { has_baseline: true, index_is_complete: true, ..Default::default() };
        state.cursors.insert(String::new(), Cursor::Watermark(now));
        state.recent = Recent::of((0..100).map(|n| (Some(now - TimeDelta::seconds(n as i64)), n, n)).collect());
        state.coverage.extend(now);
        state.coverage.break_off(now + chrono::TimeDelta::days(1));
        state.covered_since = Some(now);
        state.swept_at = Some(now);
        for late in 0..1000 {
            state.lateness.count(Duration::from_secs(late));
        }
        state.shape = Some(Shape { ids: u32::MAX, versions: u32::MAX });
        state.account = Some("0123456789abcdef".into());
        state.sweep_tried = Some(now);
        state.last = Some(LastPoll { at: now, records: 200, changes: 20, duration_ms: 1234, vendor_ms: Some(1000) });
        let json = serde_json::to_string(&state).expect("serializes");
        assert!(json.len() < 1000, "{} bytes: {json}", json.len());
        assert_eq!(serde_json::from_str::<ResourceRecord>(&json).expect("reads back"), state);
        assert!(state.recent.contains(5, 5) && !state.recent.contains(5, 6) && !state.recent.contains(40, 40));
    }

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap_or_default()
    }

    #[test]
    fn a_state_that_knows_nothing_says_next_to_nothing() {
        let text = serde_json::to_string(&ResourceRecord::default()).unwrap_or_default();
        assert_eq!(text, r#"{"buckets":1,"entries":0,"coverage":[],"lateness":[]}"#);
    }

    #[test]
    fn a_later_life_counts_from_where_no_earlier_one_got() {
        let revision = |ms| ResourceRecord::restarted(at(0), at(ms)).first_revision;
        assert_eq!((revision(0), revision(99), revision(123_456)), (0, 0, 1234));
        assert_eq!(revision(-5000), 0, "a clock that went back");
        let decades = 30 * 365 * 86_400_000;
        assert!(revision(decades) > revision(decades / 6), "and leaves room to count on");
    }

    #[test]
    fn a_resource_is_stale_after_two_intervals_and_a_minute() {
        let mut state = ResourceRecord::default();
        assert!(!state.is_stale(5, at(1_000_000_000)), "nothing was promised yet");
        state.coverage.extend(at(0));
        for (interval, minutes) in [(1, 3), (5, 11), (60, 121)] {
            assert!(!state.is_stale(interval, at(minutes * 60_000)));
            assert!(state.is_stale(interval, at(minutes * 60_000 + 1)), "interval of {interval}");
        }
    }

    #[test]
    fn a_complete_listing_is_due_when_its_time_has_come_and_none_was_just_tried() {
        let (day, hour) = (86_400_000, 3_600_000);
        let due = |swept: Option<i64>, tried: Option<i64>, approved: bool| {
            let held = Held { since: at(0), missing: 20, known: 30, sample: vec![], approved };
            let state = ResourceRecord {
                swept_at: swept.map(at),
                sweep_tried: tried.map(at),
                held: Some(held),
                ..ResourceRecord::default()
            };
            state.sweep_is_due(Duration::from_secs(86_400), at(day))
        };
        assert!(due(None, None, false), "never made");
        assert!(due(Some(0), Some(0), false), "a day ago");
        assert!(!due(Some(1), Some(1), false), "less than a day ago");
        assert!(!due(Some(0), Some(day - hour + 1), false), "tried less than an hour ago");
        assert!(due(Some(0), Some(day - hour), false), "tried an hour ago");
        assert!(due(Some(1), Some(1), true), "someone approved of what it found");
    }

    fn begun(began: i64) -> PassProgress {
        PassProgress { newest: Some(at(began - 500)), ..PassProgress::beginning(at(began)) }
    }

    fn completed(mut state: ResourceRecord, progress: PassProgress) -> ResourceRecord {
        let recent = Recent::of(vec![(Some(at(1)), 7, 8)]);
        state.complete_pass(PassSummary { progress, shape: Shape { ids: 1, versions: 2 }, recent });
        state
    }

    #[test]
    fn a_first_pass_becomes_the_baseline_and_covers_from_where_it_began() {
        let first = ResourceRecord { emitted_until: Some(at(3)), ..ResourceRecord::default() };
        let progress = PassProgress { done: [(String::new(), Cursor::Watermark(at(9)))].into(), ..begun(1000) };
        let state = completed(first, progress.clone());
        assert_eq!((state.has_baseline, state.covered_since, state.emitted_until), (true, Some(at(500)), None));
        assert_eq!((state.cursors.clone(), state.coverage.until()), (progress.done, Some(at(1000))));
        assert_eq!(
            (state.index_is_complete, state.swept_at, state.sweep_tried),
            (true, Some(at(1000)), Some(at(1000)))
        );
        assert!(state.recent.contains(7, 8) && state.shape == Some(Shape { ids: 1, versions: 2 }));

        let second = completed(state, begun(90_000));
        assert_eq!((second.covered_since, second.coverage.until()), (Some(at(500)), Some(at(90_000))));
        assert_eq!(second.coverage.gaps().len(), 0);
    }

    #[test]
    fn a_pass_that_is_incomplete_or_unconfirmed_is_no_sweep() {
        let baseline = completed(ResourceRecord::default(), begun(1));
        let partial = completed(baseline.clone(), PassProgress { incomplete: true, ..begun(2) });
        assert_eq!((partial.swept_at, partial.sweep_tried), (Some(at(1)), Some(at(1))), "a listing of changes");
        let tried = completed(baseline.clone(), PassProgress { incomplete: true, sweep: true, ..begun(2) });
        assert_eq!((tried.swept_at, tried.sweep_tried), (Some(at(1)), Some(at(2))), "not to be tried again at once");
        let unconfirmed = completed(baseline, PassProgress { unconfirmed: true, ..begun(2) });
        assert_eq!((unconfirmed.swept_at, unconfirmed.sweep_tried), (Some(at(1)), None), "to be tried again at once");
        let never = completed(ResourceRecord::default(), PassProgress { incomplete: true, ..begun(1) });
        assert_eq!((never.has_baseline, never.index_is_complete), (true, false));
    }

    #[test]
    fn a_completed_pass_ends_failures_and_lease_and_only_a_sweep_changes_what_is_held() {
        let held = Held { since: at(0), missing: 20, known: 30, sample: vec![], approved: false };
        let failing = ResourceRecord {
            failures: 3,
            skip_until: Some(at(9)),
            leased_until: Some(at(9)),
            trouble: Some(Trouble { since: at(0), message: "no".into() }),
            held: Some(held.clone()),
            ..ResourceRecord::default()
        };
        let state = completed(failing, begun(1));
        assert_eq!(
            (state.failures, state.skip_until, state.leased_until, state.trouble.clone()),
            (0, None, None, None)
        );
        assert_eq!(state.held, Some(held));
        assert_eq!(completed(state, PassProgress { swept: true, ..begun(2) }).held, None);
    }

    #[test]
    fn a_history_that_is_lost_is_a_gap() {
        let covered = completed(ResourceRecord::default(), begun(1000));
        let state = completed(covered, PassProgress { lost_history: true, ..begun(5000) });
        assert_eq!((state.coverage.gaps().len(), state.coverage.until()), (1, Some(at(5000))));
    }

    #[test]
    fn a_commit_in_the_middle_of_a_pass_moves_neither_cursor_nor_coverage() {
        let stored = completed(ResourceRecord::default(), begun(1000));
        let mut draft = completed(stored.clone(), begun(2000));
        (draft.emitted_until, draft.handed_over) = (Some(at(7)), vec!["d".into()]);
        let wanted = ResourceRecord {
            recent: Recent::default(),
            emitted_until: Some(at(7)),
            handed_over: vec!["d".into()],
            ..stored.clone()
        };
        assert_eq!(stored.interim(&draft), wanted);
    }

    #[test]
    fn listing_a_million_records_keeps_the_newest_few() {
        let listed = |count: u64| (0..count).map(|n| (Some(at(n as i64)), n, 0)).collect::<Vec<_>>();
        let mut few = listed(2047);
        Recent::shorten(&mut few);
        assert_eq!(few.len(), 2047, "sorting now and then is cheap, sorting at each page is not");
        let mut many = listed(2048);
        Recent::shorten(&mut many);
        assert_eq!(many.iter().map(|(_, n, _)| *n).collect::<Vec<_>>(), (2016..2048).rev().collect::<Vec<_>>());
    }
}
