//! `GET /hubs/{hub}/{resource}`: reads of the same resources by users.
//!
//! A page of such an answer is a page of the vendor. Its token holds the position of the next page and nothing more: the
//! resource and the conditions are read from each request again, so a forged token gives access to nothing new.

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

/// The read that a user asks for.
#[derive(Debug, Clone)]
pub enum HubPlan {
    /// A page of a list.
    List(HubList),
    /// One record.
    One(HubOne),
}

/// The reason why a read is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HubProblem {
    /// The element has no such resource.
    #[error("{0}")]
    NoSuchResource(FieldProblem),
    /// The vendor has no such query.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<FieldProblem>),
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct HubList {
    plan: Plan,
    fields: Vec<Pointer>,
    order: Option<(String, String)>,
    next_page: Option<PageToken>,
}

/// One record by its id.
#[derive(Debug, Clone)]
pub struct HubOne {
    plan: Plan,
    fields: Vec<Pointer>,
    id: String,
}

/// The position of a next page, as users send it back.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct PageToken {
    partition: String,
    at: Option<String>,
}

/// The contents of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct HubPage {
    /// The records, with the requested fields only.
    pub records: Vec<Value>,
    /// `nextPage` of the next request.
    pub next_page: Option<String>,
    /// The number of records in all, if the vendor names it.
    pub total: Option<u64>,
}

/// The resource and the record that a path names.
struct HubPath<'p> {
    resource: &'p str,
    id: Option<&'p str>,
}

impl<'p> HubPath<'p> {
    fn parse(element: &Element, path: &'p str) -> Result<Self, FieldProblem> {
        let path = path.trim_matches('/');
        if names_a_list(element, path) {
            return Ok(Self { resource: path, id: None });
        }
        match path.rsplit_once('/') {
            Some((resource, id)) if names_a_list(element, resource) => Ok(Self { resource, id: Some(id) }),
            _ => {
                let paths = element.resources.iter().flat_map(|resource| &resource.hub_paths);
                let known: Vec<&str> = paths.map(String::as_str).collect();
                let near = nearest(path, known.iter().copied());
                let near = near.map_or(String::new(), |near| format!("; the nearest is {near}"));
                Err(FieldProblem::new("resource", path, format!("one of {}{near}", known.join(", "))))
            }
        }
    }
}

/// The parameters of a read.
#[derive(Default)]
struct HubQuery<'q> {
    fields: Vec<Pointer>,
    page_size: Option<u32>,
    next_page: Option<PageToken>,
    filter: Option<&'q str>,
    order_by: Option<&'q str>,
    problems: Vec<FieldProblem>,
}

impl<'q> HubQuery<'q> {
    fn parse(query: &'q [(String, String)]) -> Self {
        let mut read = Self::default();
        for (name, value) in query {
            match name.as_str() {
                "fields" => {
                    let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                    read.fields = names.map(Pointer::dotted).collect();
                }
                "pageSize" => match value.parse::<u32>() {
                    Ok(size) if size > 0 => read.page_size = Some(size),
                    _ => read.refuse("pageSize", value, "a whole number from 1"),
                },
                "nextPage" if value.is_empty() => {}
                "nextPage" => match PageToken::parse(value) {
                    Some(token) => read.next_page = Some(token),
                    None => read.refuse("nextPage", value, "elements-next-page-token of the page before"),
                },
                "page" if matches!(value.as_str(), "" | "1") => {}
                "page" => read.refuse("page", value, "1; further pages are asked for by nextPage"),
                "where" if !value.trim().is_empty() => read.filter = Some(value),
                "orderBy" if !value.trim().is_empty() => read.order_by = Some(value.trim()),
                _ => {}
            }
        }
        read
    }

    fn refuse(&mut self, name: &str, value: &str, expected: &str) {
        self.problems.push(FieldProblem::new(name, value, expected));
    }
}

/// Plans the read of a path after `/hubs/{hub}/` (or alone) and its query. Both are decoded already.
///
/// # Errors
/// An unknown resource; a condition or parameter that cannot be carried out.
pub fn plan_hub_get(element: &Arc<Element>, path: &str, query: &[(String, String)]) -> Result<HubPlan, HubProblem> {
    let HubPath { resource, id } = HubPath::parse(element, path).map_err(HubProblem::NoSuchResource)?;
    let mut query = HubQuery::parse(query);
    let mut url = format!("/hubs/{}/{resource}", element.hub);
    if let Some(filter) = query.filter.filter(|_| id.is_none()) {
        url.push_str(&format!("?where={}", utf8_percent_encode(filter, NON_ALPHANUMERIC)));
    }
    let mut entry = ResourceConfiguration { page_size: query.page_size, ..ResourceConfiguration::default() };
    match PollUrl::parse(&url) {
        Ok((url, _)) => entry.url = Some(url),
        Err(problem) => query.refuse("where", query.filter.unwrap_or(resource), &problem.to_string()),
    }
    if !query.problems.is_empty() {
        return Err(HubProblem::Refused(query.problems));
    }
    let plan = Plan::resolve(element, resource, &entry, &Map::new()).map(|(plan, _)| plan);
    let plan = plan.map_err(|problems| {
        let renamed = problems.into_iter().map(|problem| FieldProblem { field: "where".to_owned(), ..problem });
        HubProblem::Refused(renamed.collect())
    })?;
    if let Some(id) = id {
        return Ok(HubPlan::One(HubOne { plan, fields: query.fields, id: id.to_owned() }));
    }
    let order = match query.order_by {
        Some(asked) => order_parameter(&plan, asked).map_err(|problem| HubProblem::Refused(vec![problem]))?,
        None => None,
    };
    Ok(HubPlan::List(HubList { plan, fields: query.fields, order, next_page: query.next_page }))
}

/// The vendor's parameter for an order; `None` if the list comes in this order anyway.
fn order_parameter(plan: &Plan, asked: &str) -> Result<Option<(String, String)>, FieldProblem> {
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

/// Returns true if a path names a list of the element.
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

impl PageToken {
    fn parse(text: &str) -> Option<PageToken> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("two texts have a JSON form"))
    }
}

impl HubList {
    /// Returns the plan, whose partitions [`HubList::begin`] needs.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts the listing at the requested page. `partitions` are all of the plan's, or one empty text.
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
        listing.add_parameter(self.order.clone());
        Ok(listing)
    }

    /// Builds the next request.
    ///
    /// # Errors
    /// A value that the request lacks.
    pub fn request(&self, listing: &Listing, context: &CallContext<'_>) -> Result<Request<Bytes>, FieldProblem> {
        let request = listing.request(&self.plan, context)?;
        let first = Listing::from_place(&self.plan, None, listing.partition(), DateTime::UNIX_EPOCH);
        let list = first.map(|first| first.request(&self.plan, context)).transpose()?;
        // A token may hold the vendor's own link. A user could have changed it, so it must lead to this list.
        if list.is_some_and(|list| list.uri().path() != request.uri().path()) {
            return Err(FieldProblem::new(
                "nextPage",
                request.uri().path(),
                "elements-next-page-token of the page before",
            ));
        }
        Ok(request)
    }

    /// Reads the answer to [`HubList::request`].
    ///
    /// # Errors
    /// The fault of the answer, as [`Listing::read`] returns it.
    pub fn read(
        &self,
        listing: &mut Listing,
        context: &CallContext<'_>,
        partitions: &[String],
        response: &Response<Bytes>,
    ) -> Result<HubPage, Fault> {
        let page = listing.read(&self.plan, context, response)?;
        let here = listing.partition();
        let next = match listing.place() {
            Some(at) => Some(PageToken { partition: here.to_owned(), at: Some(at) }),
            None => partitions
                .iter()
                .skip_while(|partition| *partition != here)
                .nth(1)
                .map(|partition| PageToken { partition: partition.clone(), at: None }),
        };
        let records = page.records.iter().filter_map(|record| shape(record, &self.fields)).collect();
        Ok(HubPage { records, next_page: next.map(|token| token.text()), total: page.reported_total })
    }
}

impl HubOne {
    /// Returns the plan, whose partitions may have the record.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Builds the request.
    ///
    /// # Errors
    /// A resource that cannot be read by id.
    pub fn request(&self, context: &CallContext<'_>, partition: &str) -> Result<Request<Bytes>, FieldProblem> {
        single::get_request(&self.plan, context, &self.id, partition)
    }

    /// Reads the record; `None` if there is none.
    ///
    /// # Errors
    /// The fault of the answer.
    pub fn read(
        &self,
        context: &CallContext<'_>,
        partition: &str,
        response: &Response<Bytes>,
    ) -> Result<Option<Value>, Fault> {
        let record = single::read_record(&self.plan, context, partition, response)?;
        Ok(record.and_then(|record| shape(&record, &self.fields)))
    }
}

/// The record, with the requested fields only.
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
