//! Calls that a form makes while somebody fills it in: is it in order so far, does the callback answer, where does the
//! user log in. None of them stores anything.

use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use domain::problem::FieldProblem;
use flow::delivery::TrialError;
use flow::delivery::row::Attempt;
use flow::instance::{self, InstanceBody, Review};
use serde_json::{Map, Value};

use crate::ApiState;
use crate::catalog::{Answer, login_address};
use crate::input::{Authenticated, JsonBody, Target};
use crate::page::Parameters;
use crate::refusal::Refusal;

/// The routes of this page.
pub fn routes() -> Router<ApiState> {
    Router::new()
        .route("/instances/check", post(check_new))
        .route("/instances/{id}/check", post(check))
        .route("/instances/{id}/oauth/url", get(login_of).post(login_of_body))
        .route("/instances/{id}/notifications/test", post(test_of))
        .route("/notifications/test", post(test_new))
}

impl From<TrialError> for Refusal {
    fn from(error: TrialError) -> Self {
        match error {
            TrialError::Invalid(problems) => Self::invalid(problems),
            TrialError::TooMany { after } => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Enough test events for now: a few at once, and then one every ten seconds.",
            )
            .with_header(header::RETRY_AFTER, HeaderValue::from(after.as_secs_f64().ceil() as u64)),
            TrialError::Delivery(error) => error.into(),
        }
    }
}

/// `POST /instances/check` with the body of `POST /instances`: what would be refused and what read differently. Answers
/// 200 either way; the vendor is not asked, and a login that is still to come is not missed.
async fn check_new(State(state): State<ApiState>, Authenticated(_): Authenticated, body: JsonBody) -> Json<Review> {
    Json(instance::review_new(&state.service, &body.0))
}

/// `POST /instances/{id}/check` with the body of `PATCH /instances/{id}`: the same of the change.
async fn check(State(state): State<ApiState>, target: Target, body: JsonBody) -> Result<Json<Review>, Refusal> {
    Ok(Json(instance::review(&state.service, &target.caller, target.instance, &body.0).await?))
}

/// `POST /notifications/test` with the body of `POST /instances`: sends one signed test event to the callback in its
/// configuration and answers with the attempt: status, or what went wrong, and how long it took.
async fn test_new(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    body: JsonBody,
) -> Result<Json<Attempt>, Refusal> {
    Ok(Json(instance::try_callback_new(&state.service, &caller, &body.0).await?))
}

/// `POST /instances/{id}/notifications/test` with the body of `PATCH /instances/{id}`: the same to the callback as it
/// would be then, signed with the key that is stored unless another is given.
async fn test_of(State(state): State<ApiState>, target: Target, body: JsonBody) -> Result<Json<Attempt>, Refusal> {
    let read = InstanceBody::read(&body.0).map_err(Refusal::invalid)?;
    let given = read.configuration.as_ref();
    Ok(Json(instance::try_callback_of(&state.service, &target.caller, target.instance, given).await??))
}

/// `GET /instances/{id}/oauth/url`: where the user logs in again, with the application that the instance has. `state`,
/// `scope` and any configuration key in the query take the place of what is stored.
async fn login_of(state: State<ApiState>, target: Target, Query(parameters): Query<Parameters>) -> Answer {
    let given = parameters.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    login(state, target, given).await
}

/// `POST` of the same, with the fields in the body.
async fn login_of_body(state: State<ApiState>, target: Target, body: JsonBody) -> Answer {
    match body.0 {
        Value::Object(given) => login(state, target, given).await,
        other => Err(Refusal::invalid(vec![FieldProblem::new("body", other, "a JSON object")])),
    }
}

async fn login(State(state): State<ApiState>, target: Target, given: Map<String, Value>) -> Answer {
    let (record, fields) = instance::login_fields(&state.service, &target.caller, target.instance, &given).await?;
    login_address(&state, &record.element, fields)
}
