//! Table, queues and clocks of a simulated world: the in-memory ports, with a gate on either side of every effect and
//! with all that a cloud may do to a caller.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use flow::ports::{
    Ambient, Condition, Item, Key, LONGEST_QUEUE_DELAY, Message, QueryPage, Queue, QueueError, QueueName, Range, Store,
    StoreError, Write,
};
use flow::testing::MemoryStore;
use futures::future::BoxFuture;

use super::clockwork::Clockwork;
use super::ledger::Ledger;
use super::plan::Rates;

/// Received messages are hidden for so long: `template.yaml`.
pub const VISIBILITY: TimeDelta = TimeDelta::seconds(360);
/// A message that was received so often and not worked on is dead: `template.yaml`.
pub const RECEIVES: u32 = 5;
/// What an eventually consistent read may not know yet.
const STALE_FOR: TimeDelta = TimeDelta::seconds(3);

/// What all parts of a simulated world share.
pub struct Sim {
    /// Time, chance and order.
    pub works: Arc<Clockwork>,
    rates: Mutex<Rates>,
    ledger: Mutex<Ledger>,
}

impl Sim {
    /// A world in which nothing goes wrong yet.
    pub fn new(works: Arc<Clockwork>, ledger: Ledger) -> Arc<Self> {
        Arc::new(Self { works, rates: Mutex::default(), ledger: Mutex::new(ledger) })
    }

    /// What goes wrong now.
    pub fn rates(&self) -> Rates {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes wrong from now on.
    pub fn set_rates(&self, rates: Rates) {
        *self.rates.lock().unwrap_or_else(PoisonError::into_inner) = rates;
    }

    /// What happened at the vendors and what was told of it.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ---------------------------------------------------------------- Time and chance

/// The clock and the dice of one machine. Its clock may be off.
pub struct Machine {
    sim: Arc<Sim>,
    off: Mutex<TimeDelta>,
}

impl Machine {
    /// With the right time.
    pub fn new(sim: &Arc<Sim>) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), off: Mutex::default() })
    }

    /// Its clock jumps to where it is ahead of the truth by so much.
    pub fn set_off(&self, by: TimeDelta) {
        *self.off.lock().unwrap_or_else(PoisonError::into_inner) = by;
    }
}

impl Ambient for Machine {
    fn now(&self) -> DateTime<Utc> {
        self.sim.works.now() + *self.off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fill_random(&self, buffer: &mut [u8]) {
        self.sim.works.roll(|dice| {
            for chunk in buffer.chunks_mut(8) {
                chunk.copy_from_slice(&dice.bits().to_le_bytes()[..chunk.len()]);
            }
        });
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(self.sim.works.sleep(time))
    }
}

// ---------------------------------------------------------------- Store

/// When a key was written, which, and what it held before.
type Before = (DateTime<Utc>, Key, Option<Item>);

/// The table. What it holds is the in-memory store's; what it does to callers is decided by the dice.
pub struct SimStore {
    sim: Arc<Sim>,
    table: MemoryStore,
    past: Mutex<VecDeque<Before>>,
}

impl SimStore {
    /// An empty one.
    pub fn new(sim: &Arc<Sim>) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), table: MemoryStore::default(), past: Mutex::default() })
    }

    /// What it holds.
    pub fn table(&self) -> &MemoryStore {
        &self.table
    }

    async fn before(&self) -> Result<(), StoreError> {
        self.sim.works.gate().await;
        if self.sim.works.chance(self.sim.rates().store_busy) {
            self.sim.works.note(format_args!("store: busy, nothing done"));
            return Err(StoreError::Busy("simulated: nothing done".into()));
        }
        Ok(())
    }

    async fn remember(&self, writes: &[Write]) {
        let now = self.sim.works.now();
        for write in writes {
            let item = self.table.get(write.key()).await.unwrap_or_default();
            let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            past.push_back((now, write.key().clone(), item));
            while past.len() > 200 || past.front().is_some_and(|(at, ..)| *at + STALE_FOR < now) {
                past.pop_front();
            }
        }
    }

    /// What the key held not long ago, if it was something else.
    fn older(&self, key: &Key) -> Option<Option<Item>> {
        let now = self.sim.works.now();
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let of_key: Vec<_> = past.iter().filter(|(at, of, _)| of == key && *at + STALE_FOR >= now).collect();
        if of_key.is_empty() {
            return None;
        }
        let which = self.sim.works.roll(|dice| dice.below(of_key.len() as u64)) as usize;
        Some(of_key[which].2.clone())
    }
}

#[async_trait]
impl Store for SimStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        self.before().await?;
        let item = self.table.get(key).await;
        self.sim.works.gate().await;
        item
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, StoreError> {
        self.before().await?;
        let mut items = self.table.get_many(keys).await?;
        // In no particular order.
        self.sim.works.roll(|dice| {
            for place in (1..items.len()).rev() {
                items.swap(place, dice.below(place as u64 + 1) as usize);
            }
        });
        self.sim.works.gate().await;
        Ok(items)
    }

    async fn query(&self, pk: &str, range: &Range, after: Option<&str>) -> Result<QueryPage, StoreError> {
        self.before().await?;
        let rates = self.sim.rates();
        let mut range = range.clone();
        if self.sim.works.chance(rates.short_pages) {
            let short = self.sim.works.roll(|dice| dice.between(1, 4)) as usize;
            range.limit = Some(range.limit.map_or(short, |limit| limit.min(short)));
        }
        let mut page = self.table.query(pk, &range, after).await?;
        if !range.consistent && rates.stale > 0 {
            let items = std::mem::take(&mut page.items);
            page.items = items
                .into_iter()
                .filter_map(|item| {
                    let older = if self.sim.works.chance(rates.stale) { self.older(&item.key) } else { None };
                    older.unwrap_or(Some(item))
                })
                .collect();
        }
        self.sim.works.gate().await;
        Ok(page)
    }

    async fn transact(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.before().await?;
        self.remember(writes).await;
        let outcome = self.table.transact(writes).await;
        match &outcome {
            Ok(()) => {
                self.sim.works.note(format_args!("store: {}", Summary(writes)));
                self.sim.ledger().committed(writes, self.sim.works.now());
            }
            Err(error) => self.sim.works.note(format_args!("store: {error} of {}", Summary(writes))),
        }
        self.sim.works.gate().await;
        if outcome.is_ok() && self.sim.works.chance(self.sim.rates().store_answer_lost) {
            self.sim.works.note(format_args!("store: done, but the answer is lost"));
            return Err(StoreError::Busy("simulated: done".into()));
        }
        outcome
    }

    async fn write_each(&self, writes: &[Write]) -> Vec<Result<(), StoreError>> {
        let mut outcomes = Vec::new();
        // One by one, in whatever order, and whoever dies in between has written some of them.
        for write in writes {
            if let Err(error) = self.before().await {
                outcomes.push(Err(error));
                continue;
            }
            let one = std::slice::from_ref(write);
            self.remember(one).await;
            let outcome = self.table.write_each(one).await.pop().unwrap_or(Ok(()));
            self.sim.works.note(format_args!("store: {}", Summary(one)));
            self.sim.ledger().committed(one, self.sim.works.now());
            let lost = outcome.is_ok() && self.sim.works.chance(self.sim.rates().store_answer_lost);
            outcomes.push(if lost { Err(StoreError::Busy("simulated: done".into())) } else { outcome });
        }
        self.sim.works.gate().await;
        outcomes
    }
}

/// Writes in a line of a trace.
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

/// Both queues: at least once, in no order, hidden after a receive, dead after a few.
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
    /// Empty ones, which say that they outlive everything, or that they do not.
    pub fn new(sim: &Arc<Sim>, trusted: bool) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), trusted, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When somebody can take something.
    pub fn next_visible(&self) -> Option<DateTime<Utc>> {
        self.held().messages.values().map(|held| held.visible).min()
    }

    /// Nothing is in either, visible or not.
    pub fn is_empty(&self) -> bool {
        self.held().messages.is_empty()
    }

    /// Up to ten messages of one queue, any of those that can be seen, hidden from now on; with their receipts.
    pub fn receive(&self) -> Option<(QueueName, Vec<(u64, Message)>)> {
        let now = self.sim.works.now();
        let held = &mut *self.held();
        let mut seen: Vec<u64> =
            held.messages.iter().filter(|(_, held)| held.visible <= now).map(|(number, _)| *number).collect();
        if seen.is_empty() {
            return None;
        }
        let most = self.sim.works.roll(|dice| {
            for place in (1..seen.len()).rev() {
                seen.swap(place, dice.below(place as u64 + 1) as usize);
            }
            dice.between(1, 10) as usize
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
                self.sim.works.note(format_args!("queue: dead: {}", message.message.body));
                held.messages.remove(&number);
                continue;
            }
            message.visible = now + VISIBILITY;
            batch.push((number, message.message.clone()));
        }
        Some((queue, batch))
    }

    /// It is done.
    pub fn acknowledge(&self, receipt: u64) {
        self.held().messages.remove(&receipt);
    }
}

#[async_trait]
impl Queue for SimQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>> {
        let mut outcomes = Vec::new();
        for message in messages {
            self.sim.works.gate().await;
            let (rates, works) = (self.sim.rates(), &self.sim.works);
            if works.chance(rates.queue_refuses) {
                works.note(format_args!("queue: refused {}", message.body));
                outcomes.push(Err(QueueError("simulated: not taken".into())));
                continue;
            }
            let lost = works.chance(rates.lost);
            works.note(format_args!(
                "queue: {} {} in {} s",
                if lost { "lost" } else { "took" },
                message.body,
                message.delay.as_secs()
            ));
            let delay = TimeDelta::seconds(message.delay.min(LONGEST_QUEUE_DELAY).as_secs() as i64);
            let copies = if lost { 0 } else { 1 + u32::from(works.chance(rates.twice)) };
            for _ in 0..copies {
                let late = if works.chance(rates.late) { works.roll(|dice| dice.between(1, 300)) } else { 0 };
                let visible = works.now() + delay + TimeDelta::seconds(late as i64);
                let held = &mut *self.held();
                held.next += 1;
                let message = InQueue { queue, message: message.clone(), visible, receives: 0 };
                held.messages.insert(held.next, message);
            }
            let unsaid = works.chance(rates.queue_answer_lost);
            outcomes.push(if unsaid { Err(QueueError("simulated: taken".into())) } else { Ok(()) });
        }
        self.sim.works.gate().await;
        outcomes
    }

    fn outlives_us(&self) -> bool {
        self.trusted
    }
}
