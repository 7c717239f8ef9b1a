//! Calls about the account: the audit trail, the limits of the organization, and token rotation of an instance.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::TimeDelta;
use domain::id::{InstanceId, OrganizationId};
use flow::accounts::audit;
use flow::accounts::limits::Allowance;
use flow::instances::{self, NewToken};
use serde_json::{Value, json};
use store::{Cursor, RecordError};

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{Authenticated, OptionalJsonBody, Query, Target, valid_minutes};
use crate::pagination::{self, Paging, Parameters};
use crate::route::{Routes, op};
use crate::view::instant;

type Answer = Result<Json<Value>, ApiError>;
type PageAnswer = Result<(HeaderMap, Json<Value>), ApiError>;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Account";
    Routes::new()
        .get(
            "/organizations/audit",
            audit_of_all,
            op(
                "listAudit",
                TAG,
                "List who changed what",
                "Every change by a user or an operator in the organization, the youngest first, those of thirteen \
                 months. Entries name keys and never values.",
            )
            .paged()
            .answers("Audit"),
        )
        .get(
            "/instances/{id}/audit",
            audit_of_one,
            op(
                "listAuditOfInstance",
                TAG,
                "List who changed an instance",
                "A page may be short and still have a next.",
            )
            .also_at("/instances/audit")
            .paged()
            .answers("Audit"),
        )
        .get(
            "/organizations/limits",
            limits,
            op(
                "getLimits",
                TAG,
                "Read what the organization may have",
                "Null: unlimited. `usedInstances` is null where nothing is counted.",
            )
            .answers("OrganizationLimits"),
        )
        .post(
            "/instances/{id}/token/rotate",
            rotate,
            op(
                "rotateToken",
                TAG,
                "Rotate an instance's token",
                "The old token works for the given time still; without one, no longer.",
            )
            .also_at("/instances/token/rotate")
            .takes("TokenRotation")
            .answers("TokenRotated")
            .or(&[409]),
        )
}

impl From<RecordError> for ApiError {
    fn from(error: RecordError) -> Self {
        Self::internal(&error)
    }
}

/// `GET /organizations/audit`: who changed what in the organization, the youngest first, those of a year.
async fn audit_of_all(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(parameters): Query,
) -> PageAnswer {
    trail(&state, caller.organization, None, parameters).await
}

/// `GET /instances/{id}/audit`: the same of one instance.
async fn audit_of_one(State(state): State<ApiState>, target: Target, Query(parameters): Query) -> PageAnswer {
    target.record(&state).await?;
    trail(&state, target.caller.organization, Some(target.instance), parameters).await
}

async fn trail(
    state: &ApiState,
    organization: OrganizationId,
    instance: Option<InstanceId>,
    parameters: Parameters,
) -> PageAnswer {
    let paging = Paging::of(parameters)?;
    let page = audit::list(&state.service.ports, organization, instance, paging.size, paging.after.as_ref()).await?;
    Ok((pagination::headers(page.entries.len(), page.next.as_ref().map(Cursor::as_str)), Json(json!(page.entries))))
}

/// `GET /organizations/limits`: what the organization may have. `usedInstances` is null where nothing is counted.
async fn limits(State(state): State<ApiState>, Authenticated(caller): Authenticated) -> Answer {
    let record = Allowance::read(&state.service.ports, caller.organization).await?.record();
    let limits = record.map(|record| record.limits).unwrap_or_default();
    Ok(Json(json!({
        "instances": limits.instances,
        "resources": limits.resources,
        "smallestInterval": limits.smallest_interval,
        "usedInstances": record.map(|record| record.instances),
    })))
}

/// `POST /instances/{id}/token/rotate`, with or without `{"validMinutes": n}`: a new token. The old one works for that
/// time still; without it, no longer.
async fn rotate(State(state): State<ApiState>, target: Target, OptionalJsonBody(body): OptionalJsonBody) -> Answer {
    let grace = TimeDelta::minutes(valid_minutes(&body, 0)?);
    let caller = &target.caller;
    let NewToken { token, previous_until } =
        instances::rotate_token(&state.service.ports, caller.by(), caller.organization, target.instance, grace).await?;
    Ok(Json(json!({ "token": token.expose(), "previousValidUntil": previous_until.map(instant) })))
}
