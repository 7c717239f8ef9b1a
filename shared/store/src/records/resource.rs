//! What is remembered of a resource between polls: one small item, written once by an idle poll.

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
    /// The first pass is through: from here on changes are told.
    #[serde(skip_serializing_if = "is_false")]
    pub based: bool,
    /// Where the last finished pass ended, by fan-out partition (empty when there is none).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cursors: BTreeMap<String, Cursor>,
    /// Newest stamp of the baseline, in the vendor's time; see [`domain::detect::Pass::covered_since`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered_since: Option<DateTime<Utc>>,
    /// What revisions count from; see [`ResourceRecord::anew`].
    #[serde(skip_serializing_if = "is_zero")]
    pub first_revision: u32,
    /// Before the first pass is through: what is stamped later was told by nobody, and is told although the pass is the
    /// first; see [`domain::detect::Pass::told_until`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_until: Option<DateTime<Utc>>,
    /// How the records of the index were recognized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
    /// The vendor's account, hashed, among whose instances this one is filed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The index holds every record that existed at the baseline.
    #[serde(skip_serializing_if = "is_false")]
    pub index_is_complete: bool,
    /// How many buckets the record index has.
    pub buckets: Layout,
    /// How many entries it has, tombstones included.
    pub entries: u64,
    /// How many of them are tombstones: records that are gone and only remembered, should they return.
    #[serde(skip_serializing_if = "is_zero")]
    pub gone: u64,
    /// What was listed last near the cursor, so that an idle poll need not read the index.
    #[serde(skip_serializing_if = "Recent::is_empty")]
    pub recent: Recent,
    /// Which stretches of time are covered.
    pub coverage: Coverage,
    /// How late records appear.
    pub lateness: Lateness,
    /// When a complete listing last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swept_at: Option<DateTime<Utc>>,
    /// When a complete listing was last tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sweep_tried: Option<DateTime<Utc>>,
    /// Where a pass that outlived its invocation goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
    /// Failures in a row.
    #[serde(skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// A poll that takes long is at work and says so, until this instant at the latest: scheduled ones stand back,
    /// so that the short cannot outrun the long for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_until: Option<DateTime<Utc>>,
    /// Scheduled polls before this instant do nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_until: Option<DateTime<Utc>>,
    /// What went wrong last, until a poll succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// What the last finished poll did.
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

/// A pass to go on with: what is done of it, and where the listing under way stands.
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
    /// What the listing reads from, as it was when it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower: Option<DateTime<Utc>>,
    /// How many pieces of what it has seen are stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seen_pieces: u32,
    /// What is done of the pass.
    pub so_far: SoFar,
    /// The minute of the job that goes on: while that one is at it, others leave the pass alone.
    pub minute: i64,
    /// When this was written.
    pub saved: DateTime<Utc>,
}

/// What a pass over all partitions came to so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SoFar {
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

impl SoFar {
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

/// How records are recognized: hashes of the rules for ids and for fingerprints. An index that was made by other
/// rules would call every record new or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Of the rules for ids.
    pub ids: u32,
    /// Of the rules for fingerprints and stamps.
    pub versions: u32,
}

/// Why polls fail.
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
    /// Changes told.
    pub changes: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// How long the vendor took of that. None: an earlier release polled, which did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor_ms: Option<u64>,
}

/// A mass deletion that is not told until someone approves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Since when.
    pub since: DateTime<Utc>,
    /// How many records the listing lacked.
    pub missing: u64,
    /// How many were known.
    pub known: u64,
    /// A few of their ids.
    pub sample: Vec<String>,
    /// Someone approved: the next complete listing tells them, each confirmed by id as ever.
    #[serde(default)]
    pub approved: bool,
}

impl ResourceRecord {
    /// How many records are known to exist.
    pub fn living(&self) -> u64 {
        self.entries.saturating_sub(self.gone)
    }

    /// A state that knows nothing, for a resource that starts at `now` on an instance made at `made`.
    ///
    /// The resource may have had a life before, under another configuration, whose events are still remembered by
    /// receivers. Revisions therefore count from the tenths of seconds since the instance was made: higher than any
    /// earlier life got, as a revision takes a poll and a poll takes longer.
    pub fn anew(made: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let tenths = (now - made).num_milliseconds().max(0) as u64 / 100;
        Self { first_revision: u32::try_from(tenths).unwrap_or(u32::MAX / 2), ..Self::default() }
    }

    /// A state that knows nothing, after one whose records were recognized otherwise: what that one covered stays
    /// covered, what changed since its last pass is told by the first pass of this one, and what it has to look after it
    /// hands on.
    pub fn after(self, earlier: &Self) -> Self {
        let watermarks = earlier.cursors.values().filter_map(|cursor| match cursor {
            Cursor::Watermark(stamp) => Some(*stamp),
            Cursor::Token(_) => earlier.coverage.until(),
            Cursor::Start => None,
        });
        let told_until = if earlier.based { watermarks.min() } else { earlier.told_until };
        let (coverage, lateness) = (earlier.coverage.clone(), earlier.lateness.clone());
        Self { told_until, coverage, lateness, handed_over: earlier.handed_over.clone(), ..self }
    }

    /// Whether a complete listing is due at `now`, when one is made `every` so often. One that did not get to its end
    /// is tried again within the hour.
    pub fn sweep_is_due(&self, every: Duration, now: DateTime<Utc>) -> bool {
        let past = |since: Option<DateTime<Utc>>, span: Duration| {
            since.is_none_or(|since| TimeDelta::from_std(span).is_ok_and(|span| since + span <= now))
        };
        let approved = self.held.as_ref().is_some_and(|held| held.approved);
        (approved || past(self.swept_at, every)) && past(self.sweep_tried, every.min(RETRY_SWEEP))
    }

    /// Whether it has not been covered for two intervals, and a minute's grace for the poll itself.
    pub fn is_stale(&self, interval_minutes: u16, now: DateTime<Utc>) -> bool {
        let allowed = TimeDelta::minutes(2 * i64::from(interval_minutes) + 1);
        self.coverage.until().is_some_and(|until| until + allowed < now)
    }

    /// Whether a poll that was due at `due` is done by a later one.
    pub fn covers(&self, due: DateTime<Utc>) -> bool {
        self.resume.is_none() && self.last.as_ref().is_some_and(|last| last.at >= due)
    }

    /// How far below the cursor the next pass reads.
    pub fn overlap(&self, floor: Duration) -> Duration {
        self.lateness.overlap(floor)
    }
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

/// Hashes over key and fingerprint of the records listed last. A hit means "known with this very fingerprint".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recent(Vec<u64>);

impl Recent {
    fn mark(key_hash: u64, fingerprint: u64) -> u64 {
        xxh3_64_with_seed(&fingerprint.to_le_bytes(), key_hash)
    }

    /// Keeps the first few once there are far more, so that listing a million records takes no memory for this.
    pub fn shorten(listed: &mut Vec<(Option<DateTime<Utc>>, u64, u64)>) {
        if listed.len() >= 64 * RECENT_KEPT {
            listed.sort_unstable_by(|a, b| b.cmp(a));
            listed.truncate(RECENT_KEPT);
        }
    }

    /// Whether this record was listed last time with this fingerprint.
    pub fn contains(&self, key_hash: u64, fingerprint: u64) -> bool {
        self.0.contains(&Self::mark(key_hash, fingerprint))
    }

    /// Remembers what a pass listed, newest first; the first few are kept.
    pub fn of(listed: impl IntoIterator<Item = (u64, u64)>) -> Self {
        Self(listed.into_iter().take(RECENT_KEPT).map(|(key, fingerprint)| Self::mark(key, fingerprint)).collect())
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
        let mut state = ResourceRecord { based: true, index_is_complete: true, ..Default::default() };
        state.cursors.insert(String::new(), Cursor::Watermark(now));
        state.recent = Recent::of((0..100).map(|n| (n, n)));
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
        let revision = |ms| ResourceRecord::anew(at(0), at(ms)).first_revision;
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
