//! The two queues on one machine, in memory: visibility, receive counts, delays, redelivery and dead letters as
//! SQS has them, and taking turns between organizations. What a restart loses, the next slot or the retry entry of
//! a delivery repairs.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flow::ports::{LONGEST_QUEUE_DELAY, Message, Queue, QueueError, QueueName};
use tokio::sync::Notify;
use tokio::time::Instant;

/// SQS takes a body up to 1 MiB.
const LARGEST_MESSAGE: usize = 1024 * 1024;

/// The treatment of messages that were received.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Time that a received message stays hidden unless it is deleted.
    pub visibility: Duration,
    /// A message received so often and not deleted becomes a dead letter instead of being received again.
    pub max_receives: u32,
}

impl Default for Policy {
    /// As in the cloud: six times a poll's longest run, and five receives.
    fn default() -> Self {
        Self { visibility: Duration::from_secs(360), max_receives: 5 }
    }
}

/// Names one receive of one message. It is void once the message is deleted or received again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Receipt {
    queue: QueueName,
    message: u64,
    receive: u32,
}

/// A message in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The same on every receive.
    pub id: u64,
    /// For [`LocalQueue::delete`].
    pub receipt: Receipt,
    /// JSON of a job.
    pub body: String,
    /// The fair-queueing group it was sent with.
    pub group: String,
    /// 1 on the first receive.
    pub receive_count: u32,
}

/// Both queues.
#[derive(Debug, Default)]
pub struct LocalQueue {
    policy: Policy,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    lanes: BTreeMap<QueueName, Lane>,
}

/// One queue. A message is in `ready` or in `hidden`, by its id, until it is deleted or dead.
#[derive(Debug, Default)]
struct Lane {
    messages: HashMap<u64, Stored>,
    /// Groups that have something ready, whose turn is next in front.
    ready: VecDeque<(String, VecDeque<u64>)>,
    /// When a delayed or received message is to be seen.
    hidden: BTreeSet<(Instant, u64)>,
    dead: Vec<Received>,
}

#[derive(Debug)]
struct Stored {
    body: String,
    group: String,
    receives: u32,
    /// When it is hidden, until when.
    until: Option<Instant>,
}

impl Lane {
    fn make_ready(&mut self, id: u64) {
        let Some(stored) = self.messages.get_mut(&id) else { return };
        stored.until = None;
        match self.ready.iter_mut().find(|(group, _)| *group == stored.group) {
            Some((_, ids)) => ids.push_back(id),
            None => self.ready.push_back((stored.group.clone(), VecDeque::from([id]))),
        }
    }

    fn hide(&mut self, id: u64, until: Instant) {
        if let Some(stored) = self.messages.get_mut(&id) {
            stored.until = Some(until);
            self.hidden.insert((until, id));
        }
    }

    /// Brings out what was hidden until `now`.
    fn uncover(&mut self, now: Instant) {
        while let Some((_, id)) = self.hidden.first().copied().filter(|(until, _)| *until <= now) {
            self.hidden.pop_first();
            self.make_ready(id);
        }
    }

    /// The next message of the group whose turn it is.
    fn next(&mut self) -> Option<u64> {
        let (group, mut ids) = self.ready.pop_front()?;
        let id = ids.pop_front();
        if !ids.is_empty() {
            self.ready.push_back((group, ids));
        }
        id
    }
}

impl LocalQueue {
    /// Empty queues.
    pub fn new(policy: Policy) -> Self {
        Self { policy, ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the queues would still be in order.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send_at(&self, now: Instant, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>> {
        let mut outcomes = Vec::with_capacity(messages.len());
        let mut state = self.lock();
        for message in messages {
            if message.body.is_empty() || message.body.len() > LARGEST_MESSAGE {
                outcomes.push(Err(QueueError(format!("a body of {} bytes", message.body.len()))));
                continue;
            }
            state.last_id += 1;
            let id = state.last_id;
            let lane = state.lanes.entry(queue).or_default();
            let Message { body, group, delay } = message;
            lane.messages.insert(id, Stored { body, group, receives: 0, until: None });
            match delay.min(LONGEST_QUEUE_DELAY).as_secs() {
                0 => lane.make_ready(id),
                seconds => lane.hide(id, now + Duration::from_secs(seconds)),
            }
            outcomes.push(Ok(()));
        }
        drop(state);
        self.changed.notify_waiters();
        outcomes
    }

    /// Up to `max` messages, at least one: waits until there is one. Giving up the wait loses nothing.
    pub async fn receive(&self, queue: QueueName, max: usize) -> Vec<Received> {
        loop {
            // Registered before looking, so that a message sent in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let received = self.try_receive(queue, max);
            if !received.is_empty() {
                return received;
            }
            match self.next_visible(queue) {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// Up to `max` messages that can be seen now.
    pub fn try_receive(&self, queue: QueueName, max: usize) -> Vec<Received> {
        self.receive_at(Instant::now(), queue, max)
    }

    fn receive_at(&self, now: Instant, queue: QueueName, max: usize) -> Vec<Received> {
        let mut state = self.lock();
        let lane = state.lanes.entry(queue).or_default();
        lane.uncover(now);
        let mut received = Vec::new();
        while received.len() < max
            && let Some(id) = lane.next()
        {
            let Some(stored) = lane.messages.get_mut(&id) else { continue };
            let worn_out = stored.receives >= self.policy.max_receives;
            stored.receives += u32::from(!worn_out);
            let message = Received {
                id,
                receipt: Receipt { queue, message: id, receive: stored.receives },
                body: stored.body.clone(),
                group: stored.group.clone(),
                receive_count: stored.receives,
            };
            if worn_out {
                lane.messages.remove(&id);
                lane.dead.push(message);
            } else {
                lane.hide(id, now + self.policy.visibility);
                received.push(message);
            }
        }
        received
    }

    /// When the next hidden message can be seen.
    pub fn next_visible(&self, queue: QueueName) -> Option<Instant> {
        self.lock().lanes.get(&queue)?.hidden.first().map(|(at, _)| *at)
    }

    /// The message is done. False when the receipt is void; then nothing happens.
    pub fn delete(&self, receipt: Receipt) -> bool {
        self.settle(receipt, |lane, id| {
            lane.messages.remove(&id);
        })
    }

    /// Hides a message in hand for so long from now on; zero gives it back at once. False when the receipt is void.
    pub fn change_visibility(&self, receipt: Receipt, visibility: Duration) -> bool {
        self.change_visibility_at(Instant::now(), receipt, visibility)
    }

    fn change_visibility_at(&self, now: Instant, receipt: Receipt, visibility: Duration) -> bool {
        let changed = self.settle(receipt, |lane, id| lane.hide(id, now + visibility));
        self.changed.notify_waiters();
        changed
    }

    fn settle(&self, receipt: Receipt, then: impl FnOnce(&mut Lane, u64)) -> bool {
        let mut state = self.lock();
        let Some(lane) = state.lanes.get_mut(&receipt.queue) else { return false };
        let id = receipt.message;
        let Some(stored) = lane.messages.get(&id).filter(|stored| stored.receives == receipt.receive) else {
            return false;
        };
        match stored.until {
            Some(until) => {
                lane.hidden.remove(&(until, id));
            }
            // Its time ran out, but nobody else has received it yet.
            None => lane.ready.retain_mut(|(_, ids)| {
                ids.retain(|ready| *ready != id);
                !ids.is_empty()
            }),
        }
        then(lane, id);
        true
    }

    /// Messages that were received too often, oldest first. One here is a fault of ours.
    pub fn dead_letters(&self, queue: QueueName) -> Vec<Received> {
        self.lock().lanes.get(&queue).map(|lane| lane.dead.clone()).unwrap_or_default()
    }

    /// Messages not yet deleted: waiting, delayed and in hand.
    pub fn len(&self, queue: QueueName) -> usize {
        self.lock().lanes.get(&queue).map_or(0, |lane| lane.messages.len())
    }

    /// True if both queues have nothing waiting, delayed or in hand.
    pub fn is_empty(&self) -> bool {
        self.lock().lanes.values().all(|lane| lane.messages.is_empty())
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>> {
        self.send_at(Instant::now(), queue, messages)
    }

    fn outlives_us(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use QueueName::{Deliveries, Polls};
    use std::sync::Arc;

    /// A queue with a clock of its own: seconds since it was made.
    struct Timed {
        queue: LocalQueue,
        start: Instant,
    }

    impl Timed {
        fn new() -> Self {
            let policy = Policy { visibility: Duration::from_secs(30), max_receives: 2 };
            Self { queue: LocalQueue::new(policy), start: Instant::now() }
        }

        fn at(&self, second: u64) -> Instant {
            self.start + Duration::from_secs(second)
        }

        fn send(&self, second: u64, queue: QueueName, messages: &[(&str, &str, u64)]) -> Vec<bool> {
            let messages = messages.iter().map(|(body, group, delay)| message(body, group, *delay)).collect();
            self.queue.send_at(self.at(second), queue, messages).iter().map(Result::is_ok).collect()
        }

        fn receive(&self, second: u64, queue: QueueName, max: usize) -> Vec<Received> {
            self.queue.receive_at(self.at(second), queue, max)
        }

        fn bodies(&self, second: u64, queue: QueueName, max: usize) -> Vec<String> {
            self.receive(second, queue, max).into_iter().map(|message| message.body).collect()
        }
    }

    fn message(body: &str, group: &str, delay: u64) -> Message {
        Message { body: body.into(), delay: Duration::from_secs(delay), group: group.into() }
    }

    #[test]
    fn a_message_not_deleted_comes_back_until_it_is_a_dead_letter() {
        let timed = Timed::new();
        timed.send(0, Polls, &[("a", "g", 0)]);
        let first = timed.receive(0, Polls, 10).remove(0);
        assert!(timed.receive(29, Polls, 10).is_empty());
        assert_eq!(timed.queue.next_visible(Polls), Some(timed.at(30)));
        let second = timed.receive(30, Polls, 10).remove(0);
        assert_eq!((second.id, second.receive_count), (first.id, 2));
        assert!(!timed.queue.delete(first.receipt), "the first receipt is void");
        assert!(timed.receive(61, Polls, 10).is_empty());
        assert_eq!(timed.queue.dead_letters(Polls)[0].body, "a");
        assert!(timed.queue.is_empty());
    }

    #[test]
    fn a_deleted_message_stays_away_even_when_its_time_ran_out() {
        let timed = Timed::new();
        timed.send(0, Polls, &[("a", "g", 0)]);
        let held = timed.receive(0, Polls, 1).remove(0);
        timed.send(31, Polls, &[("b", "g", 0)]);
        assert!(timed.receive(31, Polls, 0).is_empty());
        assert!(timed.queue.delete(held.receipt));
        assert!(!timed.queue.delete(held.receipt));
        assert_eq!(timed.bodies(31, Polls, 10), ["b"]);
    }

    #[test]
    fn delays_are_kept_and_clamped_and_queues_are_apart() {
        let timed = Timed::new();
        let taken = timed.send(0, Deliveries, &[("late", "g", 5000), ("soon", "g", 5), ("", "g", 0)]);
        assert_eq!(taken, [true, true, false]);
        assert_eq!((timed.queue.len(Deliveries), timed.queue.len(Polls)), (2, 0));
        assert_eq!(timed.bodies(4, Deliveries, 10), [""; 0]);
        let soon = timed.receive(5, Deliveries, 10).remove(0);
        assert_eq!(soon.body, "soon");
        timed.queue.delete(soon.receipt);
        assert_eq!(timed.bodies(899, Deliveries, 10), [""; 0]);
        assert_eq!(timed.bodies(900, Deliveries, 10), ["late"]);
    }

    #[test]
    fn groups_take_turns() {
        let timed = Timed::new();
        let big: Vec<_> = ["1", "2", "3", "4"].map(|body| (body, "big", 0)).into();
        timed.send(0, Polls, &big);
        timed.send(0, Polls, &[("small", "small", 0)]);
        assert_eq!(timed.bodies(0, Polls, 3), ["1", "small", "2"]);
        assert_eq!(timed.bodies(0, Polls, 9), ["3", "4"]);
    }

    #[test]
    fn visibility_can_be_stretched_and_given_up() {
        let timed = Timed::new();
        timed.send(0, Polls, &[("a", "g", 0)]);
        let held = timed.receive(0, Polls, 1).remove(0);
        assert!(timed.queue.change_visibility_at(timed.at(10), held.receipt, Duration::from_secs(100)));
        assert!(timed.receive(109, Polls, 1).is_empty());
        let held = timed.receive(110, Polls, 1).remove(0);
        assert!(timed.queue.change_visibility_at(timed.at(110), held.receipt, Duration::ZERO));
        assert!(timed.receive(110, Polls, 1).is_empty());
        assert_eq!(timed.queue.dead_letters(Polls).len(), 1);
    }

    #[tokio::test]
    async fn a_receiver_wakes_at_a_send_and_at_the_end_of_a_visibility() {
        let queue = Arc::new(LocalQueue::new(Policy { visibility: Duration::from_millis(5), max_receives: 2 }));
        let waiter = tokio::spawn({
            let queue = queue.clone();
            async move { [queue.receive(Polls, 10).await, queue.receive(Polls, 10).await].concat() }
        });
        tokio::task::yield_now().await;
        queue.send(Polls, vec![message("a", "g", 0)]).await;
        let received = waiter.await.expect("the waiter lives");
        assert_eq!(received.iter().map(|message| message.receive_count).collect::<Vec<_>>(), [1, 2]);
    }
}
