//! Turns a transition into one transaction: row, retry entry, backlog entries, the state of the callback, and whoever is
//! let go by it.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use domain::retry_minute::RetryMinute;
use domain::transition::{Disposition, Event, Transition, transition};
use store::port::Write;
use store::records::callback::{self, BacklogEntry};
use store::records::delivery::{Attempt, DeliveryRow, KEPT, Status, file_retry, retry_entry, row_key};
use store::{Attempts, Commit, commit, expiring, get_many};

use super::context::DeliveryContext;
use super::drain::{drain, releases};
use super::retry::{Retry, send};
use super::{DeliveryError, failed};
use crate::deliver::outbox::entry_minute;
use crate::job::DeliveryJob;
use crate::ports::Message;

/// The end of a transition.
#[derive(Debug)]
pub(super) enum Committed {
    /// As decided.
    Done(Done),
    /// Somebody else wrote the row meanwhile, or what made a job stale: whatever was decided is void.
    Outrun,
}

/// The results of a transition that took effect.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) status: Status,
    pub(super) disposition: Disposition,
    /// When the next attempt is due.
    pub(super) next_attempt: Option<DateTime<Utc>>,
    /// The number of other deliveries that were released.
    pub(super) released: usize,
}

/// The writes of a transition.
#[derive(Default)]
struct Plan {
    /// Those about the delivery itself. What must hold of it comes first.
    own: Vec<Write>,
    /// Those about its callback and other deliveries.
    others: Vec<Write>,
    /// To be sent when the writes are through.
    messages: Vec<Message>,
}

/// Decides what follows from an event and commits it; decides again when others changed the callback in between.
/// `jitter` is 64 random bits, `attempt` the one that ended.
pub(super) async fn commit_transition(
    context: &mut DeliveryContext<'_>,
    event: Event<'_>,
    jitter: u64,
    attempt: Option<&Attempt>,
) -> Result<Committed, DeliveryError> {
    let (store, happened) = (&*context.ports.store, context.ports.now());
    let mut attempts = Attempts::many();
    loop {
        let now = context.ports.now();
        let mut next = transition(&context.delivery(), &context.state(), event, happened, jitter);
        context.coalesce(&mut next, now).await?;
        let front = context.release(&mut next, now).await?;
        let mut plan = Plan::default();
        plan.delivery(context, &next, attempt, now);
        plan.others(context, &next, &front, now).await?;
        let (own, writes) = plan.writes();
        match commit(store, &writes).await.map_err(failed("the outcome of an attempt"))? {
            Commit::Done => {
                send(context.ports, plan.messages).await;
                let mut released = next.released.len();
                if let Some(callback) = context.callback.as_ref().filter(|_| next.callback.wants() > 0) {
                    released += drain(context.ports, &callback.key).await?;
                }
                let Transition { disposition, next_attempt, delivery, .. } = next;
                return Ok(Committed::Done(Done { status: delivery.status, disposition, next_attempt, released }));
            }
            // A job that was stale may be the live one by now.
            Commit::Lost { index } if index < own || next.disposition == Disposition::Unchanged => {
                return Ok(Committed::Outrun);
            }
            Commit::Lost { .. } => {
                attempts.lost(&*context.ports.ambient).await.map_err(failed("the state of a callback"))?;
                context.read_callback().await?;
            }
        }
    }
}

impl Plan {
    /// The number of writes about the delivery itself, and all writes. None where nothing changes: then nothing need hold.
    fn writes(&mut self) -> (usize, Vec<Write>) {
        // The delivery may be let go in the very transaction that files it: the later entry replaces what is done to it.
        self.own.retain(|own| !self.others.iter().any(|other| other.key() == own.key()));
        let mut writes = std::mem::take(&mut self.own);
        let own = writes.len();
        writes.append(&mut self.others);
        if !writes.iter().any(Write::changes) {
            writes.clear();
        }
        (own, writes)
    }

    /// Plans the writes of the delivery itself.
    fn delivery(
        &mut self,
        context: &DeliveryContext<'_>,
        next: &Transition,
        attempt: Option<&Attempt>,
        now: DateTime<Utc>,
    ) {
        match (next.disposition, &context.row) {
            (Disposition::Send, _) => {
                let unfiled = context.job.retry_minute.is_none();
                self.own.extend(unfiled.then(|| file_retry(context.job, entry_minute(now))));
            }
            (Disposition::Unchanged, row) => {
                self.own.extend(row.as_ref().map(|row| row.unchanged()));
                let live = row.as_ref().and_then(|row| row.record.retry_minute);
                // It may be that the dispatcher has moved the live entry here, and that this machine's clock is slow: one
                // of the two must stay.
                let moved = live.filter(|live| Some(*live) != context.job.retry_minute);
                self.own.extend(moved.map(|minute| entry_of(context.job, minute).must_exist()));
                self.unfile(context.job, None, live);
            }
            (_, None) => self.unfile(context.job, None, None),
            (disposition, Some(stored)) => {
                let mut row = stored.record.clone();
                let before = row.retry_minute;
                apply(&mut row, next, attempt, now);
                let retry = if let Disposition::At(at) = disposition {
                    let retry = Retry::at(context.job, at, now);
                    (row.due, row.retry_minute) = (Some(at), Some(retry.minute));
                    Some(retry)
                } else {
                    None
                };
                self.own.push(stored.replace(&row));
                self.unfile(context.job, before, row.retry_minute);
                if let Some(retry) = retry {
                    self.own.push(retry.entry());
                    self.messages.extend(retry.message());
                }
                if let (true, Some(callback)) = (row.in_backlog, &context.callback) {
                    let entry = BacklogEntry { job: context.job.clone(), records: next.delivery.records.clone() };
                    let write = callback.key.entry(&context.key).put(&entry);
                    self.own.push(expiring(write, Some(row.created_at + KEPT)));
                }
            }
        }
    }

    /// Removes the delivery's entries, but for the one that is `kept`: that of the job and the one `before`.
    fn unfile(&mut self, job: &DeliveryJob, before: Option<RetryMinute>, kept: Option<RetryMinute>) {
        let old: BTreeSet<RetryMinute> = job.retry_minute.into_iter().chain(before).collect();
        let old = old.into_iter().filter(|minute| Some(*minute) != kept);
        self.own.extend(old.map(|minute| entry_of(job, minute).delete()));
    }

    /// Plans the writes of the deliveries that are superseded or let go, and of the callback.
    async fn others(
        &mut self,
        context: &DeliveryContext<'_>,
        next: &Transition,
        front: &[BacklogEntry],
        now: DateTime<Utc>,
    ) -> Result<(), DeliveryError> {
        let Some(callback) = &context.callback else { return Ok(()) };
        self.others.extend(next.leave_backlog.iter().map(|key| callback.key.entry(key).take()));
        let expires_at = context.row.as_ref().map(|row| row.record.created_at + KEPT);
        let newest = next.newest_of.iter().map(|record| callback.key.newest(*record).put(&context.key));
        self.others.extend(newest.map(|write| expiring(write, expires_at)));
        self.superseded(context, next, now).await?;
        let (writes, messages) = releases(&callback.key, front, &next.released, now);
        self.others.extend(writes);
        self.messages.extend(messages);
        match callback::change(&callback.state, &next.callback) {
            Some(write) => self.others.push(write),
            // What makes a job stale must still be so when its entry goes, and a backlog that is joined must still be one:
            // with nobody in front, nobody would let it out.
            None if matches!(next.disposition, Disposition::Unchanged | Disposition::Backlog) => {
                self.others.push(callback.state.unchanged());
            }
            None => {}
        }
        Ok(())
    }

    /// Marks the rows of those that are not sent, and takes their entries off.
    async fn superseded(
        &mut self,
        context: &DeliveryContext<'_>,
        next: &Transition,
        now: DateTime<Utc>,
    ) -> Result<(), DeliveryError> {
        let organization = context.job.organization;
        let jobs = next.superseded.iter().filter_map(|key| DeliveryJob::of_key(organization, key, None));
        let keys: Vec<_> = jobs.map(|job| row_key(&job)).collect();
        let rows = get_many(&*context.ports.store, keys).await.map_err(failed("deliveries that are superseded"))?;
        for stored in rows {
            let mut row = stored.record.clone();
            let entry = row.retry_minute.map(|minute| retry_entry(row.instance, &row.id, minute).delete());
            self.others.extend(entry);
            row.status = Status::Superseded;
            (row.updated_at, row.due, row.retry_minute, row.in_backlog) = (now, None, None, false);
            self.others.push(stored.replace(&row));
        }
        Ok(())
    }
}

/// The row after a transition; when it is tried next is filed beside it.
fn apply(row: &mut DeliveryRow, next: &Transition, attempt: Option<&Attempt>, now: DateTime<Utc>) {
    row.status = next.delivery.status;
    (row.retry_steps, row.step_ends) = (next.delivery.progress.steps, next.delivery.progress.step_ends);
    (row.updated_at, row.due, row.retry_minute) = (now, None, None);
    row.in_backlog = next.disposition == Disposition::Backlog;
    if let Some(attempt) = attempt {
        row.remember(Attempt { number: row.attempts_made + 1, next: next.next_attempt, ..attempt.clone() });
    }
}

fn entry_of(job: &DeliveryJob, minute: RetryMinute) -> store::RecordKey<DeliveryJob> {
    retry_entry(job.instance, &job.delivery, minute)
}
