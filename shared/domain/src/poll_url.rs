//! The address of a polled resource: a platform path, the hub in it ignored, with a query in which macros stand for
//! times: `/hubs/crm/contacts?where=LastModifyDate>'${date:yyyy-MM-dd'T'HH:mm:ssXXX}'`.
//!
//! The URL is taken apart once, `where` into CEQL with macros inside its values. Expanding fills in values and parses
//! nothing, so no value can become syntax.
//!
//! | Macro, in any case | Stands for |
//! | --- | --- |
//! | `${date:FMT}`, `${gmtDate:FMT}` | the lower bound of the poll, in GMT |
//! | `${dateTimeZone:ZONE:FMT}` | the lower bound, in a zone |
//! | `${nowTimeZone:ZONE:FMT}` | now, in a zone |
//! | `${epoch}`, `${epoch:ms}`, `${milliseconds}`, `${date}`, `${gmtDate}` | the lower bound, ms since 1970 |
//! | `${epoch:s}`, `${epoch:us}` | the lower bound, in seconds or microseconds |
//! | `${FMT}` | as `${date:FMT}`, with a warning |
//! | `${epoch:0}` | as `${epoch}`, with a warning: one element of the original has it, nobody says why |
//!
//! A URL holds quotes and spaces as they are. A parameter without any of `'"<>{}` and space is taken to be
//! percent-encoded and is decoded.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::ceql::{self, Expression};
use crate::date::{DatePattern, PatternProblem};
use crate::problem::{Warning, nearest, shorten};
use crate::zone::{UnknownZone, Zone};

/// Longest URL, in bytes.
pub const LONGEST_URL: usize = 4096;
/// Longest macro, in bytes: a zone and a pattern fit twice.
const LONGEST_MACRO: usize = 200;

/// A parsed poll URL. Stored as the text that the user wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct PollUrl {
    text: String,
    path: String,
    placeholders: Vec<String>,
    filter: Option<Expression<Template>>,
    query: Vec<(String, Template)>,
}

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

/// Which time a macro stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MacroTime {
    /// From where on changes are wanted.
    Since,
    /// When the poll began.
    Now,
}

/// The times of one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacroTimes {
    /// From where on changes are wanted; None for everything there is.
    pub since: Option<DateTime<Utc>>,
    /// When the poll began.
    pub now: DateTime<Utc>,
}

/// A poll URL with its times filled in. Nothing in it is percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedUrl {
    /// Path of the resource as [`PollUrl::path`] has it, `{placeholders}` not filled in.
    pub path: String,
    /// `where`, without what asked for a lower bound that there is not.
    pub filter: Option<Expression>,
    /// The other parameters, in their order, without those that asked for a lower bound that there is not.
    pub query: Vec<(String, String)>,
}

/// The text is no poll URL. The message says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlProblem {
    /// Too long to be meant.
    #[error("a URL of at most {LONGEST_URL} bytes")]
    TooLong,
    /// No path, a path with `..`, an address with a host.
    #[error("a path like /hubs/crm/contacts, with a query or without; {0}")]
    Path(&'static str),
    /// `${` without `}`.
    #[error("a closing brace for the macro that begins with {0}")]
    OpenMacro(String),
    /// No macro has that name.
    #[error(
        "one of the macros date, gmtDate, dateTimeZone, nowTimeZone, epoch, milliseconds; there is no {name}{}",
        .nearest.map(|nearest| format!(", the nearest is {nearest}")).unwrap_or_default()
    )]
    UnknownMacro {
        /// As it was written, shortened.
        name: String,
        /// The most similar one.
        nearest: Option<&'static str>,
    },
    /// A macro that lacks an argument or has one that is not known.
    #[error("the form {form} for {name}")]
    MacroForm {
        /// The whole macro.
        name: String,
        /// How it should look.
        form: &'static str,
    },
    /// A macro's zone.
    #[error("a time zone in {name}: {problem}")]
    Zone {
        /// The whole macro.
        name: String,
        /// What is wrong.
        problem: UnknownZone,
    },
    /// A macro's date pattern.
    #[error("in {name} {problem}")]
    Pattern {
        /// The whole macro.
        name: String,
        /// What is wrong.
        problem: PatternProblem,
    },
    /// `where` is not CEQL.
    #[error("a where clause in CEQL; {0}")]
    Where(#[from] ceql::Problem),
    /// More than one `where`.
    #[error("one where clause; put AND between the conditions")]
    TwoWheres,
}

impl PollUrl {
    /// Takes a URL apart. The field of the warnings is `url`.
    ///
    /// # Errors
    /// The first problem, in words of what would be accepted.
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), UrlProblem> {
        if text.len() > LONGEST_URL {
            return Err(UrlProblem::TooLong);
        }
        let mut notes = Vec::new();
        let url = strip_stray_end(text.trim(), &mut notes);
        let (path, query) = split_once_outside_macros(url, '?').unwrap_or((url, ""));
        let (path, placeholders) = resource_path(path)?;
        let mut parsed = Self { text: text.to_owned(), path, placeholders, filter: None, query: Vec::new() };
        for parameter in parameters(query) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (name, value) = (decoded(name.trim()), decoded(value));
            if !name.eq_ignore_ascii_case("where") {
                let value = Template::parse(&value, &mut notes)?;
                parsed.query.push((name.into_owned(), value));
            } else if parsed.filter.is_some() {
                return Err(UrlProblem::TwoWheres);
            } else if !value.trim().is_empty() {
                let expression = ceql::parse_with_macros(&value)?;
                parsed.filter = Some(expression.try_map(&mut |value: String| Template::parse(&value, &mut notes))?);
            }
        }
        Ok((parsed, notes.into_iter().map(|note| Warning::new("url", note)).collect()))
    }

    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Path of the resource, without hub and without a slash at either end: `calendars/{calendarId}/changed-events`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Names of the `{placeholders}` in the path, each once, in their order.
    pub fn placeholders(&self) -> &[String] {
        &self.placeholders
    }

    /// The `where` clause.
    pub fn where_clause(&self) -> Option<&Expression<Template>> {
        self.filter.as_ref()
    }

    /// The parameters besides `where`, in their order.
    pub fn query(&self) -> &[(String, Template)] {
        &self.query
    }

    /// True if a macro asks for the lower bound, so that the vendor is asked for changes only.
    pub fn uses_since(&self) -> bool {
        let values = self.filter.iter().flat_map(Expression::comparisons).flat_map(|comparison| &comparison.values);
        values.map(ceql::Value::text).chain(self.query.iter().map(|(_, value)| value)).any(Template::uses_since)
    }

    /// Fills in the times. Without a lower bound, a parameter or comparison that asks for one is left out.
    pub fn expand(&self, times: &MacroTimes) -> ExpandedUrl {
        let parameter = |(name, value): &(String, Template)| value.expand(times).map(|value| (name.clone(), value));
        ExpandedUrl {
            path: self.path.clone(),
            filter: self.filter.as_ref().and_then(|filter| filter.filter_map(&|value: &Template| value.expand(times))),
            query: self.query.iter().filter_map(parameter).collect(),
        }
    }
}

impl Template {
    fn parse(text: &str, notes: &mut Vec<String>) -> Result<Self, UrlProblem> {
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

    /// True if it needs the lower bound.
    pub fn uses_since(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Macro(Macro { time: MacroTime::Since, .. })))
    }

    /// The macro, if there is nothing else. Whoever writes the time in a way of its own can then take
    /// [`Macro::instant`].
    pub fn single_macro(&self) -> Option<&Macro> {
        match self.0.as_slice() {
            [Piece::Macro(only)] => Some(only),
            _ => None,
        }
    }

    /// The text with the times filled in. None if it needs a lower bound that there is not.
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

    /// Which time it stands for.
    pub fn time(&self) -> MacroTime {
        self.time
    }

    /// The zone in which it is written.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// How it is written.
    pub fn pattern(&self) -> &DatePattern {
        &self.pattern
    }

    /// The instant it stands for. None if that is a lower bound that there is not.
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

/// Takes off a `}'` that closes nothing: one seed document has it on every URL.
fn strip_stray_end<'a>(url: &'a str, notes: &mut Vec<String>) -> &'a str {
    let stray = ["}'", "}"].iter().find_map(|end| url.strip_suffix(end).map(|rest| (*end, rest)));
    match stray {
        Some((end, rest)) if url.matches('}').count() > url.matches('{').count() => {
            notes.push(format!("the {end} at the end closes nothing and is left out"));
            rest
        }
        _ => url,
    }
}

/// Drops the hub and checks what is left.
fn resource_path(path: &str) -> Result<(String, Vec<String>), UrlProblem> {
    if path.contains("://") || path.starts_with("//") {
        return Err(UrlProblem::Path("the host is the platform's own and is left out"));
    }
    if path.contains("${") {
        return Err(UrlProblem::Path("macros stand in the query, after the question mark"));
    }
    let path = path.trim_matches('/');
    let path = path.strip_prefix("elements/api-v2/").unwrap_or(path);
    let mut segments = path.split('/').peekable();
    if segments.next_if(|first| first.eq_ignore_ascii_case("hubs")).is_some() {
        segments.next();
    }
    let segments = segments.collect::<Vec<_>>();
    let path = segments.join("/");
    if path.is_empty() {
        return Err(UrlProblem::Path("the name of the resource is missing"));
    }
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
        return Err(UrlProblem::Path("no part between slashes may be empty or dots"));
    }
    if path.contains(|c: char| c.is_control() || c == '\\' || c == '#') {
        return Err(UrlProblem::Path("without control characters, backslash and #"));
    }
    let mut placeholders = Vec::new();
    let mut rest = path.as_str();
    while let Some(open) = rest.find(['{', '}']) {
        let inside = rest[open..].strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((name, after)) = inside.filter(|(name, _)| !name.is_empty() && !name.contains(['{', '/'])) else {
            return Err(UrlProblem::Path("braces stand around a name, as in {calendarId}"));
        };
        if !placeholders.iter().any(|known| known == name) {
            placeholders.push(name.to_owned());
        }
        rest = after;
    }
    Ok((path, placeholders))
}

/// Splits a query at `&`, except inside a macro and inside a text in quotes in `where`.
fn parameters(query: &str) -> Vec<&str> {
    let mut parameters = Vec::new();
    let mut rest = query;
    while !rest.is_empty() {
        let quotes = rest.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("where="));
        let end = end_of_parameter(rest, quotes).or_else(|| end_of_parameter(rest, false)).unwrap_or(rest.len());
        if end > 0 {
            parameters.push(&rest[..end]);
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    parameters
}

/// Where the parameter at the start of `rest` ends. None if a quote is still open at the end.
fn end_of_parameter(rest: &str, quotes: bool) -> Option<usize> {
    let mut quoted = false;
    let mut at = 0;
    while let Some(c) = rest[at..].chars().next() {
        match c {
            '&' if !quoted => return Some(at),
            '\'' if quotes => quoted = !quoted,
            '$' => at += macro_length(&rest[at..]).map_or(0, |length| length - 1),
            _ => {}
        }
        at += if c == '$' { 1 } else { c.len_utf8() };
    }
    (!quoted).then_some(at)
}

/// Splits at the first `mark` that is not inside a macro.
fn split_once_outside_macros(text: &str, mark: char) -> Option<(&str, &str)> {
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == mark {
            return Some((&text[..at], &text[at + mark.len_utf8()..]));
        }
        at += macro_length(&text[at..]).unwrap_or(c.len_utf8());
    }
    None
}

fn macro_length(text: &str) -> Option<usize> {
    text.starts_with("${").then(|| text.find('}').map(|end| end + 1)).flatten()
}

/// Percent-decodes what was encoded, see the module.
fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains(['\'', '"', '<', '>', '{', '}', ' ']) {
        return Cow::Borrowed(text);
    }
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

impl fmt::Display for PollUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Macro(time) => write!(f, "${{{}}}", time.text),
        })
    }
}

/// For people to read: raw, as poll URLs are written.
impl fmt::Display for ExpandedUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.path)?;
        let mut mark = '?';
        if let Some(filter) = &self.filter {
            write!(f, "{mark}where={filter}")?;
            mark = '&';
        }
        for (name, value) in &self.query {
            write!(f, "{mark}{name}={value}")?;
            mark = '&';
        }
        Ok(())
    }
}

impl Serialize for PollUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for PollUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map(|(url, _)| url).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
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

    /// What a URL becomes with a lower bound of 2026-08-01T10:00:05.307456Z, and without one.
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
        check(
            "/r?where=a=1 AND (b=2 OR u>${epoch:s})",
            "/r?where=a = 1 AND (b = 2 OR u > 1785578405)",
            "/r?where=a = 1",
        );
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
        check_warned(
            "/r?u=${epoch:0}",
            "/r?u=1785578405307",
            "${epoch:0} is read as ${epoch}, milliseconds since 1970",
        );
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
}
