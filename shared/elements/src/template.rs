//! Placeholders: `${name}` and `${name|filter}`, put into parsed queries and bodies, never pasted into text.
//!
//! A placeholder without a value removes its parameter, so that the first call and later calls share one template. A
//! JSON string that is one placeholder and nothing else takes the value's own type.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::zone::Zone;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All characters except RFC 3986's unreserved ones: a value in a path stays one segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text with placeholders.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Literal(String),
    Placeholder { name: String, filter: Filter },
}

/// The format of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// Unchanged; a time as RFC 3339 with seconds.
    Plain,
    /// RFC 3339 in UTC with milliseconds.
    IsoMs,
    /// RFC 3339 in UTC with microseconds.
    IsoUs,
    /// Wall clock of the zone without offset, with seconds.
    Naive,
    /// The same with microseconds.
    NaiveUs,
    /// Seconds since 1970.
    Epoch,
    /// Milliseconds since 1970.
    EpochMs,
    /// The parts of a text, split at commas.
    List,
}

const FILTERS: [(&str, Filter); 7] = [
    ("iso_ms", Filter::IsoMs),
    ("iso_us", Filter::IsoUs),
    ("naive", Filter::Naive),
    ("naive_us", Filter::NaiveUs),
    ("epoch", Filter::Epoch),
    ("epoch_ms", Filter::EpochMs),
    ("list", Filter::List),
];

/// A value for a placeholder.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filling {
    Text(String),
    Number(u64),
    Time(DateTime<Utc>),
}

/// The values of placeholders, and the zone in which times without offset are written.
pub(crate) struct Values<'a> {
    pub lookup: &'a dyn Fn(&str) -> Option<Filling>,
    pub zone: &'a Zone,
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find("${") {
            if start > 0 {
                parts.push(Part::Literal(rest[..start].to_owned()));
            }
            let inner = &rest[start + 2..];
            let end = inner.find('}').ok_or_else(|| format!("a placeholder is not closed in `{text}`"))?;
            let (name, filter) = match inner[..end].split_once('|') {
                None => (&inner[..end], Filter::Plain),
                Some((name, filter)) => {
                    let found = FILTERS.iter().find(|(word, _)| *word == filter);
                    let words = FILTERS.map(|(word, _)| word);
                    let near = domain::problem::nearest(filter, words).unwrap_or(words[0]);
                    (name, found.ok_or_else(|| format!("no filter is named `{filter}`; the nearest is `{near}`"))?.1)
                }
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
                return Err(format!("`{name}` is not the name of a placeholder"));
            }
            parts.push(Part::Placeholder { name: name.to_owned(), filter });
            rest = &inner[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        Ok(Self { text, parts })
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.text
    }
}

impl Template {
    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its placeholders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Placeholder { name, .. } => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The JSON value, `None` when a placeholder has none.
    pub(crate) fn value(&self, values: &Values<'_>) -> Option<Value> {
        match self.parts.as_slice() {
            [Part::Placeholder { name, filter }] => filter.value((values.lookup)(name)?, values.zone),
            _ => self.text(values).map(Value::String),
        }
    }

    /// The text, `None` when a placeholder has none.
    pub(crate) fn text(&self, values: &Values<'_>) -> Option<String> {
        self.join(values, |text| text)
    }

    /// The text with every value made one segment of a path.
    pub(crate) fn path(&self, values: &Values<'_>) -> Option<String> {
        self.join(values, |text| utf8_percent_encode(&text, SEGMENT).to_string())
    }

    fn join(&self, values: &Values<'_>, encode: impl Fn(String) -> String) -> Option<String> {
        let mut whole = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                Part::Literal(text) => whole.push_str(text),
                Part::Placeholder { name, filter } => {
                    let value = filter.value((values.lookup)(name)?, values.zone)?;
                    whole.push_str(&encode(plain_text(&value)));
                }
            }
        }
        Some(whole)
    }
}

/// A scalar as it is written in a query: texts without quotes.
pub(crate) fn plain_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Filter {
    fn value(self, filling: Filling, zone: &Zone) -> Option<Value> {
        let time = match filling {
            Filling::Number(number) => return Some(Value::from(number)),
            Filling::Text(text) if self == Filter::List => {
                return Some(text.split(',').filter(|part| !part.is_empty()).map(Value::from).collect());
            }
            Filling::Text(text) => return Some(Value::String(text)),
            Filling::Time(time) => time,
        };
        let local = |format: &str| Value::String(zone.local(time).format(format).to_string());
        Some(match self {
            Filter::Plain | Filter::List => Value::String(time.to_rfc3339_opts(SecondsFormat::Secs, true)),
            Filter::IsoMs => Value::String(time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            Filter::IsoUs => Value::String(time.to_rfc3339_opts(SecondsFormat::Micros, true)),
            Filter::Naive => local("%Y-%m-%dT%H:%M:%S"),
            Filter::NaiveUs => local("%Y-%m-%dT%H:%M:%S%.6f"),
            Filter::Epoch => Value::from(time.timestamp()),
            Filter::EpochMs => Value::from(time.timestamp_millis()),
        })
    }
}

/// A JSON body with placeholders, parsed when the file is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct BodyTemplate {
    text: String,
    tree: Node,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Scalar(Value),
    Text(Template),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl TryFrom<String> for BodyTemplate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let value: Value = serde_json::from_str(&text).map_err(|error| format!("the body is not JSON: {error}"))?;
        Ok(Self { tree: Node::of(value)?, text })
    }
}

impl From<BodyTemplate> for String {
    fn from(body: BodyTemplate) -> String {
        body.text
    }
}

impl Node {
    fn of(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Node::Text(Template::try_from(text)?),
            Value::Array(items) => Node::Array(items.into_iter().map(Node::of).collect::<Result<_, _>>()?),
            Value::Object(members) => Node::Object(
                members.into_iter().map(|(key, value)| Ok((key, Node::of(value)?))).collect::<Result<_, String>>()?,
            ),
            scalar => Node::Scalar(scalar),
        })
    }

    /// Fills the values in; leaves out members without a value, and objects and arrays that this makes empty.
    fn fill(&self, values: &Values<'_>) -> Option<Value> {
        match self {
            Node::Scalar(value) => Some(value.clone()),
            Node::Text(template) => template.value(values),
            Node::Array(items) => {
                let filled: Vec<Value> = items.iter().filter_map(|item| item.fill(values)).collect();
                (!filled.is_empty() || items.is_empty()).then_some(Value::Array(filled))
            }
            Node::Object(members) => {
                let filled: serde_json::Map<String, Value> =
                    members.iter().filter_map(|(key, node)| Some((key.clone(), node.fill(values)?))).collect();
                (!filled.is_empty() || members.is_empty()).then_some(Value::Object(filled))
            }
        }
    }

    fn names<'a>(&'a self, into: &mut Vec<&'a str>) {
        match self {
            Node::Scalar(_) => {}
            Node::Text(template) => into.extend(template.names()),
            Node::Array(items) => items.iter().for_each(|item| item.names(into)),
            Node::Object(members) => members.iter().for_each(|(_, node)| node.names(into)),
        }
    }
}

impl BodyTemplate {
    /// The body with its values; an empty object is `{}`.
    pub(crate) fn fill(&self, values: &Values<'_>) -> Value {
        self.tree.fill(values).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
    }

    /// The names of its placeholders.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.tree.names(&mut names);
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(body: &str, known: &[(&str, Filling)]) -> String {
        let lookup = |name: &str| known.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone());
        let body = BodyTemplate::try_from(body.to_owned()).expect("a template");
        body.fill(&Values { lookup: &lookup, zone: &Zone::GMT }).to_string()
    }

    #[test]
    fn a_placeholder_without_a_value_takes_its_parameter_along() {
        let body = r#"{"a":{"$AND":[{"t":{"$EQ":"x"}},{"d":{"$GE":"${watermark|naive}"}}]},"limit":"${page_size}"}"#;
        assert_eq!(
            fill(body, &[("page_size", Filling::Number(200))]),
            r#"{"a":{"$AND":[{"t":{"$EQ":"x"}}]},"limit":200}"#
        );
        let time = Filling::Time(DateTime::from_timestamp(0, 0).expect("1970"));
        assert_eq!(
            fill(body, &[("watermark", time)]),
            r#"{"a":{"$AND":[{"t":{"$EQ":"x"}},{"d":{"$GE":"1970-01-01T00:00:00"}}]}}"#
        );
        assert_eq!(fill(r#"{"a":{"b":"${page_size}"}}"#, &[]), "{}");
    }

    #[test]
    fn a_value_cannot_break_out_of_its_place() {
        let evil = Filling::Text(r#"x","admin":true,"y":"../a b"#.to_owned());
        assert_eq!(fill(r#"{"q":"${id}"}"#, &[("id", evil.clone())]), r#"{"q":"x\",\"admin\":true,\"y\":\"../a b"}"#);
        let path = Template::try_from("/a/${id}/b".to_owned()).expect("a template");
        let lookup = |_: &str| Some(evil.clone());
        assert_eq!(
            path.path(&Values { lookup: &lookup, zone: &Zone::GMT }).expect("a value"),
            "/a/x%22%2C%22admin%22%3Atrue%2C%22y%22%3A%22..%2Fa%20b/b"
        );
    }

    #[test]
    fn a_wrong_filter_is_refused_with_the_nearest_word() {
        let error = Template::try_from("${watermark|iso_m}".to_owned()).expect_err("no such filter");
        assert_eq!(error, "no filter is named `iso_m`; the nearest is `iso_ms`");
        assert!(Template::try_from("${open".to_owned()).is_err());
    }

    #[test]
    fn times_are_written_in_the_zone_asked_for() {
        let zone = Zone::parse("PST").expect("a zone");
        let time = DateTime::from_timestamp_micros(1_785_600_000_123_456).expect("a time");
        let lookup = |_: &str| Some(Filling::Time(time));
        let written = |text: &str| {
            let template = Template::try_from(text.to_owned()).expect("a template");
            template.text(&Values { lookup: &lookup, zone: &zone }).expect("a value")
        };
        assert_eq!(written("${t|naive_us}"), "2026-08-01T09:00:00.123456");
        assert_eq!(written("${t|iso_ms}"), "2026-08-01T16:00:00.123Z");
        assert_eq!(written("${t|epoch}"), "1785600000");
        assert_eq!(written("${t}"), "2026-08-01T16:00:00Z");
    }
}
