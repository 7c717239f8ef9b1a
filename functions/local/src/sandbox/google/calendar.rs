//! Google Calendar: the list of calendars, and the events of one calendar.

use chrono::{DateTime, Duration, Utc};
use serde_json::{Value, json};

use super::super::http::{Call, Reply};
use super::super::state::SandboxState;
use super::sync::{BadToken, ListRequest, continued, question, size, sync_list};
use super::{GOOGLE, OWNER, about_parameter, refuse};

pub(super) fn own(id: &str) -> &str {
    if id == "primary" { OWNER } else { id }
}

/// The collection of a calendar's events; the primary one's has the plain name.
pub(super) fn events_of(id: &str) -> String {
    if own(id) == OWNER { "events".to_owned() } else { format!("events:{id}") }
}

pub(super) fn calendar(state: &SandboxState, account: &str, id: &str) -> Result<Value, Reply> {
    match state.record(GOOGLE, account, "calendars", own(id)) {
        None => Err(refuse(404, "global", "notFound", "Not Found")),
        Some(record) => {
            record.value.clone().ok_or_else(|| refuse(410, "global", "deleted", "Resource has been deleted"))
        }
    }
}

fn calendar_refusal(problem: &BadToken) -> Reply {
    match problem {
        BadToken::Page => about_parameter(400, "global", "invalid", "Invalid page token value.", "pageToken"),
        BadToken::Sync => about_parameter(400, "global", "invalid", "Invalid sync token value.", "syncToken"),
        BadToken::Expired => about_parameter(
            410,
            "calendar",
            "fullSyncRequired",
            "Sync token is no longer valid, a full sync is required.",
            "syncToken",
        ),
    }
}

pub(super) fn calendar_list(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    let asked = ListRequest {
        collection: "calendars",
        size: size(call, "maxResults", 100, 250),
        question: question("calendars", call),
        page: call.query("pageToken"),
        sync: call.query("syncToken"),
        with_deleted: call.query("showDeleted") == Some("true"),
        life: None,
    };
    match sync_list(state, account, &asked, |_| true) {
        Err(problem) => calendar_refusal(&problem),
        Ok(page) => {
            continued(json!({"kind": "calendar#calendarList", "etag": "\"p1\"", "items": page.rows}), page.next)
        }
    }
}

/// The parameters that Google does not take together with a sync token.
const NOT_WITH_SYNC_TOKEN: [&str; 8] = [
    "iCalUID",
    "orderBy",
    "privateExtendedProperty",
    "q",
    "sharedExtendedProperty",
    "timeMin",
    "timeMax",
    "updatedMin",
];

/// The longest time that `updatedMin` may lie in the past.
const UPDATED_MIN_REACH: Duration = Duration::days(29);

pub(super) fn events(state: &mut SandboxState, account: &str, id: &str, call: &Call) -> Reply {
    let entry = match calendar(state, account, id) {
        Ok(entry) => entry,
        Err(reply) => return reply,
    };
    let narrowed: Vec<&str> = NOT_WITH_SYNC_TOKEN.into_iter().filter(|name| call.query(name).is_some()).collect();
    let [from, to, updated] = match event_times(state, call, &narrowed) {
        Ok(times) => times,
        Err(reply) => return reply,
    };
    let collection = events_of(id);
    let asked = ListRequest {
        collection: &collection,
        size: size(call, "maxResults", 250, 2500),
        question: question(&collection, call),
        page: call.query("pageToken"),
        sync: call.query("syncToken"),
        with_deleted: call.query("showDeleted") == Some("true") || updated.is_some(),
        life: None,
    };
    let when = |value: &Value| DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|at| at.to_utc());
    let words = call.query("q").map(str::to_lowercase);
    let page = sync_list(state, account, &asked, |event| {
        from.is_none_or(|from| when(&event["end"]["dateTime"]).is_none_or(|end| end > from))
            && to.is_none_or(|to| when(&event["start"]["dateTime"]).is_none_or(|start| start < to))
            && updated.is_none_or(|least| when(&event["updated"]).is_none_or(|at| at >= least))
            && call.query("iCalUID").is_none_or(|uid| event["iCalUID"] == uid)
            && words
                .as_ref()
                .is_none_or(|words| event["summary"].as_str().unwrap_or_default().to_lowercase().contains(words))
    });
    let mut page = match page {
        Ok(page) => page,
        Err(problem) => return calendar_refusal(&problem),
    };
    if call.query("orderBy").is_some() {
        page.rows.sort_by_key(|event| event["updated"].to_string());
    }
    if !narrowed.is_empty() {
        page.next = page.next.map_err(|_| String::new());
    }
    let updated = state
        .records(GOOGLE, account, &collection)
        .iter()
        .filter_map(|record| record.value.as_ref()?["updated"].as_str())
        .max()
        .map(str::to_owned);
    continued(
        json!({"kind": "calendar#events", "etag": format!("\"p{}\"", state.serial()), "summary": entry["summary"],
            "updated": updated, "timeZone": entry["timeZone"], "accessRole": entry["accessRole"], "defaultReminders": [],
            "items": page.rows}),
        page.next,
    )
}

/// Reads `timeMin`, `timeMax` and `updatedMin`, and refuses parameters that do not go together.
fn event_times(state: &SandboxState, call: &Call, narrowed: &[&str]) -> Result<[Option<DateTime<Utc>>; 3], Reply> {
    if call.query("syncToken").is_some() {
        if let Some(name) = narrowed.first() {
            let text = format!("The {name} parameter cannot be used together with a sync token.");
            return Err(about_parameter(400, "global", "badRequest", &text, name));
        }
        if call.query("showDeleted") == Some("false") {
            let text = "Sync token cannot be used when deleted events are hidden.";
            return Err(about_parameter(400, "global", "badRequest", text, "showDeleted"));
        }
    }
    let mut times = [None; 3];
    for (slot, name) in times.iter_mut().zip(["timeMin", "timeMax", "updatedMin"]) {
        if let Some(text) = call.query(name) {
            *slot = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
            if slot.is_none() {
                return Err(about_parameter(400, "global", "badRequest", "Bad Request", name));
            }
        }
    }
    let [_, _, updated] = times;
    if updated.is_some_and(|at| at < state.now() - UPDATED_MIN_REACH) {
        let text = "The requested minimum modification time lies too far in the past.";
        return Err(about_parameter(410, "calendar", "updatedMinTooLongAgo", text, "updatedMin"));
    }
    if call.query("orderBy") == Some("startTime") && call.query("singleEvents") != Some("true") {
        return Err(refuse(
            400,
            "global",
            "badRequest",
            "The requested ordering is not available for the particular query.",
        ));
    }
    Ok(times)
}
