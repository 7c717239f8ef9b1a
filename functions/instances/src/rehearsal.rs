//! Calls that try a polling configuration against the vendor: nothing is stored and no event is sent.

use axum::Json;
use axum::extract::State;
use flow::instances::{self, InstanceBody, Rehearsal};

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{Authenticated, JsonBody, Target};
use crate::route::{Routes, op};

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
}

/// `POST /instances/rehearse` with the body of `POST /instances`: tries it against the vendor, stores nothing and
/// sends no event.
async fn rehearse_new(
    State(state): State<ApiState>,
    Authenticated(_): Authenticated,
    body: JsonBody,
) -> Result<Json<Rehearsal>, ApiError> {
    let body = InstanceBody::read(&body.0).map_err(ApiError::invalid)?;
    Ok(Json(instances::rehearse_new(&state.service, body).await?))
}

/// `POST /instances/{id}/rehearse` with the body of `PATCH /instances/{id}`: the same, as the instance would be then.
async fn rehearse(State(state): State<ApiState>, target: Target, body: JsonBody) -> Result<Json<Rehearsal>, ApiError> {
    let body = InstanceBody::read(&body.0).map_err(ApiError::invalid)?;
    Ok(Json(instances::rehearse(&state.service, &target.caller, target.instance, body).await?))
}
