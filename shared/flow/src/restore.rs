//! Preparing a table that was restored from a point in time, so that the loss does not become a flood.
//!
//! The table stands at an earlier instant than its receivers. Most of its pending deliveries have arrived meanwhile, and
//! its cursors would emit once more, under ids that stand for other facts by now, whatever changed since. So every
//! delivery under way is set aside as `queued`, for a person to send; and every resource starts again: its next poll
//! records what is there and emits only what the vendor stamps later than the instant of the loss. Revisions count on
//! above those that were ever given out. Neither dispatcher nor poller may run meanwhile. Doing it twice does no harm.
//! *Not* promised: a record that was changed before that instant and not yet emitted, and one that was deleted
//! meanwhile, are not found; the gap shows in the coverage.

use chrono::{DateTime, Utc};
use domain::retry_minute::RetryMinute;
use domain::retry_schedule::LONGEST_WAIT;
use futures::TryStreamExt;
use serde::Serialize;
use store::records::instance::InstanceRecord;
use store::records::resource::ResourceRecord;
use store::records::{account, delivery as delivery_records, instance, resource, schedule};
use store::{Commit, commit};

use crate::deliver as delivery;
use crate::poll::handed_over;
use crate::ports::Ports;
use crate::service::FlowError;

/// The furthest minute ahead under which an entry is filed: the longest wait of the retry schedule, and the minute that
/// an entry is rounded up to.
const FURTHEST_RETRY_MINUTES: i64 = LONGEST_WAIT.num_minutes() + 1;

/// Retry entries that were just filed may lie a little before the minute that the dispatcher reached.
const RETRIES_LOOKED_BACK: i64 = 10;

/// The figures of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Number of instances.
    pub instances: usize,
    /// Number of resources that start again.
    pub resources: usize,
    /// Number of deliveries set aside.
    pub deliveries: usize,
}

/// Makes a restored table ready. `emitted_until` is the instant of the loss: the lost table had emitted what came
/// before.
///
/// # Errors
/// The store failed. What was done stays; doing it again does the rest.
pub async fn restore(ports: &Ports, emitted_until: DateTime<Utc>) -> Result<Restored, FlowError> {
    let store = &*ports.store;
    let mut restored = Restored { deliveries: set_aside(ports).await?, ..Restored::default() };
    let organizations = account::organizations().all(store).await.map_err(FlowError::record("organizations"))?;
    for organization in organizations {
        let listing = instance::listing(organization.record.id).all(store).await;
        for entry in listing.map_err(FlowError::record("instances"))? {
            let instance = instance::key(entry.record.id).get(store).await.map_err(FlowError::record("an instance"))?;
            let Some(instance) = instance else { continue };
            restored.instances += 1;
            let (resources, deliveries) = restart_resources(ports, &instance.record, emitted_until).await?;
            restored.resources += resources;
            restored.deliveries += deliveries;
        }
    }
    Ok(restored)
}

/// Starts every resource of an instance again. Answers how many, and how many deliveries were set aside for it.
async fn restart_resources(
    ports: &Ports,
    instance: &InstanceRecord,
    emitted_until: DateTime<Utc>,
) -> Result<(usize, usize), FlowError> {
    let failed = FlowError::record("the state of a resource");
    let states = resource::of_instance(instance.id).all(&*ports.store).await.map_err(&failed)?;
    let mut deliveries = 0;
    for stored in &states {
        for job in handed_over::jobs(instance, &stored.record) {
            deliveries += usize::from(delivery::set_aside(ports, &job, None).await?);
        }
        let mut again = ResourceRecord::restarted(instance.created_at, ports.now()).succeeding(&stored.record);
        again.handed_over = Vec::new();
        again.emitted_until = Some(emitted_until);
        let write = stored.replace(&again);
        match commit(&*ports.store, &[write]).await.map_err(FlowError::store("the state of a resource"))? {
            Commit::Done => {}
            Commit::Lost { .. } => return Err(failed(store::Contended.into())),
        }
    }
    Ok((states.len(), deliveries))
}

/// Settles every delivery that has a retry entry, and those that leave a backlog by that, as `queued`.
async fn set_aside(ports: &Ports) -> Result<usize, FlowError> {
    let failed = FlowError::record("the deliveries under way");
    let dispatched = schedule::dispatched_until_key().get(&*ports.store).await.map_err(&failed)?;
    let Some(dispatched) = dispatched else { return Ok(0) };
    let first = dispatched.record.retry_minute - RETRIES_LOOKED_BACK;
    let last = RetryMinute::at(ports.now()).max(first) + FURTHEST_RETRY_MINUTES;
    let mut deliveries = 0;
    // One that is set aside may release the next of its backlog, filed under the present minute: round again.
    loop {
        let mut found = false;
        for minute in first.through(last) {
            let mut pages = std::pin::pin!(delivery_records::due_in(minute).pages(&*ports.store));
            while let Some(entries) = pages.try_next().await.map_err(&failed)? {
                for entry in entries {
                    found = true;
                    deliveries += usize::from(delivery::set_aside(ports, &entry.record, Some(&entry.key())).await?);
                }
            }
        }
        if !found {
            return Ok(deliveries);
        }
    }
}
