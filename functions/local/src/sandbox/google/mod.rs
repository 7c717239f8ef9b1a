//! Sandbox Google Suite: three APIs (Calendar, Gmail, People) that list changes since an opaque token.
//!
//! A sync token holds for one list and one set of parameters; it comes with the last page only. A page token stands for
//! a place in the order of creation (full list) or of change (delta), so that an edit between two pages hides nothing.

mod calendar;
mod gmail;
mod people;
mod sync;

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::collection::{Collection, Deletion, Form, Id, Revision, Stamp, contents};
use super::faults::{Fault, Faults};
use super::http::{Call, Reply};
use super::oauth::{self, Bearer, Style};
use super::state::SandboxState;
use super::{Vendor, VendorBehavior};

const GOOGLE: Vendor = Vendor::GoogleSuite;

/// The address of the mailbox, which is also the id of the primary calendar.
const OWNER: &str = "me@example.com";

pub(super) static BEHAVIOR: VendorBehavior = VendorBehavior {
    key: "googlesuite",
    title: "Google Suite",
    collections: COLLECTIONS,
    contents: LazyLock::new(|| contents(include_str!("collections.json"))),
    oauth: Some(Style {
        is_authorize: |path| path == "/o/oauth2/v2/auth",
        is_token: |path| path == "/token",
        is_revoke: |path| path == "/revoke",
        json_body: false,
        access_life_s: 3_600,
        absolute_expiry: false,
        refresh_in_refresh: false,
        refresh_only_offline: true,
        prefixes: ["4/0A", "ya29.", "1//0"],
        shows_scope: true,
        error: |name, text| {
            let status = if name == "invalid_client" { 401 } else { 400 };
            Reply::json(status, &json!({"error": name, "error_description": text}))
        },
    }),
    complete,
    changed: gmail::changed,
    identify,
    answer,
    refusal,
};

static COLLECTIONS: &[Collection] = &[
    Collection {
        name: "calendars",
        id: Id::Text("id", "team"),
        created: None,
        updated: None,
        revision: Some(Revision::Opaque("etag", "\"p{}\"")),
        deletion: Deletion::Stub(&["kind", "etag", "id"], r#"{"deleted":true}"#),
    },
    Collection {
        name: "events",
        id: Id::Text("id", "ev"),
        created: Some(Stamp("created", Form::WholeMillis)),
        updated: Some(Stamp("updated", Form::Millis)),
        revision: Some(Revision::Opaque("etag", "\"318{}\"")),
        deletion: Deletion::Stub(
            &["kind", "etag", "id", "recurringEventId", "originalStartTime"],
            r#"{"status":"cancelled"}"#,
        ),
    },
    Collection {
        name: "messages",
        id: Id::Text("id", "19"),
        created: None,
        updated: None,
        revision: None,
        deletion: Deletion::Gone,
    },
    Collection {
        name: "contactGroups",
        id: Id::Resource("resourceName", "contactGroups/"),
        created: None,
        updated: Some(Stamp("metadata/updateTime", Form::Micros)),
        revision: Some(Revision::Opaque("etag", "e{}=")),
        deletion: Deletion::Stub(&["resourceName"], r#"{"metadata":{"deleted":true}}"#),
    },
];

/// An error in the old style that all three APIs share; `status` is in those of Gmail and People only.
fn refuse(code: u16, domain: &str, reason: &str, message: &str) -> Reply {
    let one = json!({"domain": domain, "reason": reason, "message": message});
    Reply::json(code, &json!({"error": {"errors": [one], "code": code, "message": message}}))
}

fn missing() -> Reply {
    let text = "Requested entity was not found.";
    let one = json!({"message": text, "domain": "global", "reason": "notFound"});
    Reply::json(404, &json!({"error": {"code": 404, "message": text, "errors": [one], "status": "NOT_FOUND"}}))
}

fn about_parameter(code: u16, domain: &str, reason: &str, message: &str, parameter: &str) -> Reply {
    let one = json!({"domain": domain, "reason": reason, "message": message, "locationType": "parameter", "location": parameter});
    Reply::json(code, &json!({"error": {"errors": [one], "code": code, "message": message}}))
}

fn unauthorized() -> Reply {
    let one = json!({"domain": "global", "reason": "authError", "message": "Invalid Credentials", "locationType": "header", "location": "Authorization"});
    Reply::json(
        401,
        &json!({"error": {"errors": [one], "code": 401, "message": "Invalid Credentials", "status": "UNAUTHENTICATED"}}),
    )
}

fn refusal(fault: Fault, request: u64, _: &Call) -> Reply {
    match fault {
        Fault::TokenExpired => unauthorized(),
        Fault::RateLimited => match request % 3 {
            0 => refuse(403, "usageLimits", "userRateLimitExceeded", "User Rate Limit Exceeded"),
            1 => refuse(403, "usageLimits", "rateLimitExceeded", "Rate Limit Exceeded"),
            _ => refuse(429, "usageLimits", "rateLimitExceeded", "Too many concurrent requests for user"),
        },
        Fault::ErrorIn200 => {
            let body = json!({"error": {"errors": [{"domain": "global", "reason": "backendError", "message": "Backend Error"}], "code": 503, "message": "Backend Error"}});
            Reply::ok(&body)
        }
        Fault::ServerError | Fault::Cut if request.is_multiple_of(2) => {
            Reply::text(502, "text/html; charset=UTF-8", "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>")
        }
        Fault::ServerError | Fault::Cut => refuse(503, "global", "backendError", "Backend Error"),
    }
}

fn complete(kind: &str, value: &mut Map<String, Value>, now: DateTime<Utc>, serial: u64, _: &Faults) {
    let id = value.get("id").cloned().unwrap_or_default();
    let text = id.as_str().unwrap_or_default();
    match kind {
        "events" => {
            value.entry("htmlLink").or_insert_with(|| json!(format!("https://calendar.example.com/event?eid={text}")));
            value.entry("iCalUID").or_insert_with(|| json!(format!("{text}@google.com")));
        }
        "messages" => {
            value.entry("threadId").or_insert_with(|| id.clone());
            value.entry("internalDate").or_insert_with(|| json!(now.timestamp_millis().to_string()));
            value.insert("historyId".into(), json!(serial.to_string()));
        }
        "contactGroups" if value.get("groupType").is_some_and(|kind| kind == "SYSTEM_CONTACT_GROUP") => {
            value.remove("metadata");
        }
        "contactGroups" => {
            let name = value.get("name").cloned().unwrap_or_default();
            value.insert("formattedName".into(), name);
        }
        _ => {}
    }
}

fn identify(state: &mut SandboxState, call: &Call) -> Result<String, Reply> {
    let Bearer::Good(account) = oauth::bearer(state, call) else { return Err(unauthorized()) };
    let scope = call.bearer().and_then(|token| state.grant(token)).map_or("", |grant| grant.scope.as_str());
    let wanted: &[&str] = match call.path.split('/').nth(1) {
        Some("calendar") => &["calendar"],
        Some("gmail") => &["gmail", "mail.google.com"],
        Some("oauth2") => &[""],
        _ => &["contacts"],
    };
    if !scope.is_empty() && !wanted.iter().any(|part| scope.contains(part)) {
        return Err(refuse(403, "global", "insufficientPermissions", "Insufficient Permission"));
    }
    Ok(account)
}

fn answer(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    if call.method != "GET" {
        return refuse(405, "global", "httpMethodNotAllowed", "Only GET is imitated here.");
    }
    let segments = call.segments();
    match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["calendar", "v3", "users", "me", "calendarList"] => calendar::calendar_list(state, account, call),
        ["calendar", "v3", "users", "me", "calendarList", id] => {
            match state.value(GOOGLE, account, "calendars", calendar::own(id)) {
                Some(entry) => Reply::ok(entry),
                None => refuse(404, "global", "notFound", "Not Found"),
            }
        }
        ["calendar", "v3", "calendars", id] => match calendar::calendar(state, account, id) {
            Ok(entry) => {
                let shown = json!({"kind": "calendar#calendar", "etag": entry["etag"], "id": entry["id"], "summary": entry["summary"], "timeZone": entry["timeZone"]});
                Reply::ok(&shown)
            }
            Err(reply) => reply,
        },
        ["calendar", "v3", "calendars", id, "events"] => calendar::events(state, account, id, call),
        ["calendar", "v3", "calendars", id, "events", event] => match calendar::calendar(state, account, id) {
            Err(reply) => reply,
            Ok(_) => {
                let record = state.record(GOOGLE, account, &calendar::events_of(id), event);
                match record.and_then(|record| record.value.as_ref().or(record.stub.as_ref())) {
                    Some(value) => Reply::ok(value),
                    None => refuse(404, "global", "notFound", "Not Found"),
                }
            }
        },
        ["gmail", "v1", "users", _, "profile"] => {
            let messages = state.listed(GOOGLE, account, "messages");
            let threads: std::collections::HashSet<_> =
                messages.iter().map(|row| row["threadId"].to_string()).collect();
            Reply::ok(&json!({"emailAddress": OWNER, "messagesTotal": messages.len(), "threadsTotal": threads.len(),
                "historyId": state.settled_until(GOOGLE, account, "history").to_string()}))
        }
        ["gmail", "v1", "users", _, "history"] => gmail::history(state, account, call),
        ["gmail", "v1", "users", _, "messages"] => gmail::messages(state, account, call),
        ["gmail", "v1", "users", _, "messages", id] => match state.value(GOOGLE, account, "messages", id) {
            None => missing(),
            Some(message) => Reply::ok(&gmail::formatted(message.clone(), call)),
        },
        ["oauth2", "v2", "userinfo"] => Reply::ok(&json!({"id": account, "email": OWNER, "verified_email": true})),
        ["v1", "contactGroups"] => people::contact_groups(state, account, call),
        ["v1", "contactGroups", id] => match state.value(GOOGLE, account, "contactGroups", id) {
            Some(group) => Reply::ok(group),
            None => missing(),
        },
        _ => missing(),
    }
}

#[cfg(test)]
mod tests;
