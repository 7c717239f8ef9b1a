//! The number of events, minute by minute, and the outcome of their deliveries: Cloud Elements' analytics and dispositions.
//!
//! The figures count events, the dispositions notifications. Both are read from the deliveries themselves, which are
//! kept for thirty days, so that no counter has to be kept right beside them.

use std::collections::BTreeMap;
use std::ops::Range;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId};
use domain::problem::FieldProblem;
use flow::accounts::auth::Caller;
use flow::deliver::query::{self, Filter, Found};
use flow::deliver::row::Status;
use flow::ports::Ports;
use serde_json::{Value, json};
use store::Cursor;
use store::records::delivery::DeliveryRow;

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{Authenticated, Query, Target};
use crate::pagination::{self, Paging, Parameters};
use crate::route::{Kind, Operation, Routes, op};
use crate::view::instant;

type Answer = Result<Json<Value>, ApiError>;
type PageAnswer = Result<(HeaderMap, Json<Value>), ApiError>;

/// Most buckets of one answer: a day of minutes, both ends included.
const MOST_BUCKETS: i64 = 1441;

/// Notifications that one call looks through. An answer has to come within seconds.
const MOST_READ: usize = 20_000;

/// Widths of a bucket by their words.
const INTERVALS: [(&str, TimeDelta); 4] = [
    ("minute", TimeDelta::minutes(1)),
    ("hour", TimeDelta::hours(1)),
    ("day", TimeDelta::days(1)),
    ("week", TimeDelta::weeks(1)),
];
const INTERVAL_WORDS: &[&str] = &["minute", "hour", "day", "week"];

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Events";
    Routes::new()
        .get(
            "/instances/events/analytics",
            counts_of_all,
            of_accounts(in_buckets(op(
                "countEvents",
                TAG,
                "Count the events of all instances",
                "One bucket for each interval that the range touches, both ends included: 61 minutes for an hour. \
                 Ranges reach back for as long as events are kept, thirty days. With an instance's token, of that \
                 instance.",
            )))
            .answers("Analytics"),
        )
        .get(
            "/instances/{id}/events/analytics",
            counts,
            in_buckets(op("countEventsOfInstance", TAG, "Count the events of an instance", "As of all instances."))
                .answers("Analytics"),
        )
        .get(
            "/instances/events/analytics/instances",
            counts_by_instance,
            of_accounts(in_buckets(op(
                "countEventsByInstance",
                TAG,
                "Count events instance by instance",
                "With how many the callbacks have (`success`) and how many they refused at the last attempt \
                 (`failed`). Instances without an event in a bucket are left out of it.",
            )))
            .answers("AnalyticsOfInstances"),
        )
        .get(
            "/instances/events/analytics/accounts",
            counts_by_account,
            of_accounts(in_buckets(op(
                "countEventsByAccount",
                TAG,
                "Count events account by account",
                "An account is an organization, and there is one: the caller's.",
            )))
            .answers("AnalyticsOfAccounts"),
        )
        .get(
            "/instances/events/dispositions",
            dispositions_of_all,
            between(op(
                "listDispositions",
                TAG,
                "What became of the events of all instances",
                "A line for each attempt, in words, the youngest notification first. With an instance's token, of that \
                 instance.",
            ))
            .paged()
            .answers("Dispositions"),
        )
        .get(
            "/instances/{id}/events/dispositions",
            dispositions,
            between(op(
                "listDispositionsOfInstance",
                TAG,
                "What became of an instance's events",
                "As of all instances.",
            ))
            .paged()
            .answers("Dispositions"),
        )
}

fn between(operation: Operation) -> Operation {
    operation
        .query("from", Kind::Time, "From then on: RFC 3339, or milliseconds since 1970. An hour before `to`, or for dispositions the oldest kept, where absent.")
        .query("to", Kind::Time, "Until then. Now where absent.")
}

fn in_buckets(operation: Operation) -> Operation {
    between(operation).query("interval", Kind::Word(INTERVAL_WORDS), "How wide a bucket is. At most 1441 are answered.")
}

fn of_accounts(operation: Operation) -> Operation {
    operation
        .query("accountIds[]", Kind::Numbers, "The organization's own number; another's is refused with 403.")
        .or(&[403])
}

// ---------------------------------------------------------------- What is asked for

/// Buckets one after the other: the first begins at or before `from`, the last holds `to`.
#[derive(Debug, Clone, PartialEq)]
struct Buckets {
    width: TimeDelta,
    first: DateTime<Utc>,
    count: i64,
}

impl Buckets {
    fn of(parameters: &Parameters, now: DateTime<Utc>) -> Result<Self, ApiError> {
        let mut problems = Vec::new();
        let mut width = INTERVALS[0].1;
        if let Some(word) = value_of(parameters, "interval") {
            match INTERVALS.iter().find(|(known, _)| *known == word) {
                Some((_, known)) => width = *known,
                None => problems.push(FieldProblem::new("interval", word, "minute, hour, day or week")),
            }
        }
        let range = range_of(parameters, now, &mut problems);
        let from = range.start.unwrap_or(range.end - TimeDelta::hours(1));
        let count = index_of(range.end, width) - index_of(from, width) + 1;
        if problems.is_empty() && count > MOST_BUCKETS {
            let expected = format!("at most {MOST_BUCKETS} buckets: a shorter range or a longer interval");
            problems.push(FieldProblem::new("from", format!("{count} buckets"), expected));
        }
        match problems.is_empty() {
            true => Ok(Self { width, first: start_of(from, width), count }),
            false => Err(ApiError::invalid(problems)),
        }
    }

    fn whole(&self) -> Range<DateTime<Utc>> {
        self.first..self.first + self.width * i32::try_from(self.count).unwrap_or(i32::MAX)
    }

    fn starts(&self) -> impl Iterator<Item = DateTime<Utc>> {
        let (first, width) = (self.first, self.width);
        (0..i32::try_from(self.count).unwrap_or(i32::MAX)).map(move |index| first + width * index)
    }
}

/// The number of the bucket that holds an instant, counted from 1970. Weeks begin on Thursday, as 1970 did.
fn index_of(at: DateTime<Utc>, width: TimeDelta) -> i64 {
    at.timestamp().div_euclid(width.num_seconds())
}

fn start_of(at: DateTime<Utc>, width: TimeDelta) -> DateTime<Utc> {
    DateTime::from_timestamp(index_of(at, width) * width.num_seconds(), 0).unwrap_or(at)
}

/// `from` and `to`, where `to` is now unless given and comes after `from`.
struct Asked {
    start: Option<DateTime<Utc>>,
    end: DateTime<Utc>,
}

fn range_of(parameters: &Parameters, now: DateTime<Utc>, problems: &mut Vec<FieldProblem>) -> Asked {
    let mut time = |name: &str| {
        let text = value_of(parameters, name)?;
        let read = text.parse().ok().or_else(|| DateTime::from_timestamp_millis(text.parse().ok()?));
        // Far years have no place in a key, and no event was emitted in them.
        let read = read.filter(|at: &DateTime<Utc>| (0..=253_402_300_799).contains(&at.timestamp()));
        if read.is_none() {
            let expected = "a time like 2026-01-05T09:00:00Z, or milliseconds since 1970";
            problems.push(FieldProblem::new(name, text, expected));
        }
        read
    };
    let (start, end) = (time("from"), time("to").unwrap_or(now));
    if let Some(start) = start
        && start > end
    {
        problems.push(FieldProblem::new(
            "from",
            instant(start),
            format!("a time before `to`, which is {}", instant(end)),
        ));
    }
    Asked { start, end }
}

fn value_of<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Refuses accounts that are not the caller's.
fn check_accounts(parameters: &Parameters, organization: OrganizationId) -> Result<(), ApiError> {
    let named = parameters.iter().filter(|(name, _)| matches!(name.as_str(), "accountIds[]" | "accountIds"));
    for (name, value) in named {
        let id: u64 = value
            .parse()
            .map_err(|_| ApiError::invalid(vec![FieldProblem::new(name, value, "the number of an organization")]))?;
        if id != organization.0 {
            return Err(ApiError::new(StatusCode::FORBIDDEN, "The account is not the caller's organization."));
        }
    }
    Ok(())
}

// ---------------------------------------------------------------- Counting

/// Every notification of a stretch of time, of one instance or of all, or 400 where they are too many for one call.
async fn notifications_in(
    ports: &Ports,
    organization: OrganizationId,
    only: Option<InstanceId>,
    range: Range<DateTime<Utc>>,
) -> Result<Vec<Found>, ApiError> {
    let filter = Filter { committed: Some(range), ..Filter::default() };
    let page = query::of_organization(ports, organization, &filter, only, MOST_READ, None).await?;
    match page.next {
        None => Ok(page.deliveries),
        Some(_) => {
            let expected = format!("a shorter range: more than {MOST_READ} notifications lie in this one");
            Err(ApiError::invalid(vec![FieldProblem::new("from", "the range", expected)]))
        }
    }
}

/// Events in figures.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Figures {
    count: usize,
    success: usize,
    failed: usize,
}

impl Figures {
    fn add(&mut self, found: &Found) {
        let events = found.row.events.len();
        self.count += events;
        match found.row.status {
            Status::Delivered => self.success += events,
            _ if found.row.attempts_made > 0 => self.failed += events,
            _ => {}
        }
    }

    fn shown(self, of: &str, id: u64) -> Value {
        json!({ of: id, "count": self.count, "success": self.success, "failed": self.failed })
    }
}

/// `[{timestamp, count}]`.
fn counted(buckets: &Buckets, found: &[Found]) -> Json<Value> {
    let mut counts: BTreeMap<DateTime<Utc>, usize> = BTreeMap::new();
    for one in found {
        *counts.entry(start_of(one.row.created_at, buckets.width)).or_default() += one.row.events.len();
    }
    let shown =
        |at: DateTime<Utc>| json!({ "timestamp": instant(at), "count": counts.get(&at).copied().unwrap_or_default() });
    Json(buckets.starts().map(shown).collect())
}

/// `[{timestamp, total, records: […]}]`, one record for each `key` that has events in the bucket.
fn broken_down(buckets: &Buckets, found: &[Found], of: &str, key: fn(&Found) -> u64) -> Json<Value> {
    let mut figures: BTreeMap<DateTime<Utc>, BTreeMap<u64, Figures>> = BTreeMap::new();
    for one in found {
        let bucket = figures.entry(start_of(one.row.created_at, buckets.width)).or_default();
        bucket.entry(key(one)).or_default().add(one);
    }
    let shown = |at: DateTime<Utc>| {
        let records = figures.get(&at);
        json!({
            "timestamp": instant(at),
            "total": records.into_iter().flatten().map(|(_, figures)| figures.count).sum::<usize>(),
            "records": records.into_iter().flatten().map(|(id, figures)| figures.shown(of, *id)).collect::<Vec<_>>(),
        })
    };
    Json(buckets.starts().map(shown).collect())
}

/// Reads the buckets that a call asks for, over all instances that the caller may see.
async fn asked_of_all(
    state: &ApiState,
    caller: &Caller,
    parameters: &Parameters,
) -> Result<(Buckets, Vec<Found>), ApiError> {
    let ports = &state.service.ports;
    check_accounts(parameters, caller.organization)?;
    let buckets = Buckets::of(parameters, ports.now())?;
    let found = notifications_in(ports, caller.organization, caller.instance, buckets.whole()).await?;
    Ok((buckets, found))
}

/// `GET /instances/events/analytics`.
async fn counts_of_all(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> Answer {
    let (buckets, found) = asked_of_all(&state, &caller, &parameters).await?;
    Ok(counted(&buckets, &found))
}

/// `GET /instances/{id}/events/analytics`.
async fn counts(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> Answer {
    let record = target.record(&state).await?;
    let ports = &state.service.ports;
    let buckets = Buckets::of(&parameters, ports.now())?;
    let found = notifications_in(ports, record.organization, Some(record.id), buckets.whole()).await?;
    Ok(counted(&buckets, &found))
}

/// `GET /instances/events/analytics/instances`.
async fn counts_by_instance(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> Answer {
    let (buckets, found) = asked_of_all(&state, &caller, &parameters).await?;
    Ok(broken_down(&buckets, &found, "instanceId", |found| found.row.instance.0))
}

/// `GET /instances/events/analytics/accounts`.
async fn counts_by_account(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> Answer {
    let (buckets, found) = asked_of_all(&state, &caller, &parameters).await?;
    Ok(broken_down(&buckets, &found, "accountId", |found| found.row.organization.0))
}

// ---------------------------------------------------------------- Dispositions

/// `GET /instances/events/dispositions`.
async fn dispositions_of_all(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> PageAnswer {
    disposed(&state.service.ports, caller.organization, caller.instance, parameters).await
}

/// `GET /instances/{id}/events/dispositions`.
async fn dispositions(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> PageAnswer {
    let record = target.record(&state).await?;
    disposed(&state.service.ports, record.organization, Some(record.id), parameters).await
}

async fn disposed(
    ports: &Ports,
    organization: OrganizationId,
    only: Option<InstanceId>,
    parameters: Parameters,
) -> PageAnswer {
    let paging = Paging::<DeliveryRow>::of(parameters)?;
    let mut problems = Vec::new();
    let asked = range_of(&paging.others, ports.now(), &mut problems);
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
    }
    // `to` is the last millisecond asked for.
    let range = asked.start.unwrap_or(DateTime::UNIX_EPOCH)..asked.end + TimeDelta::milliseconds(1);
    let filter = Filter { committed: Some(range), ..Filter::default() };
    let page = query::of_organization(ports, organization, &filter, only, paging.size, paging.after.as_ref()).await?;
    let shown = |found: &Found| {
        let messages: Vec<Value> = messages(found).into_iter().map(|message| json!({ "message": message })).collect();
        json!({ "eventId": found.row.id, "elementInstanceId": found.row.instance, "notificationData": messages })
    };
    let shown = page.deliveries.iter().map(shown).collect();
    Ok((pagination::headers(page.deliveries.len(), page.next.as_ref().map(Cursor::as_str)), Json(shown)))
}

/// Describes the outcome of a notification, one line for each attempt.
fn messages(found: &Found) -> Vec<String> {
    let row = &found.row;
    let mut lines: Vec<String> = row
        .attempts
        .iter()
        .map(|attempt| match (attempt.status, &attempt.error) {
            (Some(status), _) if (200..300).contains(&status) => {
                format!("Delivered event to {} at attempt {}: {status}", attempt.url, attempt.number)
            }
            (Some(status), _) => {
                format!("Error delivering event to {} at attempt {}: {status}", attempt.url, attempt.number)
            }
            (None, error) => {
                let error = error.as_deref().unwrap_or("no answer");
                format!("Error delivering event to {} at attempt {}: {error}", attempt.url, attempt.number)
            }
        })
        .collect();
    lines.extend(match row.status {
        Status::Delivered | Status::Retry => None,
        Status::Created => Some("The event is on its way to its first attempt".to_owned()),
        Status::Waiting => Some("The event waits behind another".to_owned()),
        Status::Queued => Some("The event is not sent by itself any more; send it again to resume".to_owned()),
        Status::Kept => Some("The event is only kept: there was no callback".to_owned()),
        Status::Superseded => Some("The event was not sent: newer ones had all its records".to_owned()),
    });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-05T09:30:20Z";

    fn buckets(query: &[(&str, &str)]) -> Result<(String, i64), String> {
        let parameters = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Buckets::of(&parameters, NOW.parse().unwrap())
            .map(|buckets| (instant(buckets.first), buckets.count))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_hour_has_sixty_one_minutes() {
        assert_eq!(buckets(&[]), Ok(("2026-01-05T08:30:00Z".into(), 61)));
        let hour = [("from", "2026-01-05T08:00:00Z"), ("to", "2026-01-05T09:00:00Z"), ("interval", "minute")];
        assert_eq!(buckets(&hour), Ok(("2026-01-05T08:00:00Z".into(), 61)));
        let days = [("from", "2026-01-01T12:00:00Z"), ("interval", "day")];
        assert_eq!(buckets(&days), Ok(("2026-01-01T00:00:00Z".into(), 5)));
        let millis = [("from", "1767600000000"), ("to", "1767600060000")];
        assert_eq!(buckets(&millis), Ok(("2026-01-05T08:00:00Z".into(), 2)));
    }

    #[test]
    fn what_makes_no_range_is_refused() {
        let refused = |query: &[(&str, &str)], part: &str| {
            let error = buckets(query).unwrap_err();
            assert!(error.starts_with("400 ") && error.contains(part), "{error}");
        };
        refused(&[("interval", "second")], "interval: read second, expected minute, hour, day or week");
        refused(&[("from", "yesterday")], "from: read yesterday");
        refused(&[("from", "2026-01-05T09:00:00Z"), ("to", "2026-01-05T08:00:00Z")], "before `to`");
        refused(&[("from", "2025-12-06T09:00:00Z")], "at most 1441 buckets");
        refused(&[("to", "99999999999999999")], "to: read 9999");
    }
}
