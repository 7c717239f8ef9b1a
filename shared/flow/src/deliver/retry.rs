//! When the next attempt of a delivery is filed: its entry among the retries of a minute, and its message.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::retry_minute::RetryMinute;
use store::port::Write;
use store::records::delivery::file_retry;

use crate::deliver::outbox::entry_minute;
use crate::fields::{self, Chain};
use crate::job::{DeliveryJob, Queued};
use crate::ports::{LONGEST_QUEUE_DELAY, Message, Ports, QueueName};

/// The next attempt of a delivery, as it is filed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Retry {
    /// The minute of its entry.
    pub(super) minute: RetryMinute,
    /// The job, which names that minute.
    pub(super) job: DeliveryJob,
    /// The delay of its message, which normally gets there first. None: the entry alone brings it.
    delay: Option<Duration>,
}

impl Retry {
    /// Files an attempt at `at`. A message can wait 15 minutes: within these the entry is only a safeguard and comes
    /// later by [`crate::deliver::outbox::GRACE`].
    pub(super) fn at(job: &DeliveryJob, at: DateTime<Utc>, now: DateTime<Utc>) -> Self {
        let wait = (at - now).max(TimeDelta::zero());
        // Whole seconds, rounded up: a message must not come early.
        let delay = Duration::from_secs((wait.num_milliseconds() as u64).div_ceil(1000));
        let (minute, delay) = match delay <= LONGEST_QUEUE_DELAY {
            true => (entry_minute(at.max(now)), Some(delay)),
            // An entry is read as its minute begins, so the first minute that begins after the instant.
            false => (RetryMinute::at(at) + 1, None),
        };
        Self { minute, job: DeliveryJob { retry_minute: Some(minute), ..job.clone() }, delay }
    }

    /// Writes the entry.
    pub(super) fn entry(&self) -> Write {
        file_retry(&self.job, self.minute)
    }

    /// The message, where one is sent.
    pub(super) fn message(&self) -> Option<Message> {
        self.delay.map(|delay| self.job.message(delay))
    }
}

/// Sends what the transaction before it has made safe. What the queue does not take comes by its entry.
pub(super) async fn send(ports: &Ports, messages: Vec<Message>) {
    if messages.is_empty() {
        return;
    }
    for outcome in ports.queue.send(QueueName::Deliveries, messages).await {
        if let Err(error) = outcome {
            tracing::warn!({ fields::ERROR } = %Chain(&error), "a delivery waits for its retry entry");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::outbox::tests::{change, filed, now};

    #[test]
    fn what_comes_soon_has_a_message_and_its_entry_is_a_safeguard() {
        let filed = filed(Some("https://a.example/"), &[change("1", 1, "{}")], now());
        let job = filed[0].job.as_ref().expect("a job");
        let at = |milliseconds| now() + TimeDelta::milliseconds(milliseconds);
        let minute = RetryMinute::at(now());
        for (milliseconds, expected) in [
            (0, (minute + 2, Some(0))),
            (-5000, (minute + 2, Some(0))),
            (1200, (minute + 2, Some(2))),
            (60_000, (minute + 3, Some(60))),
            (900_000, (minute + 17, Some(900))),
            (901_000, (minute + 16, None)),
            (3_600_000, (minute + 61, None)),
        ] {
            let retry = Retry::at(job, at(milliseconds), now());
            let delay = retry.message().map(|message| message.delay.as_secs());
            assert_eq!((retry.minute, delay), expected, "{milliseconds}");
            assert_eq!(retry.job.retry_minute, Some(retry.minute));
        }
    }
}
