//! The port to the one table: items by key, conditions on versions, transactions, ordered reads.
//!
//! The trait says the least that an implementation must guarantee and what success does *not* promise. All
//! implementations pass one contract suite.

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

/// The units that a table charged, by its price list.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Capacity {
    /// Read units: one is 4 KB read strongly consistent, or 8 KB eventually.
    pub reads: f64,
    /// Write units: one is 1 KB written, or half a KB in a transaction.
    pub writes: f64,
    /// Calls that were answered.
    pub calls: u64,
}

/// The place of an item: partition key and sort key, both non-empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Partition key: what is read together lives under one.
    pub pk: String,
    /// Sort key: order within the partition, by bytes.
    pub sk: String,
}

impl Key {
    /// A key of its two parts.
    pub fn new(pk: impl Into<String>, sk: impl Into<String>) -> Self {
        Self { pk: pk.into(), sk: sk.into() }
    }
}

/// A stored item. Its meaning is in `body` (see [`crate::records`]); the store knows only version and expiry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its key.
    pub key: Key,
    /// Counts the writes of this item; conditions compare it.
    pub version: u64,
    /// The contents: JSON text, or bytes of a packed form.
    pub body: Bytes,
    /// When it may be forgotten. It can outlive this instant by days: readers compare the time themselves.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The condition on the stored item under which a write happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: last writer wins. For items that only one writer can have a reason to write.
    Unconditional,
    /// No item under the key.
    Absent,
    /// An item under the key, of exactly this version.
    Version(u64),
    /// An item under the key, of whatever version.
    Present,
}

/// One write. The new version of a put is chosen by the caller (usually the read one plus one).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Replaces the whole item.
    Put {
        /// The item as it will be.
        item: Item,
        /// The condition on the stored item.
        condition: Condition,
    },
    /// Removes the item; removing what is absent succeeds unless the condition says otherwise.
    Delete {
        /// Key of the item.
        key: Key,
        /// The condition on the stored item.
        condition: Condition,
    },
    /// Writes nothing, but the transaction fails unless the condition holds.
    Check {
        /// Key of the item.
        key: Key,
        /// The condition on the stored item.
        condition: Condition,
    },
}

impl Write {
    /// True if it changes something: a check does not.
    pub fn changes(&self) -> bool {
        !matches!(self, Write::Check { .. })
    }

    /// Size of the item as far as a transaction's limit counts it, in bytes, with some room for what an adapter adds.
    pub fn weight(&self) -> usize {
        let body = if let Write::Put { item, .. } = self { item.body.len() } else { 0 };
        self.key().pk.len() + self.key().sk.len() + body + 100
    }

    /// The key it is about.
    pub fn key(&self) -> &Key {
        match self {
            Write::Put { item, .. } => &item.key,
            Write::Delete { key, .. } | Write::Check { key, .. } => key,
        }
    }
}

/// A stretch of the sort keys of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First sort key, inclusive.
    pub from: String,
    /// Last sort key, inclusive.
    pub to: String,
    /// Largest first.
    pub descending: bool,
    /// At most this many items in the answer; fewer may come though more exist.
    pub limit: Option<usize>,
    /// Reads what every earlier successful write left. Costs twice as much on the cloud's table.
    pub consistent: bool,
}

impl Range {
    /// Every sort key that starts with `prefix`, ascending, strongly consistent.
    pub fn prefix(prefix: &str) -> Self {
        Self {
            from: prefix.to_owned(),
            to: format!("{prefix}\u{10ffff}"),
            descending: false,
            limit: None,
            consistent: true,
        }
    }

    /// The whole partition. Sort keys begin with a printable character.
    pub fn all() -> Self {
        Self::between(" ", "\u{10ffff}")
    }

    /// From one sort key to another, both inclusive, ascending, strongly consistent.
    pub fn between(from: impl Into<String>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), descending: false, limit: None, consistent: true }
    }

    /// The same, largest first.
    pub fn descending(self) -> Self {
        Self { descending: true, ..self }
    }

    /// The same, with at most `limit` items an answer.
    pub fn limit(self, limit: usize) -> Self {
        Self { limit: Some(limit), ..self }
    }
}

/// One answer of a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryPage {
    /// In the order asked for.
    pub items: Vec<Item>,
    /// The sort key after which the next page starts. None: there is no more.
    /// May be set though nothing follows.
    pub next: Option<String>,
}

/// The reason why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A condition did not hold; nothing was written. `index` is the first failing write's place in the list.
    #[error("a condition on write {index} did not hold")]
    Conflict {
        /// Place in the list of writes.
        index: usize,
    },
    /// Throttled, raced or out of reach: nothing is known to be written, though it may have been. Try again.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// There is no room on the disk: nothing was written, and nothing will be until somebody makes room.
    #[error("the store is full: {0}")]
    Full(String),
    /// It will not work by trying again: an item too large, a table missing, a permission lacking.
    #[error("the store refused: {0}")]
    Refused(String),
}

/// The one table: items by key, atomic writes, ordered reads within a partition.
#[async_trait]
pub trait Store: Send + Sync {
    /// One item, strongly consistent.
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError>;

    /// Many items by key, in no particular order, absent ones left out; any number of keys, strongly consistent.
    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, StoreError>;

    /// A stretch of one partition. `after` continues from [`QueryPage::next`].
    async fn query(&self, pk: &str, range: &Range, after: Option<&str>) -> Result<QueryPage, StoreError>;

    /// All of the writes or none. At most 100, 4 MB together, no key twice. A single write costs half of
    /// what it costs in company, and implementations use that.
    async fn transact(&self, writes: &[Write]) -> Result<(), StoreError>;

    /// Unconditional writes in no order and without atomicity, any number. The answer has one entry for each
    /// write; implementations retry throttled entries for a while before they report them.
    async fn write_each(&self, writes: &[Write]) -> Vec<Result<(), StoreError>>;

    /// The units charged since the store was made; none where nothing is charged.
    fn capacity(&self) -> Capacity {
        Capacity::default()
    }
}

/// Every item of a partition whose sort key starts with `prefix`, page after page. For partitions that are small
/// or that have to be walked whole.
pub async fn query_all(store: &dyn Store, pk: &str, prefix: &str) -> Result<Vec<Item>, StoreError> {
    let range = Range::prefix(prefix);
    let mut page = store.query(pk, &range, None).await?;
    let mut items = page.items;
    while let Some(after) = page.next.take() {
        page = store.query(pk, &range, Some(&after)).await?;
        items.append(&mut page.items);
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::insert;
    use crate::memory::MemoryStore;

    #[tokio::test]
    async fn a_limited_range_is_read_so_many_at_a_time() {
        let store = MemoryStore::default();
        let writes: Vec<Write> = (0..5).map(|n| insert(Key::new("p", format!("a{n}")), &n)).collect();
        store.transact(&writes).await.expect("an empty table");
        let range = Range::prefix("a").descending().limit(2);
        let (mut pages, mut after) = (Vec::new(), None);
        loop {
            let page = store.query("p", &range, after.as_deref()).await.expect("a page");
            pages.push(page.items.into_iter().map(|item| item.key.sk).collect::<Vec<_>>());
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(pages, [vec!["a4", "a3"], vec!["a2", "a1"], vec!["a0"]]);
    }
}
