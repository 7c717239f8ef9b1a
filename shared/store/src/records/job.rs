//! Jobs: what travels on the queues and lies in slots and retry entries. Tagged with a version, so that messages in
//! flight during an upgrade still parse.

use domain::delivery::DeliveryKey;
use domain::id::{DeliveryId, InstanceId, OrganizationId};
use domain::retry_minute::RetryMinute;
use serde::{Deserialize, Serialize};

use super::delivery;

/// Poll one resource of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename = "poll.v1")]
pub struct PollJob {
    /// Its organization.
    pub organization: OrganizationId,
    /// Its instance.
    pub instance: InstanceId,
    /// Key in `event.poller.configuration`.
    pub resource: String,
    /// The wheel minute it was due in; a poll already covered by a later minute is skipped.
    pub minute: i64,
}

/// Try one delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename = "delivery.v1")]
pub struct DeliveryJob {
    /// Its organization.
    pub organization: OrganizationId,
    /// Its instance.
    pub instance: InstanceId,
    /// Sort key of the delivery row under the instance, `DLV#…`.
    pub row: String,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The `RETRY#` minute under which the delivery is filed, so that it can be taken off. None: it is not; the next
    /// poll of its resource looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_minute: Option<RetryMinute>,
}

impl DeliveryJob {
    /// The job of the delivery whose record has this sort key. None: no delivery has it.
    pub fn of_row(
        organization: OrganizationId,
        instance: InstanceId,
        row: String,
        retry_minute: Option<RetryMinute>,
    ) -> Option<Self> {
        let delivery = delivery::delivery_of(&row)?;
        Some(Self { organization, instance, row, delivery, retry_minute })
    }

    /// The job of the delivery with this key behind its callback. None: no delivery has it.
    pub fn of_key(organization: OrganizationId, key: &DeliveryKey, retry_minute: Option<RetryMinute>) -> Option<Self> {
        let (row, instance) = delivery::row_behind(key)?;
        Self::of_row(organization, instance, row, retry_minute)
    }

    /// The delivery's key behind its callback: sorts by when it was committed.
    pub fn key(&self) -> DeliveryKey {
        delivery::behind_callback(&self.row, self.instance)
    }
}
