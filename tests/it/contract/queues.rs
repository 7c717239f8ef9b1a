//! The contract of queues, run over each implementation.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flow::ports::{Message, Queue, QueueName};
use flow::testing::{FixedAmbient, MemoryQueue};
use local::queue::{LocalQueue, Policy, Receipt, Received};

use super::record;

#[tokio::test]
async fn the_queue_in_memory_keeps_the_contract() {
    let queue = Arc::new(MemoryQueue::new(Arc::new(FixedAmbient::at("2026-01-05T09:00:00Z"))));
    let taken = queue.clone();
    queue_contract(&*queue, async || {
        let taken = taken.take(QueueName::Polls, 10).into_iter();
        taken.map(|message| message.body).collect()
    })
    .await;
}

#[tokio::test]
async fn the_local_queue_keeps_the_contract() {
    let queue = LocalQueue::new(Policy::default());
    queue_contract(&queue, async || {
        let received = queue.try_receive(QueueName::Polls, 10);
        received
            .into_iter()
            .map(|message| {
                queue.delete(message.receipt);
                message.body
            })
            .collect()
    })
    .await;
}

#[tokio::test]
async fn the_local_queue_keeps_the_contract_over_time() {
    let queue = LocalQueue::new(Policy { visibility: VISIBILITY, max_receives: RECEIVES });
    queue_contract_over_time(&queue, &LocalConsumer { queue: &queue, held: Mutex::default() }).await;
}

/// A message in somebody's hands comes back after this time…
pub const VISIBILITY: Duration = Duration::from_secs(2);
/// …and after so many receives it is a dead letter.
pub const RECEIVES: u32 = 2;

/// A message in somebody's hands.
pub struct Taken {
    /// The sent message.
    pub body: String,
    /// The number of receives, with this one.
    pub receives: u32,
    /// The receipt that settles it.
    pub receipt: String,
}

/// The other end of the queue of polls, as the poller's event source sees it.
#[async_trait]
pub trait Consumer {
    /// Up to ten; none when none came for so long.
    async fn receive(&self, patience: Duration) -> Vec<Taken>;
    /// It is done.
    async fn delete(&self, receipt: &str);
    /// It is for somebody else, at once.
    async fn give_back(&self, receipt: &str);
    /// The messages that were received too often.
    async fn dead_letters(&self) -> Vec<String>;
}

struct LocalConsumer<'a> {
    queue: &'a LocalQueue,
    held: Mutex<Vec<Receipt>>,
}

impl LocalConsumer<'_> {
    fn receipt(&self, receipt: &str) -> Receipt {
        self.held.lock().expect("no panic")[receipt.parse::<usize>().expect("its place")]
    }
}

#[async_trait]
impl Consumer for LocalConsumer<'_> {
    async fn receive(&self, patience: Duration) -> Vec<Taken> {
        let received = tokio::time::timeout(patience, self.queue.receive(QueueName::Polls, 10)).await;
        let mut held = self.held.lock().expect("no panic");
        let taken = |message: Received| {
            held.push(message.receipt);
            Taken { body: message.body, receives: message.receive_count, receipt: (held.len() - 1).to_string() }
        };
        received.unwrap_or_default().into_iter().map(taken).collect()
    }

    async fn delete(&self, receipt: &str) {
        assert!(self.queue.delete(self.receipt(receipt)));
    }

    async fn give_back(&self, receipt: &str) {
        assert!(self.queue.change_visibility(self.receipt(receipt), Duration::ZERO));
    }

    async fn dead_letters(&self) -> Vec<String> {
        self.queue.dead_letters(QueueName::Polls).into_iter().map(|message| message.body).collect()
    }
}

/// The contract of a queue over time: a delay is kept, a message that is not deleted comes again, one that is given back comes at once,
/// what came too often is a dead letter, and what was deleted stays away. The visibility is [`VISIBILITY`].
pub async fn queue_contract_over_time(queue: &dyn Queue, consumer: &dyn Consumer) {
    let send = async |body: &str, delay| {
        let message = Message { body: body.into(), delay: Duration::from_secs(delay), group: "1".into() };
        assert_eq!(queue.send(QueueName::Polls, vec![message]).await, [Ok(())]);
    };
    // Longer than the visibility, so that a wait is not mistaken for an end.
    let patience = 4 * VISIBILITY;
    let one = async |body: &str, receives: u32| {
        let mut taken = consumer.receive(patience).await;
        assert_eq!(taken.len(), 1, "{body}");
        let taken = taken.swap_remove(0);
        assert_eq!((taken.body.as_str(), taken.receives), (body, receives));
        taken
    };

    let sent = Instant::now();
    send("late", 2).await;
    send("now", 0).await;
    let now = one("now", 1).await;
    consumer.delete(&now.receipt).await;
    let late = one("late", 1).await;
    assert!(sent.elapsed() > Duration::from_secs(1), "it came after {:?}", sent.elapsed());
    consumer.delete(&late.receipt).await;

    send("given back", 0).await;
    let taken = one("given back", 1).await;
    let given = Instant::now();
    consumer.give_back(&taken.receipt).await;
    let again = one("given back", 2).await;
    assert!(given.elapsed() < VISIBILITY, "it came after {:?}", given.elapsed());
    consumer.delete(&again.receipt).await;

    send("never done", 0).await;
    for receives in 1..=RECEIVES {
        one("never done", receives).await;
    }
    assert!(consumer.receive(patience).await.is_empty(), "it came too often");
    assert_eq!(consumer.dead_letters().await, ["never done"]);
    record("time", 1, 0);
}

/// Each message has an outcome, in order; what was taken and is due arrives, in any order.
pub async fn queue_contract(queue: &dyn Queue, take_ten: impl AsyncFn() -> Vec<String>) {
    let message = |n: u64, delay| Message {
        body: format!(r#"{{"n":{n}}}"#),
        delay: Duration::from_secs(delay),
        group: (n % 3).to_string(),
    };
    assert_eq!(queue.send(QueueName::Polls, Vec::new()).await, []);
    let outcomes = queue.send(QueueName::Polls, (0..25).map(|n| message(n, 0)).collect()).await;
    assert_eq!(outcomes, vec![Ok(()); 25]);
    let later = vec![message(25, 900), message(26, 90_000)];
    assert_eq!(queue.send(QueueName::Polls, later).await, vec![Ok(()); 2]);
    assert_eq!(queue.send(QueueName::Deliveries, vec![message(27, 0)]).await, [Ok(())]);
    let mut arrived = BTreeSet::new();
    loop {
        let taken = take_ten().await;
        if taken.is_empty() {
            break;
        }
        assert!(taken.len() <= 10);
        arrived.extend(taken);
    }
    let expected: BTreeSet<String> = (0..25).map(|n| message(n, 0).body).collect();
    assert_eq!(arrived, expected);
    record("queue", 1, 0);
}
