//! Bodies of items as JSON text.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::port::{Condition, Item, Key, Write};

/// A stored item does not say what its key promises.
#[derive(Debug, thiserror::Error)]
#[error("the item under {}/{} cannot be read", key.pk, key.sk)]
pub struct Unreadable {
    /// Key of the item.
    pub key: Key,
    /// The reason.
    #[source]
    pub source: serde_json::Error,
}

/// Reads a JSON body.
pub fn read<T: DeserializeOwned>(item: &Item) -> Result<T, Unreadable> {
    serde_json::from_slice(&item.body).map_err(|source| Unreadable { key: item.key.clone(), source })
}

/// A put of a JSON body.
pub fn put<T: Serialize>(key: Key, version: u64, body: &T, condition: Condition) -> Write {
    let body = serde_json::to_vec(body).expect("table bodies have text keys and serialize");
    Write::Put { item: Item { key, version, body: Bytes::from(body), expires_at: None }, condition }
}

/// A put of an item that must not exist yet.
pub fn insert<T: Serialize>(key: Key, body: &T) -> Write {
    put(key, 1, body, Condition::Absent)
}

/// A put over the version that was read.
pub fn replace<T: Serialize>(key: Key, read_version: u64, body: &T) -> Write {
    put(key, read_version + 1, body, Condition::Version(read_version))
}
