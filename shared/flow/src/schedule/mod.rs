//! The schedule: the polls and retries that are due since the last dispatch go onto the queues.
//!
//! It reads the due slots of the timing wheel and writes nothing but how far it got. The poller acts next; it alone
//! decides whether a due poll runs, is skipped or was covered already. How far it got is written last: a crash before
//! that sends the same minute again, and polls of a minute already covered do nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::retry_minute::RetryMinute;
use domain::wheel::{LONGEST_INTERVAL, Slot};
use futures::TryStreamExt;
use serde::Serialize;
use store::records::job::PollJob;
use store::records::schedule::{self as records, DispatchedUntil, dispatched_until_key};
use store::{Commit, commit};

use crate::deliver as delivery;
use crate::job::{Queued, send_all};
use crate::ports::QueueName;
use crate::service::{FlowError, Service};

/// Missed minutes that are caught up at most: a day, the longest interval, reaches every slot there is.
const LONGEST_CATCH_UP: i64 = LONGEST_INTERVAL as i64;
/// The last dispatched minute may be so many minutes ahead of the clock, after a second dispatcher or a small step of the clock.
const LARGEST_LEAD: i64 = 5;
/// Minutes of retries before the last dispatched one that are read once more: an entry is filed by the clock of the
/// process that files it, which may be slow, and is stored a while after that. Nothing else would find it there.
const LOOKED_BACK: i64 = 3;
/// Up to so many due polls are sent at once; more are spread over the minute, so that vendors see no spike.
const SENT_AT_ONCE: usize = 200;

/// The figures of a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DispatchReport {
    /// The polling minute that was dispatched.
    pub minute: i64,
    /// Number of minutes that were caught up besides.
    pub missed_minutes: i64,
    /// This minute was dispatched before: nothing was sent.
    pub already_dispatched: bool,
    /// Number of polls put on the queue.
    pub polls: usize,
    /// Number of deliveries put on the queue again.
    pub retries: usize,
}

/// Minutes that were dispatched before, as far as that can be believed.
struct Progress {
    polls: i64,
    retries: RetryMinute,
}

impl Progress {
    /// Minutes of another length count differently, and a minute far in the future was dispatched by a clock gone
    /// wrong: then the schedule starts afresh.
    fn of(stored: Option<&DispatchedUntil>, minute_ms: u64, minute: i64, retry_minute: RetryMinute) -> Self {
        let usable = |done: &&DispatchedUntil| done.minute_ms == minute_ms && done.minute <= minute + LARGEST_LEAD;
        Self {
            polls: stored.filter(usable).map_or(minute - 1, |done| done.minute),
            retries: stored.map_or(retry_minute - 1, |done| done.retry_minute.min(retry_minute + LARGEST_LEAD)),
        }
    }
}

/// Sends what is due at `now`, the time of the scheduled event.
///
/// # Errors
/// Store or queue failed. What was sent is sent again with the next dispatch.
pub async fn dispatch(service: &Service, now: DateTime<Utc>) -> Result<DispatchReport, FlowError> {
    let store = &*service.ports.store;
    let (minute, retry_minute) = (service.wheel.minute_of(now), RetryMinute::at(now));
    let minute_ms = service.wheel.minute().as_millis() as u64;
    let failed = FlowError::record("the dispatched minute");
    let snapshot = dispatched_until_key().snapshot(store).await.map_err(failed)?;
    let done = Progress::of(snapshot.record(), minute_ms, minute, retry_minute);
    if done.polls >= minute && done.retries >= retry_minute {
        return Ok(DispatchReport { minute, already_dispatched: true, ..DispatchReport::default() });
    }
    let first = (done.polls + 1).max(minute - LONGEST_CATCH_UP + 1);
    let jobs = if first <= minute { due_polls(service, first, minute).await? } else { Vec::new() };
    let polls = jobs.len();
    send_polls(service, jobs).await?;
    // Every minute since, however long ago: nothing would find a retry entry before the dispatched minute.
    let minutes = done.retries + 1 - LOOKED_BACK..=retry_minute;
    let retries = delivery::due(&service.ports, minutes).await?;

    let done =
        DispatchedUntil { minute_ms, minute: minute.max(done.polls), retry_minute: retry_minute.max(done.retries) };
    match commit(store, &[snapshot.put(&done)]).await.map_err(FlowError::store("the dispatched minute"))? {
        // A second dispatcher was faster and sent the same: the poller drops what comes twice.
        Commit::Done | Commit::Lost { .. } => {}
    }
    let missed_minutes = (minute - first).max(0);
    Ok(DispatchReport { minute, missed_minutes, already_dispatched: false, polls, retries })
}

/// The polls due from minute `first` to `last`, each once, with the newest minute it was due in.
async fn due_polls(service: &Service, first: i64, last: i64) -> Result<Vec<PollJob>, FlowError> {
    let store = &*service.ports.store;
    let mut jobs = Vec::new();
    let intervals = records::intervals(store).await.map_err(FlowError::record("the intervals in use"))?;
    for interval in intervals {
        for (slot, minute) in due_slots(interval, first, last) {
            let mut pages = std::pin::pin!(records::members(slot).pages(store));
            while let Some(members) = pages.try_next().await.map_err(FlowError::record("a slot of the wheel"))? {
                jobs.extend(members.into_iter().map(|member| PollJob { minute, ..member.record }));
            }
        }
    }
    Ok(jobs)
}

/// The slots of an interval that are due from minute `first` to `last`, each once, with the newest minute it was
/// due in: nobody needs fifteen identical polls.
fn due_slots(interval: u16, first: i64, last: i64) -> BTreeMap<Slot, i64> {
    (first..=last).map(|minute| (Slot::due(interval, minute), minute)).collect()
}

async fn send_polls(service: &Service, jobs: Vec<PollJob>) -> Result<(), FlowError> {
    let count = jobs.len();
    let minute = service.wheel.minute();
    let messages = jobs.iter().enumerate().map(|(place, job)| {
        job.message(if count <= SENT_AT_ONCE { Duration::ZERO } else { minute.mul_f64(place as f64 / count as f64) })
    });
    send_all(service, QueueName::Polls, messages.collect()).await
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use domain::id::{InstanceId, OrganizationId};

    use store::Write;

    use super::*;
    use crate::testing::TestPorts;

    #[test]
    fn a_slot_missed_several_times_is_due_once_with_its_newest_minute() {
        let slots: Vec<_> = due_slots(5, 100, 112).into_iter().map(|(slot, minute)| (slot.minute, minute)).collect();
        assert_eq!(slots, [(0, 110), (1, 111), (2, 112), (3, 108), (4, 109)]);
        let one: Vec<_> = due_slots(15, 100, 100).into_values().collect();
        assert_eq!(one, [100]);
    }

    const START: &str = "2026-01-05T09:00:00Z";

    /// A service with so many resources that are polled every minute.
    async fn polled(resources: u64) -> (TestPorts, Service) {
        let test = TestPorts::new(START, |_| panic!("nobody is asked"));
        let service = test.service();
        let organization = OrganizationId(1);
        let member = |instance| {
            let job = PollJob { organization, instance, resource: "r".into(), minute: 0 };
            records::member_key(Slot::of(instance, "r", 1), instance, "r").put(&job)
        };
        let mut writes: Vec<Write> = (1..=resources).map(|id| member(InstanceId(id))).collect();
        writes.push(records::mark_interval(1));
        assert!(service.ports.store.write_each(&writes).await.iter().all(Result::is_ok));
        (test, service)
    }

    async fn dispatched_until(service: &Service) -> DispatchedUntil {
        let stored = dispatched_until_key().get(&*service.ports.store).await.expect("the table");
        stored.expect("a dispatched minute").record
    }

    /// Dispatches where the last dispatched minutes are so many from now: the report, and the minutes then, from now.
    async fn after(polls: i64, retries: i64, minute_ms: u64) -> (DispatchReport, (i64, i64)) {
        let (test, service) = polled(1).await;
        let now = test.ports().now();
        let minute = service.wheel.minute_of(now);
        let done = DispatchedUntil { minute_ms, minute: minute + polls, retry_minute: RetryMinute::at(now) + retries };
        assert_eq!(commit(&*test.store, &[dispatched_until_key().put(&done)]).await, Ok(Commit::Done));
        let report = dispatch(&service, now).await.expect("a report");
        assert_eq!(report.minute, minute);
        assert_eq!(report.polls, test.queue.len(QueueName::Polls));
        let done = dispatched_until(&service).await;
        (report, (done.minute - minute, done.retry_minute - RetryMinute::at(now)))
    }

    #[tokio::test]
    async fn a_minute_is_dispatched_once() {
        let (test, service) = polled(3).await;
        let now = test.ports().now();
        let minute = service.wheel.minute_of(now);
        let first = dispatch(&service, now).await.expect("a report");
        assert_eq!(first, DispatchReport { minute, polls: 3, ..DispatchReport::default() });
        let again = dispatch(&service, now).await.expect("a report");
        assert_eq!(again, DispatchReport { minute, already_dispatched: true, ..DispatchReport::default() });
        assert_eq!(test.queue.len(QueueName::Polls), 3);
        let next = dispatch(&service, now + TimeDelta::minutes(1)).await.expect("a report");
        assert_eq!((next.minute, next.polls, next.missed_minutes), (minute + 1, 3, 0));
        let late = dispatch(&service, now + TimeDelta::minutes(5)).await.expect("a report");
        assert_eq!((late.minute, late.polls, late.missed_minutes), (minute + 5, 3, 3));
    }

    #[tokio::test]
    async fn missed_minutes_are_caught_up_and_a_small_lead_is_believed() {
        let figures = |report: DispatchReport| (report.polls, report.missed_minutes, report.already_dispatched);
        const MINUTE: u64 = 60_000;
        for (polls, retries, report, minutes) in [
            (-1, -1, (1, 0, false), (0, 0)),
            (-11, -11, (1, 10, false), (0, 0)),
            // A day reaches every slot.
            (-1440, -1, (1, 1439, false), (0, 0)),
            (-1441, -1, (1, 1439, false), (0, 0)),
            (-9999, -9999, (1, 1439, false), (0, 0)),
            (0, 0, (0, 0, true), (0, 0)),
            (5, 5, (0, 0, true), (5, 5)),
            // One of the two minutes stands for nothing of the other.
            (0, -1, (0, 0, false), (0, 0)),
            (-1, 0, (1, 0, false), (0, 0)),
            (3, -1, (0, 0, false), (3, 0)),
            (-1, 3, (1, 0, false), (0, 3)),
            // A clock gone wrong dispatched it.
            (6, 6, (1, 0, false), (0, 5)),
            (9999, 0, (1, 0, false), (0, 0)),
        ] {
            let (reported, reached) = after(polls, retries, MINUTE).await;
            assert_eq!((figures(reported), reached), (report, minutes), "{polls} {retries}");
        }
        // Minutes of another length are not these.
        let (report, reached) = after(-11, -1, 1000).await;
        assert_eq!((figures(report), reached), ((1, 0, false), (0, 0)));
    }

    #[tokio::test]
    async fn many_polls_are_spread_over_the_minute_and_few_are_not() {
        for (resources, last) in [(SENT_AT_ONCE as u64, 0), (240, 59)] {
            let (test, service) = polled(resources).await;
            dispatch(&service, test.ports().now()).await.expect("a report");
            let sent = test.queue.waiting(QueueName::Polls);
            let delays: Vec<u64> = sent.iter().map(|(_, message)| message.delay.as_secs()).collect();
            assert_eq!((delays.len() as u64, delays[0], delays[delays.len() - 1]), (resources, 0, last));
            assert_eq!(delays[delays.len() / 2], last.div_ceil(2));
            assert!(sent.iter().all(|(_, message)| message.group == "1"));
        }
    }
}
