//! What a complete listing has seen, kept across invocations: without it a listing that outlives its invocation
//! could never say what is missing.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::job::PollJob;
use crate::ports::{Condition, Item, Key, Store, Write};
use crate::service::FlowError;
use crate::table;

/// Hashes in one stored piece: 128 KB.
const HASHES_PER_PIECE: usize = 16 * 1024;
/// Pieces of a pass that nobody goes on with are of no use; the table forgets them by itself.
const KEPT: TimeDelta = TimeDelta::days(7);

/// Hashes of the keys that were listed: 8 bytes each, stored in pieces that are only ever added to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    all: HashSet<u64>,
    unsaved: Vec<u64>,
    pieces: u32,
}

impl Seen {
    /// What an earlier invocation stored. None when a piece is forgotten already.
    pub(super) async fn load(store: &dyn Store, job: &PollJob, pieces: u32) -> Result<Option<Self>, FlowError> {
        let keys: Vec<Key> = (0..pieces).map(|piece| table::seen_key(job.instance, &job.resource, piece)).collect();
        let items = store.get_many(&keys).await.map_err(FlowError::store("what a listing has seen"))?;
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

    pub(super) fn insert(&mut self, hash: u64) {
        if self.all.insert(hash) {
            self.unsaved.push(hash);
        }
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.all.contains(&hash)
    }

    /// How many pieces are stored, those taken included.
    pub(super) fn pieces(&self) -> u32 {
        self.pieces
    }

    /// What was seen since the last time, to be written in transactions that the state's version fences.
    pub(super) fn take_pieces(&mut self, job: &PollJob, now: DateTime<Utc>) -> Vec<Write> {
        let unsaved = std::mem::take(&mut self.unsaved);
        let mut writes = Vec::new();
        for hashes in unsaved.chunks(HASHES_PER_PIECE) {
            let body: Vec<u8> = hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
            let key = table::seen_key(job.instance, &job.resource, self.pieces);
            let item = Item { key, version: 1, body: Bytes::from(body), expires_at: Some(now + KEPT) };
            writes.push(Write::Put { item, condition: Condition::Unconditional });
            self.pieces += 1;
        }
        writes
    }
}
