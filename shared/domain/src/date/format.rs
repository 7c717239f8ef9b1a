//! Writes instants by the tokens of a date pattern.

use std::fmt::{self, Write as _};

use chrono::{DateTime, Datelike, FixedOffset, Timelike, Utc};

use super::pattern::{Field, OffsetStyle, Token};
use super::{MONTHS, WEEKDAYS};
use crate::zone::Zone;

/// Writes an instant as the clock of `zone` shows it. What the pattern does not show is cut off, never rounded up.
pub(super) fn format(tokens: &[Token], instant: DateTime<Utc>, zone: &Zone) -> String {
    let mut out = String::with_capacity(tokens.len() * 4);
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
                    Field::Hour1To24 => (local.hour() + 23) % 24 + 1,
                    Field::Hour1To12 => local.hour12().1,
                    Field::Hour0To11 => local.hour() % 12,
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
