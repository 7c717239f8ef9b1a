//! Pages of listings: the size and cursor that a call asks for, and the headers that describe the next page.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::limits::PAGE_SIZE;
use domain::problem::FieldProblem;
use serde_json::{Value, json};
use store::{Cursor, Listable};

use crate::error::ApiError;
use crate::request_id::{NEXT_PAGE, RETURNED_COUNT};

/// Query parameters in the order in which they came.
pub type Parameters = Vec<(String, String)>;

/// The page of a listing of records `T` that a call asks for.
#[derive(Debug)]
pub struct Paging<T> {
    /// Largest number of entries.
    pub size: usize,
    /// The cursor to go on from.
    pub after: Option<Cursor<T>>,
    /// The parameters that are not about pages.
    pub others: Parameters,
}

impl<T: Listable> Paging<T> {
    /// Takes `pageSize` and `nextPage` out of the parameters; the token of another listing is refused.
    pub fn of(parameters: Parameters) -> Result<Self, ApiError> {
        let mut paging = Self { size: PAGE_SIZE, after: None, others: Vec::new() };
        let mut problems = Vec::new();
        for (name, value) in parameters {
            match name.as_str() {
                "pageSize" => match value.parse() {
                    Ok(size) if (1..=PAGE_SIZE).contains(&size) => paging.size = size,
                    _ => {
                        let expected = format!("a whole number from 1 to {PAGE_SIZE}");
                        problems.push(FieldProblem::new(name, value, expected));
                    }
                },
                "nextPage" => match cursor_in(&value) {
                    Some(cursor) => paging.after = Some(cursor),
                    None => {
                        let expected = "the elements-next-page-token of an answer to this call";
                        problems.push(FieldProblem::new(name, value, expected));
                    }
                },
                _ => paging.others.push((name, value)),
            }
        }
        if problems.is_empty() { Ok(paging) } else { Err(ApiError::invalid(problems)) }
    }
}

/// The headers of an answer with a page of `count` entries that goes on after `next`.
pub fn headers(count: usize, next: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(RETURNED_COUNT, HeaderValue::from(count));
    if let Some(next) = next {
        let token = URL_SAFE_NO_PAD.encode(json!({ "after": next }).to_string());
        headers.extend(HeaderValue::from_str(&token).ok().map(|token| (NEXT_PAGE, token)));
    }
    headers
}

/// The cursor in a token, if it is one of this listing.
fn cursor_in<T: Listable>(token: &str) -> Option<Cursor<T>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).or_else(|_| STANDARD.decode(token)).ok()?;
    let token: Value = serde_json::from_slice(&bytes).ok()?;
    Cursor::parse(token["after"].as_str()?)
}
