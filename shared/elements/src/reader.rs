//! Reading a page: records out of bytes, with what is wrong with one kept away from its neighbours.

use std::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::DateField;
use domain::record::{Record, Told};
use domain::secret::MASK;
use domain::zone::Zone;
use serde_json::Value;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::date::{Stamp, StampReader};
use crate::definition::{DateStyle, Flag, IdDerive, Ops, Resource};
use crate::fault::shown;
use crate::pointer::{Found, Pointer, Wanted, as_text};

/// Something about a record that could not be read. Never stops its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProblem {
    /// What is wrong, in words.
    pub what: String,
    /// What stands there, or the record's id, shortened.
    pub sample: String,
    /// Where in the record.
    pub pointer: String,
}

/// A record, with the stamp that the listing goes by.
#[derive(Debug)]
pub(crate) struct Row {
    pub record: Record,
    pub stamp: Option<DateTime<Utc>>,
}

/// Everything that is wanted of the records of one resource, compiled once for a poll.
#[derive(Debug, Clone)]
pub(crate) struct RecordReader {
    wanted: Wanted,
    /// Slots of ids, a configured one first; `configured_id` says whether there is one.
    ids: Vec<(usize, Pointer)>,
    configured_id: bool,
    derive: IdDerive,
    stamp: Option<(usize, Pointer)>,
    stamps: StampReader,
    updated: Option<Configured>,
    created: Option<(usize, Pointer)>,
    created_configured: Option<Configured>,
    flag: Option<(usize, Value)>,
    version: Option<usize>,
    exclude: Vec<Pointer>,
    seed: u64,
    redact: Vec<usize>,
    ops: Option<OpsReader>,
}

/// A date field that the configuration names and the element does not.
#[derive(Debug, Clone)]
struct Configured {
    slot: usize,
    pointer: Pointer,
    reader: StampReader,
    zone: Option<Zone>,
}

/// A history entry: its number, and the lists of operations with what each says.
#[derive(Debug, Clone)]
struct OpsReader {
    wanted: Wanted,
    version: usize,
    lists: Vec<(usize, Told)>,
    item: Wanted,
    record: usize,
}

/// What came of the rows of a page.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub rows: Vec<Row>,
    pub problems: Vec<RecordProblem>,
    /// A record without an id was left out, so that the page does not tell of everything there is.
    pub unnamed: bool,
}

impl RecordReader {
    pub(crate) fn new(
        resource: &Resource,
        id_field: Option<&str>,
        updated: Option<&DateField>,
        created: Option<&DateField>,
    ) -> Self {
        let mut wanted = Wanted::default();
        let configured = id_field.map(Pointer::dotted).filter(|pointer| !resource.records.id.contains(pointer));
        let configured_id = configured.is_some();
        let pointers = configured.into_iter().chain(resource.records.id.iter().cloned());
        let ids = pointers.map(|pointer| (wanted.want(&pointer), pointer)).collect();
        let mut styles = resource.time.parse.clone();
        let mut own = |pointer: &Option<Pointer>, field: Option<&DateField>, styles: &mut Vec<DateStyle>| {
            let slot = pointer.as_ref().map(|pointer| (wanted.want(pointer), pointer.clone()));
            let field = field.map(|field| (Pointer::dotted(&field.field), field));
            match field {
                Some((named, field)) if pointer.as_ref() == Some(&named) => {
                    styles.push(DateStyle::Pattern(field.pattern.clone()));
                    (slot, None)
                }
                Some((named, field)) => {
                    let usual = [DateStyle::Rfc3339, DateStyle::Naive];
                    let styles = std::iter::once(DateStyle::Pattern(field.pattern.clone())).chain(usual).collect();
                    let reader = StampReader { styles, invalid: resource.time.invalid.clone() };
                    let slot_of = wanted.want(&named);
                    (slot, Some(Configured { slot: slot_of, pointer: named, reader, zone: field.zone.clone() }))
                }
                None => (slot, None),
            }
        };
        let (stamp, updated) = own(&resource.time.updated, updated, &mut styles);
        let (created, created_configured) = own(&resource.time.created, created, &mut styles);
        let flag = resource.delete.flag.as_ref();
        let flag = flag.map(|Flag { pointer, equals }| (wanted.want(pointer), equals.clone()));
        let version = resource.fingerprint.pointer.as_ref().map(|pointer| wanted.want(pointer));
        let redact = resource.redact.iter().map(|pointer| wanted.want(pointer)).collect();
        let rule = format!("{} {:?}", resource.name, resource.fingerprint);
        Self {
            wanted,
            ids,
            configured_id,
            derive: resource.records.id_derive,
            stamp,
            stamps: StampReader { styles, invalid: resource.time.invalid.clone() },
            updated,
            created,
            created_configured,
            flag,
            version,
            exclude: resource.fingerprint.exclude.clone(),
            // Another rule gives other fingerprints, so that a changed element file cannot pass for an unchanged record.
            seed: xxh3_64(rule.as_bytes()),
            redact,
            ops: resource.ops.as_ref().map(OpsReader::new),
        }
    }

    /// Whether creation is told apart from change by two stamps.
    pub(crate) fn two_stamps(&self) -> bool {
        let updated = self.updated.as_ref().map(|own| &own.pointer).or(self.stamp.as_ref().map(|(_, own)| own));
        let created = self.created_pointer();
        created.is_some() && created != updated
    }

    fn created_pointer(&self) -> Option<&Pointer> {
        self.created_configured.as_ref().map(|own| &own.pointer).or(self.created.as_ref().map(|(_, own)| own))
    }

    /// Reads every record of a page.
    pub(crate) fn read_all(&self, page: &Bytes, each: &[&serde_json::value::RawValue], at: &Place<'_>) -> Rows {
        if let Some(ops) = &self.ops {
            return ops.read_all(self, page, each, at);
        }
        let mut rows = Rows::default();
        let mut seen = [0usize; 3];
        for raw in each {
            self.read(page, raw.get(), at, Told::State, &mut rows, &mut seen);
        }
        let configured = [
            self.configured_id.then(|| ("idField", &self.ids[0].1)),
            self.updated.as_ref().map(|own| ("updatedDateField", &own.pointer)),
            self.created_configured.as_ref().map(|own| ("createdDateField", &own.pointer)),
        ];
        for (field, seen) in configured.into_iter().zip(seen) {
            if let Some((field, pointer)) = field
                && seen == 0
                && !rows.rows.is_empty()
            {
                rows.problems.push(RecordProblem {
                    what: format!("{field} names a member that no record of this page has"),
                    sample: rows.rows[0].record.id.clone(),
                    pointer: pointer.to_string(),
                });
            }
        }
        rows
    }

    /// Reads one record, as the vendor's answer to a question for it.
    pub(crate) fn read_one(&self, page: &Bytes, raw: &str, at: &Place<'_>) -> Rows {
        let mut rows = Rows::default();
        self.read(page, raw, at, Told::State, &mut rows, &mut [0; 3]);
        rows
    }

    fn read(&self, page: &Bytes, raw: &str, at: &Place<'_>, told: Told, rows: &mut Rows, seen: &mut [usize; 3]) {
        let mut problem = |what: &str, sample: &str, pointer: &str| {
            let (what, sample, pointer) = (what.to_owned(), sample.to_owned(), pointer.to_owned());
            rows.problems.push(RecordProblem { what, sample, pointer });
        };
        let found = match self.wanted.find(raw) {
            Ok(found) => found,
            Err(error) => {
                problem(&format!("the record is not JSON: {error}"), "", "");
                rows.unnamed = true;
                return;
            }
        };
        let Some(id) = self.id(&found, seen) else {
            let pointer = self.ids.last().map_or("", |(_, pointer)| pointer.as_str());
            problem("the record has no id", "", pointer);
            rows.unnamed = true;
            return;
        };
        let mut stamp_of = |reader: &StampReader, slot: usize, pointer: &Pointer, zone: &Zone| match reader
            .read(found.raw(slot), zone)
        {
            Stamp::At(instant) => Some(instant),
            Stamp::Absent => None,
            Stamp::Unreadable => {
                let sample = found.raw(slot).map(shown).unwrap_or_default();
                problem("the date cannot be read", &format!("{sample} in {id}"), pointer.as_str());
                None
            }
        };
        let stamp = self.stamp.as_ref().and_then(|(slot, own)| stamp_of(&self.stamps, *slot, own, at.zone));
        let mut configured = |own: &Configured, counted: &mut usize| {
            *counted += usize::from(found.raw(own.slot).is_some());
            stamp_of(&own.reader, own.slot, &own.pointer, own.zone.as_ref().unwrap_or(at.zone))
        };
        let updated = match &self.updated {
            Some(own) => configured(own, &mut seen[1]).or(stamp),
            None => stamp,
        };
        let created = match (&self.created_configured, &self.created) {
            (Some(own), _) => configured(own, &mut seen[2]),
            (None, Some((slot, own))) => stamp_of(&self.stamps, *slot, own, at.zone),
            (None, None) => None,
        };
        let gone = self.flag.as_ref().is_some_and(|(slot, equals)| {
            found.raw(*slot).is_some_and(|raw| serde_json::from_str::<Value>(raw).is_ok_and(|value| value == *equals))
        });
        let fingerprint = match self.version.and_then(|slot| found.raw(slot)) {
            Some(version) => xxh3_64_with_seed(version.as_bytes(), self.seed),
            None => self.content_hash(raw),
        };
        let record = Record {
            id,
            partition: at.partition.to_owned(),
            raw: self.bytes(page, raw, &found),
            updated,
            created,
            fingerprint,
            told: if gone { Told::Deleted } else { told },
        };
        rows.rows.push(Row { record, stamp });
    }

    fn id(&self, found: &Found<'_>, seen: &mut [usize; 3]) -> Option<String> {
        self.ids.iter().enumerate().find_map(|(at, (slot, _))| {
            let configured = self.configured_id && at == 0;
            let raw = found.raw(*slot).filter(|raw| !raw.starts_with(['{', '[']))?;
            let text = as_text(raw);
            seen[0] += usize::from(configured);
            let text = match self.derive {
                IdDerive::LastSegment if !configured => text.rsplit('/').next().unwrap_or_default(),
                _ => &text,
            };
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    /// Hash of the content; with exclusions, of what is left written in one way.
    fn content_hash(&self, raw: &str) -> u64 {
        if self.exclude.is_empty() {
            return xxh3_64_with_seed(raw.as_bytes(), self.seed);
        }
        match serde_json::from_str::<Value>(raw) {
            Ok(mut tree) => {
                self.exclude.iter().for_each(|pointer| pointer.remove(&mut tree));
                xxh3_64_with_seed(tree.to_string().as_bytes(), self.seed)
            }
            Err(_) => xxh3_64_with_seed(raw.as_bytes(), self.seed),
        }
    }

    /// The record's bytes: a slice of the page, or a copy in which secrets are masked.
    fn bytes(&self, page: &Bytes, raw: &str, found: &Found<'_>) -> Bytes {
        let mut spans: Vec<Range<usize>> = self
            .redact
            .iter()
            .filter_map(|slot| found.raw(*slot))
            .filter(|value| *value != "\"\"")
            .map(|value| {
                let start = value.as_ptr() as usize - raw.as_ptr() as usize;
                start..start + value.len()
            })
            .collect();
        if spans.is_empty() {
            return page.slice_ref(raw.as_bytes());
        }
        spans.sort_by_key(|span| span.start);
        let mut masked = String::with_capacity(raw.len() + 16);
        let mut end = 0;
        for span in spans.into_iter().filter(|span| span.start < span.end) {
            if span.start < end {
                continue;
            }
            masked.push_str(&raw[end..span.start]);
            masked.push('"');
            masked.push_str(MASK);
            masked.push('"');
            end = span.end;
        }
        masked.push_str(&raw[end..]);
        Bytes::from(masked)
    }
}

/// Where records were listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub partition: &'a str,
    pub zone: &'a Zone,
}

impl OpsReader {
    fn new(ops: &Ops) -> Self {
        let mut wanted = Wanted::default();
        let version = wanted.want(&ops.version);
        let mut lists = Vec::new();
        let kinds = [(&ops.created, Told::Created), (&ops.updated, Told::Updated), (&ops.deleted, Told::Deleted)];
        for (pointers, told) in kinds {
            lists.extend(pointers.iter().map(|pointer| (wanted.want(pointer), told)));
        }
        let mut item = Wanted::default();
        let record = item.want(&ops.record);
        Self { wanted, version, lists, item, record }
    }

    /// Reads the operations of every entry; several of one record in one page become what they come to.
    fn read_all(
        &self,
        reader: &RecordReader,
        page: &Bytes,
        each: &[&serde_json::value::RawValue],
        at: &Place<'_>,
    ) -> Rows {
        let mut rows = Rows::default();
        for entry in each {
            let Ok(found) = self.wanted.find(entry.get()) else { continue };
            let version = found.text(self.version).unwrap_or_default();
            for (slot, told) in &self.lists {
                let Some(list) = found.raw(*slot) else { continue };
                let Ok(items) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(list) else { continue };
                for item in items {
                    let found = self.item.find(item.get()).ok();
                    let Some(raw) = found.as_ref().and_then(|found| found.raw(self.record)) else { continue };
                    let before = rows.rows.len();
                    reader.read(page, raw, at, *told, &mut rows, &mut [0; 3]);
                    if let Some(row) = rows.rows.get_mut(before) {
                        let change = format!("{version} {told:?}");
                        row.record.fingerprint = xxh3_64_with_seed(change.as_bytes(), reader.seed);
                    }
                }
            }
        }
        rows.rows = collapse(rows.rows);
        rows
    }
}

/// What several operations on one record come to: made and removed is nothing, made and changed is made, changed and
/// removed is removed. The last bytes stay, in the place of the first operation.
fn collapse(rows: Vec<Row>) -> Vec<Row> {
    let mut place = std::collections::HashMap::new();
    let mut kept: Vec<Option<Row>> = Vec::with_capacity(rows.len());
    for mut row in rows {
        let id = row.record.id.clone();
        let earlier = place.get(&id).copied().filter(|at: &usize| kept[*at].is_some());
        let Some(at) = earlier else {
            place.insert(id, kept.len());
            kept.push(Some(row));
            continue;
        };
        let before = kept[at].as_ref().map(|row| row.record.told);
        row.record.told = match (before, row.record.told) {
            (Some(Told::Created), Told::Deleted) => {
                kept[at] = None;
                continue;
            }
            (Some(Told::Created), Told::Updated | Told::State) => Told::Created,
            (_, now) => now,
        };
        kept[at] = Some(row);
    }
    kept.into_iter().flatten().collect()
}
