//! Sandbox Google Suite: three APIs (Calendar, Gmail, People) that tell what changed since an opaque token.
//!
//! A sync token holds for one list and one set of parameters; it comes with the last page only. A page token stands for
//! a place in the order of creation (full list) or of change (delta), so that an edit between two pages hides nothing.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::collection::{Collection, Deletion, Form, Id, Revision, Stamp};
use super::faults::{Faults, Strike};
use super::http::{Call, Reply, seal, unseal};
use super::oauth::{self, Bearer, Style};
use super::world::{World, page};
use super::{Manners, Vendor};

const GOOGLE: Vendor = Vendor::GoogleSuite;

/// The address of the mailbox, which is also the id of the primary calendar.
const OWNER: &str = "me@example.com";

pub(super) static MANNERS: Manners = Manners {
    key: "googlesuite",
    title: "Google Suite",
    collections: COLLECTIONS,
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
        tells_scope: true,
        error: |name, text| {
            let status = if name == "invalid_client" { 401 } else { 400 };
            Reply::json(status, &json!({"error": name, "error_description": text}))
        },
    }),
    complete,
    changed,
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
        defaults: r#"{"kind":"calendar#calendarListEntry","summary":"Team","timeZone":"Europe/London","accessRole":"owner","defaultReminders":[]}"#,
        skeleton: r#"[{"id":"me@example.com","summary":"me@example.com","primary":true}]"#,
        samples: r#"[{"id":"team@group.calendar.example.com","summary":"Team"}]"#,
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
        defaults: r#"{"kind":"calendar#event","status":"confirmed","summary":"Meeting","creator":{"email":"me@example.com","self":true},
            "organizer":{"email":"me@example.com","self":true},
            "start":{"dateTime":"2026-08-03T09:00:00+01:00","timeZone":"Europe/London"},
            "end":{"dateTime":"2026-08-03T10:00:00+01:00","timeZone":"Europe/London"},"sequence":0,"eventType":"default"}"#,
        skeleton: "[]",
        samples: r#"[{"summary":"Review"},{"summary":"Lunch with Bo"},{"summary":"Weekly","recurrence":["RRULE:FREQ=WEEKLY"]}]"#,
    },
    Collection {
        name: "messages",
        id: Id::Text("id", "19"),
        created: None,
        updated: None,
        revision: None,
        deletion: Deletion::Gone,
        defaults: r#"{"labelIds":["UNREAD","INBOX"],"snippet":"Hi","sizeEstimate":2048,
            "payload":{"mimeType":"text/plain","headers":[{"name":"Subject","value":"Hi"},{"name":"From","value":"b@example.com"}]}}"#,
        skeleton: "[]",
        samples: r#"[{"snippet":"The invoice is attached"},{"snippet":"See you on Monday","labelIds":["INBOX"]}]"#,
    },
    Collection {
        name: "contactGroups",
        id: Id::Resource("resourceName", "contactGroups/"),
        created: None,
        updated: Some(Stamp("metadata/updateTime", Form::Micros)),
        revision: Some(Revision::Opaque("etag", "e{}=")),
        deletion: Deletion::Stub(&["resourceName"], r#"{"metadata":{"deleted":true}}"#),
        defaults: r#"{"groupType":"USER_CONTACT_GROUP","name":"Group","memberCount":0}"#,
        skeleton: r#"[{"resourceName":"contactGroups/myContacts","groupType":"SYSTEM_CONTACT_GROUP","name":"myContacts","formattedName":"My Contacts"},
            {"resourceName":"contactGroups/starred","groupType":"SYSTEM_CONTACT_GROUP","name":"starred","formattedName":"Starred"}]"#,
        samples: r#"[{"name":"Friends","memberCount":3},{"name":"Suppliers"}]"#,
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

fn refusal(strike: Strike, request: u64, _: &Call) -> Reply {
    match strike {
        Strike::TokenExpired => unauthorized(),
        Strike::RateLimited => match request % 3 {
            0 => refuse(403, "usageLimits", "userRateLimitExceeded", "User Rate Limit Exceeded"),
            1 => refuse(403, "usageLimits", "rateLimitExceeded", "Rate Limit Exceeded"),
            _ => refuse(429, "usageLimits", "rateLimitExceeded", "Too many concurrent requests for user"),
        },
        Strike::ErrorIn200 => {
            let body = json!({"error": {"errors": [{"domain": "global", "reason": "backendError", "message": "Backend Error"}], "code": 503, "message": "Backend Error"}});
            Reply::ok(&body)
        }
        Strike::ServerError | Strike::Cut if request.is_multiple_of(2) => {
            Reply::text(502, "text/html; charset=UTF-8", "<!DOCTYPE html><title>Error 502 (Server Error)!!1</title>")
        }
        Strike::ServerError | Strike::Cut => refuse(503, "global", "backendError", "Backend Error"),
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

/// Gmail writes down what happened to a message; an edit that moves no label leaves no trace.
fn changed(world: &mut World, account: &str, collection: &str, before: Option<&Value>, after: Option<&Value>) {
    if collection != "messages" {
        return;
    }
    let Some(message) = after.or(before) else { return };
    let brief = json!({"id": message["id"], "threadId": message["threadId"]});
    let labelled = json!({"id": message["id"], "threadId": message["threadId"], "labelIds": message["labelIds"]});
    let labels =
        |value: Option<&Value>| value.and_then(|value| value["labelIds"].as_array()).cloned().unwrap_or_default();
    let moved = |from: &[Value], to: &[Value]| -> Vec<Value> {
        to.iter().filter(|label| !from.contains(label)).cloned().collect()
    };
    let mut rows = Vec::new();
    match (before, after) {
        (None, _) => rows.push(("messagesAdded", json!([{"message": labelled}]))),
        (_, None) => rows.push(("messagesDeleted", json!([{"message": labelled}]))),
        _ => {
            let (old, new) = (labels(before), labels(after));
            for (what, names) in [("labelsAdded", moved(&old, &new)), ("labelsRemoved", moved(&new, &old))] {
                if !names.is_empty() {
                    rows.push((what, json!([{"message": labelled, "labelIds": names}])));
                }
            }
        }
    }
    for (index, (what, list)) in rows.into_iter().enumerate() {
        let serial = if index == 0 { world.serial() } else { world.next_serial() };
        world.append(GOOGLE, account, "history", json!({"id": serial.to_string(), "messages": [brief], what: list}));
    }
}

fn identify(world: &mut World, call: &Call) -> Result<String, Reply> {
    let Bearer::Good(account) = oauth::bearer(world, call) else { return Err(unauthorized()) };
    let scope = call.bearer().and_then(|token| world.grant(token)).map_or("", |grant| grant.scope.as_str());
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

fn answer(world: &mut World, account: &str, call: &Call) -> Reply {
    if call.method != "GET" {
        return refuse(405, "global", "httpMethodNotAllowed", "Only GET is imitated here.");
    }
    let segments = call.segments();
    match segments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["calendar", "v3", "users", "me", "calendarList"] => calendar_list(world, account, call),
        ["calendar", "v3", "users", "me", "calendarList", id] => {
            match world.value(GOOGLE, account, "calendars", own(id)) {
                Some(entry) => Reply::ok(entry),
                None => refuse(404, "global", "notFound", "Not Found"),
            }
        }
        ["calendar", "v3", "calendars", id] => match calendar(world, account, id) {
            Ok(entry) => {
                let shown = json!({"kind": "calendar#calendar", "etag": entry["etag"], "id": entry["id"], "summary": entry["summary"], "timeZone": entry["timeZone"]});
                Reply::ok(&shown)
            }
            Err(reply) => reply,
        },
        ["calendar", "v3", "calendars", id, "events"] => events(world, account, id, call),
        ["calendar", "v3", "calendars", id, "events", event] => match calendar(world, account, id) {
            Err(reply) => reply,
            Ok(_) => {
                let record = world.record(GOOGLE, account, &events_of(id), event);
                match record.and_then(|record| record.value.as_ref().or(record.stub.as_ref())) {
                    Some(value) => Reply::ok(value),
                    None => refuse(404, "global", "notFound", "Not Found"),
                }
            }
        },
        ["gmail", "v1", "users", _, "profile"] => {
            let messages = world.listed(GOOGLE, account, "messages");
            let threads: std::collections::HashSet<_> =
                messages.iter().map(|row| row["threadId"].to_string()).collect();
            Reply::ok(&json!({"emailAddress": OWNER, "messagesTotal": messages.len(), "threadsTotal": threads.len(),
                "historyId": world.settled_until(GOOGLE, account, "history").to_string()}))
        }
        ["gmail", "v1", "users", _, "history"] => history(world, account, call),
        ["gmail", "v1", "users", _, "messages"] => messages(world, account, call),
        ["gmail", "v1", "users", _, "messages", id] => match world.value(GOOGLE, account, "messages", id) {
            None => missing(),
            Some(message) => Reply::ok(&formatted(message.clone(), call)),
        },
        ["oauth2", "v2", "userinfo"] => Reply::ok(&json!({"id": account, "email": OWNER, "verified_email": true})),
        ["v1", "contactGroups"] => contact_groups(world, account, call),
        ["v1", "contactGroups", id] => match world.value(GOOGLE, account, "contactGroups", id) {
            Some(group) => Reply::ok(group),
            None => missing(),
        },
        _ => missing(),
    }
}

// ---------------------------------------------------------------- lists with sync tokens

/// A place in a list, or with `after` none the end of one.
#[derive(Serialize, Deserialize)]
struct Place {
    /// Digest of list and parameters.
    question: u64,
    /// Delta since this serial; full list if none.
    since: Option<u64>,
    /// Serial up to which this listing tells; the next delta begins there.
    until: u64,
    /// Page token: serial (of creation or change) of the last row told.
    after: Option<u64>,
    /// Page token: the page it stands for is an empty one.
    blank: bool,
    generation: u32,
    at: i64,
}

/// What a list with sync tokens is asked.
struct Asked<'a> {
    collection: &'a str,
    size: usize,
    question: u64,
    page: Option<&'a str>,
    sync: Option<&'a str>,
    /// Whether a full list shows what is deleted.
    with_deleted: bool,
    /// How long a sync token lives.
    life: Option<Duration>,
}

struct Told {
    rows: Vec<Value>,
    /// Next page's token, or else the sync token.
    next: Result<String, String>,
}

/// Why a token is refused.
enum BadToken {
    Page,
    Sync,
    Expired,
}

fn sync_list(
    world: &mut World,
    account: &str,
    asked: &Asked<'_>,
    keep: impl Fn(&Value) -> bool,
) -> Result<Told, BadToken> {
    let generations = world.account(GOOGLE, account).generations;
    let now = world.now();
    let place = match (asked.page, asked.sync) {
        (Some(token), _) => unseal::<Place>(token)
            .filter(|place| {
                place.question == asked.question && place.after.is_some() && place.generation == generations.cursors
            })
            .ok_or(BadToken::Page)?,
        (None, sync) => {
            let since = match sync {
                None => None,
                Some(token) => {
                    let place = unseal::<Place>(token)
                        .filter(|place| place.question == asked.question && place.after.is_none())
                        .ok_or(BadToken::Sync)?;
                    let old = asked.life.is_some_and(|life| now.timestamp() - place.at > life.num_seconds());
                    if old || place.generation != generations.sync_tokens {
                        return Err(BadToken::Expired);
                    }
                    Some(place.until)
                }
            };
            let until = world.settled_until(GOOGLE, account, asked.collection);
            let (question, at) = (asked.question, now.timestamp());
            Place { question, since, until, after: Some(0), blank: false, generation: generations.cursors, at }
        }
    };
    let after = place.after.unwrap_or(0);
    let mut rows: Vec<(u64, Value)> = Vec::new();
    for record in world.records(GOOGLE, account, asked.collection) {
        match place.since {
            Some(since) if record.change > since && record.change <= place.until && record.change > after => {
                rows.extend(record.value.as_ref().or(record.stub.as_ref()).map(|value| (record.change, value.clone())));
            }
            None if record.born > after => {
                let gone = record.stub.as_ref().filter(|_| asked.with_deleted && record.value.is_none());
                rows.extend(record.listed(now).or(gone).map(|value| (record.born, value.clone())));
            }
            _ => {}
        }
    }
    rows.sort_by_key(|(serial, _)| *serial);
    rows.retain(|(_, value)| keep(value));

    let faults = world.faults(GOOGLE, account);
    let size = if place.blank { 0 } else { asked.size };
    let more = rows.len() > size;
    rows.truncate(size);
    let last = rows.last().map_or(after, |(serial, _)| *serial);
    let rows = page(rows.into_iter().map(|(_, value)| value).collect(), 0, usize::MAX, &faults).rows;
    let next = if more {
        let blank = faults.empty_pages && !place.blank;
        Ok(seal(&Place { after: Some(last), blank, ..place }))
    } else {
        Err(seal(&Place {
            since: None,
            after: None,
            generation: generations.sync_tokens,
            at: now.timestamp(),
            ..place
        }))
    };
    Ok(Told { rows, next })
}

/// A number that is the same for the same list and parameters; size and place do not count.
fn question(collection: &str, call: &Call) -> u64 {
    const APART: [&str; 7] = ["pageToken", "syncToken", "maxResults", "pageSize", "alt", "prettyPrint", "key"];
    let mut asked: Vec<_> = call.query.iter().filter(|(name, _)| !APART.contains(&name.as_str())).collect();
    asked.sort();
    let digest = Sha256::digest(format!("{collection}{asked:?}"));
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn size(call: &Call, name: &str, usual: usize, most: usize) -> usize {
    call.query(name).and_then(|text| text.parse().ok()).filter(|size| *size > 0).unwrap_or(usual).min(most)
}

// ---------------------------------------------------------------- Calendar

fn own(id: &str) -> &str {
    if id == "primary" { OWNER } else { id }
}

/// The collection of a calendar's events; the primary one's has the plain name.
fn events_of(id: &str) -> String {
    if own(id) == OWNER { "events".to_owned() } else { format!("events:{id}") }
}

fn calendar(world: &World, account: &str, id: &str) -> Result<Value, Reply> {
    match world.record(GOOGLE, account, "calendars", own(id)) {
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

fn continued(mut reply: Value, next: Result<String, String>) -> Reply {
    match next {
        Ok(token) => reply["nextPageToken"] = json!(token),
        Err(token) if !token.is_empty() => reply["nextSyncToken"] = json!(token),
        Err(_) => {}
    }
    Reply::ok(&reply)
}

fn calendar_list(world: &mut World, account: &str, call: &Call) -> Reply {
    let asked = Asked {
        collection: "calendars",
        size: size(call, "maxResults", 100, 250),
        question: question("calendars", call),
        page: call.query("pageToken"),
        sync: call.query("syncToken"),
        with_deleted: call.query("showDeleted") == Some("true"),
        life: None,
    };
    match sync_list(world, account, &asked, |_| true) {
        Err(problem) => calendar_refusal(&problem),
        Ok(told) => {
            continued(json!({"kind": "calendar#calendarList", "etag": "\"p1\"", "items": told.rows}), told.next)
        }
    }
}

/// What Google does not take together with a sync token.
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

/// How far back `updatedMin` may lie.
const UPDATED_MIN_REACH: Duration = Duration::days(29);

fn events(world: &mut World, account: &str, id: &str, call: &Call) -> Reply {
    let entry = match calendar(world, account, id) {
        Ok(entry) => entry,
        Err(reply) => return reply,
    };
    let narrowed: Vec<&str> = NOT_WITH_SYNC_TOKEN.into_iter().filter(|name| call.query(name).is_some()).collect();
    if call.query("syncToken").is_some() {
        if let Some(name) = narrowed.first() {
            let text = format!("The {name} parameter cannot be used together with a sync token.");
            return about_parameter(400, "global", "badRequest", &text, name);
        }
        if call.query("showDeleted") == Some("false") {
            let text = "Sync token cannot be used when deleted events are hidden.";
            return about_parameter(400, "global", "badRequest", text, "showDeleted");
        }
    }
    let mut times = [None; 3];
    for (slot, name) in times.iter_mut().zip(["timeMin", "timeMax", "updatedMin"]) {
        if let Some(text) = call.query(name) {
            *slot = DateTime::parse_from_rfc3339(text).ok().map(|at| at.to_utc());
            if slot.is_none() {
                return about_parameter(400, "global", "badRequest", "Bad Request", name);
            }
        }
    }
    let [from, to, updated] = times;
    if updated.is_some_and(|at| at < world.now() - UPDATED_MIN_REACH) {
        let text = "The requested minimum modification time lies too far in the past.";
        return about_parameter(410, "calendar", "updatedMinTooLongAgo", text, "updatedMin");
    }
    if call.query("orderBy") == Some("startTime") && call.query("singleEvents") != Some("true") {
        return refuse(
            400,
            "global",
            "badRequest",
            "The requested ordering is not available for the particular query.",
        );
    }
    let collection = events_of(id);
    let asked = Asked {
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
    let told = sync_list(world, account, &asked, |event| {
        from.is_none_or(|from| when(&event["end"]["dateTime"]).is_none_or(|end| end > from))
            && to.is_none_or(|to| when(&event["start"]["dateTime"]).is_none_or(|start| start < to))
            && updated.is_none_or(|least| when(&event["updated"]).is_none_or(|at| at >= least))
            && call.query("iCalUID").is_none_or(|uid| event["iCalUID"] == uid)
            && words
                .as_ref()
                .is_none_or(|words| event["summary"].as_str().unwrap_or_default().to_lowercase().contains(words))
    });
    let mut told = match told {
        Ok(told) => told,
        Err(problem) => return calendar_refusal(&problem),
    };
    if call.query("orderBy").is_some() {
        told.rows.sort_by_key(|event| event["updated"].to_string());
    }
    if !narrowed.is_empty() {
        told.next = told.next.map_err(|_| String::new());
    }
    let updated = world
        .records(GOOGLE, account, &collection)
        .iter()
        .filter_map(|record| record.value.as_ref()?["updated"].as_str())
        .max()
        .map(str::to_owned);
    continued(
        json!({"kind": "calendar#events", "etag": format!("\"p{}\"", world.serial()), "summary": entry["summary"],
            "updated": updated, "timeZone": entry["timeZone"], "accessRole": entry["accessRole"], "defaultReminders": [],
            "items": told.rows}),
        told.next,
    )
}

// ---------------------------------------------------------------- Gmail

fn history(world: &mut World, account: &str, call: &Call) -> Reply {
    let Some(start) = call.query("startHistoryId").and_then(|text| text.parse::<u64>().ok()) else {
        return about_parameter(
            400,
            "global",
            "invalidArgument",
            "Missing or invalid startHistoryId",
            "startHistoryId",
        );
    };
    let generations = world.account(GOOGLE, account).generations;
    if start < generations.history_from {
        return missing();
    }
    let until = world.settled_until(GOOGLE, account, "history");
    let kinds: Vec<&str> =
        call.query.iter().filter(|(name, _)| name == "historyTypes").map(|(_, kind)| kind.as_str()).collect();
    let rows: Vec<Value> = world
        .records(GOOGLE, account, "history")
        .into_iter()
        .filter(|record| record.born > start && record.born <= until)
        .filter_map(|record| record.value.clone())
        .filter(|row| {
            let fields = [
                ("messageAdded", "messagesAdded"),
                ("messageDeleted", "messagesDeleted"),
                ("labelAdded", "labelsAdded"),
                ("labelRemoved", "labelsRemoved"),
            ];
            kinds.is_empty() || fields.iter().any(|(kind, field)| kinds.contains(kind) && row.get(field).is_some())
        })
        .filter(|row| call.query("labelId").is_none_or(|label| row.to_string().contains(&format!("\"{label}\""))))
        .collect();
    let mut reply = json!({"historyId": until.to_string()});
    paged(world, account, call, rows, size(call, "maxResults", 100, 500), "history", &mut reply)
}

fn messages(world: &mut World, account: &str, call: &Call) -> Reply {
    let after =
        call.query("q").and_then(|q| q.split(' ').find_map(|word| word.strip_prefix("after:")?.parse::<i64>().ok()));
    let labels: Vec<&str> =
        call.query.iter().filter(|(name, _)| name == "labelIds").map(|(_, label)| label.as_str()).collect();
    let mut rows = world.listed(GOOGLE, account, "messages");
    rows.retain(|row| {
        let at = row["internalDate"].as_str().and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
        let has = |label: &str| row["labelIds"].as_array().is_some_and(|all| all.iter().any(|one| one == label));
        after.is_none_or(|after| at >= after * 1000)
            && labels.iter().all(|label| has(label))
            && (has("TRASH") <= labels.contains(&"TRASH"))
    });
    rows.reverse();
    let rows: Vec<Value> = rows.into_iter().map(|row| json!({"id": row["id"], "threadId": row["threadId"]})).collect();
    let mut reply = json!({"resultSizeEstimate": rows.len()});
    paged(world, account, call, rows, size(call, "maxResults", 100, 500), "messages", &mut reply)
}

/// Gmail's page tokens are plain offsets; a key without rows is left out.
fn paged(
    world: &World,
    account: &str,
    call: &Call,
    rows: Vec<Value>,
    size: usize,
    key: &str,
    reply: &mut Value,
) -> Reply {
    let offset = match call.query("pageToken").map(str::parse::<usize>) {
        None => 0,
        Some(Ok(offset)) => offset,
        Some(Err(_)) => return about_parameter(400, "global", "invalidArgument", "Invalid pageToken", "pageToken"),
    };
    let page = page(rows, offset, size, &world.faults(GOOGLE, account));
    if !page.rows.is_empty() {
        reply[key] = Value::Array(page.rows);
    }
    if let Some(next) = page.next {
        reply["nextPageToken"] = json!(next.to_string());
    }
    Reply::ok(reply)
}

fn formatted(mut message: Value, call: &Call) -> Value {
    match call.query("format") {
        Some("minimal") => {
            message.as_object_mut().map(|fields| fields.remove("payload"));
        }
        Some("metadata") => {
            let wanted: Vec<&str> = call
                .query
                .iter()
                .filter(|(name, _)| name == "metadataHeaders")
                .map(|(_, header)| header.as_str())
                .collect();
            if let Some(headers) = message.pointer_mut("/payload/headers").and_then(Value::as_array_mut)
                && !wanted.is_empty()
            {
                headers.retain(|header| header["name"].as_str().is_some_and(|name| wanted.contains(&name)));
            }
        }
        _ => {}
    }
    message
}

// ---------------------------------------------------------------- People

/// About how long a sync token of contact groups lives.
const GROUP_TOKEN_LIFE: Duration = Duration::days(7);

fn invalid(reason: Option<&str>, message: &str) -> Reply {
    let mut error = json!({"code": 400, "message": message, "status": "INVALID_ARGUMENT"});
    if let Some(reason) = reason {
        error["details"] = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "people.googleapis.com"}]);
    }
    Reply::json(400, &json!({"error": error}))
}

fn contact_groups(world: &mut World, account: &str, call: &Call) -> Reply {
    if call.query("pageSize").is_some_and(|text| !text.parse().is_ok_and(|size: usize| size <= 1000)) {
        return invalid(None, "Page size must be at most 1000.");
    }
    let known = ["clientData", "groupType", "memberCount", "metadata", "name"];
    let mask: Vec<&str> =
        call.query("groupFields").unwrap_or("metadata,groupType,memberCount,name").split(',').map(str::trim).collect();
    if let Some(wrong) = mask.iter().find(|field| !known.contains(field)) {
        return invalid(None, &format!("Invalid groupFields mask path: \"{wrong}\"."));
    }
    let asked = Asked {
        collection: "contactGroups",
        size: size(call, "pageSize", 30, 1000),
        question: question("contactGroups", call),
        page: call.query("pageToken"),
        sync: call.query("syncToken"),
        with_deleted: false,
        life: Some(GROUP_TOKEN_LIFE),
    };
    let told = match sync_list(world, account, &asked, |_| true) {
        Ok(told) => told,
        Err(BadToken::Expired) => {
            let text = "Sync token is expired. Clear local cache and retry call without the sync token.";
            return invalid(Some("EXPIRED_SYNC_TOKEN"), text);
        }
        Err(BadToken::Page) => return invalid(None, "Invalid page token."),
        Err(BadToken::Sync) => {
            return invalid(None, "Sync token is invalid, or the request's parameters differ from the first one's.");
        }
    };
    let mut reply = json!({"totalItems": world.listed(GOOGLE, account, "contactGroups").len()});
    if !told.rows.is_empty() {
        let shown = |group: &Value| -> Map<String, Value> {
            let mut fields = group.as_object().cloned().unwrap_or_default();
            fields.retain(|name, _| match name.as_str() {
                "resourceName" | "etag" => true,
                "formattedName" => mask.contains(&"name"),
                name => mask.contains(&name),
            });
            fields
        };
        reply["contactGroups"] = told.rows.iter().map(|group| Value::Object(shown(group))).collect();
    }
    continued(reply, told.next)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, TestBed};
    use super::super::{Expire, Faults};
    use super::*;

    const BEARER: [(&str, &str); 1] = [("authorization", "Bearer sandbox-token-main")];
    const EVENTS: &str = "/calendar/v3/calendars/primary/events";
    const GROUPS: &str = "/v1/contactGroups";
    const HISTORY: &str = "/gmail/v1/users/me/history";

    async fn get(bed: &TestBed, path: &str) -> Answer {
        bed.send("GET", &format!("/googlesuite{path}"), &BEARER, "").await
    }

    async fn ok(bed: &TestBed, path: &str) -> Value {
        let answer = get(bed, path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    fn ids(list: &Value) -> Vec<&str> {
        list.as_array().map(|rows| rows.iter().filter_map(|row| row["id"].as_str()).collect()).unwrap_or_default()
    }

    fn reason(answer: &Answer) -> (u16, String) {
        (answer.status, answer.json()["error"]["errors"][0]["reason"].as_str().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn events_sync_from_a_full_list_to_deltas() {
        let bed = TestBed::new();
        for id in ["a", "b", "c"] {
            bed.sandbox.create("googlesuite", "events", json!({"id": id})).unwrap();
        }
        let first = ok(&bed, &format!("{EVENTS}?maxResults=2")).await;
        assert_eq!((ids(&first["items"]), first.get("nextSyncToken")), (vec!["a", "b"], None));
        assert_eq!(
            (&first["items"][0]["created"], &first["items"][0]["updated"], &first["kind"]),
            (&json!("2026-08-01T13:00:04.000Z"), &json!("2026-08-01T13:00:04.335Z"), &json!("calendar#events"))
        );
        // An edit between two pages hides nothing: it is told by the first delta.
        bed.sandbox.update("googlesuite", "events", "a", json!({"summary": "moved"})).unwrap();
        let page_token = first["nextPageToken"].as_str().unwrap();
        let last = ok(&bed, &format!("{EVENTS}?maxResults=2&pageToken={page_token}")).await;
        assert_eq!((ids(&last["items"]), last.get("nextPageToken")), (vec!["c"], None));
        let sync = last["nextSyncToken"].as_str().unwrap().to_owned();

        let etag = bed.sandbox.get("googlesuite", "events", "b").unwrap()["etag"].clone();
        bed.sandbox.delete("googlesuite", "events", "b").unwrap();
        let delta = ok(&bed, &format!("{EVENTS}?syncToken={sync}")).await;
        assert_eq!(ids(&delta["items"]), ["a", "b"]);
        let stub = &delta["items"][1];
        assert_eq!((&stub["status"], stub.get("updated")), (&json!("cancelled"), None));
        assert_ne!(stub["etag"], etag);
        let again = ok(&bed, &format!("{EVENTS}?syncToken={}", delta["nextSyncToken"].as_str().unwrap())).await;
        assert_eq!(again["items"], json!([]));
        assert_eq!(ids(&ok(&bed, EVENTS).await["items"]), ["a", "c"]);
        assert_eq!(ids(&ok(&bed, &format!("{EVENTS}?showDeleted=true")).await["items"]), ["a", "b", "c"]);
    }

    #[tokio::test]
    async fn a_sync_token_holds_for_one_calendar_and_one_set_of_parameters() {
        let bed = TestBed::new();
        bed.sandbox.create("googlesuite", "calendars", json!({"id": "team@x"})).unwrap();
        bed.sandbox.create("googlesuite", "events:team@x", json!({"id": "same"})).unwrap();
        bed.sandbox.create("googlesuite", "events", json!({"id": "same"})).unwrap();
        let team = "/calendar/v3/calendars/team%40x/events";
        assert_eq!(ids(&ok(&bed, team).await["items"]), ["same"]);
        let sync = ok(&bed, EVENTS).await["nextSyncToken"].as_str().unwrap().to_owned();
        ok(&bed, &format!("/calendar/v3/calendars/me%40example.com/events?syncToken={sync}")).await;
        for (path, wanted) in [
            (format!("{team}?syncToken={sync}"), (400, "invalid")),
            (format!("{EVENTS}?syncToken={sync}&singleEvents=true"), (400, "invalid")),
            (format!("{EVENTS}?syncToken={sync}&timeMin=2026-01-01T00:00:00Z"), (400, "badRequest")),
            (format!("{EVENTS}?syncToken={sync}&showDeleted=false"), (400, "badRequest")),
            (format!("{EVENTS}?syncToken=nonsense"), (400, "invalid")),
            (format!("{EVENTS}?updatedMin=2026-01-01T00:00:00Z"), (410, "updatedMinTooLongAgo")),
            ("/calendar/v3/calendars/other/events".to_owned(), (404, "notFound")),
        ] {
            let (status, why) = reason(&get(&bed, &path).await);
            assert_eq!((status, why.as_str()), wanted, "{path}");
        }
        bed.sandbox.expire("googlesuite", Expire::SyncTokens).unwrap();
        let expired = get(&bed, &format!("{EVENTS}?syncToken={sync}")).await;
        assert_eq!(reason(&expired), (410, "fullSyncRequired".into()));
        bed.sandbox.delete("googlesuite", "calendars", "team@x").unwrap();
        assert_eq!(reason(&get(&bed, team).await), (410, "deleted".into()));
        let calendars = ok(&bed, "/calendar/v3/users/me/calendarList").await;
        assert_eq!(ids(&calendars["items"]), ["me@example.com"]);
        assert_eq!(ok(&bed, "/calendar/v3/calendars/primary").await["id"], "me@example.com");
    }

    #[tokio::test]
    async fn middle_pages_can_be_empty() {
        let bed = TestBed::new();
        bed.sandbox.set_faults("googlesuite", Faults { empty_pages: true, ..Faults::default() }).unwrap();
        for id in ["a", "b", "c"] {
            bed.sandbox.create("googlesuite", "events", json!({"id": id})).unwrap();
        }
        let (mut sizes, mut token) = (Vec::new(), String::new());
        loop {
            let page = ok(&bed, &format!("{EVENTS}?maxResults=1{token}")).await;
            sizes.push(ids(&page["items"]).len());
            match page["nextPageToken"].as_str() {
                Some(next) => token = format!("&pageToken={next}"),
                None => break,
            }
        }
        assert_eq!(sizes, [1, 0, 1, 0, 1]);
    }

    #[tokio::test]
    async fn gmail_tells_history_until_it_has_forgotten_it() {
        let bed = TestBed::new();
        bed.sandbox.create("googlesuite", "messages", json!({"id": "m0"})).unwrap();
        let profile = ok(&bed, "/gmail/v1/users/me/profile").await;
        assert_eq!((&profile["emailAddress"], &profile["messagesTotal"]), (&json!("me@example.com"), &json!(1)));
        let start = profile["historyId"].as_str().unwrap().to_owned();
        let nothing = ok(&bed, &format!("{HISTORY}?startHistoryId={start}")).await;
        assert_eq!(nothing, json!({"historyId": start}));

        bed.sandbox.create("googlesuite", "messages", json!({"id": "m1", "labelIds": ["UNREAD", "INBOX"]})).unwrap();
        bed.sandbox.update("googlesuite", "messages", "m1", json!({"labelIds": ["INBOX", "TRASH"]})).unwrap();
        bed.sandbox.update("googlesuite", "messages", "m1", json!({"snippet": "same labels"})).unwrap();
        bed.sandbox.delete("googlesuite", "messages", "m0").unwrap();
        let told = ok(&bed, &format!("{HISTORY}?startHistoryId={start}")).await;
        let rows = told["history"].as_array().unwrap();
        let kinds: Vec<&str> = rows
            .iter()
            .map(|row| {
                row.as_object()
                    .unwrap()
                    .keys()
                    .find(|key| !["id", "messages"].contains(&key.as_str()))
                    .unwrap()
                    .as_str()
            })
            .collect();
        assert_eq!(kinds, ["messagesAdded", "labelsAdded", "labelsRemoved", "messagesDeleted"]);
        assert_eq!(rows[1]["labelsAdded"][0]["labelIds"], json!(["TRASH"]));
        assert_eq!(rows[3]["messagesDeleted"][0]["message"]["id"], "m0");
        let numbers: Vec<u64> = rows.iter().map(|row| row["id"].as_str().unwrap().parse().unwrap()).collect();
        assert!(
            numbers.is_sorted() && *numbers.last().unwrap() <= told["historyId"].as_str().unwrap().parse().unwrap()
        );
        let deleted = ok(&bed, &format!("{HISTORY}?startHistoryId={start}&historyTypes=messageDeleted")).await;
        assert_eq!(deleted["history"].as_array().unwrap().len(), 1);
        let paged = ok(&bed, &format!("{HISTORY}?startHistoryId={start}&maxResults=3")).await;
        let rest = ok(
            &bed,
            &format!(
                "{HISTORY}?startHistoryId={start}&maxResults=3&pageToken={}",
                paged["nextPageToken"].as_str().unwrap()
            ),
        )
        .await;
        assert_eq!((rest["history"].as_array().unwrap().len(), rest.get("nextPageToken")), (1, None));

        let message = ok(&bed, "/gmail/v1/users/me/messages/m1?format=metadata&metadataHeaders=Subject").await;
        assert_eq!(
            (&message["internalDate"], message["payload"]["headers"].as_array().unwrap().len()),
            (&json!("1785589204335"), 1)
        );
        assert_eq!(get(&bed, "/gmail/v1/users/me/messages/m0").await.status, 404);
        bed.sandbox.expire("googlesuite", Expire::History).unwrap();
        assert_eq!(reason(&get(&bed, &format!("{HISTORY}?startHistoryId={start}")).await), (404, "notFound".into()));
        let fresh = ok(&bed, "/gmail/v1/users/me/profile").await["historyId"].as_str().unwrap().to_owned();
        ok(&bed, &format!("{HISTORY}?startHistoryId={fresh}")).await;
    }

    #[tokio::test]
    async fn contact_groups_say_expired_with_a_400() {
        let bed = TestBed::new();
        let made = bed.sandbox.create("googlesuite", "contactGroups", json!({"name": "Friends"})).unwrap();
        assert_eq!(made["metadata"]["updateTime"], "2026-08-01T13:00:04.335000Z");
        let id = made["resourceName"].as_str().unwrap().strip_prefix("contactGroups/").unwrap();
        let first = ok(&bed, GROUPS).await;
        assert_eq!(first["totalItems"], 3);
        assert!(first["contactGroups"][0].get("metadata").is_none(), "system groups have no date");
        let sync = first["nextSyncToken"].as_str().unwrap().to_owned();
        bed.sandbox.delete("googlesuite", "contactGroups", id).unwrap();
        let delta = ok(&bed, &format!("{GROUPS}?syncToken={sync}")).await;
        assert_eq!(delta["contactGroups"][0]["metadata"], json!({"deleted": true}));
        assert_eq!(get(&bed, &format!("{GROUPS}?pageSize=1001")).await.status, 400);
        assert_eq!(get(&bed, &format!("{GROUPS}?groupFields=colour")).await.status, 400);
        bed.advance(8 * 86_400);
        let expired = get(&bed, &format!("{GROUPS}?syncToken={sync}")).await;
        assert_eq!(
            (expired.status, &expired.json()["error"]["details"][0]["reason"]),
            (400, &json!("EXPIRED_SYNC_TOKEN"))
        );
    }

    #[tokio::test]
    async fn a_feed_that_is_late_loses_nothing() {
        let bed = TestBed::new();
        let sync = ok(&bed, EVENTS).await["nextSyncToken"].as_str().unwrap().to_owned();
        bed.sandbox.set_faults("googlesuite", Faults { late_indexing: Some((5, 5)), ..Faults::default() }).unwrap();
        bed.sandbox.create("googlesuite", "events", json!({"id": "slow"})).unwrap();
        bed.sandbox.set_faults("googlesuite", Faults::default()).unwrap();
        bed.sandbox.create("googlesuite", "events", json!({"id": "fast"})).unwrap();
        let early = ok(&bed, &format!("{EVENTS}?syncToken={sync}")).await;
        assert_eq!(early["items"], json!([]), "what came after the late change waits for it");
        bed.advance(5);
        let later = ok(&bed, &format!("{EVENTS}?syncToken={}", early["nextSyncToken"].as_str().unwrap())).await;
        assert_eq!(ids(&later["items"]), ["slow", "fast"]);
    }

    #[tokio::test]
    async fn tokens_in_googles_manner() {
        let bed = TestBed::new();
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let token = async |body: String| bed.send("POST", "/googlesuite/token", &form, body).await;
        for (extra, refreshable) in [("&access_type=offline&prompt=consent", true), ("", false)] {
            let ask = format!(
                "/googlesuite/o/oauth2/v2/auth?response_type=code&client_id=app&redirect_uri=http%3A%2F%2Fapp%2Fcb&decision=allow&scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fgmail.readonly{extra}"
            );
            let location = bed.send("GET", &ask, &[], "").await.headers["location"].to_str().unwrap().to_owned();
            let code = location.split("code=").nth(1).unwrap();
            let mismatch = token(format!("grant_type=authorization_code&client_id=app&client_secret=s&code={code}&redirect_uri=http%3A%2F%2Fother")).await;
            assert_eq!((mismatch.status, &mismatch.json()["error"]), (400, &json!("redirect_uri_mismatch")));
            let location = bed.send("GET", &ask, &[], "").await.headers["location"].to_str().unwrap().to_owned();
            let code = location.split("code=").nth(1).unwrap();
            let given = token(format!("grant_type=authorization_code&client_id=app&client_secret=s&code={code}&redirect_uri=http%3A%2F%2Fapp%2Fcb")).await.json();
            assert_eq!((&given["expires_in"], given["refresh_token"].is_string()), (&json!(3599), refreshable));
            let Some(refresh) = given["refresh_token"].as_str() else { continue };
            let refreshed =
                token(format!("grant_type=refresh_token&client_id=app&client_secret=s&refresh_token={refresh}"))
                    .await
                    .json();
            assert_eq!(refreshed.get("refresh_token"), None);
            let bearer = format!("Bearer {}", refreshed["access_token"].as_str().unwrap());
            let allowed =
                bed.send("GET", "/googlesuite/gmail/v1/users/me/profile", &[("authorization", &bearer)], "").await;
            assert_eq!(allowed.status, 200);
            let who = bed.send("GET", "/googlesuite/oauth2/v2/userinfo", &[("authorization", &bearer)], "").await;
            assert_eq!(who.json()["email"], OWNER);
            let calendar = bed.send("GET", &format!("/googlesuite{EVENTS}"), &[("authorization", &bearer)], "").await;
            assert_eq!(reason(&calendar), (403, "insufficientPermissions".into()));
            let revoked = bed.send("POST", &format!("/googlesuite/revoke?token={}", &bearer[7..]), &[], "").await;
            assert_eq!(revoked.status, 200);
            let dead =
                token(format!("grant_type=refresh_token&client_id=app&client_secret=s&refresh_token={refresh}")).await;
            assert_eq!((dead.status, &dead.json()["error"]), (400, &json!("invalid_grant")));
        }
        assert_eq!(
            reason(&bed.send("GET", &format!("/googlesuite{EVENTS}"), &[], "").await),
            (401, "authError".into())
        );
        bed.sandbox.set_faults("googlesuite", Faults { rotate_refresh: true, ..Faults::default() }).unwrap();
        let given =
            token("grant_type=authorization_code&client_id=app&client_secret=s&code=sandbox-code-".into()).await.json();
        let refresh = format!(
            "grant_type=refresh_token&client_id=app&client_secret=s&refresh_token={}",
            given["refresh_token"].as_str().unwrap()
        );
        assert_ne!(token(refresh.clone()).await.json()["refresh_token"], given["refresh_token"]);
        assert_eq!(token(refresh).await.json()["error"], "invalid_grant");
    }
}
