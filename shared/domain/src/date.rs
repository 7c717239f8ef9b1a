//! Dates as vendors write them, read and written by Java `SimpleDateFormat` patterns that are compiled once.
//!
//! Reading is more lenient than Java where vendors are known to differ from their own patterns:
//! - a fraction of any length after the seconds is taken, whether or not the pattern has `S`, and may be missing though
//!   the pattern has it; it counts as a decimal fraction, so `.5` is half a second;
//! - an offset of any spelling (`Z`, `-08`, `-0800`, `-08:00`, `GMT-8`) is taken where the pattern has `X`, `Z` or `z`,
//!   and an offset at the end that the pattern lacks is taken as well; either wins over the zone;
//! - month and day names may be short or long, in any case; the day of the week is not checked;
//! - `h` in a pattern without `a` means the hours 0 to 23.
//!
//! A quoted `'Z'` is only a letter, as in Java: the zone of the call decides what the local time means.
//! Where the pattern wants `'Z'` and the text ends in an offset in numbers, that offset holds.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use chrono::{DateTime, Datelike, Days, FixedOffset, NaiveDate, TimeDelta, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::problem::shorten;
use crate::zone::{Zone, abbreviated, leading_offset};

/// Longest pattern, in bytes; the longest documented one has 29.
const LONGEST_PATTERN: usize = 100;
/// Years that are dates; a vendor's typing error beyond them is a problem with the record.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9999;
/// Two digits below this are 20xx, the others 19xx (POSIX has the same rule, a year earlier).
const FIRST_YEAR_OF_1900S: i32 = 70;

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

/// A compiled pattern: `SimpleDateFormat` letters, or one of the words `milliseconds`, `epoch` (also milliseconds),
/// `epoch:ms`, `epoch:s`, `epoch:us` for numbers counted from 1970. Stored as its text.
#[derive(Clone, PartialEq, Eq)]
pub struct DatePattern {
    text: Box<str>,
    form: Form,
    warnings: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// A count of units since 1970; the field is the nanoseconds of one.
    Epoch(i128),
    Letters {
        tokens: Vec<Token>,
        /// An offset may follow the last token: there is a time of day, and no offset of its own.
        may_end_in_offset: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Token {
    Literal(Box<str>),
    /// `exactly`: digits follow at once, so the width is all that separates this number from the next.
    Number {
        field: Field,
        width: usize,
        exactly: bool,
    },
    /// `mark`: the point or comma before it, which comes and goes with the digits.
    Fraction {
        mark: Option<char>,
        width: usize,
    },
    MonthName {
        long: bool,
    },
    WeekdayName {
        long: bool,
    },
    AmPm,
    ZoneName,
    Offset(OffsetStyle),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    WeekdayNumber,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    HourTo24,
    /// 1 to 12.
    HourTo12,
    /// 0 to 11.
    HourTo11,
    Minute,
    Second,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OffsetStyle {
    /// `Z`: `+0000`.
    Plain,
    /// `X`: `-08`, with minutes only where they are not zero; `Z` for zero.
    Hours,
    /// `XX`: `-0800` or `Z`.
    Short,
    /// `XXX`: `-08:00` or `Z`.
    Colon,
}

/// The pattern is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// There is nothing in it.
    #[error("a pattern like yyyy-MM-dd'T'HH:mm:ssXXX, or the word milliseconds")]
    Empty,
    /// More than 100 bytes.
    #[error("a pattern of at most {LONGEST_PATTERN} bytes")]
    TooLong,
    /// A letter without a meaning here.
    #[error(
        "a pattern of the letters y M d D E u a H h k K m s S z Z X; \"{letter}\" at character {position} is none: \
         letters that stand for themselves go in single quotes, like 'T'{hint}"
    )]
    UnknownLetter {
        /// The letter.
        letter: char,
        /// Place of the letter, from 1.
        position: usize,
        /// A sentence more where the mistake is a common one.
        hint: &'static str,
    },
    /// A letter repeated too often.
    #[error("at most {most} times \"{letter}\" in a row")]
    TooWide {
        /// The letter.
        letter: char,
        /// How often it may stand in a row.
        most: usize,
    },
}

/// The text is not a date by the pattern.
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

/// Why reading stopped: cheap, because with fallbacks a miss is ordinary.
enum Miss {
    AtByte(usize),
    NoSuchDate,
}

impl DatePattern {
    /// Reads a pattern. A quote that is never closed is dropped with a warning, see [`DatePattern::warnings`].
    ///
    /// # Errors
    /// What is wrong, in words of what would be accepted.
    pub fn compile(text: &str) -> Result<Self, PatternProblem> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(PatternProblem::Empty);
        }
        if trimmed.len() > LONGEST_PATTERN {
            return Err(PatternProblem::TooLong);
        }
        let mut warnings = Vec::new();
        let form = match trimmed.to_ascii_lowercase().as_str() {
            "milliseconds" | "epoch" | "epoch:ms" => Form::Epoch(1_000_000),
            "epoch:s" => Form::Epoch(1_000_000_000),
            "epoch:us" => Form::Epoch(1_000),
            _ => {
                let tokens = link(tokenize(trimmed, &mut warnings)?, &mut warnings);
                let may_end_in_offset =
                    tokens.iter().any(|token| {
                        use Field::{Hour, HourTo11, HourTo12, HourTo24};
                        matches!(token, Token::Number { field: Hour | HourTo24 | HourTo12 | HourTo11, .. })
                    }) && !tokens.iter().any(|token| matches!(token, Token::Offset(_) | Token::ZoneName));
                Form::Letters { tokens, may_end_in_offset }
            }
        };
        Ok(Self { text: trimmed.into(), form, warnings })
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What was read differently from how it was written.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes an instant as the clock of `zone` shows it. What the pattern does not show is cut off, never rounded up.
    pub fn format(&self, instant: DateTime<Utc>, zone: &Zone) -> String {
        let tokens = match &self.form {
            Form::Epoch(unit) => return nanos_since_epoch(instant).div_euclid(*unit).to_string(),
            Form::Letters { tokens, .. } => tokens,
        };
        let mut out = String::with_capacity(self.text.len() + 8);
        let local = zone.local(instant);
        for token in tokens {
            // Writing to a String cannot fail.
            let _ = match token {
                Token::Literal(literal) => out.write_str(literal),
                Token::Number { field: Field::Year, width: 2, .. } => {
                    write!(out, "{:02}", local.year().rem_euclid(100))
                }
                Token::Number { field, width, .. } => {
                    let number = match field {
                        Field::Year => local.year().unsigned_abs(),
                        Field::Month => local.month(),
                        Field::Day => local.day(),
                        Field::DayOfYear => local.ordinal(),
                        Field::WeekdayNumber => local.weekday().number_from_monday(),
                        Field::Hour => local.hour(),
                        Field::HourTo24 => (local.hour() + 23) % 24 + 1,
                        Field::HourTo12 => local.hour12().1,
                        Field::HourTo11 => local.hour() % 12,
                        Field::Minute => local.minute(),
                        Field::Second => local.second(),
                    };
                    write!(out, "{number:0width$}")
                }
                Token::Fraction { mark, width } => {
                    out.extend(*mark);
                    let digits = format!("{:09}", local.nanosecond() % 1_000_000_000);
                    out.write_str(&digits[..*width])
                }
                Token::MonthName { long } => out.write_str(named(&MONTHS, local.month0(), *long)),
                Token::WeekdayName { long } => {
                    out.write_str(named(&WEEKDAYS, local.weekday().num_days_from_monday(), *long))
                }
                Token::AmPm => out.write_str(if local.hour() < 12 { "AM" } else { "PM" }),
                Token::ZoneName => out.write_str(&zone.abbreviation_at(instant)),
                Token::Offset(style) => write_offset(&mut out, *style, zone.offset_at(instant)),
            };
        }
        out
    }

    /// Reads a date. `default_zone` holds where the text has no offset.
    ///
    /// # Errors
    /// Where the text departs from the pattern.
    pub fn parse(&self, text: &str, default_zone: &Zone) -> Result<DateTime<Utc>, DateProblem> {
        self.read(text, default_zone).map_err(|miss| self.problem(text, &miss))
    }

    /// Reads a date from raw JSON, a string or a number.
    ///
    /// # Errors
    /// Where the text departs from the pattern; null, true, false, lists and objects always do.
    pub fn parse_json(&self, raw: &str, default_zone: &Zone) -> Result<DateTime<Utc>, DateProblem> {
        let text = scalar_text(raw);
        self.parse(&text, default_zone)
    }

    fn problem(&self, text: &str, miss: &Miss) -> DateProblem {
        let position = match miss {
            Miss::AtByte(byte) => Some(text.get(..*byte).map_or(0, |head| head.chars().count()) + 1),
            Miss::NoSuchDate => None,
        };
        DateProblem { read: shorten(text), pattern: self.text.to_string(), position }
    }

    fn read(&self, text: &str, default_zone: &Zone) -> Result<DateTime<Utc>, Miss> {
        match &self.form {
            Form::Epoch(unit) => read_epoch(text.trim(), *unit),
            Form::Letters { tokens, may_end_in_offset } => {
                let mut reader = Reader::new(text);
                for (index, token) in tokens.iter().enumerate() {
                    reader.token(token, index + 1 == tokens.len())?;
                }
                reader.finish(*may_end_in_offset, default_zone)
            }
        }
    }
}

/// A configured pattern and what to try when the vendor does not keep to it.
#[derive(Debug, Clone, Copy)]
pub struct LenientDate<'a> {
    configured: &'a DatePattern,
    fallbacks: &'a [DatePattern],
}

/// Which pattern fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matched {
    /// The configured one.
    Configured,
    /// The fallback at this place in the list.
    Fallback(usize),
}

impl<'a> LenientDate<'a> {
    /// `configured` first, then `fallbacks` in their order.
    pub fn new(configured: &'a DatePattern, fallbacks: &'a [DatePattern]) -> Self {
        Self { configured, fallbacks }
    }

    /// Reads a date and tells which pattern fitted.
    ///
    /// # Errors
    /// The configured pattern's problem when none fits.
    pub fn parse(&self, text: &str, default_zone: &Zone) -> Result<(DateTime<Utc>, Matched), DateProblem> {
        let miss = match self.configured.read(text, default_zone) {
            Ok(instant) => return Ok((instant, Matched::Configured)),
            Err(miss) => miss,
        };
        let fallback = |(index, pattern): (usize, &DatePattern)| {
            pattern.read(text, default_zone).ok().map(|instant| (instant, Matched::Fallback(index)))
        };
        self.fallbacks.iter().enumerate().find_map(fallback).ok_or_else(|| self.configured.problem(text, &miss))
    }

    /// The same for raw JSON, a string or a number.
    ///
    /// # Errors
    /// The configured pattern's problem when none fits.
    pub fn parse_json(&self, raw: &str, default_zone: &Zone) -> Result<(DateTime<Utc>, Matched), DateProblem> {
        let text = scalar_text(raw);
        self.parse(&text, default_zone)
    }
}

/// The text inside a JSON string, or the JSON itself.
fn scalar_text(raw: &str) -> Cow<'_, str> {
    let raw = raw.trim();
    match raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) if !inner.contains('\\') => Cow::Borrowed(inner),
        Some(_) => serde_json::from_str::<String>(raw).map_or(Cow::Borrowed(raw), Cow::Owned),
        None => Cow::Borrowed(raw),
    }
}

/// Splits a pattern into tokens; neighbouring literals are one.
fn tokenize(text: &str, warnings: &mut Vec<String>) -> Result<Vec<Token>, PatternProblem> {
    let chars = text.chars().collect::<Vec<_>>();
    let mut tokens = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c == '\'' {
            if chars.get(at + 1) == Some(&'\'') {
                literal.push('\'');
                at += 2;
                continue;
            }
            at += 1;
            let start = literal.len();
            loop {
                match (chars.get(at), chars.get(at + 1)) {
                    (Some('\''), Some('\'')) => {
                        literal.push('\'');
                        at += 2;
                    }
                    (Some('\''), _) => {
                        at += 1;
                        break;
                    }
                    (Some(c), _) => {
                        literal.push(*c);
                        at += 1;
                    }
                    (None, _) => {
                        let rest = &literal[start..];
                        warnings.push(match rest {
                            "" => format!("the single quote at the end of the pattern {text} is left out"),
                            _ => format!("the pattern {text} does not close the quote before {rest}; it ends there"),
                        });
                        break;
                    }
                }
            }
        } else if c.is_ascii_alphabetic() {
            let width = chars[at..].iter().take_while(|next| **next == c).count();
            if !literal.is_empty() {
                tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
            }
            tokens.push(token(c, width, at + 1)?);
            at += width;
        } else {
            literal.push(c);
            at += 1;
        }
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal.into()));
    }
    Ok(tokens)
}

fn token(letter: char, width: usize, position: usize) -> Result<Token, PatternProblem> {
    let most = if letter == 'X' { 3 } else { 9 };
    if width > most {
        return Err(PatternProblem::TooWide { letter, most });
    }
    let number = |field| Token::Number { field, width, exactly: false };
    Ok(match letter {
        'y' => number(Field::Year),
        'M' if width >= 3 => Token::MonthName { long: width > 3 },
        'M' => number(Field::Month),
        'd' => number(Field::Day),
        'D' => number(Field::DayOfYear),
        'u' => number(Field::WeekdayNumber),
        'H' => number(Field::Hour),
        'k' => number(Field::HourTo24),
        'h' => number(Field::HourTo12),
        'K' => number(Field::HourTo11),
        'm' => number(Field::Minute),
        's' => number(Field::Second),
        'S' => Token::Fraction { mark: None, width },
        'E' => Token::WeekdayName { long: width > 3 },
        'a' => Token::AmPm,
        'z' => Token::ZoneName,
        'Z' => Token::Offset(OffsetStyle::Plain),
        'X' => Token::Offset([OffsetStyle::Hours, OffsetStyle::Short, OffsetStyle::Colon][width - 1]),
        _ => {
            let hint = match letter {
                'Y' => " (the year is a small y; Y is the year of the week)",
                _ => "",
            };
            return Err(PatternProblem::UnknownLetter { letter, position, hint });
        }
    })
}

/// Settles what depends on a token's neighbours.
fn link(tokens: Vec<Token>, warnings: &mut Vec<String>) -> Vec<Token> {
    let halves_of_day = tokens.contains(&Token::AmPm);
    let mut linked: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Fraction { width, .. } => {
                let mut mark = None;
                match linked.last_mut() {
                    Some(Token::Literal(before)) if before.ends_with(['.', ',']) => {
                        let mut rest = std::mem::take(before).into_string();
                        mark = rest.pop();
                        *before = rest.into();
                    }
                    Some(Token::Number { exactly, .. }) => *exactly = true,
                    _ => {}
                }
                if matches!(linked.last(), Some(Token::Literal(before)) if before.is_empty()) {
                    linked.pop();
                }
                linked.push(Token::Fraction { mark, width });
            }
            Token::Number { field, width, .. } => {
                if let Some(Token::Number { exactly, .. }) = linked.last_mut() {
                    *exactly = true;
                }
                let field = match field {
                    Field::HourTo12 | Field::HourTo11 if !halves_of_day => {
                        warnings.push("h without a is read and written as the hours 0 to 23".to_owned());
                        Field::Hour
                    }
                    field => field,
                };
                linked.push(Token::Number { field, width, exactly: false });
            }
            other => linked.push(other),
        }
    }
    linked
}

/// Reads a text token by token and collects what it says.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    year: i32,
    month: u32,
    day: u32,
    day_of_year: Option<u32>,
    hour: u32,
    hour_of_half: bool,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    nanos: u32,
    said: Option<SaidZone>,
}

/// What the text itself says about its zone.
enum SaidZone {
    Offset(FixedOffset),
    Named(Zone),
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        let end = text.trim_end().len();
        Self {
            text: &text[..end],
            at: end - text[..end].trim_start().len(),
            year: 1970,
            month: 1,
            day: 1,
            day_of_year: None,
            hour: 0,
            hour_of_half: false,
            afternoon: None,
            minute: 0,
            second: 0,
            nanos: 0,
            said: None,
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn digits(&self) -> usize {
        self.rest().bytes().take_while(u8::is_ascii_digit).count()
    }

    fn token(&mut self, token: &Token, last: bool) -> Result<(), Miss> {
        match token {
            Token::Literal(literal) if self.rest().starts_with(&**literal) => self.at += literal.len(),
            // The pattern's closing 'Z' and an offset in numbers: the vendor was more exact than the pattern.
            Token::Literal(literal) if last && &**literal == "Z" && self.rest().starts_with(['+', '-']) => {
                self.zone()?;
            }
            Token::Literal(_) => return Err(Miss::AtByte(self.at)),
            Token::Number { field, width, exactly } => self.number(*field, *width, *exactly)?,
            Token::Fraction { mark: Some(_), .. } => self.marked_fraction(),
            Token::Fraction { mark: None, .. } => self.fraction(self.digits()),
            Token::MonthName { .. } => self.month = self.name(&MONTHS)? + 1,
            Token::WeekdayName { .. } => {
                self.name(&WEEKDAYS)?;
            }
            Token::AmPm => {
                self.afternoon = Some(match self.rest().get(..2) {
                    Some(half) if half.eq_ignore_ascii_case("AM") => false,
                    Some(half) if half.eq_ignore_ascii_case("PM") => true,
                    _ => return Err(Miss::AtByte(self.at)),
                });
                self.at += 2;
            }
            Token::ZoneName | Token::Offset(_) => self.zone()?,
        }
        Ok(())
    }

    fn number(&mut self, field: Field, width: usize, exactly: bool) -> Result<(), Miss> {
        let found = self.digits();
        let digits = if exactly { width } else { found };
        if digits == 0 || digits > 9 || found < digits {
            return Err(Miss::AtByte(self.at));
        }
        let number = self.rest().as_bytes()[..digits].iter().fold(0, |sum, b| sum * 10 + u32::from(b - b'0'));
        self.at += digits;
        match field {
            Field::Year => {
                // At most nine digits: it fits.
                let number = number as i32;
                self.year = match number {
                    _ if width != 2 || digits != 2 => number,
                    FIRST_YEAR_OF_1900S.. => 1900 + number,
                    _ => 2000 + number,
                };
            }
            Field::Month => self.month = number,
            Field::Day => self.day = number,
            Field::DayOfYear => self.day_of_year = Some(number),
            Field::WeekdayNumber => {}
            Field::Hour => self.hour = number,
            Field::HourTo24 => self.hour = number % 24,
            Field::HourTo12 | Field::HourTo11 => {
                self.hour = number;
                self.hour_of_half = true;
            }
            Field::Minute => self.minute = number,
            Field::Second => {
                self.second = number;
                self.marked_fraction();
            }
        }
        Ok(())
    }

    /// A point or comma and digits, if they are next.
    fn marked_fraction(&mut self) {
        if let [b'.' | b',', b'0'..=b'9', ..] = self.rest().as_bytes() {
            self.at += 1;
            self.fraction(self.digits());
        }
    }

    fn fraction(&mut self, digits: usize) {
        let counted = self.rest().bytes().take(digits.min(9));
        let scale = 10_u32.pow(9 - digits.min(9) as u32);
        if digits > 0 {
            self.nanos = counted.fold(0, |sum, b| sum * 10 + u32::from(b - b'0')) * scale;
        }
        self.at += digits;
    }

    /// Place in the list of the name that is next, long or by its first three letters.
    fn name(&mut self, names: &[&str]) -> Result<u32, Miss> {
        let letters = self.rest().bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = &self.rest()[..letters];
        let place = names
            .iter()
            .position(|name| word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(&name[..3]))
            .ok_or(Miss::AtByte(self.at))?;
        self.at += letters;
        // A list of at most twelve.
        Ok(place as u32)
    }

    /// An offset in numbers, an abbreviation, a zone's name, or `GMT` and an offset.
    fn zone(&mut self) -> Result<(), Miss> {
        let rest = self.rest();
        let miss = Miss::AtByte(self.at);
        if let Some((offset, length)) = leading_offset(rest) {
            self.said = Some(SaidZone::Offset(offset));
            self.at += length;
            return Ok(());
        }
        let letters = rest.bytes().take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'_')).count();
        let word = &rest[..letters];
        let (said, length) = if word.contains('/') {
            let more = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
            let length = rest.bytes().take_while(more).count();
            (SaidZone::Named(Zone::find(&rest[..length]).ok_or(miss)?), length)
        } else {
            let base = abbreviated(word).ok_or(miss)?;
            match leading_offset(&rest[letters..]) {
                Some((offset, length)) if base.local_minus_utc() == 0 => (SaidZone::Offset(offset), letters + length),
                _ => (SaidZone::Offset(base), letters),
            }
        };
        self.said = Some(said);
        self.at += length;
        Ok(())
    }

    fn finish(mut self, may_end_in_offset: bool, default_zone: &Zone) -> Result<DateTime<Utc>, Miss> {
        let end = self.at;
        if may_end_in_offset && self.said.is_none() && end < self.text.len() {
            self.at = self.text.len() - self.rest().trim_start().len();
            self.zone().map_err(|_| Miss::AtByte(end))?;
        }
        if self.at < self.text.len() {
            return Err(Miss::AtByte(self.at));
        }
        if !YEARS.contains(&self.year) {
            return Err(Miss::NoSuchDate);
        }
        let date = match self.day_of_year {
            Some(ordinal) => NaiveDate::from_yo_opt(self.year, ordinal),
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day),
        };
        let hour = match (self.hour_of_half, self.hour, self.afternoon) {
            (true, 0..=12, Some(afternoon)) => self.hour % 12 + if afternoon { 12 } else { 0 },
            _ => self.hour,
        };
        // Midnight at the day's end, and the second that is put in now and then, belong to the minute that follows.
        let (hour, days) = match (hour, self.minute, self.second) {
            (24, 0, 0) => (0, 1),
            _ => (hour, 0),
        };
        let (second, leap) = if self.second == 60 { (59, 1) } else { (self.second, 0) };
        let local = date
            .and_then(|date| date.checked_add_days(Days::new(days)))
            .and_then(|date| date.and_hms_nano_opt(hour, self.minute, second, self.nanos))
            .ok_or(Miss::NoSuchDate)?
            + TimeDelta::seconds(leap);
        Ok(match self.said {
            None => default_zone.instant(local),
            Some(SaidZone::Offset(offset)) => (local - offset).and_utc(),
            Some(SaidZone::Named(zone)) => zone.instant(local),
        })
    }
}

fn read_epoch(text: &str, unit: i128) -> Result<DateTime<Utc>, Miss> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    let nanos = if !unsigned.is_empty() && digits(unsigned) && digits(fraction) && fraction.len() <= 18 {
        let count = whole.parse::<i128>().map_err(|_| Miss::NoSuchDate)?;
        let part = fraction.parse::<i128>().unwrap_or(0) * unit / 10_i128.pow(fraction.len() as u32);
        count.checked_mul(unit).map(|nanos| if whole.starts_with('-') { nanos - part } else { nanos + part })
    } else {
        // A number that went through a float on the vendor's side: 1.534778974e12.
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && text.contains(['e', 'E']));
        let number = number.ok_or_else(|| Miss::AtByte(text.bytes().take_while(u8::is_ascii_digit).count()))?;
        // A double of this size is good to a quarter of a microsecond.
        Some((number * unit as f64 / 1e3).round() as i128 * 1000)
    };
    nanos
        .and_then(|nanos| {
            let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).ok()?;
            // The remainder is below a billion.
            DateTime::from_timestamp(seconds, nanos.rem_euclid(1_000_000_000) as u32)
        })
        .filter(|instant| YEARS.contains(&instant.year()))
        .ok_or(Miss::NoSuchDate)
}

fn nanos_since_epoch(instant: DateTime<Utc>) -> i128 {
    i128::from(instant.timestamp()) * 1_000_000_000 + i128::from(instant.timestamp_subsec_nanos())
}

fn named(names: &[&'static str], index: u32, long: bool) -> &'static str {
    let name = names[index as usize];
    if long { name } else { &name[..3] }
}

fn write_offset(out: &mut String, style: OffsetStyle, offset: FixedOffset) -> fmt::Result {
    let east = offset.local_minus_utc();
    if east == 0 && style != OffsetStyle::Plain {
        return out.write_str("Z");
    }
    let sign = if east < 0 { '-' } else { '+' };
    let minutes = east.abs() / 60;
    let (hours, minutes) = (minutes / 60, minutes % 60);
    match style {
        OffsetStyle::Hours if minutes == 0 => write!(out, "{sign}{hours:02}"),
        OffsetStyle::Colon => write!(out, "{sign}{hours:02}:{minutes:02}"),
        _ => write!(out, "{sign}{hours:02}{minutes:02}"),
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
        Self::compile(&Cow::<str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The documented patterns, those counted on the original's element pages, and the remaining letters.
    const PATTERNS: &[&str] = &[
        "yyyy-MM-dd'T'HH:mm:ssXXX",
        "yyyy-MM-dd'T'HH:mm:ssXXX'",
        "yyyy-MM-dd'T'HH:mm:ssXX",
        "yyyy-MM-dd'T'HH:mm:ssX",
        "yyyy-MM-dd'T'HH:mm:ssZ",
        "yyyy-MM-dd'T'HH:mm:ss'Z'",
        "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'",
        "yyyy-MM-dd'T'HH:mm:ss.SSSZ",
        "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX",
        "yyyy-MM-dd'T'HH:mm:ss.SSS",
        "yyyy-MM-dd'T'HH:mm:ss",
        "yyyy-MM-dd'T'HH:mmz",
        "yyyy-MM-dd",
        "yyyy-MM-dd HH:mm:ss",
        "yyyy-MM-dd' 'HH:mm:ss",
        "yyyy/MM/dd HH:mm:ss",
        "MM/dd/yyyy",
        "MM/dd/yyyy HH:mm:ss",
        "MM/dd/yyyy'T'HH:mm:ssXXX",
        "MM/dd/yyy'T'HH:mm:ssXXX",
        "dd/MM/yyyy",
        "dd/MM/yyyy'T'HH:mm:ssXXX",
        "EEE, dd MMM yyyy HH:mm:ss Z",
        "EEEE d MMMM y h:mm:ss a z",
        "EEE MMM dd HH:mm:ss zzz yyyy",
        "yyyyMMddHHmmss",
        "yyyyMMddHHmmssSSS",
        "yy-M-d K:m:s,SS a",
        "yyyy-DDD kk:mm:ss u",
        "yyyy 'o''clock' HH 'h' '' mm",
        "milliseconds",
        "epoch",
        "epoch:s",
        "epoch:us",
    ];

    fn pattern(text: &str) -> DatePattern {
        DatePattern::compile(text).expect("a pattern")
    }

    fn zone(text: &str) -> Zone {
        Zone::parse(text).expect("a zone")
    }

    fn instant(text: &str) -> DateTime<Utc> {
        text.parse().expect("an instant")
    }

    #[track_caller]
    fn check(text: &str, by: &str, in_zone: &str, expected: &str) {
        let read = pattern(by).parse(text, &zone(in_zone));
        assert_eq!(read, Ok(instant(expected)), "{text} by {by} in {in_zone}");
    }

    #[track_caller]
    fn check_written(expected: &str, by: &str, in_zone: &str, at: &str) {
        assert_eq!(pattern(by).format(instant(at), &zone(in_zone)), expected, "{at} by {by} in {in_zone}");
    }

    #[test]
    fn the_vendors_dates_are_read() {
        const XXX: &str = "yyyy-MM-dd'T'HH:mm:ssXXX";
        check("2026-08-01T10:00:05Z", XXX, "PST", "2026-08-01T10:00:05Z");
        check("2026-08-01T10:00:05-08:00", XXX, "GMT", "2026-08-01T18:00:05Z");
        check("2026-08-01T10:00:05-0800", XXX, "GMT", "2026-08-01T18:00:05Z");
        check("2026-08-01T10:00:05+05", XXX, "GMT", "2026-08-01T05:00:05Z");
        check("2026-08-01T10:00:05.307Z", XXX, "GMT", "2026-08-01T10:00:05.307Z");
        check("2017-05-18T21:55:26.451000+00:00", XXX, "GMT", "2017-05-18T21:55:26.451Z");
        check("2026-08-01T10:00:00.123456Z", "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "GMT", "2026-08-01T10:00:00.123456Z");
        check("2026-08-01T10:00:00Z", "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", "GMT", "2026-08-01T10:00:00Z");
        check("2015-10-13T03:26:48.000+0000", "yyyy-MM-dd'T'HH:mm:ssZ", "PST", "2015-10-13T03:26:48Z");
        check("2026-08-01T00:00:00", "yyyy-MM-dd'T'HH:mm:ss.SSS", "PST", "2026-08-01T07:00:00Z");
        check("2026-08-01T00:00:00.1234567891", "yyyy-MM-dd'T'HH:mm:ss.SSS", "PST", "2026-08-01T07:00:00.123456789Z");
        check("0001-01-01T00:00:00", "yyyy-MM-dd'T'HH:mm:ss.SSS", "GMT", "0001-01-01T00:00:00Z");
        check("2009-06-18 22:39:54", "yyyy-MM-dd' 'HH:mm:ss", "America/New_York", "2009-06-19T02:39:54Z");
        check(" 2009-06-18 22:39:54 ", "yyyy-MM-dd HH:mm:ss", "GMT", "2009-06-18T22:39:54Z");
        check("Mon, 20 Aug 2018 15:30:07 -0700", "EEE, dd MMM yyyy HH:mm:ss Z", "GMT", "2018-08-20T22:30:07Z");
        check("monday, 20 august 2018 15:30:07 Z", "EEE, dd MMM yyyy HH:mm:ss Z", "GMT", "2018-08-20T15:30:07Z");
        check("Mon Aug 20 15:30:07 UTC 2018", "EEE MMM dd HH:mm:ss zzz yyyy", "PST", "2018-08-20T15:30:07Z");
        check("Mon Aug 20 15:30:07 PDT 2018", "EEE MMM dd HH:mm:ss zzz yyyy", "GMT", "2018-08-20T22:30:07Z");
        check("2018-08-20T15:30Europe/Berlin", "yyyy-MM-dd'T'HH:mmz", "GMT", "2018-08-20T13:30:00Z");
        check("2018-08-20T15:30GMT+02:00", "yyyy-MM-dd'T'HH:mmz", "GMT", "2018-08-20T13:30:00Z");
        check("20180820153007123", "yyyyMMddHHmmssSSS", "GMT", "2018-08-20T15:30:07.123Z");
        check("8/5/18 12:05:00 am", "M/d/yy h:mm:ss a", "GMT", "2018-08-05T00:05:00Z");
        check("8/5/99 12:05:00 PM", "M/d/yy h:mm:ss a", "GMT", "1999-08-05T12:05:00Z");
        check("2018-08-20 15:30", "yyyy-MM-dd hh:mm", "GMT", "2018-08-20T15:30:00Z");
        check("2018-08-20 24:00:00", "yyyy-MM-dd HH:mm:ss", "GMT", "2018-08-21T00:00:00Z");
        check("2016-12-31 23:59:60", "yyyy-MM-dd HH:mm:ss", "GMT", "2017-01-01T00:00:00Z");
        check("2020-366", "yyyy-DDD", "GMT", "2020-12-31T00:00:00Z");
        check("8/5/2018", "M/d/yy", "GMT", "2018-08-05T00:00:00Z");
        check("18-08-05", "yyyy-MM-dd", "GMT", "0018-08-05T00:00:00Z");
        check("2018-08-20 15:30:34 827", "yyyy-MM-dd HH:mm:ss SSS", "GMT", "2018-08-20T15:30:34.827Z");
        check("20180820153007.123", "yyyyMMddHHmmssSSS", "GMT", "2018-08-20T15:30:07.123Z");
    }

    #[test]
    fn an_offset_in_the_text_wins_and_a_quoted_z_is_a_letter() {
        check("2018-08-20T15:00:00+02:00", "yyyy-MM-dd'T'HH:mm:ss", "PST", "2018-08-20T13:00:00Z");
        check("2018-08-20T15:00:00Z", "yyyy-MM-dd'T'HH:mm:ss", "PST", "2018-08-20T15:00:00Z");
        check("2018-08-20 15:00:00 UTC", "yyyy-MM-dd HH:mm:ss", "PST", "2018-08-20T15:00:00Z");
        check("2018-08-20T15:00:00Z", "yyyy-MM-dd'T'HH:mm:ss'Z'", "PST", "2018-08-20T22:00:00Z");
        check("2018-08-20T15:00:00.5+02:00", "yyyy-MM-dd'T'HH:mm:ss'Z'", "PST", "2018-08-20T13:00:00.5Z");
    }

    #[test]
    fn numbers_count_from_1970() {
        check("1534778974827", "milliseconds", "PST", "2018-08-20T15:29:34.827Z");
        check("1534778974827.0", "epoch", "PST", "2018-08-20T15:29:34.827Z");
        check("1.534778974827e12", "epoch:ms", "PST", "2018-08-20T15:29:34.827Z");
        check("1534778974.25", "epoch:s", "PST", "2018-08-20T15:29:34.25Z");
        check("1534778974827123", "EPOCH:us", "PST", "2018-08-20T15:29:34.827123Z");
        check("-1.5", "epoch:s", "GMT", "1969-12-31T23:59:58.5Z");
    }

    #[test]
    fn raw_json_is_read() {
        let read = |by: &str, raw: &str| pattern(by).parse_json(raw, &Zone::GMT);
        assert_eq!(read("milliseconds", "1534778974827"), Ok(instant("2018-08-20T15:29:34.827Z")));
        assert_eq!(read("milliseconds", "\"1534778974827\""), Ok(instant("2018-08-20T15:29:34.827Z")));
        assert_eq!(read("MM/dd/yyyy", r#""08\/20\/2018""#), Ok(instant("2018-08-20T00:00:00Z")));
        assert_eq!(read("yyyyMMdd", "20180820"), Ok(instant("2018-08-20T00:00:00Z")));
        for raw in ["null", "true", "{}", "[]", "\"\"", "\"", "", "1e999", "99999999999999999999999999999999999999999"]
        {
            assert!(read("milliseconds", raw).is_err(), "{raw}");
            assert!(read("yyyy-MM-dd", raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn dates_are_written() {
        check_written("2018-08-20T15:29:34Z", "yyyy-MM-dd'T'HH:mm:ssXXX", "GMT", "2018-08-20T15:29:34.827Z");
        check_written("2018-08-20T08:29:34-07:00", "yyyy-MM-dd'T'HH:mm:ssXXX", "PST", "2018-08-20T15:29:34.827Z");
        check_written("20:59+0530", "HH:mmXX", "Asia/Kolkata", "2018-08-20T15:29:34Z");
        check_written("20:59+0530 16:29+01", "HH:mmX '16:29+01'", "Asia/Kolkata", "2018-08-20T15:29:34Z");
        check_written("16:29+01", "HH:mmX", "Europe/London", "2018-08-20T15:29:34Z");
        check_written("2018-08-20T08:29:34.827", "yyyy-MM-dd'T'HH:mm:ss.SSS", "PST", "2018-08-20T15:29:34.827999Z");
        check_written("34.827999", "ss.SSSSSS", "GMT", "2018-08-20T15:29:34.827999999Z");
        check_written("Mon, 20 Aug 2018 15:29:34 +0000", "EEE, dd MMM yyyy HH:mm:ss Z", "GMT", "2018-08-20T15:29:34Z");
        check_written("Mon Aug 20 08:29:34 PDT 2018", "EEE MMM dd HH:mm:ss zzz yyyy", "PST", "2018-08-20T15:29:34Z");
        check_written("GMT-08:00 UTC'2018", "z 'UTC'''yyy", "-8:00", "2018-08-20T15:29:34Z");
        check_written("12 0 24 0 AM 1 18 1 001", "h K k H a u yy M DDD", "GMT", "2018-01-01T00:00:00Z");
        check_written("3 3 PM", "h K a", "GMT", "2018-08-20T15:29:34Z");
        check_written("12 0 PM", "h K a", "GMT", "2018-08-20T12:00:00Z");
        check_written("Monday August", "EEEE MMMM", "GMT", "2018-08-20T15:29:34Z");
        check_written("2018 o'clock", "yyyy 'o''clock'", "GMT", "2018-08-20T15:29:34Z");
        check_written("1534778974827", "milliseconds", "GMT", "2018-08-20T15:29:34.827999Z");
        check_written("1534778974", "epoch:s", "GMT", "2018-08-20T15:29:34.827Z");
        check_written("-1", "epoch:s", "GMT", "1969-12-31T23:59:59.5Z");
    }

    #[test]
    fn problems_say_where() {
        let problem = |by: &str, text: &str| {
            pattern(by).parse(text, &Zone::GMT).map(|at| at.to_string()).expect_err("a problem").to_string()
        };
        assert_eq!(
            problem("yyyy-MM-dd'T'HH:mm:ssXXX", "2026-06-18 20:15:31"),
            "\"2026-06-18 20:15:31\" does not follow the pattern yyyy-MM-dd'T'HH:mm:ssXXX, from character 11 on"
        );
        assert!(problem("yyyy-MM-dd", "2026-02-30").ends_with("but there is no such date"));
        assert!(problem("yyyy-MM-dd HH:mm", "2026-02-28 25:00").ends_with("but there is no such date"));
        assert!(problem("yyyy-MM-dd", "26 février").ends_with("from character 3 on"));
        assert!(problem("yyyy-MM", "2026-06-18").ends_with("from character 8 on"));
        assert!(problem("yyyy-MM-dd HH:mm", "2026-06-18 10:00 and more").ends_with("from character 17 on"));
        assert!(problem("milliseconds", "today").ends_with("from character 1 on"));
        // Nine digits may be a year, though there is none so late.
        assert!(problem("yyyy", "123456789").ends_with("but there is no such date"));
        assert!(problem("yyyy", "1234567890").ends_with("from character 1 on"));
        // An offset stands for a closing 'Z' and for nothing else.
        assert!(problem("yyyy-MM-dd'T'HH:mm", "2018-08-20+02:0015:00").ends_with("from character 11 on"));
        assert!(problem("yyyy-MM-dd'T'", "2018-08-20+02:00").ends_with("from character 11 on"));
        assert!(problem("yyyy'Z'MM", "2018+0205").ends_with("from character 5 on"));
        assert!(problem("HH:mm'Z'", "15:00UTC").ends_with("from character 6 on"));
        assert!(problem("h:mm a", "12:05 XM").ends_with("from character 7 on"));
        // An offset after an abbreviation is GMT's.
        assert!(problem("HH:mm z", "10:00 EST+02:00").ends_with("from character 10 on"));

        let refused = |text: &str| DatePattern::compile(text).expect_err("not a pattern").to_string();
        assert!(refused("yyyy-MM-ddTHH:mm").contains("\"T\" at character 11"));
        assert!(refused("YYYY-MM-dd").contains("the year is a small y"));
        assert!(refused("XXXX").contains("at most 3"));
        assert!(refused(" ").contains("milliseconds"));
        assert!(refused(&"-".repeat(101)).contains("100"));
        assert!(DatePattern::compile(&"-".repeat(100)).is_ok());
    }

    #[test]
    fn a_stray_quote_is_a_warning() {
        let stray = pattern("yyyy-MM-dd'T'HH:mm:ssXXX'");
        assert_eq!(stray.warnings().len(), 1);
        assert!(stray.parse("2026-06-18T20:15:31Z", &Zone::GMT).is_ok());
        assert_eq!(pattern("yyyy-MM-dd'T").warnings().len(), 1);
        assert_eq!(pattern("hh:mm").warnings().len(), 1);
        assert!(pattern("yyyy-MM-dd'T'HH:mm:ss'Z'").warnings().is_empty());
    }

    #[test]
    fn a_fallback_reads_what_the_configured_pattern_does_not() {
        let configured = pattern("yyyy-MM-dd'T'HH:mm:ssXXX");
        let fallbacks = [pattern("yyyy-MM-dd"), pattern("yyyy-MM-dd HH:mm:ss")];
        let lenient = LenientDate::new(&configured, &fallbacks);
        let read = |raw: &str| lenient.parse_json(raw, &Zone::GMT);
        let at = instant("2026-06-18T20:15:31Z");
        assert_eq!(read("\"2026-06-18T20:15:31Z\""), Ok((at, Matched::Configured)));
        assert_eq!(read("\"2026-06-18 20:15:31\""), Ok((at, Matched::Fallback(1))));
        assert_eq!(read("\"soon\"").expect_err("no date").pattern, configured.as_str());
    }

    /// Instants from 1971 to 2037, half of them within hours of a clock change somewhere.
    fn instants() -> impl Strategy<Value = DateTime<Utc>> {
        let changes = [
            "2026-03-08T10:00:00Z",
            "2026-11-01T09:00:00Z",
            "2026-03-29T01:00:00Z",
            "2026-10-25T01:00:00Z",
            "2026-04-04T15:00:00Z",
            "2026-10-03T15:30:00Z",
        ];
        let near = (prop::sample::select(changes.to_vec()), -7_200_000_i64..7_200_000)
            .prop_map(|(change, ms)| instant(change) + TimeDelta::milliseconds(ms));
        let any = (31_536_000_i64..2_114_380_800, 0_u32..1_000_000_000)
            .prop_map(|(seconds, nanos)| DateTime::from_timestamp(seconds, nanos).expect("in range"));
        prop_oneof![near, any]
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(
            at in instants(),
            by in prop::sample::select(PATTERNS),
            in_zone in prop::sample::select(&[
                "GMT", "UTC", "PST", "America/New_York", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe",
                "America/St_Johns", "-8:00", "+0530", "Asia/Tehran",
            ]),
        ) {
            let (by, in_zone) = (pattern(by), zone(in_zone));
            let written = by.format(at, &in_zone);
            let read = by.parse(&written, &in_zone)?;
            prop_assert_eq!(&by.format(read, &in_zone), &written, "{:?} read back as {}", by, read);
            // Reading never goes past what was written, so a lower bound that is written down skips nothing.
            prop_assert!(read <= at, "{} > {}", read, at);
            let says_its_zone = by.as_str().contains("XX") || by.as_str().contains(['z', 'Z']) && !by.as_str().contains("'Z'");
            if says_its_zone && by.as_str().contains("ss") {
                prop_assert!(at - read < TimeDelta::seconds(1), "{} is far from {}", read, at);
                prop_assert_eq!(by.parse(&written, &Zone::parse("Asia/Tokyo").expect("a zone"))?, read);
            }
        }

        #[test]
        fn no_text_makes_reading_panic(by in prop::sample::select(PATTERNS), text in "\\PC{0,40}|[-0-9T:.+Z ]{0,40}") {
            let _ = pattern(by).parse(&text, &zone("PST"));
            let _ = pattern(by).parse_json(&text, &zone("PST"));
        }

        #[test]
        fn no_text_makes_compiling_panic(text in "\\PC{0,40}|[yMdHhkKmsSaEzZXDu'.,: ]{0,40}") {
            if let Ok(by) = DatePattern::compile(&text) {
                let written = by.format(instant("2026-06-18T20:15:31Z"), &Zone::GMT);
                let _ = by.parse(&written, &Zone::GMT);
            }
        }
    }
}
