//! Dates as numbers counted from 1970.

use chrono::{DateTime, Datelike, Utc};

use super::YEARS;
use super::parse::ParseFailure;

/// Parses a number of units since 1970. `unit` is the length of a unit in nanoseconds.
pub(super) fn parse(text: &str, unit: i128) -> Result<DateTime<Utc>, ParseFailure> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let unsigned = whole.strip_prefix('-').unwrap_or(whole);
    let nanos = if !unsigned.is_empty() && digits(unsigned) && digits(fraction) && fraction.len() <= 18 {
        let count = whole.parse::<i128>().map_err(|_| ParseFailure::NoSuchDate)?;
        let part = fraction.parse::<i128>().unwrap_or(0) * unit / 10_i128.pow(fraction.len() as u32);
        count.checked_mul(unit).map(|nanos| if whole.starts_with('-') { nanos - part } else { nanos + part })
    } else {
        // A number that went through a float on the vendor's side: 1.534778974e12.
        let number = text.parse::<f64>().ok().filter(|n| n.is_finite() && text.contains(['e', 'E']));
        let number = number.ok_or_else(|| ParseFailure::AtByte(text.bytes().take_while(u8::is_ascii_digit).count()))?;
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
        .ok_or(ParseFailure::NoSuchDate)
}

/// Writes the number of whole units since 1970.
pub(super) fn format(instant: DateTime<Utc>, unit: i128) -> String {
    nanos_since_epoch(instant).div_euclid(unit).to_string()
}

fn nanos_since_epoch(instant: DateTime<Utc>) -> i128 {
    i128::from(instant.timestamp()) * 1_000_000_000 + i128::from(instant.timestamp_subsec_nanos())
}
