//! Element instances: made, read, changed, switched off and removed, each within one organization.
//!
//! Written here are the instance's items, its principal, its listing, and its resources' places on the timing wheel.
//! Next acts the dispatcher, which finds the slots, and then the poller, which reads the instance again at every
//! poll. Not promised: that a poll which is under way when an instance changes ends at once. It reads the old
//! configuration to its end, and its commit fails when its resource was removed or started again.
//!
//! Uses `accounts::{auth, limits, secret}`, `vendor`, `poll` for first polls, and `deliver` for the callback. Used by
//! `accounts::suspend` and by the API.

mod body;
mod callback;
mod check;
mod checked;
mod create;
mod diff;
mod first_poll;
mod list;
mod login;
mod login_url;
mod record;
mod rehearse;
mod remove;
mod resources;
mod review;
mod schedule;
mod signing_key;
mod switch;
#[cfg(test)]
mod tests;
mod token;
mod transition;
mod update;

use domain::id::{InstanceId, OrganizationId};
use domain::problem::FieldProblem;
use store::records::instance::{self, InstanceRecord};
use store::{Attempts, Change, RecordError, Stored};

use crate::ports::Ports;
use crate::service::FlowError;

pub use body::InstanceBody;
pub use callback::{TryCallbackError, try_callback_new, try_callback_of};
pub use create::{Made, create};
pub use list::{ListingQuery, list};
pub use login::{LoginError, ping};
pub use login_url::login_fields;
pub use record::UpdateMode;
pub use rehearse::{Rehearsal, Rehearsed, Sample, rehearse, rehearse_new};
pub use remove::remove;
pub use resources::{Decision, ResourceState, decide_deletions, states};
pub use review::{Review, review, review_new};
pub use signing_key::{NewSigningKey, rotate_signing_key};
pub use switch::{set_disabled, suspend};
pub use token::{NewToken, rotate_token, token};
pub use update::update;

/// The reason why nothing was done.
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
    /// The vendor did not take the login. Nothing was stored.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The instance is not at the version that the change is for. Nothing was changed.
    #[error("the instance has another version than the one to change")]
    OtherVersion,
    /// A record could not be read or written, or others changed it before every try.
    #[error("reading or writing an instance")]
    Record(#[from] RecordError),
    /// Our own trouble.
    #[error(transparent)]
    Flow(#[from] FlowError),
}

/// The instance of this id, if it is the organization's.
///
/// # Errors
/// It is not, or the store failed.
pub async fn get(
    ports: &Ports,
    organization: OrganizationId,
    id: InstanceId,
) -> Result<Stored<InstanceRecord>, InstanceError> {
    instance::get(&*ports.store, organization, id).await?.ok_or(InstanceError::Absent)
}

/// Changes an instance of the organization; decides again on the newer record when others wrote in between.
pub(crate) async fn change<O, F: Future<Output = Result<Change<O>, InstanceError>>>(
    ports: &Ports,
    organization: OrganizationId,
    id: InstanceId,
    decide: impl Fn(Stored<InstanceRecord>) -> F,
) -> Result<O, InstanceError> {
    let store = &*ports.store;
    get(ports, organization, id).await?;
    store::update(store, &*ports.ambient, Attempts::few(), &instance::key(id), async |snapshot| {
        let stored = snapshot.stored().filter(|stored| !stored.record.deleted);
        decide(stored.ok_or(InstanceError::Absent)?).await
    })
    .await
}
