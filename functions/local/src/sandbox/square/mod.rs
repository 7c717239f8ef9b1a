//! Sandbox Square: searches by POST with a cursor in the body, no modified-since filter for timecards, `{}` for nothing.

mod endpoints;
mod list;
mod select;

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat, Timelike, Utc};
use serde_json::{Map, Value, json};

use super::collection::{Collection, Deletion, Form, Id, Revision, Stamp, contents};
use super::faults::{Fault, Faults};
use super::http::{Call, Reply};
use super::oauth::{self, Bearer, Style};
use super::state::SandboxState;
use super::{Vendor, VendorBehavior};
use endpoints::{GETS, SEARCHES};
use list::{list, query_as_body, shaped};

pub(super) static BEHAVIOR: VendorBehavior = VendorBehavior {
    key: "square",
    title: "Square",
    collections: COLLECTIONS,
    contents: LazyLock::new(|| contents(include_str!("collections.json"))),
    oauth: Some(Style {
        is_authorize: |path| path == "/oauth2/authorize",
        is_token: |path| path == "/oauth2/token",
        is_revoke: |path| path == "/oauth2/revoke",
        json_body: true,
        access_life_s: 30 * 86_400,
        absolute_expiry: true,
        refresh_in_refresh: true,
        refresh_only_offline: false,
        prefixes: ["sq0cgp-", "EAAA", "EQAA"],
        shows_scope: false,
        error: |name, text| match name {
            "invalid_request" | "unsupported_grant_type" => refuse(400, "INVALID_REQUEST_ERROR", "BAD_REQUEST", text),
            _ => refuse(401, "AUTHENTICATION_ERROR", "UNAUTHORIZED", text),
        },
    }),
    complete,
    changed: |_, _, _, _, _| {},
    identify,
    answer,
    refusal,
};

static COLLECTIONS: &[Collection] = &[
    Collection {
        name: "locations",
        id: Id::Text("id", "LOC"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: None,
        revision: None,
        deletion: Deletion::Flag("status", r#""INACTIVE""#),
    },
    Collection {
        name: "team_members",
        id: Id::Text("id", "TM"),
        created: Some(Stamp("created_at", Form::Seconds)),
        updated: Some(Stamp("updated_at", Form::Seconds)),
        revision: None,
        deletion: Deletion::Flag("status", r#""INACTIVE""#),
    },
    Collection {
        name: "timecards",
        id: Id::Text("id", "TC"),
        created: Some(Stamp("created_at", Form::Seconds)),
        updated: Some(Stamp("updated_at", Form::Seconds)),
        revision: Some(Revision::Counter("version")),
        deletion: Deletion::Gone,
    },
    Collection {
        name: "customers",
        id: Id::Text("id", "CU"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Counter("version")),
        deletion: Deletion::Gone,
    },
    Collection {
        name: "orders",
        id: Id::Text("id", "OR"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Counter("version")),
        deletion: Deletion::Flag("state", r#""CANCELED""#),
    },
    Collection {
        name: "payments",
        id: Id::Text("id", "PY"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Opaque("version_token", "vt{}")),
        deletion: Deletion::Flag("status", r#""CANCELED""#),
    },
    Collection {
        name: "catalog",
        id: Id::Text("id", "IT"),
        created: None,
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Millis("version")),
        deletion: Deletion::Flag("is_deleted", "true"),
    },
];

fn refuse(status: u16, category: &str, code: &str, detail: &str) -> Reply {
    Reply::json(status, &json!({"errors": [{"category": category, "code": code, "detail": detail}]}))
}

fn bad(code: &str, detail: &str, field: &str) -> Reply {
    let error = json!({"category": "INVALID_REQUEST_ERROR", "code": code, "detail": detail, "field": field});
    Reply::json(400, &json!({"errors": [error]}))
}

fn missing() -> Reply {
    refuse(404, "INVALID_REQUEST_ERROR", "NOT_FOUND", "Resource not found.")
}

fn refusal(fault: Fault, request: u64, _: &Call) -> Reply {
    match fault {
        Fault::TokenExpired => {
            refuse(401, "AUTHENTICATION_ERROR", "ACCESS_TOKEN_EXPIRED", "The access token has expired.")
        }
        Fault::RateLimited => refuse(429, "RATE_LIMIT_ERROR", "RATE_LIMITED", "Too many requests."),
        Fault::ErrorIn200 => refuse(200, "API_ERROR", "INTERNAL_SERVER_ERROR", "An internal error has occurred."),
        Fault::ServerError | Fault::Cut if request.is_multiple_of(2) => Reply::text(
            503,
            "text/plain",
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        ),
        Fault::ServerError | Fault::Cut => {
            refuse(500, "API_ERROR", "INTERNAL_SERVER_ERROR", "An internal error has occurred.")
        }
    }
}

/// Shift times are cut to the minute and written with the location's offset, and an open shift has no end.
fn complete(kind: &str, value: &mut Map<String, Value>, now: DateTime<Utc>, serial: u64, _: &Faults) {
    let local_minute = |at: DateTime<chrono::FixedOffset>, zone: Option<&str>| {
        let at = at.with_second(0).and_then(|at| at.with_nanosecond(0)).unwrap_or(at);
        match zone.and_then(|name| name.parse::<chrono_tz::Tz>().ok()) {
            Some(zone) => at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Secs, false),
            None => at.to_rfc3339_opts(SecondsFormat::Secs, false),
        }
    };
    match kind {
        "timecards" => {
            let zone = value.get("timezone").and_then(Value::as_str).map(str::to_owned);
            value.entry("start_at").or_insert_with(|| json!(now.to_rfc3339()));
            for field in ["start_at", "end_at"] {
                if let Some(at) = value.get(field).and_then(instant) {
                    value.insert(field.to_owned(), json!(local_minute(at.fixed_offset(), zone.as_deref())));
                }
            }
            let open = value.get("end_at").is_none_or(Value::is_null);
            value.insert("status".into(), json!(if open { "OPEN" } else { "CLOSED" }));
        }
        "orders" if value.get("state").is_some_and(|state| state != "OPEN") => {
            let closed = value.get("updated_at").cloned().unwrap_or_default();
            value.entry("closed_at").or_insert(closed);
        }
        "payments" => {
            value.entry("order_id").or_insert_with(|| json!(format!("OR{serial:x}")));
        }
        _ => {}
    }
}

fn instant(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|at| at.to_utc())
}

fn identify(state: &mut SandboxState, call: &Call) -> Result<String, Reply> {
    if call.path.starts_with("/v1/") {
        return Err(refuse(410, "INVALID_REQUEST_ERROR", "GONE", "The V1 API was retired; use V2."));
    }
    let account = match oauth::bearer(state, call) {
        Bearer::Good(account) => account,
        Bearer::Expired => return Err(refusal(Fault::TokenExpired, 0, call)),
        Bearer::Revoked => {
            return Err(refuse(401, "AUTHENTICATION_ERROR", "ACCESS_TOKEN_REVOKED", "The access token was revoked."));
        }
        Bearer::Unknown => {
            return Err(refuse(401, "AUTHENTICATION_ERROR", "UNAUTHORIZED", "This request could not be authorized."));
        }
    };
    let version = call.header("square-version").unwrap_or_default();
    if chrono::NaiveDate::parse_from_str(version, "%Y-%m-%d").is_err() {
        return Err(bad(
            "BAD_REQUEST",
            "The Square-Version header must be a date such as 2025-08-20.",
            "Square-Version",
        ));
    }
    Ok(account)
}

/// The first version of the API that knows timecards.
const TIMECARDS_SINCE: &str = "2025-05-21";

fn answer(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    let Some(path) = call.path.strip_prefix("/v2/") else {
        return match (call.path.as_str(), call.bearer().and_then(|token| state.grant(token))) {
            ("/oauth2/token/status", Some(grant)) => Reply::ok(&json!({
                "scopes": grant.scope.split([' ', '+']).filter(|scope| !scope.is_empty()).collect::<Vec<_>>(),
                "expires_at": grant.expires.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true)),
                "merchant_id": format!("ML{}", account.to_uppercase()),
            })),
            _ => missing(),
        };
    };
    if path.starts_with("labor/timecards") && call.header("square-version").unwrap_or_default() < TIMECARDS_SINCE {
        return missing();
    }
    if call.method == "GET" {
        if path == "merchants/me" {
            let merchant = json!({"id": format!("ML{}", account.to_uppercase()), "business_name": account, "status": "ACTIVE", "country": "US", "currency": "USD", "main_location_id": "LOC1"});
            return Reply::ok(&json!({"merchant": merchant}));
        }
        if let Some(endpoint) = GETS.iter().find(|endpoint| endpoint.path == path) {
            return list(state, account, endpoint, call, &query_as_body(call));
        }
        for endpoint in SEARCHES.iter().chain(GETS) {
            if let Some(id) = path.strip_prefix(endpoint.one_path) {
                return match state.value(Vendor::Square, account, endpoint.collection, id) {
                    Some(value) => Reply::ok(&json!({endpoint.one_key: shaped(endpoint, value.clone())})),
                    None => missing(),
                };
            }
        }
        return missing();
    }
    match SEARCHES.iter().find(|endpoint| endpoint.path == path) {
        Some(endpoint) if call.method == "POST" => match call.json() {
            Some(body @ Value::Object(_)) => list(state, account, endpoint, call, &body),
            _ => bad("EXPECTED_JSON_BODY", "Request body must be a JSON object.", "body"),
        },
        Some(_) => refuse(405, "INVALID_REQUEST_ERROR", "METHOD_NOT_ALLOWED", "Method not allowed."),
        None => missing(),
    }
}

#[cfg(test)]
mod tests;
