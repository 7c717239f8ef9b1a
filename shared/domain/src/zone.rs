//! Time zones as vendors and Java name them: an IANA zone or a fixed offset, decided once, when the name is parsed.
//!
//! Java's three-letter ids are accepted. Java gives `EST`, `MST` and `HST` a fixed offset and `PST` and `CST` daylight
//! saving; here all of the American ones keep daylight saving, because vendors who write `MST` mean Denver's wall clock.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Duration, FixedOffset, LocalResult, NaiveDateTime, Offset, TimeZone, Utc};
use chrono_tz::{OffsetName, TZ_VARIANTS, Tz};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::problem::{nearest, shorten};

/// `java.time.ZoneId.SHORT_IDS`, with the difference that the module describes.
const SHORT_IDS: &[(&str, Tz)] = &[
    ("ACT", Tz::Australia__Darwin),
    ("AET", Tz::Australia__Sydney),
    ("AGT", Tz::America__Argentina__Buenos_Aires),
    ("ART", Tz::Africa__Cairo),
    ("AST", Tz::America__Anchorage),
    ("BET", Tz::America__Sao_Paulo),
    ("BST", Tz::Asia__Dhaka),
    ("CAT", Tz::Africa__Harare),
    ("CNT", Tz::America__St_Johns),
    ("CST", Tz::America__Chicago),
    ("CTT", Tz::Asia__Shanghai),
    ("EAT", Tz::Africa__Addis_Ababa),
    ("ECT", Tz::Europe__Paris),
    ("EST", Tz::America__New_York),
    ("HST", Tz::Pacific__Honolulu),
    ("IET", Tz::America__Indiana__Indianapolis),
    ("IST", Tz::Asia__Kolkata),
    ("JST", Tz::Asia__Tokyo),
    ("MIT", Tz::Pacific__Apia),
    ("MST", Tz::America__Denver),
    ("NET", Tz::Asia__Yerevan),
    ("NST", Tz::Pacific__Auckland),
    ("PLT", Tz::Asia__Karachi),
    ("PNT", Tz::America__Phoenix),
    ("PRT", Tz::America__Puerto_Rico),
    ("PST", Tz::America__Los_Angeles),
    ("SST", Tz::Pacific__Guadalcanal),
    ("VST", Tz::Asia__Ho_Chi_Minh),
    ("GMT", Tz::UTC),
    ("UTC", Tz::UTC),
    ("UT", Tz::UTC),
    ("Z", Tz::UTC),
];

/// Printed abbreviations with their offsets, in hours and minutes east. Unlike a zone's name, an abbreviation says whether
/// it is summer.
const ABBREVIATIONS: &[(&str, i32, i32)] = &[
    ("GMT", 0, 0),
    ("UTC", 0, 0),
    ("UT", 0, 0),
    ("Z", 0, 0),
    ("EST", -5, 0),
    ("EDT", -4, 0),
    ("CST", -6, 0),
    ("CDT", -5, 0),
    ("MST", -7, 0),
    ("MDT", -6, 0),
    ("PST", -8, 0),
    ("PDT", -7, 0),
    ("AKST", -9, 0),
    ("AKDT", -8, 0),
    ("HST", -10, 0),
    ("WET", 0, 0),
    ("WEST", 1, 0),
    ("BST", 1, 0),
    ("CET", 1, 0),
    ("CEST", 2, 0),
    ("EET", 2, 0),
    ("EEST", 3, 0),
    ("MSK", 3, 0),
    ("IST", 5, 30),
    ("JST", 9, 0),
    ("AEST", 10, 0),
    ("AEDT", 11, 0),
    ("NZST", 12, 0),
    ("NZDT", 13, 0),
];

/// A time zone, with the name under which it was asked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone {
    text: Cow<'static, str>,
    rule: Rule,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    Named(Tz),
    Fixed(FixedOffset),
}

/// The text names no zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no time zone is named \"{read}\"; {}a zone is America/Denver, PST, GMT, -8:00, +0530 or GMT+2",
    .nearest.as_ref().map(|name| format!("the nearest is {name}; ")).unwrap_or_default()
)]
pub struct UnknownZone {
    /// The text that was read, shortened.
    pub read: String,
    /// The most similar valid name.
    pub nearest: Option<String>,
}

impl Zone {
    /// The zone where none is given.
    pub const GMT: Zone = Zone { text: Cow::Borrowed("GMT"), rule: Rule::Named(Tz::UTC) };

    /// Reads an IANA name, a Java short id or an offset, without regard to case.
    ///
    /// # Errors
    /// [`UnknownZone`], with the most similar name that is known.
    pub fn parse(text: &str) -> Result<Self, UnknownZone> {
        let names = || TZ_VARIANTS.iter().map(|tz| tz.name()).chain(SHORT_IDS.iter().map(|(id, _)| *id));
        Self::find(text).ok_or_else(|| UnknownZone {
            read: shorten(text),
            nearest: nearest(text.trim(), names()).map(str::to_owned),
        })
    }

    /// The same without the search for a similar name, which is slow.
    pub(crate) fn find(text: &str) -> Option<Self> {
        let name = text.trim();
        let short = SHORT_IDS.iter().find(|(id, _)| id.eq_ignore_ascii_case(name)).map(|(_, tz)| *tz);
        let named = || TZ_VARIANTS.iter().find(|tz| tz.name().eq_ignore_ascii_case(name)).copied();
        let rule = match short.or_else(named) {
            Some(tz) => Rule::Named(tz),
            None => Rule::Fixed(whole_offset(name)?),
        };
        Some(Self { text: Cow::Owned(name.to_owned()), rule })
    }

    /// The name under which it was asked for.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The offset of local time from UTC at an instant.
    pub fn offset_at(&self, instant: DateTime<Utc>) -> FixedOffset {
        match self.rule {
            Rule::Named(tz) => tz.offset_from_utc_datetime(&instant.naive_utc()).fix(),
            Rule::Fixed(offset) => offset,
        }
    }

    /// The local time at an instant.
    pub fn local(&self, instant: DateTime<Utc>) -> NaiveDateTime {
        instant.naive_utc() + self.offset_at(instant)
    }

    /// The instant at which the clock on the wall shows `local`. When it shows it twice in autumn, the earlier one, so
    /// that a lower bound never skips anything; when spring skips it, as much later as the clock was put forward.
    pub fn instant(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let utc = match self.rule {
            Rule::Fixed(offset) => local.checked_sub_offset(offset),
            Rule::Named(tz) => {
                let offset = match tz.offset_from_local_datetime(&local) {
                    LocalResult::Single(offset) => offset,
                    LocalResult::Ambiguous(earlier, _) => earlier,
                    // The offset of the day before is the one that held until the gap.
                    LocalResult::None => tz.offset_from_utc_datetime(&(local - Duration::hours(26))),
                };
                local.checked_sub_offset(offset.fix())
            }
        };
        utc.unwrap_or(local).and_utc()
    }

    /// The abbreviation of the zone at an instant: `PDT` where the abbreviation can be read again, or `GMT-07:00`.
    pub fn abbreviation_at(&self, instant: DateTime<Utc>) -> String {
        let offset = self.offset_at(instant);
        let known = match self.rule {
            Rule::Named(Tz::UTC) => Some(if self.text.eq_ignore_ascii_case("UTC") { "UTC" } else { "GMT" }),
            Rule::Named(tz) => tz.offset_from_utc_datetime(&instant.naive_utc()).abbreviation().and_then(|name| {
                let (known, _, _) = ABBREVIATIONS.iter().find(|(known, _, _)| *known == name)?;
                (abbreviated(name) == Some(offset)).then_some(*known)
            }),
            Rule::Fixed(_) => None,
        };
        known.map_or_else(|| format!("GMT{offset}"), str::to_owned)
    }
}

/// The fixed offset that a printed abbreviation stands for.
pub(crate) fn abbreviated(name: &str) -> Option<FixedOffset> {
    let (_, hours, minutes) = ABBREVIATIONS.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(name))?;
    FixedOffset::east_opt(hours * 3600 + minutes * 60)
}

/// Reads `±h`, `±hh`, `±h:mm`, `±hmm` or `±hhmm`, as a whole or after `GMT` or `UTC`.
fn whole_offset(text: &str) -> Option<FixedOffset> {
    let bare = match text.get(..3) {
        Some(prefix) if prefix.eq_ignore_ascii_case("GMT") || prefix.eq_ignore_ascii_case("UTC") => &text[3..],
        _ => text,
    };
    match leading_offset(bare)? {
        (offset, length) if length == bare.len() => Some(offset),
        _ => None,
    }
}

/// Reads a signed offset at the start of a text. Answers the offset and the number of bytes that it took.
pub(crate) fn leading_offset(text: &str) -> Option<(FixedOffset, usize)> {
    let bytes = text.as_bytes();
    let sign = match bytes.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits_from = |start: usize| bytes[start..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
    let number = |range: std::ops::Range<usize>| bytes[range].iter().fold(0, |sum, b| sum * 10 + i32::from(b - b'0'));
    let head = digits_from(1);
    let (hours, minutes, end) = match head {
        1 | 2 if bytes.get(1 + head) == Some(&b':') && digits_from(2 + head) >= 2 => {
            (number(1..1 + head), number(2 + head..4 + head), 4 + head)
        }
        1 | 2 => (number(1..1 + head), 0, 1 + head),
        3 | 4 => (number(1..head - 1), number(head - 1..head + 1), 1 + head),
        _ => return None,
    };
    // No place on Earth is further than 14 hours from Greenwich; Java allows 18.
    if hours > 18 || minutes > 59 {
        return None;
    }
    Some((FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60))?, end))
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.text)
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;
    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        Self::parse(text)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Cow::<str>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(zone: &str, local: &str, utc: &str) {
        let local = local.parse::<NaiveDateTime>().expect("a literal");
        assert_eq!(Zone::parse(zone).map(|zone| zone.instant(local).to_rfc3339()).as_deref(), Ok(utc), "{zone}");
    }

    #[test]
    fn names_ids_and_offsets_lead_to_instants() {
        check("PST", "2026-07-01T00:00:00", "2026-07-01T07:00:00+00:00");
        check("pst", "2026-01-01T00:00:00", "2026-01-01T08:00:00+00:00");
        check("MST", "2026-07-01T00:00:00", "2026-07-01T06:00:00+00:00");
        check("EST", "2026-07-01T00:00:00", "2026-07-01T04:00:00+00:00");
        check("america/denver", "2026-07-01T00:00:00", "2026-07-01T06:00:00+00:00");
        check("Asia/Kolkata", "2026-07-01T00:00:00", "2026-06-30T18:30:00+00:00");
        for utc in ["GMT", "UTC", "Z", "+0", "GMT+0", "Etc/UTC", "utc"] {
            check(utc, "2026-07-01T00:00:00", "2026-07-01T00:00:00+00:00");
        }
        check("-8:00", "2026-07-01T00:00:00", "2026-07-01T08:00:00+00:00");
        check("+6:00", "2026-07-01T06:00:00", "2026-07-01T00:00:00+00:00");
        check("+0530", "2026-07-01T05:30:00", "2026-07-01T00:00:00+00:00");
        check("+530", "2026-07-01T05:30:00", "2026-07-01T00:00:00+00:00");
        check("GMT+2", "2026-07-01T02:00:00", "2026-07-01T00:00:00+00:00");
    }

    #[test]
    fn autumn_takes_the_earlier_instant_and_spring_moves_forward() {
        check("PST", "2026-11-01T01:30:00", "2026-11-01T08:30:00+00:00");
        check("PST", "2026-03-08T02:30:00", "2026-03-08T10:30:00+00:00");
        check("Pacific/Apia", "2011-12-30T12:00:00", "2011-12-30T22:00:00+00:00");
        check("Australia/Lord_Howe", "2026-10-04T02:15:00", "2026-10-03T15:45:00+00:00");
    }

    #[test]
    fn an_unknown_zone_names_the_nearest() {
        for (wrong, near) in [("America/Denvr", "America/Denver"), ("Europe/Berln", "Europe/Berlin")] {
            let problem = Zone::parse(wrong).expect_err("not a zone");
            assert_eq!(problem.nearest.as_deref(), Some(near));
            assert!(problem.to_string().contains(near));
        }
        for wrong in ["", "+25:00", "+1:60", "GMT+", "-8:0", "+08:000", "yyyy"] {
            assert!(Zone::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// Each abbreviation with its hours and minutes, all of the list.
    #[test]
    fn an_abbreviation_stands_for_its_offset() {
        let known = "GMT+0 UTC+0 UT+0 Z+0 EST-5 EDT-4 CST-6 CDT-5 MST-7 MDT-6 PST-8 PDT-7 AKST-9 AKDT-8 HST-10 WET+0 WEST+1 \
                     BST+1 CET+1 CEST+2 EET+2 EEST+3 MSK+3 IST+5:30 JST+9 AEST+10 AEDT+11 NZST+12 NZDT+13";
        assert_eq!(known.split(' ').count(), ABBREVIATIONS.len());
        for text in known.split(' ') {
            let (name, offset) = text.split_at(text.find(['+', '-']).expect("an offset"));
            assert_eq!(abbreviated(name), whole_offset(offset), "{text}");
            assert_eq!(abbreviated(&name.to_lowercase()), whole_offset(offset), "{text}");
        }
        assert_eq!(abbreviated("EST").map(|east| east.local_minus_utc()), Some(-5 * 3600));
        assert_eq!(abbreviated("XYZ"), None);
    }

    #[test]
    fn what_is_printed_for_a_zone_can_be_read_again() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a literal");
        for (zone, instant, printed) in [
            ("PST", "2026-07-01T00:00:00Z", "PDT"),
            ("PST", "2026-01-01T00:00:00Z", "PST"),
            ("Europe/Berlin", "2026-07-01T00:00:00Z", "CEST"),
            ("utc", "2026-07-01T00:00:00Z", "UTC"),
            ("GMT", "2026-07-01T00:00:00Z", "GMT"),
            // Dublin's IST is not Kolkata's, and Shanghai's CST not Chicago's.
            ("Europe/Dublin", "2026-07-01T00:00:00Z", "GMT+01:00"),
            ("Asia/Shanghai", "2026-07-01T00:00:00Z", "GMT+08:00"),
            ("Asia/Kolkata", "2026-07-01T00:00:00Z", "IST"),
            ("-8:00", "2026-07-01T00:00:00Z", "GMT-08:00"),
        ] {
            assert_eq!(Zone::parse(zone).expect("a zone").abbreviation_at(at(instant)), printed, "{zone}");
        }
    }

    #[test]
    fn an_offset_is_read_as_far_as_it_goes() {
        let east = |text| leading_offset(text).map(|(offset, length)| (offset.local_minus_utc(), length));
        for (text, expected) in [
            ("+8", Some((8 * 3600, 2))),
            ("-08", Some((-8 * 3600, 3))),
            ("+8:30 and more", Some((8 * 3600 + 30 * 60, 5))),
            ("+08:305", Some((8 * 3600 + 30 * 60, 6))),
            ("+08:3", Some((8 * 3600, 3))),
            ("-123", Some((-(3600 + 23 * 60), 4))),
            ("+1234", Some((12 * 3600 + 34 * 60, 5))),
            ("+12345", Some((12 * 3600 + 34 * 60, 5))),
            ("+18:59", Some((18 * 3600 + 59 * 60, 6))),
            ("+19", None),
            ("+1860", None),
            ("8", None),
            ("", None),
            ("+", None),
        ] {
            assert_eq!(east(text), expected, "{text}");
        }
    }

    #[test]
    fn a_zone_is_stored_as_its_text() {
        let zone = Zone::parse("PST").expect("a zone");
        let text = serde_json::to_string(&zone).expect("text");
        assert_eq!(text, "\"PST\"");
        assert_eq!(serde_json::from_str::<Zone>(&text).expect("a zone"), zone);
    }
}
