//! Messages that carry jobs, each in the queue's group of its organization.

use std::time::Duration;

use domain::id::OrganizationId;
use serde::Serialize;
pub use store::records::job::{DeliveryJob, PollJob};

use crate::ports::Message;

/// A job as a message of the queue.
pub trait Queued {
    /// The message that carries it and that nobody sees before `delay`.
    fn message(&self, delay: Duration) -> Message;
}

impl Queued for PollJob {
    fn message(&self, delay: Duration) -> Message {
        message(self, self.organization, delay)
    }
}

impl Queued for DeliveryJob {
    fn message(&self, delay: Duration) -> Message {
        message(self, self.organization, delay)
    }
}

fn message(job: &impl Serialize, organization: OrganizationId, delay: Duration) -> Message {
    let body = serde_json::to_string(job).expect("jobs have text keys and serialize");
    Message { body, delay, group: organization.to_string() }
}
