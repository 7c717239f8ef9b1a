//! The dispatcher's part: deliveries whose minute has come go back on the queue.

use std::ops::RangeInclusive;
use std::time::Duration;

use chrono::TimeDelta;
use domain::retry_minute::RetryMinute;

use super::{DeliveryError, store};
use crate::job::{DeliveryJob, Queued};
use crate::outbox::retry_entry;
use crate::ports::{Condition, Item, Ports, QueueName, Range, Write};
use crate::table::{read, retry_partition};

/// How far ahead an entry is moved before its job is sent: longer than a job is expected to stay on the queue.
const AHEAD: TimeDelta = TimeDelta::minutes(10);

/// More than so many are spread over a minute.
const AT_ONCE: usize = 50;

/// Sends the jobs filed under these minutes. Answers how many.
///
/// The order: each entry is written again ten minutes ahead, only then is the old one removed, and only then is the
/// job sent. So an entry never lies behind the wheel's hand, and a job that the queue loses comes again. A crash in
/// between leaves two entries for one delivery; the one too many is removed when its job finds nothing to do.
///
/// # Errors
/// The store failed. What was moved is moved, and asking again for the same minutes does the rest.
pub async fn due(ports: &Ports, minutes: RangeInclusive<RetryMinute>) -> Result<usize, DeliveryError> {
    let mut sent = 0;
    for minute in minutes.start().through(*minutes.end()) {
        let (partition, mut after) = (retry_partition(minute), None);
        let range = Range::all();
        loop {
            let page = ports.store.query(&partition, &range, after.as_deref()).await;
            let page = page.map_err(store("the deliveries due in a minute"))?;
            sent += move_on(ports, &page.items).await?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(sent)
}

async fn move_on(ports: &Ports, items: &[Item]) -> Result<usize, DeliveryError> {
    let retry_minute = RetryMinute::at(ports.now() + AHEAD);
    let mut jobs = Vec::with_capacity(items.len());
    for item in items {
        jobs.push(DeliveryJob { retry_minute: Some(retry_minute), ..read(item)? });
    }
    write_each(ports, jobs.iter().map(|job| retry_entry(job, retry_minute)).collect()).await?;
    let old = |item: &Item| Write::Delete { key: item.key.clone(), condition: Condition::Unconditional };
    write_each(ports, items.iter().map(old).collect()).await?;

    let spread = |index: usize| if jobs.len() > AT_ONCE { index * 60 / jobs.len() } else { 0 };
    let messages = jobs.iter().enumerate().map(|(index, job)| job.message(Duration::from_secs(spread(index) as u64)));
    let outcomes = ports.queue.send(QueueName::Deliveries, messages.collect()).await;
    Ok(outcomes.iter().filter(|outcome| outcome.is_ok()).count())
}

async fn write_each(ports: &Ports, writes: Vec<Write>) -> Result<(), DeliveryError> {
    if writes.is_empty() {
        return Ok(());
    }
    let outcomes = ports.store.write_each(&writes).await;
    outcomes.into_iter().collect::<Result<(), _>>().map_err(store("the retry entries of a minute"))
}

#[cfg(test)]
mod tests {
    use domain::id::{DeliveryId, InstanceId, OrganizationId};

    use super::*;
    use crate::ports::Store;
    use crate::testing::TestPorts;

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
            let entries: Vec<Write> = (0..count).map(|n| retry_entry(&job(n), minute)).collect();
            assert!(test.store.write_each(&entries).await.iter().all(Result::is_ok));
            assert_eq!(due(&ports, minute..=minute).await.expect("sent"), count);
            let delays: Vec<u64> =
                test.queue.waiting(QueueName::Deliveries).iter().map(|(_, message)| message.delay.as_secs()).collect();
            assert_eq!((delays.len(), delays[0], delays[count - 1]), (count, 0, last));
            assert!(delays.is_sorted());
            let ahead = retry_partition(minute + 10);
            assert!(test.store.items().iter().all(|item| item.key.pk == ahead), "none is left behind the hand");
            assert_eq!(test.store.items().len(), count);
        }
    }
}
