//! The records of a pass that are judged and not yet committed.

use std::collections::HashMap;

use domain::detect::{self, Judgement};
use domain::index::Entry;
use domain::record::{Change, ListedAs, Record};
use elements::listing::Cursor;
use store::records::record_index::RecordIndex;
use store::records::resource::{ListedVersion, Recent, ResourceRecord};

use super::report::PollReport;

/// The number of changes held in memory before they are committed in the middle of a listing.
const CHANGES_HELD: usize = 2000;
/// The same in bytes of records.
const CHANGE_BYTES_HELD: usize = 16 * 1024 * 1024;

/// The context in which a page of a listing is judged.
pub(super) struct PageContext<'a> {
    pub(super) pass: &'a detect::Pass,
    /// The cursor that the listing began from.
    pub(super) cursor: &'a Cursor,
    /// Everything is listed, not only changes.
    pub(super) is_complete: bool,
}

/// A change to be emitted, with what is to be remembered of its record.
pub(super) struct Emitted {
    pub(super) change: Change,
    pub(super) key: String,
    pub(super) entry: Entry,
}

/// A listed record that is to be judged.
pub(super) struct Candidate {
    pub(super) record: Record,
    /// The key of its entry in the index.
    pub(super) key: String,
    /// The hash of that key.
    pub(super) hash: u64,
}

/// Records that are judged and not yet committed.
#[derive(Default)]
pub(super) struct Batch {
    /// Records to remember without an event.
    silent: Vec<(String, Entry)>,
    emitted: Vec<Emitted>,
    emitted_bytes: usize,
    /// The entries of all of them, which the index does not have yet.
    judged: HashMap<String, Entry>,
    /// The records that the index will know in the listed version.
    listed: Vec<ListedVersion>,
}

impl Batch {
    /// Notes that a record was listed in the version that is known.
    pub(super) fn note_listed(&mut self, record: &Record, hash: u64) {
        self.listed.push((record.updated, hash, version_of(record)));
    }

    /// Judges a page's candidates against the index and takes what follows.
    pub(super) fn detect(
        &mut self,
        candidates: Vec<Candidate>,
        index: &RecordIndex,
        state: &mut ResourceRecord,
        context: &PageContext<'_>,
        report: &mut PollReport,
    ) {
        for Candidate { record, key, hash } in candidates {
            let known = self.judged.get(&key).copied().or_else(|| index.get(hash, &key));
            let Judgement { emit: kind, entry, .. } = detect::judge(&record, known, context.pass);
            // Only a version that the index will know counts as listed: a stale listing is no memory.
            let remembered = entry.or(known);
            if remembered.is_some_and(|it| {
                (it.fingerprint, it.gone) == (record.fingerprint, record.listed_as == ListedAs::Deleted)
            }) {
                self.note_listed(&record, hash);
                Recent::shorten(&mut self.listed);
            }
            if let (Some(_), Cursor::Watermark(watermark), Some(updated)) = (kind, context.cursor, record.updated)
                && (!context.is_complete || came_late(state, known, &record))
            {
                state.lateness.count((*watermark - updated).to_std().unwrap_or_default());
            }
            match (kind, entry) {
                (Some(kind), Some(entry)) => {
                    self.emit(detect::change_of(&record, kind, entry, context.pass), key, entry, report);
                }
                (_, Some(entry)) => {
                    report.suppressed += 1;
                    self.judged.insert(key.clone(), entry);
                    self.silent.push((key, entry));
                }
                _ => report.suppressed += 1,
            }
        }
    }

    /// Takes a change that is to be emitted.
    pub(super) fn emit(&mut self, change: Change, key: String, entry: Entry, report: &mut PollReport) {
        report.count(change.kind);
        self.emitted_bytes += change.raw.len();
        self.judged.insert(key.clone(), entry);
        self.emitted.push(Emitted { change, key, entry });
    }

    /// It holds as many changes as memory should: time for a commit.
    pub(super) fn is_full(&self) -> bool {
        self.emitted.len() >= CHANGES_HELD || self.emitted_bytes >= CHANGE_BYTES_HELD
    }

    /// The silent entries, once there are many. A first pass over a large account emits nothing and could hold
    /// everything; packed buckets take a fraction of that.
    pub(super) fn overflow(&mut self) -> Option<Vec<(String, Entry)>> {
        let is_large = self.silent.len() >= CHANGES_HELD;
        is_large.then(|| {
            let silent = std::mem::take(&mut self.silent);
            for (key, _) in &silent {
                self.judged.remove(key);
            }
            silent
        })
    }

    /// Takes out what is to be committed: the silent entries, and the changes in their order.
    pub(super) fn take(&mut self) -> (Vec<(String, Entry)>, Vec<Emitted>) {
        self.judged.clear();
        self.emitted_bytes = 0;
        (std::mem::take(&mut self.silent), std::mem::take(&mut self.emitted))
    }

    /// Takes out the newest records that were listed.
    pub(super) fn take_recent(&mut self) -> Recent {
        Recent::of(std::mem::take(&mut self.listed))
    }
}

/// True if a record that a complete listing found should have been found by the polls before it: its stamp is new, and
/// not from before the complete listing that preceded. An edit without a new stamp is not late.
fn came_late(state: &ResourceRecord, known: Option<Entry>, record: &Record) -> bool {
    record.updated.is_some_and(|updated| {
        known.is_none_or(|known| known.stamp != updated.timestamp_micros())
            && state.swept_at.is_some_and(|swept| updated >= swept)
    })
}

/// The version of a record as it is remembered beside the cursor. A tombstone that keeps the fingerprint is another
/// version.
pub(super) fn version_of(record: &Record) -> u64 {
    if record.listed_as == ListedAs::Deleted { !record.fingerprint } else { record.fingerprint }
}
