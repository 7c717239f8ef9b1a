//! What a handler takes from a request: who calls, which instance is meant, and a JSON body within bounds.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use domain::id::InstanceId;
use domain::json::Limits;
use flow::principal::{Caller, authenticate};
use futures::StreamExt;
use serde_json::Value;

use crate::ApiState;
use crate::refusal::Refusal;

/// Largest body taken, in bytes.
pub const LARGEST_BODY: usize = 1024 * 1024;

/// The caller, or 401.
pub struct Authenticated(pub Caller);

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Refusal> {
        let header = parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        Ok(Self(authenticate(&state.service.ports, header).await?))
    }
}

/// The instance a call is about: the id in the path, or without one the instance whose token came along.
pub struct Target {
    /// Who calls.
    pub caller: Caller,
    /// About which instance. Whether it is the caller's is not known yet.
    pub instance: InstanceId,
}

impl FromRequestParts<ApiState> for Target {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Refusal> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let path: Path<std::collections::BTreeMap<String, String>> =
            Path::from_request_parts(parts, state).await.map_err(|_| Refusal::no_instance())?;
        let instance = match path.get("id") {
            Some(id) => id.parse().map_err(|_| Refusal::no_instance())?,
            None => caller.instance.ok_or_else(|| {
                Refusal::bad_request(
                    "Without an id in the path the call is about the instance whose token stands in the \
                     Authorization header, as `Element <token>`.",
                )
            })?,
        };
        Ok(Self { caller, instance })
    }
}

/// A JSON body: at most [`LARGEST_BODY`] bytes, of a JSON content type, without a syntax error.
pub struct JsonBody(pub Value);

impl FromRequest<ApiState> for JsonBody {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, Refusal> {
        check_content_type(request.headers())?;
        let bytes = read_bounded(request.into_body()).await?;
        domain::json::parse_strict(&bytes, Limits::default())
            .map(Self)
            .map_err(|problem| Refusal::bad_request(format!("The body is not valid JSON at {problem}.")))
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let media = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")) {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body must be JSON and say so: send `Content-Type: application/json`.",
    ))
}

async fn read_bounded(body: Body) -> Result<Bytes, Refusal> {
    let too_large = || {
        Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is larger than the limit of {LARGEST_BODY} bytes."),
        )
    };
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::bad_request("The body broke off."))?;
        if whole.len() + chunk.len() > LARGEST_BODY {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(whole))
}
