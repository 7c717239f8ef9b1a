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
use crate::job::PollJob;
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
    let earliest = first.max(last - i64::from(interval) + 1);
    (earliest..=last).map(|minute| (Slot::due(interval, minute), minute)).collect()
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
    let messages = jobs.into_iter().enumerate().map(|(place, job)| Message {
        body: serde_json::to_string(&job).expect("jobs serialize"),
        delay: if count <= SENT_AT_ONCE { Duration::ZERO } else { minute.mul_f64(place as f64 / count as f64) },
        group: job.organization.to_string(),
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
    use super::*;

    #[test]
    fn a_slot_missed_several_times_is_due_once_with_its_newest_minute() {
        let slots: Vec<_> = due_slots(5, 100, 112).into_iter().map(|(slot, minute)| (slot.minute, minute)).collect();
        assert_eq!(slots, [(0, 110), (1, 111), (2, 112), (3, 108), (4, 109)]);
        let one: Vec<_> = due_slots(15, 100, 100).into_values().collect();
        assert_eq!(one, [100]);
    }
}
