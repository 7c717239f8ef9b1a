//! A vendor's limits are of its account: when the vendor asks one instance for fewer calls, all that share the account
//! pause.
//!
//! The first commit of an instance writes to which account it belongs. The pause is written here, at every member; a
//! poll reads it in the one query that it makes anyway.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::InstanceId;
use store::records::vendor_account;
use store::{Commit, commit, write_each};

use crate::fields;
use crate::service::Service;

/// Members of an account that are paused. Those of a larger one are refused by the vendor themselves.
const MEMBERS_PAUSED: usize = 1000;

/// The additional pause of all but one of an account's instances.
const AFTER_THE_FIRST: TimeDelta = TimeDelta::minutes(2);

/// Pauses every instance of an account until then. A pause that cannot be written is no loss: that instance asks the
/// vendor once more.
pub(super) async fn pause(service: &Service, element: &str, account: &str, own: InstanceId, until: DateTime<Utc>) {
    let store = &*service.ports.store;
    let members = match vendor_account::members(element, account).all(store).await {
        Ok(members) => members,
        Err(error) => {
            tracing::warn!({ fields::INSTANCE } = %own, { fields::ERROR } = %error, "instances of an account not found");
            return;
        }
    };
    for (rank, member) in members.into_iter().take(MEMBERS_PAUSED).enumerate() {
        let Some(id) = vendor_account::member_id(&member) else { continue };
        // One of them asks first; the others hear of the answer before they ask.
        let until = if rank == 0 { until } else { until + AFTER_THE_FIRST };
        match commit(store, &vendor_account::pause_writes(id, until)).await {
            Ok(Commit::Done) => {}
            // The instance was removed, and so is its membership: by the next pause, if not now.
            Ok(Commit::Lost { .. }) => drop(write_each(store, &[member.key().delete()]).await),
            Err(error) => {
                tracing::warn!({ fields::INSTANCE } = %id, { fields::ERROR } = %error, "pause not noted");
            }
        }
    }
}
