//! Deliveries that were handed to the queue without a retry entry: the next poll of their resource looks after them.
//!
//! A commit names them in the resource's state, which every poll reads and writes anyway. One that was attempted since
//! has its outcome or an entry of its own, and is forgotten here. One that nobody attempted although it is old was lost
//! on the way: a poller died between commit and queue, or the queue gave it up. It gets an entry and a new job.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::state::ResourceRecord;
use super::{Loaded, Run, send_deliveries};
use crate::delivery::row::{DeliveryRow, Status, file_retry};
use crate::job::{DeliveryJob, PollJob, Queued};
use crate::outbox::{GRACE, Safeguard, entry_minute, format_of};
use crate::ports::{Key, StoreError, Write};
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord};

/// A state names so many deliveries at most; it should stay below one write unit.
const MOST_NAMED: usize = 4;
/// A resource that is polled more rarely than this would find a lost job too late.
const LONGEST_INTERVAL_MINUTES: u16 = 15;

impl Run<'_> {
    /// What is to bring the deliveries of a group of so many changes, should their jobs be lost.
    pub(super) fn safeguard(&self, changes: usize, now: DateTime<Utc>) -> Safeguard {
        let instance = &self.loaded.instance;
        let deliveries = changes.div_ceil(format_of(instance).most_events());
        let has_room = self.loaded.state.handed_over.len() + deliveries <= MOST_NAMED;
        // Asked last, as it reads the configuration: a burst has room for its first deliveries only.
        let is_soon = || instance.interval_of(&self.job.resource) <= LONGEST_INTERVAL_MINUTES;
        match self.service.ports.queue.outlives_us() && has_room && is_soon() {
            true => Safeguard::NextPoll,
            false => Safeguard::entry(now),
        }
    }
}

/// Forgets the deliveries that are taken care of, and brings those that were lost. False: another poll moved the state
/// meanwhile.
pub(super) async fn look_after(service: &Service, job: &PollJob, loaded: &mut Loaded) -> Result<bool, FlowError> {
    if loaded.state.handed_over.is_empty() {
        return Ok(true);
    }
    let ports = &service.ports;
    let partition = table::instance_partition(job.instance);
    let named = std::mem::take(&mut loaded.state.handed_over);
    let keys: Vec<Key> = named.into_iter().map(|row| Key::new(partition.clone(), row)).collect();
    let items = ports.store.get_many(&keys).await.map_err(FlowError::store("deliveries that were handed over"))?;
    let now = ports.now();
    let minute = entry_minute(now);
    let mut lost = Vec::new();
    for item in items {
        let row: DeliveryRow = table::read(&item)?;
        let untouched = row.status == Status::Created && row.retry_minute.is_none() && !row.in_backlog;
        if untouched && row.created_at + GRACE > now {
            loaded.state.handed_over.push(item.key.sk);
        } else if untouched {
            lost.extend(DeliveryJob::of_row(row.organization, row.instance, item.key.sk, Some(minute)));
        }
    }
    if lost.is_empty() {
        return Ok(true);
    }
    tracing::warn!(deliveries = lost.len(), "deliveries were lost on their way and set out again");
    let mut writes: Vec<_> = lost.iter().map(|job| file_retry(job, minute)).collect();
    writes.push(table::replace(table::resource_key(job.instance, &job.resource), loaded.version, &loaded.state));
    match ports.store.transact(&writes).await {
        Ok(()) => loaded.version += 1,
        Err(StoreError::Conflict { .. }) => return Ok(false),
        Err(source) => return Err(FlowError::Store { subject: "deliveries that were lost", source }),
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
