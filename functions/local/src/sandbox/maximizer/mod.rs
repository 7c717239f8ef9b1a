//! Sandbox Maximizer: one verb for everything, errors with status 200, and dates whose `Z` is not true.

use std::cmp::Ordering;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use serde_json::{Map, Value, json};

use super::collection::{Collection, Deletion, Form, Id, Stamp, contents, get};
use super::faults::{Fault, Faults};
use super::http::{Call, Reply};
use super::oauth::{self, Bearer, Style};
use super::records::page;
use super::state::SandboxState;
use super::{Vendor, VendorBehavior};

const MAXIMIZER: Vendor = Vendor::Maximizer;

pub(super) static BEHAVIOR: VendorBehavior = VendorBehavior {
    key: "maximizer",
    title: "Maximizer",
    collections: COLLECTIONS,
    contents: LazyLock::new(|| contents(include_str!("collections.json"))),
    oauth: Some(Style {
        is_authorize: |path| oauth_step(path, "/authorize"),
        is_token: |path| oauth_step(path, "/token"),
        is_revoke: |_| false,
        json_body: false,
        access_life_s: 3_600,
        absolute_expiry: false,
        refresh_in_refresh: true,
        refresh_only_offline: false,
        prefixes: ["mxc-", "mxa-", "mxr-"],
        shows_scope: false,
        error: |name, text| {
            let status = if name == "invalid_client" { 401 } else { 400 };
            Reply::json(status, &json!({"error": name, "error_description": text}))
        },
    }),
    complete,
    changed: |_, _, _, _, _| {},
    identify,
    answer,
    refusal,
};

fn oauth_step(path: &str, step: &str) -> bool {
    let path = path.to_ascii_lowercase();
    path.contains("/oauth2/") && path.ends_with(step)
}

static COLLECTIONS: &[Collection] = &[
    Collection {
        name: "AbEntry",
        id: Id::Key("Contact"),
        created: Some(Stamp("CreationDate", Form::FalseUtc)),
        updated: Some(Stamp("LastModifyDate", Form::FalseUtc)),
        revision: None,
        deletion: Deletion::Gone,
    },
    Collection {
        name: "Opportunity",
        id: Id::Key("Opportunity"),
        created: Some(Stamp("CreationDate", Form::FalseUtc)),
        updated: Some(Stamp("LastModifyDate", Form::FalseUtc)),
        revision: None,
        deletion: Deletion::Gone,
    },
];

/// Larger pages are too slow for the vendor unless the faults name another size.
const SLOW_ABOVE: u32 = 5_000;

fn failure(message: &str, code: i64) -> Reply {
    Reply::ok(&json!({"Code": -1, "Msg": [{"Message": message, "ErrorCode": code}]}))
}

fn invalid_token() -> Reply {
    Reply::ok(&json!({"Code": -1, "Msg": ["Token is invalid"]}))
}

fn refusal(fault: Fault, _: u64, _: &Call) -> Reply {
    match fault {
        Fault::TokenExpired => invalid_token(),
        Fault::RateLimited => Reply::text(429, "text/plain", "Too Many Requests"),
        Fault::ErrorIn200 => failure("Access denied", -10_003),
        Fault::ServerError | Fault::Cut => Reply::text(500, "text/html", "<h1>Runtime Error</h1>"),
    }
}

fn complete(_: &str, _: &mut Map<String, Value>, _: DateTime<Utc>, _: u64, _: &Faults) {}

fn identify(state: &mut SandboxState, call: &Call) -> Result<String, Reply> {
    match oauth::bearer(state, call) {
        Bearer::Good(account) => Ok(account),
        _ if call.path.ends_with("/VerifyToken") => Err(Reply::text(401, "text/plain", "")),
        _ => Err(invalid_token()),
    }
}

fn answer(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    let limit = match state.faults(MAXIMIZER, account).edition.as_deref() {
        Some("core") => Some((30, 10)),
        Some("business") => Some((90, 30)),
        _ => None,
    };
    if let Some((calls, seconds)) = limit
        && !state.within_window(MAXIMIZER, account, calls, seconds)
    {
        return Reply::text(429, "text/plain", "Too Many Requests").with("retry-after", "0");
    }
    let verb = call.path.rsplit('/').next().unwrap_or_default();
    match (verb, call.method.as_str()) {
        ("VerifyToken", "GET") => Reply::text(200, "text/plain", ""),
        ("TokenValid", "POST") => Reply::ok(&json!({"Code": 0})),
        ("Read", "POST") => match call.json() {
            Some(Value::Object(request)) => read(state, account, &request),
            _ => failure("The request is not a JSON object.", -10_000),
        },
        ("Read" | "TokenValid", _) => Reply::text(405, "text/plain", "Method Not Allowed"),
        _ => Reply::text(404, "text/plain", "Endpoint not found."),
    }
}

fn read(state: &SandboxState, account: &str, request: &Map<String, Value>) -> Reply {
    let mut reply = Map::new();
    reply.insert("Code".into(), json!(0));
    for (object, asked) in request {
        let answered = match object.as_str() {
            "Compatibility" | "Configuration" => continue,
            "Schema" => Ok(schema(asked)),
            _ => match COLLECTIONS.iter().find(|kind| kind.name == object) {
                Some(kind) => read_object(state, account, kind, asked, request),
                None => Err(failure(&format!("Unknown object {object}."), -10_001)),
            },
        };
        match answered {
            Ok(answered) => reply.insert(object.clone(), answered),
            Err(refused) => return refused,
        };
    }
    if reply.len() == 1 { failure("Nothing to read.", -10_000) } else { Reply::ok(&Value::Object(reply)) }
}

fn read_object(
    state: &SandboxState,
    account: &str,
    kind: &Collection,
    asked: &Value,
    request: &Map<String, Value>,
) -> Result<Value, Reply> {
    let driver = get(request, &format!("Configuration/Drivers/I{}Searcher", kind.name));
    if driver != Some(&json!(format!("Maximizer.Model.Access.Sql.{}Searcher", kind.name))) {
        return Ok(json!({"Data": []}));
    }
    let Some(wanted) = asked["Scope"]["Fields"].as_object() else {
        return Err(failure("Scope.Fields is missing.", -10_000));
    };
    let faults = state.faults(MAXIMIZER, account);
    let order = &asked["OrderBy"];
    let top = asked["Criteria"]["Top"].as_u64();
    let size = order["PageSize"].as_u64().or(top).unwrap_or(100).max(1);
    if size > u64::from(faults.slow_above_page_size.unwrap_or(SLOW_ABOVE)) {
        return Err(Reply::text(408, "text/plain", "Request Timeout"));
    }
    let pinned = get(request, &format!("Compatibility/{}Key", kind.name)).is_some_and(|version| version == "2.0");
    let mut rows = state.listed(MAXIMIZER, account, kind.name);
    if !pinned {
        rows.iter_mut().for_each(old_key);
    }
    let known = field_names(kind);
    let criteria = asked["Criteria"]["SearchQuery"].as_object().cloned().unwrap_or_default();
    let mut problem = None;
    rows.retain(|row| {
        all(row, &criteria, &known).unwrap_or_else(|text| {
            problem = Some(text);
            false
        })
    });
    if let Some(text) = problem {
        return Err(failure(&text, -10_002));
    }
    for column in order["Fields"].as_array().into_iter().flatten().rev() {
        let Some((name, direction)) = column.as_object().and_then(|column| column.iter().next()) else { continue };
        if !known.contains(name) {
            return Err(failure(&format!("Cannot sort by {name}."), -10_002));
        }
        let backwards = direction.as_str().is_some_and(|text| text.eq_ignore_ascii_case("DESC"));
        rows.sort_by(|a, b| if backwards { compare(&b[name], &a[name]) } else { compare(&a[name], &b[name]) });
    }
    if let Some(top) = top {
        rows.truncate(top as usize);
    }
    let offset = match &order["PageKey"] {
        Value::Null => 0,
        key => {
            let decoded = key
                .as_str()
                .and_then(|text| STANDARD.decode(text).ok())
                .and_then(|bytes| String::from_utf8(bytes).ok());
            decoded.and_then(|text| text.parse().ok()).ok_or_else(|| failure("The page key is not valid.", -10_002))?
        }
    };
    let page = page(rows, offset, size as usize, &faults);
    let data: Vec<Value> = page.rows.iter().map(|row| select(row, wanted)).collect();
    let mut answered = json!({"Data": data});
    if let Some(next) = page.next {
        answered["OrderBy"] = json!({"PageKey": STANDARD.encode(next.to_string())});
    }
    Ok(answered)
}

/// Without the pin on version 2.0 the same record has another key.
fn old_key(row: &mut Value) {
    let decoded = row["Key"].as_str().and_then(|key| STANDARD.decode(key).ok());
    if let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
        row["Key"] = json!(STANDARD.encode(text.split('\t').skip(1).collect::<Vec<_>>().join(",")));
    }
}

fn select(row: &Value, wanted: &Map<String, Value>) -> Value {
    let mut shown = Map::new();
    for (name, how) in wanted {
        match (row.get(name), how) {
            (Some(inner @ Value::Object(_)), Value::Object(parts)) => {
                shown.insert(name.clone(), select(inner, parts));
            }
            (Some(value), how) if *how != json!(0) && *how != json!(false) => {
                shown.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    Value::Object(shown)
}

fn field_names(kind: &Collection) -> Vec<String> {
    let mut names: Vec<String> = MAXIMIZER.contents(kind).defaults.keys().cloned().collect();
    names.extend(["Key", "CreationDate", "LastModifyDate"].map(str::to_owned));
    names
}

/// The description of an object's fields.
fn schema(asked: &Value) -> Value {
    let tree = asked["Criteria"]["SearchQuery"]["Key"]["$TREE"].as_str().unwrap_or("/");
    let mut rows = Vec::new();
    for kind in COLLECTIONS.iter().filter(|kind| format!("/{}", kind.name).starts_with(tree)) {
        let defaults = &MAXIMIZER.contents(kind).defaults;
        for name in field_names(kind) {
            let type_name = match defaults.get(&name) {
                _ if name.ends_with("Date") => "DateTime",
                Some(Value::Number(_)) => "Number",
                Some(Value::Object(_)) => "Object",
                _ => "String",
            };
            let plain = type_name != "Object";
            rows.push(json!({"Key": format!("/{}/{name}", kind.name), "Name": name, "Type": type_name,
                "Queryable": plain, "Sortable": plain, "Assignable": name != "Key" && type_name != "DateTime"}));
        }
    }
    json!({"Data": rows})
}

// ---------------------------------------------------------------- criteria

/// True if a row meets every condition of an object.
fn all(row: &Value, criteria: &Map<String, Value>, known: &[String]) -> Result<bool, String> {
    for (name, condition) in criteria {
        let met = match (name.as_str(), condition) {
            ("$AND", Value::Array(parts)) => every(row, parts, known)?,
            ("$OR", Value::Array(parts)) => {
                let mut any = false;
                for part in parts {
                    any |= every(row, std::slice::from_ref(part), known)?;
                }
                any
            }
            (field, Value::Object(tests))
                if known.iter().any(|name| name == field.split('/').next().unwrap_or_default()) =>
            {
                let value = row.as_object().and_then(|row| get(row, field)).unwrap_or(&Value::Null);
                let mut met = true;
                for (operator, wanted) in tests {
                    met &= test(value, operator, wanted, field.ends_with("Date"))?;
                }
                met
            }
            _ => return Err(format!("Cannot search by {name}.")),
        };
        if !met {
            return Ok(false);
        }
    }
    Ok(true)
}

fn every(row: &Value, parts: &[Value], known: &[String]) -> Result<bool, String> {
    for part in parts {
        if !all(row, part.as_object().ok_or("A condition must be an object.")?, known)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn test(value: &Value, operator: &str, wanted: &Value, is_date: bool) -> Result<bool, String> {
    let list = || wanted.as_array().map(Vec::as_slice).ok_or_else(|| format!("{operator} needs a list."));
    if is_date && !matches!(operator, "$IN" | "$NIN" | "$RANGE") && moment(wanted).is_none() {
        return Err(format!("{wanted} is not a date."));
    }
    let order = compare(value, wanted);
    let comparable = !value.is_null() && !wanted.is_null();
    Ok(match operator {
        "$EQ" => order == Ordering::Equal,
        "$NE" => order != Ordering::Equal,
        "$GT" => comparable && order.is_gt(),
        "$GE" => comparable && order.is_ge(),
        "$LT" => comparable && order.is_lt(),
        "$LE" => comparable && order.is_le(),
        "$IN" => list()?.iter().any(|one| compare(value, one).is_eq()),
        "$NIN" => !list()?.iter().any(|one| compare(value, one).is_eq()),
        "$RANGE" => match list()? {
            [from, to] => comparable && compare(value, from).is_ge() && compare(value, to).is_le(),
            _ => return Err("$RANGE needs two values.".to_owned()),
        },
        "$LIKE" | "$NLIKE" => {
            let pattern = wanted.as_str().unwrap_or_default().to_lowercase();
            like(&value.as_str().unwrap_or_default().to_lowercase(), &pattern) == (operator == "$LIKE")
        }
        _ => return Err(format!("Unknown operator {operator}.")),
    })
}

/// `%` stands for any text.
fn like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('%') {
        None => text == pattern,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| like(&tail[at..], rest))
        }),
    }
}

/// A date without the zone that it pretends to have.
fn moment(value: &Value) -> Option<NaiveDateTime> {
    let text = value.as_str()?;
    let whole = text.get(..19).and_then(|text| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").ok());
    whole.or_else(|| Some(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_time(chrono::NaiveTime::MIN)))
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (moment(a), moment(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (a, b) => (!a.is_null()).cmp(&!b.is_null()).then_with(|| a.to_string().cmp(&b.to_string())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expire;
    use super::super::testing::{Answer, TestBed};
    use super::*;

    const BEARER: [(&str, &str); 2] =
        [("authorization", "Bearer sandbox-token-main"), ("content-type", "application/json")];

    fn asked(object: &str, search: Value, order: Value) -> Value {
        json!({
            object: {"Scope": {"Fields": {"Key": 1, "Type": 1, "LastName": 1, "Email": {"Address": 1}, "LastModifyDate": 1}},
                "Criteria": {"SearchQuery": search}, "OrderBy": order},
            "Compatibility": {"AbEntryKey": "2.0"},
            "Configuration": {"Drivers": {format!("I{object}Searcher"): format!("Maximizer.Model.Access.Sql.{object}Searcher")}},
        })
    }

    async fn read(bed: &TestBed, body: &Value) -> Answer {
        bed.send("POST", "/maximizer/octopus/Read", &BEARER, body.to_string()).await
    }

    async fn names(bed: &TestBed, search: Value) -> Vec<String> {
        let body = asked("AbEntry", search, json!({"Fields": [{"LastName": "ASC"}]}));
        let answer = read(bed, &body).await.json();
        assert_eq!(answer["Code"], 0, "{answer}");
        answer["AbEntry"]["Data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["LastName"].as_str().unwrap().to_owned())
            .collect()
    }

    fn people(bed: &TestBed) {
        for (kind, name) in [("Contact", "Ng"), ("Company", "Oak"), ("Individual", "Ivy")] {
            let fields = json!({"Type": kind, "LastName": name, "Email": {"Address": format!("{name}@x")}});
            bed.sandbox.create("maximizer", "AbEntry", fields).unwrap();
            bed.advance(60);
        }
    }

    #[tokio::test]
    async fn keys_are_base64_and_dates_are_pacific_with_a_false_z() {
        let bed = TestBed::new();
        people(&bed);
        let contact = &bed.sandbox.list("maximizer", "AbEntry").unwrap()[0];
        let key = String::from_utf8(STANDARD.decode(contact["Key"].as_str().unwrap()).unwrap()).unwrap();
        assert!(key.starts_with("Contact\t") && key.ends_with("C\t0"), "{key}");
        assert_eq!(contact["LastModifyDate"], "2026-08-01T06:00:04Z");
        bed.sandbox.set_faults("maximizer", Faults { true_utc: true, ..Faults::default() }).unwrap();
        let honest = bed.sandbox.create("maximizer", "Opportunity", json!({})).unwrap();
        assert_eq!(honest["LastModifyDate"], "2026-08-01T13:03:04Z");
        let body = asked("AbEntry", json!({"Type": {"$EQ": "Contact"}}), json!({}));
        let pinned = read(&bed, &body).await.json();
        assert_eq!(
            pinned["AbEntry"]["Data"],
            json!([{"Key": contact["Key"], "Type": "Contact", "LastName": "Ng", "Email": {"Address": "Ng@x"}, "LastModifyDate": "2026-08-01T06:00:04Z"}])
        );
        let mut loose = body.clone();
        loose["Compatibility"] = json!({});
        assert_ne!(read(&bed, &loose).await.json()["AbEntry"]["Data"][0]["Key"], contact["Key"]);
    }

    #[tokio::test]
    async fn criteria_select() {
        let bed = TestBed::new();
        people(&bed);
        for (search, wanted) in [
            (json!({}), &["Ivy", "Ng", "Oak"][..]),
            (
                json!({"$AND": [{"Type": {"$EQ": "Contact"}}, {"LastModifyDate": {"$GE": "2026-08-01T00:00:00"}}]}),
                &["Ng"],
            ),
            (json!({"$OR": [{"Type": {"$EQ": "Company"}}, {"LastName": {"$LIKE": "i%"}}]}), &["Ivy", "Oak"]),
            (json!({"LastModifyDate": {"$GE": "2026-08-01T06:01:04"}}), &["Ivy", "Oak"]),
            (json!({"LastModifyDate": {"$GT": "2026-08-01T06:01:04Z"}}), &["Ivy"]),
            (json!({"LastModifyDate": {"$LT": "2026-08-01T06:01:04"}}), &["Ng"]),
            (json!({"LastModifyDate": {"$LE": "2026-08-01T06:01:04"}}), &["Ng", "Oak"]),
            (json!({"LastModifyDate": {"$RANGE": ["2026-08-01T06:01:00", "2026-08-02"]}}), &["Ivy", "Oak"]),
            (json!({"LastName": {"$IN": ["Ng", "Ivy"]}}), &["Ivy", "Ng"]),
            (json!({"LastName": {"$NE": "Ng"}, "Email/Address": {"$LIKE": "%k@x"}}), &["Oak"]),
        ] {
            assert_eq!(names(&bed, search.clone()).await, wanted, "{search}");
        }
        for search in [
            json!({"Colour": {"$EQ": 1}}),
            json!({"LastName": {"$NEAR": 1}}),
            json!({"LastModifyDate": {"$GE": "soon"}}),
            json!({"$AND": [1]}),
        ] {
            let answer = read(&bed, &asked("AbEntry", search.clone(), json!({}))).await;
            assert_eq!((answer.status, &answer.json()["Code"]), (200, &json!(-1)), "{search}");
        }
    }

    #[tokio::test]
    async fn pages_go_by_offset() {
        let bed = TestBed::new();
        people(&bed);
        let order = |key: &Value| json!({"PageKey": key, "PageSize": 2, "Fields": [{"LastModifyDate": "ASC"}]});
        let first = read(&bed, &asked("AbEntry", json!({}), order(&Value::Null))).await.json();
        assert_eq!(first["AbEntry"]["OrderBy"]["PageKey"], "Mg==");
        let last =
            read(&bed, &asked("AbEntry", json!({}), order(&first["AbEntry"]["OrderBy"]["PageKey"]))).await.json();
        assert_eq!((last["AbEntry"]["Data"].as_array().unwrap().len(), last["AbEntry"].get("OrderBy")), (1, None));
        let mut top = asked("AbEntry", json!({}), json!({}));
        top["AbEntry"]["Criteria"]["Top"] = json!(1);
        assert_eq!(read(&bed, &top).await.json()["AbEntry"]["Data"].as_array().unwrap().len(), 1);
        let slow = asked("AbEntry", json!({}), json!({"PageSize": 5001}));
        assert_eq!(read(&bed, &slow).await.status, 408);
    }

    #[tokio::test]
    async fn what_goes_wrong_goes_wrong_with_status_200() {
        let bed = TestBed::new();
        people(&bed);
        let mut driverless = asked("AbEntry", json!({}), json!({}));
        driverless["Configuration"] = json!({});
        assert_eq!(read(&bed, &driverless).await.json(), json!({"Code": 0, "AbEntry": {"Data": []}}));
        assert_eq!(bed.send("GET", "/maximizer/octopus/Read", &BEARER, "").await.status, 405);
        let stranger = [("authorization", "Bearer nobody")];
        let refused = bed.send("POST", "/maximizer/octopus/TokenValid", &stranger, "{}").await;
        assert_eq!((refused.status, refused.json()), (200, json!({"Code": -1, "Msg": ["Token is invalid"]})));
        assert_eq!(bed.send("GET", "/maximizer/octopus/VerifyToken", &stranger, "").await.status, 401);
        assert_eq!(bed.send("POST", "/maximizer/octopus/TokenValid", &BEARER, "{}").await.json(), json!({"Code": 0}));
        let ask = json!({"Schema": {"Scope": {"Fields": 1}, "Criteria": {"SearchQuery": {"Key": {"$TREE": "/Opportunity"}}}}});
        let schema = read(&bed, &ask).await.json();
        let field = schema["Schema"]["Data"]
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["Name"] == "LastModifyDate")
            .unwrap()
            .clone();
        assert_eq!(
            (&field["Key"], &field["Queryable"], &field["Sortable"]),
            (&json!("/Opportunity/LastModifyDate"), &json!(true), &json!(true))
        );

        bed.sandbox.set_faults("maximizer", Faults { edition: Some("core".into()), ..Faults::default() }).unwrap();
        let mut statuses = Vec::new();
        for _ in 0..31 {
            statuses.push(bed.send("POST", "/maximizer/octopus/TokenValid", &BEARER, "{}").await.status);
        }
        assert_eq!((statuses[29], statuses[30]), (200, 429));
        bed.advance(10);
        assert_eq!(bed.send("POST", "/maximizer/octopus/TokenValid", &BEARER, "{}").await.status, 200);
    }

    #[tokio::test]
    async fn tokens_are_had_by_form_only() {
        let bed = TestBed::new();
        let ask = "grant_type=authorization_code&client_id=app&client_secret=s&code=sandbox-code-acme";
        let path = "/maximizer/oauth2/AcmeCrm/token";
        let given = bed.send("POST", path, &[("content-type", "application/x-www-form-urlencoded")], ask).await.json();
        let bearer = format!("Bearer {}", given["access_token"].as_str().unwrap());
        let verify =
            async || bed.send("GET", "/maximizer/octopus/VerifyToken", &[("authorization", &bearer)], "").await.status;
        assert_eq!(verify().await, 200);
        bed.sandbox.of("acme").expire("maximizer", Expire::Tokens).unwrap();
        assert_eq!(verify().await, 401);
        let as_json = bed.send("POST", path, &[("content-type", "application/json")], "{}").await;
        assert_eq!((as_json.status, &as_json.json()["error"]), (400, &json!("invalid_request")));
        let login = "/maximizer/oauth2/AcmeCrm/authorize?response_type=code&client_id=app&redirect_uri=http%3A%2F%2Fapp%2Fcb&scope=data";
        assert!(bed.send("GET", login, &[], "").await.text.contains("Sandbox Maximizer"));
    }
}
