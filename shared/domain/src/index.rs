//! The record index: the state of each known record, packed into small buckets so that one change rewrites one
//! small item and a million records still fit.
//!
//! Buckets grow by linear hashing: with `n` buckets, growing to `n + 1` splits exactly one of them, so the whole
//! layout is one number and nothing is ever rewritten at once.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::rule::Rule;

/// Entries per bucket that the index aims at: a bucket of short ids is then below one kilobyte, one write unit.
pub const ENTRIES_PER_BUCKET: u64 = 24;
/// First byte of a packed bucket; another one means another layout, which is never guessed at.
const FORMAT: u8 = 2;
/// Bits of the packed rule.
const RULE_BITS: u32 = 5;
/// Stands between partition and id in a key. Below every printable character, so no id begins with it.
const SEPARATOR: char = '\u{1f}';

/// Identity of a record within its resource: partition and id in one text.
pub fn key_of(partition: &str, id: &str) -> String {
    if partition.is_empty() { id.to_owned() } else { format!("{partition}{SEPARATOR}{id}") }
}

/// Partition and id of a key.
pub fn parts_of(key: &str) -> (&str, &str) {
    key.split_once(SEPARATOR).unwrap_or(("", key))
}

/// 64 bits of the key, which place it in a bucket.
pub fn hash_of(key: &str) -> u64 {
    xxh3_64(key.as_bytes())
}

/// The known state of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The fingerprint of the version last seen.
    pub fingerprint: u64,
    /// Its updated stamp in microseconds since 1970, 0 for none.
    pub stamp: i64,
    /// The number of its events; 0 while it is only known from the baseline.
    pub revision: u32,
    /// True: it is gone. The entry stays so that its return is a new revision and not a repeated id.
    pub gone: bool,
    /// The rule that decided about it last: the *why* answer.
    pub rule: Rule,
    /// The time at which a poll last found it new or changed, in minutes since 1970 by our clock.
    pub seen_minute: u32,
}

/// The number of buckets: the whole layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Layout(pub u32);

impl Default for Layout {
    fn default() -> Self {
        Self(1)
    }
}

impl Layout {
    /// The bucket that a hash belongs to.
    pub fn bucket_of(self, hash: u64) -> u32 {
        let ceiling = u64::from(self.0).next_power_of_two();
        let place = hash & (ceiling - 1);
        if place < u64::from(self.0) { place as u32 } else { (place & (ceiling / 2 - 1)) as u32 }
    }

    /// The bucket whose entries are divided when one bucket is added, and the layout after that.
    pub fn grow(self) -> (u32, Layout) {
        let floor = if self.0.is_power_of_two() { self.0 } else { self.0.next_power_of_two() / 2 };
        (self.0 - floor, Layout(self.0 + 1))
    }

    /// True: `entries` need another bucket.
    pub fn is_crowded(self, entries: u64) -> bool {
        entries > u64::from(self.0) * ENTRIES_PER_BUCKET
    }
}

/// A packed bucket: entries ordered by key, each key without what it shares with the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bucket(Bytes);

/// Bytes that are not a bucket of a known format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an index bucket is damaged or of an unknown format")]
pub struct DamagedBucket;

impl Bucket {
    /// Takes stored bytes, checking them through, so that later reads cannot fail.
    pub fn unpack(bytes: Bytes) -> Result<Self, DamagedBucket> {
        let bucket = Self(bytes);
        let mut reader = Reader::new(&bucket.0)?;
        while reader.advance()? {}
        Ok(bucket)
    }

    /// The bytes to store.
    pub fn packed(&self) -> Bytes {
        if self.0.is_empty() { Bytes::from_static(&[FORMAT]) } else { self.0.clone() }
    }

    /// The entry of a key.
    pub fn get(&self, key: &str) -> Option<Entry> {
        let mut reader = Reader::new(&self.0).ok()?;
        while reader.advance().ok()? {
            match reader.key.as_str().cmp(key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(reader.entry),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }

    /// Calls `visit` with every key and entry, in the order of keys.
    pub fn each(&self, mut visit: impl FnMut(&str, Entry)) {
        let Ok(mut reader) = Reader::new(&self.0) else { return };
        while let Ok(true) = reader.advance() {
            visit(&reader.key, reader.entry);
        }
    }

    /// Every key and entry.
    pub fn entries(&self) -> Vec<(String, Entry)> {
        let mut all = Vec::new();
        self.each(|key, entry| all.push((key.to_owned(), entry)));
        all
    }

    /// The bucket with these entries put in or replaced, and its growth. Of several for one key the last counts: a
    /// record that changes while it is listed is judged twice.
    pub fn with(&self, mut changed: Vec<(String, Entry)>) -> (Bucket, Growth) {
        changed.sort_by(|a, b| a.0.cmp(&b.0));
        changed.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = later.1;
            }
            same
        });
        let mut writer = Writer::default();
        let mut growth = Growth::default();
        let mut changed = changed.into_iter().peekable();
        self.each(|key, entry| {
            while let Some((new_key, new_entry)) = changed.next_if(|(new_key, _)| new_key.as_str() < key) {
                writer.push(&new_key, new_entry);
                growth.count(None, new_entry);
            }
            match changed.next_if(|(new_key, _)| new_key == key) {
                Some((_, new_entry)) => {
                    writer.push(key, new_entry);
                    growth.count(Some(entry), new_entry);
                }
                None => writer.push(key, entry),
            }
        });
        for (new_key, new_entry) in changed {
            writer.push(&new_key, new_entry);
            growth.count(None, new_entry);
        }
        (writer.finish(), growth)
    }

    /// Divides the bucket after growth to `layout`: what stays in `stays`, and what moves to the new bucket.
    pub fn split(&self, layout: Layout, stays: u32) -> (Bucket, Bucket) {
        let (mut here, mut there) = (Writer::default(), Writer::default());
        self.each(|key, entry| {
            let half = if layout.bucket_of(hash_of(key)) == stays { &mut here } else { &mut there };
            half.push(key, entry);
        });
        (here.finish(), there.finish())
    }
}

/// The growth of a bucket when entries were put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Growth {
    /// The number of new keys.
    pub news: u64,
    /// The increase of entries of records that are gone; negative when some came back.
    pub gone: i64,
}

impl Growth {
    fn count(&mut self, before: Option<Entry>, after: Entry) {
        self.news += u64::from(before.is_none());
        self.gone += i64::from(after.gone) - i64::from(before.is_some_and(|before| before.gone));
    }
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    last: String,
}

impl Writer {
    fn push(&mut self, key: &str, entry: Entry) {
        if self.bytes.is_empty() {
            self.bytes.push(FORMAT);
        }
        let shared = self.last.bytes().zip(key.bytes()).take_while(|(a, b)| a == b).count();
        let shared = (0..=shared).rev().find(|at| key.is_char_boundary(*at)).unwrap_or(0);
        put_varint(&mut self.bytes, shared as u64);
        put_varint(&mut self.bytes, (key.len() - shared) as u64);
        self.bytes.extend_from_slice(&key.as_bytes()[shared..]);
        self.bytes.extend_from_slice(&entry.fingerprint.to_le_bytes());
        put_varint(&mut self.bytes, zigzag(entry.stamp));
        let counted = u64::from(entry.revision) << RULE_BITS | entry.rule as u64;
        put_varint(&mut self.bytes, counted << 1 | u64::from(entry.gone));
        put_varint(&mut self.bytes, entry.seen_minute.into());
        self.last.clear();
        self.last.push_str(key);
    }

    fn finish(self) -> Bucket {
        Bucket(Bytes::from(self.bytes))
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    key: String,
    entry: Entry,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, DamagedBucket> {
        let rest = match bytes {
            [] => bytes,
            [FORMAT, rest @ ..] => rest,
            _ => return Err(DamagedBucket),
        };
        let entry = Entry { fingerprint: 0, stamp: 0, revision: 0, gone: false, rule: Rule::Baseline, seen_minute: 0 };
        Ok(Self { rest, key: String::new(), entry })
    }

    fn advance(&mut self) -> Result<bool, DamagedBucket> {
        if self.rest.is_empty() {
            return Ok(false);
        }
        let shared = usize::try_from(self.varint()?).map_err(|_| DamagedBucket)?;
        let length = usize::try_from(self.varint()?).map_err(|_| DamagedBucket)?;
        if shared > self.key.len() || !self.key.is_char_boundary(shared) {
            return Err(DamagedBucket);
        }
        self.key.truncate(shared);
        let tail = std::str::from_utf8(self.take(length)?).map_err(|_| DamagedBucket)?;
        self.key.push_str(tail);
        let fingerprint = self.take(8)?.try_into().map_err(|_| DamagedBucket)?;
        let stamp = unzigzag(self.varint()?);
        let counted = self.varint()?;
        let rule = counted >> 1 & ((1 << RULE_BITS) - 1);
        self.entry = Entry {
            fingerprint: u64::from_le_bytes(fingerprint),
            stamp,
            revision: u32::try_from(counted >> (1 + RULE_BITS)).map_err(|_| DamagedBucket)?,
            gone: counted & 1 == 1,
            rule: Rule::ALL.get(rule as usize).copied().ok_or(DamagedBucket)?,
            seen_minute: u32::try_from(self.varint()?).map_err(|_| DamagedBucket)?,
        };
        Ok(true)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DamagedBucket> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DamagedBucket)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, DamagedBucket> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte, rest @ ..] = self.rest else { return Err(DamagedBucket) };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DamagedBucket)
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entry(seed: u64) -> Entry {
        Entry {
            fingerprint: seed,
            stamp: seed as i64 * 31 - 7,
            revision: seed as u32 % 9,
            gone: seed.is_multiple_of(5),
            rule: Rule::ALL[seed as usize % Rule::ALL.len()],
            seen_minute: seed as u32 / 3,
        }
    }

    proptest! {
        #[test]
        fn a_bucket_remembers_what_was_put_in(
            rounds in prop::collection::vec(prop::collection::vec(("[a-cé]{0,4}", any::<u32>()), 0..12), 1..5)
        ) {
            let (mut bucket, mut model) = (Bucket::default(), BTreeMap::new());
            for round in rounds {
                // A key may come twice; the last counts.
                let changed: Vec<(String, Entry)> = round.into_iter().map(|(k, s)| (k, entry(s.into()))).collect();
                let gone = |model: &BTreeMap<String, Entry>| model.values().filter(|entry| entry.gone).count() as i64;
                let (before, gone_before) = (model.len(), gone(&model));
                model.extend(changed.clone());
                let (next, growth) = bucket.with(changed);
                prop_assert_eq!(growth.news as usize, model.len() - before);
                prop_assert_eq!(growth.gone, gone(&model) - gone_before);
                bucket = Bucket::unpack(next.packed()).expect("what was packed unpacks");
            }
            prop_assert_eq!(bucket.entries(), model.clone().into_iter().collect::<Vec<_>>());
            for (key, entry) in model {
                prop_assert_eq!(bucket.get(&key), Some(entry));
            }
            prop_assert_eq!(bucket.get("zzz"), None);
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Bucket::unpack(Bytes::from(bytes));
        }

        #[test]
        fn growing_moves_entries_only_out_of_the_split_bucket(hashes in prop::collection::vec(any::<u64>(), 50), size in 1u32..200) {
            let layout = Layout(size);
            let (split, grown) = layout.grow();
            for hash in hashes {
                let (before, after) = (layout.bucket_of(hash), grown.bucket_of(hash));
                prop_assert!(after < grown.0);
                if before == split {
                    prop_assert!(after == split || after == size);
                } else {
                    prop_assert_eq!(before, after);
                }
            }
        }
    }

    #[test]
    fn a_split_divides_without_loss() {
        let all: Vec<_> = (0..100).map(|n| (format!("id-{n}"), entry(n))).collect();
        let (bucket, growth) = Bucket::default().with(all.clone());
        assert_eq!(growth, Growth { news: 100, gone: 20 });
        let (stays, grown) = Layout(1).grow();
        let (here, there) = bucket.split(grown, stays);
        let mut both = here.entries();
        both.extend(there.entries());
        both.sort_by(|a, b| a.0.cmp(&b.0));
        let mut all = all;
        all.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(both, all);
        assert!(!here.entries().is_empty() && !there.entries().is_empty());
    }

    #[test]
    fn a_bucket_more_is_made_when_all_are_full() {
        assert!(!Layout(2).is_crowded(2 * ENTRIES_PER_BUCKET));
        assert!(Layout(2).is_crowded(2 * ENTRIES_PER_BUCKET + 1));
        assert!(Layout(2).is_crowded(1000));
    }

    #[test]
    fn a_key_that_would_begin_within_a_letter_is_damage() {
        let (one, _) = Bucket::default().with(vec![("é".into(), entry(1))]);
        let bytes = one.packed();
        assert!(Bucket::unpack(bytes.clone()).is_ok());
        for shared in [1, 3] {
            let second = [&[shared, 0][..], &[0; 11]].concat();
            assert_eq!(Bucket::unpack(Bytes::from([&bytes[..], &second].concat())), Err(DamagedBucket), "{shared}");
        }
        let second = [&[2, 1, b'x'][..], &[0; 11]].concat();
        assert!(Bucket::unpack(Bytes::from([&bytes[..], &second].concat())).is_ok());
    }

    #[test]
    fn keys_carry_their_partition() {
        assert_eq!(parts_of(&key_of("cal-1", "ev")), ("cal-1", "ev"));
        assert_eq!(parts_of(&key_of("", "ev")), ("", "ev"));
    }
}
