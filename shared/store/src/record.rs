//! Records under typed keys: what is stored, which version was read, and the writes that depend on it.
//!
//! A step reads a [`Snapshot`] or a [`Stored`] record, decides, and gets its [`Write`]s from it. The version that was
//! read stays inside: a write made from a record takes effect only if nobody has written the record since.

use std::marker::PhantomData;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, Unreadable};
use crate::commit::Contended;
use crate::pages::Cursor;
use crate::port::{Condition, Item, Key, Store, StoreError, Write};

/// The reason why a record could not be read or changed. Errors of the steps above have one variant for it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The store was busy or refused. The cause stays visible as such: callers tell busy from refused.
    #[error("reading or writing a record")]
    Store(#[from] StoreError),
    /// The item does not hold what its key promises.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Others wrote the same record before every try; nothing was changed.
    #[error(transparent)]
    Contended(#[from] Contended),
}

/// The key of a record of type `T`.
#[derive(Debug)]
pub struct RecordKey<T> {
    key: Key,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for RecordKey<T> {
    fn clone(&self) -> Self {
        Self::of(self.key.clone())
    }
}

impl<T> PartialEq for RecordKey<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<T> RecordKey<T> {
    pub(crate) fn of(key: Key) -> Self {
        Self { key, record: PhantomData }
    }

    /// The key as the port takes it.
    pub fn as_key(&self) -> &Key {
        &self.key
    }

    /// The snapshot of a record that is not there.
    pub fn none(self) -> Snapshot<T> {
        Snapshot { key: self, found: None }
    }

    /// Removes the record, if there is one.
    pub fn delete(&self) -> Write {
        Write::Delete { key: self.key.clone(), condition: Condition::Unconditional }
    }

    /// Removes the record; the transaction fails unless there is one.
    pub fn take(&self) -> Write {
        Write::Delete { key: self.key.clone(), condition: Condition::Present }
    }

    /// Writes nothing, but the transaction fails unless there is a record.
    pub fn must_exist(&self) -> Write {
        Write::Check { key: self.key.clone(), condition: Condition::Present }
    }
}

impl<T: DeserializeOwned> RecordKey<T> {
    /// The record, if there is one. Strongly consistent.
    pub async fn get(&self, store: &dyn Store) -> Result<Option<Stored<T>>, RecordError> {
        let item = store.get(&self.key).await?;
        Ok(item.as_ref().map(Stored::read).transpose()?)
    }

    /// True if there is a record. Strongly consistent.
    pub async fn exists(&self, store: &dyn Store) -> Result<bool, StoreError> {
        Ok(store.get(&self.key).await?.is_some())
    }

    /// The record or its absence; a write made from either fails when that has changed.
    pub async fn snapshot(&self, store: &dyn Store) -> Result<Snapshot<T>, RecordError> {
        Ok(Snapshot { key: self.clone(), found: self.get(store).await? })
    }
}

impl<T: Serialize> RecordKey<T> {
    /// Writes a record that must not exist yet.
    pub fn insert(&self, record: &T) -> Write {
        codec::insert(self.key.clone(), record)
    }

    /// Writes the record whatever is stored; for records that only one writer has a reason to write.
    pub fn put(&self, record: &T) -> Write {
        codec::put(self.key.clone(), 1, record, Condition::Unconditional)
    }
}

/// The records under these keys in no particular order; absent ones are left out. Strongly consistent; no keys are no
/// call.
///
/// # Errors
/// The store failed, or a record cannot be read.
pub async fn get_many<T: DeserializeOwned>(
    store: &dyn Store,
    keys: impl IntoIterator<Item = RecordKey<T>>,
) -> Result<Vec<Stored<T>>, RecordError> {
    let keys: Vec<Key> = keys.into_iter().map(|key| key.key).collect();
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let items = store.get_many(&keys).await?;
    Ok(items.iter().map(Stored::read).collect::<Result<_, _>>()?)
}

/// The version of a record: opaque, for entries that name the version they follow from, and for clients who change a
/// record only as they have seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Version(pub(crate) u64);

impl Version {
    /// Of a record that was just inserted.
    pub const FIRST: Self = Self(1);
}

impl std::str::FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A record as it was read.
#[derive(Debug, Clone)]
pub struct Stored<T> {
    /// Its contents.
    pub record: T,
    key: Key,
    version: u64,
    expires_at: Option<DateTime<Utc>>,
}

impl<T: DeserializeOwned> Stored<T> {
    /// Reads the body of an item.
    ///
    /// # Errors
    /// The body is not a `T`.
    pub fn read(item: &Item) -> Result<Self, Unreadable> {
        let record = codec::read(item)?;
        Ok(Self { record, key: item.key.clone(), version: item.version, expires_at: item.expires_at })
    }
}

impl<T> Stored<T> {
    /// The key it was read under.
    pub fn key(&self) -> RecordKey<T> {
        RecordKey::of(self.key.clone())
    }

    /// The version that was read.
    pub fn version(&self) -> Version {
        Version(self.version)
    }

    /// The place of this record in a listing of its partition.
    pub fn cursor(&self) -> Cursor<T> {
        Cursor::of(self.key.sk.clone())
    }

    /// When the store may forget it.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.expires_at
    }

    /// True if its time is over, though the store may still have it.
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    /// Removes the record, unless it was written since.
    pub fn delete(&self) -> Write {
        Write::Delete { key: self.key.clone(), condition: Condition::Version(self.version) }
    }

    /// Writes nothing, but the transaction fails if the record was written since.
    pub fn unchanged(&self) -> Write {
        Write::Check { key: self.key.clone(), condition: Condition::Version(self.version) }
    }

    /// The contents, and the same place and version without them.
    pub fn split(self) -> (T, Stored<()>) {
        let place = Stored { record: (), key: self.key, version: self.version, expires_at: self.expires_at };
        (self.record, place)
    }

    /// The same place and version with other contents.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Stored<U> {
        Stored { record: change(self.record), key: self.key, version: self.version, expires_at: self.expires_at }
    }
}

impl<T: Serialize> Stored<T> {
    /// Writes other contents in its place, unless it was written since. The expiry stays.
    pub fn replace(&self, record: &T) -> Write {
        expiring(codec::replace(self.key.clone(), self.version, record), self.expires_at)
    }

    /// Takes note that the write of [`Self::replace`] went through.
    pub fn replaced(&mut self, record: T) {
        self.record = record;
        self.version += 1;
    }
}

/// The result of a read under a key: a record, or that there is none.
#[derive(Debug, Clone)]
pub struct Snapshot<T> {
    key: RecordKey<T>,
    found: Option<Stored<T>>,
}

impl<T> Snapshot<T> {
    /// The contents, if there is a record.
    pub fn record(&self) -> Option<&T> {
        self.found.as_ref().map(|stored| &stored.record)
    }

    /// The record as it was read, if there is one.
    pub fn stored(self) -> Option<Stored<T>> {
        self.found
    }

    /// The version that was read; the initial one where there is no record.
    pub fn version(&self) -> Version {
        self.found.as_ref().map(Stored::version).unwrap_or_default()
    }

    /// Writes nothing, but the transaction fails if the record was written, made or removed since.
    pub fn unchanged(&self) -> Write {
        match &self.found {
            Some(stored) => stored.unchanged(),
            None => Write::Check { key: self.key.key.clone(), condition: Condition::Absent },
        }
    }

    /// Removes the record, unless it was written since. None: there is nothing to remove.
    pub fn delete(&self) -> Option<Write> {
        self.found.as_ref().map(Stored::delete)
    }
}

impl<T: Serialize> Snapshot<T> {
    /// Writes the record, unless it was written, made or removed since.
    pub fn put(&self, record: &T) -> Write {
        match &self.found {
            Some(stored) => stored.replace(record),
            None => self.key.insert(record),
        }
    }

    /// Takes note that the write of [`Self::put`] went through.
    pub fn written(&mut self, record: T) {
        let key = self.key.key.clone();
        match &mut self.found {
            Some(stored) => stored.replaced(record),
            None => self.found = Some(Stored { record, key, version: 1, expires_at: None }),
        }
    }
}

/// The same put, of an item that may be forgotten from that instant on. Other writes stay as they are.
pub fn expiring(write: Write, expires_at: Option<DateTime<Utc>>) -> Write {
    match write {
        Write::Put { item, condition } => Write::Put { item: Item { expires_at, ..item }, condition },
        other => other,
    }
}
