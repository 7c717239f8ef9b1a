//! After the table was brought back from a point in time: what its loss must not become is a flood.
//!
//! The table stands at an earlier instant than its receivers. Its pending deliveries have mostly arrived meanwhile, and
//! its cursors would tell once more, under ids that stand for other facts by now, whatever changed since. So every
//! delivery that is under way is set aside, as `queued`, for a person to send; and every resource starts anew: its next
//! poll remembers what is there, and tells only what the vendor stamps later than the instant up to which the lost table
//! had told. Revisions count on above those that were ever given out. To be done while neither dispatcher nor poller
//! runs. Doing it twice does no harm. *Not* promised: a record that was changed before that instant and not yet told,
//! and one that was deleted meanwhile, are found by nobody; the gap shows in the coverage.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::delivery;
use crate::job::DeliveryJob;
use crate::poll::handed_over;
use crate::poll::state::ResourceRecord;
use crate::ports::{Ports, Range, query_all};
use crate::principal::{ORGANIZATIONS, OrganizationRecord};
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord, ListingRecord};

/// An entry is filed no further ahead than this: the ladder's longest pause is a day, and some of it is chance.
const LADDER_MINUTES: i64 = 2 * 24 * 60;

/// What was made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// Instances seen.
    pub instances: usize,
    /// Resources that start anew.
    pub resources: usize,
    /// Deliveries set aside.
    pub deliveries: usize,
}

/// Makes a restored table ready. `told_until`: up to when the lost table had told, which is when it was lost.
///
/// # Errors
/// The store's. What was done stays; doing it again does the rest.
pub async fn restore(ports: &Ports, told_until: DateTime<Utc>) -> Result<Restored, FlowError> {
    let mut restored = Restored { deliveries: set_aside(ports).await?, ..Restored::default() };
    let organizations = query_all(&*ports.store, ORGANIZATIONS, "").await;
    for item in organizations.map_err(FlowError::store("organizations"))? {
        let organization: OrganizationRecord = table::read(&item)?;
        for instance in instances_of(ports, &organization).await? {
            restored.instances += 1;
            let partition = table::instance_partition(instance.id);
            let states = query_all(&*ports.store, &partition, "RES#").await.map_err(FlowError::store("resources"))?;
            for item in states {
                let state: ResourceRecord = table::read(&item)?;
                restored.deliveries += set_aside_handed_over(ports, &instance, &state).await?;
                let mut anew = ResourceRecord::anew(instance.created_at, ports.now()).after(&state);
                anew.handed_over = Vec::new();
                anew.told_until = Some(told_until);
                let write = table::replace(item.key, item.version, &anew);
                match ports.store.transact(&[write]).await {
                    Ok(()) => restored.resources += 1,
                    Err(source) => return Err(FlowError::Store { subject: "the state of a resource", source }),
                }
            }
        }
    }
    Ok(restored)
}

/// Settles every delivery that has an entry among the retries, and those that come out of a line by that, as `queued`.
async fn set_aside(ports: &Ports) -> Result<usize, FlowError> {
    let failed = FlowError::store("the deliveries under way");
    let first = match ports.store.get(&table::hand_key()).await.map_err(&failed)? {
        // The hand may be a little ahead of entries that were just filed.
        Some(hand) => crate::dispatch::retry_minute_of(&hand)? - 10,
        None => return Ok(0),
    };
    let last = Service::RETRY_WHEEL.minute_of(ports.now()).max(first) + LADDER_MINUTES;
    let mut deliveries = 0;
    // One that is set aside may bring out the next of its line, filed under the present minute: round again.
    loop {
        let mut found = false;
        for minute in first..=last {
            let partition = table::retry_partition(minute);
            loop {
                let page = ports.store.query(&partition, &Range::all(), None).await.map_err(&failed)?;
                if page.items.is_empty() {
                    break;
                }
                for item in &page.items {
                    let job: DeliveryJob = table::read(item)?;
                    let set_aside = delivery::set_aside(ports, &Service::RETRY_WHEEL, &job, Some(&item.key)).await?;
                    deliveries += usize::from(set_aside);
                    found = true;
                }
            }
        }
        if !found {
            return Ok(deliveries);
        }
    }
}

/// The same with those that a resource's state names.
async fn set_aside_handed_over(
    ports: &Ports,
    instance: &InstanceRecord,
    state: &ResourceRecord,
) -> Result<usize, FlowError> {
    let mut deliveries = 0;
    for job in handed_over::jobs(instance, state) {
        deliveries += usize::from(delivery::set_aside(ports, &Service::RETRY_WHEEL, &job, None).await?);
    }
    Ok(deliveries)
}

async fn instances_of(ports: &Ports, of: &OrganizationRecord) -> Result<Vec<InstanceRecord>, FlowError> {
    let partition = table::organization_partition(of.id);
    let listed = query_all(&*ports.store, &partition, "INST#").await.map_err(FlowError::store("instances"))?;
    let mut instances = Vec::new();
    for item in listed {
        let listed: ListingRecord = table::read(&item)?;
        let key = table::instance_key(listed.id);
        let item = ports.store.get(&key).await.map_err(FlowError::store("an instance"))?;
        instances.extend(item.as_ref().map(table::read).transpose()?);
    }
    Ok(instances)
}
