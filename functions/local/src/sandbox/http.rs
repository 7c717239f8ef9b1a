//! One request at a vendor: reads it, identifies the account, perhaps injects a fault, answers and logs.

use std::collections::HashMap;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::Fault;
use super::state::{Logged, SandboxState};
use super::{Sandbox, Vendor, oauth};

/// A request as the vendor sees it.
pub(crate) struct Call {
    pub(crate) vendor: Vendor,
    pub(crate) method: Method,
    /// Path at the vendor, as it was sent: `/v2/locations`.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    /// The path's segments, decoded; a slash at the end makes an empty last one.
    pub(crate) fn segments(&self) -> Vec<String> {
        self.path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        self.header("authorization")?.strip_prefix("Bearer ")
    }

    /// The body as JSON, if it is.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The body as form fields.
    pub(crate) fn form(&self) -> HashMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// True if the Content-Type header names this type.
    pub(crate) fn is(&self, content_type: &str) -> bool {
        self.header("content-type").is_some_and(|value| value.starts_with(content_type))
    }
}

/// An answer of the vendor.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content_type: &'static str,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self { status, headers: Vec::new(), content_type: "application/json", body: body.to_string() }
    }

    pub(crate) fn ok(body: &Value) -> Self {
        Self::json(200, body)
    }

    pub(crate) fn text(status: u16, content_type: &'static str, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), content_type, body: body.into() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(crate) fn router() -> Router<Sandbox> {
    Router::new().route("/sandbox/{vendor}/{*path}", any(vendor_request))
}

async fn vendor_request(
    State(sandbox): State<Sandbox>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let after_mount = uri.path().strip_prefix("/sandbox/").unwrap_or_default();
    let (key, rest) = after_mount.split_once('/').unwrap_or((after_mount, ""));
    let vendor = match Vendor::named(key) {
        Ok(vendor) => vendor,
        Err(error) => return (StatusCode::NOT_FOUND, axum::Json(json!({"error": error.to_string()}))).into_response(),
    };
    let query = url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let call = Call { vendor, method, path: format!("/{rest}"), query, headers, body };
    let (reply, cut, latency) = answer(&mut sandbox.state(), &call);
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    send(reply, cut)
}

/// Decides the answer, if it breaks off, and how long it takes.
fn answer(state: &mut SandboxState, call: &Call) -> (Reply, bool, Duration) {
    let behavior = call.vendor.behavior();
    let mut fault = None;
    let mut latency = Duration::ZERO;
    let (account, reply) = match oauth::answer(state, call) {
        Some(reply) => (None, reply),
        None => match (behavior.identify)(state, call) {
            Err(reply) => (None, reply),
            Ok(account) => {
                let data = state.account(call.vendor, &account);
                data.requests += 1;
                let request = data.requests;
                let faults = state.faults(call.vendor, &account);
                latency = Duration::from_millis(faults.latency_ms);
                fault =
                    faults.fault_of(request).filter(|fault| *fault != Fault::TokenExpired || call.bearer().is_some());
                let reply = match fault {
                    None | Some(Fault::Cut) => (behavior.answer)(state, &account, call),
                    Some(fault) => {
                        if fault == Fault::TokenExpired {
                            let now = state.now();
                            state.change_grant(call.bearer().unwrap_or_default(), |grant| grant.expires = Some(now));
                        }
                        (behavior.refusal)(fault, request, call)
                    }
                };
                let reply = match (faults.retry_after, reply.status) {
                    (Some(seconds), 429 | 503) => reply.with("retry-after", seconds.to_string()),
                    _ => reply,
                };
                // The vendor's own clock, in the form of RFC 9110.
                let date = state.vendor_now(call.vendor, &account).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
                (Some(account), reply.with("date", date))
            }
        },
    };
    state.log(Logged {
        at: state.now(),
        vendor: call.vendor,
        account,
        method: call.method.to_string(),
        path: call.path.clone(),
        query: masked(&call.query),
        status: reply.status,
        fault: fault.map(Fault::name),
    });
    (reply, fault == Some(Fault::Cut), latency)
}

fn send(reply: Reply, cut: bool) -> Response<Body> {
    let mut response = Response::builder().status(reply.status).header(header::CONTENT_TYPE, reply.content_type);
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let body = if cut {
        let half = Bytes::from(reply.body[..reply.body.floor_char_boundary(reply.body.len() / 2)].to_owned());
        let lost = async {
            // Lets the server send what it has before the connection goes.
            tokio::task::yield_now().await;
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
        };
        Body::from_stream(futures::stream::iter([Ok(half)]).chain(futures::stream::once(lost)))
    } else {
        Body::from(reply.body)
    };
    response.body(body).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Query parameters that no log may show.
const SECRET_PARAMETERS: [&str; 7] =
    ["code", "token", "access_token", "refresh_token", "client_secret", "api_key", "api_secret"];

fn masked(query: &[(String, String)]) -> String {
    let mut text = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in query {
        let secret = SECRET_PARAMETERS.contains(&name.as_str());
        text.append_pair(name, if secret { domain::secret::MASK } else { value });
    }
    text.finish()
}

/// Makes an opaque text of a position; it survives restarts because it is its own state.
pub(crate) fn seal<T: Serialize>(position: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(position).unwrap_or_default())
}

/// Reads a text of [`seal`], or nothing if it is not one.
pub(crate) fn unseal<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
