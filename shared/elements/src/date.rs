//! Reads timestamps in the formats of an element, leniently: vendors vary the number of fraction digits.

use chrono::{DateTime, NaiveDateTime, Utc};
use domain::zone::Zone;

use crate::definition::DateStyle;
use crate::pointer::as_text;

impl DateStyle {
    fn read(&self, text: &str, zone: &Zone) -> Option<DateTime<Utc>> {
        match self {
            Self::Rfc3339 => DateTime::parse_from_rfc3339(text).ok().map(|date| date.to_utc()),
            Self::Naive => ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
                .iter()
                .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
                .map(|local| zone.instant(local)),
            Self::Epoch => DateTime::from_timestamp(text.parse().ok()?, 0),
            Self::EpochMs => DateTime::from_timestamp_millis(text.parse().ok()?),
            Self::Pattern(pattern) => pattern.parse_date(text, zone).ok(),
        }
    }
}

/// The result of reading a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// The instant.
    At(DateTime<Utc>),
    /// The vendor has none, or a text that means none.
    Absent,
    /// The value is no timestamp.
    Unreadable,
}

/// Reads timestamps; it tries the styles in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct StampReader {
    pub styles: Vec<DateStyle>,
    pub invalid: Vec<String>,
}

impl StampReader {
    /// Reads raw JSON: a string or a number.
    pub(crate) fn read(&self, raw: Option<&str>, zone: &Zone) -> Stamp {
        let Some(raw) = raw else { return Stamp::Absent };
        let text = as_text(raw);
        if text.is_empty() || self.invalid.iter().any(|invalid| *invalid == text) {
            return Stamp::Absent;
        }
        self.styles.iter().find_map(|style| style.read(&text, zone)).map_or(Stamp::Unreadable, Stamp::At)
    }

    /// Reads the text of a condition.
    pub(crate) fn read_text(&self, text: &str, zone: &Zone) -> Option<DateTime<Utc>> {
        let usual = [DateStyle::Rfc3339, DateStyle::Naive];
        self.styles.iter().chain(&usual).find_map(|style| style.read(text, zone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_read_whatever_their_fraction() {
        let styles =
            ["rfc3339", "naive", "epoch_ms"].map(|style| DateStyle::try_from(style.to_owned()).expect("style"));
        let reader = StampReader { styles: styles.to_vec(), invalid: vec!["0001-01-01T00:00:00".to_owned()] };
        let pacific = Zone::parse("PST").expect("a zone");
        let read = |raw: &str| match reader.read(Some(raw), &pacific) {
            Stamp::At(instant) => instant.to_rfc3339(),
            other => format!("{other:?}"),
        };
        let table = [
            (r#""2026-08-01T13:00:04Z""#, "2026-08-01T13:00:04+00:00"),
            (r#""2026-08-01T13:00:04.335Z""#, "2026-08-01T13:00:04.335+00:00"),
            (r#""2026-08-01T09:00:00-04:00""#, "2026-08-01T13:00:00+00:00"),
            (r#""2026-08-01T09:01:07.204511""#, "2026-08-01T16:01:07.204511+00:00"),
            (r#""2026-06-18 20:15:31""#, "2026-06-19T03:15:31+00:00"),
            ("1785578405000", "2026-08-01T10:00:05+00:00"),
            (r#""0001-01-01T00:00:00""#, "Absent"),
            (r#""""#, "Absent"),
            (r#""soon""#, "Unreadable"),
        ];
        for (raw, expected) in table {
            assert_eq!(read(raw), expected, "{raw}");
        }
        assert_eq!(reader.read(None, &pacific), Stamp::Absent);
    }
}
