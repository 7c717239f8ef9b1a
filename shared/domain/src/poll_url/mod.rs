//! The address of a polled resource: a platform path, the hub in it ignored, with a query in which macros stand for
//! times: `/hubs/crm/contacts?where=LastModifyDate>'${date:yyyy-MM-dd'T'HH:mm:ssXXX}'`.
//!
//! The URL is taken apart once, `where` into CEQL with macros inside its values. Expanding fills in values and parses
//! nothing, so no value can become syntax.
//!
//! | Macro, in any case | Stands for |
//! | --- | --- |
//! | `${date:FMT}`, `${gmtDate:FMT}` | the lower bound of the poll, in GMT |
//! | `${dateTimeZone:ZONE:FMT}` | the lower bound, in a zone |
//! | `${nowTimeZone:ZONE:FMT}` | now, in a zone |
//! | `${epoch}`, `${epoch:ms}`, `${milliseconds}`, `${date}`, `${gmtDate}` | the lower bound, ms since 1970 |
//! | `${epoch:s}`, `${epoch:us}` | the lower bound, in seconds or microseconds |
//! | `${FMT}` | as `${date:FMT}`, with a warning |
//! | `${epoch:0}` | as `${epoch}`, with a warning: one element of Cloud Elements has it, and no page explains it |
//!
//! A URL holds quotes and spaces as they are. A parameter without any of `'"<>{}` and space is taken to be
//! percent-encoded and is decoded.

mod macros;
mod syntax;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::syntax::{decoded, parameters, resource_path, split_once_outside_macros, strip_stray_end};
use crate::ceql::{self, Expression};
use crate::date::PatternProblem;
use crate::problem::Warning;
use crate::zone::UnknownZone;

pub use self::macros::{Macro, MacroTime, MacroTimes, Template};

/// Longest URL, in bytes.
pub const LONGEST_URL: usize = 4096;
/// A parsed poll URL. Stored as the text that the user wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct PollUrl {
    text: String,
    path: String,
    placeholders: Vec<String>,
    filter: Option<Expression<Template>>,
    query: Vec<(String, Template)>,
}

/// A poll URL with its times filled in. Nothing in it is percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedUrl {
    /// Path of the resource as [`PollUrl::path`] has it, `{placeholders}` not filled in.
    pub path: String,
    /// `where`, without the comparisons that need a lower bound where there is none.
    pub filter: Option<Expression>,
    /// The other parameters, in their order, without those that need a lower bound where there is none.
    pub query: Vec<(String, String)>,
}

/// A text that is not a poll URL. The message says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Too long to be meant.
    #[error("a URL of at most {LONGEST_URL} bytes")]
    TooLong,
    /// No path, a path with `..`, an address with a host.
    #[error("a path like /hubs/crm/contacts, with a query or without; {0}")]
    Path(&'static str),
    /// `${` without `}`.
    #[error("a closing brace for the macro that begins with {0}")]
    OpenMacro(String),
    /// No macro has that name.
    #[error(
        "one of the macros date, gmtDate, dateTimeZone, nowTimeZone, epoch, milliseconds; there is no {name}{}",
        .nearest.map(|nearest| format!(", the nearest is {nearest}")).unwrap_or_default()
    )]
    UnknownMacro {
        /// As it was written, shortened.
        name: String,
        /// The most similar one.
        nearest: Option<&'static str>,
    },
    /// A macro that lacks an argument or has one that is not known.
    #[error("the form {form} for {name}")]
    MacroForm {
        /// The whole macro.
        name: String,
        /// The form that it should have.
        form: &'static str,
    },
    /// A macro's zone.
    #[error("a time zone in {name}: {problem}")]
    Zone {
        /// The whole macro.
        name: String,
        /// The problem.
        problem: UnknownZone,
    },
    /// A macro's date pattern.
    #[error("in {name} {problem}")]
    Pattern {
        /// The whole macro.
        name: String,
        /// The problem.
        problem: PatternProblem,
    },
    /// `where` is not CEQL.
    #[error("a where clause in CEQL; {0}")]
    Where(#[from] ceql::Problem),
    /// More than one `where`.
    #[error("one where clause; put AND between the conditions")]
    TwoWheres,
}

impl PollUrl {
    /// Takes a URL apart. The field of the warnings is `url`.
    ///
    /// # Errors
    /// The first problem, in words of what would be accepted.
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), UrlProblem> {
        if text.len() > LONGEST_URL {
            return Err(UrlProblem::TooLong);
        }
        let mut notes = Vec::new();
        let url = strip_stray_end(text.trim(), &mut notes);
        let (path, query) = split_once_outside_macros(url, '?').unwrap_or((url, ""));
        let (path, placeholders) = resource_path(path)?;
        let mut parsed = Self { text: text.to_owned(), path, placeholders, filter: None, query: Vec::new() };
        for parameter in parameters(query) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decoded(name.trim()), decoded(value));
            if !name.eq_ignore_ascii_case("where") {
                let value = Template::parse(&value, &mut notes)?;
                parsed.query.push((name.into_owned(), value));
            } else if parsed.filter.is_some() {
                return Err(UrlProblem::TwoWheres);
            } else if !value.trim().is_empty() {
                let expression = ceql::parse_with_macros(&value)?;
                parsed.filter = Some(expression.try_map(&mut |value: String| Template::parse(&value, &mut notes))?);
            }
        }
        Ok((parsed, notes.into_iter().map(|note| Warning::new("url", note)).collect()))
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Path of the resource, without hub and without a slash at either end: `calendars/{calendarId}/changed-events`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names of the `{placeholders}` in the path, each once, in their order.
    pub fn placeholders(&self) -> &[String] {
        &self.placeholders
    }

    /// The `where` clause.
    pub fn where_clause(&self) -> Option<&Expression<Template>> {
        self.filter.as_ref()
    }

    /// The parameters besides `where`, in their order.
    pub fn query(&self) -> &[(String, Template)] {
        &self.query
    }

    /// True: a macro stands for the lower bound, so the vendor is asked for changes only.
    pub fn uses_since(&self) -> bool {
        let values = self.filter.iter().flat_map(Expression::comparisons).flat_map(|comparison| &comparison.values);
        values.map(ceql::Value::text).chain(self.query.iter().map(|(_, value)| value)).any(Template::uses_since)
    }

    /// Fills in the times. Without a lower bound, a parameter or comparison that asks for one is left out.
    pub fn expand(&self, times: &MacroTimes) -> ExpandedUrl {
        let parameter = |(name, value): &(String, Template)| value.expand(times).map(|value| (name.clone(), value));
        ExpandedUrl {
            path: self.path.clone(),
            filter: self.filter.as_ref().and_then(|filter| filter.filter_map(&|value: &Template| value.expand(times))),
            query: self.query.iter().filter_map(parameter).collect(),
        }
    }
}

impl fmt::Display for PollUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// For people: nothing is percent-encoded, as in poll URLs.
impl fmt::Display for ExpandedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path)?;
        let mut mark = '?';
        if let Some(filter) = &self.filter {
            write!(f, "{mark}where={filter}")?;
            mark = '&';
        }
        for (name, value) in &self.query {
            write!(f, "{mark}{name}={value}")?;
            mark = '&';
        }
        Ok(())
    }
}

impl Serialize for PollUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PollUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map(|(url, _)| url).map_err(de::Error::custom)
    }
}
