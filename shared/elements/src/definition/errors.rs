//! The meaning of error answers.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::value_types::Pattern;
use crate::pointer::Pointer;

/// The meaning of an answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// The answers to which the rule applies.
    pub when: AnswerMatch,
    /// The action that follows.
    pub action: ErrorAction,
    /// The time to wait; `Retry-After` is used when this is absent.
    pub wait: Option<Wait>,
}

/// A test of an answer: every member that is given must hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerMatch {
    /// Status codes; any by default.
    #[serde(default)]
    pub status: StatusCodes,
    /// A header that the answer has.
    pub header: Option<String>,
    /// The value here (with `*` any of the values) meets the tests below; without tests it must be there.
    #[serde(alias = "any_pointer")]
    pub pointer: Option<Pointer>,
    /// The value equals this.
    #[schemars(with = "Option<serde_json::Value>")]
    pub equals: Option<Value>,
    /// The value equals one of these.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub one_of: Vec<Value>,
    /// The value is a number below this.
    pub lt: Option<f64>,
    /// The body, or the value at `pointer` when there is no other test of it, matches.
    pub text: Option<Pattern>,
}

/// Status codes of a rule.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum StatusCodes {
    /// Any status code.
    #[default]
    Any,
    /// One status code.
    One(u16),
    /// Several status codes.
    Many(Vec<u16>),
}

impl StatusCodes {
    /// Returns true if the rule applies to this status.
    pub(crate) fn contain(&self, status: u16) -> bool {
        match self {
            StatusCodes::Any => true,
            StatusCodes::One(one) => *one == status,
            StatusCodes::Many(many) => many.contains(&status),
        }
    }
}

/// The action that follows an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorAction {
    /// Ask again later.
    Retry,
    /// Ask again later, and less often.
    RateLimited,
    /// Refresh the token and ask again.
    RefreshAuth,
    /// The vendor forgot our cursor: list everything again, silently.
    ResetCursor,
    /// The page cursor expired: start this listing again from the same lower bound.
    RestartScan,
    /// Ask for smaller pages.
    ShrinkPage,
    /// The user must log in again.
    Reconnect,
    /// The user must change the configuration.
    ConfigError,
    /// Read the answer as if it were a good one.
    Ignore,
}

/// The time to wait before the next request.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wait {
    /// A header with seconds or an HTTP date.
    Header(String),
    /// A header with seconds since 1970.
    HeaderEpoch(String),
    /// This many seconds.
    Seconds(u64),
    /// The first group of the pattern in the body, RFC 3339.
    BodyRegex(Pattern),
}
