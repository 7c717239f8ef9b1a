//! Commits what a poll found: delivery rows, index buckets and the resource's state, in transactions that the version of
//! the state fences.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::index::{Entry, hash_of};
use domain::record::Change;
use store::records::record_index::RecordIndex;
use store::records::resource::{LastPoll, ResourceRecord};
use store::records::vendor_account;
use store::{Commit, Stored, Write};

use super::batch::Emitted;
use super::draft::Draft;
use super::error::PassError;
use super::handed_over;
use super::lease::Lease;
use super::request::PollRequest;
use super::target::Target;
use crate::deliver::outbox::{ElementLabel, Outbox};
use crate::job::Queued;
use crate::ports::Message;
use crate::service::FlowError;

/// A transaction takes 100 writes. Some space is left for what one more notification brings.
const WRITES_PER_COMMIT: usize = 80;
/// A transaction takes 4 MB.
const BYTES_PER_COMMIT: usize = 2 * 1024 * 1024;
/// Records of one notification take no more than this together, unless it is one alone.
const BYTES_PER_GROUP: usize = 512 * 1024;
/// Events of one notification at most.
const EVENTS_PER_NOTIFICATION: usize = 10;
/// Pieces of what a listing has seen in one transaction.
const PIECES_PER_COMMIT: usize = 12;

/// The committed part of a poll, and the means to commit more.
pub(super) struct Committer<'a> {
    request: PollRequest<'a>,
    /// The state as it is stored.
    stored: Stored<ResourceRecord>,
    pub(super) index: RecordIndex,
    lease: Lease,
    /// Jobs for deliveries that are committed.
    jobs: Vec<Message>,
    /// Jobs for deliveries of the next transaction.
    uncommitted: Vec<Message>,
}

impl<'a> Committer<'a> {
    pub(super) fn new(request: PollRequest<'a>, stored: Stored<ResourceRecord>) -> Self {
        Self {
            request,
            index: RecordIndex::of(request.job.instance, &request.job.resource, &stored.record),
            lease: Lease::new(request.began, request.service.wheel.minute()),
            stored,
            jobs: Vec::new(),
            uncommitted: Vec::new(),
        }
    }

    /// Jobs for the deliveries that were committed.
    pub(super) fn into_jobs(self) -> Vec<Message> {
        self.jobs
    }

    /// Starts the resource again from an empty state.
    pub(super) async fn restart(&mut self, draft: &mut Draft, state: ResourceRecord) -> Result<(), PassError> {
        self.index = RecordIndex::of(self.request.job.instance, &self.request.job.resource, &state);
        draft.state = state.clone();
        self.stored.record = state;
        self.write(draft, Vec::new(), None).await
    }

    /// Takes or renews the lease of a poll that has run for long: one write, now and then.
    pub(super) async fn renew_lease(&mut self, draft: &mut Draft) -> Result<(), PassError> {
        match self.lease.due(self.stored.record.leased_until, self.request.service.ports.now()) {
            Some(until) => {
                self.stored.record.leased_until = Some(until);
                self.write(draft, Vec::new(), None).await
            }
            None => Ok(()),
        }
    }

    /// Gives the lease back with the next commit: the job that goes on takes one of its own.
    pub(super) fn release_lease(&mut self) {
        self.stored.record.leased_until = None;
    }

    /// Stores what a complete listing has seen. This is done before the place of the listing is stored: a place without
    /// it would make everything listed before look missing.
    pub(super) async fn save_seen(&mut self, draft: &mut Draft, pieces: &[Write]) -> Result<(), PassError> {
        for some in pieces.chunks(PIECES_PER_COMMIT) {
            self.write(draft, some.to_vec(), None).await?;
        }
        Ok(())
    }

    /// Commits the batch in the middle of a pass: index, lateness and place move. A crash between two transactions
    /// repeats reading, and what was emitted is known.
    pub(super) async fn commit_progress(&mut self, target: &Target<'_>, draft: &mut Draft) -> Result<(), PassError> {
        let (writes, _) = self.file(target, draft).await?;
        self.write(draft, writes, None).await
    }

    /// Completes a pass and commits its batch. The state (cursor, coverage) goes with the last transaction.
    pub(super) async fn commit_pass(&mut self, target: &Target<'_>, draft: &mut Draft) -> Result<(), PassError> {
        draft.complete(target.shape());
        let (mut writes, now) = self.file(target, draft).await?;
        let duration_ms = u64::try_from((now - self.request.began).num_milliseconds()).unwrap_or(0);
        let mut state = draft.state.clone();
        state.last = Some(LastPoll {
            at: draft.progress.began,
            records: draft.report.records,
            changes: draft.report.changes(),
            duration_ms,
            vendor_ms: Some(target.session.latency().total_ms()),
        });
        if let Some(account) = target.session.account().filter(|account| state.account.as_ref() != Some(account)) {
            let element = &target.session.element().key;
            writes.push(vendor_account::member_key(element, &account, self.request.job.instance).put(&()));
            state.account = Some(account);
        }
        self.write(draft, writes, Some(state)).await
    }

    /// Brings the batch into the index and files its changes as deliveries, in as many transactions as that takes. The
    /// writes of the last one are left to the caller, with the instant of filing.
    async fn file(&mut self, target: &Target<'_>, draft: &mut Draft) -> Result<(Vec<Write>, DateTime<Utc>), PassError> {
        let (silent, emitted) = draft.batch.take();
        self.remember(silent).await?;
        while self.index.dirty() > WRITES_PER_COMMIT / 2 {
            self.write(draft, Vec::new(), None).await?;
        }
        let now = self.request.service.ports.now();
        let (mut writes, mut bytes): (Vec<Write>, usize) = (Vec::new(), 0);
        let mut emitted = emitted.into_iter().peekable();
        while emitted.peek().is_some() {
            let group = Group::next(&mut emitted);
            // Before the entries of this group are in the index: what is written now must not stand for them.
            if bytes + group.bytes > BYTES_PER_COMMIT && !writes.is_empty() {
                self.write(draft, std::mem::take(&mut writes), None).await?;
                bytes = 0;
            }
            self.remember(group.entries).await?;
            let changes = group.changes.len();
            let element = target.session.element();
            let outbox = Outbox {
                instance: target.instance,
                element: ElementLabel { key: &element.key, hub: &element.hub },
                resource: &self.request.job.resource,
                object_type: target.plan.object_type(),
                poll_date: draft.progress.began,
                now,
                safeguard: handed_over::safeguard(&self.request, target.instance, &draft.state, changes, now),
            };
            for outgoing in outbox.file(&group.changes) {
                draft.report.notifications += 1;
                bytes += outgoing.bytes;
                writes.extend(outgoing.writes);
                if let Some(job) = outgoing.job {
                    if job.retry_minute.is_none() {
                        draft.state.handed_over.push(job.row.clone());
                    }
                    self.uncommitted.push(job.message(Duration::ZERO));
                }
            }
            // An entry and the event it stands for share a transaction: all changed buckets go with the rows.
            if writes.len() + self.index.dirty() > WRITES_PER_COMMIT {
                self.write(draft, std::mem::take(&mut writes), None).await?;
                bytes = 0;
            }
        }
        Ok((writes, now))
    }

    /// Puts entries into the index, in memory.
    async fn remember(&mut self, entries: Vec<(String, Entry)>) -> Result<(), PassError> {
        let store = &*self.request.service.ports.store;
        self.index.load(store, entries.iter().map(|(key, _)| hash_of(key))).await?;
        Ok(self.index.put(store, entries).await?)
    }

    /// One transaction: the state, on condition of its version, with rows and changed buckets. Without `state`, the
    /// stored one is written with what the draft may say in the middle of a pass.
    async fn write(
        &mut self,
        draft: &mut Draft,
        mut writes: Vec<Write>,
        state: Option<ResourceRecord>,
    ) -> Result<(), PassError> {
        let mut state = state.unwrap_or_else(|| self.stored.record.interim(&draft.state));
        writes.extend(self.index.take_writes(99usize.saturating_sub(writes.len())));
        self.index.note_in(&mut state);
        writes.push(self.stored.replace(&state));
        let outcome = store::commit(&*self.request.service.ports.store, &writes).await;
        match outcome.map_err(FlowError::store("the commit of a poll"))? {
            Commit::Done => {
                // Rows that lost the race, or may not be there, are nobody's to deliver.
                self.jobs.append(&mut self.uncommitted);
                self.index.note_in(&mut draft.state);
                self.stored.replaced(state);
                Ok(())
            }
            Commit::Lost { .. } => Err(PassError::Superseded),
        }
    }
}

/// The changes of one notification.
struct Group {
    changes: Vec<Change>,
    entries: Vec<(String, Entry)>,
    /// Bytes of the records together.
    bytes: usize,
}

impl Group {
    fn next(emitted: &mut std::iter::Peekable<std::vec::IntoIter<Emitted>>) -> Self {
        let mut group = Self { changes: Vec::new(), entries: Vec::new(), bytes: 0 };
        while group.changes.len() < EVENTS_PER_NOTIFICATION
            && let Some(Emitted { change, key, entry }) =
                emitted.next_if(|next| group.bytes == 0 || group.bytes + next.change.raw.len() <= BYTES_PER_GROUP)
        {
            group.bytes += change.raw.len();
            group.changes.push(change);
            group.entries.push((key, entry));
        }
        group
    }
}
