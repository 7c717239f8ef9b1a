//! Calls about drafts of an instance, which a form makes while a user fills it in: check the draft, try its callback,
//! get the address of the login. None of them stores anything.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use domain::problem::FieldProblem;
use flow::deliver::TrialError;
use flow::deliver::row::Attempt;
use flow::instances::{self, InstanceBody, Review, TryCallbackError};
use serde_json::{Map, Value};

use crate::ApiState;
use crate::catalog::{Answer, login_address};
use crate::error::ApiError;
use crate::input::{Authenticated, JsonBody, Query, Target};
use crate::route::{Kind, Routes, op};

/// The routes of this page.
pub fn routes() -> Routes {
    Routes::new()
        .post(
            "/instances/check",
            check_new,
            op(
                "checkNewInstance",
                "Instances",
                "Check a new instance as far as it is filled in",
                "What would be refused and what read differently; 200 either way. The vendor is not asked, and a login \
                 that is still to come is not missed.",
            )
            .takes("InstanceDraft")
            .answers("Review"),
        )
        .post(
            "/instances/{id}/check",
            check,
            op("checkChange", "Instances", "Check a change as far as it is filled in", "As of a new instance.")
                .takes("InstanceDraft")
                .answers("Review"),
        )
        .get(
            "/instances/{id}/oauth/url",
            login_of,
            op(
                "getLoginUrlOfInstance",
                "Instances",
                "Where the user logs in again",
                "With the application that the instance has. `state`, `scope` and any configuration key in the query \
                 take the place of what is stored.",
            )
            .query("scope", Kind::Text, "Instead of what is stored.")
            .query("state", Kind::Text, "Comes back with the code.")
            .answers("LoginUrl"),
        )
        .post(
            "/instances/{id}/oauth/url",
            login_of_body,
            op("getLoginUrlOfInstanceOfBody", "Instances", "The same, with the fields in the body", "As `GET`.")
                .takes("LoginUrlRequest")
                .answers("LoginUrl"),
        )
        .post(
            "/instances/{id}/notifications/test",
            test_of,
            op(
                "tryCallback",
                "Deliveries",
                "Try a callback before it is saved",
                "One signed test event goes to the callback as it would be after the change in the body, and the answer \
                 is the attempt. A few at once, and then one every ten seconds: 429.",
            )
            .takes("CallbackTrial")
            .answers("Attempt")
            .or(&[429]),
        )
        .post(
            "/notifications/test",
            test_new,
            op(
                "tryCallbackOfNewInstance",
                "Deliveries",
                "Try the callback of an instance that is to be made",
                "As of an instance, with the body of `POST /instances`.",
            )
            .takes("CallbackTrial")
            .answers("Attempt")
            .or(&[429]),
        )
}

impl From<TrialError> for ApiError {
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

impl From<TryCallbackError> for ApiError {
    fn from(error: TryCallbackError) -> Self {
        match error {
            TryCallbackError::Instance(error) => error.into(),
            TryCallbackError::Trial(error) => error.into(),
        }
    }
}

/// `POST /instances/check` with the body of `POST /instances`: what would be refused and what read differently. Answers
/// 200 either way; the vendor is not asked, and a login that is still to come is not missed.
async fn check_new(State(state): State<ApiState>, Authenticated(_): Authenticated, body: JsonBody) -> Json<Review> {
    Json(instances::review_new(&state.service, &body.0))
}

/// `POST /instances/{id}/check` with the body of `PATCH /instances/{id}`: the same of the change.
async fn check(State(state): State<ApiState>, target: Target, body: JsonBody) -> Result<Json<Review>, ApiError> {
    Ok(Json(instances::review(&state.service, &target.caller, target.instance, &body.0).await?))
}

/// `POST /notifications/test` with the body of `POST /instances`: sends one signed test event to the callback in its
/// configuration and answers with the attempt: status, or what went wrong, and how long it took.
async fn test_new(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    body: JsonBody,
) -> Result<Json<Attempt>, ApiError> {
    Ok(Json(instances::try_callback_new(&state.service, &caller, &body.0).await?))
}

/// `POST /instances/{id}/notifications/test` with the body of `PATCH /instances/{id}`: the same to the callback as it
/// would be then, signed with the key that is stored unless another is given.
async fn test_of(State(state): State<ApiState>, target: Target, body: JsonBody) -> Result<Json<Attempt>, ApiError> {
    let read = InstanceBody::read(&body.0).map_err(ApiError::invalid)?;
    let given = read.configuration.as_ref();
    Ok(Json(instances::try_callback_of(&state.service, &target.caller, target.instance, given).await?))
}

/// `GET /instances/{id}/oauth/url`: where the user logs in again, with the application that the instance has. `state`,
/// `scope` and any configuration key in the query take the place of what is stored.
async fn login_of(state: State<ApiState>, target: Target, Query(parameters): Query) -> Answer {
    let given = parameters.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    login(state, target, given).await
}

/// `POST` of the same, with the fields in the body.
async fn login_of_body(state: State<ApiState>, target: Target, body: JsonBody) -> Answer {
    match body.0 {
        Value::Object(given) => login(state, target, given).await,
        other => Err(ApiError::invalid(vec![FieldProblem::new("body", other, "a JSON object")])),
    }
}

async fn login(State(state): State<ApiState>, target: Target, given: Map<String, Value>) -> Answer {
    let (record, fields) = instances::login_fields(&state.service, &target.caller, target.instance, &given).await?;
    login_address(&state, &record.element, fields)
}
