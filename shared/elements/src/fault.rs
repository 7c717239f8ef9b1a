//! Error answers: the element's rules first, then the meaning of the status code.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::problem::shorten;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, Response};
use serde_json::Value;

use crate::catalog::Element;
use crate::definition::{AnswerMatch, ErrorAction, ErrorRule, Wait};
use crate::mask::SecretMask;
use crate::pointer::{Wanted, as_text};
use crate::template::plain_text;

/// A rule's pattern is searched in this many bytes of a body: errors are short, pages are not.
const LONGEST_SEARCH: usize = 1 << 16;

/// An answer that is not the expected one, and the action that follows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Ask again later.
    #[error("the vendor cannot answer now: {reason}")]
    Retry {
        /// The time to wait, if the vendor names it.
        after: Option<Duration>,
        /// The vendor's words.
        reason: String,
    },
    /// Ask again later, and less often.
    #[error("the vendor's limit is reached: {reason}")]
    RateLimited {
        /// The time to wait, if the vendor names it.
        after: Option<Duration>,
        /// The vendor's words.
        reason: String,
    },
    /// Refresh the token and send the request again, once.
    #[error("the token was refused: {reason}")]
    RefreshAuth {
        /// The vendor's words.
        reason: String,
    },
    /// The vendor forgot our cursor: make a complete, silent scan that compares with the index.
    #[error("the vendor's cursor expired: {reason}")]
    ResetCursor {
        /// The vendor's words.
        reason: String,
    },
    /// The page cursor expired. The listing has gone back to its first page: ask it for the next request.
    #[error("the page cursor expired: {reason}")]
    RestartScan {
        /// The vendor's words.
        reason: String,
    },
    /// The page was too large. The listing has halved its size: ask it for the next request.
    #[error("the page was too large")]
    ShrinkPage,
    /// The user must log in again.
    #[error("the vendor wants a new login: {reason}")]
    Reconnect {
        /// The vendor's words.
        reason: String,
    },
    /// The user must change the configuration.
    #[error("the vendor refuses the request: {reason}")]
    ConfigError {
        /// The vendor's words.
        reason: String,
    },
}

impl Fault {
    /// A temporary fault without a known end.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Fault::Retry { after: None, reason: reason.into() }
    }
}

/// Finds the fault of an answer; `None` if it is a good answer. `rules` come before the element's own.
/// The vendor's words are masked, because vendors repeat secrets in their errors.
pub(crate) fn classify(
    element: &Element,
    mask: SecretMask<'_>,
    rules: &[ErrorRule],
    response: &Response<Bytes>,
) -> Option<Fault> {
    let matched = rules.iter().chain(&element.errors).find(|rule| matches(&rule.when, response));
    let status = response.status().as_u16();
    let action = match matched {
        Some(rule) => rule.action,
        None => match status {
            200..=299 => ErrorAction::Ignore,
            401 => ErrorAction::RefreshAuth,
            429 => ErrorAction::RateLimited,
            408 | 425 | 500..=599 => ErrorAction::Retry,
            _ => ErrorAction::ConfigError,
        },
    };
    let reason = || reason(element, mask, response);
    let after = || match matched.and_then(|rule| rule.wait.as_ref()) {
        Some(wait) => rule_wait(wait, response).or_else(|| header_wait(response.headers(), RETRY_AFTER.as_str())),
        None => header_wait(response.headers(), RETRY_AFTER.as_str()),
    };
    Some(match action {
        ErrorAction::Ignore => return None,
        ErrorAction::Retry => Fault::Retry { after: after(), reason: reason() },
        ErrorAction::RateLimited => Fault::RateLimited { after: after(), reason: reason() },
        ErrorAction::RefreshAuth => Fault::RefreshAuth { reason: reason() },
        ErrorAction::ResetCursor => Fault::ResetCursor { reason: reason() },
        ErrorAction::RestartScan => Fault::RestartScan { reason: reason() },
        ErrorAction::ShrinkPage => Fault::ShrinkPage,
        ErrorAction::Reconnect => Fault::Reconnect { reason: reason() },
        ErrorAction::ConfigError => Fault::ConfigError { reason: reason() },
    })
}

/// Returns true if the answer meets every test of a rule.
fn matches(when: &AnswerMatch, response: &Response<Bytes>) -> bool {
    let status = response.status();
    if !when.status.contain(status.as_u16()) {
        return false;
    }
    if when.header.as_ref().is_some_and(|name| !response.headers().contains_key(name.as_str())) {
        return false;
    }
    let tests_value = when.equals.is_some() || !when.one_of.is_empty() || when.lt.is_some();
    let passes = |value: &Value| {
        when.equals.as_ref().is_none_or(|wanted| same(wanted, value))
            && (when.one_of.is_empty() || when.one_of.iter().any(|wanted| same(wanted, value)))
            && when.lt.is_none_or(|bound| value.as_f64().is_some_and(|number| number < bound))
            && (tests_value || when.text.as_ref().is_none_or(|pattern| pattern.0.is_match(&plain_text(value))))
    };
    if let Some(pointer) = &when.pointer {
        let found = if status.is_success() && !pointer.as_str().contains('*') {
            // Pages are large: this finds one value without building a tree.
            let mut wanted = Wanted::default();
            let slot = wanted.want(pointer);
            std::str::from_utf8(response.body())
                .ok()
                .and_then(|text| wanted.find(text).ok()?.raw(slot))
                .is_some_and(|raw| serde_json::from_str(raw).is_ok_and(|value: Value| passes(&value)))
        } else {
            let tree: Option<Value> = serde_json::from_slice(response.body()).ok();
            tree.is_some_and(|tree| pointer.all(&tree).into_iter().any(passes))
        };
        if !found {
            return false;
        }
    }
    match &when.text {
        Some(pattern) if tests_value || when.pointer.is_none() => pattern.0.is_match(&head(response.body())),
        _ => true,
    }
}

/// Compares values, also as text: vendors write numbers in quotes.
fn same(wanted: &Value, value: &Value) -> bool {
    wanted == value || (!value.is_null() && plain_text(wanted) == plain_text(value))
}

/// The start of a body, as text.
fn head(body: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&body[..body.len().min(LONGEST_SEARCH)])
}

/// The status and the vendor's words, masked and shortened.
pub(crate) fn reason(element: &Element, mask: SecretMask<'_>, response: &Response<Bytes>) -> String {
    let status = response.status();
    match message(element, response) {
        Some(text) => shorten(&format!("{} {}", status.as_u16(), mask.hide(&text))),
        None => status.to_string(),
    }
}

/// The vendor's error message, if the answer has one.
pub(crate) fn message(element: &Element, response: &Response<Bytes>) -> Option<String> {
    let tree: Value = serde_json::from_slice(response.body()).ok()?;
    let found = element.messages.iter().flat_map(|pointer| pointer.all(&tree));
    found.filter(|value| !value.is_null()).map(plain_text).find(|text| !text.is_empty())
}

/// The time of the answer by the vendor's clock: its `Date` header.
pub(crate) fn server_date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc())
}

/// A wait in seconds, or the time from the answer's `Date` to an HTTP date. Our own clock is not used.
fn header_wait(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (http_date(text)? - server_date(headers)?).to_std().ok(),
    }
}

/// The wait that a rule asks for.
fn rule_wait(wait: &Wait, response: &Response<Bytes>) -> Option<Duration> {
    let headers = response.headers();
    match wait {
        Wait::Header(name) => header_wait(headers, name),
        Wait::Seconds(seconds) => Some(Duration::from_secs(*seconds)),
        Wait::HeaderEpoch(name) => {
            let epoch = headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
            (DateTime::from_timestamp(epoch, 0)? - server_date(headers)?).to_std().ok()
        }
        Wait::BodyRegex(pattern) => {
            let body = head(response.body());
            let until = DateTime::parse_from_rfc3339(pattern.0.captures(&body)?.get(1)?.as_str()).ok()?;
            (until.to_utc() - server_date(headers)?).to_std().ok()
        }
    }
}

/// The body as text.
pub(crate) fn text_of(body: &Bytes) -> Result<&str, Fault> {
    std::str::from_utf8(body).map_err(|_| Fault::retry("the answer is not UTF-8"))
}

/// The fault of a body that is not JSON: a gateway's page, or a body that was cut off.
pub(crate) fn not_json(text: &str, error: &serde_json::Error) -> Fault {
    match text.trim_start().starts_with('<') {
        true => Fault::retry("the answer is a web page, not JSON"),
        false => Fault::retry(format!("the answer is not JSON: {error}")),
    }
}

/// A raw JSON value as a short text for messages.
pub(crate) fn shown(raw: &str) -> String {
    shorten(&as_text(raw))
}
