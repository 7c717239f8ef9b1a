//! Parses the headers that every notification carries.

use serde_json::Value;

use super::collector::Collector;
use super::fields::{LONGEST_NAME, NESTED_JSON};
use crate::json::parse_strict;
use crate::problem::below;
use crate::secret::Secret;

/// Most headers of a callback. Receivers refuse more than about 8 KB of them together.
const MOST_HEADERS: usize = 20;
/// Longest value of a header, in bytes.
const LONGEST_VALUE: usize = 1024;

/// Headers that the delivery writes itself, and headers that only concern one connection.
const RESERVED_HEADERS: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "elements-webhook-id",
    "elements-webhook-signature",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Headers as an object, the same as a string, lines of `Name: value`, or `Name:value,Name:value`.
pub(super) fn parse_headers(value: &Value, field: &str, collector: &mut Collector) -> Vec<(String, Secret)> {
    let pairs = match header_pairs(value) {
        Ok(pairs) => pairs,
        Err(expected) => {
            collector.refuse_secret(field, expected);
            return Vec::new();
        }
    };
    if pairs.len() > MOST_HEADERS {
        collector.refuse(field.to_owned(), format!("{} headers", pairs.len()), format!("at most {MOST_HEADERS}"));
        return Vec::new();
    }
    let mut headers = Vec::<(String, Secret)>::new();
    for (name, value) in pairs {
        let field = below(field, &name);
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(is_token_byte) {
            collector.refuse(field, &name, "the name of a header: letters, digits and -");
        } else if RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(&name)) {
            let expected = "another header; this one is written with every notification or by the connection";
            collector.refuse(field, name, expected);
        } else if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            collector.refuse(field, name, "every header once");
        } else if value.len() > LONGEST_VALUE || !value.bytes().all(|b| matches!(b, b'\t' | b' '..=b'~')) {
            let expected = format!("at most {LONGEST_VALUE} printable ASCII characters, no line breaks");
            collector.refuse_secret(field, expected);
        } else {
            headers.push((name, Secret::new(value)));
        }
    }
    headers
}

/// Names and values, or what was expected in their place.
fn header_pairs(value: &Value) -> Result<Vec<(String, String)>, String> {
    let parsed;
    let object = match value {
        Value::Object(object) => Some(object),
        Value::String(text) if text.trim_start().starts_with('{') => {
            parsed = parse_strict(text.as_bytes(), NESTED_JSON).map_err(|problem| format!("JSON; in its {problem}"))?;
            parsed.as_object()
        }
        _ => None,
    };
    let trimmed = |name: &str, value: &str| (name.trim().to_owned(), value.trim().to_owned());
    let pairs = match (object, value) {
        (Some(object), _) => object.iter().map(|(name, value)| Some(trimmed(name, value.as_str()?))).collect(),
        (None, Value::String(text)) => {
            let lines = header_lines(text);
            lines.iter().map(|line| line.split_once(':').map(|(name, value)| trimmed(name, value))).collect()
        }
        _ => None::<Vec<_>>,
    };
    pairs.ok_or_else(|| "an object of texts, or lines of \"Name: value\"".to_owned())
}

/// A byte of a header's name (RFC 9110, token).
fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// One header each: lines, or parts between commas of which each begins with a name and a colon.
fn header_lines(text: &str) -> Vec<String> {
    if text.contains('\n') {
        return text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    }
    let mut lines = Vec::<String>::new();
    for part in text.split(',') {
        let named = part.split_once(':').is_some_and(|(name, _)| !name.trim().is_empty() && !name.trim().contains(' '));
        match lines.last_mut() {
            Some(last) if !named => {
                last.push(',');
                last.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}
