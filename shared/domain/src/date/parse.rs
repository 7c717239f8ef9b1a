//! Parses texts by the tokens of a date pattern.

use chrono::{DateTime, Days, FixedOffset, NaiveDate, TimeDelta, Utc};

use super::pattern::{Field, Token};
use super::{MONTHS, WEEKDAYS, YEARS};
use crate::zone::{Zone, abbreviated, leading_offset};

/// Two digits below this are 20xx, the others 19xx (POSIX has the same rule, a year earlier).
const FIRST_YEAR_OF_1900S: i32 = 70;

/// The reason why parsing stopped.
pub(super) enum ParseFailure {
    /// The text departs from the pattern at this byte.
    AtByte(usize),
    /// The text follows the pattern, and there is no such date.
    NoSuchDate,
}

/// Parses a date. `default_zone` holds where the text has no offset.
pub(super) fn parse(
    tokens: &[Token],
    may_end_in_offset: bool,
    text: &str,
    default_zone: &Zone,
) -> Result<DateTime<Utc>, ParseFailure> {
    let mut parser = DateParser::new(text);
    for (index, token) in tokens.iter().enumerate() {
        parser.token(token, index + 1 == tokens.len())?;
    }
    parser.finish(may_end_in_offset, default_zone)
}

/// Parses a text token by token and collects the parts of the date.
struct DateParser<'a> {
    text: &'a str,
    at: usize,
    year: i32,
    month: u32,
    day: u32,
    day_of_year: Option<u32>,
    hour: u32,
    is_12_hour: bool,
    afternoon: Option<bool>,
    minute: u32,
    second: u32,
    nanos: u32,
    explicit_zone: Option<ExplicitZone>,
}

/// The zone or offset that the text itself has.
enum ExplicitZone {
    Offset(FixedOffset),
    Named(Zone),
}

impl<'a> DateParser<'a> {
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
            is_12_hour: false,
            afternoon: None,
            minute: 0,
            second: 0,
            nanos: 0,
            explicit_zone: None,
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn digits(&self) -> usize {
        self.rest().bytes().take_while(u8::is_ascii_digit).count()
    }

    fn token(&mut self, token: &Token, last: bool) -> Result<(), ParseFailure> {
        match token {
            Token::Literal(literal) if self.rest().starts_with(&**literal) => self.at += literal.len(),
            // The pattern's closing 'Z' and an offset in numbers: the vendor was more exact than the pattern.
            Token::Literal(literal) if last && &**literal == "Z" && self.rest().starts_with(['+', '-']) => {
                self.zone()?;
            }
            Token::Literal(_) => return Err(ParseFailure::AtByte(self.at)),
            Token::Number { field, width, fixed_width } => self.number(*field, *width, *fixed_width)?,
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
                    _ => return Err(ParseFailure::AtByte(self.at)),
                });
                self.at += 2;
            }
            Token::ZoneName | Token::Offset(_) => self.zone()?,
        }
        Ok(())
    }

    fn number(&mut self, field: Field, width: usize, fixed_width: bool) -> Result<(), ParseFailure> {
        let found = self.digits();
        let digits = if fixed_width { width } else { found };
        if digits == 0 || digits > 9 || found < digits {
            return Err(ParseFailure::AtByte(self.at));
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
            Field::Hour1To24 => self.hour = number % 24,
            Field::Hour1To12 | Field::Hour0To11 => {
                self.hour = number;
                self.is_12_hour = true;
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
    fn name(&mut self, names: &[&str]) -> Result<u32, ParseFailure> {
        let letters = self.rest().bytes().take_while(u8::is_ascii_alphabetic).count();
        let word = &self.rest()[..letters];
        let place = names
            .iter()
            .position(|name| word.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(&name[..3]))
            .ok_or(ParseFailure::AtByte(self.at))?;
        self.at += letters;
        // A list of at most twelve.
        Ok(place as u32)
    }

    /// An offset in numbers, an abbreviation, a zone's name, or `GMT` and an offset.
    fn zone(&mut self) -> Result<(), ParseFailure> {
        let rest = self.rest();
        let miss = ParseFailure::AtByte(self.at);
        if let Some((offset, length)) = leading_offset(rest) {
            self.explicit_zone = Some(ExplicitZone::Offset(offset));
            self.at += length;
            return Ok(());
        }
        let letters = rest.bytes().take_while(|b| b.is_ascii_alphabetic() || matches!(b, b'/' | b'_')).count();
        let word = &rest[..letters];
        let (said, length) = if word.contains('/') {
            let more = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'-' | b'+');
            let length = rest.bytes().take_while(more).count();
            (ExplicitZone::Named(Zone::find(&rest[..length]).ok_or(miss)?), length)
        } else {
            let base = abbreviated(word).ok_or(miss)?;
            match leading_offset(&rest[letters..]) {
                Some((offset, length)) if base.local_minus_utc() == 0 => {
                    (ExplicitZone::Offset(offset), letters + length)
                }
                _ => (ExplicitZone::Offset(base), letters),
            }
        };
        self.explicit_zone = Some(said);
        self.at += length;
        Ok(())
    }

    fn finish(mut self, may_end_in_offset: bool, default_zone: &Zone) -> Result<DateTime<Utc>, ParseFailure> {
        let end = self.at;
        if may_end_in_offset && self.explicit_zone.is_none() && end < self.text.len() {
            self.at = self.text.len() - self.rest().trim_start().len();
            self.zone().map_err(|_| ParseFailure::AtByte(end))?;
        }
        if self.at < self.text.len() {
            return Err(ParseFailure::AtByte(self.at));
        }
        if !YEARS.contains(&self.year) {
            return Err(ParseFailure::NoSuchDate);
        }
        let date = match self.day_of_year {
            Some(ordinal) => NaiveDate::from_yo_opt(self.year, ordinal),
            None => NaiveDate::from_ymd_opt(self.year, self.month, self.day),
        };
        let hour = match (self.is_12_hour, self.hour, self.afternoon) {
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
            .ok_or(ParseFailure::NoSuchDate)?
            + TimeDelta::seconds(leap);
        Ok(match self.explicit_zone {
            None => default_zone.instant(local),
            Some(ExplicitZone::Offset(offset)) => (local - offset).and_utc(),
            Some(ExplicitZone::Named(zone)) => zone.instant(local),
        })
    }
}
