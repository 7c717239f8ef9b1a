//! The control API: what a console page, a script or a curl line uses to change the vendors' data and faults.

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::faults::Faults;
use super::{Expire, Sandbox, SandboxError, Vendor};

impl IntoResponse for SandboxError {
    fn into_response(self) -> Response {
        let status = match self {
            SandboxError::NotAnObject => StatusCode::BAD_REQUEST,
            _ => StatusCode::NOT_FOUND,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

pub(crate) fn router() -> Router<Sandbox> {
    Router::new()
        .route("/sandbox/control", get(describe))
        .route("/sandbox/control/requests", get(requests))
        .route("/sandbox/control/faults", put(set_faults).get(show_faults))
        .route("/sandbox/control/{vendor}/expire", post(expire))
        .route("/sandbox/control/{vendor}/{collection}", get(list).post(create))
        .route("/sandbox/control/{vendor}/{collection}/{id}", patch(update).delete(delete).get(show))
}

/// Query parameters that any data route takes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Options {
    /// Data set; `main` if absent.
    account: Option<String>,
    /// PATCH: change nothing but the given fields.
    silent: bool,
    /// DELETE: leave nothing, even where the vendor would only flag the record.
    hard: bool,
}

impl Options {
    fn sandbox(&self, sandbox: &Sandbox) -> Sandbox {
        sandbox.of(self.account.as_deref().unwrap_or("main"))
    }
}

async fn describe(State(sandbox): State<Sandbox>) -> Json<Value> {
    let state = sandbox.state();
    let vendors: Vec<Value> = Vendor::ALL
        .into_iter()
        .map(|vendor| {
            let behavior = vendor.behavior();
            let collections: Vec<Value> = behavior
                .collections
                .iter()
                .map(|kind| {
                    json!({
                        "name": kind.name, "idField": kind.id.field(),
                        "createdField": kind.created.as_ref().map(|stamp| stamp.0),
                        "updatedField": kind.updated.as_ref().map(|stamp| stamp.0),
                        "example": vendor.contents(kind).defaults,
                    })
                })
                .collect();
            json!({
                "key": vendor.key(), "name": behavior.title, "base": format!("/sandbox/{}", vendor.key()),
                "oauth": behavior.oauth.is_some(), "accounts": state.account_names(vendor), "collections": collections,
            })
        })
        .collect();
    Json(json!({
        "vendors": vendors,
        "faults": Faults::names(),
        "faultsExample": {"vendor": "square", "account": "main", "faults": {"seed": 7, "rate_limit_every": 5, "late_indexing": [2, 6]}},
        "expire": ["tokens", "grants", "sync_tokens", "history", "cursors"],
        "developerCode": "sandbox-code-<account>",
        "developerToken": "sandbox-token-<account>",
    }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogQuery {
    vendor: Option<String>,
    account: Option<String>,
    limit: Option<usize>,
}

async fn requests(State(sandbox): State<Sandbox>, Query(query): Query<LogQuery>) -> Result<Json<Value>, SandboxError> {
    let vendor = query.vendor.as_deref().map(Vendor::named).transpose()?;
    let state = sandbox.state();
    let lines: Vec<_> = state
        .log
        .iter()
        .rev()
        .filter(|line| vendor.is_none_or(|vendor| line.vendor == vendor))
        .filter(|line| query.account.is_none() || line.account == query.account)
        .take(query.limit.unwrap_or(100))
        .collect();
    Ok(Json(json!({"requests": lines, "counters": state.counters})))
}

/// Without an account the faults hold for all accounts that have none of their own.
#[derive(Debug, Deserialize)]
struct FaultsOf {
    vendor: String,
    account: Option<String>,
    #[serde(default)]
    faults: Faults,
}

async fn set_faults(
    State(sandbox): State<Sandbox>,
    body: Result<Json<FaultsOf>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let body = match body {
        Ok(Json(body)) => body,
        Err(error) => {
            let text = format!("{}; wanted: {{\"vendor\", \"account\"?, \"faults\": {{…}}}}", error.body_text());
            return (StatusCode::BAD_REQUEST, Json(json!({"error": text, "faults": Faults::names()}))).into_response();
        }
    };
    match Vendor::named(&body.vendor) {
        Ok(vendor) => {
            let mut state = sandbox.state();
            state.set_faults(vendor, body.account.as_deref(), body.faults);
            Json(json!({"faults": state.faults(vendor, body.account.as_deref().unwrap_or("main"))})).into_response()
        }
        Err(error) => error.into_response(),
    }
}

#[derive(Debug, Deserialize)]
struct WhoseFaults {
    vendor: String,
    account: Option<String>,
}

async fn show_faults(
    State(sandbox): State<Sandbox>,
    Query(query): Query<WhoseFaults>,
) -> Result<Json<Value>, SandboxError> {
    let vendor = Vendor::named(&query.vendor)?;
    let faults = sandbox.state().faults(vendor, query.account.as_deref().unwrap_or("main"));
    Ok(Json(json!({"faults": faults})))
}

#[derive(Debug, Deserialize)]
struct What {
    what: Expire,
}

async fn expire(
    State(sandbox): State<Sandbox>,
    Path(vendor): Path<String>,
    Query(options): Query<Options>,
    Json(body): Json<What>,
) -> Result<Json<Value>, SandboxError> {
    options.sandbox(&sandbox).expire(&vendor, body.what)?;
    Ok(Json(json!({"expired": body.what})))
}

async fn list(
    State(sandbox): State<Sandbox>,
    Path((vendor, collection)): Path<(String, String)>,
    Query(options): Query<Options>,
) -> Result<Json<Vec<Value>>, SandboxError> {
    options.sandbox(&sandbox).list(&vendor, &collection).map(Json)
}

async fn show(
    State(sandbox): State<Sandbox>,
    Path((vendor, collection, id)): Path<(String, String, String)>,
    Query(options): Query<Options>,
) -> Result<Json<Value>, SandboxError> {
    options.sandbox(&sandbox).get(&vendor, &collection, &id).map(Json)
}

async fn create(
    State(sandbox): State<Sandbox>,
    Path((vendor, collection)): Path<(String, String)>,
    Query(options): Query<Options>,
    Json(fields): Json<Value>,
) -> Result<Response, SandboxError> {
    let record = options.sandbox(&sandbox).create(&vendor, &collection, fields)?;
    Ok((StatusCode::CREATED, Json(record)).into_response())
}

async fn update(
    State(sandbox): State<Sandbox>,
    Path((vendor, collection, id)): Path<(String, String, String)>,
    Query(options): Query<Options>,
    Json(fields): Json<Value>,
) -> Result<Json<Value>, SandboxError> {
    let sandbox = options.sandbox(&sandbox);
    let record = if options.silent {
        sandbox.edit_silently(&vendor, &collection, &id, fields)?
    } else {
        sandbox.update(&vendor, &collection, &id, fields)?
    };
    Ok(Json(record))
}

async fn delete(
    State(sandbox): State<Sandbox>,
    Path((vendor, collection, id)): Path<(String, String, String)>,
    Query(options): Query<Options>,
) -> Result<StatusCode, SandboxError> {
    let sandbox = options.sandbox(&sandbox);
    if options.hard {
        sandbox.destroy(&vendor, &collection, &id)?;
    } else {
        sandbox.delete(&vendor, &collection, &id)?;
    }
    Ok(StatusCode::NO_CONTENT)
}
