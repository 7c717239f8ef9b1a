//! Reads the records of a page out of its bytes. A problem with one record does not affect the others.

mod mask;
mod operations;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::DateField;
use domain::record::{ListedAs, Record};
use domain::zone::Zone;
use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::date::{Stamp, StampReader};
use crate::definition::{DateStyle, DeletionFlag, IdPart, Resource};
use crate::fault::shown;
use crate::pointer::{Found, Pointer, Wanted, as_text};

use operations::OperationReader;

/// A value of a record that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordProblem {
    /// The problem, in words.
    pub what: String,
    /// The value, or the record's id, shortened.
    pub sample: String,
    /// The place of the value in the record.
    pub pointer: String,
}

/// A record, with the timestamp by which it was listed.
#[derive(Debug)]
pub(crate) struct Row {
    /// The record.
    pub record: Record,
    /// The element's updated timestamp, even if the configuration names another date.
    pub stamp: Option<DateTime<Utc>>,
}

/// The records of a page.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The records that could be read.
    pub rows: Vec<Row>,
    /// The values that could not be read.
    pub problems: Vec<RecordProblem>,
    /// A record without an id was left out, so the page does not show all records.
    pub lacks_ids: bool,
}

/// The partition and the zone of records on a page.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    /// The partition that was listed.
    pub partition: &'a str,
    /// The zone of timestamps without offset.
    pub zone: &'a Zone,
}

/// The values to find in each record of a resource. It is built once for a poll.
#[derive(Debug, Clone)]
pub(crate) struct RecordReader {
    wanted: Wanted,
    /// The places of the id, in order of preference.
    ids: Vec<FieldSlot>,
    /// The first of `ids` is the `idField` of the configuration.
    has_configured_id: bool,
    id_part: IdPart,
    updated: DateSource,
    created: DateSource,
    /// Reads the dates at the element's own places.
    stamps: StampReader,
    flag: Option<(usize, Value)>,
    version: Option<usize>,
    exclude: Vec<Pointer>,
    seed: u64,
    redact: Vec<usize>,
    operations: Option<OperationReader>,
}

/// The place of a value in a record, and its slot in the walk.
#[derive(Debug, Clone)]
struct FieldSlot {
    slot: usize,
    pointer: Pointer,
}

impl FieldSlot {
    fn new(wanted: &mut Wanted, pointer: &Pointer) -> Self {
        Self { slot: wanted.want(pointer), pointer: pointer.clone() }
    }
}

/// The places of one date.
#[derive(Debug, Clone)]
struct DateSource {
    /// The element's place.
    own: Option<FieldSlot>,
    /// Another place that the configuration names.
    configured: Option<ConfiguredDate>,
}

/// A date field of the configuration that is not the element's own.
#[derive(Debug, Clone)]
struct ConfiguredDate {
    field: FieldSlot,
    reader: StampReader,
    zone: Option<Zone>,
}

impl DateSource {
    /// `styles` are the formats of the element's own dates; a configured format of an own date is added to them.
    fn new(
        own: Option<&Pointer>,
        configured: Option<&DateField>,
        wanted: &mut Wanted,
        styles: &mut Vec<DateStyle>,
        invalid: &[String],
    ) -> Self {
        let slot = own.map(|pointer| FieldSlot::new(wanted, pointer));
        let Some(configured) = configured else { return Self { own: slot, configured: None } };
        let pointer = Pointer::dotted(&configured.field);
        let pattern = DateStyle::Pattern(configured.pattern.clone());
        if own == Some(&pointer) {
            styles.push(pattern);
            return Self { own: slot, configured: None };
        }
        let reader =
            StampReader { styles: vec![pattern, DateStyle::Rfc3339, DateStyle::Naive], invalid: invalid.to_vec() };
        let field = FieldSlot::new(wanted, &pointer);
        Self { own: slot, configured: Some(ConfiguredDate { field, reader, zone: configured.zone.clone() }) }
    }
}

/// The reading of one page.
struct PageReading<'a> {
    page: &'a Bytes,
    origin: &'a Origin<'a>,
    rows: Rows,
    seen: SeenFields,
}

/// The fields of the configuration that some record of the page has.
#[derive(Debug, Default)]
struct SeenFields {
    id: bool,
    updated: bool,
    created: bool,
}

impl<'a> PageReading<'a> {
    fn new(page: &'a Bytes, origin: &'a Origin<'a>) -> Self {
        Self { page, origin, rows: Rows::default(), seen: SeenFields::default() }
    }

    fn problem(&mut self, what: impl Into<String>, sample: impl Into<String>, pointer: &str) {
        let problem = RecordProblem { what: what.into(), sample: sample.into(), pointer: pointer.to_owned() };
        self.rows.problems.push(problem);
    }
}

impl RecordReader {
    pub(crate) fn new(
        resource: &Resource,
        id_field: Option<&str>,
        updated: Option<&DateField>,
        created: Option<&DateField>,
    ) -> Self {
        let mut wanted = Wanted::default();
        let configured_id = id_field.map(Pointer::dotted).filter(|pointer| !resource.records.id.contains(pointer));
        let ids = configured_id.iter().chain(&resource.records.id);
        let ids = ids.map(|pointer| FieldSlot::new(&mut wanted, pointer)).collect();
        let time = &resource.time;
        let mut styles = time.parse.clone();
        let updated = DateSource::new(time.updated.as_ref(), updated, &mut wanted, &mut styles, &time.invalid);
        let created = DateSource::new(time.created.as_ref(), created, &mut wanted, &mut styles, &time.invalid);
        let flag = resource.delete.flag.as_ref();
        let flag = flag.map(|DeletionFlag { pointer, equals }| (wanted.want(pointer), equals.clone()));
        let version = resource.fingerprint.pointer.as_ref().map(|pointer| wanted.want(pointer));
        let redact = resource.redact.iter().map(|pointer| wanted.want(pointer)).collect();
        Self {
            wanted,
            ids,
            has_configured_id: configured_id.is_some(),
            id_part: resource.records.id_derive,
            updated,
            created,
            stamps: StampReader { styles, invalid: time.invalid.clone() },
            flag,
            version,
            exclude: resource.fingerprint.exclude.clone(),
            seed: xxh3_64(fingerprint_rule(resource).as_bytes()),
            redact,
            operations: resource.ops.as_ref().map(OperationReader::new),
        }
    }

    /// Reads every record of a page.
    pub(crate) fn read_all(&self, page: &Bytes, each: &[&RawValue], origin: &Origin<'_>) -> Rows {
        let mut reading = PageReading::new(page, origin);
        if let Some(operations) = &self.operations {
            operations.read_all(self, each, &mut reading);
            return reading.rows;
        }
        for raw in each {
            self.read(raw.get(), ListedAs::State, &mut reading);
        }
        self.report_absent_fields(&mut reading);
        reading.rows
    }

    /// Reads one record, the vendor's answer to a call for it.
    pub(crate) fn read_one(&self, page: &Bytes, raw: &str, origin: &Origin<'_>) -> Rows {
        let mut reading = PageReading::new(page, origin);
        self.read(raw, ListedAs::State, &mut reading);
        reading.rows
    }

    /// Adds a problem for each field of the configuration that no record has.
    fn report_absent_fields(&self, reading: &mut PageReading<'_>) {
        let Some(first) = reading.rows.rows.first() else { return };
        let sample = first.record.id.clone();
        let id = self.ids.first().filter(|_| self.has_configured_id);
        let updated = self.updated.configured.as_ref().map(|date| &date.field);
        let created = self.created.configured.as_ref().map(|date| &date.field);
        let fields = [
            ("idField", id, reading.seen.id),
            ("updatedDateField", updated, reading.seen.updated),
            ("createdDateField", created, reading.seen.created),
        ];
        for (name, field, seen) in fields {
            if let Some(field) = field.filter(|_| !seen) {
                let what = format!("{name} names a member that no record of this page has");
                reading.problem(what, sample.clone(), field.pointer.as_str());
            }
        }
    }

    fn read(&self, raw: &str, reported: ListedAs, reading: &mut PageReading<'_>) {
        let found = match self.wanted.find(raw) {
            Ok(found) => found,
            Err(error) => {
                reading.problem(format!("the record is not JSON: {error}"), "", "");
                reading.rows.lacks_ids = true;
                return;
            }
        };
        let Some(id) = self.id(&found, &mut reading.seen) else {
            let pointer = self.ids.last().map_or("", |field| field.pointer.as_str());
            reading.problem("the record has no id", "", pointer);
            reading.rows.lacks_ids = true;
            return;
        };
        let zone = reading.origin.zone;
        let stamp =
            self.updated.own.as_ref().and_then(|field| read_date(&self.stamps, field, zone, &found, &id, reading));
        let updated = match &self.updated.configured {
            Some(date) => {
                reading.seen.updated |= found.raw(date.field.slot).is_some();
                date.read(&found, &id, reading).or(stamp)
            }
            None => stamp,
        };
        let created = match (&self.created.configured, &self.created.own) {
            (Some(date), _) => {
                reading.seen.created |= found.raw(date.field.slot).is_some();
                date.read(&found, &id, reading)
            }
            (None, Some(field)) => read_date(&self.stamps, field, zone, &found, &id, reading),
            (None, None) => None,
        };
        let gone = self.flag.as_ref().is_some_and(|(slot, equals)| {
            found.raw(*slot).is_some_and(|raw| serde_json::from_str::<Value>(raw).is_ok_and(|value| value == *equals))
        });
        let fingerprint = match self.version.and_then(|slot| found.raw(slot)) {
            Some(version) => xxh3_64_with_seed(version.as_bytes(), self.seed),
            None => self.content_hash(raw),
        };
        let secrets = self.redact.iter().filter_map(|slot| found.raw(*slot));
        let record = Record {
            id,
            partition: reading.origin.partition.to_owned(),
            raw: mask::record_bytes(reading.page, raw, secrets),
            updated,
            created,
            fingerprint,
            listed_as: if gone { ListedAs::Deleted } else { reported },
        };
        reading.rows.rows.push(Row { record, stamp });
    }

    fn id(&self, found: &Found<'_>, seen: &mut SeenFields) -> Option<String> {
        self.ids.iter().enumerate().find_map(|(at, field)| {
            let configured = self.has_configured_id && at == 0;
            let raw = found.raw(field.slot).filter(|raw| !raw.starts_with(['{', '[']))?;
            let text = as_text(raw);
            seen.id |= configured;
            let text = match self.id_part {
                IdPart::LastSegment if !configured => text.rsplit('/').next().unwrap_or_default(),
                _ => &text,
            };
            (!text.is_empty()).then(|| text.to_owned())
        })
    }

    /// The hash of a record's content. Excluded members are removed first, and the rest is written in one way.
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
}

impl ConfiguredDate {
    fn read(&self, found: &Found<'_>, id: &str, reading: &mut PageReading<'_>) -> Option<DateTime<Utc>> {
        let zone = self.zone.as_ref().unwrap_or(reading.origin.zone);
        read_date(&self.reader, &self.field, zone, found, id, reading)
    }
}

/// Reads a date of the record `id`; a text that is no date becomes a problem.
fn read_date(
    reader: &StampReader,
    field: &FieldSlot,
    zone: &Zone,
    found: &Found<'_>,
    id: &str,
    reading: &mut PageReading<'_>,
) -> Option<DateTime<Utc>> {
    match reader.read(found.raw(field.slot), zone) {
        Stamp::At(instant) => Some(instant),
        Stamp::Absent => None,
        Stamp::Unreadable => {
            let sample = found.raw(field.slot).map(shown).unwrap_or_default();
            reading.problem("the date cannot be read", format!("{sample} in {id}"), field.pointer.as_str());
            None
        }
    }
}

/// The text that seeds the fingerprints of a resource, so that a changed element file gives other fingerprints.
/// Fingerprints are stored: the text of an unchanged file must never change.
fn fingerprint_rule(resource: &Resource) -> String {
    format!("{} {:?}", resource.name, resource.fingerprint)
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;

    #[test]
    fn fingerprint_rules_keep_their_text() {
        let catalog = Catalog::embedded();
        let rule = |element: &str, resource: &str| {
            let element = catalog.get(element).expect("an element");
            super::fingerprint_rule(element.resource(resource).expect("a resource"))
        };
        assert_eq!(
            rule("square", "timesheets"),
            r#"timesheets Fingerprint { pointer: Some(Pointer { text: "/version", segments: ["version"] }), exclude: [] }"#
        );
        assert_eq!(
            rule("icontact", "messages"),
            r#"messages Fingerprint { pointer: None, exclude: [Pointer { text: "/spamCheck", segments: ["spamCheck"] }] }"#
        );
    }
}
