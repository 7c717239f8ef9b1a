//! The states of an instance's resources, and the decision about deletions that are held.

use store::records::audit::{Action, AuditRecord};
use store::records::instance::InstanceRecord;
use store::records::resource::{self, Held, ResourceRecord};
use store::{Attempts, Change, RecordError};
use xxhash_rust::xxh3::xxh3_64;

use super::InstanceError;
use super::schedule::polled;
use crate::accounts::auth::Caller;
use crate::service::Service;

/// One polled resource and its state.
#[derive(Debug, Clone)]
pub struct ResourceState {
    /// Its name in the configuration.
    pub resource: String,
    /// Minutes between its polls.
    pub interval_minutes: u16,
    /// The state that the last polls left.
    pub state: ResourceRecord,
}

/// The state of every polled resource, by name.
///
/// # Errors
/// The store failed, or a state is damaged.
pub async fn states(service: &Service, record: &InstanceRecord) -> Result<Vec<ResourceState>, InstanceError> {
    let polled = polled(record);
    let keys = polled.keys().map(|resource| resource::key(record.id, resource));
    let mut found = store::get_many(&*service.ports.store, keys).await?;
    let mut state_of = |resource: &str| {
        let key = resource::key(record.id, resource);
        let place = found.iter().position(|stored| stored.key() == key);
        place.map(|place| found.swap_remove(place).record).unwrap_or_default()
    };
    let state = |(resource, interval_minutes): (String, u16)| {
        let state = state_of(&resource);
        ResourceState { resource, interval_minutes, state }
    };
    Ok(polled.into_iter().map(state).collect())
}

/// A decision about deletions that are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The records are gone: a complete listing emits them with the next poll, each confirmed by id as ever.
    Approve,
    /// The listing was wrong: nothing is emitted, and the next complete listing looks again in its own time.
    Reject,
}

/// Decides about the deletions of a resource that are held; answers what they were. None: none are.
///
/// # Errors
/// Polls wrote the state before every try, or the store failed.
pub async fn decide_deletions(
    service: &Service,
    caller: &Caller,
    record: &InstanceRecord,
    resource: &str,
    decision: Decision,
) -> Result<Option<Held>, InstanceError> {
    let ports = &service.ports;
    let key = resource::key(record.id, resource);
    let decided = store::update(&*ports.store, &*ports.ambient, Attempts::few(), &key, async |snapshot| {
        let Some(stored) = snapshot.stored() else { return Ok(Change::Keep(None)) };
        let mut state = stored.record.clone();
        let Some(mut held) = state.held.take() else { return Ok(Change::Keep(None)) };
        let action = match decision {
            Decision::Approve => {
                held.approved = true;
                state.held = Some(held.clone());
                state.sweep_tried = None;
                Action::DeletionsApproved
            }
            Decision::Reject => {
                state.swept_at = Some(ports.now());
                Action::DeletionsRejected
            }
        };
        let mut entry = AuditRecord::new(ports.now(), caller.by(), action).of_instance(record.id);
        entry.resource = Some(resource.to_owned());
        // Two resources may be at the same version.
        let subject = format!("{}-{:016x}", record.id, xxh3_64(resource.as_bytes()));
        let writes = vec![stored.replace(&state), entry.write(record.organization, &subject, stored.version())];
        Ok::<_, RecordError>(Change::Write(writes, Some(held)))
    });
    Ok(decided.await?)
}
