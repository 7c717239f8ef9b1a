//! Calls about an instance's polls: poll now, what is covered, what stands in the way.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::TimeDelta;
use domain::configuration::keys::EVENTS_ENABLED;
use domain::problem::{FieldProblem, below};
use domain::wheel::next_due;
use elements::definition::Resource;
use elements::pointer::Pointer;
use flow::instances::{self, InstanceError, ResourceState};
use flow::poll::{Mode, Outcome, PollReport, poll};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use store::records::job::PollJob;

use crate::ApiState;
use crate::catalog::event_types;
use crate::error::ApiError;
use crate::input::{Path, Query, Target, find_element, part, unknown_resource};
use crate::pagination::Parameters;
use crate::route::{Kind, Routes, op};
use crate::view::instant;

type Answer = Result<Json<Value>, ApiError>;

/// Time for the polls of one call. The gateway gives up after 30 s.
const POLL_BUDGET: TimeDelta = TimeDelta::seconds(24);

/// Resources polled at once by one call.
const POLLED_AT_ONCE: usize = 4;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Polling";
    Routes::new()
        .post(
            "/instances/{id}/poll",
            now,
            op(
                "pollNow",
                TAG,
                "Poll now",
                "Polls one resource or all of them and answers when what was found is committed, with a report. \
                 403 while the instance is disabled, 400 while its events are off.",
            )
            .also_at("/instances/poll")
            .query("resource", Kind::Texts, "Only this resource; may be repeated. All of them otherwise.")
            .query("sweep", Kind::Flag, "`true`: list everything, to find what was deleted.")
            .answers("PollAnswer")
            .or(&[403]),
        )
        .get(
            "/instances/{id}/coverage",
            coverage,
            op(
                "getCoverage",
                TAG,
                "What is covered without a gap",
                "For every polled resource: the stretches of time that are covered, the gaps between them, when it \
                 was and will be polled, and what stands in the way.",
            )
            .also_at("/instances/coverage")
            .answers("Coverage"),
        )
        .get(
            "/instances/{id}/event-poller-records",
            poller_records,
            op("listPollerRecords", TAG, "The pollers' state in the terms of Cloud Elements", "One entry for each polled resource.")
                .also_at("/instances/event-poller-records")
                .answers("PollerRecords"),
        )
        .get(
            "/ping",
            ping,
            op("ping", TAG, "Ask the vendor whether it lets the instance in", "403 while the instance is disabled.")
                .answers("Ping")
                .or(&[403]),
        )
        .get(
            "/objects",
            objects,
            op(
                "listObjects",
                TAG,
                "What can be polled and read",
                "Names of the element's resources; with the header `Elements-Version: Helium`, objects with name, \
                 vendor's name and type.",
            )
            .answers("Objects"),
        )
        .get(
            "/objects/{object}/metadata",
            object_metadata,
            op(
                "getObjectMetadata",
                TAG,
                "What is known of a resource's fields",
                "The fields that its element file names: id, dates, flag of deletion, and those that may be filtered by.",
            )
            .answers("ObjectMetadata"),
        )
        .get(
            "/instances/{id}/objects",
            objects,
            op("listObjectsOfInstance", TAG, "What can be polled and read of an instance", "As `GET /objects`, by the instance's id.").answers("Objects"),
        )
        .get(
            "/instances/{id}/objects/{object}/metadata",
            object_metadata,
            op("getObjectMetadataOfInstance", TAG, "What is known of a resource's fields, by the instance's id", "As `GET /objects/{object}/metadata`.").answers("ObjectMetadata"),
        )
}

/// `POST /instances/{id}/poll`: polls one resource or all and answers when what was found is committed.
pub async fn now(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> Answer {
    let service = &state.service;
    let record = target.record(&state).await?;
    if record.disabled {
        return Err(ApiError::disabled());
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
        problems.push(FieldProblem::new(below("configuration", EVENTS_ENABLED), "false", expected));
    }
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
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
        .map_err(|error| ApiError::internal(&error))?;
    Ok(Json(summed(&reports)))
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
    let record = target.record(&state).await?;
    let states = instances::states(service, &record).await?;
    let minute = service.wheel.minute_of(service.ports.now());
    let shown = states.into_iter().map(|ResourceState { resource, interval_minutes, state }| {
        let next = service.wheel.start_of(next_due(record.id, &resource, interval_minutes, minute));
        let blocked = record.disabled || record.reconnect.is_some();
        json!({
            "resource": resource,
            "intervalMinutes": interval_minutes,
            "baselined": state.has_baseline,
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

/// `GET /instances/event-poller-records`: the state of every poller, in the terms of Cloud Elements.
pub async fn poller_records(State(state): State<ApiState>, target: Target) -> Answer {
    let record = target.record(&state).await?;
    let states = instances::states(&state.service, &record).await?;
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
    let record = target.record(&state).await?;
    if record.disabled {
        return Err(ApiError::disabled());
    }
    let refusal = match instances::ping(&state.service, &record).await {
        Ok(()) => None,
        Err(InstanceError::Login(reason)) => Some(reason.to_string()),
        Err(error) => return Err(error.into()),
    };
    let mut shown = json!({
        "endpoint": record.element,
        "valid": refusal.is_none(),
        "dateTime": instant(state.service.ports.now()),
    });
    if let Some(reason) = refusal {
        shown["message"] = json!(reason);
    }
    Ok(Json(shown))
}

/// `GET /objects`: what can be polled and read of the instance's element. With `Elements-Version: Helium`, objects
/// instead of names.
pub async fn objects(State(state): State<ApiState>, target: Target, headers: HeaderMap) -> Answer {
    let record = target.record(&state).await?;
    let element = find_element(&state, &record.element)?;
    let helium =
        headers.get("elements-version").is_some_and(|version| version.as_bytes().eq_ignore_ascii_case(b"helium"));
    let shown = |resource: &Resource| match helium {
        true => json!({ "name": resource.name, "vendorName": resource.name, "type": "vendor" }),
        false => json!(resource.name),
    };
    Ok(Json(element.resources.iter().map(shown).collect()))
}

/// `GET /objects/{object}/metadata`: the fields of a resource that its element file names. Vendors' records have
/// more; those are passed through as they are.
pub async fn object_metadata(State(state): State<ApiState>, target: Target, Path(path): Path<Parameters>) -> Answer {
    let record = target.record(&state).await?;
    let element = find_element(&state, &record.element)?;
    let wanted = part(&path, "object");
    let names = |resource: &&Resource| resource.name == wanted || resource.aliases.iter().any(|alias| alias == wanted);
    let Some(resource) = element.resources.iter().find(names) else {
        let known: Vec<&str> = element.resources.iter().map(|resource| resource.name.as_str()).collect();
        return Err(ApiError::not_found(format!("There is no such object. There are {}.", known.join(", "))));
    };
    let path = |pointer: &Pointer| pointer.as_str().trim_start_matches('/').replace('/', ".");
    let mut fields: BTreeMap<String, Value> = BTreeMap::new();
    let mut note = |path: String, kind: &str, what: &str| {
        let field = fields
            .entry(path.clone())
            .or_insert_with(|| json!({ "vendorPath": path, "type": kind, "primaryKey": false, "filterable": false }));
        field[what] = json!(true);
    };
    resource.records.id.iter().for_each(|id| note(path(id), "string", "primaryKey"));
    resource.time.updated.iter().for_each(|at| note(path(at), "date", "updatedDate"));
    resource.time.created.iter().for_each(|at| note(path(at), "date", "createdDate"));
    resource.conditions.keys().for_each(|attribute| note(attribute.clone(), "string", "filterable"));
    Ok(Json(json!({
        "name": resource.name,
        "vendorName": resource.name,
        "type": "vendor",
        "eventTypes": event_types(resource),
        "fields": fields.into_values().collect::<Vec<_>>(),
        "hubPaths": resource.hub_paths.iter().map(|path| format!("/hubs/{}/{path}", element.hub)).collect::<Vec<_>>(),
    })))
}
