//! Tests of poll URLs and their macros.

use chrono::DateTime;
use proptest::prelude::*;

use super::*;

fn times(since: Option<&str>) -> MacroTimes {
    MacroTimes {
        since: since.map(|since| since.parse().expect("an instant")),
        now: "2026-08-01T12:00:00Z".parse().expect("an instant"),
    }
}

fn parsed(url: &str) -> (PollUrl, Vec<Warning>) {
    PollUrl::parse(url).unwrap_or_else(|problem| panic!("{url}: {problem}"))
}

/// Checks what a URL becomes with a lower bound of 2026-08-01T10:00:05.307456Z, and without one.
#[track_caller]
fn check(url: &str, with_bound: &str, without: &str) {
    let (url, warnings) = parsed(url);
    assert_eq!(warnings, [], "{url}");
    assert_eq!(url.expand(&times(Some("2026-08-01T10:00:05.307456Z"))).to_string(), with_bound);
    assert_eq!(url.expand(&times(None)).to_string(), without);
}

#[track_caller]
fn check_refused(url: &str, problem: &str) {
    let found = PollUrl::parse(url).expect_err("no poll URL").to_string();
    assert!(found.contains(problem), "{found}");
}

#[track_caller]
fn check_warned(url: &str, with_bound: &str, warning: &str) {
    let (url, warnings) = parsed(url);
    assert_eq!(url.expand(&times(Some("2026-08-01T10:00:05.307456Z"))).to_string(), with_bound);
    assert_eq!(warnings.iter().map(|warning| warning.message.as_str()).collect::<Vec<_>>(), [warning]);
}

#[test]
fn the_urls_of_the_documents_expand() {
    check(
        "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'",
        "/timesheets?where=begin_updated_at = '2026-08-01T10:00:05Z'",
        "/timesheets",
    );
    check(
        "/hubs/employee/employees?where=updated_date__gte='${DateTimeZone:PST:yyyy-MM-dd'T'HH:mm:ss.SSS}'",
        "/employees?where=updated_date__gte = '2026-08-01T03:00:05.307'",
        "/employees",
    );
    check(
        "/hubs/crm/contacts?where=LastModifyDate>'${date:yyyy-MM-dd'T'HH:mm:ssXXX}'",
        "/contacts?where=LastModifyDate > '2026-08-01T10:00:05Z'",
        "/contacts",
    );
    check(
        "/hubs/general/calendars/{calendarId}/changed-events",
        "/calendars/{calendarId}/changed-events",
        "/calendars/{calendarId}/changed-events",
    );
    check(
        "/hubs/crm/contacts?where=lastmodifieddate='${date}'",
        "/contacts?where=lastmodifieddate = '1785578405307'",
        "/contacts",
    );
    check(
        "/hubs/crm/accounts?where=LastModifiedDate>=${date}",
        "/accounts?where=LastModifiedDate >= 1785578405307",
        "/accounts",
    );
    check(
        "/hubs/marketing/deals?where=mdate>=2017-02-28T16:11:29-06:00",
        "/deals?where=mdate >= 2017-02-28T16:11:29-06:00",
        "/deals?where=mdate >= 2017-02-28T16:11:29-06:00",
    );
}

#[test]
fn every_macro_expands() {
    for (text, expected) in [
        ("${dateTimeZone:-8:00:yyyy-MM-dd HH:mm}", "2026-08-01 02:00"),
        ("${dateTimeZone:+6:00:HH:mm:ss}", "16:00:05"),
        ("${dateTimeZone:GMT+05:30:HH:mm:ss}", "15:30:05"),
        ("${dateTimeZone:America/Denver:EEE, dd MMM yyyy HH:mm:ss Z}", "Sat, 01 Aug 2026 04:00:05 -0600"),
        ("${nowTimeZone:GMT:MM/dd/yyyy HH:mm:ss}", "08/01/2026 12:00:00"),
        ("${epoch}", "1785578405307"),
        ("${EPOCH:ms}", "1785578405307"),
        ("${epoch:s}", "1785578405"),
        ("${epoch:us}", "1785578405307456"),
        ("${milliseconds}", "1785578405307"),
        ("${date:milliseconds}", "1785578405307"),
        ("${gmtDate}", "1785578405307"),
        ("a${epoch:s}b${epoch:s}", "a1785578405b1785578405"),
    ] {
        let (url, warnings) = parsed(&format!("/hubs/crm/contacts?since={text}&x=1"));
        let query = url.expand(&times(Some("2026-08-01T10:00:05.307456Z"))).query;
        assert_eq!((query[0].1.as_str(), warnings.len(), query.len()), (expected, 0, 2), "{text}");
    }
}

#[test]
fn without_a_lower_bound_only_what_asks_for_it_is_left_out() {
    let bound = "/r?where=a = 1 AND u > 1785578405 AND u < 1785585600&q=x";
    check(
        "/r?where=a=1 AND u>${epoch:s} AND u<1785585600&since=${epoch:s}&q=x",
        &bound.replace("&q", "&since=1785578405&q"),
        "/r?where=a = 1 AND u < 1785585600&q=x",
    );
    check("/r?where=a=1 AND (b=2 OR u>${epoch:s})", "/r?where=a = 1 AND (b = 2 OR u > 1785578405)", "/r?where=a = 1");
    check("/r?where=u>'${nowTimeZone:GMT:yyyy}'", "/r?where=u > '2026'", "/r?where=u > '2026'");
    assert!(parsed("/r?where=a=1 OR b=${epoch}").0.uses_since());
    assert!(parsed("/r?since=${epoch}").0.uses_since());
    assert!(!parsed("/r?where=a=1 AND u<'${nowTimeZone:GMT:yyyy}'").0.uses_since());
}

#[test]
fn hub_encoding_and_splitting() {
    check("/hubs/crap/accounts", "/accounts", "/accounts");
    check("/accounts/", "/accounts", "/accounts");
    check("/elements/api-v2/hubs/crm/accounts?a=b", "/accounts?a=b", "/accounts?a=b");
    check("/r?where=name='A & B'&x=%26", "/r?where=name = 'A & B'&x=&", "/r?where=name = 'A & B'&x=&");
    check("/r?where=a%3E%275%27&b", "/r?where=a > '5'&b=", "/r?where=a > '5'&b=");
    check(
        "/r?where=a LIKE '%20%'&&pageSize=5",
        "/r?where=a LIKE '%20%'&pageSize=5",
        "/r?where=a LIKE '%20%'&pageSize=5",
    );
    check("/r?where=", "/r", "/r");
    assert_eq!(parsed("/a/{b}/c-{d}/{b}").0.placeholders(), ["b", "d"]);
    assert_eq!(
        parsed("/hubs/general/calendars/{calendarId}/changed-events").0.path(),
        "calendars/{calendarId}/changed-events"
    );
}

#[test]
fn what_separates_elsewhere_is_text_in_a_macro_and_quotes_count_in_where_alone() {
    let query = |url: &str| parsed(url).0.expand(&times(Some("2026-08-01T10:00:05Z"))).query;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(query("/r?a=${date:yyyy'&'MM}&b=1"), [pair("a", "2026&08"), pair("b", "1")]);
    assert_eq!(query("/r?name=it's&x=1"), [pair("name", "it's"), pair("x", "1")]);
    assert_eq!(query("/r?a='x&y'&b=1").len(), 3);
    assert_eq!(query("/r?a=${date:yyyy'?'MM}?&b=1"), [pair("a", "2026?08?"), pair("b", "1")]);
}

#[test]
fn a_macro_that_stands_alone_can_be_written_in_another_way() {
    let (url, _) = parsed("/r?since=${epoch:s}&text=a${epoch}&plain=1");
    let macros: Vec<_> = url.query().iter().map(|(_, value)| value.single_macro().map(Macro::time)).collect();
    assert_eq!(macros, [Some(MacroTime::Since), None, None]);
    let (url, _) = parsed("/r?until=${nowTimeZone:PST:yyyy-MM-dd}");
    let time = url.query()[0].1.single_macro().expect("a macro");
    assert_eq!((time.time(), time.zone().as_str(), time.pattern().as_str()), (MacroTime::Now, "PST", "yyyy-MM-dd"));
    assert_eq!(time.instant(&times(None)), Some(times(None).now));
}

#[test]
fn oddities_are_accepted_with_a_warning() {
    check_warned("/hubs/general/contacts}'", "/contacts", "the }' at the end closes nothing and is left out");
    check_warned(
        "/r?where=u>'${yyyy-MM-dd'T'HH:mm:ss'Z'}'",
        "/r?where=u > '2026-08-01T10:00:05Z'",
        "${yyyy-MM-dd'T'HH:mm:ss'Z'} is read as ${date:yyyy-MM-dd'T'HH:mm:ss'Z'}",
    );
    check_warned("/r?u=${epoch:0}", "/r?u=1785578405307", "${epoch:0} is read as ${epoch}, milliseconds since 1970");
    check_warned(
        "/r?u=${date:yyyy-MM-dd'}",
        "/r?u=2026-08-01",
        "the single quote at the end of the pattern yyyy-MM-dd' is left out",
    );
}

#[test]
fn problems_say_what_would_work() {
    check_refused("/r?u=${gmtDat:yyyy}", "there is no ${gmtDat:yyyy}, the nearest is gmtDate");
    check_refused("/r?u=${days}", "there is no ${days}");
    check_refused("/r?u=${date:yyyy", "a closing brace for the macro that begins with ${date:yyyy");
    check_refused("/r?where=u>'${date:yyyy'", "a closing brace");
    check_refused("/r?u=${dateTimeZone:PTS:yyyy}", "no time zone is named \"PTS\"; the nearest is PST");
    check_refused("/r?u=${dateTimeZone:PST}", "the form ${dateTimeZone:ZONE:PATTERN}");
    check_refused("/r?u=${date:yyyyT}", "in ${date:yyyyT} a pattern of the letters");
    check_refused("/r?u=${epoch:m}", "the form ${epoch:s}");
    check_refused("/r?where=a>", "a where clause in CEQL; at character 3: expected a number");
    check_refused("/r?where=a=1&where=b=1", "one where clause");
    check_refused("", "the name of the resource is missing");
    check_refused("/hubs/crm", "the name of the resource is missing");
    check_refused("/hubs/crm/../x", "no part between slashes may be empty or dots");
    check_refused("https://example.com/hubs/crm/x", "the host is the platform's own");
    check_refused("/r/${epoch}", "macros stand in the query");
    check_refused("/r/{a", "braces stand around a name");
    check_refused("/r/a}b", "braces stand around a name");
    check_refused("/r/{}", "braces stand around a name");
    check_refused("/r/{a/b}", "braces stand around a name");
    check_refused("/r/{a{b}", "braces stand around a name");
    for odd in ["\\", "#", "\u{1}"] {
        check_refused(&format!("/r/a{odd}b"), "without control characters, backslash and #");
    }
    let of_length = |length: usize| format!("/r?x={}", "a".repeat(length - 5));
    assert!(PollUrl::parse(&of_length(4096)).is_ok());
    check_refused(&of_length(4097), "at most 4096 bytes");
    let macro_of_length = |length: usize| format!("/r?x=${{date:{}yyyy}}", " ".repeat(length - 9));
    assert!(PollUrl::parse(&macro_of_length(200)).is_ok());
    for length in [201, 300] {
        check_refused(&macro_of_length(length), "of at most 200 bytes");
    }
    check_refused(&"/".repeat(5000), "at most 4096 bytes");
}

#[test]
fn it_is_stored_as_its_text() {
    let text = "\"/hubs/general/contacts}'\"";
    let url = serde_json::from_str::<PollUrl>(text).expect("a poll URL");
    assert_eq!(serde_json::to_string(&url).expect("text"), text);
    assert_eq!(url.to_string(), "/hubs/general/contacts}'");
}

proptest! {
    /// A value that is filled in can not change which comparisons there are.
    #[test]
    fn expanding_keeps_the_shape(seconds in 0_i64..4_000_000_000) {
        let (url, _) = parsed("/r?where=a>'${dateTimeZone:PST:yyyy 'it''s' HH:mm' AND 1=1 OR '}' AND b IN ('x', '${epoch}')");
        let filter = url.expand(&MacroTimes { since: DateTime::from_timestamp(seconds, 0), now: DateTime::UNIX_EPOCH }).filter;
        let filter = filter.expect("a filter");
        prop_assert_eq!(filter.comparisons().len(), 2);
        prop_assert_eq!(ceql::parse(&filter.to_string()), Ok(filter));
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,60}|/r[?&=w$\\{}':a-z>]{0,60}|/r\\?where=[$\\{}'&a =é]{0,30}") {
        if let Ok((url, _)) = PollUrl::parse(&text) {
            url.expand(&times(None));
            prop_assert!(url.expand(&times(Some("2026-08-01T10:00:05Z"))).path == url.path());
        }
    }
}
