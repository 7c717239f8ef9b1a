//! `GET /hubs/{hub}/{resource}`: the same resources, asked for by a user instead of a poll.
//!
//! A page of such an answer is a page of the vendor. Its token says where the next one begins and nothing more:
//! what is asked for is read from each request anew, so a forged token asks for nothing that its user may not.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::ResourceConfiguration;
use domain::poll_url::PollUrl;
use domain::problem::{FieldProblem, nearest};
use domain::record::Record;
use domain::zone::Zone;
use http::{Request, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::call::CallContext;
use crate::catalog::Element;
use crate::fault::Fault;
use crate::listing::Listing;
use crate::plan::Plan;
use crate::pointer::Pointer;
use crate::single;
use crate::template::{Filling, Values};

/// What a user asks for.
#[derive(Debug, Clone)]
pub enum HubPlan {
    /// A page of a list.
    List(HubList),
    /// One record.
    One(HubOne),
}

/// Why it cannot be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubProblem {
    /// The element has no such resource.
    #[error("{0}")]
    NoSuchResource(FieldProblem),
    /// The question cannot be put to the vendor.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<FieldProblem>),
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct HubList {
    plan: Plan,
    fields: Vec<Pointer>,
    order: Option<(String, String)>,
    next_page: Option<Token>,
}

/// One record by its id.
#[derive(Debug, Clone)]
pub struct HubOne {
    plan: Plan,
    fields: Vec<Pointer>,
    id: String,
}

/// The token of a next page.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    partition: String,
    at: Option<String>,
}

/// What a page holds.
#[derive(Debug, Clone, PartialEq)]
pub struct HubPage {
    /// The records, with the asked fields only.
    pub records: Vec<Value>,
    /// `nextPage` of the next request.
    pub next_page: Option<String>,
    /// How many records there are in all, where the vendor says so.
    pub total: Option<u64>,
}

/// Decides what a path after `/hubs/{hub}/` (or alone) and its query ask for. Both are decoded already.
///
/// # Errors
/// A resource that there is not; a condition or parameter that cannot be carried out.
pub fn plan_hub_get(element: &Arc<Element>, path: &str, query: &[(String, String)]) -> Result<HubPlan, HubProblem> {
    let path = path.trim_matches('/');
    let (resource, id) = if names_a_list(element, path) {
        (path, None)
    } else {
        match path.rsplit_once('/') {
            Some((resource, id)) if names_a_list(element, resource) => (resource, Some(id.to_owned())),
            _ => {
                let known: Vec<&str> =
                    element.resources.iter().flat_map(|resource| &resource.hub_paths).map(String::as_str).collect();
                let near = nearest(path, known.iter().copied())
                    .map_or(String::new(), |near| format!("; the nearest is {near}"));
                let expected = format!("one of {}{near}", known.join(", "));
                return Err(HubProblem::NoSuchResource(FieldProblem::new("resource", path, expected)));
            }
        }
    };
    let mut problems = Vec::new();
    let mut entry = ResourceConfiguration::default();
    let (mut fields, mut next_page, mut filter, mut order_by) = (Vec::new(), None, None, None);
    for (name, value) in query {
        match name.as_str() {
            "fields" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                fields = names.map(Pointer::dotted).collect();
            }
            "pageSize" => match value.parse::<u32>() {
                Ok(size) if size > 0 => entry.page_size = Some(size),
                _ => problems.push(FieldProblem::new("pageSize", value, "a whole number from 1")),
            },
            "nextPage" if value.is_empty() => {}
            "nextPage" => match token(value) {
                Some(read) => next_page = Some(read),
                None => {
                    problems.push(FieldProblem::new("nextPage", value, "elements-next-page-token of the page before"))
                }
            },
            "page" if matches!(value.as_str(), "" | "1") => {}
            "page" => problems.push(FieldProblem::new("page", value, "1; further pages are asked for by nextPage")),
            "where" if !value.trim().is_empty() => filter = Some(value),
            "orderBy" if !value.trim().is_empty() => order_by = Some(value.trim()),
            _ => {}
        }
    }
    let mut url = format!("/hubs/{}/{resource}", element.hub);
    if let Some(filter) = filter.filter(|_| id.is_none()) {
        url.push_str(&format!("?where={}", utf8_percent_encode(filter, NON_ALPHANUMERIC)));
    }
    match PollUrl::parse(&url) {
        Ok((url, _)) => entry.url = Some(url),
        Err(problem) => {
            problems.push(FieldProblem::new("where", filter.map_or(resource, String::as_str), problem.to_string()))
        }
    }
    if !problems.is_empty() {
        return Err(HubProblem::Refused(problems));
    }
    let plan = Plan::resolve(element, resource, &entry, &Map::new()).map(|(plan, _)| plan);
    let plan = plan.map_err(|problems| {
        let renamed = problems.into_iter().map(|problem| FieldProblem { field: "where".to_owned(), ..problem });
        HubProblem::Refused(renamed.collect())
    })?;
    let order = match order_by.filter(|_| id.is_none()).map(|asked| order(&plan, asked)) {
        Some(Err(problem)) => return Err(HubProblem::Refused(vec![problem])),
        Some(Ok(order)) => order,
        None => None,
    };
    Ok(match id {
        Some(id) => HubPlan::One(HubOne { plan, fields, id }),
        None => HubPlan::List(HubList { plan, fields, order, next_page }),
    })
}

/// The query parameter that gives the asked order; `None` where the list comes in it anyway.
fn order(plan: &Plan, asked: &str) -> Result<Option<(String, String)>, FieldProblem> {
    let mut words = asked.split_whitespace();
    let (field, direction) = (words.next().unwrap_or_default(), words.next().unwrap_or("asc").to_ascii_lowercase());
    let readable = words.next().is_none()
        && matches!(direction.as_str(), "asc" | "desc")
        && field.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.".contains(letter));
    let refused = |expected: String| Err(FieldProblem::new("orderBy", asked, expected));
    let own = plan.own_order();
    match (&plan.resource().order, own) {
        (Some(_), _) if !readable => refused("a field, and asc or desc after it".into()),
        (Some(order), _) => {
            let template = if direction == "asc" { &order.asc } else { &order.desc };
            let lookup = |name: &str| (name == "field").then(|| Filling::Text(field.to_owned()));
            let text = template.text(&Values { lookup: &lookup, zone: &Zone::GMT });
            Ok(text.map(|text| (order.param.clone(), text)))
        }
        (None, Some(own)) if own == format!("{field} {direction}") => Ok(None),
        (None, Some(own)) => refused(format!("{own}, or nothing: the vendor's pages come in that order only")),
        (None, None) => refused("nothing: lists come in the vendor's order".into()),
    }
}

/// Whether a path names a list of the element.
fn names_a_list(element: &Element, path: &str) -> bool {
    let asked: Vec<&str> = path.split('/').collect();
    let fits = |known: &String| {
        let parts: Vec<&str> = known.split('/').collect();
        parts.len() == asked.len()
            && parts
                .iter()
                .zip(&asked)
                .all(|(part, asked)| part == asked || (part.starts_with('{') && !asked.is_empty()))
    };
    element.resources.iter().any(|resource| {
        resource.hub_paths.iter().any(fits)
            || resource.name == path
            || resource.aliases.iter().any(|alias| alias == path)
    })
}

fn token(text: &str) -> Option<Token> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

impl Token {
    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("two texts have a JSON form"))
    }
}

impl HubList {
    /// The plan, whose partitions [`HubList::begin`] wants.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The listing of the page that is asked for. `partitions` are all of the plan's, or one empty text.
    ///
    /// # Errors
    /// A token that does not fit.
    pub fn begin(&self, partitions: &[String], now: DateTime<Utc>) -> Result<Listing, FieldProblem> {
        let refused = || FieldProblem::new("nextPage", "a token", "elements-next-page-token of the page before");
        let (partition, at) = match &self.next_page {
            Some(token) => (token.partition.as_str(), token.at.as_deref()),
            None => (partitions.first().map_or("", String::as_str), None),
        };
        if self.next_page.is_some() && !partitions.iter().any(|known| known == partition) {
            return Err(refused());
        }
        let mut listing = Listing::from_place(&self.plan, at, partition, now).ok_or_else(refused)?;
        listing.ask_also(self.order.clone());
        Ok(listing)
    }

    /// The next request.
    ///
    /// # Errors
    /// A value that the request lacks.
    pub fn request(&self, listing: &Listing, caller: &CallContext<'_>) -> Result<Request<Bytes>, FieldProblem> {
        let request = listing.request(&self.plan, caller)?;
        let first = Listing::from_place(&self.plan, None, listing.partition(), DateTime::UNIX_EPOCH);
        let list = first.map(|first| first.request(&self.plan, caller)).transpose()?;
        // A token may hold the vendor's own link: it must lead to this list, whoever wrote it.
        if list.is_some_and(|list| list.uri().path() != request.uri().path()) {
            return Err(FieldProblem::new(
                "nextPage",
                request.uri().path(),
                "elements-next-page-token of the page before",
            ));
        }
        Ok(request)
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// What the answer means instead, as [`Listing::read`] has it.
    pub fn read(
        &self,
        listing: &mut Listing,
        caller: &CallContext<'_>,
        partitions: &[String],
        response: &Response<Bytes>,
    ) -> Result<HubPage, Fault> {
        let page = listing.read(&self.plan, caller, response)?;
        let here = listing.partition();
        let next = match listing.place() {
            Some(at) => Some(Token { partition: here.to_owned(), at: Some(at) }),
            None => partitions
                .iter()
                .skip_while(|partition| *partition != here)
                .nth(1)
                .map(|partition| Token { partition: partition.clone(), at: None }),
        };
        let records = page.records.iter().filter_map(|record| shape(record, &self.fields)).collect();
        Ok(HubPage { records, next_page: next.map(|token| token.text()), total: page.reported_total })
    }
}

impl HubOne {
    /// The plan, whose partitions say where the record may be.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The request.
    ///
    /// # Errors
    /// A resource that cannot be read by id.
    pub fn request(&self, caller: &CallContext<'_>, partition: &str) -> Result<Request<Bytes>, FieldProblem> {
        single::get_request(&self.plan, caller, &self.id, partition)
    }

    /// The record; `None` when there is none.
    ///
    /// # Errors
    /// What the answer means instead.
    pub fn read(
        &self,
        caller: &CallContext<'_>,
        partition: &str,
        response: &Response<Bytes>,
    ) -> Result<Option<Value>, Fault> {
        let record = single::got(&self.plan, caller, partition, response)?;
        Ok(record.and_then(|record| shape(&record, &self.fields)))
    }
}

/// The record, with the asked fields only.
fn shape(record: &Record, fields: &[Pointer]) -> Option<Value> {
    let whole: Value = serde_json::from_slice(&record.raw).ok()?;
    if fields.is_empty() {
        return Some(whole);
    }
    let mut part = Value::Object(Map::new());
    for field in fields {
        if let Some(value) = field.all(&whole).first() {
            field.put(&mut part, (*value).clone());
        }
    }
    Some(part)
}
