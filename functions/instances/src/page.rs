//! Pages of listings: how large, from where, and what the answer says about the next one.

use axum::http::{HeaderMap, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use domain::limits::PAGE_SIZE;
use domain::problem::FieldProblem;
use serde_json::{Value, json};

use crate::exchange::{NEXT_PAGE, RETURNED_COUNT};
use crate::refusal::Refusal;

/// Query parameters in the order in which they came.
pub type Parameters = Vec<(String, String)>;

/// Which stretch of a listing is asked for.
#[derive(Debug)]
pub struct Paging {
    /// At most this many entries.
    pub size: usize,
    /// After this place.
    pub after: Option<String>,
    /// The parameters that are not about pages.
    pub others: Parameters,
}

impl Paging {
    /// Takes `pageSize` and `nextPage` out of the parameters. `prefix` begins every place of this listing, so that
    /// the token of another is refused.
    pub fn of(parameters: Parameters, prefix: &str) -> Result<Self, Refusal> {
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
                "nextPage" => match place_in(&value).filter(|place| place.starts_with(prefix)) {
                    Some(place) => paging.after = Some(place),
                    None => {
                        let expected = "the elements-next-page-token of an answer to this call";
                        problems.push(FieldProblem::new(name, value, expected));
                    }
                },
                _ => paging.others.push((name, value)),
            }
        }
        if problems.is_empty() { Ok(paging) } else { Err(Refusal::invalid(problems)) }
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

/// The place in a token, if it is one of ours.
fn place_in(token: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).or_else(|_| STANDARD.decode(token)).ok()?;
    let token: Value = serde_json::from_slice(&bytes).ok()?;
    token["after"].as_str().map(str::to_owned)
}
