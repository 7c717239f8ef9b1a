//! The records that a complete listing has seen, kept across invocations: without them a listing that outlives its
//! invocation could not know what is missing.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::id::InstanceId;

use crate::keys;
use crate::port::{Condition, Item, Key, Store, StoreError, Write};

/// Hashes in one stored piece: 128 KB.
const HASHES_PER_PIECE: usize = 16 * 1024;
/// The store forgets the pieces of an abandoned pass after this time.
const PIECES_KEPT: TimeDelta = TimeDelta::days(7);

/// Hashes of the keys that were listed: 8 bytes each, stored in pieces that are only ever added to.
#[derive(Debug, Default)]
pub struct Seen {
    all: HashSet<u64>,
    unsaved: Vec<u64>,
    pieces: u32,
}

impl Seen {
    /// The hashes that an earlier invocation stored. None: a piece is forgotten already.
    ///
    /// # Errors
    /// The store failed.
    pub async fn load(
        store: &dyn Store,
        instance: InstanceId,
        resource: &str,
        pieces: u32,
    ) -> Result<Option<Self>, StoreError> {
        let keys: Vec<Key> = (0..pieces).map(|piece| keys::seen_key(instance, resource, piece)).collect();
        let items = store.get_many(&keys).await?;
        if items.len() != keys.len() {
            return Ok(None);
        }
        let mut all = HashSet::with_capacity(keys.len() * HASHES_PER_PIECE);
        for item in items {
            let hashes = item.body.as_chunks::<8>().0;
            all.extend(hashes.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        }
        Ok(Some(Self { all, unsaved: Vec::new(), pieces }))
    }

    /// Adds the hash of a listed record's key.
    pub fn insert(&mut self, hash: u64) {
        if self.all.insert(hash) {
            self.unsaved.push(hash);
        }
    }

    /// True if a record with this hash was listed.
    pub fn contains(&self, hash: u64) -> bool {
        self.all.contains(&hash)
    }

    /// The number of stored pieces, with those that [`Self::take_pieces`] made.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// Writes for the hashes that were added since the last time, to be carried out in transactions that the state's
    /// version fences.
    pub fn take_pieces(&mut self, instance: InstanceId, resource: &str, now: DateTime<Utc>) -> Vec<Write> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut writes = Vec::new();
        for hashes in unsaved.chunks(HASHES_PER_PIECE) {
            let body: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            let key = keys::seen_key(instance, resource, self.pieces);
            let item = Item { key, version: 1, body: Bytes::from(body), expires_at: Some(now + PIECES_KEPT) };
            writes.push(Write::Put { item, condition: Condition::Unconditional });
            self.pieces += 1;
        }
        writes
    }
}
