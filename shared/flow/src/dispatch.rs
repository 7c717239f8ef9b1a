//! The dispatcher's step: which polls and which retries are due since the hand last moved, onto the queues.
//!
//! It reads the due slots of the wheel and writes nothing but the hand. The poller acts next; it alone decides
//! whether a due poll runs, is skipped or was covered already. The hand moves last: a crash before that sends the
//! same minute again, and polls of a minute already covered do nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use domain::wheel::Slot;
use serde::{Deserialize, Serialize};

use crate::delivery;
use crate::job::{PollJob, Queued};
use crate::ports::{Condition, Item, Message, QueueName, Range, StoreError, query_all};
use crate::service::{FlowError, Service};
use crate::table::{self, Unreadable};

/// Missed minutes caught up with at most: a day, the longest interval, reaches every slot there is.
const LONGEST_CATCH_UP: i64 = 1440;
/// A hand may be so many minutes ahead of the clock, after a second dispatcher or a small step of the clock.
const LARGEST_LEAD: i64 = 5;
/// Minutes of retries behind the hand that are read once more: an entry is filed by the clock of whoever files it, which
/// may be slow, and is stored a while after that. Nobody else would find it there.
const LOOKED_BACK: i64 = 3;
/// So many due polls are simply sent; more are spread over the minute, so that vendors see no spike.
const SENT_AT_ONCE: usize = 200;

/// Body of the hand item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Hand {
    /// How long the polling minutes last that `minute` counts, in milliseconds.
    minute_ms: u64,
    /// The last polling minute dispatched.
    minute: i64,
    /// The last minute of retries dispatched.
    retry_minute: i64,
}

/// The last minute of retries that was dispatched, from the hand's item.
pub(crate) fn retry_minute_of(hand: &Item) -> Result<i64, Unreadable> {
    table::read(hand).map(|hand: Hand| hand.retry_minute)
}

/// What a dispatch did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DispatchReport {
    /// The wheel minute dispatched.
    pub minute: i64,
    /// Minutes it had to catch up with besides.
    pub missed_minutes: i64,
    /// This minute was dispatched already: nothing was sent.
    pub already_dispatched: bool,
    /// Polls put on the queue.
    pub polls: usize,
    /// Deliveries put on the queue again.
    pub retries: usize,
}

/// Sends what is due at `now`, the time of the scheduled event.
pub async fn dispatch(service: &Service, now: DateTime<Utc>) -> Result<DispatchReport, FlowError> {
    let minute = service.wheel.minute_of(now);
    let store = &service.ports.store;
    let hand_item = store.get(&table::hand_key()).await.map_err(FlowError::store("the wheel's hand"))?;
    let hand: Option<Hand> = hand_item.as_ref().map(table::read).transpose()?;
    let retry_minute = Service::RETRY_WHEEL.minute_of(now);
    let retries_done = hand.map_or(retry_minute - 1, |hand| hand.retry_minute.min(retry_minute + LARGEST_LEAD));
    let minute_ms = service.wheel.minute().as_millis() as u64;
    // Minutes of another length count differently, and a hand far in the future was moved by a clock gone wrong:
    // the schedule starts afresh.
    let usable = |hand: &Hand| hand.minute_ms == minute_ms && hand.minute <= minute + LARGEST_LEAD;
    let polls_done = hand.filter(usable).map_or(minute - 1, |hand| hand.minute);
    if polls_done >= minute && retries_done >= retry_minute {
        return Ok(DispatchReport { minute, already_dispatched: true, ..DispatchReport::default() });
    }
    let first = (polls_done + 1).max(minute - LONGEST_CATCH_UP + 1);
    let mut jobs = Vec::new();
    if first <= minute {
        for interval in intervals_in_use(service).await? {
            for (slot, due_minute) in due_slots(interval, first, minute) {
                read_slot(service, slot, due_minute, &mut jobs).await?;
            }
        }
    }
    let polls = jobs.len();
    send_polls(service, jobs).await?;
    // Every minute since, however long ago: a retry entry behind the hand would be found by nobody.
    let minutes = retries_done + 1 - LOOKED_BACK..=retry_minute;
    let retries = delivery::due(&service.ports, &Service::RETRY_WHEEL, minutes).await?;

    let version = hand_item.map_or(0, |item| item.version);
    let hand = Hand { minute_ms, minute: minute.max(polls_done), retry_minute: retry_minute.max(retries_done) };
    let condition = if version == 0 { Condition::Absent } else { Condition::Version(version) };
    match store.transact(&[table::put(table::hand_key(), version + 1, &hand, condition)]).await {
        // A second dispatcher moved the hand meanwhile and sent the same: the poller drops what comes twice.
        Ok(()) | Err(StoreError::Conflict { .. }) => {}
        Err(source) => return Err(FlowError::Store { subject: "the wheel's hand", source }),
    }
    let missed_minutes = (minute - first).max(0);
    Ok(DispatchReport { minute, missed_minutes, already_dispatched: false, polls, retries })
}

async fn intervals_in_use(service: &Service) -> Result<Vec<u16>, FlowError> {
    let marks = query_all(&*service.ports.store, "WHEEL", "INTERVAL#").await;
    let marks = marks.map_err(FlowError::store("the intervals in use"))?;
    Ok(marks.iter().filter_map(|item| item.key.sk.strip_prefix("INTERVAL#")?.parse().ok()).collect())
}

/// The slots of an interval that are due from minute `first` to `last`, each once, with the newest minute it was
/// due in: nobody needs fifteen identical polls.
fn due_slots(interval: u16, first: i64, last: i64) -> BTreeMap<Slot, i64> {
    (first..=last).map(|minute| (Slot::due(interval, minute), minute)).collect()
}

async fn read_slot(service: &Service, slot: Slot, minute: i64, jobs: &mut Vec<PollJob>) -> Result<(), FlowError> {
    let partition = table::slot_partition(slot);
    let range = Range::all();
    let mut after = None;
    loop {
        let page = service.ports.store.query(&partition, &range, after.as_deref()).await;
        let page = page.map_err(FlowError::store("a slot of the wheel"))?;
        for item in &page.items {
            jobs.push(PollJob { minute, ..table::read(item)? });
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn send_polls(service: &Service, jobs: Vec<PollJob>) -> Result<(), FlowError> {
    let count = jobs.len();
    let minute = service.wheel.minute();
    let messages = jobs.iter().enumerate().map(|(place, job)| {
        job.message(if count <= SENT_AT_ONCE { Duration::ZERO } else { minute.mul_f64(place as f64 / count as f64) })
    });
    send_all(service, QueueName::Polls, messages.collect()).await
}

/// Sends messages, once again those that were not taken. An error names how many were not taken even then.
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
    use chrono::TimeDelta;
    use domain::id::{InstanceId, OrganizationId};

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

    /// A world with so many resources that are polled every minute.
    async fn world(resources: u64) -> (TestPorts, Service) {
        let test = TestPorts::new(START, |_| panic!("nobody is asked"));
        let service = test.service();
        let organization = OrganizationId(1);
        let member = |instance| {
            let job = PollJob { organization, instance, resource: "r".into(), minute: 0 };
            table::put(table::slot_key(Slot::of(instance, "r", 1), instance, "r"), 1, &job, Condition::Unconditional)
        };
        let mut writes: Vec<_> = (1..=resources).map(|id| member(InstanceId(id))).collect();
        writes.push(table::put(table::interval_key(1), 1, &(), Condition::Unconditional));
        assert!(service.ports.store.write_each(&writes).await.iter().all(Result::is_ok));
        (test, service)
    }

    async fn hand(service: &Service) -> Hand {
        let item = service.ports.store.get(&table::hand_key()).await.expect("the table").expect("a hand");
        table::read(&item).expect("a hand")
    }

    async fn put_hand(service: &Service, hand: Hand) {
        let write = table::put(table::hand_key(), 1, &hand, Condition::Unconditional);
        service.ports.store.transact(&[write]).await.expect("the table");
    }

    /// Puts the hand so many minutes from now and dispatches: what was reported, and where the hand is then, from now.
    async fn after(polls: i64, retries: i64, minute_ms: u64) -> (DispatchReport, (i64, i64)) {
        let (test, service) = world(1).await;
        let now = test.ports().now();
        let minute = service.wheel.minute_of(now);
        put_hand(&service, Hand { minute_ms, minute: minute + polls, retry_minute: minute + retries }).await;
        let report = dispatch(&service, now).await.expect("a report");
        assert_eq!(report.minute, minute);
        assert_eq!(report.polls, test.queue.len(QueueName::Polls));
        let hand = hand(&service).await;
        (report, (hand.minute - minute, hand.retry_minute - minute))
    }

    #[tokio::test]
    async fn a_minute_is_dispatched_once() {
        let (test, service) = world(3).await;
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
    async fn the_hand_catches_up_and_is_believed_when_it_is_a_little_ahead() {
        let told = |report: DispatchReport| (report.polls, report.missed_minutes, report.already_dispatched);
        const MINUTE: u64 = 60_000;
        for (polls, retries, report, hand) in [
            (-1, -1, (1, 0, false), (0, 0)),
            (-11, -11, (1, 10, false), (0, 0)),
            // A day reaches every slot.
            (-1440, -1, (1, 1439, false), (0, 0)),
            (-1441, -1, (1, 1439, false), (0, 0)),
            (-9999, -9999, (1, 1439, false), (0, 0)),
            (0, 0, (0, 0, true), (0, 0)),
            (5, 5, (0, 0, true), (5, 5)),
            // One of the two hands stands for nothing of the other.
            (0, -1, (0, 0, false), (0, 0)),
            (-1, 0, (1, 0, false), (0, 0)),
            (3, -1, (0, 0, false), (3, 0)),
            (-1, 3, (1, 0, false), (0, 3)),
            // A clock gone wrong moved it there.
            (6, 6, (1, 0, false), (0, 5)),
            (9999, 0, (1, 0, false), (0, 0)),
        ] {
            let (told_report, told_hand) = after(polls, retries, MINUTE).await;
            assert_eq!((told(told_report), told_hand), (report, hand), "{polls} {retries}");
        }
        // Minutes of another length are not these.
        let (report, hand) = after(-11, -1, 1000).await;
        assert_eq!((told(report), hand), ((1, 0, false), (0, 0)));
    }

    #[tokio::test]
    async fn many_polls_are_spread_over_the_minute_and_few_are_not() {
        for (resources, last) in [(SENT_AT_ONCE as u64, 0), (240, 59)] {
            let (test, service) = world(resources).await;
            dispatch(&service, test.ports().now()).await.expect("a report");
            let sent = test.queue.waiting(QueueName::Polls);
            let delays: Vec<u64> = sent.iter().map(|(_, message)| message.delay.as_secs()).collect();
            assert_eq!((delays.len() as u64, delays[0], delays[delays.len() - 1]), (resources, 0, last));
            assert_eq!(delays[delays.len() / 2], last.div_ceil(2));
            assert!(sent.iter().all(|(_, message)| message.group == "1"));
        }
    }

    #[tokio::test]
    async fn what_the_queue_does_not_take_is_offered_once_more() {
        let (test, service) = world(5).await;
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
