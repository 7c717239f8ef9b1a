//! One scan of a listing: its requests, the records on its pages, and the vendor's cursor at its end.
//!
//! A listing is a value. It can be saved between two pages and resumed elsewhere. Its cursor comes from the vendor's
//! values and tokens, never from a clock, and is returned only after the last page was read.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::ceql::Expression;
use domain::poll_url::MacroTimes;
use domain::problem::FieldProblem;
use domain::record::Record;
use domain::zone::Zone;
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::call::{CallContext, Extras};
use crate::date::StampReader;
use crate::definition::{Call, ChangeDetection, ConditionTarget, Method};
use crate::fault::{self, Fault, not_json, server_date, text_of};
use crate::paging::{PageRead, Position};
use crate::plan::Plan;
use crate::pointer::{Found, Pointer};
use crate::reader::{Origin, Row};
use crate::template::{Filling, plain_text};

pub use crate::reader::RecordProblem;

/// A scan that had to start again more often than this is put off.
const MOST_RESTARTS: u32 = 3;
/// The smallest page size to which a page is shrunk.
const SMALLEST_PAGE: u32 = 1;
/// The largest page size to which a page grows when all its records have one timestamp.
const LARGEST_PAGE: u32 = 1 << 17;
/// A timestamp further ahead of our clock than this is no wrong time zone.
const LARGEST_SKEW: TimeDelta = TimeDelta::hours(26);

/// The position of a resource's partition after its last finished scan.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// There was no scan.
    #[default]
    Start,
    /// The largest timestamp that the vendor has shown; 1970 if it has shown none.
    Watermark(DateTime<Utc>),
    /// The vendor's own cursor.
    Token(String),
}

/// The extent of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanMode {
    /// All records.
    Complete,
    /// The records that changed since the cursor.
    Changes,
}

/// A scan under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    #[serde(rename = "pass")]
    mode: ScanMode,
    partition: String,
    /// The cursor at which the scan began.
    #[serde(rename = "from")]
    cursor: Cursor,
    lower: Option<DateTime<Utc>>,
    upper: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    page_size: u32,
    /// Most records to ask for: a larger page was too much for the vendor.
    #[serde(rename = "most")]
    largest_page: u32,
    position: Position,
    newest: Option<DateTime<Utc>>,
    /// The vendor's clock at the first page: no later timestamp is believed.
    #[serde(default)]
    asked_at: Option<DateTime<Utc>>,
    /// The vendor's cursor for the next scan.
    token: Option<String>,
    /// The zone that a page reported.
    zone: Option<String>,
    first_total: Option<u64>,
    last_total: Option<u64>,
    /// A record without an id was left out.
    #[serde(rename = "unnamed")]
    lacks_ids: bool,
    restarts: u32,
    query: Vec<(String, String)>,
    body: Vec<(Pointer, Value)>,
}

/// The contents of a page.
#[derive(Debug, Default)]
pub struct RecordPage {
    /// The records.
    pub records: Vec<Record>,
    /// The values that could not be read.
    pub problems: Vec<RecordProblem>,
    /// The largest timestamp on this page.
    pub newest: Option<DateTime<Utc>>,
    /// This is the last page.
    pub done: bool,
    /// The time of the answer by the vendor's clock.
    pub server_date: Option<DateTime<Utc>>,
    /// The number of records in all, if the vendor names it.
    pub reported_total: Option<u64>,
}

/// The result of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The cursor for the next scan. The old one if the scan is not at its end.
    pub cursor: Cursor,
    /// Every page of a complete scan arrived: a record that it lacks is deleted, subject to confirmation.
    pub complete: bool,
}

impl Listing {
    /// Starts a scan. `lower` is the cursor less the overlap, and the value of the URL's macros. `now` is used only for
    /// upper bounds that the configuration asks for.
    pub fn start(
        plan: &Plan,
        mode: ScanMode,
        cursor: &Cursor,
        lower: Option<DateTime<Utc>>,
        partition: &str,
        now: DateTime<Utc>,
    ) -> Self {
        let mode = match plan.resource().change {
            ChangeDetection::FullScanHash => ScanMode::Complete,
            _ => mode,
        };
        let mut listing = Self {
            mode,
            partition: partition.to_owned(),
            cursor: cursor.clone(),
            lower: lower.filter(|_| mode == ScanMode::Changes),
            upper: None,
            now,
            page_size: plan.page_size,
            largest_page: LARGEST_PAGE,
            position: Position::First,
            newest: None,
            asked_at: None,
            token: None,
            zone: None,
            first_total: None,
            last_total: None,
            lacks_ids: false,
            restarts: 0,
            query: Vec::new(),
            body: Vec::new(),
        };
        listing.take_conditions(plan);
        listing.position = listing.first_position(plan);
        listing
    }

    /// Returns the listing as text, for [`Listing::resume`].
    pub fn save(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and dates have a JSON form")
    }

    /// Reads the text of [`Listing::save`]; `None` if the text is of another version.
    pub fn resume(saved: &str) -> Option<Listing> {
        serde_json::from_str(saved).ok()
    }

    /// Lists all records that meet the configured conditions, from `at` on: a text of [`Listing::place`].
    pub(crate) fn from_place(plan: &Plan, at: Option<&str>, partition: &str, now: DateTime<Utc>) -> Option<Self> {
        let mut listing = Self::start(plan, ScanMode::Complete, &Cursor::Start, None, partition, now);
        if let Some(at) = at {
            listing.position = serde_json::from_str(at).ok().filter(|position| *position != Position::End)?;
        }
        Some(listing)
    }

    /// Adds a parameter to every request.
    pub(crate) fn add_parameter(&mut self, parameter: Option<(String, String)>) {
        self.query.extend(parameter);
    }

    /// Returns the position of the next page as text; `None` at the end.
    pub(crate) fn place(&self) -> Option<String> {
        if self.position == Position::End { None } else { serde_json::to_string(&self.position).ok() }
    }

    /// Returns the extent of the scan. It is complete if the vendor offers nothing else.
    pub fn mode(&self) -> ScanMode {
        self.mode
    }

    /// Returns the partition that is listed.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    fn first_position(&self, plan: &Plan) -> Position {
        plan.resource().page.pager().map_or(Position::First, |pager| pager.first(self.lower))
    }

    /// Moves the conditions of the configured URL to their targets in the request.
    fn take_conditions(&mut self, plan: &Plan) {
        let Some(url) = &plan.url else { return };
        let expanded = url.expand(&MacroTimes { since: self.lower, now: self.now });
        let zone = Zone::GMT;
        let reader = StampReader { styles: plan.resource().time.parse.clone(), invalid: Vec::new() };
        let dynamic: BTreeSet<&str> = url
            .where_clause()
            .map(Expression::comparisons)
            .unwrap_or_default()
            .into_iter()
            .filter(|comparison| comparison.values.iter().any(|value| value.text().uses_since()))
            .map(|comparison| comparison.attribute.as_str())
            .collect();
        let comparisons = expanded.filter.as_ref().map(Expression::comparisons).unwrap_or_default();
        let of_clause = comparisons.iter().filter_map(|comparison| {
            let value = comparison.values.first()?;
            let json = value.to_json();
            Some((comparison.attribute.as_str(), Some(comparison.operator), value.text().clone(), json))
        });
        let of_query =
            expanded.query.iter().map(|(name, text)| (name.as_str(), None, text.clone(), Value::from(text.clone())));
        for (attribute, operator, text, json) in of_clause.chain(of_query) {
            let condition = plan
                .conditions
                .iter()
                .find(|condition| condition.attribute == attribute && condition.operator == operator);
            match condition.map(|condition| &condition.target) {
                Some(ConditionTarget::Watermark) if !dynamic.contains(attribute) => {
                    // A fixed date: older records are never wanted.
                    let floor = reader.read_text(&text, &zone);
                    if self.mode == ScanMode::Changes || floor.is_some() {
                        self.lower = self.lower.max(floor);
                    }
                }
                Some(ConditionTarget::Upper) => self.upper = reader.read_text(&text, &zone),
                Some(ConditionTarget::Query(name)) => self.query.push((name.clone(), text)),
                Some(ConditionTarget::Body(pointer)) => self.body.push((pointer.clone(), json)),
                Some(ConditionTarget::Watermark) | None => {}
            }
        }
    }

    /// Builds the next request.
    ///
    /// # Errors
    /// A value that the request lacks, or a next link that leads to another host.
    pub fn request(&self, plan: &Plan, context: &CallContext<'_>) -> Result<Request<Bytes>, FieldProblem> {
        let resource = plan.resource();
        if let Some(history) = self.history_to_start(plan) {
            return context.build(history.call, &|_| None, &Zone::GMT, &Extras::default());
        }
        if let Position::Url(link) = &self.position {
            let url = context.next_link(resource.list.base.as_deref(), link)?;
            return context.request(Method::Get, &url, None);
        }
        let values = |name: &str| self.placeholder(plan, name);
        let zone = plan.zone(context.connection, self.zone.as_deref());
        let extras = Extras { query: self.query.clone(), body: self.body.clone() };
        context.build(&resource.list, &values, &zone, &extras)
    }

    /// The value of a placeholder of the `list` call.
    fn placeholder(&self, plan: &Plan, name: &str) -> Option<Filling> {
        match name {
            "partition" => Some(Filling::Text(self.partition.clone())),
            "page_size" => Some(Filling::Number(u64::from(self.page_size))),
            "offset" => match self.position {
                Position::Keyset { offset, .. } | Position::Offset(offset) if offset > 0 => {
                    Some(Filling::Number(offset))
                }
                _ => None,
            },
            "page_token" => match &self.position {
                Position::Token(token) => Some(Filling::Text(token.clone())),
                _ => None,
            },
            "watermark" => self.lower_bound(plan).map(Filling::Time),
            "upper" => self.upper.map(Filling::Time),
            "now" => Some(Filling::Time(self.now)),
            "sync_token" => match (&self.cursor, self.mode) {
                (Cursor::Token(token), ScanMode::Changes) => Some(Filling::Text(token.clone())),
                _ => None,
            },
            _ => None,
        }
    }

    /// The lower bound of the next page.
    fn lower_bound(&self, plan: &Plan) -> Option<DateTime<Utc>> {
        let lower = match self.position {
            Position::Keyset { from, .. } => from,
            _ => self.lower,
        };
        match &plan.resource().change {
            ChangeDetection::Filter { exclusive: Some(grain), .. } => {
                lower.map(|lower| lower - TimeDelta::from_std(grain.0).unwrap_or_default())
            }
            _ => lower,
        }
    }

    /// The call for the current number of a history, if this is all that the scan has to ask.
    fn history_to_start<'p>(&self, plan: &'p Plan) -> Option<HistoryStart<'p>> {
        let ChangeDetection::HistoryId { start, start_from, .. } = &plan.resource().change else { return None };
        let has_cursor = self.mode == ScanMode::Changes && matches!(self.cursor, Cursor::Token(_));
        let needed = self.position == Position::First && !has_cursor;
        needed.then_some(HistoryStart { call: start, number: start_from })
    }

    /// Reads the answer to [`Listing::request`] and moves to the next page.
    ///
    /// # Errors
    /// The fault of the answer. After [`Fault::ShrinkPage`] and [`Fault::RestartScan`] the listing is ready for another
    /// request; after any other fault its position is unchanged.
    pub fn read(
        &mut self,
        plan: &Plan,
        context: &CallContext<'_>,
        response: &Response<Bytes>,
    ) -> Result<RecordPage, Fault> {
        let resource = plan.resource();
        if let Some(fault) = fault::classify(plan.element(), context.mask(), &resource.errors, response) {
            return Err(self.prepare_retry(plan, fault));
        }
        let body = response.body();
        let text = text_of(body)?;
        let mut page = RecordPage { server_date: server_date(response.headers()), ..RecordPage::default() };
        self.asked_at = self.asked_at.or(page.server_date);
        if let Some(history) = self.history_to_start(plan) {
            self.token = Some(history.read_number(text)?);
            self.position = Position::End;
            page.done = true;
            return Ok(page);
        }
        let fields = &plan.page;
        let found = fields.wanted.find(text).map_err(|error| not_json(text, &error))?;
        let each = records_of(plan, &found)?;
        // An error that looks like an empty page would end the listing, and the records not listed would count as read.
        if each.is_empty() && fault::message(plan.element(), response).is_some() {
            return Err(Fault::retry(fault::reason(plan.element(), context.mask(), response)));
        }
        if self.learn_zone(plan, context, &found) {
            // The bound was written for another wall clock than the vendor's: ask again.
            self.position = self.first_position(plan);
            return Ok(page);
        }
        let zone = plan.zone(context.connection, self.zone.as_deref());
        let origin = Origin { partition: plan.identity(&self.partition), zone: &zone };
        let mut read = plan.records.read_all(body, each, &origin);
        page.problems = read.problems;
        self.lacks_ids |= read.lacks_ids;
        page.newest = self.believed(read.rows.iter().filter_map(|row| row.stamp));
        self.newest = self.newest.max(page.newest);
        page.reported_total = fields.total.and_then(|slot| found.text(slot)?.parse().ok());
        if let Some(token) = fields.token.and_then(|slot| found.text(slot)) {
            self.token = Some(token.into_owned());
        }
        self.first_total = self.first_total.or(page.reported_total);
        self.last_total = page.reported_total;
        let next = fields.next.and_then(|slot| found.text(slot)).filter(|text| !text.is_empty());
        self.position = match resource.page.pager() {
            None => Position::End,
            Some(pager) => pager.next(&mut PageRead {
                position: &self.position,
                next: next.map(|text| text.into_owned()),
                headers: response.headers(),
                count: each.len(),
                total: page.reported_total,
                rows: &mut read.rows,
                page_size: &mut self.page_size,
                largest_page: self.largest_page,
            })?,
        };
        self.stop_at_lower_bound(plan, &mut read.rows);
        page.records = read.rows.into_iter().map(|row| row.record).collect();
        page.done = self.position == Position::End;
        Ok(page)
    }

    /// Makes the listing ready for another request after a fault, if the fault asks for it.
    fn prepare_retry(&mut self, plan: &Plan, fault: Fault) -> Fault {
        match fault {
            Fault::ShrinkPage if self.page_size <= SMALLEST_PAGE => {
                Fault::retry("the vendor cannot even list one record")
            }
            Fault::ShrinkPage => {
                self.largest_page = self.page_size - 1;
                self.page_size = (self.page_size / 2).max(SMALLEST_PAGE);
                Fault::ShrinkPage
            }
            Fault::RestartScan { reason } => {
                self.restarts += 1;
                self.position = self.first_position(plan);
                match self.restarts > MOST_RESTARTS {
                    true => Fault::retry(format!("the listing had to start anew too often: {reason}")),
                    false => Fault::RestartScan { reason },
                }
            }
            fault => fault,
        }
    }

    /// Stores the first zone that a page reports. Returns true if this moves a lower bound that was sent already.
    fn learn_zone(&mut self, plan: &Plan, context: &CallContext<'_>, found: &Found<'_>) -> bool {
        let Some(reported) = plan.page.zones.iter().find_map(|slot| found.text(*slot)) else { return false };
        if self.zone.is_some() {
            return false;
        }
        let before = plan.zone(context.connection, None);
        self.zone = Some(reported.into_owned());
        self.lower.is_some() && plan.zone(context.connection, self.zone.as_deref()) != before
    }

    /// Ends a listing of the newest first at its lower bound, and removes older rows.
    fn stop_at_lower_bound(&mut self, plan: &Plan, rows: &mut Vec<Row>) {
        let (ChangeDetection::ScanDesc { .. }, Some(lower)) = (&plan.resource().change, self.lower) else { return };
        let last = rows.iter().rev().find_map(|row| row.stamp);
        if last.is_some_and(|last| last < lower) {
            self.position = Position::End;
        }
        rows.retain(|row| row.stamp.is_none_or(|stamp| stamp >= lower));
    }

    /// The newest timestamp that a cursor may follow. A record dated ahead of the vendor's own clock must not hide
    /// records dated before it. If the vendor does not send its time, a timestamp may be ahead of our clock by a wrong
    /// zone, but no more.
    fn believed(&self, stamps: impl Iterator<Item = DateTime<Utc>>) -> Option<DateTime<Utc>> {
        match self.asked_at {
            Some(asked) => stamps.max().map(|newest| newest.min(asked)),
            None => stamps.filter(|stamp| *stamp <= self.now + LARGEST_SKEW).max(),
        }
    }

    /// Returns the result of the scan.
    pub fn finish(&self, plan: &Plan) -> Finished {
        if self.position != Position::End {
            return Finished { cursor: self.cursor.clone(), complete: false };
        }
        let change = &plan.resource().change;
        let cursor = match (change, &self.token) {
            (ChangeDetection::SyncToken { .. } | ChangeDetection::HistoryId { .. }, Some(token)) => {
                Cursor::Token(token.clone())
            }
            (ChangeDetection::SyncToken { .. } | ChangeDetection::HistoryId { .. }, None) => self.cursor.clone(),
            _ => {
                let before = if let Cursor::Watermark(before) = self.cursor { Some(before) } else { None };
                // If no record was seen, every later one is new, whatever the vendor's clock says.
                Cursor::Watermark(before.max(self.newest).unwrap_or(DateTime::UNIX_EPOCH))
            }
        };
        let shrank = self.first_total > self.last_total;
        let complete = self.mode == ScanMode::Complete
            && !matches!(change, ChangeDetection::HistoryId { .. })
            && !self.lacks_ids
            && !shrank
            && self.lower.is_none();
        Finished { cursor, complete }
    }
}

/// The call that reads the current number of a history.
struct HistoryStart<'p> {
    call: &'p Call,
    /// The place of the number in the answer.
    number: &'p Pointer,
}

impl HistoryStart<'_> {
    fn read_number(&self, text: &str) -> Result<String, Fault> {
        let tree: Value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
        let number = self.number.all(&tree).first().map(|value| plain_text(value));
        number.ok_or_else(|| Fault::retry("the answer does not say where the history is"))
    }
}

/// The records of a page.
///
/// # Errors
/// The answer has no list of records, and the element does not allow that.
fn records_of<'f, 'a>(plan: &Plan, found: &'f Found<'a>) -> Result<&'f [&'a RawValue], Fault> {
    let records = &plan.resource().records;
    match &found.each {
        Some(each) => Ok(each),
        None if records.missing_ok => Ok(&[]),
        None => Err(Fault::retry(format!("the answer has no list at `{}`", records.pointer))),
    }
}
