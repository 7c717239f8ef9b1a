//! The vendors' collections as tables: how each vendor numbers, dates and deletes its records.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Timelike, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::faults::Faults;

/// One kind of record of one vendor.
#[derive(Debug)]
pub(crate) struct Collection {
    /// The name in the control API; `events` is followed by `:calendar` for another calendar than the primary one.
    pub(crate) name: &'static str,
    /// The field of the id, and the way a new id is made.
    pub(crate) id: Id,
    /// The field of the creation date.
    pub(crate) created: Option<Stamp>,
    /// The field of the modification date.
    pub(crate) updated: Option<Stamp>,
    /// The field that differs after every edit, besides the date.
    pub(crate) revision: Option<Revision>,
    /// The effect of a deletion by a user.
    pub(crate) deletion: Deletion,
}

/// The records of a collection that a vendor's `collections.json` gives.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contents {
    /// The fields that a new record starts from.
    pub(crate) defaults: Map<String, Value>,
    /// The records that an account has from the vendor on its first day.
    pub(crate) skeleton: Vec<Map<String, Value>>,
    /// Believable records.
    pub(crate) samples: Vec<Map<String, Value>>,
}

/// Reads a vendor's `collections.json`: the contents of its collections by name.
pub(crate) fn contents(text: &str) -> BTreeMap<String, Contents> {
    table(text)
}

/// An id: its field, and how the vendor makes a new one from a running number.
#[derive(Debug)]
pub(crate) enum Id {
    /// Letters and a number in hexadecimal.
    Text(&'static str, &'static str),
    /// A JSON number counting from the second part.
    Number(&'static str, u64),
    /// The same as text.
    Digits(&'static str, u64),
    /// Maximizer's base64 of `Entity<TAB>number<TAB>n`; the entity is the record's `Type`, or else the one named here.
    Key(&'static str),
    /// Two other fields of the record, joined by an underscore.
    Pair(&'static str, &'static str, &'static str),
    /// A resource name: the second part, then the id.
    Resource(&'static str, &'static str),
}

impl Id {
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Id::Text(field, _) | Id::Number(field, _) | Id::Digits(field, _) | Id::Resource(field, _) => field,
            Id::Pair(field, _, _) => field,
            Id::Key(_) => "Key",
        }
    }

    /// The id of a record as text, the way the control API and reads by id name it.
    pub(crate) fn of(&self, value: &Value) -> String {
        let id = &value[self.field()];
        let text = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
        match self {
            Id::Resource(_, prefix) => text.strip_prefix(prefix).map(str::to_owned).unwrap_or(text),
            _ => text,
        }
    }

    pub(crate) fn mint(&self, serial: u64, value: &Map<String, Value>) -> Value {
        match self {
            Id::Text(_, prefix) | Id::Resource(_, prefix) => json!(format!("{prefix}{serial:x}")),
            Id::Pair(_, first, second) => {
                let part = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
                json!(format!("{}_{}", part(first), part(second)))
            }
            Id::Number(_, base) => json!(base + serial),
            Id::Digits(_, base) => json!((base + serial).to_string()),
            Id::Key(entity) => {
                let kind = value.get("Type").and_then(Value::as_str).unwrap_or(entity);
                json!(STANDARD.encode(format!("{kind}\t2608{serial:020}{}\t0", &kind[..1])))
            }
        }
    }
}

/// A date: its place in the record and its form.
#[derive(Debug)]
pub(crate) struct Stamp(pub(crate) &'static str, pub(crate) Form);

/// The forms in which the five vendors write an instant.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    /// `2026-08-01T13:00:04Z`
    Seconds,
    /// `2026-08-01T13:00:04.335Z`
    Millis,
    /// `2026-08-01T13:00:04.000Z`: three digits, but the source counts whole seconds.
    WholeMillis,
    /// `2026-08-01T13:00:04.335000Z`
    Micros,
    /// `2026-08-01T06:00:04Z`: Pacific local time with a `Z` that is not true.
    FalseUtc,
    /// `2026-08-01T06:00:04.335102` or, for every third record, without a fraction: local time, no zone.
    Naive,
    /// `2026-08-01 09:00:04`: Eastern, no zone.
    EasternSpaced,
    /// `2026-08-01T09:00:04-04:00`
    EasternOffset,
}

impl Form {
    pub(crate) fn write(self, at: DateTime<Utc>, serial: u64, faults: &Faults) -> String {
        match self {
            Form::Seconds => at.to_rfc3339_opts(SecondsFormat::Secs, true),
            Form::Millis => at.to_rfc3339_opts(SecondsFormat::Millis, true),
            Form::WholeMillis => whole_second(at).to_rfc3339_opts(SecondsFormat::Millis, true),
            Form::Micros => at.to_rfc3339_opts(SecondsFormat::Micros, true),
            Form::FalseUtc if faults.true_utc => at.to_rfc3339_opts(SecondsFormat::Secs, true),
            Form::FalseUtc => {
                at.with_timezone(&faults.zone(Tz::America__Vancouver)).format("%Y-%m-%dT%H:%M:%SZ").to_string()
            }
            Form::Naive => {
                let local = at.with_timezone(&faults.zone(Tz::America__Los_Angeles));
                // Django writes no fraction when it happens to be zero.
                let pattern = if serial.is_multiple_of(3) || at.nanosecond() < 1_000 {
                    "%Y-%m-%dT%H:%M:%S"
                } else {
                    "%Y-%m-%dT%H:%M:%S%.6f"
                };
                local.format(pattern).to_string()
            }
            Form::EasternSpaced => {
                at.with_timezone(&faults.zone(Tz::America__New_York)).format("%Y-%m-%d %H:%M:%S").to_string()
            }
            Form::EasternOffset => {
                at.with_timezone(&faults.zone(Tz::America__New_York)).to_rfc3339_opts(SecondsFormat::Secs, false)
            }
        }
    }
}

fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    at.with_nanosecond(0).unwrap_or(at)
}

/// A value that differs after every edit.
#[derive(Debug)]
pub(crate) enum Revision {
    /// A number that goes up by one.
    Counter(&'static str),
    /// The time of the edit in milliseconds since 1970.
    Millis(&'static str),
    /// An opaque text; the second part is a pattern with `{}` for a running number.
    Opaque(&'static str, &'static str),
}

/// The rest that a deleted record leaves.
#[derive(Debug)]
pub(crate) enum Deletion {
    /// Nothing: it is absent from lists and 404 by id.
    Gone,
    /// The record, with a field (a pointer) that says so (JSON text).
    Flag(&'static str, &'static str),
    /// A stub with these fields of the record, merged with this JSON object, in the change feed only.
    Stub(&'static [&'static str], &'static str),
}

/// Parses a JSON text of the tables.
pub(crate) fn table<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("the tables of this module are valid JSON, a test reads them all")
}

/// Puts `patch` over `base`: objects are merged, everything else is replaced, `null` is a value like any other.
pub(crate) fn merge(base: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match (base.get_mut(name), value) {
            (Some(Value::Object(inner)), Value::Object(change)) => merge(inner, change),
            _ => {
                base.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Sets the value at a slash-separated path, making the objects on the way.
pub(crate) fn set(target: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('/') {
        None => {
            target.insert(path.to_owned(), value);
        }
        Some((head, rest)) => {
            let inner = target.entry(head).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// The value at a slash-separated path.
pub(crate) fn get<'a>(target: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let (head, rest) = path.split_once('/').unwrap_or((path, ""));
    let value = target.get(head)?;
    if rest.is_empty() { Some(value) } else { value.as_object().and_then(|inner| get(inner, rest)) }
}
