//! Calls about what is remembered of one resource: deletions that are held, and why a record did or did not become
//! an event. And about what would be: the rehearsal of a configuration.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use domain::problem::{FieldProblem, nearest};
use flow::instance::{self, Decision, InstanceBody, Rehearsal};
use flow::poll::why;
use serde_json::{Value, json};
use store::records::instance::InstanceRecord;

use crate::ApiState;
use crate::input::{Authenticated, JsonBody, Path, Target};
use crate::refusal::Refusal;
use crate::route::{Routes, op};

type Answer = Result<Json<Value>, Refusal>;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Polling";
    Routes::new()
        .post(
            "/instances/rehearse",
            rehearse_new,
            op(
                "rehearseNewInstance",
                TAG,
                "Try a new instance",
                "The body of `POST /instances`, tried against the vendor: nothing is stored and no event is sent.",
            )
            .takes("NewInstance")
            .answers("Rehearsal")
            .or(&[429, 502]),
        )
        .post(
            "/instances/{id}/rehearse",
            rehearse,
            op(
                "rehearseChange",
                TAG,
                "Try a change",
                "The body of `PATCH /instances/{id}`: the instance is polled as it would be then, and stays as it is.",
            )
            .takes("InstanceChange")
            .answers("Rehearsal")
            .or(&[409, 429, 502]),
        )
        .get(
            "/instances/{id}/resources/{resource}/held",
            held,
            op("getHeldDeletions", TAG, "Read deletions that are held", "404 where none are.")
                .answers("HeldDeletions")
                .or(&[400]),
        )
        .post(
            "/instances/{id}/resources/{resource}/held",
            decide,
            op("decideHeldDeletions", TAG, "Decide about deletions that are held", "404 where none are.")
                .takes("Decision")
                .answers("Decided")
                .or(&[409]),
        )
        .get(
            "/instances/{id}/resources/{resource}/records/{record}/why",
            why_of,
            op(
                "getWhy",
                TAG,
                "Why a record did or did not become an event",
                "What is known of the record, by which rule, and which notifications and attempts carried it. A record \
                 of a partition is named `partition:record` where ids repeat.",
            )
            .answers("Why")
            .or(&[400]),
        )
}

/// The parts of the path by name; each route has those that its handler asks for.
type Named = BTreeMap<String, String>;

/// The instance, if it is the caller's and has this resource.
async fn found(state: &ApiState, target: &Target, resource: &str) -> Result<InstanceRecord, Refusal> {
    let ports = &state.service.ports;
    let record = instance::get(ports, target.caller.organization, target.instance).await?.record;
    if record.resources.contains_key(resource) {
        return Ok(record);
    }
    let known: Vec<&str> = record.resources.keys().map(String::as_str).collect();
    let near =
        nearest(resource, known.iter().copied()).map_or_else(String::new, |near| format!("; the nearest is {near}"));
    let expected = format!("one of {}{near}", known.join(", "));
    Err(Refusal::invalid(vec![FieldProblem::new("resource", resource, expected)]))
}

/// `POST /instances/rehearse` with the body of `POST /instances`: tries it against the vendor, stores nothing and
/// sends no event.
async fn rehearse_new(
    State(state): State<ApiState>,
    Authenticated(_): Authenticated,
    body: JsonBody,
) -> Result<Json<Rehearsal>, Refusal> {
    let body = InstanceBody::read(&body.0).map_err(Refusal::invalid)?;
    Ok(Json(instance::rehearse_new(&state.service, body).await?))
}

/// `POST /instances/{id}/rehearse` with the body of `PATCH /instances/{id}`: the same, as the instance would be then.
async fn rehearse(State(state): State<ApiState>, target: Target, body: JsonBody) -> Result<Json<Rehearsal>, Refusal> {
    let body = InstanceBody::read(&body.0).map_err(Refusal::invalid)?;
    Ok(Json(instance::rehearse(&state.service, &target.caller, target.instance, body).await?))
}

/// `GET /instances/{id}/resources/{resource}/held`: deletions that wait for a decision, or 404.
async fn held(State(state): State<ApiState>, target: Target, Path(named): Path<Named>) -> Answer {
    let record = found(&state, &target, &named["resource"]).await?;
    let states = instance::states(&state.service, &record).await?;
    let held = states.into_iter().find(|it| it.resource == named["resource"]).and_then(|it| it.state.held);
    held.map(|held| Json(json!(held))).ok_or_else(|| Refusal::not_found("No deletions of this resource are held."))
}

/// `POST /instances/{id}/resources/{resource}/held` with `{"decision": "approve"}` or `{"decision": "reject"}`.
async fn decide(State(state): State<ApiState>, target: Target, Path(named): Path<Named>, body: JsonBody) -> Answer {
    let record = found(&state, &target, &named["resource"]).await?;
    let word = body.0["decision"].as_str().unwrap_or_default();
    let decision = match word {
        "approve" => Decision::Approve,
        "reject" => Decision::Reject,
        _ => return Err(Refusal::invalid(vec![FieldProblem::new("decision", word, "approve or reject")])),
    };
    match instance::decide_deletions(&state.service, &target.caller, &record, &named["resource"], decision).await? {
        Some(held) => Ok(Json(json!({ "resource": named["resource"], "decision": word, "held": held }))),
        None => Err(Refusal::not_found("No deletions of this resource are held.")),
    }
}

/// `GET /instances/{id}/resources/{resource}/records/{record}/why`: what is known of a record, by which rule, and
/// which notifications and attempts carried it. A record of a partition is named `partition:record` where ids repeat.
async fn why_of(State(state): State<ApiState>, target: Target, Path(named): Path<Named>) -> Answer {
    let record = found(&state, &target, &named["resource"]).await?;
    let told = why::why(&state.service, &record, &named["resource"], &named["record"]).await;
    Ok(Json(json!(told.map_err(|error| Refusal::internal(&error))?)))
}
