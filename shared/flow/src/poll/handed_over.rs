//! Deliveries that were handed to the queue without a retry entry: the next poll of their resource looks after them.
//!
//! A commit names them in the resource's state, which every poll reads and writes anyway. One that was attempted since
//! has its outcome or an entry of its own, and is forgotten here. One that is old and was never attempted was lost on
//! the way: a poller died between commit and queue, or the queue gave it up. It gets an entry and a new job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use store::records::delivery::{self, DeliveryRow, Status, file_retry};
use store::records::instance::InstanceRecord;
use store::records::resource::ResourceRecord;
use store::{Commit, Stored, Write, commit};

use super::jobs::send_deliveries;
use super::request::PollRequest;
use crate::deliver::outbox::{GRACE, Safeguard, entry_minute, format_of};
use crate::job::{DeliveryJob, Queued};
use crate::service::FlowError;

/// A state names at most this many deliveries; it should stay below one write unit.
const MOST_NAMED: usize = 4;
/// A resource that is polled more rarely than this would find a lost job too late.
const LONGEST_INTERVAL_MINUTES: u16 = 15;

/// The safeguard of the deliveries of a group of so many changes, should their jobs be lost.
pub(super) fn safeguard(
    request: &PollRequest<'_>,
    instance: &InstanceRecord,
    state: &ResourceRecord,
    changes: usize,
    now: DateTime<Utc>,
) -> Safeguard {
    let deliveries = changes.div_ceil(format_of(instance).most_events());
    let has_room = state.handed_over.len() + deliveries <= MOST_NAMED;
    // Asked last, as it reads the configuration: a burst has room for its first deliveries only.
    let is_soon = || instance.interval_of(&request.job.resource) <= LONGEST_INTERVAL_MINUTES;
    match request.service.ports.queue.outlives_us() && has_room && is_soon() {
        true => Safeguard::NextPoll,
        false => Safeguard::entry(now),
    }
}

/// Forgets the deliveries that are taken care of, and sends those again that were lost. False: another poll changed the
/// state meanwhile.
pub(super) async fn look_after(
    request: &PollRequest<'_>,
    state: &mut Stored<ResourceRecord>,
) -> Result<bool, FlowError> {
    if state.record.handed_over.is_empty() {
        return Ok(true);
    }
    let PollRequest { service, job, .. } = *request;
    let store = &*service.ports.store;
    let named = std::mem::take(&mut state.record.handed_over);
    let rows = delivery::named(store, job.instance, named).await;
    let now = service.ports.now();
    let minute = entry_minute(now);
    let mut lost = Vec::new();
    for (name, row) in rows.map_err(FlowError::record("deliveries that were handed over"))? {
        let DeliveryRow { organization, instance, status, retry_minute, in_backlog, created_at, .. } = row;
        let is_untouched = status == Status::Created && retry_minute.is_none() && !in_backlog;
        if is_untouched && created_at + GRACE > now {
            state.record.handed_over.push(name);
        } else if is_untouched {
            lost.extend(DeliveryJob::of_row(organization, instance, name, Some(minute)));
        }
    }
    if lost.is_empty() {
        return Ok(true);
    }
    tracing::warn!(deliveries = lost.len(), "deliveries were lost on their way and set out again");
    let mut writes: Vec<_> = lost.iter().map(|job| file_retry(job, minute)).collect();
    writes.push(state.replace(&state.record));
    match commit(store, &writes).await.map_err(FlowError::store("deliveries that were lost"))? {
        Commit::Done => state.replaced(state.record.clone()),
        Commit::Lost { .. } => return Ok(false),
    }
    send_deliveries(service, lost.iter().map(|job| job.message(Duration::ZERO)).collect()).await;
    Ok(true)
}

/// Jobs for the deliveries that a state names.
pub(crate) fn jobs(instance: &InstanceRecord, state: &ResourceRecord) -> Vec<DeliveryJob> {
    let job = |row: &String| DeliveryJob::of_row(instance.organization, instance.id, row.clone(), None);
    state.handed_over.iter().filter_map(job).collect()
}

/// Entries for the deliveries of a state that goes: no poll will look after them any more.
pub(crate) fn entries(instance: &InstanceRecord, state: &ResourceRecord, now: DateTime<Utc>) -> Vec<Write> {
    let minute = entry_minute(now);
    jobs(instance, state).iter().map(|job| file_retry(job, minute)).collect()
}
