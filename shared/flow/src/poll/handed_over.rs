//! Deliveries that were handed to the queue without a retry entry: the next poll of their resource looks after them.
//!
//! A commit names them in the resource's state, which every poll reads and writes anyway. One that was attempted since
//! has its outcome or an entry of its own, and is forgotten here. One that nobody attempted although it is old was lost
//! on the way: a poller died between commit and queue, or the queue gave it up. It gets an entry and a new job.

use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::id::DeliveryId;

use super::state::ResourceRecord;
use super::{Loaded, Run, send_deliveries};
use crate::delivery::row::{DeliveryRow, Status};
use crate::job::{DeliveryJob, PollJob};
use crate::outbox::{GRACE, Safeguard, format_of, retry_entry};
use crate::ports::{Key, Message, StoreError, Write};
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord};

/// A state names so many deliveries at most; it should stay below one write unit.
const MOST_NAMED: usize = 4;
/// A resource that is polled more rarely than this would find a lost job too late.
const LONGEST_INTERVAL_MINUTES: u16 = 15;

impl Run<'_> {
    /// What is to bring the deliveries of a group of so many changes, should their jobs be lost.
    pub(super) fn safeguard(&self, changes: usize, now: DateTime<Utc>) -> Safeguard {
        let is_soon = self.loaded.instance.interval_of(&self.job.resource) <= LONGEST_INTERVAL_MINUTES;
        let deliveries = changes.div_ceil(format_of(&self.loaded.instance).most_events());
        let has_room = self.loaded.state.handed_over.len() + deliveries <= MOST_NAMED;
        match self.service.ports.queue.outlives_us() && is_soon && has_room {
            true => Safeguard::NextPoll,
            false => Safeguard::entry(&Service::RETRY_WHEEL, now),
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
    let mut lost = Vec::new();
    for item in items {
        let row: DeliveryRow = table::read(&item)?;
        let untouched = row.status == Status::Created && row.retry_minute.is_none() && !row.in_line;
        if untouched && row.created_at + GRACE > now {
            loaded.state.handed_over.push(item.key.sk);
        } else if untouched {
            lost.push(DeliveryJob {
                organization: row.organization,
                instance: row.instance,
                row: item.key.sk,
                delivery: row.id,
                retry_minute: None,
            });
        }
    }
    if lost.is_empty() {
        return Ok(true);
    }
    tracing::warn!(deliveries = lost.len(), "deliveries were lost on their way and set out again");
    let minute = Service::RETRY_WHEEL.minute_of(now + GRACE);
    let mut writes: Vec<_> = lost.iter().map(|job| retry_entry(job, minute)).collect();
    writes.push(table::replace(table::resource_key(job.instance, &job.resource), loaded.version, &loaded.state));
    match ports.store.transact(&writes).await {
        Ok(()) => loaded.version += 1,
        Err(StoreError::Conflict { .. }) => return Ok(false),
        Err(source) => return Err(FlowError::Store { subject: "deliveries that were lost", source }),
    }
    let message = |job: DeliveryJob| {
        let job = DeliveryJob { retry_minute: Some(minute), ..job };
        let body = serde_json::to_string(&job).expect("jobs serialize");
        Message { body, delay: Duration::ZERO, group: job.organization.to_string() }
    };
    send_deliveries(service, lost.into_iter().map(message).collect()).await;
    Ok(true)
}

/// Jobs for the deliveries that a state names.
pub(crate) fn jobs(instance: &InstanceRecord, state: &ResourceRecord) -> Vec<DeliveryJob> {
    let job = |row: &String| {
        let (_, delivery) = row.rsplit_once('#')?;
        let (organization, instance) = (instance.organization, instance.id);
        let delivery = DeliveryId(delivery.to_owned());
        Some(DeliveryJob { organization, instance, row: row.clone(), delivery, retry_minute: None })
    };
    state.handed_over.iter().filter_map(job).collect()
}

/// Entries for the deliveries of a state that goes: no poll will look after them any more.
pub(crate) fn entries(instance: &InstanceRecord, state: &ResourceRecord, now: DateTime<Utc>) -> Vec<Write> {
    let minute = Service::RETRY_WHEEL.minute_of(now + GRACE);
    jobs(instance, state).iter().map(|job| retry_entry(job, minute)).collect()
}
