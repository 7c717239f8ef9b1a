//! A table in memory, for tests and benchmarks that want to look inside, count what was asked and let it fail.
//! It passes the same contract suite as the real adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chrono::{DurationRound, TimeDelta};

use crate::port::{Condition, Item, Key, QueryPage, Range, Store, StoreError, Write};

/// DynamoDB takes an item up to 400 KB, key and attribute names included.
/// Here the body counts as it is; the real table may take a larger one that compresses well.
pub const LARGEST_ITEM: usize = 400 * 1024;

/// DynamoDB ends a page of a query after 1 MB.
pub const LARGEST_PAGE: usize = 1024 * 1024;

/// DynamoDB takes at most so many writes in one transaction.
pub const LARGEST_TRANSACTION: usize = 100;

/// DynamoDB takes at most 4 MB in one transaction.
pub const LARGEST_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;

/// A test that panicked while it held a lock has failed already; the others may go on reading.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts of the calls of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Operations {
    /// Calls of `get`.
    pub gets: u64,
    /// Calls of `get_many`.
    pub batch_gets: u64,
    /// Calls of `query`.
    pub queries: u64,
    /// Items that all of the reads returned.
    pub items_read: u64,
    /// Calls of `transact` that were carried out, a single write included.
    pub transactions: u64,
    /// Calls of `transact` that were not, for a conflict or a fault.
    pub failed_transactions: u64,
    /// Calls of `write_each`.
    pub batch_writes: u64,
    /// Puts and deletes carried out; a check is none.
    pub items_written: u64,
}

/// A fault of a transaction, for tests of crashes and retries. The caller sees `Busy` either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing was written.
    NotWritten,
    /// All was written and the answer was lost.
    AnswerLost,
}

/// Decides over the transaction of this number, counted from 0 since the plan was made.
type FaultPlan = Box<dyn FnMut(u64) -> Option<Fault> + Send>;

/// A table in memory: conditions, transactions, paging and limits as DynamoDB has them.
#[derive(Default)]
pub struct MemoryStore {
    table: Mutex<Table>,
    interruption: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Default)]
struct Table {
    items: BTreeMap<Key, Item>,
    operations: Operations,
    faults: Option<(u64, FaultPlan)>,
    lagging: Option<BTreeMap<Key, Item>>,
}

impl MemoryStore {
    /// The calls since it was made, or since [`Self::forget_operations`].
    pub fn operations(&self) -> Operations {
        lock(&self.table).operations
    }

    /// Counts from zero again.
    pub fn forget_operations(&self) {
        lock(&self.table).operations = Operations::default();
    }

    /// Everything stored, in the order of the keys.
    pub fn items(&self) -> Vec<Item> {
        lock(&self.table).items.values().cloned().collect()
    }

    /// Lets transactions fail: `plan` is asked for each, by its number from 0.
    pub fn plan_faults(&self, plan: impl FnMut(u64) -> Option<Fault> + Send + 'static) {
        lock(&self.table).faults = Some((0, Box::new(plan)));
    }

    /// From now on queries that do not ask for the newest show what is there now.
    pub fn lag(&self) {
        let mut table = lock(&self.table);
        table.lagging = Some(table.items.clone());
    }

    /// Lets something happen once, right before the next transaction: after whatever is read for it.
    pub fn interrupt(&self, happens: impl FnOnce() + Send + 'static) {
        *lock(&self.interruption) = Some(Box::new(happens));
    }
}

fn size(item: &Item) -> usize {
    item.key.pk.len() + item.key.sk.len() + item.body.len() + 40
}

fn check_write(write: &Write) -> Result<(), StoreError> {
    let key = write.key();
    if key.pk.is_empty() || key.sk.is_empty() || key.pk.len() > 2048 || key.sk.len() > 1024 {
        return Err(StoreError::Refused(format!("the key {key:?} is empty or too long")));
    }
    match write {
        Write::Put { item, .. } if size(item) > LARGEST_ITEM => {
            Err(StoreError::Refused(format!("the item {key:?} has {} bytes", size(item))))
        }
        _ => Ok(()),
    }
}

impl Table {
    fn holds(&self, key: &Key, condition: Condition) -> bool {
        let stored = self.items.get(key);
        match condition {
            Condition::Unconditional => true,
            Condition::Absent => stored.is_none(),
            Condition::Present => stored.is_some(),
            Condition::Version(version) => stored.is_some_and(|item| item.version == version),
        }
    }

    fn carry_out(&mut self, write: &Write) {
        match write {
            Write::Put { item, .. } => {
                // The expiry is kept in whole seconds, as in the table's own attribute.
                let expires_at = item.expires_at.map(|at| at.duration_trunc(TimeDelta::seconds(1)).unwrap_or(at));
                self.items.insert(item.key.clone(), Item { expires_at, ..item.clone() });
            }
            Write::Delete { key, .. } => {
                self.items.remove(key);
            }
            Write::Check { .. } => return,
        }
        self.operations.items_written += 1;
    }

    fn transact(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        if writes.len() > LARGEST_TRANSACTION {
            return Err(StoreError::Refused(format!("{} writes in one transaction", writes.len())));
        }
        let puts =
            writes.iter().filter_map(|write| if let Write::Put { item, .. } = write { Some(size(item)) } else { None });
        let bytes: usize = puts.sum();
        if bytes > LARGEST_TRANSACTION_BYTES {
            return Err(StoreError::Refused(format!("{bytes} bytes in one transaction")));
        }
        let mut keys = BTreeSet::new();
        for write in writes {
            check_write(write)?;
            if !keys.insert(write.key()) {
                return Err(StoreError::Refused(format!("{:?} twice in one transaction", write.key())));
            }
        }
        let fault = self.faults.as_mut().and_then(|(count, plan)| {
            *count += 1;
            plan(*count - 1)
        });
        if fault == Some(Fault::NotWritten) {
            return Err(StoreError::Busy("planned: not written".into()));
        }
        for (index, write) in writes.iter().enumerate() {
            let (Write::Put { condition, .. } | Write::Delete { condition, .. } | Write::Check { condition, .. }) =
                write;
            if !self.holds(write.key(), *condition) {
                return Err(StoreError::Conflict { index });
            }
        }
        writes.iter().for_each(|write| self.carry_out(write));
        match fault {
            Some(_) => Err(StoreError::Busy("planned: written, answer lost".into())),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let mut table = lock(&self.table);
        let item = table.items.get(key).cloned();
        table.operations.gets += 1;
        table.operations.items_read += u64::from(item.is_some());
        Ok(item)
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, StoreError> {
        let mut table = lock(&self.table);
        let keys: BTreeSet<&Key> = keys.iter().collect();
        let items: Vec<Item> = keys.into_iter().filter_map(|key| table.items.get(key).cloned()).collect();
        table.operations.batch_gets += 1;
        table.operations.items_read += items.len() as u64;
        Ok(items)
    }

    async fn query(&self, pk: &str, range: &Range, after: Option<&str>) -> Result<QueryPage, StoreError> {
        let mut table = lock(&self.table);
        table.operations.queries += 1;
        if range.limit == Some(0) {
            return Err(StoreError::Refused("a limit of 0".into()));
        }
        let key = |sk: &str| Key::new(pk, sk);
        let (mut from, mut to) = (Bound::Included(key(&range.from)), Bound::Included(key(&range.to)));
        match after {
            Some(sk) if range.descending => to = Bound::Excluded(key(sk)),
            Some(sk) => from = Bound::Excluded(key(sk)),
            None => {}
        }
        let (Bound::Included(first) | Bound::Excluded(first), Bound::Included(last) | Bound::Excluded(last)) =
            (&from, &to)
        else {
            return Ok(QueryPage::default());
        };
        // A map's range panics on bounds that no key can lie between.
        if first > last || (first == last && after.is_some()) {
            return Ok(QueryPage::default());
        }
        let items = table.lagging.as_ref().filter(|_| !range.consistent).unwrap_or(&table.items);
        let stretch = items.range((from, to)).map(|(_, item)| item);
        let stretch: Box<dyn Iterator<Item = &Item>> =
            if range.descending { Box::new(stretch.rev()) } else { Box::new(stretch) };
        let mut page = QueryPage::default();
        let mut bytes = 0;
        for item in stretch {
            bytes += size(item);
            page.items.push(item.clone());
            if bytes > LARGEST_PAGE || Some(page.items.len()) == range.limit {
                page.next = Some(item.key.sk.clone());
                break;
            }
        }
        table.operations.items_read += page.items.len() as u64;
        Ok(page)
    }

    async fn transact(&self, writes: &[Write]) -> Result<(), StoreError> {
        let happens = lock(&self.interruption).take();
        happens.into_iter().for_each(|happens| happens());
        let mut table = lock(&self.table);
        let outcome = table.transact(writes);
        match outcome {
            Ok(()) => table.operations.transactions += 1,
            Err(_) => table.operations.failed_transactions += 1,
        }
        outcome
    }

    async fn write_each(&self, writes: &[Write]) -> Vec<Result<(), StoreError>> {
        let mut table = lock(&self.table);
        table.operations.batch_writes += 1;
        let write_one = |write: &Write| {
            check_write(write)?;
            match write {
                Write::Put { condition: Condition::Unconditional, .. }
                | Write::Delete { condition: Condition::Unconditional, .. } => {
                    table.carry_out(write);
                    Ok(())
                }
                _ => Err(StoreError::Refused("a condition outside a transaction".into())),
            }
        };
        writes.iter().map(write_one).collect()
    }
}
