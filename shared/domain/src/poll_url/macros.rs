//! Macros in a poll URL: texts in which times are filled in at each poll.

use std::fmt;

use chrono::{DateTime, Utc};

use super::UrlProblem;
use crate::date::DatePattern;
use crate::problem::{nearest, shorten};
use crate::zone::Zone;

/// Longest macro, in bytes: a zone and a pattern fit twice.
const LONGEST_MACRO: usize = 200;

/// A text with macros in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Macro(Macro),
}

/// A time that is filled in at each poll.
#[derive(Debug, Clone, PartialEq)]
pub struct Macro {
    text: String,
    time: MacroTime,
    zone: Zone,
    pattern: DatePattern,
}

/// The time that a macro stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacroTime {
    /// The lower bound of the poll.
    Since,
    /// The instant at which the poll began.
    Now,
}

/// The times of one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacroTimes {
    /// The lower bound of the poll. None: everything there is.
    pub since: Option<DateTime<Utc>>,
    /// The instant at which the poll began.
    pub now: DateTime<Utc>,
}

impl Template {
    /// Parses a text. `notes` takes what was read differently from how it was written.
    pub(super) fn parse(text: &str, notes: &mut Vec<String>) -> Result<Self, UrlProblem> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (inside, after) =
                after.split_once('}').ok_or_else(|| UrlProblem::OpenMacro(shorten(&rest[before.len()..])))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Macro(Macro::parse(inside, notes)?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// True: a macro in it stands for the lower bound.
    pub fn uses_since(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Macro(Macro { time: MacroTime::Since, .. })))
    }

    /// The macro, if there is nothing else. A caller with a date format of its own then takes [`Macro::instant`].
    pub fn single_macro(&self) -> Option<&Macro> {
        match self.0.as_slice() {
            [Piece::Macro(only)] => Some(only),
            _ => None,
        }
    }

    /// The text with the times filled in. None: it needs a lower bound, and there is none.
    pub fn expand(&self, times: &MacroTimes) -> Option<String> {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => Some(text.clone()),
            Piece::Macro(time) => time.instant(times).map(|instant| time.pattern.format(instant, &time.zone)),
        };
        self.0.iter().map(piece).collect()
    }
}

impl Macro {
    fn parse(inside: &str, notes: &mut Vec<String>) -> Result<Self, UrlProblem> {
        const NAMES: [&str; 6] = ["date", "gmtDate", "dateTimeZone", "nowTimeZone", "epoch", "milliseconds"];
        let name = format!("${{{}}}", shorten(inside));
        if inside.len() > LONGEST_MACRO {
            return Err(UrlProblem::MacroForm { name, form: "of at most 200 bytes" });
        }
        let pattern = |text: &str| {
            DatePattern::parse(text).map_err(|problem| UrlProblem::Pattern { name: name.clone(), problem })
        };
        let (word, argument) = match inside.split_once(':') {
            Some((word, argument)) => (word, Some(argument)),
            None => (inside, None),
        };
        let (time, zone, pattern) = match (word.trim().to_ascii_lowercase().as_str(), argument) {
            ("date" | "gmtdate" | "milliseconds" | "epoch", None) => {
                (MacroTime::Since, Zone::GMT, pattern("epoch:ms")?)
            }
            ("date" | "gmtdate", Some(text)) => (MacroTime::Since, Zone::GMT, pattern(text)?),
            ("epoch", Some(unit)) => {
                let unit = match unit.trim().to_ascii_lowercase().as_str() {
                    "ms" => "epoch:ms",
                    "s" => "epoch:s",
                    "us" => "epoch:us",
                    "0" => {
                        notes.push(format!("{name} is read as ${{epoch}}, milliseconds since 1970"));
                        "epoch:ms"
                    }
                    _ => return Err(UrlProblem::MacroForm { name, form: "${epoch:s}, ${epoch:ms} or ${epoch:us}" }),
                };
                (MacroTime::Since, Zone::GMT, pattern(unit)?)
            }
            (word @ ("datetimezone" | "nowtimezone"), argument) => {
                let time = if word == "nowtimezone" { MacroTime::Now } else { MacroTime::Since };
                let form = "${dateTimeZone:ZONE:PATTERN}";
                let form_problem = || UrlProblem::MacroForm { name: name.clone(), form };
                let argument = argument.ok_or_else(form_problem)?;
                let (zone, text) = split_zone(argument).ok_or_else(|| match argument.split_once(':') {
                    None => form_problem(),
                    Some((zone, _)) => match Zone::parse(zone) {
                        Ok(_) => form_problem(),
                        Err(problem) => UrlProblem::Zone { name: name.clone(), problem },
                    },
                })?;
                (time, zone, pattern(text)?)
            }
            ("milliseconds", Some(_)) => return Err(UrlProblem::MacroForm { name, form: "${milliseconds}" }),
            // A pattern without a descriptor; words such as `days` consist of pattern letters too, so a year must be in it.
            (_, _) if inside.contains("yy") && DatePattern::parse(inside).is_ok() => {
                notes.push(format!("{name} is read as ${{date:{inside}}}"));
                (MacroTime::Since, Zone::GMT, pattern(inside)?)
            }
            (word, _) => return Err(UrlProblem::UnknownMacro { nearest: nearest(word, NAMES), name }),
        };
        notes.extend(pattern.warnings().iter().cloned());
        Ok(Self { text: inside.to_owned(), time, zone, pattern })
    }

    /// The time that it stands for.
    pub fn time(&self) -> MacroTime {
        self.time
    }

    /// The zone in which the time is written.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The pattern by which the time is written.
    pub fn pattern(&self) -> &DatePattern {
        &self.pattern
    }

    /// The instant that it stands for. None: that is the lower bound, and there is none.
    pub fn instant(&self, times: &MacroTimes) -> Option<DateTime<Utc>> {
        match self.time {
            MacroTime::Since => times.since,
            MacroTime::Now => Some(times.now),
        }
    }
}

/// Splits `ZONE:PATTERN` where the zone may be `-8:00`: the longest beginning that is a zone.
fn split_zone(argument: &str) -> Option<(Zone, &str)> {
    argument.rmatch_indices(':').find_map(|(colon, _)| Some((Zone::find(&argument[..colon])?, &argument[colon + 1..])))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Macro(time) => write!(f, "${{{}}}", time.text),
        })
    }
}
