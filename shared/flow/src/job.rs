//! Messages that carry jobs, each in the queue's group of its organization, and sending them.

use std::time::Duration;

use domain::id::OrganizationId;
use serde::Serialize;
pub use store::records::job::{DeliveryJob, PollJob};

use crate::ports::{Message, QueueName};
use crate::service::{FlowError, Service};

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

/// Sends messages, once more those that were not taken.
///
/// # Errors
/// The number of messages that were not taken even then.
pub async fn send_all(service: &Service, queue: QueueName, messages: Vec<Message>) -> Result<(), FlowError> {
    if messages.is_empty() {
        return Ok(());
    }
    let outcomes = service.ports.queue.send(queue, messages.clone()).await;
    let again: Vec<Message> = messages
        .into_iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| outcome.is_err())
        .map(|(message, _)| message)
        .collect();
    if again.is_empty() {
        return Ok(());
    }
    let count = service.ports.queue.send(queue, again).await.iter().filter(|outcome| outcome.is_err()).count();
    if count == 0 { Ok(()) } else { Err(FlowError::Queue { count }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestPorts;

    #[tokio::test]
    async fn what_the_queue_does_not_take_is_offered_once_more() {
        let test = TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked"));
        let service = test.service();
        let message = |body: &str| Message { body: body.into(), delay: Duration::ZERO, group: "1".into() };
        let send = async |refuse| {
            test.queue.refuse_next(refuse);
            send_all(&service, QueueName::Polls, ["a", "b", "c"].map(message).to_vec()).await
        };
        let bodies =
            || test.queue.take(QueueName::Polls, 10).into_iter().map(|message| message.body).collect::<String>();
        assert!(send(0).await.is_ok());
        assert_eq!(bodies(), "abc");
        assert!(send(2).await.is_ok());
        assert_eq!(bodies(), "cab");
        assert!(matches!(send(4).await, Err(FlowError::Queue { count: 1 })));
        assert_eq!(bodies(), "bc");
    }
}
