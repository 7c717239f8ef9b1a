//! The middleware around every request: a request id, the headers browsers need, errors in one shape, and one log line.

use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::limits;
use flow::fields;
use store::ambient::Ambient;

use crate::error::ApiError;
use crate::{ApiState, BASE};

/// Id of the request, on every answer and in every error: 24 hex digits.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("elements-request-id");
/// The token of the next page of a listing.
pub const NEXT_PAGE: HeaderName = HeaderName::from_static("elements-next-page-token");
/// The number of entries on this page.
pub const RETURNED_COUNT: HeaderName = HeaderName::from_static("elements-returned-count");
/// The number of entries in all, where the vendor says so.
pub const TOTAL_COUNT: HeaderName = HeaderName::from_static("elements-total-count");
/// The instance that a hub call went through.
pub const INSTANCE_ID: HeaderName = HeaderName::from_static("elements-element-instance-id");

/// Answer headers that scripts in a browser may read.
const EXPOSED: &str = "Elements-Returned-Count, Elements-Total-Count, Elements-Request-Id, Elements-Next-Page-Token, \
                       Elements-Trace-Id, Elements-Error, Content-Disposition, ETag";
const METHODS: &str = "GET, POST, PUT, PATCH, DELETE, OPTIONS";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Accept, Elements-Version, If-Match";

/// Wraps every route. A preflight is answered here.
pub async fn wrap(State(state): State<ApiState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let request_id = draw_request_id(&*state.service.ports.ambient);
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = path.as_deref().unwrap_or("unmatched");
    let mut response = if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else if let Some(length) = too_long(request.uri()) {
        ApiError::new(
            StatusCode::URI_TOO_LONG,
            format!(
                "The URL has {length} bytes; at most {} are taken. Larger things go into a body.",
                limits::URL_BYTES
            ),
        )
        .into_response()
    } else if request.uri().path().starts_with(BASE) && !accepts_json(request.headers()) {
        ApiError::new(StatusCode::NOT_ACCEPTABLE, "Answers are application/json; the Accept header excludes it.")
            .into_response()
    } else {
        next.run(request).await
    };
    if response.status() == StatusCode::METHOD_NOT_ALLOWED && response.extensions().get::<ApiError>().is_none() {
        let allow = response.headers().get(header::ALLOW).cloned();
        let error =
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is not among this path's methods."));
        response = error.into_response();
        allow.map(|allow| response.headers_mut().insert(header::ALLOW, allow));
    }
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        *response.body_mut() = Body::from(error.body(&request_id).to_string());
        let headers = response.headers_mut();
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Answers hold tokens and configuration: no cache keeps them, unless a handler says otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    let (status, duration_ms) = (response.status().as_u16(), began.elapsed().as_millis() as u64);
    let cause = error.as_ref().and_then(ApiError::cause);
    match cause {
        Some(cause) => tracing::error!(
            %method, route, { fields::STATUS } = status, { fields::DURATION_MS } = duration_ms, request_id,
            { fields::ERROR } = cause, "request failed"
        ),
        None => tracing::info!(
            %method, route, { fields::STATUS } = status, { fields::DURATION_MS } = duration_ms, request_id,
            "request answered"
        ),
    }
    response
}

fn draw_request_id(ambient: &dyn Ambient) -> String {
    let mut bytes = [0; 12];
    ambient.fill_random(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The length of path and query in bytes, if it is over the limit.
fn too_long(uri: &Uri) -> Option<usize> {
    uri.path_and_query().map(|whole| whole.as_str().len()).filter(|length| *length > limits::URL_BYTES)
}

/// True if the client accepts JSON. A client without an Accept header takes anything.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(header::ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return true;
    }
    values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let media = range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        matches!(media.as_str(), "" | "*/*" | "application/*" | "application/json") || media.ends_with("+json")
    })
}
