//! The paging kinds: how a listing goes from one page to the next. Their behavior is in `crate::paging`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::value_types::Span;
use crate::pointer::Pointer;

/// The way from one page of a listing to the next.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Paging {
    /// The listing has one page.
    #[default]
    None,
    /// A token from the answer, put where `${page_token}` stands.
    Token(TokenPaging),
    /// A growing `${offset}`, until the total is reached or a page is short.
    OffsetTotal(OffsetPaging),
    /// A URL from the answer, absolute or relative to the host.
    NextUrl(NextUrlPaging),
    /// The `rel=next` URL of the `Link` header.
    LinkHeader(LinkHeaderPaging),
    /// The last timestamp as the new lower bound: the list is in ascending order of the updated timestamp.
    Keyset(KeysetPaging),
}

/// Paging by a token from the answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenPaging {
    /// The place of the token in the answer.
    pub from: Pointer,
    /// Most records on a page.
    pub size: u32,
}

/// Paging by an offset.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OffsetPaging {
    /// The place of the total in the answer.
    pub total: Pointer,
    /// Most records on a page.
    pub size: u32,
    /// The number of records that two pages share, so that a deletion on an earlier page hides no record.
    #[serde(default)]
    pub step_back: u32,
}

/// Paging by a URL from the answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NextUrlPaging {
    /// The place of the URL in the answer.
    pub from: Pointer,
    /// Most records on a page.
    pub size: u32,
}

/// Paging by a URL from the `Link` header.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinkHeaderPaging {
    /// Most records on a page.
    pub size: u32,
}

/// Paging by the timestamp of the last record.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysetPaging {
    /// Most records on a page.
    pub size: u32,
    /// Absent or null in the answer when the page is the last; without this pointer, a short page is the last one.
    pub more: Option<Pointer>,
    /// The precision of the lower bound in a request.
    #[serde(default)]
    pub grain: Option<Span>,
    /// The next step after a page whose records all have one timestamp.
    #[serde(default, rename = "ties")]
    pub equal_stamps: EqualStamps,
}

/// The next step after a page whose records all have one timestamp.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EqualStamps {
    /// Go on by `${offset}` within the timestamp.
    #[default]
    Offset,
    /// Ask for a larger page.
    Grow,
}
