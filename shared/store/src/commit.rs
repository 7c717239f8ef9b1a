//! Transactions and the one way of trying again when others wrote the same records.

use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::ambient::Ambient;
use crate::port::{Store, StoreError, Write};
use crate::record::{RecordError, RecordKey, Snapshot};

/// The outcome of a transaction that the store did not fail on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Commit {
    /// All writes took effect.
    Done,
    /// None did: the record of the write at this place in the list was changed by others.
    Lost {
        /// Place in the list of writes.
        index: usize,
    },
}

/// Carries out all of the writes or none; no writes are done at once. See [`Store::transact`] for the bounds.
///
/// # Errors
/// The store was busy or refused; nothing is known to be written.
pub async fn commit(store: &dyn Store, writes: &[Write]) -> Result<Commit, StoreError> {
    if writes.is_empty() {
        return Ok(Commit::Done);
    }
    match store.transact(writes).await {
        Ok(()) => Ok(Commit::Done),
        Err(StoreError::Conflict { index }) => Ok(Commit::Lost { index }),
        Err(error) => Err(error),
    }
}

/// Carries out writes without conditions, each by itself.
///
/// # Errors
/// The first write that failed; the others may have been carried out.
pub async fn write_each(store: &dyn Store, writes: &[Write]) -> Result<(), StoreError> {
    if writes.is_empty() {
        return Ok(());
    }
    store.write_each(writes).await.into_iter().collect()
}

/// Others changed the same record before every try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("others kept changing the same record")]
pub struct Contended;

/// The tries that a change has. Between two tries it waits a random time that grows with each, so that those who race
/// for one record come apart.
#[derive(Debug)]
pub struct Attempts {
    left: u32,
    lost: u32,
}

impl Attempts {
    /// For a record that few write at a time, such as an instance: eight tries.
    pub fn few() -> Self {
        Self { left: 8, lost: 0 }
    }

    /// For a record that everybody in an organization or behind a callback writes: fifty tries.
    pub fn many() -> Self {
        Self { left: 50, lost: 0 }
    }

    /// Notes that a try was lost and waits for the next: up to 10 ms after the first, doubling to 640 ms.
    ///
    /// # Errors
    /// That was the last try.
    pub async fn lost(&mut self, ambient: &dyn Ambient) -> Result<(), Contended> {
        self.left -= 1;
        if self.left == 0 {
            return Err(Contended);
        }
        let longest_ms = 10 << self.lost.min(6);
        self.lost += 1;
        ambient.sleep(Duration::from_millis(ambient.random() % longest_ms)).await;
        Ok(())
    }
}

/// A decision about a record that was read.
#[derive(Debug)]
pub enum Change<O> {
    /// Leaves everything as it is.
    Keep(O),
    /// Carries out these writes, which are made from the snapshot, as one transaction.
    Write(Vec<Write>, O),
}

/// Reads a record, decides, and commits; decides again on the newer record when others wrote in between.
///
/// # Errors
/// What `change` answers, a record that cannot be read, a store that fails, or [`Contended`] after the last try.
// Not `AsyncFnMut`: that its futures can be sent is not proven for every lifetime, and handlers and tasks need it.
pub async fn update<T, O, E, F>(
    store: &dyn Store,
    ambient: &dyn Ambient,
    mut attempts: Attempts,
    key: &RecordKey<T>,
    mut change: impl FnMut(Snapshot<T>) -> F,
) -> Result<O, E>
where
    T: DeserializeOwned,
    F: Future<Output = Result<Change<O>, E>>,
    E: From<RecordError>,
{
    loop {
        match change(key.snapshot(store).await?).await? {
            Change::Keep(outcome) => return Ok(outcome),
            Change::Write(writes, outcome) => match commit(store, &writes).await.map_err(RecordError::from)? {
                Commit::Done => return Ok(outcome),
                Commit::Lost { .. } => attempts.lost(ambient).await.map_err(RecordError::from)?,
            },
        }
    }
}
