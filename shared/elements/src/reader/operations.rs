//! Reads history entries: lists of operations on records.

use std::collections::HashMap;

use domain::record::ListedAs;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{PageReading, RecordReader, Row};
use crate::definition::OperationLists;
use crate::pointer::Wanted;

/// The values to find in each entry: its number, and its lists of operations.
#[derive(Debug, Clone)]
pub(super) struct OperationReader {
    wanted: Wanted,
    version: usize,
    /// The slot of each list, and the operation that it stands for.
    lists: Vec<(usize, ListedAs)>,
    item: Wanted,
    /// The slot of the record in an item of a list.
    record: usize,
}

impl OperationReader {
    pub(super) fn new(lists: &OperationLists) -> Self {
        let mut wanted = Wanted::default();
        let version = wanted.want(&lists.version);
        let kinds = [
            (&lists.created, ListedAs::Created),
            (&lists.updated, ListedAs::Updated),
            (&lists.deleted, ListedAs::Deleted),
        ];
        let pointers =
            kinds.into_iter().flat_map(|(pointers, operation)| pointers.iter().map(move |it| (it, operation)));
        let slots = pointers.map(|(pointer, operation)| (wanted.want(pointer), operation)).collect();
        let mut item = Wanted::default();
        let record = item.want(&lists.record);
        Self { wanted, version, lists: slots, item, record }
    }

    /// Reads the operations of every entry. Several operations on one record become one.
    pub(super) fn read_all(&self, reader: &RecordReader, each: &[&RawValue], reading: &mut PageReading<'_>) {
        for entry in each {
            let Ok(found) = self.wanted.find(entry.get()) else { continue };
            let version = found.text(self.version).unwrap_or_default();
            for (slot, operation) in &self.lists {
                let Some(list) = found.raw(*slot) else { continue };
                let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(list) else { continue };
                for item in items {
                    let found = self.item.find(item.get()).ok();
                    let Some(raw) = found.as_ref().and_then(|found| found.raw(self.record)) else { continue };
                    let before = reading.rows.rows.len();
                    reader.read(raw, *operation, reading);
                    if let Some(row) = reading.rows.rows.get_mut(before) {
                        let change = format!("{version} {}", operation_word(*operation));
                        row.record.fingerprint = xxh3_64_with_seed(change.as_bytes(), reader.seed);
                    }
                }
            }
        }
        reading.rows.rows = merge(std::mem::take(&mut reading.rows.rows));
    }
}

/// The word of an operation in fingerprints. Fingerprints are stored: the words must never change.
fn operation_word(operation: ListedAs) -> &'static str {
    match operation {
        ListedAs::State => "State",
        ListedAs::Created => "Created",
        ListedAs::Updated => "Updated",
        ListedAs::Deleted => "Deleted",
    }
}

/// Merges several operations on one record: created and deleted is nothing, created and changed is created, changed and
/// deleted is deleted. The last bytes stay, in the place of the first operation.
fn merge(rows: Vec<Row>) -> Vec<Row> {
    let mut places = HashMap::new();
    let mut kept: Vec<Option<Row>> = Vec::with_capacity(rows.len());
    for mut row in rows {
        let id = row.record.id.clone();
        let earlier = places.get(&id).copied().filter(|at: &usize| kept[*at].is_some());
        let Some(at) = earlier else {
            places.insert(id, kept.len());
            kept.push(Some(row));
            continue;
        };
        let before = kept[at].as_ref().map(|row| row.record.listed_as);
        row.record.listed_as = match (before, row.record.listed_as) {
            (Some(ListedAs::Created), ListedAs::Deleted) => {
                kept[at] = None;
                continue;
            }
            (Some(ListedAs::Created), ListedAs::Updated | ListedAs::State) => ListedAs::Created,
            (_, now) => now,
        };
        kept[at] = Some(row);
    }
    kept.into_iter().flatten().collect()
}
