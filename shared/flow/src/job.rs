//! What travels on the queues. Written and read here alone; tagged with a version so that messages in flight
//! during an upgrade still parse.

use std::time::Duration;

use domain::id::{DeliveryId, InstanceId, OrganizationId};
use serde::{Deserialize, Serialize};

use crate::ports::Message;

/// Poll one resource of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job", rename = "poll.v1")]
pub struct PollJob {
    /// Whose.
    pub organization: OrganizationId,
    /// Which account.
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
    /// Whose.
    pub organization: OrganizationId,
    /// Which account.
    pub instance: InstanceId,
    /// Sort key of the delivery row under the instance, `DLV#…`.
    pub row: String,
    /// Which delivery.
    pub delivery: DeliveryId,
    /// The `RETRY#` minute under which the delivery is filed, so that it can be taken off. None: it is not; the next
    /// poll of its resource looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_minute: Option<i64>,
}

impl PollJob {
    /// The message that carries it, in the queue's group of its organization.
    pub fn message(&self, delay: Duration) -> Message {
        message(self, self.organization, delay)
    }
}

impl DeliveryJob {
    /// For the delivery whose row has this sort key. None: no delivery's has.
    pub(crate) fn of_row(
        organization: OrganizationId,
        instance: InstanceId,
        row: String,
        retry_minute: Option<i64>,
    ) -> Option<Self> {
        let delivery = DeliveryId(row.strip_prefix("DLV#")?.split_once('#')?.1.to_owned());
        Some(Self { organization, instance, row, delivery, retry_minute })
    }

    /// The message that carries it, in the queue's group of its organization.
    pub fn message(&self, delay: Duration) -> Message {
        message(self, self.organization, delay)
    }
}

fn message(job: &impl Serialize, organization: OrganizationId, delay: Duration) -> Message {
    let body = serde_json::to_string(job).expect("jobs have text keys and serialize");
    Message { body, delay, group: organization.to_string() }
}
