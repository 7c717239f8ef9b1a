//! The dispatcher's part: deliveries whose minute has come go back on the queue.

use std::ops::RangeInclusive;
use std::pin::pin;
use std::time::Duration;

use chrono::TimeDelta;
use domain::retry_minute::RetryMinute;
use futures::TryStreamExt;
use store::port::Write;
use store::records::delivery::{due_in, file_retry};
use store::{Stored, write_each};

use super::{DeliveryError, failed};
use crate::job::{DeliveryJob, Queued};
use crate::ports::{Ports, QueueName};

/// The time that an entry is moved ahead before its job is sent: longer than a job is expected to stay on the queue.
const AHEAD: TimeDelta = TimeDelta::minutes(10);

/// More than so many are spread over a minute.
const AT_ONCE: usize = 50;

/// Sends the jobs filed under these minutes. Answers how many.
///
/// The order: each entry is written again ten minutes ahead, only then is the old one removed, and only then is the
/// job sent. So an entry never lies in a minute that was dispatched, and a job that the queue loses comes again. A crash in
/// between leaves two entries for one delivery; the one too many is removed when its job finds nothing to do.
///
/// # Errors
/// The store failed. What was moved is moved, and asking again for the same minutes does the rest.
pub async fn due(ports: &Ports, minutes: RangeInclusive<RetryMinute>) -> Result<usize, DeliveryError> {
    let mut sent = 0;
    for minute in minutes.start().through(*minutes.end()) {
        let mut pages = pin!(due_in(minute).pages(&*ports.store));
        while let Some(page) = pages.try_next().await.map_err(failed("the deliveries due in a minute"))? {
            sent += move_on(ports, page).await?;
        }
    }
    Ok(sent)
}

async fn move_on(ports: &Ports, due: Vec<Stored<DeliveryJob>>) -> Result<usize, DeliveryError> {
    let ahead = RetryMinute::at(ports.now() + AHEAD);
    let old: Vec<Write> = due.iter().map(|entry| entry.key().delete()).collect();
    let moved = due.into_iter().map(|entry| DeliveryJob { retry_minute: Some(ahead), ..entry.record });
    let jobs: Vec<DeliveryJob> = moved.collect();
    let new: Vec<Write> = jobs.iter().map(|job| file_retry(job, ahead)).collect();
    write_each(&*ports.store, &new).await.map_err(failed("the retry entries of a minute"))?;
    write_each(&*ports.store, &old).await.map_err(failed("the retry entries of a minute"))?;

    let spread = |index: usize| if jobs.len() > AT_ONCE { index * 60 / jobs.len() } else { 0 };
    let messages = jobs.iter().enumerate().map(|(index, job)| job.message(Duration::from_secs(spread(index) as u64)));
    let outcomes = ports.queue.send(QueueName::Deliveries, messages.collect()).await;
    Ok(outcomes.iter().filter(|outcome| outcome.is_ok()).count())
}

#[cfg(test)]
mod tests {
    use domain::id::{DeliveryId, InstanceId, OrganizationId};

    use super::*;
    use crate::testing::TestPorts;
    use store::port::Store;

    #[tokio::test]
    async fn many_that_are_due_at_once_are_spread_over_a_minute_and_moved_ahead_first() {
        for (count, last) in [(AT_ONCE, 0), (AT_ONCE + 1, 58), (120, 59)] {
            let test = TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked"));
            let ports = test.ports();
            let minute = RetryMinute::at(ports.now());
            let job = |n: usize| DeliveryJob {
                organization: OrganizationId(1),
                instance: InstanceId(2),
                row: format!("DLV#{n}"),
                delivery: DeliveryId(format!("{n:04}")),
                retry_minute: Some(minute),
            };
            let entries: Vec<Write> = (0..count).map(|n| file_retry(&job(n), minute)).collect();
            assert!(test.store.write_each(&entries).await.iter().all(Result::is_ok));
            assert_eq!(due(&ports, minute..=minute).await.expect("sent"), count);
            let delays: Vec<u64> =
                test.queue.waiting(QueueName::Deliveries).iter().map(|(_, message)| message.delay.as_secs()).collect();
            assert_eq!((delays.len(), delays[0], delays[count - 1]), (count, 0, last));
            assert!(delays.is_sorted());
            let ahead = format!("RETRY#{}", minute + 10);
            assert!(
                test.store.items().iter().all(|item| item.key.pk == ahead),
                "none is left in a minute that was dispatched"
            );
            assert_eq!(test.store.items().len(), count);
        }
    }
}
