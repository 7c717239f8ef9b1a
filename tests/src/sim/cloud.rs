//! The simulated table, queues and machine clocks: the in-memory ports with a gate before and after every effect, and
//! with the faults that a cloud can show a caller.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use flow::ports::{LONGEST_QUEUE_DELAY, Message, Queue, QueueError, QueueName};
use flow::testing::MemoryStore;
use futures::future::BoxFuture;
use store::ambient::Ambient;
use store::port::{Condition, Item, Key, QueryPage, Range, Store, StoreError, Write};

use super::oracle::Oracle;
use super::plan::FaultRates;
use super::scheduler::Scheduler;

/// The visibility timeout of received messages, as in `template.yaml`.
pub const VISIBILITY: TimeDelta = TimeDelta::seconds(360);
/// A message that was received more often than this is dead, as in `template.yaml`.
pub const RECEIVES: u32 = 5;
/// An eventually consistent read may miss writes of this age.
const STALE_FOR: TimeDelta = TimeDelta::seconds(3);

/// The state that all parts of a simulation share.
pub struct Sim {
    /// The clock, the random numbers and the order of execution.
    pub scheduler: Arc<Scheduler>,
    rates: Mutex<FaultRates>,
    oracle: Mutex<Oracle>,
}

impl Sim {
    /// Makes the shared state, without faults.
    pub fn new(scheduler: Arc<Scheduler>, oracle: Oracle) -> Arc<Self> {
        Arc::new(Self { scheduler, rates: Mutex::default(), oracle: Mutex::new(oracle) })
    }

    /// The current fault rates.
    pub fn rates(&self) -> FaultRates {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the fault rates.
    pub fn set_rates(&self, rates: FaultRates) {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    /// The oracle.
    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ---------------------------------------------------------------- Machines

/// The clock and the random numbers of one machine. Its clock may be wrong.
pub struct Machine {
    sim: Arc<Sim>,
    off: Mutex<TimeDelta>,
}

impl Machine {
    /// Makes a machine with the right time.
    pub fn new(sim: &Arc<Sim>) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), off: Mutex::default() })
    }

    /// Sets the error of its clock: the time by which it is ahead.
    pub fn set_clock_error(&self, by: TimeDelta) {
        *self.off.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }
}

impl Ambient for Machine {
    fn now(&self) -> DateTime<Utc> {
        self.sim.scheduler.now() + *self.off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.sim.scheduler.draw(|rng| {
            for chunk in buffer.chunks_mut(8) {
                chunk.copy_from_slice(&rng.next_u64().to_le_bytes()[..chunk.len()]);
            }
        });
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.sim.scheduler.sleep(time))
    }
}

// ---------------------------------------------------------------- Store

/// The time of a write, the key, and the item that the write replaced.
type PreviousItem = (DateTime<Utc>, Key, Option<Item>);

/// The table: an in-memory store with faults.
pub struct SimStore {
    sim: Arc<Sim>,
    table: MemoryStore,
    past: Mutex<VecDeque<PreviousItem>>,
}

impl SimStore {
    /// Makes an empty table.
    pub fn new(sim: &Arc<Sim>) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), table: MemoryStore::default(), past: Mutex::default() })
    }

    /// The in-memory store with the items.
    pub fn table(&self) -> &MemoryStore {
        &self.table
    }

    async fn enter(&self) -> Result<(), StoreError> {
        self.sim.scheduler.gate().await;
        if self.sim.scheduler.chance(self.sim.rates().store_busy) {
            self.sim.scheduler.note(format_args!("store: busy, nothing done"));
            return Err(StoreError::Busy("simulated: nothing done".into()));
        }
        Ok(())
    }

    async fn keep_previous(&self, writes: &[Write]) {
        let now = self.sim.scheduler.now();
        for write in writes {
            let item = self.table.get(write.key()).await.unwrap_or_default();
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            past.push_back((now, write.key().clone(), item));
            while past.len() > 200 || past.front().is_some_and(|(at, ..)| *at + STALE_FOR < now) {
                past.pop_front();
            }
        }
    }

    /// Draws an item that the key held recently. `None`: the key was not written recently.
    fn stale_item(&self, key: &Key) -> Option<Option<Item>> {
        let now = self.sim.scheduler.now();
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key: Vec<_> = past.iter().filter(|(at, of, _)| of == key && *at + STALE_FOR >= now).collect();
        if of_key.is_empty() {
            return None;
        }
        let which = self.sim.scheduler.draw(|rng| rng.below(of_key.len() as u64)) as usize;
        Some(of_key[which].2.clone())
    }
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        self.enter().await?;
        let item = self.table.get(key).await;
        self.sim.scheduler.gate().await;
        item
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, StoreError> {
        self.enter().await?;
        let mut items = self.table.get_many(keys).await?;
        // In no particular order.
        self.sim.scheduler.draw(|rng| {
            for place in (1..items.len()).rev() {
                items.swap(place, rng.below(place as u64 + 1) as usize);
            }
        });
        self.sim.scheduler.gate().await;
        Ok(items)
    }

    async fn query(&self, pk: &str, range: &Range, after: Option<&str>) -> Result<QueryPage, StoreError> {
        self.enter().await?;
        let rates = self.sim.rates();
        let mut range = range.clone();
        if self.sim.scheduler.chance(rates.short_pages) {
            let short = self.sim.scheduler.draw(|rng| rng.between(1, 4)) as usize;
            range.limit = Some(range.limit.map_or(short, |limit| limit.min(short)));
        }
        let mut page = self.table.query(pk, &range, after).await?;
        if !range.consistent && rates.stale > 0 {
            let items = std::mem::take(&mut page.items);
            page.items = items
                .into_iter()
                .filter_map(|item| {
                    let stale = if self.sim.scheduler.chance(rates.stale) { self.stale_item(&item.key) } else { None };
                    stale.unwrap_or(Some(item))
                })
                .collect();
        }
        self.sim.scheduler.gate().await;
        Ok(page)
    }

    async fn transact(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.enter().await?;
        self.keep_previous(writes).await;
        let outcome = self.table.transact(writes).await;
        match &outcome {
            Ok(()) => {
                self.sim.scheduler.note(format_args!("store: {}", Summary(writes)));
                self.sim.oracle().observe_commit(writes, self.sim.scheduler.now());
            }
            Err(error) => self.sim.scheduler.note(format_args!("store: {error} of {}", Summary(writes))),
        }
        self.sim.scheduler.gate().await;
        if outcome.is_ok() && self.sim.scheduler.chance(self.sim.rates().store_answer_lost) {
            self.sim.scheduler.note(format_args!("store: done, but the answer is lost"));
            return Err(StoreError::Busy("simulated: done".into()));
        }
        outcome
    }

    async fn write_each(&self, writes: &[Write]) -> Vec<Result<(), StoreError>> {
        let mut outcomes = Vec::new();
        // One by one: an activity that is killed in between has written some of them.
        for write in writes {
            if let Err(error) = self.enter().await {
                outcomes.push(Err(error));
                continue;
            }
            let one = std::slice::from_ref(write);
            self.keep_previous(one).await;
            let outcome = self.table.write_each(one).await.pop().unwrap_or(Ok(()));
            self.sim.scheduler.note(format_args!("store: {}", Summary(one)));
            self.sim.oracle().observe_commit(one, self.sim.scheduler.now());
            let lost = outcome.is_ok() && self.sim.scheduler.chance(self.sim.rates().store_answer_lost);
            outcomes.push(if lost { Err(StoreError::Busy("simulated: done".into())) } else { outcome });
        }
        self.sim.scheduler.gate().await;
        outcomes
    }
}

/// Formats writes for the log.
struct Summary<'a>(&'a [Write]);

impl std::fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for write in self.0 {
            let (verb, condition) = match write {
                Write::Put { item, condition } => {
                    write!(f, "put v{} ", item.version)?;
                    ("", condition)
                }
                Write::Delete { condition, .. } => ("delete ", condition),
                Write::Check { condition, .. } => ("check ", condition),
            };
            write!(f, "{verb}{} {}", write.key().pk, write.key().sk)?;
            match condition {
                Condition::Unconditional => {}
                other => write!(f, " if {other:?}")?,
            }
            f.write_str("; ")?;
        }
        Ok(())
    }
}

// ---------------------------------------------------------------- Queue

/// Both queues: at-least-once delivery, no order, a visibility timeout, and a dead-letter limit.
pub struct SimQueue {
    sim: Arc<Sim>,
    trusted: bool,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    next: u64,
    messages: BTreeMap<u64, InQueue>,
}

struct InQueue {
    queue: QueueName,
    message: Message,
    visible: DateTime<Utc>,
    receives: u32,
}

impl SimQueue {
    /// Makes empty queues. They claim to be durable when `trusted` is set.
    pub fn new(sim: &Arc<Sim>, trusted: bool) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), trusted, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time at which the next message becomes visible.
    pub fn next_visible(&self) -> Option<DateTime<Utc>> {
        self.held().messages.values().map(|held| held.visible).min()
    }

    /// Answers true if both queues hold no message, visible or not.
    pub fn is_empty(&self) -> bool {
        self.held().messages.is_empty()
    }

    /// Receives up to ten visible messages of one queue, with their receipts, and hides them.
    pub fn receive(&self) -> Option<(QueueName, Vec<(u64, Message)>)> {
        let now = self.sim.scheduler.now();
        let held = &mut *self.held();
        let mut seen: Vec<u64> =
            held.messages.iter().filter(|(_, held)| held.visible <= now).map(|(number, _)| *number).collect();
        if seen.is_empty() {
            return None;
        }
        let most = self.sim.scheduler.draw(|rng| {
            for place in (1..seen.len()).rev() {
                seen.swap(place, rng.below(place as u64 + 1) as usize);
            }
            rng.between(1, 10) as usize
        });
        let queue = held.messages[&seen[0]].queue;
        let mut batch = Vec::new();
        for number in seen {
            let message = held.messages.get_mut(&number).expect("it was there");
            if message.queue != queue || batch.len() == most {
                continue;
            }
            message.receives += 1;
            if message.receives > RECEIVES {
                self.sim.scheduler.note(format_args!("queue: dead: {}", message.message.body));
                held.messages.remove(&number);
                continue;
            }
            message.visible = now + VISIBILITY;
            batch.push((number, message.message.clone()));
        }
        Some((queue, batch))
    }

    /// Removes a message that was processed.
    pub fn acknowledge(&self, receipt: u64) {
        self.held().messages.remove(&receipt);
    }
}

#[async_trait]
impl Queue for SimQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>> {
        let mut outcomes = Vec::new();
        for message in messages {
            self.sim.scheduler.gate().await;
            let (rates, scheduler) = (self.sim.rates(), &self.sim.scheduler);
            if scheduler.chance(rates.queue_refuses) {
                scheduler.note(format_args!("queue: refused {}", message.body));
                outcomes.push(Err(QueueError("simulated: not taken".into())));
                continue;
            }
            let lost = scheduler.chance(rates.lost);
            scheduler.note(format_args!(
                "queue: {} {} in {} s",
                if lost { "lost" } else { "took" },
                message.body,
                message.delay.as_secs()
            ));
            let delay = TimeDelta::seconds(message.delay.min(LONGEST_QUEUE_DELAY).as_secs() as i64);
            let copies = if lost { 0 } else { 1 + u32::from(scheduler.chance(rates.twice)) };
            for _ in 0..copies {
                let late = if scheduler.chance(rates.late) { scheduler.draw(|rng| rng.between(1, 300)) } else { 0 };
                let visible = scheduler.now() + delay + TimeDelta::seconds(late as i64);
                let held = &mut *self.held();
                held.next += 1;
                let message = InQueue { queue, message: message.clone(), visible, receives: 0 };
                held.messages.insert(held.next, message);
            }
            let unsaid = scheduler.chance(rates.queue_answer_lost);
            outcomes.push(if unsaid { Err(QueueError("simulated: taken".into())) } else { Ok(()) });
        }
        self.sim.scheduler.gate().await;
        outcomes
    }

    fn outlives_us(&self) -> bool {
        self.trusted
    }
}
