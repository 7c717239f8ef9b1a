//! Calls about an instance's polls: poll now, what is covered, what stands in the way.

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use chrono::TimeDelta;
use domain::problem::{FieldProblem, nearest};
use domain::wheel::next_due;
use elements::Element;
use flow::instance::{self, ResourceState, Stored};
use flow::job::PollJob;
use flow::poll::{Mode, Outcome, PollReport, poll};
use flow::table::InstanceRecord;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::ApiState;
use crate::input::Target;
use crate::page::Parameters;
use crate::refusal::Refusal;
use crate::view::instant;

type Answer = Result<Json<Value>, Refusal>;

/// Time for the polls of one call. The gateway gives up after 30 s.
const POLL_BUDGET: TimeDelta = TimeDelta::seconds(24);

/// Resources polled at once by one call.
const POLLED_AT_ONCE: usize = 4;

/// `POST /instances/{id}/poll`: polls one resource or all and answers when what was found is committed.
pub async fn now(State(state): State<ApiState>, target: Target, Query(parameters): Query<Parameters>) -> Answer {
    let service = &state.service;
    let Stored { record, .. } = instance::get(&service.ports, target.caller.organization, target.instance).await?;
    if record.disabled {
        return Err(disabled());
    }
    let (mut wanted, mut sweep, mut problems) = (Vec::new(), false, Vec::new());
    for (name, value) in parameters {
        match (name.as_str(), value.as_str()) {
            ("resource", resource) if record.resources.contains_key(resource) => wanted.push(value),
            ("resource", resource) => problems.push(unknown_resource(&record, resource)),
            ("sweep", "true") => sweep = true,
            ("sweep", "false") => sweep = false,
            ("sweep", _) => problems.push(FieldProblem::new(name, value, "true or false")),
            _ => {}
        }
    }
    if !record.events_enabled {
        let expected = "true: nothing is polled while events are off";
        problems.push(FieldProblem::new("configuration.\"event.notification.enabled\"", "false", expected));
    }
    if !problems.is_empty() {
        return Err(Refusal::invalid(problems));
    }
    if wanted.is_empty() {
        wanted = record.resources.keys().cloned().collect();
    }
    let began = service.ports.now();
    let minute = service.wheel.minute_of(began);
    let reports: Vec<PollReport> = stream::iter(wanted)
        .map(|resource| {
            let job = PollJob { organization: record.organization, instance: record.id, resource, minute };
            async move { poll(service, &job, Mode::Now { sweep }, began + POLL_BUDGET).await }
        })
        .buffered(POLLED_AT_ONCE)
        .try_collect()
        .await
        .map_err(|error| Refusal::internal(&error))?;
    Ok(Json(summed(&reports)))
}

/// 403: the instance is switched off.
pub fn disabled() -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "The element instance is disabled. Enable it with PUT /instances/{id}/enabled.")
}

/// The 400 of a resource that the instance does not have.
fn unknown_resource(record: &InstanceRecord, resource: &str) -> FieldProblem {
    let known: Vec<&str> = record.resources.keys().map(String::as_str).collect();
    let near =
        nearest(resource, known.iter().copied()).map_or_else(String::new, |near| format!("; the nearest is {near}"));
    FieldProblem::new("resource", resource, format!("one of {}{near}", known.join(", ")))
}

/// The reports of several resources and their sums.
fn summed(reports: &[PollReport]) -> Value {
    let sum = |figure: fn(&PollReport) -> u64| reports.iter().map(figure).sum::<u64>();
    let problems: Vec<Value> = reports
        .iter()
        .flat_map(|report| {
            let failure = report.failure.iter().map(|what| json!({ "resource": report.resource, "what": what }));
            let of_records = report.problems.iter().map(|problem| {
                let mut shown = json!(problem);
                shown["resource"] = json!(report.resource);
                shown
            });
            failure.chain(of_records).collect::<Vec<_>>()
        })
        .collect();
    let outcome = reports.iter().map(|report| report.outcome).find(|outcome| *outcome != Outcome::Committed);
    json!({
        "outcome": outcome.unwrap_or(Outcome::Committed),
        "pages": sum(|report| report.pages),
        "records": sum(|report| report.records),
        "created": sum(|report| report.created),
        "updated": sum(|report| report.updated),
        "deleted": sum(|report| report.deleted),
        "suppressed": sum(|report| report.suppressed),
        "notifications": sum(|report| report.notifications),
        "problems": problems,
        "resources": reports,
    })
}

/// `GET /instances/{id}/coverage`: for every polled resource, what stretch of time is covered without a gap, when it
/// was and will be polled, and what stands in the way.
pub async fn coverage(State(state): State<ApiState>, target: Target) -> Answer {
    let service = &state.service;
    let Stored { record, .. } = instance::get(&service.ports, target.caller.organization, target.instance).await?;
    let states = instance::states(service, &record).await?;
    let minute = service.wheel.minute_of(service.ports.now());
    let shown = states.into_iter().map(|ResourceState { resource, interval_minutes, state }| {
        let next = service.wheel.start_of(next_due(record.id, &resource, interval_minutes, minute));
        let blocked = record.disabled || record.reconnect.is_some();
        json!({
            "resource": resource,
            "intervalMinutes": interval_minutes,
            "baselined": state.based,
            "stretches": state.coverage.stretches(),
            "gaps": state.coverage.gaps(),
            "coveredUntil": state.coverage.until(),
            "lastPoll": state.last,
            "lastSweep": state.swept_at,
            "nextPoll": (!blocked).then(|| state.skip_until.map_or(next, |skip| skip.max(next))),
            "records": state.living(),
            "latenessSeconds": state.lateness.usual_worst().as_secs(),
            "failures": state.failures,
            "trouble": state.trouble,
            "skipUntil": state.skip_until,
            "stale": state.is_stale(interval_minutes, service.ports.now()),
            "held": state.held,
            "suspended": state.resume.is_some(),
        })
    });
    Ok(Json(shown.collect()))
}

/// `GET /instances/event-poller-records`: the state of every poller, in the original's terms.
pub async fn poller_records(State(state): State<ApiState>, target: Target) -> Answer {
    let Stored { record, .. } =
        instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    let states = instance::states(&state.service, &record).await?;
    let shown = states.into_iter().map(|ResourceState { resource, interval_minutes, state }| {
        json!({
            "elementInstanceId": record.id,
            "elementKey": record.element,
            "objectName": resource,
            "refreshInterval": interval_minutes,
            "lastPollDate": state.last.as_ref().map(|last| instant(last.at)),
            "lastRecordCount": state.last.as_ref().map(|last| last.records),
            "lastEventCount": state.last.as_ref().map(|last| last.changes),
            "coveredUntil": state.coverage.until().map(instant),
            "failureCount": state.failures,
            "error": state.trouble.map(|trouble| trouble.message),
        })
    });
    Ok(Json(shown.collect()))
}

/// `GET /ping`: whether the vendor lets the instance in now.
pub async fn ping(State(state): State<ApiState>, target: Target) -> Answer {
    let Stored { record, .. } =
        instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    if record.disabled {
        return Err(disabled());
    }
    let outcome = instance::ping(&state.service, &record).await?;
    let mut shown = json!({
        "endpoint": record.element,
        "valid": outcome.is_ok(),
        "dateTime": instant(state.service.ports.now()),
    });
    if let Err(reason) = outcome {
        shown["message"] = json!(reason.to_string());
    }
    Ok(Json(shown))
}

/// `GET /objects`: what can be polled and read of the instance's element.
pub async fn objects(State(state): State<ApiState>, target: Target) -> Answer {
    let Stored { record, .. } =
        instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    let element = crate::catalog::find(&state, &record.element)?;
    Ok(Json(names_of(element)))
}

fn names_of(element: &Element) -> Value {
    element.resources.iter().map(|resource| Value::from(resource.name.as_str())).collect()
}
