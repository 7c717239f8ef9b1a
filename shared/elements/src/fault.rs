//! What an answer means when it is not simply a page: the element's rules first, common sense after them.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::problem::shorten;
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, Response};
use serde_json::Value;

use crate::call::CallContext;
use crate::catalog::Element;
use crate::definition::{Action, ErrorRule, Wait, When};
use crate::pointer::{Wanted, as_text};
use crate::template::plain_text;

/// Longest part of a body in which a rule's pattern is looked for, bytes: errors are short, pages are not.
const LONGEST_SEARCH: usize = 1 << 16;

/// What to do about an answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Ask again later.
    #[error("the vendor cannot answer now: {reason}")]
    Retry {
        /// How long to wait, where the vendor says so.
        after: Option<Duration>,
        /// The vendor's words.
        reason: String,
    },
    /// Ask again later, and less often.
    #[error("the vendor's limit is reached: {reason}")]
    RateLimited {
        /// How long to wait, where the vendor says so.
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
    /// The vendor forgot our cursor: make a complete, silent pass that compares with what is remembered.
    #[error("the vendor's cursor expired: {reason}")]
    ResetCursor {
        /// The vendor's words.
        reason: String,
    },
    /// The page cursor died. The listing has gone back to its first page: ask it for the next request.
    #[error("the page cursor expired: {reason}")]
    RestartScan {
        /// The vendor's words.
        reason: String,
    },
    /// The page was too much. The listing has halved it: ask it for the next request.
    #[error("the page was too large")]
    ShrinkPage,
    /// The user must log in again.
    #[error("the vendor wants a new login: {reason}")]
    Reconnect {
        /// The vendor's words.
        reason: String,
    },
    /// The user must change something.
    #[error("the vendor refuses the request: {reason}")]
    ConfigError {
        /// The vendor's words.
        reason: String,
    },
}

impl Fault {
    /// A passing trouble of which no end is known.
    pub(crate) fn retry(reason: impl Into<String>) -> Self {
        Fault::Retry { after: None, reason: reason.into() }
    }
}

/// What is wrong with the answer, `None` when it is to be read.
/// The vendor's words come without the account's secrets, should he repeat them.
pub(crate) fn classify(caller: &CallContext<'_>, own: &[ErrorRule], response: &Response<Bytes>) -> Option<Fault> {
    judge(caller.element, own, response, &|text| caller.hide(text))
}

/// The same of a token answer. What it repeats is hidden by whoever knows what was asked.
pub(crate) fn classify_token(element: &Element, response: &Response<Bytes>) -> Option<Fault> {
    judge(element, &[], response, &str::to_owned)
}

fn judge(
    element: &Element,
    own: &[ErrorRule],
    response: &Response<Bytes>,
    hide: &dyn Fn(&str) -> String,
) -> Option<Fault> {
    let matched = own.iter().chain(&element.errors).find(|rule| matches(&rule.when, response));
    let status = response.status().as_u16();
    let action = match matched {
        Some(rule) => rule.action,
        None => match status {
            200..=299 => Action::Ignore,
            401 => Action::RefreshAuth,
            429 => Action::RateLimited,
            408 | 425 | 500..=599 => Action::Retry,
            _ => Action::ConfigError,
        },
    };
    let reason = || reason(element, response, hide);
    let after = || match matched.and_then(|rule| rule.wait.as_ref()) {
        Some(wait) => waiting(wait, response).or_else(|| header_wait(response.headers(), RETRY_AFTER.as_str())),
        None => header_wait(response.headers(), RETRY_AFTER.as_str()),
    };
    Some(match action {
        Action::Ignore => return None,
        Action::Retry => Fault::Retry { after: after(), reason: reason() },
        Action::RateLimited => Fault::RateLimited { after: after(), reason: reason() },
        Action::RefreshAuth => Fault::RefreshAuth { reason: reason() },
        Action::ResetCursor => Fault::ResetCursor { reason: reason() },
        Action::RestartScan => Fault::RestartScan { reason: reason() },
        Action::ShrinkPage => Fault::ShrinkPage,
        Action::Reconnect => Fault::Reconnect { reason: reason() },
        Action::ConfigError => Fault::ConfigError { reason: reason() },
    })
}

fn matches(when: &When, response: &Response<Bytes>) -> bool {
    let status = response.status();
    if !when.status.holds(status.as_u16()) {
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
            // Pages are large: one value is looked for without building a tree.
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

/// Equal, or equal as text: vendors write numbers in quotes.
fn same(wanted: &Value, value: &Value) -> bool {
    wanted == value || (!value.is_null() && plain_text(wanted) == plain_text(value))
}

fn head(body: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&body[..body.len().min(LONGEST_SEARCH)])
}

/// The vendor's words for people, shortened.
pub(crate) fn reason(element: &Element, response: &Response<Bytes>, hide: &dyn Fn(&str) -> String) -> String {
    let status = response.status();
    match told(element, response) {
        Some(text) => shorten(&format!("{} {}", status.as_u16(), hide(&text))),
        None => status.to_string(),
    }
}

/// What the vendor says is wrong, if it says so.
pub(crate) fn told(element: &Element, response: &Response<Bytes>) -> Option<String> {
    let tree: Value = serde_json::from_slice(response.body()).ok()?;
    let told = element.messages.iter().flat_map(|pointer| pointer.all(&tree));
    told.filter(|value| !value.is_null()).map(plain_text).find(|text| !text.is_empty())
}

/// When the vendor's clock says it answered.
pub(crate) fn server_date(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    http_date(headers.get(DATE)?.to_str().ok()?)
}

fn http_date(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc())
}

/// Seconds, or the time from the answer's `Date` to an HTTP date: no clock of ours.
fn header_wait(headers: &HeaderMap, name: &str) -> Option<Duration> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    match text.parse::<u64>() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (http_date(text)? - server_date(headers)?).to_std().ok(),
    }
}

fn waiting(wait: &Wait, response: &Response<Bytes>) -> Option<Duration> {
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

/// A body that is not JSON: a gateway's page, or one that was cut off.
pub(crate) fn not_json(text: &str, error: &serde_json::Error) -> Fault {
    match text.trim_start().starts_with('<') {
        true => Fault::retry("the answer is a web page, not JSON"),
        false => Fault::retry(format!("the answer is not JSON: {error}")),
    }
}

/// The text of a raw JSON value, for messages.
pub(crate) fn shown(raw: &str) -> String {
    shorten(&as_text(raw))
}
