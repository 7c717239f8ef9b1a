//! Parses single values of a JSON object: texts, booleans, numbers and words.
//!
//! Each function answers None where the value is absent and where it is wrong. What is wrong is in the collector, and
//! then the whole configuration is refused, so no default takes the place of a wrong value.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::collector::Collector;
use crate::configuration::words::{Words, words};
use crate::json::Limits;
use crate::problem::below;
use crate::secret::Secret;
use crate::wheel::{LONGEST_INTERVAL, SHORTEST_INTERVAL};

/// Longest path in a record and longest name of a header, in characters.
pub(super) const LONGEST_NAME: usize = 200;
/// The JSON that the value of one key may hold when it is written as a string.
pub(super) const NESTED_JSON: Limits = Limits { bytes: 256 * 1024, depth: 8 };

/// A JSON object, and the path of the object in the body.
pub(super) struct Fields<'a> {
    pub(super) object: &'a Map<String, Value>,
    pub(super) path: String,
}

impl<'a> Fields<'a> {
    /// The path of a key.
    pub(super) fn at(&self, key: &str) -> String {
        below(&self.path, key)
    }

    /// The value, unless it is absent, null or blank.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| match value {
            Value::Null => false,
            Value::String(text) => !text.trim().is_empty(),
            _ => true,
        })
    }
}

/// A text, without the spaces around it.
pub(super) fn parse_text<'a>(fields: &Fields<'a>, key: &str, collector: &mut Collector) -> Option<&'a str> {
    match fields.get(key)? {
        Value::String(text) => Some(text.trim()),
        other => {
            collector.refuse(fields.at(key), other, "a text");
            None
        }
    }
}

/// A text that must not be shown, as it is.
pub(super) fn parse_secret(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<Secret> {
    match fields.get(key)? {
        Value::String(text) => Some(Secret::new(text)),
        _ => {
            collector.refuse_secret(fields.at(key), "a text");
            None
        }
    }
}

/// The path of a field in a record.
pub(super) fn parse_record_path(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<String> {
    let text = parse_text(fields, key, collector)?;
    if text.chars().count() > LONGEST_NAME || text.contains(char::is_control) {
        let expected = format!("a path like id or user.id, of at most {LONGEST_NAME} characters");
        collector.refuse(fields.at(key), text, expected);
        return None;
    }
    Some(text.to_owned())
}

/// True or false, also as text.
pub(super) fn parse_boolean(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<bool> {
    let value = fields.get(key)?;
    let boolean = match value {
        Value::Bool(boolean) => Some(*boolean),
        Value::String(text) => text.trim().to_ascii_lowercase().parse().ok(),
        _ => None,
    };
    if boolean.is_none() {
        collector.refuse(fields.at(key), shown(value), "true or false");
    }
    boolean
}

/// A value of a closed list, by its word in any case.
pub(super) fn parse_choice<T: Words>(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<T> {
    parse_word(fields, key, &words::<T>(), collector).and_then(T::from_word)
}

/// One of some words, in any case.
pub(super) fn parse_word(
    fields: &Fields<'_>,
    key: &str,
    words: &[&'static str],
    collector: &mut Collector,
) -> Option<&'static str> {
    let text = parse_text(fields, key, collector)?;
    let found = words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied();
    if found.is_none() {
        collector.refuse(fields.at(key), text, words.join(" or "));
    }
    found
}

/// A whole number within a range, also as text.
pub(super) fn parse_integer(
    fields: &Fields<'_>,
    key: &str,
    range: RangeInclusive<i64>,
    unit: &str,
    collector: &mut Collector,
) -> Option<u32> {
    let value = fields.get(key)?;
    let number = whole_number(value).filter(|number| range.contains(number)).and_then(|number| number.try_into().ok());
    if number.is_none() {
        let (from, to) = range.into_inner();
        collector.refuse(fields.at(key), shown(value), format!("a whole number of {unit} from {from} to {to}"));
    }
    number
}

/// Minutes between polls. What is longer than the longest interval is read as that, with a warning.
pub(super) fn parse_interval(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<u16> {
    let value = fields.get(key)?;
    let Some(number) = whole_number(value).filter(|number| *number >= i64::from(SHORTEST_INTERVAL)) else {
        let expected =
            format!("a whole number of minutes from {SHORTEST_INTERVAL} to {LONGEST_INTERVAL}, such as \"15\"");
        collector.refuse(fields.at(key), shown(value), expected);
        return None;
    };
    let interval = u16::try_from(number).ok().filter(|interval| *interval <= LONGEST_INTERVAL);
    if interval.is_none() {
        let message = format!("{number} minutes are read as {LONGEST_INTERVAL}, the longest interval");
        collector.warn(fields.at(key), message);
    }
    Some(interval.unwrap_or(LONGEST_INTERVAL))
}

/// A share from 0 to 1, also as text.
pub(super) fn parse_share(fields: &Fields<'_>, key: &str, collector: &mut Collector) -> Option<f64> {
    let value = fields.get(key)?;
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_f64(),
    };
    let share = number.filter(|share| (0.0..=1.0).contains(share));
    if share.is_none() {
        collector.refuse(fields.at(key), shown(value), "a share from 0 to 1, such as 0.2");
    }
    share
}

/// JSON, a string without its quotes.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A whole number, or a text that is one.
fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => {
            let float = || number.as_f64().filter(|float| float.fract() == 0.0);
            // The cast saturates, and every range ends long before that.
            number.as_i64().or_else(|| float().map(|float| float as i64))
        }
        Value::String(text) => {
            text.trim().parse::<i128>().ok().map(|number| number.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
        }
        _ => None,
    }
}
