//! The error answers of the API: one shape for every error, and one mapping of errors to statuses.
//!
//! Handlers return an [`ApiError`]; [`crate::request_id`] writes it out with the request's id, so that no error leaves
//! without one. What the user reads and what we log are two texts: the log gets the chain of causes.

use std::error::Error;
use std::fmt;

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::problem::FieldProblem;
use flow::accounts::auth::AuthenticateError;
use flow::fields::Chain;
use serde_json::{Value, json};
use store::port::StoreError;

/// Seconds after which a call that met a busy store may be tried again.
const BUSY_RETRY_AFTER_S: &str = "1";

/// An error answer: status, message and the problems of single fields.
#[derive(Debug, Clone)]
pub struct ApiError(Box<Parts>);

#[derive(Debug, Clone)]
struct Parts {
    status: StatusCode,
    message: String,
    provider_message: Option<String>,
    problems: Vec<FieldProblem>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The chain of causes, for the log alone.
    cause: Option<String>,
}

impl ApiError {
    /// An error of a status, with a message for people.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            status,
            message: message.into(),
            provider_message: None,
            problems: Vec::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 400 with all that is wrong with the body. `problems` is not empty.
    pub fn invalid(problems: Vec<FieldProblem>) -> Self {
        let message = match problems.as_slice() {
            [problem] => format!("The request is not valid: {problem}."),
            [problem, rest @ ..] => format!("The request is not valid: {problem}; and {} more.", rest.len()),
            [] => "The request is not valid.".to_owned(),
        };
        let mut error_answer = Self::bad_request(message);
        error_answer.0.problems = problems;
        error_answer
    }

    /// 429 that trying again does not help: the organization may not have that much. `problems` is not empty.
    pub fn over_limit(problems: Vec<FieldProblem>) -> Self {
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let message = format!("A limit of the organization is reached: {}.", said.join("; "));
        let mut error_answer = Self::new(StatusCode::TOO_MANY_REQUESTS, message);
        error_answer.0.problems = problems;
        error_answer
    }

    /// 401: the same for absent, wrong and mismatched secrets.
    pub fn unknown_caller() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "No caller is known by this Authorization header. Send `Authorization: User <secret>, Organization \
             <secret>`, or `User <secret>, Element <token>` to act for one instance.",
        )
        .with_header(axum::http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Elements"))
    }

    /// 404 for what is absent or another organization's: the answer does not say which.
    pub fn no_instance() -> Self {
        Self::new(StatusCode::NOT_FOUND, "No element instance found for the given id.")
    }

    /// 404 for a path that no route serves.
    pub fn nothing_here() -> Self {
        Self::not_found("There is nothing at this path.")
    }

    /// 404 with a message of its own.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// 403: the instance is switched off.
    pub fn disabled() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "The element instance is disabled. Enable it with PUT /instances/{id}/enabled.",
        )
    }

    /// 500, or 503 where trying again helps. The cause is logged with the request and not shown.
    pub fn internal(error: &(dyn Error + 'static)) -> Self {
        let (mut store, mut next) = (None, Some(error));
        while let Some(cause) = next {
            store = store.or_else(|| cause.downcast_ref::<StoreError>());
            next = cause.source();
        }
        let unavailable = |message: &str| {
            Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
                .with_header(axum::http::header::RETRY_AFTER, HeaderValue::from_static(BUSY_RETRY_AFTER_S))
        };
        let mut error_answer = match store {
            Some(StoreError::Busy(_)) => unavailable("The service is busy; try again in a moment."),
            Some(StoreError::Full(_)) => {
                unavailable("The service's disk is full and nothing was changed; make room and try again.")
            }
            _ => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something failed on our side; the request id names the case.",
            ),
        };
        error_answer.0.cause = Some(Chain(error).to_string());
        error_answer
    }

    /// The same, with what the vendor said.
    pub fn with_provider_message(mut self, message: impl Into<String>) -> Self {
        self.0.provider_message = Some(message.into());
        self
    }

    /// The same, with a header.
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The chain of causes, for the log.
    pub fn cause(&self) -> Option<&str> {
        self.0.cause.as_deref()
    }

    /// The body of the answer.
    pub fn body(&self, request_id: &str) -> Value {
        let mut body = json!({ "message": self.0.message, "requestId": request_id });
        if let Some(message) = &self.0.provider_message {
            body["providerMessage"] = json!(message);
        }
        if !self.0.problems.is_empty() {
            body["errors"] = json!(self.0.problems);
        }
        body
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status.as_u16(), self.0.message)
    }
}

impl IntoResponse for ApiError {
    /// Status and headers; the body is written in [`crate::request_id`], which knows the request's id.
    fn into_response(self) -> Response {
        let mut response = self.0.status.into_response();
        response.headers_mut().extend(self.0.headers.iter().cloned());
        response.extensions_mut().insert(self);
        response
    }
}

impl From<AuthenticateError> for ApiError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Unknown => Self::unknown_caller(),
            other => Self::internal(&other),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_and_may_be_tried_again() {
        let cases = [
            (StoreError::Busy("locked".into()), 503, "busy"),
            (StoreError::Full("database or disk is full".into()), 503, "disk is full"),
            (StoreError::Refused("damaged".into()), 500, "failed on our side"),
        ];
        for (error, status, said) in cases {
            let error_answer = ApiError::from(error);
            assert_eq!(error_answer.0.status.as_u16(), status);
            assert!(error_answer.0.message.contains(said), "{}", error_answer.0.message);
        }
    }
}
