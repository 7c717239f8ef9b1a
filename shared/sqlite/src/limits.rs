//! Refuses what the cloud's table refuses, and packs writes into the form that the writer takes.

use std::collections::HashSet;

use store::port::{Condition, Key, StoreError, Write};

use crate::body::{Stored, item_size, pack};

/// The cloud's limit on an item, attribute names included.
const LARGEST_ITEM: usize = 400 * 1024;
/// The cloud's limits on a transaction.
const LARGEST_TRANSACTION: usize = 100;
const LARGEST_TRANSACTION_BYTES: usize = 4 * 1024 * 1024;

/// A write that keeps the limits, ready to be carried out.
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) condition: Condition,
    pub(crate) kind: ChangeKind,
}

/// The effect of a [`Change`].
pub(crate) enum ChangeKind {
    /// Stores the item.
    Put {
        /// New version.
        version: u64,
        /// Seconds since 1970.
        expires_at: Option<i64>,
        /// The body.
        body: Stored,
    },
    /// Removes the item.
    Delete,
    /// Changes nothing.
    Check,
}

impl Change {
    /// Packs a write and checks it alone.
    pub(crate) fn new(write: &Write) -> Result<Self, StoreError> {
        let key = write.key().clone();
        if !(1..=2048).contains(&key.pk.len()) || !(1..=1024).contains(&key.sk.len()) {
            return Err(StoreError::Refused(format!("the key {key:?} is empty or too long")));
        }
        let (condition, kind) = match write {
            Write::Put { item, condition } => {
                let body = pack(item);
                let size = item_size(&key, body.len());
                if size > LARGEST_ITEM {
                    return Err(StoreError::Refused(format!("the item {key:?} has {size} bytes")));
                }
                let expires_at = item.expires_at.map(|at| at.timestamp());
                (*condition, ChangeKind::Put { version: item.version, expires_at, body })
            }
            Write::Delete { condition, .. } => (*condition, ChangeKind::Delete),
            Write::Check { condition, .. } => (*condition, ChangeKind::Check),
        };
        Ok(Self { key, condition, kind })
    }

    /// The same for a write outside of a transaction, which has no condition.
    pub(crate) fn alone(write: &Write) -> Result<Self, StoreError> {
        match write {
            Write::Put { condition: Condition::Unconditional, .. }
            | Write::Delete { condition: Condition::Unconditional, .. } => Self::new(write),
            _ => Err(StoreError::Refused("a condition outside a transaction".into())),
        }
    }

    /// The same for all writes of a transaction.
    pub(crate) fn together(writes: &[Write]) -> Result<Vec<Self>, StoreError> {
        if writes.len() > LARGEST_TRANSACTION {
            return Err(StoreError::Refused(format!("{} writes in one transaction", writes.len())));
        }
        let mut keys = HashSet::with_capacity(writes.len());
        if let Some(twice) = writes.iter().map(Write::key).find(|key| !keys.insert(*key)) {
            return Err(StoreError::Refused(format!("{twice:?} twice in one transaction")));
        }
        let changes: Vec<Self> = writes.iter().map(Self::new).collect::<Result<_, _>>()?;
        let bytes: usize = changes.iter().map(Self::size).sum();
        if bytes > LARGEST_TRANSACTION_BYTES {
            return Err(StoreError::Refused(format!("{bytes} bytes in one transaction")));
        }
        Ok(changes)
    }

    /// Bytes that it stores, or takes while it waits.
    pub(crate) fn size(&self) -> usize {
        let body = match &self.kind {
            ChangeKind::Put { body, .. } => body.len(),
            ChangeKind::Delete | ChangeKind::Check => 0,
        };
        item_size(&self.key, body)
    }
}
