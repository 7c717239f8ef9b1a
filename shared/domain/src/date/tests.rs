//! Tests of date patterns: what vendors write, what is written for them, and problems.

use proptest::prelude::*;

use chrono::TimeDelta;

use super::*;

/// The documented patterns, those counted on Cloud Elements' pages, and the remaining letters.
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
    DatePattern::parse(text).expect("a pattern")
}

fn zone(text: &str) -> Zone {
    Zone::parse(text).expect("a zone")
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

#[track_caller]
fn check(text: &str, by: &str, in_zone: &str, expected: &str) {
    let read = pattern(by).parse_date(text, &zone(in_zone));
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
fn nonsense_is_no_date() {
    for text in ["null", "true", "{}", "[]", "\"\"", "\"", "", "1e999", "99999999999999999999999999999999999999999"] {
        assert!(pattern("milliseconds").parse_date(text, &Zone::GMT).is_err(), "{text}");
        assert!(pattern("yyyy-MM-dd").parse_date(text, &Zone::GMT).is_err(), "{text}");
    }
    check("20180820", "yyyyMMdd", "GMT", "2018-08-20T00:00:00Z");
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
        pattern(by).parse_date(text, &Zone::GMT).map(|at| at.to_string()).expect_err("a problem").to_string()
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

    let refused = |text: &str| DatePattern::parse(text).expect_err("not a pattern").to_string();
    assert!(refused("yyyy-MM-ddTHH:mm").contains("\"T\" at character 11"));
    assert!(refused("YYYY-MM-dd").contains("the year is a small y"));
    assert!(refused("XXXX").contains("at most 3"));
    assert!(refused(" ").contains("milliseconds"));
    assert!(refused(&"-".repeat(101)).contains("100"));
    assert!(DatePattern::parse(&"-".repeat(100)).is_ok());
}

#[test]
fn a_stray_quote_is_a_warning() {
    let stray = pattern("yyyy-MM-dd'T'HH:mm:ssXXX'");
    assert_eq!(stray.warnings().len(), 1);
    assert!(stray.parse_date("2026-06-18T20:15:31Z", &Zone::GMT).is_ok());
    assert_eq!(pattern("yyyy-MM-dd'T").warnings().len(), 1);
    assert_eq!(pattern("hh:mm").warnings().len(), 1);
    assert!(pattern("yyyy-MM-dd'T'HH:mm:ss'Z'").warnings().is_empty());
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
        let read = by.parse_date(&written, &in_zone)?;
        prop_assert_eq!(&by.format(read, &in_zone), &written, "{:?} read back as {}", by, read);
        // Reading never goes past what was written, so a lower bound that is written down skips nothing.
        prop_assert!(read <= at, "{} > {}", read, at);
        let says_its_zone = by.as_str().contains("XX") || by.as_str().contains(['z', 'Z']) && !by.as_str().contains("'Z'");
        if says_its_zone && by.as_str().contains("ss") {
            prop_assert!(at - read < TimeDelta::seconds(1), "{} is far from {}", read, at);
            prop_assert_eq!(by.parse_date(&written, &Zone::parse("Asia/Tokyo").expect("a zone"))?, read);
        }
    }

    #[test]
    fn no_text_makes_reading_panic(by in prop::sample::select(PATTERNS), text in "\\PC{0,40}|[-0-9T:.+Z ]{0,40}") {
        let _ = pattern(by).parse_date(&text, &zone("PST"));
    }

    #[test]
    fn no_pattern_makes_parsing_it_panic(text in "\\PC{0,40}|[yMdHhkKmsSaEzZXDu'.,: ]{0,40}") {
        if let Ok(by) = DatePattern::parse(&text) {
            let written = by.format(instant("2026-06-18T20:15:31Z"), &Zone::GMT);
            let _ = by.parse_date(&written, &Zone::GMT);
        }
    }
}
