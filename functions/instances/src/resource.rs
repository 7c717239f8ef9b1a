//! Calls about the state of one resource: deletions that are held, and why a record did or did not become an event.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use domain::problem::FieldProblem;
use flow::instances::{self, Decision};
use flow::poll::why;
use serde_json::{Value, json};
use store::records::instance::InstanceRecord;

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{JsonBody, Path, Target, unknown_resource};
use crate::route::{Routes, op};

type Answer = Result<Json<Value>, ApiError>;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Polling";
    Routes::new()
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
async fn found(state: &ApiState, target: &Target, resource: &str) -> Result<InstanceRecord, ApiError> {
    let record = target.record(state).await?;
    match record.resources.contains_key(resource) {
        true => Ok(record),
        false => Err(ApiError::invalid(vec![unknown_resource(&record, resource)])),
    }
}

/// `GET /instances/{id}/resources/{resource}/held`: deletions that wait for a decision, or 404.
async fn held(State(state): State<ApiState>, target: Target, Path(named): Path<Named>) -> Answer {
    let record = found(&state, &target, &named["resource"]).await?;
    let states = instances::states(&state.service, &record).await?;
    let held = states.into_iter().find(|it| it.resource == named["resource"]).and_then(|it| it.state.held);
    held.map(|held| Json(json!(held))).ok_or_else(|| ApiError::not_found("No deletions of this resource are held."))
}

/// `POST /instances/{id}/resources/{resource}/held` with `{"decision": "approve"}` or `{"decision": "reject"}`.
async fn decide(State(state): State<ApiState>, target: Target, Path(named): Path<Named>, body: JsonBody) -> Answer {
    let record = found(&state, &target, &named["resource"]).await?;
    let word = body.0["decision"].as_str().unwrap_or_default();
    let decision = match word {
        "approve" => Decision::Approve,
        "reject" => Decision::Reject,
        _ => return Err(ApiError::invalid(vec![FieldProblem::new("decision", word, "approve or reject")])),
    };
    match instances::decide_deletions(&state.service, &target.caller, &record, &named["resource"], decision).await? {
        Some(held) => Ok(Json(json!({ "resource": named["resource"], "decision": word, "held": held }))),
        None => Err(ApiError::not_found("No deletions of this resource are held.")),
    }
}

/// `GET /instances/{id}/resources/{resource}/records/{record}/why`: what is known of a record, by which rule, and
/// which notifications and attempts carried it. A record of a partition is named `partition:record` where ids repeat.
async fn why_of(State(state): State<ApiState>, target: Target, Path(named): Path<Named>) -> Answer {
    let record = found(&state, &target, &named["resource"]).await?;
    let found = why::why(&state.service, &record, &named["resource"], &named["record"]).await;
    Ok(Json(json!(found.map_err(|error| ApiError::internal(&error))?)))
}
