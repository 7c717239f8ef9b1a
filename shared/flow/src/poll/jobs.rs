//! Messages that a poll sends: itself once more, and the deliveries that it committed.

use std::time::Duration;

use crate::job::{PollJob, Queued};
use crate::ports::{Message, QueueName};
use crate::service::Service;

/// A job is sent again by the queue within this time; longer pauses wait for the timing wheel.
pub(super) const LONGEST_REQUEUE: Duration = Duration::from_secs(15 * 60);

/// Sends the job again. A message that the queue does not take is no loss: the next slot of the wheel comes.
pub(super) async fn requeue(service: &Service, job: &PollJob, delay: Duration) {
    // A whole second later than the pause, so that the message does not arrive within it.
    let delay = if delay.is_zero() { delay } else { delay + Duration::from_secs(1) };
    for outcome in service.ports.queue.send(QueueName::Polls, vec![job.message(delay)]).await {
        if let Err(error) = outcome {
            tracing::warn!(error = %error, "a poll could not be queued again");
        }
    }
}

/// Sends the jobs of committed deliveries. Those that the queue does not take are sent by the safeguard of each row.
pub(super) async fn send_deliveries(service: &Service, jobs: Vec<Message>) {
    if jobs.is_empty() {
        return;
    }
    let refused =
        service.ports.queue.send(QueueName::Deliveries, jobs).await.iter().filter(|sent| sent.is_err()).count();
    if refused > 0 {
        tracing::warn!(refused, "deliveries could not be queued; their retry entries or the next poll will bring them");
    }
}
