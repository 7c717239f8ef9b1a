//! Problems and warnings about what a user wrote, in words that the user can act on.
//!
//! A `field` is a path from the root of the request body, parts joined by dots; a part that holds anything but
//! letters, digits, `_` and `-` stands in double quotes: `configuration."event.poller.configuration".timesheets.url`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::secret::MASK;

/// Longest piece of a user's text that is repeated to the user, in characters.
const LONGEST_ECHO: usize = 80;

/// A value that was refused: its field, what was read there, and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field}: read {read}, expected {expected}")]
pub struct FieldProblem {
    /// Path of the field from the root of the body, see the module.
    pub field: String,
    /// The value, shortened; a mask where it is secret.
    pub read: String,
    /// The values that would have been accepted.
    pub expected: String,
}

impl FieldProblem {
    /// A problem with a text or a JSON value, which is shortened here.
    pub fn new(field: impl Into<String>, read: impl fmt::Display, expected: impl Into<String>) -> Self {
        Self { field: field.into(), read: shorten(&read.to_string()), expected: expected.into() }
    }

    /// A problem with a value that must not be shown.
    pub fn secret(field: impl Into<String>, expected: impl Into<String>) -> Self {
        Self { field: field.into(), read: MASK.to_owned(), expected: expected.into() }
    }
}

/// Something that was accepted, but read differently from how it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Path of the field from the root of the body, see the module.
    pub field: String,
    /// The way in which it was read.
    pub message: String,
}

impl Warning {
    /// A warning about a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// One step further down a field path.
pub fn below(path: &str, part: &str) -> String {
    let plain = !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let dot = if path.is_empty() { "" } else { "." };
    if plain { format!("{path}{dot}{part}") } else { format!("{path}{dot}\"{}\"", shorten(part)) }
}

/// The text, or the head of it and an ellipsis.
pub fn shorten(text: &str) -> String {
    match text.char_indices().nth(LONGEST_ECHO) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

/// The candidate that is most like `word`, if one is near enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Likeness costs the product of the lengths, and a word this long is no typing error.
    if word.len() > LONGEST_ECHO {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.6)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_says_where_what_and_what_would_work() {
        let path = below(&below(&below("configuration", "event.poller.configuration"), "time-sheets"), "url");
        assert_eq!(path, r#"configuration."event.poller.configuration".time-sheets.url"#);
        let problem = FieldProblem::new(path, "x".repeat(100), "a path");
        assert_eq!(
            problem.to_string(),
            format!(
                r#"configuration."event.poller.configuration".time-sheets.url: read {}…, expected a path"#,
                "x".repeat(80)
            )
        );
        assert_eq!(FieldProblem::secret("a", "b").to_string(), "a: read ********, expected b");
    }

    #[test]
    fn the_nearest_word_is_found_whatever_its_case() {
        assert_eq!(nearest("idfeild", ["url", "idField", "pageSize"]), Some("idField"));
        assert_eq!(nearest("zzz", ["url", "idField"]), None);
        // Three letters of five are not enough; four are, and more are better.
        assert_eq!(nearest("abcde", ["abcxy"]), None);
        assert_eq!(nearest("abcde", ["abcxy", "abcdx", "xbcdx"]), Some("abcdx"));
        let (longest, longer) = ("x".repeat(LONGEST_ECHO), "x".repeat(LONGEST_ECHO + 1));
        assert_eq!(nearest(&longest, [longest.as_str()]), Some(longest.as_str()));
        assert_eq!(nearest(&longer, [longer.as_str()]), None);
    }

    #[test]
    fn a_path_quotes_what_is_no_plain_word() {
        for (part, path) in [("a_b", "x.a_b"), ("a-1", "x.a-1"), ("", "x.\"\""), ("a b", "x.\"a b\"")] {
            assert_eq!(below("x", part), path);
        }
        assert_eq!(below("", "x"), "x");
        let warning = Warning::new("a", "b");
        assert_eq!((warning.field.as_str(), warning.message.as_str()), ("a", "b"));
    }
}
