//! A vendor's limits are of its account, not of our instance: who is told to call less tells all that share it.
//!
//! Written here: who belongs to an account (once, with an instance's first commit), and at every member the word
//! that the vendor wants no calls. A poll reads that word in the one query it makes anyway.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::InstanceId;

use super::Run;
use crate::fields;
use crate::ports::{Condition, Item, Key, StoreError, Write, query_all};
use crate::service::Service;
use crate::table::{self, PauseRecord};

/// An account of so many instances is told in part; the others learn it from the vendor.
const MEMBERS_TOLD: usize = 1000;

/// How much longer all but one of an account's instances wait.
const AFTER_THE_FIRST: TimeDelta = TimeDelta::minutes(2);

impl Run<'_> {
    /// Files the instance among those of its account.
    pub(super) fn membership(&self, account: &str) -> Write {
        let key = table::account_key(&self.session.element().key, account, self.job.instance);
        table::put(key, 1, &(), Condition::Unconditional)
    }
}

/// Notes at every instance of an account that the vendor wants no calls until then. What cannot be written is no
/// loss: that instance asks the vendor once more.
pub(super) async fn pause(service: &Service, element: &str, account: &str, own: InstanceId, until: DateTime<Utc>) {
    let store = &*service.ports.store;
    let members = match query_all(store, &table::account_partition(element, account), "").await {
        Ok(members) => members,
        Err(error) => {
            tracing::warn!({ fields::INSTANCE } = %own, { fields::ERROR } = %error, "instances of an account not found");
            return;
        }
    };
    for (rank, member) in members.into_iter().take(MEMBERS_TOLD).enumerate() {
        let Some(id) = member.key.sk.parse().ok().map(InstanceId) else { continue };
        // One of them asks first; what it is told, the others hear before they ask.
        let until = if rank == 0 { until } else { until + AFTER_THE_FIRST };
        match store.transact(&note(id, until)).await {
            Ok(()) => {}
            // It was removed: so is its place.
            Err(StoreError::Conflict { .. }) => {
                store.write_each(&[Write::Delete { key: member.key, condition: Condition::Unconditional }]).await;
            }
            Err(error) => {
                tracing::warn!({ fields::INSTANCE } = %id, { fields::ERROR } = %error, "pause not noted");
            }
        }
    }
}

fn note(id: InstanceId, until: DateTime<Utc>) -> [Write; 2] {
    let key: Key = table::instance_key(id);
    let body = serde_json::to_vec(&PauseRecord { until }).expect("dates serialize");
    let expires_at = Some(until + TimeDelta::days(1));
    let item = Item { key: table::pause_key(id), version: 1, body: body.into(), expires_at };
    [Write::Check { key, condition: Condition::Present }, Write::Put { item, condition: Condition::Unconditional }]
}
