//! Element instances: made, read, changed, switched off and removed, each within one organization.
//!
//! Written here: the instance's items, its principal, its listing, and its resources' places on the timing wheel.
//! Who acts next: the dispatcher, which finds the slots, and the poller, which reads the instance anew at every
//! poll. Not promised: that a poll which is under way when an instance changes ends at once. It reads the old
//! configuration to its end, and its commit fails when its resource was removed or started anew.

mod body;
mod change;
mod check;
mod form;
mod list;
mod login;
mod rehearse;
mod remove;
#[cfg(test)]
mod tests;
mod token;

use domain::id::{InstanceId, OrganizationId};
use domain::problem::FieldProblem;
use domain::secret::Secret;
use xxhash_rust::xxh3::xxh3_64;

use crate::audit::{Action, AuditRecord};
use crate::limits::LimitsError;
use crate::poll::state::{Held, ResourceRecord};
use crate::ports::{Key, Ports, StoreError};
use crate::principal::Caller;
use crate::secrets::vault_owner;
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord, Unreadable, instance_key, listing_key, resource_key};

pub use body::InstanceBody;
pub use change::{Change, Made, create, update};
pub use form::{Review, login_fields, review, review_new, try_callback_new, try_callback_of};
pub use list::{Listed, ListingQuery, list};
pub use login::{LoginError, ping};
pub use rehearse::{Rehearsal, Rehearsed, Sample, rehearse, rehearse_new};
pub use remove::{remove, set_disabled, suspend};
pub use token::{NewToken, rotate_token};

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// There is no such instance, or it is another organization's: callers cannot tell the two apart.
    #[error("no instance of this organization has this id")]
    Absent,
    /// Everything that is wrong with the request. Nothing was stored and the vendor was not asked.
    #[error("{} fields of the request are not valid", .0.len())]
    Invalid(Vec<FieldProblem>),
    /// The organization may not have that much: which limits, in words. Nothing was stored and the vendor was not asked.
    #[error("{} limits of the organization are passed", .0.len())]
    OverLimit(Vec<FieldProblem>),
    /// The organization's limits cannot be read.
    #[error(transparent)]
    Limits(#[from] LimitsError),
    /// The vendor did not take the login. Nothing was stored.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The instance is not at the version that the change is for. Nothing was changed.
    #[error("the instance has another version than the one to change")]
    Moved,
    /// Other changes of the same instance kept coming in between. Nothing was changed.
    #[error("the instance was changed at the same time")]
    Raced,
    /// The table refused or was busy.
    #[error("reading or writing an instance")]
    Store(#[from] StoreError),
    /// Our own trouble.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// A stored item is damaged.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

/// An instance as stored, with the version that a conditional write compares.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What is stored.
    pub record: InstanceRecord,
    /// Version of the item.
    pub version: u64,
}

/// The instance of this id, if it is the organization's.
pub async fn get(ports: &Ports, organization: OrganizationId, id: InstanceId) -> Result<Stored, InstanceError> {
    match find(ports, organization, id).await? {
        Some(stored) if !stored.record.deleted => Ok(stored),
        _ => Err(InstanceError::Absent),
    }
}

/// The same, also when its removal has begun. The organization's own listing is asked first, so that the answer for
/// another's instance comes from the same place, and as fast, as the answer for none.
async fn find(ports: &Ports, organization: OrganizationId, id: InstanceId) -> Result<Option<Stored>, InstanceError> {
    if ports.store.get(&listing_key(organization, id)).await?.is_none() {
        return Ok(None);
    }
    let Some(item) = ports.store.get(&instance_key(id)).await? else { return Ok(None) };
    let record: InstanceRecord = table::read(&item)?;
    Ok((record.organization == organization).then_some(Stored { record, version: item.version }))
}

/// The instance's token, to be shown to its organization.
pub async fn token(service: &Service, record: &InstanceRecord) -> Result<Secret, InstanceError> {
    let opened = service.ports.vault.open(&vault_owner(record.id), &record.token).await;
    Ok(opened.map_err(FlowError::vault("the token of an instance"))?)
}

async fn seal_token(ports: &Ports, id: InstanceId, token: &Secret) -> Result<String, InstanceError> {
    let sealed = ports.vault.seal(&vault_owner(id), token).await;
    Ok(sealed.map_err(FlowError::vault("the token of an instance"))?)
}

// ---------------------------------------------------------------- Resources

/// One polled resource and what is remembered of it.
#[derive(Debug, Clone)]
pub struct ResourceState {
    /// Its name in the configuration.
    pub resource: String,
    /// Minutes between its polls.
    pub interval_minutes: u16,
    /// What the last polls left.
    pub state: ResourceRecord,
}

/// The state of every polled resource, by name.
pub async fn states(service: &Service, record: &InstanceRecord) -> Result<Vec<ResourceState>, InstanceError> {
    let polled = change::polled(record);
    let keys: Vec<Key> = polled.keys().map(|resource| resource_key(record.id, resource)).collect();
    let items = service.ports.store.get_many(&keys).await?;
    polled
        .into_iter()
        .map(|(resource, interval_minutes)| {
            let key = resource_key(record.id, &resource);
            let state = items.iter().find(|item| item.key == key).map(table::read).transpose()?.unwrap_or_default();
            Ok(ResourceState { resource, interval_minutes, state })
        })
        .collect()
}

/// What someone decided about deletions that were held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The records are gone: a complete listing tells them with the next poll, each confirmed by id as ever.
    Approve,
    /// The listing was wrong: nothing is told, and the next complete listing looks again in its own time.
    Reject,
}

/// Decides about the deletions of a resource that are held; answers what they were. None: none are.
pub async fn decide_deletions(
    service: &Service,
    caller: &Caller,
    record: &InstanceRecord,
    resource: &str,
    decision: Decision,
) -> Result<Option<Held>, InstanceError> {
    let key = resource_key(record.id, resource);
    for _ in 0..remove::ATTEMPTS {
        let Some(item) = service.ports.store.get(&key).await? else { return Ok(None) };
        let mut state: ResourceRecord = table::read(&item)?;
        let Some(mut held) = state.held.take() else { return Ok(None) };
        match decision {
            Decision::Approve => {
                held.approved = true;
                state.held = Some(held.clone());
                state.sweep_tried = None;
            }
            Decision::Reject => state.swept_at = Some(service.ports.now()),
        }
        let action = match decision {
            Decision::Approve => Action::DeletionsApproved,
            Decision::Reject => Action::DeletionsRejected,
        };
        let mut entry = AuditRecord::new(service.ports.now(), caller.by(), action).of_instance(record.id);
        entry.resource = Some(resource.to_owned());
        // Two resources may be at the same version.
        let subject = format!("{}-{:016x}", record.id, xxh3_64(resource.as_bytes()));
        let writes = [
            table::replace(key.clone(), item.version, &state),
            entry.write(record.organization, &subject, item.version),
        ];
        match service.ports.store.transact(&writes).await {
            Ok(()) => return Ok(Some(held)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(InstanceError::Raced)
}
