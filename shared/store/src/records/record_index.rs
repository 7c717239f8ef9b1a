//! The record index of a resource as a poll works on it: buckets are read when first needed, changed in memory, and
//! written by the commit in the same transaction as the events they stand for.

use std::collections::{BTreeMap, BTreeSet};

use domain::id::InstanceId;
use domain::index::{Bucket, Entry, Layout, hash_of};

use super::resource::ResourceRecord;
use crate::keys;
use crate::port::{Condition, Item, Key, Range, Store, StoreError, Write};

/// The record index cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store was busy or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bucket is not what its key promises.
    #[error("{0}")]
    Damaged(&'static str),
}

/// The loaded part of a record index, with the changes made to it.
pub struct RecordIndex {
    instance: InstanceId,
    resource: String,
    layout: Layout,
    entries: u64,
    gone: u64,
    /// In order, so that missing records are confirmed and emitted in the same order every time.
    buckets: BTreeMap<u32, Bucket>,
    everything_loaded: bool,
    dirty: BTreeSet<u32>,
}

impl RecordIndex {
    /// The index of a resource as its state describes it.
    pub fn of(instance: InstanceId, resource: &str, state: &ResourceRecord) -> Self {
        Self {
            instance,
            resource: resource.to_owned(),
            layout: state.buckets,
            entries: state.entries,
            gone: state.gone,
            buckets: BTreeMap::new(),
            everything_loaded: state.entries == 0,
            dirty: BTreeSet::new(),
        }
    }

    /// Notes the size and the layout of the index in the resource's state.
    pub fn note_in(&self, state: &mut ResourceRecord) {
        (state.buckets, state.entries, state.gone) = (self.layout, self.entries, self.gone);
    }

    /// Reads the buckets of these keys, except those that are loaded.
    ///
    /// # Errors
    /// The store failed, or a bucket is damaged.
    pub async fn load(&mut self, store: &dyn Store, hashes: impl IntoIterator<Item = u64>) -> Result<(), IndexError> {
        if self.everything_loaded {
            return Ok(());
        }
        let wanted: BTreeSet<u32> = hashes
            .into_iter()
            .map(|hash| self.layout.bucket_of(hash))
            .filter(|bucket| !self.buckets.contains_key(bucket))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let keys: Vec<_> = wanted.iter().map(|bucket| self.key(*bucket)).collect();
        self.add(store.get_many(&keys).await?)?;
        for bucket in wanted {
            self.buckets.entry(bucket).or_default();
        }
        Ok(())
    }

    /// Reads the whole index, for a complete listing.
    ///
    /// # Errors
    /// The store failed, or a bucket is damaged.
    pub async fn load_everything(&mut self, store: &dyn Store) -> Result<(), IndexError> {
        if self.everything_loaded {
            return Ok(());
        }
        let partition = keys::instance_partition(self.instance);
        let range = Range::prefix(&keys::index_prefix(&self.resource));
        let mut after = None;
        loop {
            let page = store.query(&partition, &range, after.as_deref()).await?;
            self.add(page.items)?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        self.everything_loaded = true;
        Ok(())
    }

    fn key(&self, bucket: u32) -> Key {
        keys::bucket_key(self.instance, &self.resource, bucket)
    }

    fn add(&mut self, items: Vec<Item>) -> Result<(), IndexError> {
        for item in items {
            let number = item.key.sk.rsplit('#').next().and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let number = number.ok_or(IndexError::Damaged("an index bucket has no number"))?;
            // An index of another layout left it behind.
            if number >= self.layout.0 {
                continue;
            }
            let bucket = Bucket::unpack(item.body).map_err(|_| IndexError::Damaged("an index bucket"))?;
            // A bucket that this poll changed in memory is newer than the stored one.
            self.buckets.entry(number).or_insert(bucket);
        }
        Ok(())
    }

    /// The entry of a key. Its bucket must have been loaded.
    pub fn get(&self, hash: u64, key: &str) -> Option<Entry> {
        self.buckets.get(&self.layout.bucket_of(hash))?.get(key)
    }

    /// Puts entries in and grows the layout with their number. The keys' buckets must have been loaded; buckets to be
    /// split are read here.
    ///
    /// # Errors
    /// The store failed, or a bucket is damaged.
    pub async fn put(&mut self, store: &dyn Store, entries: Vec<(String, Entry)>) -> Result<(), IndexError> {
        let mut by_bucket: BTreeMap<u32, Vec<(String, Entry)>> = BTreeMap::new();
        for (key, entry) in entries {
            by_bucket.entry(self.layout.bucket_of(hash_of(&key))).or_default().push((key, entry));
        }
        for (number, entries) in by_bucket {
            let bucket = self.buckets.entry(number).or_default();
            let (changed, growth) = bucket.with(entries);
            *bucket = changed;
            self.entries += growth.news;
            self.gone = self.gone.saturating_add_signed(growth.gone);
            self.dirty.insert(number);
        }
        while self.layout.is_crowded(self.entries) {
            let (split, grown) = self.layout.grow();
            if !self.buckets.contains_key(&split) && !self.everything_loaded {
                self.add(store.get_many(&[self.key(split)]).await?)?;
            }
            let (stays, moves) = self.buckets.entry(split).or_default().split(grown, split);
            self.buckets.insert(split, stays);
            self.buckets.insert(grown.0 - 1, moves);
            self.dirty.insert(split);
            self.dirty.insert(grown.0 - 1);
            self.layout = grown;
        }
        Ok(())
    }

    /// The number of buckets that wait to be written.
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Writes for at most `most` changed buckets, which then count as written. Unconditional: the version of the
    /// resource's state, in the same transaction, fences them.
    pub fn take_writes(&mut self, most: usize) -> Vec<Write> {
        let taken: Vec<u32> = self.dirty.iter().take(most).copied().collect();
        let mut writes = Vec::with_capacity(taken.len());
        for number in taken {
            self.dirty.remove(&number);
            let body = self.buckets.get(&number).map(Bucket::packed).unwrap_or_default();
            let item = Item { key: self.key(number), version: 1, body, expires_at: None };
            writes.push(Write::Put { item, condition: Condition::Unconditional });
        }
        writes
    }

    /// Every key and entry; everything must have been loaded.
    pub fn each(&self, mut visit: impl FnMut(&str, Entry)) {
        for bucket in self.buckets.values() {
            bucket.each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::rule::Rule;

    use super::*;
    use crate::memory::MemoryStore;

    fn entries(range: std::ops::Range<u64>) -> Vec<(String, Entry)> {
        let entry =
            |n| Entry { fingerprint: n, stamp: 1, revision: 1, gone: false, rule: Rule::Baseline, seen_minute: 1 };
        range.map(|n| (format!("record {n}"), entry(n))).collect()
    }

    /// Adds entries to what is stored, as a poll does that knows of no others.
    async fn add(store: &MemoryStore, state: &mut ResourceRecord, range: std::ops::Range<u64>) {
        let mut index = RecordIndex::of(InstanceId(42), "things", state);
        let entries = entries(range);
        index.load(store, entries.iter().map(|(key, _)| hash_of(key))).await.expect("an index");
        index.put(store, entries).await.expect("an index");
        index.note_in(state);
        store.transact(&index.take_writes(99)).await.expect("written");
    }

    #[tokio::test]
    async fn an_index_that_grows_keeps_what_was_not_read() {
        let (store, mut state) = (MemoryStore::default(), ResourceRecord::default());
        add(&store, &mut state, 0..600).await;
        for few in 0..20 {
            add(&store, &mut state, 600 + 30 * few..630 + 30 * few).await;
        }
        let mut index = RecordIndex::of(InstanceId(42), "things", &state);
        index.load_everything(&store).await.expect("an index");
        for (key, entry) in entries(0..1200) {
            assert_eq!(index.get(hash_of(&key), &key), Some(entry), "{key}");
        }
        assert_eq!((state.entries, state.buckets), (1200, Layout(50)));
    }

    #[tokio::test]
    async fn a_bucket_in_hand_is_not_read_again_to_be_split() {
        let (store, mut state) = (MemoryStore::default(), ResourceRecord::default());
        add(&store, &mut state, 0..24).await;
        assert_eq!((state.buckets, store.operations().batch_gets), (Layout(1), 0), "there was nothing to read");
        add(&store, &mut state, 24..25).await;
        assert_eq!((state.buckets, store.operations().batch_gets), (Layout(2), 1));
    }
}
