//! Sandbox Square: searches by POST with a cursor in the body, no modified-since filter for timecards, `{}` for nothing.

use std::cmp::Ordering;

use chrono::{DateTime, Duration, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::collection::{Collection, Deletion, Form, Id, Revision, Stamp};
use super::faults::{Faults, Strike};
use super::http::{Call, Reply, seal, unseal};
use super::oauth::{self, Bearer, Style};
use super::world::{World, page};
use super::{Manners, Vendor};

pub(super) static MANNERS: Manners = Manners {
    key: "square",
    title: "Square",
    collections: COLLECTIONS,
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
        tells_scope: false,
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
        defaults: r#"{"name":"Shop","status":"ACTIVE","country":"US","currency":"USD","timezone":"America/New_York"}"#,
        skeleton: r#"[{"id":"LOC1","name":"Main Street"}]"#,
        samples: r#"[{"id":"LOC2","name":"Harbour"}]"#,
    },
    Collection {
        name: "team_members",
        id: Id::Text("id", "TM"),
        created: Some(Stamp("created_at", Form::Seconds)),
        updated: Some(Stamp("updated_at", Form::Seconds)),
        revision: None,
        deletion: Deletion::Flag("status", r#""INACTIVE""#),
        defaults: r#"{"is_owner":false,"status":"ACTIVE","assigned_locations":{"assignment_type":"ALL_CURRENT_AND_FUTURE_LOCATIONS"}}"#,
        skeleton: "[]",
        samples: r#"[{"id":"TM1","given_name":"Ada","family_name":"Ng","email_address":"ada@example.com","phone_number":"+12125550100"},
            {"id":"TM2","given_name":"Luis","family_name":"Ortega","email_address":"luis@example.com"}]"#,
    },
    Collection {
        name: "timecards",
        id: Id::Text("id", "TC"),
        created: Some(Stamp("created_at", Form::Seconds)),
        updated: Some(Stamp("updated_at", Form::Seconds)),
        revision: Some(Revision::Counter("version")),
        deletion: Deletion::Gone,
        defaults: r#"{"location_id":"LOC1","timezone":"America/New_York","team_member_id":"TM1",
            "wage":{"title":"Barista","hourly_rate":{"amount":1800,"currency":"USD"},"job_id":"JOB1","tip_eligible":true}}"#,
        skeleton: "[]",
        samples: r#"[{"team_member_id":"TM1","start_at":"2026-08-01T09:00:00-04:00","end_at":"2026-08-01T17:00:00-04:00",
             "breaks":[{"id":"BR1","start_at":"2026-08-01T12:00:00-04:00","end_at":"2026-08-01T12:10:00-04:00","break_type_id":"BT1","name":"Rest","expected_duration":"PT10M","is_paid":true}],
             "declared_cash_tip_money":{"amount":500,"currency":"USD"}},
            {"team_member_id":"TM2","start_at":"2026-08-01T10:30:00-04:00","end_at":"2026-08-01T18:15:00-04:00"},
            {"team_member_id":"TM2","location_id":"LOC2","start_at":"2026-08-02T09:00:00-04:00"}]"#,
    },
    Collection {
        name: "customers",
        id: Id::Text("id", "CU"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Counter("version")),
        deletion: Deletion::Gone,
        defaults: r#"{"creation_source":"THIRD_PARTY"}"#,
        skeleton: "[]",
        samples: r#"[{"given_name":"Bo","family_name":"Lindqvist","email_address":"bo@example.com"},{"given_name":"Mina","company_name":"Mina Flowers"}]"#,
    },
    Collection {
        name: "orders",
        id: Id::Text("id", "OR"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Counter("version")),
        deletion: Deletion::Flag("state", r#""CANCELED""#),
        defaults: r#"{"location_id":"LOC1","state":"OPEN","total_money":{"amount":0,"currency":"USD"}}"#,
        skeleton: "[]",
        samples: r#"[{"state":"COMPLETED","total_money":{"amount":555,"currency":"USD"}}]"#,
    },
    Collection {
        name: "payments",
        id: Id::Text("id", "PY"),
        created: Some(Stamp("created_at", Form::Millis)),
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Opaque("version_token", "vt{}")),
        deletion: Deletion::Flag("status", r#""CANCELED""#),
        defaults: r#"{"status":"COMPLETED","amount_money":{"amount":0,"currency":"USD"},"location_id":"LOC1"}"#,
        skeleton: "[]",
        samples: r#"[{"amount_money":{"amount":555,"currency":"USD"}}]"#,
    },
    Collection {
        name: "catalog",
        id: Id::Text("id", "IT"),
        created: None,
        updated: Some(Stamp("updated_at", Form::Millis)),
        revision: Some(Revision::Millis("version")),
        deletion: Deletion::Flag("is_deleted", "true"),
        defaults: r#"{"type":"ITEM","is_deleted":false}"#,
        skeleton: "[]",
        samples: r#"[{"item_data":{"name":"Flat white"}},{"item_data":{"name":"Croissant"}}]"#,
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

fn refusal(strike: Strike, request: u64, _: &Call) -> Reply {
    match strike {
        Strike::TokenExpired => {
            refuse(401, "AUTHENTICATION_ERROR", "ACCESS_TOKEN_EXPIRED", "The access token has expired.")
        }
        Strike::RateLimited => refuse(429, "RATE_LIMIT_ERROR", "RATE_LIMITED", "Too many requests."),
        Strike::ErrorIn200 => refuse(200, "API_ERROR", "INTERNAL_SERVER_ERROR", "An internal error has occurred."),
        Strike::ServerError | Strike::Cut if request.is_multiple_of(2) => Reply::text(
            503,
            "text/plain",
            "upstream connect error or disconnect/reset before headers. reset reason: overflow",
        ),
        Strike::ServerError | Strike::Cut => {
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

fn identify(world: &mut World, call: &Call) -> Result<String, Reply> {
    if call.path.starts_with("/v1/") {
        return Err(refuse(410, "INVALID_REQUEST_ERROR", "GONE", "The V1 API was retired; use V2."));
    }
    let account = match oauth::bearer(world, call) {
        Bearer::Good(account) => account,
        Bearer::Expired => return Err(refusal(Strike::TokenExpired, 0, call)),
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

/// A list: where it is, what it lists, and what it lets one ask for.
struct Endpoint {
    path: &'static str,
    collection: &'static str,
    list_key: &'static str,
    one_path: &'static str,
    one_key: &'static str,
    default: usize,
    max: usize,
    filters: &'static [&'static str],
    sorts: &'static [&'static str],
}

/// The first version of the API that knows timecards.
const TIMECARDS_SINCE: &str = "2025-05-21";

const SHIFT_FILTERS: &[&str] =
    &["location_ids", "team_member_ids", "employee_ids", "status", "start", "end", "workday"];
const SHIFT_SORTS: &[&str] = &["START_AT", "END_AT", "CREATED_AT", "UPDATED_AT"];

static SEARCHES: &[Endpoint] = &[
    Endpoint {
        path: "labor/timecards/search",
        collection: "timecards",
        list_key: "timecards",
        one_path: "labor/timecards/",
        one_key: "timecard",
        default: 200,
        max: 200,
        filters: SHIFT_FILTERS,
        sorts: SHIFT_SORTS,
    },
    Endpoint {
        path: "labor/shifts/search",
        collection: "timecards",
        list_key: "shifts",
        one_path: "labor/shifts/",
        one_key: "shift",
        default: 200,
        max: 200,
        filters: SHIFT_FILTERS,
        sorts: SHIFT_SORTS,
    },
    Endpoint {
        path: "team-members/search",
        collection: "team_members",
        list_key: "team_members",
        one_path: "team-members/",
        one_key: "team_member",
        default: 100,
        max: 200,
        filters: &["location_ids", "status", "is_owner"],
        sorts: &[],
    },
    Endpoint {
        path: "customers/search",
        collection: "customers",
        list_key: "customers",
        one_path: "customers/",
        one_key: "customer",
        default: 100,
        max: 100,
        filters: &["created_at", "updated_at", "creation_source", "email_address"],
        sorts: &["DEFAULT", "CREATED_AT"],
    },
    Endpoint {
        path: "orders/search",
        collection: "orders",
        list_key: "orders",
        one_path: "orders/",
        one_key: "order",
        default: 500,
        max: 1000,
        filters: &["date_time_filter", "state_filter"],
        sorts: &["CREATED_AT", "UPDATED_AT", "CLOSED_AT"],
    },
    Endpoint {
        path: "catalog/search",
        collection: "catalog",
        list_key: "objects",
        one_path: "catalog/object/",
        one_key: "object",
        default: 100,
        max: 1000,
        filters: &[],
        sorts: &[],
    },
];

static GETS: &[Endpoint] = &[
    Endpoint {
        path: "payments",
        collection: "payments",
        list_key: "payments",
        one_path: "payments/",
        one_key: "payment",
        default: 100,
        max: 100,
        filters: &[],
        sorts: &["CREATED_AT", "UPDATED_AT"],
    },
    Endpoint {
        path: "customers",
        collection: "customers",
        list_key: "customers",
        one_path: "customers/",
        one_key: "customer",
        default: 100,
        max: 100,
        filters: &[],
        sorts: &["DEFAULT", "CREATED_AT"],
    },
    Endpoint {
        path: "locations",
        collection: "locations",
        list_key: "locations",
        one_path: "locations/",
        one_key: "location",
        default: 1000,
        max: 1000,
        filters: &[],
        sorts: &[],
    },
];

fn answer(world: &mut World, account: &str, call: &Call) -> Reply {
    let Some(path) = call.path.strip_prefix("/v2/") else {
        return match (call.path.as_str(), call.bearer().and_then(|token| world.grant(token))) {
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
            return list(world, account, endpoint, call, &query_as_body(call));
        }
        for endpoint in SEARCHES.iter().chain(GETS) {
            if let Some(id) = path.strip_prefix(endpoint.one_path) {
                return match world.value(Vendor::Square, account, endpoint.collection, id) {
                    Some(value) => Reply::ok(&json!({endpoint.one_key: shaped(endpoint, value.clone())})),
                    None => missing(),
                };
            }
        }
        return missing();
    }
    match SEARCHES.iter().find(|endpoint| endpoint.path == path) {
        Some(endpoint) if call.method == "POST" => match call.json() {
            Some(body @ Value::Object(_)) => list(world, account, endpoint, call, &body),
            _ => bad("EXPECTED_JSON_BODY", "Request body must be a JSON object.", "body"),
        },
        Some(_) => refuse(405, "INVALID_REQUEST_ERROR", "METHOD_NOT_ALLOWED", "Method not allowed."),
        None => missing(),
    }
}

/// The old name of a timecard has the old name of its team member too.
fn shaped(endpoint: &Endpoint, mut value: Value) -> Value {
    if endpoint.list_key == "shifts"
        && let Some(member) = value.get("team_member_id").cloned()
    {
        value["employee_id"] = member;
    }
    value
}

/// A GET list takes the same things as a search, from the query.
fn query_as_body(call: &Call) -> Value {
    let mut body = Map::new();
    for (name, value) in &call.query {
        let typed =
            if name == "limit" { value.parse::<u64>().map_or(json!(value), |n| json!(n)) } else { json!(value) };
        body.insert(name.clone(), typed);
    }
    Value::Object(body)
}

/// Where a cursor continues. It holds only for the same question, and dies after a while.
#[derive(Serialize, Deserialize)]
struct Cursor {
    offset: usize,
    question: u64,
    at: i64,
    generation: u32,
}

/// About what a forum answer says; every page renews it.
const CURSOR_LIFE: Duration = Duration::minutes(15);

fn list(world: &mut World, account: &str, endpoint: &Endpoint, call: &Call, body: &Value) -> Reply {
    let limit = match &body["limit"] {
        Value::Null => endpoint.default,
        limit => match limit.as_u64() {
            Some(0) => return bad("VALUE_TOO_LOW", "Field must be greater than or equal to 1.", "limit"),
            Some(limit) if limit as usize > endpoint.max => {
                return bad("VALUE_TOO_HIGH", &format!("Field must not be greater than {}.", endpoint.max), "limit");
            }
            Some(limit) => limit as usize,
            None => return bad("EXPECTED_INTEGER", "Expected an integer value.", "limit"),
        },
    };
    let generation = world.account(Vendor::Square, account).generations.cursors;
    let question = question(endpoint, body);
    let offset = match &body["cursor"] {
        Value::Null => 0,
        cursor => {
            let known = cursor.as_str().and_then(unseal::<Cursor>).filter(|cursor| {
                cursor.question == question
                    && cursor.generation == generation
                    && world.now().timestamp() - cursor.at < CURSOR_LIFE.num_seconds()
            });
            match known {
                Some(cursor) => cursor.offset,
                None => return bad("INVALID_CURSOR", "The pagination cursor is invalid or has expired.", "cursor"),
            }
        }
    };
    let rows = match select(world, account, endpoint, call, body) {
        Ok(rows) => rows,
        Err(reply) => return reply,
    };
    let page = page(rows, offset, limit, &world.faults(Vendor::Square, account));
    let mut reply = Map::new();
    if !page.rows.is_empty() {
        let rows: Vec<Value> = page.rows.into_iter().map(|row| shaped(endpoint, row)).collect();
        reply.insert(endpoint.list_key.into(), Value::Array(rows));
    }
    if let Some(offset) = page.next {
        let cursor = Cursor { offset, question, at: world.now().timestamp(), generation };
        reply.insert("cursor".into(), json!(seal(&cursor)));
    }
    if endpoint.collection == "catalog" {
        let now = world.vendor_now(Vendor::Square, account);
        reply.insert("latest_time".into(), json!(now.to_rfc3339_opts(SecondsFormat::Millis, true)));
    }
    Reply::ok(&Value::Object(reply))
}

/// A number that is the same for the same filter and order.
fn question(endpoint: &Endpoint, body: &Value) -> u64 {
    let mut asked = body.clone();
    if let Value::Object(fields) = &mut asked {
        fields.remove("cursor");
        fields.remove("limit");
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(format!("{}{asked}", endpoint.path));
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The rows that the question asks for, in the order it asks for.
fn select(world: &World, account: &str, endpoint: &Endpoint, call: &Call, body: &Value) -> Result<Vec<Value>, Reply> {
    let mut rows = world.listed(Vendor::Square, account, endpoint.collection);
    let query = &body["query"];
    let filter = &query["filter"];
    for name in filter.as_object().into_iter().flat_map(Map::keys) {
        if !endpoint.filters.contains(&name.as_str()) {
            return Err(bad(
                "BAD_REQUEST",
                &format!("The field named '{name}' is unrecognized."),
                &format!("query.filter.{name}"),
            ));
        }
    }
    let mut sort = (sort_name(&query["sort"]["field"]), query["sort"]["order"].as_str().unwrap_or("DESC").to_owned());
    match endpoint.list_key {
        "timecards" | "shifts" => {
            among(&mut rows, "location_id", &filter["location_ids"]);
            among(&mut rows, "team_member_id", &filter["team_member_ids"]);
            among(&mut rows, "team_member_id", &filter["employee_ids"]);
            same(&mut rows, "status", &filter["status"]);
            between(&mut rows, "start_at", &filter["start"], true)?;
            between(&mut rows, "end_at", &filter["end"], true)?;
            let days = &filter["workday"]["date_range"];
            if let (Some(first), Some(last)) = (days["start_date"].as_str(), days["end_date"].as_str()) {
                rows.retain(|row| row["start_at"].as_str().is_some_and(|at| at[..10] >= *first && at[..10] <= *last));
            }
            sort.0 = sort.0.or_else(|| Some("START_AT".into()));
        }
        "team_members" => same(&mut rows, "status", &filter["status"]),
        "customers" => {
            between(&mut rows, "created_at", &filter["created_at"], false)?;
            between(&mut rows, "updated_at", &filter["updated_at"], false)?;
            let exact = &filter["email_address"]["exact"];
            same(&mut rows, "email_address", exact);
            if sort.0.as_deref() == Some("DEFAULT") {
                sort.0 = None;
            }
        }
        "orders" => {
            let places = body["location_ids"].as_array().map_or(0, Vec::len);
            if places == 0 {
                return Err(bad("MISSING_REQUIRED_PARAMETER", "Must provide at least 1 location_id.", "location_ids"));
            }
            if places > 10 {
                return Err(bad("ARRAY_LENGTH_TOO_LONG", "Array must have a length of at most 10.", "location_ids"));
            }
            among(&mut rows, "location_id", &body["location_ids"]);
            among(&mut rows, "state", &filter["state_filter"]["states"]);
            for field in ["created_at", "updated_at", "closed_at"] {
                let range = &filter["date_time_filter"][field];
                if !range.is_null() {
                    let sorted_by = sort_name(&query["sort"]["sort_field"]).unwrap_or_else(|| "CREATED_AT".into());
                    if !sorted_by.eq_ignore_ascii_case(field) {
                        return Err(bad(
                            "BAD_REQUEST",
                            "The sort field must be the field of the date filter.",
                            "query.sort.sort_field",
                        ));
                    }
                    between(&mut rows, field, range, true)?;
                }
            }
            sort = (
                Some(sort_name(&query["sort"]["sort_field"]).unwrap_or_else(|| "CREATED_AT".into())),
                query["sort"]["sort_order"].as_str().unwrap_or("DESC").to_owned(),
            );
        }
        "objects" => {
            if body["include_deleted_objects"] != true {
                rows.retain(|row| row["is_deleted"] != true);
            }
            among(&mut rows, "type", &body["object_types"]);
            if let Some(after) = time_of(&body["begin_time"], "begin_time")? {
                rows.retain(|row| instant(&row["updated_at"]).is_some_and(|at| at > after));
            }
        }
        "payments" => {
            let year_ago = world.now() - Duration::days(365);
            let begin = json!({"start_at": call.query("begin_time").map_or_else(|| year_ago.to_rfc3339(), str::to_owned), "end_at": body["end_time"]});
            between(&mut rows, "created_at", &begin, true)?;
            let updated = json!({"start_at": body["updated_at_begin_time"], "end_at": body["updated_at_end_time"]});
            between(&mut rows, "updated_at", &updated, true)?;
            same(&mut rows, "location_id", &body["location_id"]);
            sort = (
                Some(sort_name(&body["sort_field"]).unwrap_or_else(|| "CREATED_AT".into())),
                body["sort_order"].as_str().unwrap_or("DESC").to_owned(),
            );
        }
        _ => {}
    }
    if let Some(field) = &sort.0 {
        if !endpoint.sorts.contains(&field.as_str()) {
            return Err(bad(
                "INVALID_ENUM_VALUE",
                &format!("`{field}` is not a valid enum value."),
                "query.sort.field",
            ));
        }
        let column = field.to_lowercase();
        // Stable, so rows of one instant keep the order of their creation.
        rows.sort_by(|a, b| match (instant(&a[&column]), instant(&b[&column])) {
            (Some(a), Some(b)) if sort.1 == "ASC" => a.cmp(&b),
            (Some(a), Some(b)) => b.cmp(&a),
            (a, b) => b.is_some().cmp(&a.is_some()).then(Ordering::Equal),
        });
    }
    Ok(rows)
}

fn sort_name(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn among(rows: &mut Vec<Value>, field: &str, allowed: &Value) {
    if let Some(allowed) = allowed.as_array().filter(|allowed| !allowed.is_empty()) {
        rows.retain(|row| allowed.contains(&row[field]));
    }
}

fn same(rows: &mut Vec<Value>, field: &str, wanted: &Value) {
    if !wanted.is_null() {
        rows.retain(|row| row[field] == *wanted);
    }
}

fn time_of(value: &Value, field: &str) -> Result<Option<DateTime<Utc>>, Reply> {
    if value.is_null() {
        return Ok(None);
    }
    instant(value).map(Some).ok_or_else(|| bad("INVALID_TIME", "Must be an RFC 3339 timestamp.", field))
}

/// Keeps what lies in a range whose start belongs to it, and whose end does if `inclusive`.
fn between(rows: &mut Vec<Value>, field: &str, range: &Value, inclusive: bool) -> Result<(), Reply> {
    let start = time_of(&range["start_at"], &format!("{field}.start_at"))?;
    let end = time_of(&range["end_at"], &format!("{field}.end_at"))?;
    if start.is_none() && end.is_none() {
        return Ok(());
    }
    rows.retain(|row| {
        instant(&row[field]).is_some_and(|at| {
            start.is_none_or(|start| at >= start) && end.is_none_or(|end| at < end || (inclusive && at == end))
        })
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, TestBed};
    use super::super::{Expire, Faults};
    use super::*;

    const HEADERS: [(&str, &str); 3] = [
        ("authorization", "Bearer sandbox-token-main"),
        ("square-version", "2025-08-20"),
        ("content-type", "application/json"),
    ];

    async fn post(bed: &TestBed, path: &str, body: Value) -> Answer {
        bed.send("POST", &format!("/square{path}"), &HEADERS, body.to_string()).await
    }

    async fn scan(bed: &TestBed, limit: usize) -> (u16, Value) {
        let body = json!({"query": {"sort": {"field": "UPDATED_AT", "order": "DESC"}}, "limit": limit});
        let answer = post(bed, "/v2/labor/timecards/search", body).await;
        (answer.status, answer.json())
    }

    fn ids(list: &Value) -> Vec<&str> {
        list.as_array().map(|rows| rows.iter().filter_map(|row| row["id"].as_str()).collect()).unwrap_or_default()
    }

    fn code(answer: &Answer) -> (u16, String) {
        (answer.status, answer.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn a_timecard_has_the_true_shape() {
        let bed = TestBed::new();
        let fields = json!({"id": "A", "start_at": "2026-08-01T13:00:59.5Z"});
        let made = bed.sandbox.create("square", "timecards", fields).unwrap();
        assert_eq!(
            (&made["start_at"], &made["status"], &made["version"], &made["created_at"], &made["updated_at"]),
            (
                &json!("2026-08-01T09:00:00-04:00"),
                &json!("OPEN"),
                &json!(1),
                &json!("2026-08-01T13:00:04Z"),
                &json!("2026-08-01T13:00:04Z")
            )
        );
        bed.advance(90);
        let end = json!({"end_at": "2026-08-01T17:00:00-04:00"});
        let changed = bed.sandbox.update("square", "timecards", "A", end).unwrap();
        assert_eq!(
            (&changed["status"], &changed["version"], &changed["created_at"], &changed["updated_at"]),
            (&json!("CLOSED"), &json!(2), &json!("2026-08-01T13:00:04Z"), &json!("2026-08-01T13:01:34Z"))
        );
        let silent = bed.sandbox.edit_silently("square", "timecards", "A", json!({"location_id": "L9"})).unwrap();
        assert_eq!((&silent["version"], &silent["location_id"]), (&json!(2), &json!("L9")));
        let read = bed.send("GET", "/square/v2/labor/timecards/A", &HEADERS, "").await;
        assert_eq!(read.json(), json!({"timecard": silent}));
        let shift = bed.send("GET", "/square/v2/labor/shifts/A", &HEADERS, "").await;
        assert_eq!(shift.json()["shift"]["employee_id"], "TM1");
        bed.sandbox.delete("square", "timecards", "A").unwrap();
        assert_eq!(bed.send("GET", "/square/v2/labor/timecards/A", &HEADERS, "").await.status, 404);
    }

    #[tokio::test]
    async fn a_search_pages_newest_first_and_ends_without_a_cursor() {
        let bed = TestBed::new();
        assert_eq!(scan(&bed, 200).await, (200, json!({})));
        for id in ["a", "b", "c"] {
            bed.sandbox.create("square", "timecards", json!({"id": id})).unwrap();
            bed.advance(1);
        }
        bed.sandbox.update("square", "timecards", "a", json!({"location_id": "L2"})).unwrap();
        let (_, first) = scan(&bed, 2).await;
        assert_eq!(ids(&first["timecards"]), ["a", "c"]);
        let next = |cursor: &Value| json!({"query": {"sort": {"field": "UPDATED_AT", "order": "DESC"}}, "limit": 2, "cursor": cursor});
        let last = post(&bed, "/v2/labor/timecards/search", next(&first["cursor"])).await.json();
        assert_eq!((ids(&last["timecards"]), last.get("cursor")), (vec!["b"], None));

        let mut other = next(&first["cursor"]);
        other["query"]["sort"]["order"] = json!("ASC");
        assert_eq!(code(&post(&bed, "/v2/labor/timecards/search", other).await), (400, "INVALID_CURSOR".into()));
        bed.sandbox.expire("square", Expire::Cursors).unwrap();
        let dead = post(&bed, "/v2/labor/timecards/search", next(&first["cursor"])).await;
        assert_eq!(code(&dead), (400, "INVALID_CURSOR".into()));
        let (_, fresh) = scan(&bed, 2).await;
        bed.advance(15 * 60);
        let late = post(&bed, "/v2/labor/timecards/search", next(&fresh["cursor"])).await;
        assert_eq!(code(&late), (400, "INVALID_CURSOR".into()));
    }

    #[tokio::test]
    async fn wrong_requests_are_refused_in_squares_words() {
        let bed = TestBed::new();
        let timecards = "/v2/labor/timecards/search";
        let eleven: Vec<String> = (0..11).map(|n| format!("L{n}")).collect();
        for (path, body, status, wanted) in [
            (timecards, json!({"limit": 201}), 400, "VALUE_TOO_HIGH"),
            (timecards, json!({"limit": 0}), 400, "VALUE_TOO_LOW"),
            (timecards, json!({"query": {"filter": {"updated_at": {}}}}), 400, "BAD_REQUEST"),
            (timecards, json!({"query": {"sort": {"field": "NAME"}}}), 400, "INVALID_ENUM_VALUE"),
            (timecards, json!([]), 400, "EXPECTED_JSON_BODY"),
            ("/v2/customers/search", json!({"query": {"sort": {"field": "UPDATED_AT"}}}), 400, "INVALID_ENUM_VALUE"),
            ("/v2/orders/search", json!({}), 400, "MISSING_REQUIRED_PARAMETER"),
            ("/v2/orders/search", json!({"location_ids": eleven}), 400, "ARRAY_LENGTH_TOO_LONG"),
            (
                "/v2/orders/search",
                json!({"location_ids": ["LOC1"], "query": {"filter": {"date_time_filter": {"updated_at": {"start_at": "2026-08-01T00:00:00Z"}}}}}),
                400,
                "BAD_REQUEST",
            ),
            ("/v2/nothing", json!({}), 404, "NOT_FOUND"),
        ] {
            assert_eq!(code(&post(&bed, path, body.clone()).await), (status, wanted.into()), "{path} {body}");
        }
        for (headers, path, status, wanted) in [
            (&HEADERS[..0], "/v2/locations", 401, "UNAUTHORIZED"),
            (&HEADERS[..1], "/v2/locations", 400, "BAD_REQUEST"),
            (&HEADERS[..], "/v1/me/timecards", 410, "GONE"),
            (&[HEADERS[0], ("square-version", "2025-01-01")][..], "/v2/labor/timecards/x", 404, "NOT_FOUND"),
        ] {
            assert_eq!(
                code(&bed.send("GET", &format!("/square{path}"), headers, "").await),
                (status, wanted.into()),
                "{path}"
            );
        }
    }

    #[tokio::test]
    async fn filters_have_the_bounds_that_square_gives_them() {
        let bed = TestBed::new();
        for (collection, id) in [("customers", "c1"), ("orders", "o1"), ("payments", "p1"), ("catalog", "i1")] {
            bed.sandbox.create("square", collection, json!({"id": id})).unwrap();
        }
        let (at, later) = ("2026-08-01T13:00:04.335Z", "2026-08-01T13:00:04.336Z");
        let customers =
            |from: &str, to: &str| json!({"query": {"filter": {"updated_at": {"start_at": from, "end_at": to}}}});
        let orders = |from: &str, to: &str| json!({"location_ids": ["LOC1"], "query": {"sort": {"sort_field": "UPDATED_AT"}, "filter": {"date_time_filter": {"updated_at": {"start_at": from, "end_at": to}}}}});
        let catalog = |after: &str| json!({"begin_time": after, "include_deleted_objects": true});
        for (path, key, body, found) in [
            ("/v2/customers/search", "customers", customers(at, later), 1),
            ("/v2/customers/search", "customers", customers("2026-01-01T00:00:00Z", at), 0),
            ("/v2/orders/search", "orders", orders(at, at), 1),
            ("/v2/orders/search", "orders", orders(later, later), 0),
            ("/v2/catalog/search", "objects", catalog(at), 0),
            ("/v2/catalog/search", "objects", catalog("2026-08-01T13:00:04.334Z"), 1),
        ] {
            let answer = post(&bed, path, body.clone()).await;
            assert_eq!((answer.status, ids(&answer.json()[key]).len()), (200, found), "{path} {body}");
        }
        let since = format!("/square/v2/payments?updated_at_begin_time={at}&sort_field=UPDATED_AT&limit=5");
        assert_eq!(ids(&bed.send("GET", &since, &HEADERS, "").await.json()["payments"]), ["p1"]);

        bed.sandbox.delete("square", "catalog", "i1").unwrap();
        bed.sandbox.delete("square", "orders", "o1").unwrap();
        let visible = post(&bed, "/v2/catalog/search", json!({})).await.json();
        assert_eq!((visible.get("objects"), visible["latest_time"].is_string()), (None, true));
        let tombs = post(&bed, "/v2/catalog/search", json!({"include_deleted_objects": true})).await.json();
        assert_eq!(tombs["objects"][0]["is_deleted"], true);
        assert_eq!(bed.sandbox.get("square", "orders", "o1").unwrap()["state"], "CANCELED");
    }

    async fn token(bed: &TestBed, body: Value) -> Answer {
        let json = [("content-type", "application/json")];
        bed.send("POST", "/square/oauth2/token", &json, body.to_string()).await
    }

    fn with_code(code: &str) -> Value {
        json!({"client_id": "app", "client_secret": "s", "grant_type": "authorization_code", "code": code, "redirect_uri": "https://app.example/cb"})
    }

    #[tokio::test]
    async fn a_login_ends_in_a_token_that_can_be_refreshed_and_revoked() {
        let bed = TestBed::new();
        let ask = "/square/oauth2/authorize?client_id=app&scope=TIMECARDS_READ&state=x%26y&redirect_uri=https%3A%2F%2Fapp.example%2Fcb";
        let page = bed.send("GET", ask, &[], "").await;
        assert!(
            page.status == 200 && page.text.contains("Log in to Sandbox Square as") && page.text.contains("x&amp;y")
        );
        let denied = bed.send("GET", &format!("{ask}&decision=deny"), &[], "").await;
        let location = denied.headers["location"].to_str().unwrap();
        assert!(location.contains("error=access_denied") && location.contains("state=x%26y"), "{location}");
        let allowed = bed.send("GET", &format!("{ask}&decision=allow&account=cafe"), &[], "").await;
        let location = url::Url::parse(allowed.headers["location"].to_str().unwrap()).unwrap();
        let code_given = location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();

        let first = token(&bed, with_code(&code_given)).await.json();
        assert_eq!((&first["expires_at"], &first["merchant_id"]), (&json!("2026-08-31T13:00:04Z"), &json!("MLCAFE")));
        assert!(first.get("expires_in").is_none());
        assert_eq!(code(&token(&bed, with_code(&code_given)).await), (401, "UNAUTHORIZED".into()), "a code works once");

        bed.advance(60);
        let refresh = json!({"client_id": "app", "client_secret": "s", "grant_type": "refresh_token", "refresh_token": first["refresh_token"]});
        let second = token(&bed, refresh.clone()).await.json();
        assert_eq!(
            (&second["refresh_token"], &second["expires_at"]),
            (&first["refresh_token"], &json!("2026-08-31T13:01:04Z"))
        );

        bed.sandbox.of("cafe").create("square", "customers", json!({"id": "only-here"})).unwrap();
        let bearer = format!("Bearer {}", second["access_token"].as_str().unwrap());
        let headers = [("authorization", bearer.as_str()), HEADERS[1]];
        let customers = bed.send("GET", "/square/v2/customers", &headers, "").await.json();
        assert_eq!(ids(&customers["customers"]), ["only-here"]);
        bed.sandbox.of("cafe").expire("square", Expire::Tokens).unwrap();
        let expired = bed.send("GET", "/square/v2/customers", &headers, "").await;
        assert_eq!(code(&expired), (401, "ACCESS_TOKEN_EXPIRED".into()));
        bed.sandbox.of("cafe").expire("square", Expire::Grants).unwrap();
        let revoked = bed.send("GET", "/square/v2/customers", &headers, "").await;
        assert_eq!(code(&revoked), (401, "ACCESS_TOKEN_REVOKED".into()));
        assert_eq!(token(&bed, refresh).await.status, 401);
    }

    #[tokio::test]
    async fn codes_expire_and_bodies_must_be_json() {
        let bed = TestBed::new();
        let ask = "/square/oauth2/authorize?client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&decision=allow";
        let allowed = bed.send("GET", ask, &[], "").await;
        let code_given = allowed.headers["location"].to_str().unwrap().split("code=").nth(1).unwrap().to_owned();
        bed.advance(301);
        assert_eq!(token(&bed, with_code(&code_given)).await.status, 401);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let refused = bed.send("POST", "/square/oauth2/token", &form, "client_id=app&code=sandbox-code-x").await;
        assert_eq!(code(&refused), (400, "BAD_REQUEST".into()));
        for _ in 0..2 {
            let reply = token(&bed, with_code("sandbox-code-shop7")).await.json();
            assert_eq!(reply["merchant_id"], "MLSHOP7", "a developer code is never used up");
        }
    }

    #[tokio::test]
    async fn pkce_binds_a_code_to_its_verifier() {
        let bed = TestBed::new();
        // The pair of RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        for (proof, status) in [(verifier, 200), ("wrong", 401)] {
            let ask = format!(
                "/square/oauth2/authorize?client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&decision=allow&code_challenge={challenge}"
            );
            let allowed = bed.send("GET", &ask, &[], "").await;
            let code_given = allowed.headers["location"].to_str().unwrap().split("code=").nth(1).unwrap().to_owned();
            let mut body = with_code(&code_given);
            body["code_verifier"] = json!(proof);
            assert_eq!(token(&bed, body).await.status, status, "{proof}");
        }
    }

    #[tokio::test]
    async fn faults_strike_as_configured() {
        let bed = TestBed::new();
        for id in ["a", "b", "c", "d"] {
            bed.sandbox.create("square", "timecards", json!({"id": id})).unwrap();
        }
        let set = |faults: Faults| bed.sandbox.set_faults("square", faults).unwrap();
        let statuses = async |count: usize| {
            let mut seen = Vec::new();
            for _ in 0..count {
                seen.push(scan(&bed, 2).await.0);
            }
            seen.sort_unstable();
            seen
        };
        set(Faults { rate_limit_every: Some(3), retry_after: Some(4), ..Faults::default() });
        assert_eq!(statuses(6).await, [200, 200, 200, 200, 429, 429]);
        set(Faults { expire_tokens_every: Some(2), ..Faults::default() });
        assert_eq!(statuses(4).await, [200, 200, 401, 401]);
        set(Faults { error_200: Some(1), ..Faults::default() });
        assert_eq!(scan(&bed, 2).await.1["errors"][0]["category"], "API_ERROR");
        set(Faults { cut_connection_every: Some(1), ..Faults::default() });
        assert!(bed.try_send("GET", "/square/v2/locations", &HEADERS, "").await.is_err());
        set(Faults { duplicate_rows: Some(2), ..Faults::default() });
        assert_eq!(ids(&scan(&bed, 2).await.1["timecards"]), ["a", "b", "b"]);
        for (page_shift, second_page) in [(1, ["b", "c"].as_slice()), (-1, ["d"].as_slice())] {
            set(Faults { page_shift, ..Faults::default() });
            let (_, first) = scan(&bed, 2).await;
            let body = json!({"query": {"sort": {"field": "UPDATED_AT", "order": "DESC"}}, "limit": 2, "cursor": first["cursor"]});
            let second = post(&bed, "/v2/labor/timecards/search", body).await.json();
            assert_eq!(ids(&second["timecards"]), second_page);
        }
        set(Faults { clock_skew_s: 3600, ..Faults::default() });
        let made = bed.sandbox.create("square", "timecards", json!({})).unwrap();
        assert_eq!(made["updated_at"], "2026-08-01T14:00:04Z");
    }

    #[tokio::test]
    async fn a_late_index_hides_a_change_from_lists_but_not_from_reads() {
        let bed = TestBed::new();
        bed.sandbox.create("square", "timecards", json!({"id": "old", "location_id": "L1"})).unwrap();
        bed.sandbox.create("square", "timecards", json!({"id": "gone"})).unwrap();
        bed.sandbox.set_faults("square", Faults { late_indexing: Some((5, 5)), ..Faults::default() }).unwrap();
        bed.sandbox.create("square", "timecards", json!({"id": "new"})).unwrap();
        bed.sandbox.update("square", "timecards", "old", json!({"location_id": "L2"})).unwrap();
        bed.sandbox.delete("square", "timecards", "gone").unwrap();
        let (_, before) = scan(&bed, 9).await;
        assert_eq!(ids(&before["timecards"]), ["old", "gone"]);
        assert_eq!(before["timecards"][0]["location_id"], "L1");
        assert_eq!(bed.send("GET", "/square/v2/labor/timecards/new", &HEADERS, "").await.status, 200);
        assert_eq!(bed.send("GET", "/square/v2/labor/timecards/gone", &HEADERS, "").await.status, 404);
        bed.advance(5);
        let (_, after) = scan(&bed, 9).await;
        assert_eq!(ids(&after["timecards"]), ["old", "new"]);
        assert_eq!(after["timecards"][0]["location_id"], "L2");
    }
}
