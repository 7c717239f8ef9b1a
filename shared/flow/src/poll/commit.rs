//! What a poll found goes into the table: rows, index buckets and state, in transactions that the state's version
//! fences.

use std::time::Duration;

use domain::index::hash_of;

use super::seen::Seen;
use super::state::{LastPoll, Recent, ResourceRecord, Resume};
use super::{Place, Run, Stop};
use crate::job::Queued;
use crate::outbox::{ElementLabel, Outbox};
use crate::ports::{StoreError, Write};
use crate::service::FlowError;
use crate::table;

/// A transaction takes 100 writes. Some room is left for what one more notification brings.
const WRITES_PER_COMMIT: usize = 80;
/// A transaction takes 4 MB.
const BYTES_PER_COMMIT: usize = 2 * 1024 * 1024;
/// Records of one notification take no more than this together, unless it is one alone.
const BYTES_PER_GROUP: usize = 512 * 1024;
/// Events of one notification at most.
const EVENTS_PER_NOTIFICATION: usize = 10;
/// Pieces of what a listing has seen in one transaction.
const PIECES_PER_COMMIT: usize = 12;

impl Run<'_> {
    /// Readies the state for a commit after which another poll can go on from this place. What the listing has seen
    /// is written first: a place without it would make everything listed before look missing.
    pub(super) async fn suspend(&mut self, place: Place<'_>, seen: Option<&mut Seen>) -> Result<(), Stop> {
        let now = self.service.ports.now();
        let mut seen_pieces = 0;
        if let Some(seen) = seen {
            let pieces = seen.take_pieces(self.job, now);
            seen_pieces = seen.pieces();
            for some in pieces.chunks(PIECES_PER_COMMIT) {
                self.write(some.to_vec(), None).await?;
            }
        }
        self.loaded.state.resume = Some(Resume {
            partition: place.partition.to_owned(),
            listing: place.listing,
            complete: place.complete,
            newest: place.newest,
            lower: place.lower,
            seen_pieces,
            so_far: self.so_far.clone(),
            minute: self.job.minute,
            saved: now,
        });
        Ok(())
    }

    /// Commits what is held, in as many transactions as it takes. With `ended`, the state as it will be (cursor,
    /// coverage) goes with the last one. Before that, and without it, only index figures, lateness and resume
    /// point move: a crash between two transactions repeats reading, and what was told is known.
    pub(super) async fn commit(&mut self, ended: bool) -> Result<(), Stop> {
        let store = self.service.ports.store.clone();
        self.judged.clear();
        let silent = std::mem::take(&mut self.silent);
        self.index.load(&*store, silent.iter().map(|(key, _)| hash_of(key))).await?;
        self.index.put(&*store, silent).await?;
        while self.index.dirty() > WRITES_PER_COMMIT / 2 {
            self.write(Vec::new(), None).await?;
        }

        let told = std::mem::take(&mut self.told);
        self.told_bytes = 0;
        let now = self.service.ports.now();
        let (mut writes, mut bytes): (Vec<Write>, usize) = (Vec::new(), 0);
        let mut told = told.into_iter().peekable();
        while told.peek().is_some() {
            let (mut changes, mut entries, mut weight) = (Vec::new(), Vec::new(), 0);
            while changes.len() < EVENTS_PER_NOTIFICATION
                && let Some((change, key, entry)) =
                    told.next_if(|(change, ..)| weight == 0 || weight + change.raw.len() <= BYTES_PER_GROUP)
            {
                weight += change.raw.len();
                changes.push(change);
                entries.push((key, entry));
            }
            // Before the entries of this group are in the index: what is written now must not stand for them.
            if bytes + weight > BYTES_PER_COMMIT && !writes.is_empty() {
                self.write(std::mem::take(&mut writes), None).await?;
                bytes = 0;
            }
            self.index.load(&*store, entries.iter().map(|(key, _)| hash_of(key))).await?;
            self.index.put(&*store, entries).await?;
            let safeguard = self.safeguard(changes.len(), now);
            let element = self.session.element();
            let outbox = Outbox {
                instance: &self.loaded.instance,
                element: ElementLabel { key: &element.key, hub: &element.hub },
                resource: &self.job.resource,
                object_type: self.plan.object_type(),
                poll_date: self.pass_began,
                now,
                safeguard,
            };
            for outgoing in outbox.file(&changes) {
                self.report.notifications += 1;
                bytes += outgoing.bytes;
                writes.extend(outgoing.writes);
                if let Some(job) = outgoing.job {
                    if job.retry_minute.is_none() {
                        self.loaded.state.handed_over.push(job.row.clone());
                    }
                    self.uncommitted.push(job.message(Duration::ZERO));
                }
            }
            // An entry and the event it stands for share a transaction: all changed buckets go with the rows.
            if writes.len() + self.index.dirty() > WRITES_PER_COMMIT {
                self.write(std::mem::take(&mut writes), None).await?;
                bytes = 0;
            }
        }
        let last = if ended {
            let (at, records) = (self.pass_began, self.report.records);
            let duration_ms = u64::try_from((now - self.began).num_milliseconds()).unwrap_or(0);
            let mut state = self.loaded.state.clone();
            let (changes, vendor_ms) = (self.report.changes(), Some(self.session.latency().total_ms()));
            state.last = Some(LastPoll { at, records, changes, duration_ms, vendor_ms });
            let account = self.session.account();
            if account.is_some() && account != state.account {
                writes.extend(account.iter().map(|account| self.membership(account)));
                state.account = account;
            }
            Some(state)
        } else {
            None
        };
        self.write(writes, last).await
    }

    /// One transaction: the state, on condition of its version, with rows and changed buckets.
    pub(super) async fn write(&mut self, mut writes: Vec<Write>, ended: Option<ResourceRecord>) -> Result<(), Stop> {
        let mut state = ended.unwrap_or_else(|| ResourceRecord {
            lateness: self.loaded.state.lateness.clone(),
            resume: self.loaded.state.resume.clone().or_else(|| self.stored.resume.clone()),
            told_until: self.loaded.state.told_until,
            // The index moves on, and what it no longer holds must not be taken for known.
            recent: Recent::default(),
            handed_over: self.loaded.state.handed_over.clone(),
            ..self.stored.clone()
        });
        writes.extend(self.index.take_writes(99usize.saturating_sub(writes.len())));
        self.index.note(&mut state);
        let key = table::resource_key(self.job.instance, &self.job.resource);
        writes.push(table::replace(key, self.loaded.version, &state));
        match self.service.ports.store.transact(&writes).await {
            Ok(()) => {
                // Rows that lost the race, or may not be there, are nobody's to deliver.
                self.jobs.append(&mut self.uncommitted);
                self.loaded.version += 1;
                self.index.note(&mut self.loaded.state);
                self.stored = state;
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Err(Stop::Outrun),
            Err(source) => Err(Stop::Flow(FlowError::Store { subject: "the commit of a poll", source })),
        }
    }
}
