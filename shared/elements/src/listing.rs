//! One pass over a listing: the next request, what its answer holds, and where the vendor's cursor is at the end.
//!
//! A listing is a value. Saved between two pages and resumed elsewhere it goes on as if nothing had happened. Its cursor
//! comes from the vendor's values and tokens, never from a clock, and is given out only when the last page was read.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::ceql::Expression;
use domain::poll_url::MacroTimes;
use domain::problem::FieldProblem;
use domain::record::Record;
use domain::zone::Zone;
use http::header::LINK;
use http::{HeaderMap, Request, Response};
use serde::{Deserialize, Serialize};

use crate::call::{CallContext, Extras};
use crate::date::StampReader;
use crate::definition::{ChangeDetection, Method, Paging, Target, Ties};
use crate::fault::{self, Fault, not_json, server_date, text_of};
use crate::plan::Plan;
use crate::pointer::{Found, Pointer};
use crate::reader::{Place, Row};
use crate::template::Filling;

pub use crate::reader::RecordProblem;

/// How often a pass may start anew before it is put off.
const MOST_RESTARTS: u32 = 3;
/// Fewest records that a page is shrunk to.
const SMALLEST_PAGE: u32 = 1;
/// Most records that a page grows to when all of them share one stamp.
const LARGEST_PAGE: u32 = 1 << 17;

/// A stamp further ahead of our clock is no wrong time zone.
const LARGEST_SKEW: TimeDelta = TimeDelta::hours(26);

/// Where the last finished pass of a partition ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cursor {
    /// There was none.
    #[default]
    Start,
    /// The largest stamp the vendor has shown. 1970 when it has shown none.
    Watermark(DateTime<Utc>),
    /// The vendor's own.
    Token(String),
}

/// What a pass reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScanMode {
    /// Everything there is.
    Complete,
    /// What changed since the cursor.
    Changes,
}

/// A pass under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    #[serde(rename = "pass")]
    mode: ScanMode,
    partition: String,
    from: Cursor,
    lower: Option<DateTime<Utc>>,
    upper: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    page_size: u32,
    /// Most records to ask for: a page of more was too much for the vendor.
    most: u32,
    position: Position,
    newest: Option<DateTime<Utc>>,
    /// The vendor's clock at the first page: no stamp beyond it is believed.
    #[serde(default)]
    asked_at: Option<DateTime<Utc>>,
    token: Option<String>,
    zone: Option<String>,
    first_total: Option<u64>,
    last_total: Option<u64>,
    unnamed: bool,
    restarts: u32,
    query: Vec<(String, String)>,
    body: Vec<(Pointer, serde_json::Value)>,
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Position {
    First,
    Token(String),
    Offset(u64),
    Url(String),
    /// From a stamp on, `offset` records into it; the ids are those of this stamp that were already given out.
    Keyset {
        from: Option<DateTime<Utc>>,
        offset: u64,
        given: BTreeSet<String>,
    },
    End,
}

/// What a page holds.
#[derive(Debug, Default)]
pub struct RecordPage {
    /// Its records.
    pub records: Vec<Record>,
    /// What could not be read.
    pub problems: Vec<RecordProblem>,
    /// The largest stamp of this page.
    pub newest: Option<DateTime<Utc>>,
    /// It was the last one.
    pub done: bool,
    /// When the vendor's clock says it answered.
    pub server_date: Option<DateTime<Utc>>,
    /// How many records there are in all, where the vendor says so.
    pub reported_total: Option<u64>,
}

/// What a pass came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Where the next pass goes on. The old one, when the pass is not at its end.
    pub cursor: Cursor,
    /// Every page of a complete pass arrived: what it lacks is gone, subject to confirmation.
    pub complete: bool,
}

impl Listing {
    /// Begins a pass. `lower` is the cursor less the overlap, and is what macros of the URL stand for; `now` is for
    /// upper bounds that the configuration asks for and nothing else.
    pub fn start(
        plan: &Plan,
        mode: ScanMode,
        cursor: &Cursor,
        lower: Option<DateTime<Utc>>,
        partition: &str,
        now: DateTime<Utc>,
    ) -> Self {
        let mode =
            if matches!(plan.resource().change, ChangeDetection::FullScanHash) { ScanMode::Complete } else { mode };
        let lower = if mode == ScanMode::Complete { None } else { lower };
        let mut listing = Self {
            mode,
            partition: partition.to_owned(),
            from: cursor.clone(),
            lower,
            upper: None,
            now,
            page_size: plan.page_size,
            most: LARGEST_PAGE,
            position: Position::First,
            newest: None,
            asked_at: None,
            token: None,
            zone: None,
            first_total: None,
            last_total: None,
            unnamed: false,
            restarts: 0,
            query: Vec::new(),
            body: Vec::new(),
        };
        listing.take_conditions(plan);
        listing.position = listing.beginning(plan);
        listing
    }

    /// The listing as text, for [`Listing::resume`].
    pub fn save(&self) -> String {
        serde_json::to_string(self).expect("texts, numbers and dates have a JSON form")
    }

    /// The listing that [`Listing::save`] wrote; `None` when the text is of another version.
    pub fn resume(saved: &str) -> Option<Listing> {
        serde_json::from_str(saved).ok()
    }

    /// Everything that meets the configured conditions, from `at` on: a token of [`Listing::place`].
    pub(crate) fn from_place(plan: &Plan, at: Option<&str>, partition: &str, now: DateTime<Utc>) -> Option<Self> {
        let mut listing = Self::start(plan, ScanMode::Complete, &Cursor::Start, None, partition, now);
        if let Some(at) = at {
            listing.position = serde_json::from_str(at).ok().filter(|position| *position != Position::End)?;
        }
        Some(listing)
    }

    /// Adds a parameter to every request.
    pub(crate) fn ask_also(&mut self, parameter: Option<(String, String)>) {
        self.query.extend(parameter);
    }

    /// Where the next page begins, as text; `None` at the end.
    pub(crate) fn place(&self) -> Option<String> {
        if self.position == Position::End { None } else { serde_json::to_string(&self.position).ok() }
    }

    /// What the pass reads: a complete one where the vendor offers nothing else.
    pub fn mode(&self) -> ScanMode {
        self.mode
    }

    /// The partition it lists.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    fn beginning(&self, plan: &Plan) -> Position {
        match &plan.resource().page {
            Paging::Keyset { .. } => Position::Keyset { from: self.lower, offset: 0, given: BTreeSet::new() },
            Paging::OffsetTotal { .. } => Position::Offset(0),
            _ => Position::First,
        }
    }

    /// Puts the conditions of the configured URL where the element says that they belong.
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
        let of_query = expanded
            .query
            .iter()
            .map(|(name, text)| (name.as_str(), None, text.clone(), serde_json::Value::from(text.clone())));
        for (attribute, operator, text, json) in of_clause.chain(of_query) {
            let condition = plan
                .conditions
                .iter()
                .find(|condition| condition.attribute == attribute && condition.operator == operator);
            match condition.map(|condition| &condition.target) {
                Some(Target::Watermark) if !dynamic.contains(attribute) => {
                    // A fixed date: nothing older is ever wanted.
                    let floor = reader.read_text(&text, &zone);
                    if self.mode == ScanMode::Changes || floor.is_some() {
                        self.lower = self.lower.max(floor);
                    }
                }
                Some(Target::Upper) => self.upper = reader.read_text(&text, &zone),
                Some(Target::Query(name)) => self.query.push((name.clone(), text)),
                Some(Target::Body(pointer)) => self.body.push((pointer.clone(), json)),
                Some(Target::Watermark) | None => {}
            }
        }
    }

    /// The next request.
    ///
    /// # Errors
    /// A value that the request lacks, or a next link that leads away.
    pub fn request(&self, plan: &Plan, caller: &CallContext<'_>) -> Result<Request<Bytes>, FieldProblem> {
        let resource = plan.resource();
        if let (Position::First, ChangeDetection::HistoryId { start, .. }) = (&self.position, &resource.change)
            && self.asks_where()
        {
            return caller.build(start, &|_| None, &Zone::GMT, &Extras::default());
        }
        if let Position::Url(link) = &self.position {
            let url = caller.next_link(resource.list.base.as_deref(), link)?;
            return caller.request(Method::Get, &url, None);
        }
        let (lower, offset) = match &self.position {
            Position::Keyset { from, offset, .. } => (*from, Some(*offset)),
            Position::Offset(offset) => (self.lower, Some(*offset)),
            _ => (self.lower, None),
        };
        let lower = match &resource.change {
            ChangeDetection::Filter { exclusive: Some(grain), .. } => {
                lower.map(|lower| lower - TimeDelta::from_std(grain.0).unwrap_or_default())
            }
            _ => lower,
        };
        let own = |name: &str| match name {
            "partition" => Some(Filling::Text(self.partition.clone())),
            "page_size" => Some(Filling::Number(u64::from(self.page_size))),
            "offset" => offset.filter(|offset| *offset > 0).map(Filling::Number),
            "page_token" => match &self.position {
                Position::Token(token) => Some(Filling::Text(token.clone())),
                _ => None,
            },
            "watermark" => lower.map(Filling::Time),
            "upper" => self.upper.map(Filling::Time),
            "now" => Some(Filling::Time(self.now)),
            "sync_token" => match (&self.from, self.mode) {
                (Cursor::Token(token), ScanMode::Changes) => Some(Filling::Text(token.clone())),
                _ => None,
            },
            _ => None,
        };
        let zone = plan.zone(caller.connection, self.zone.as_deref());
        caller.build(&resource.list, &own, &zone, &Extras { query: self.query.clone(), body: self.body.clone() })
    }

    /// Whether the only thing to ask is where the history is now.
    fn asks_where(&self) -> bool {
        self.mode == ScanMode::Complete || !matches!(self.from, Cursor::Token(_))
    }

    /// Reads the answer to [`Listing::request`] and goes on to the next page.
    ///
    /// # Errors
    /// What the answer means instead. After [`Fault::ShrinkPage`] and [`Fault::RestartScan`] the listing is ready for
    /// another request; after any other it stands where it stood.
    pub fn read(
        &mut self,
        plan: &Plan,
        caller: &CallContext<'_>,
        response: &Response<Bytes>,
    ) -> Result<RecordPage, Fault> {
        let resource = plan.resource();
        match fault::classify(caller, &resource.errors, response) {
            None => {}
            Some(Fault::ShrinkPage) if self.page_size <= SMALLEST_PAGE => {
                return Err(Fault::retry("the vendor cannot even list one record"));
            }
            Some(Fault::ShrinkPage) => {
                self.most = self.page_size - 1;
                self.page_size = (self.page_size / 2).max(SMALLEST_PAGE);
                return Err(Fault::ShrinkPage);
            }
            Some(Fault::RestartScan { reason }) => return Err(self.restart(plan, reason)),
            Some(fault) => return Err(fault),
        }
        let body = response.body();
        let text = text_of(body)?;
        let mut page = RecordPage { server_date: server_date(response.headers()), ..RecordPage::default() };
        self.asked_at = self.asked_at.or(page.server_date);
        if let (Position::First, ChangeDetection::HistoryId { start_from, .. }) = (&self.position, &resource.change)
            && self.asks_where()
        {
            let tree: serde_json::Value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
            let number = start_from.all(&tree).first().map(|value| crate::template::plain_text(value));
            self.token = Some(number.ok_or_else(|| Fault::retry("the answer does not say where the history is"))?);
            self.position = Position::End;
            page.done = true;
            return Ok(page);
        }
        let reader = &plan.page;
        let found = reader.wanted.find(text).map_err(|error| not_json(text, &error))?;
        let empty = Vec::new();
        let each = match &found.each {
            Some(each) => each,
            None if resource.records.missing_ok => &empty,
            None => {
                let what = format!("the answer has no list at `{}`", resource.records.pointer);
                return Err(Fault::retry(what));
            }
        };
        // An error in the clothes of a page would end the listing, and what it did not list would count as read.
        if each.is_empty() && fault::told(&plan.element, response).is_some() {
            return Err(Fault::retry(fault::reason(&plan.element, response, &|text| caller.hide(text))));
        }
        let told = reader.zones.iter().find_map(|slot| found.text(*slot));
        let before = plan.zone(caller.connection, self.zone.as_deref());
        if let (Some(told), None) = (told, &self.zone) {
            self.zone = Some(told.into_owned());
            if self.lower.is_some() && plan.zone(caller.connection, self.zone.as_deref()) != before {
                // The bound was written for another wall clock than the vendor's: ask again.
                self.position = self.beginning(plan);
                return Ok(page);
            }
        }
        let zone = plan.zone(caller.connection, self.zone.as_deref());
        let place = Place { partition: plan.identity(&self.partition), zone: &zone };
        let read = plan.records.read_all(body, each, &place);
        page.problems = read.problems;
        self.unnamed |= read.unnamed;
        page.newest = self.believed(read.rows.iter().filter_map(|row| row.stamp));
        page.reported_total = reader.total.and_then(|slot| found.text(slot)?.parse().ok());
        if let Some(token) = reader.token.and_then(|slot| found.text(slot)) {
            self.token = Some(token.into_owned());
        }
        self.newest = self.newest.max(page.newest);
        let count = each.len();
        page.records = self.advance(plan, &found, response.headers(), count, read.rows, page.reported_total)?;
        page.done = self.position == Position::End;
        Ok(page)
    }

    /// Starts the pass anew from the same bound.
    fn restart(&mut self, plan: &Plan, reason: String) -> Fault {
        self.restarts += 1;
        self.position = self.beginning(plan);
        match self.restarts > MOST_RESTARTS {
            true => Fault::retry(format!("the listing had to start anew too often: {reason}")),
            false => Fault::RestartScan { reason },
        }
    }

    /// Decides where the next page begins, and which rows of this one are new in the pass.
    fn advance(
        &mut self,
        plan: &Plan,
        found: &Found<'_>,
        headers: &HeaderMap,
        count: usize,
        mut rows: Vec<Row>,
        total: Option<u64>,
    ) -> Result<Vec<Record>, Fault> {
        let resource = plan.resource();
        let next = || plan.page.next.and_then(|slot| found.text(slot)).filter(|text| !text.is_empty());
        let after = |new: Position, old: &Position| match new == *old && new != Position::End {
            true => Err(Fault::retry("the vendor's next page is this page")),
            false => Ok(new),
        };
        let position = match &resource.page {
            Paging::None => Position::End,
            Paging::Token { .. } => {
                after(next().map_or(Position::End, |token| Position::Token(token.into_owned())), &self.position)?
            }
            Paging::NextUrl { .. } => {
                after(next().map_or(Position::End, |link| Position::Url(link.into_owned())), &self.position)?
            }
            Paging::LinkHeader { .. } => {
                after(next_of_link(headers).map_or(Position::End, Position::Url), &self.position)?
            }
            Paging::OffsetTotal { step_back, .. } => {
                let offset = if let Position::Offset(offset) = self.position { offset } else { 0 };
                self.first_total = self.first_total.or(total);
                self.last_total = total;
                let reached = offset + count as u64;
                let ended = match total {
                    Some(total) => reached >= total || count == 0,
                    None => count < self.page_size as usize,
                };
                // A step back that is no step forward would never end.
                let back = u64::from(*step_back).min((count as u64).saturating_sub(1));
                if ended { Position::End } else { Position::Offset(reached - back) }
            }
            Paging::Keyset { more, ties, grain, .. } => {
                let Position::Keyset { from, offset, given } = &self.position else {
                    return Err(Fault::retry("the listing lost its place"));
                };
                let last = rows.iter().rev().find_map(|row| row.stamp);
                let grain = grain.map_or(TimeDelta::zero(), |span| TimeDelta::from_std(span.0).unwrap_or_default());
                let boundary = last.map(|last| cut(last, grain));
                let moved = boundary.is_some() && boundary > *from;
                // A short page is not taken for the last one: the vendor may cap pages below what was asked for. The last
                // one is that which has nothing new, or has one stamp only and is not full.
                let ended = match more {
                    Some(_) => next().is_none() || count == 0,
                    None => !moved && count < self.page_size as usize,
                };
                let following = match (ended, moved) {
                    (true, _) => Position::End,
                    (false, true) => Position::Keyset {
                        from: boundary,
                        offset: 0,
                        given: rows
                            .iter()
                            .filter(|row| row.stamp >= boundary)
                            .map(|row| row.record.id.clone())
                            .collect(),
                    },
                    (false, false) if *ties == Ties::Offset => {
                        Position::Keyset { from: *from, offset: offset + count as u64, given: given.clone() }
                    }
                    (false, false) if self.page_size >= self.most => {
                        let reason = format!("more than {} records share one stamp", self.most);
                        return Err(Fault::ConfigError { reason });
                    }
                    (false, false) => {
                        self.page_size = self.page_size.saturating_mul(2).min(self.most);
                        Position::Keyset {
                            from: *from,
                            offset: 0,
                            given: given.iter().cloned().chain(rows.iter().map(|row| row.record.id.clone())).collect(),
                        }
                    }
                };
                let (from, given) = (*from, given.clone());
                rows.retain(|row| row.stamp.map(|stamp| cut(stamp, grain)) != from || !given.contains(&row.record.id));
                following
            }
        };
        self.position = position;
        if let (ChangeDetection::ScanDesc { .. }, Some(lower)) = (&resource.change, self.lower) {
            let last = rows.iter().rev().find_map(|row| row.stamp);
            if last.is_some_and(|last| last < lower) {
                self.position = Position::End;
            }
            rows.retain(|row| row.stamp.is_none_or(|stamp| stamp >= lower));
        }
        Ok(rows.into_iter().map(|row| row.record).collect())
    }

    /// The newest of some stamps that a cursor may follow. A record dated ahead of the vendor's own clock must not hide
    /// what is dated before it; where the vendor does not tell the time, a wrong zone explains a day, and no more.
    fn believed(&self, stamps: impl Iterator<Item = DateTime<Utc>>) -> Option<DateTime<Utc>> {
        match self.asked_at {
            Some(asked) => stamps.max().map(|newest| newest.min(asked)),
            None => stamps.filter(|stamp| *stamp <= self.now + LARGEST_SKEW).max(),
        }
    }

    /// What the pass came to.
    pub fn finish(&self, plan: &Plan) -> Finished {
        if self.position != Position::End {
            return Finished { cursor: self.from.clone(), complete: false };
        }
        let change = &plan.resource().change;
        let cursor = match (change, &self.token) {
            (ChangeDetection::SyncToken { .. } | ChangeDetection::HistoryId { .. }, Some(token)) => {
                Cursor::Token(token.clone())
            }
            (ChangeDetection::SyncToken { .. } | ChangeDetection::HistoryId { .. }, None) => self.from.clone(),
            _ => {
                let before = if let Cursor::Watermark(before) = self.from { Some(before) } else { None };
                // With nothing seen, everything from now on is new, whatever the vendor's clock says.
                Cursor::Watermark(before.max(self.newest).unwrap_or(DateTime::UNIX_EPOCH))
            }
        };
        let shrank = self.first_total > self.last_total;
        let complete = self.mode == ScanMode::Complete
            && !matches!(change, ChangeDetection::HistoryId { .. })
            && !self.unnamed
            && !shrank
            && self.lower.is_none();
        Finished { cursor, complete }
    }
}

/// The instant without what is finer than the grain.
fn cut(instant: DateTime<Utc>, grain: TimeDelta) -> DateTime<Utc> {
    use chrono::DurationRound;
    if grain.is_zero() { instant } else { instant.duration_trunc(grain).unwrap_or(instant) }
}

/// The `rel=next` URL of RFC 8288.
fn next_of_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).find_map(
        |link| {
            let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let next = parameters.split(';').any(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or_default();
                let words = value.trim().trim_matches(['"', '\'']);
                name.trim().eq_ignore_ascii_case("rel")
                    && words.split(' ').any(|word| word.eq_ignore_ascii_case("next"))
            });
            next.then(|| url.to_owned())
        },
    )
}
