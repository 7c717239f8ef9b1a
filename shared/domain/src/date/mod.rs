//! Dates as vendors write them, parsed and formatted by Java `SimpleDateFormat` patterns.
//!
//! `pattern` splits a pattern into tokens once; `parse` and `format` follow the tokens; `epoch` counts from 1970.
//!
//! Parsing is more lenient than Java where vendors are known to differ from their own patterns:
//! - a fraction of any length after the seconds is taken, whether or not the pattern has `S`, and may be missing though
//!   the pattern has it; it counts as a decimal fraction, so `.5` is half a second;
//! - an offset of any spelling (`Z`, `-08`, `-0800`, `-08:00`, `GMT-8`) is taken where the pattern has `X`, `Z` or `z`,
//!   and an offset at the end that the pattern lacks is taken as well; either wins over the zone;
//! - month and day names may be short or long, in any case; the day of the week is not checked;
//! - `h` in a pattern without `a` means the hours 0 to 23.
//!
//! A quoted `'Z'` is only a letter, as in Java: the zone of the call decides what the local time means.
//! Where the pattern wants `'Z'` and the text ends in an offset in numbers, that offset holds.

mod epoch;
mod format;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use self::parse::ParseFailure;
use self::pattern::{Form, LONGEST_PATTERN};
use crate::problem::shorten;
use crate::zone::Zone;

pub use self::pattern::PatternProblem;

/// Years that are dates; a vendor's typing error beyond them is a problem with the record.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A date pattern: `SimpleDateFormat` letters, or one of the words `milliseconds`, `epoch` (also milliseconds),
/// `epoch:ms`, `epoch:s`, `epoch:us` for numbers counted from 1970. Stored as its text.
#[derive(Clone, PartialEq, Eq)]
pub struct DatePattern {
    text: Box<str>,
    form: Form,
    warnings: Vec<String>,
}

/// A text that is not a date by the pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{read}\" {}", match .position {
    Some(position) => format!("does not follow the pattern {}, from character {position} on", .pattern),
    None => format!("follows the pattern {}, but there is no such date", .pattern),
})]
pub struct DateProblem {
    /// The text, shortened.
    pub read: String,
    /// The pattern.
    pub pattern: String,
    /// First character that does not fit, from 1. None: every one fits, but there is no such date.
    pub position: Option<usize>,
}

impl DatePattern {
    /// Parses a pattern. A quote that is never closed is dropped with a warning, see [`DatePattern::warnings`].
    ///
    /// # Errors
    /// The text is not a pattern; the problem says what would be one.
    pub fn parse(text: &str) -> Result<Self, PatternProblem> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(PatternProblem::Empty);
        }
        if trimmed.len() > LONGEST_PATTERN {
            return Err(PatternProblem::TooLong);
        }
        let mut warnings = Vec::new();
        let form = Form::parse(trimmed, &mut warnings)?;
        Ok(Self { text: trimmed.into(), form, warnings })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The parts of the pattern that were understood differently from how they were written.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes an instant as the clock of `zone` shows it. What the pattern does not show is cut off, never rounded up.
    pub fn format(&self, instant: DateTime<Utc>, zone: &Zone) -> String {
        match &self.form {
            Form::Epoch(unit) => epoch::format(instant, *unit),
            Form::Letters { tokens, .. } => format::format(tokens, instant, zone),
        }
    }

    /// Parses a date. `default_zone` holds where the text has no offset.
    ///
    /// # Errors
    /// The text departs from the pattern; the problem says where.
    pub fn parse_date(&self, text: &str, default_zone: &Zone) -> Result<DateTime<Utc>, DateProblem> {
        let parsed = match &self.form {
            Form::Epoch(unit) => epoch::parse(text.trim(), *unit),
            Form::Letters { tokens, may_end_in_offset } => parse::parse(tokens, *may_end_in_offset, text, default_zone),
        };
        parsed.map_err(|failure| {
            let position = match failure {
                ParseFailure::AtByte(byte) => Some(text.get(..byte).map_or(0, |head| head.chars().count()) + 1),
                ParseFailure::NoSuchDate => None,
            };
            DateProblem { read: shorten(text), pattern: self.text.to_string(), position }
        })
    }
}

impl fmt::Display for DatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for DatePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatePattern({})", self.text)
    }
}

impl Serialize for DatePattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DatePattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}
