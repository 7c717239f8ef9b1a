//! Takes a poll URL apart: its path, its parameters, and where macros and quotes end.

use std::borrow::Cow;

use super::UrlProblem;

/// Takes off a `}'` that closes nothing: one seed document has it on every URL.
pub(super) fn strip_stray_end<'a>(url: &'a str, notes: &mut Vec<String>) -> &'a str {
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
pub(super) fn resource_path(path: &str) -> Result<(String, Vec<String>), UrlProblem> {
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
pub(super) fn parameters(query: &str) -> Vec<&str> {
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

/// The end of the parameter at the start of `rest`. None: a quote is still open at the end.
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
pub(super) fn split_once_outside_macros(text: &str, mark: char) -> Option<(&str, &str)> {
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
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    if text.contains(['\'', '"', '<', '>', '{', '}', ' ']) {
        return Cow::Borrowed(text);
    }
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}
