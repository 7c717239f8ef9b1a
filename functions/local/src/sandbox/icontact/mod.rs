//! Sandbox iContact: four headers instead of a token, lists by offset, no date of modification anywhere.

use std::sync::LazyLock;

use chrono::{DateTime, SecondsFormat, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::collection::{Collection, Deletion, Form, Id, Stamp, contents};
use super::faults::{Fault, Faults, mix};
use super::http::{Call, Reply};
use super::records::page;
use super::state::SandboxState;
use super::{Vendor, VendorBehavior};

const ICONTACT: Vendor = Vendor::IContact;

/// Every account has this number, and one client folder.
const ACCOUNT_ID: &str = "1";
const FOLDER_ID: &str = "2";

/// Calls that an account may make in an hour.
const CALLS_PER_HOUR: u32 = 10_000;

/// The largest page; more is cut down to it and the answer says so.
const LARGEST_PAGE: usize = 500;

pub(super) static BEHAVIOR: VendorBehavior = VendorBehavior {
    key: "icontact",
    title: "iContact",
    collections: COLLECTIONS,
    contents: LazyLock::new(|| contents(include_str!("collections.json"))),
    oauth: None,
    complete,
    changed: |_, _, _, _, _| {},
    identify,
    answer,
    refusal,
};

static COLLECTIONS: &[Collection] = &[
    Collection {
        name: "lists",
        id: Id::Digits("listId", 0),
        created: None,
        updated: None,
        revision: None,
        deletion: Deletion::Gone,
    },
    Collection {
        name: "contacts",
        id: Id::Digits("contactId", 0),
        created: Some(Stamp("createDate", Form::EasternSpaced)),
        updated: None,
        revision: None,
        deletion: Deletion::Gone,
    },
    Collection {
        name: "subscriptions",
        id: Id::Pair("subscriptionId", "listId", "contactId"),
        created: Some(Stamp("addDate", Form::EasternSpaced)),
        updated: None,
        revision: None,
        deletion: Deletion::Flag("status", r#""unsubscribed""#),
    },
    Collection {
        name: "campaigns",
        id: Id::Digits("campaignId", 0),
        created: None,
        updated: None,
        revision: None,
        deletion: Deletion::Gone,
    },
    Collection {
        name: "messages",
        id: Id::Digits("messageId", 0),
        created: Some(Stamp("createDate", Form::EasternOffset)),
        updated: None,
        revision: None,
        deletion: Deletion::Gone,
    },
];

fn refuse(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"errors": [text]}))
}

fn refusal(fault: Fault, _: u64, call: &Call) -> Reply {
    match fault {
        Fault::ErrorIn200 => {
            let resource = call.segments().into_iter().find(|part| COLLECTIONS.iter().any(|kind| kind.name == part));
            let mut body =
                json!({"warnings": ["The list could not be read completely."], "limit": 20, "offset": 0, "total": 0});
            body[resource.as_deref().unwrap_or("contacts")] = json!([]);
            Reply::ok(&body)
        }
        Fault::TokenExpired => refuse(401, "Api password invalid"),
        Fault::RateLimited | Fault::ServerError | Fault::Cut => {
            refuse(503, "The service is busy. Please try again later.")
        }
    }
}

fn complete(_: &str, value: &mut Map<String, Value>, _: DateTime<Utc>, _: u64, _: &Faults) {
    for field in value.values_mut().filter(|field| field.is_number()) {
        *field = json!(field.to_string());
    }
}

/// Versions that are understood, and the first of them with a spam check in messages.
const VERSIONS: [&str; 3] = ["2.0", "2.1", "2.2"];
const SPAM_CHECK_SINCE: &str = "2.1";

fn identify(state: &mut SandboxState, call: &Call) -> Result<String, Reply> {
    if call.path.trim_end_matches('/') == "/icp/time" {
        let now = state.now();
        let shown = now.with_timezone(&Tz::America__New_York).to_rfc3339_opts(SecondsFormat::Secs, false);
        return Err(Reply::ok(&json!({"time": shown, "timestamp": now.timestamp()})));
    }
    if !call.header("api-version").is_some_and(|version| VERSIONS.contains(&version)) {
        return Err(refuse(501, "Api version invalid"));
    }
    for (header, text) in [
        ("api-appid", "Api appid invalid"),
        ("api-username", "Api username invalid"),
        ("api-password", "Api password invalid"),
    ] {
        if call.header(header).is_none_or(|value| value.is_empty() || value == "wrong") {
            return Err(refuse(401, text));
        }
    }
    if call.header("accept").is_some_and(|accept| !accept.contains("json") && !accept.contains("*/*")) {
        return Err(refuse(406, "Only application/json is imitated here"));
    }
    Ok(call.header("api-username").unwrap_or_default().to_owned())
}

fn answer(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    if !state.within_window(ICONTACT, account, CALLS_PER_HOUR, 3_600) {
        return refuse(503, "Too many requests in this hour.");
    }
    if call.method != "GET" {
        return refuse(405, "Only GET is imitated here");
    }
    let segments = call.segments();
    let parts: Vec<&str> = segments.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    let folder_known =
        |parts: &[&str]| parts[2] == ACCOUNT_ID && parts.get(4).is_none_or(|folder| *folder == FOLDER_ID);
    match parts.as_slice() {
        ["icp", "a"] => {
            let row = json!({"accountId": ACCOUNT_ID, "companyName": account, "enabled": "1"});
            Reply::ok(&json!({"accounts": [row], "limit": 20, "offset": 0, "total": 1}))
        }
        ["icp", "a", ..] if parts.len() > 2 && !folder_known(&parts) => refuse(404, "Not Found"),
        ["icp", "a", id] => Reply::ok(&json!({"account": {"accountId": id, "companyName": account, "enabled": "1"}})),
        ["icp", "a", _, "c"] => {
            Reply::ok(&json!({"clientfolders": [{"clientFolderId": FOLDER_ID}], "limit": 20, "offset": 0, "total": 1}))
        }
        ["icp", "a", _, "c", _, resource] => match COLLECTIONS.iter().find(|kind| kind.name == *resource) {
            Some(kind) => list(state, account, kind, call),
            None => refuse(404, "Not Found"),
        },
        ["icp", "a", _, "c", _, resource, id] => match state.value(ICONTACT, account, resource, id).cloned() {
            Some(value) => Reply::ok(
                &json!({resource.strip_suffix('s').unwrap_or(resource): with_spam_check(state, account, resource, call, value)}),
            ),
            None => refuse(404, "Not Found"),
        },
        _ => refuse(404, "Not Found"),
    }
}

/// From version 2.1 on a message carries a spam score, which may change although nobody touched the message.
fn with_spam_check(state: &mut SandboxState, account: &str, resource: &str, call: &Call, mut value: Value) -> Value {
    if resource == "messages" && call.header("api-version").is_some_and(|version| version >= SPAM_CHECK_SINCE) {
        let flaps = state.faults(ICONTACT, account).spam_check_flaps;
        let read = if flaps { state.account(ICONTACT, account).requests } else { 0 };
        let tenths = mix(0, read) % 50;
        value["spamCheck"] = json!({"rawScore": format!("{}.{}", tenths / 10, tenths % 10)});
    }
    value
}

/// Parameters that are no filters.
const RESERVED: [&str; 4] = ["limit", "offset", "orderby", "createDateSearchType"];

fn list(state: &mut SandboxState, account: &str, kind: &'static Collection, call: &Call) -> Reply {
    let mut rows = state.listed(ICONTACT, account, kind.name);
    let mut fields: Vec<String> = ICONTACT.contents(kind).defaults.keys().cloned().collect();
    fields.push(kind.id.field().to_owned());
    fields.extend(kind.created.iter().map(|stamp| stamp.0.to_owned()));
    fields.extend(rows.iter().filter_map(Value::as_object).flat_map(Map::keys).cloned());

    if kind.name == "contacts" {
        let subscriptions = state.listed(ICONTACT, account, "subscriptions");
        let on_a_list = |row: &Value| {
            subscriptions.iter().any(|one| one["contactId"] == row["contactId"] && one["status"] == "normal")
        };
        match call.query("status") {
            Some("total") => {}
            Some("unlisted") => rows.retain(|row| !on_a_list(row)),
            Some(status) => rows.retain(|row| row["status"] == status),
            None => rows.retain(on_a_list),
        }
    }
    for (name, wanted) in call.query.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
        if kind.name == "contacts" && name == "status" {
            continue;
        }
        if !fields.contains(name) {
            return refuse(400, &format!("Unknown field: {name}"));
        }
        let how = call.query("createDateSearchType").filter(|_| name == "createDate");
        if how.is_some_and(|how| !["eq", "gt", "gte", "lt", "lte", "bet"].contains(&how)) {
            return refuse(400, "Unknown createDateSearchType");
        }
        rows.retain(|row| fits(row[name].as_str().unwrap_or_default(), wanted, how));
    }
    if let Some(order) = call.query("orderby") {
        let (field, direction) = order.split_once(':').unwrap_or((order, "asc"));
        if !fields.iter().any(|known| known == field) {
            return refuse(400, &format!("Unknown field: {field}"));
        }
        // Ids are texts of digits: shorter ones are smaller.
        let is_id = field.ends_with("Id");
        rows.sort_by_cached_key(|row| {
            let text = row[field].as_str().unwrap_or_default().to_owned();
            (if is_id { text.len() } else { 0 }, text)
        });
        if direction == "desc" {
            rows.reverse();
        }
    }
    let number = |name: &str, usual: usize| call.query(name).map_or(Ok(usual), str::parse::<usize>);
    let (Ok(limit), Ok(offset)) = (number("limit", 20), number("offset", 0)) else {
        return refuse(400, "limit and offset must be numbers");
    };
    let limit = limit.clamp(1, LARGEST_PAGE);
    let page = page(rows, offset, limit, &state.faults(ICONTACT, account));
    let rows: Vec<Value> =
        page.rows.into_iter().map(|row| with_spam_check(state, account, kind.name, call, row)).collect();
    Reply::ok(&json!({kind.name: rows, "limit": limit, "offset": offset, "total": page.total}))
}

/// A value against a pattern with `*`, or a date against a bound; an empty pattern fits nothing.
fn fits(value: &str, wanted: &str, how: Option<&str>) -> bool {
    if wanted.is_empty() {
        return false;
    }
    // Both forms of a date compare as text once the middle sign is the same; a day alone means its midnight.
    let plain = |text: &str| text.replace('T', " ").chars().take(19).collect::<String>();
    let value_at = plain(value);
    let ordered = |bound: &str| value_at.as_str().cmp(plain(bound).as_str());
    match how {
        Some("gt") => ordered(wanted).is_gt() && !value_at.starts_with(&plain(wanted)),
        Some("gte") => ordered(wanted).is_ge(),
        Some("lt") => ordered(wanted).is_lt(),
        Some("lte") => ordered(wanted).is_le() || value_at.starts_with(&plain(wanted)),
        Some("bet") => {
            wanted.split_once(',').is_some_and(|(from, to)| ordered(from).is_ge() && fits(value, to, Some("lte")))
        }
        Some(_) => value_at.starts_with(&plain(wanted)),
        None => glob(&value.to_lowercase(), &wanted.to_lowercase()),
    }
}

fn glob(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((head, rest)) => text.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).filter(|at| tail.is_char_boundary(*at)).any(|at| glob(&tail[at..], rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, TestBed};
    use super::*;

    const HEADERS: [(&str, &str); 5] = [
        ("api-version", "2.2"),
        ("api-appid", "app"),
        ("api-username", "main"),
        ("api-password", "s"),
        ("accept", "application/json"),
    ];
    const HOME: &str = "/icp/a/1/c/2";

    async fn get(bed: &TestBed, path: &str) -> Answer {
        bed.send("GET", &format!("/icontact{path}"), &HEADERS, "").await
    }

    async fn contacts(bed: &TestBed, query: &str) -> Vec<String> {
        let answer = get(bed, &format!("{HOME}/contacts?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        answer.json()["contacts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["contactId"].as_str().unwrap().to_owned())
            .collect()
    }

    fn people(bed: &TestBed) {
        for (id, name, at) in [
            ("8", "Ann", "2026-06-18 20:15:31"),
            ("9", "Bob", "2026-07-01 00:00:00"),
            ("10", "Ann-Lee", "2026-07-02 09:00:00"),
        ] {
            bed.sandbox
                .create("icontact", "contacts", json!({"contactId": id, "firstName": name, "createDate": at}))
                .unwrap();
        }
        bed.sandbox.create("icontact", "subscriptions", json!({"contactId": "8"})).unwrap();
    }

    #[tokio::test]
    async fn headers_are_checked_in_order() {
        let bed = TestBed::new();
        let mut headers = [
            ("api-version", "3.0"),
            ("api-appid", "wrong"),
            ("api-username", "wrong"),
            ("api-password", "wrong"),
            ("accept", "text/xml"),
        ];
        for (index, (status, text)) in [
            (501, "Api version invalid"),
            (401, "Api appid invalid"),
            (401, "Api username invalid"),
            (401, "Api password invalid"),
            (406, "Only"),
        ]
        .into_iter()
        .enumerate()
        {
            let answer = bed.send("GET", "/icontact/icp/a/", &headers, "").await;
            assert_eq!(answer.status, status);
            assert!(answer.json()["errors"][0].as_str().unwrap().starts_with(text), "{}", answer.text);
            headers[index] = HEADERS[index];
        }
        assert_eq!(get(&bed, "/icp/a/").await.json()["accounts"][0]["accountId"], "1");
        assert_eq!(get(&bed, "/icp/a/1/c/").await.json()["clientfolders"][0]["clientFolderId"], "2");
        assert_eq!(get(&bed, "/icp/a/1/c/77/contacts").await.status, 404);
        let time = bed.send("GET", "/icontact/icp/time", &[], "").await;
        assert_eq!(time.json(), json!({"time": "2026-08-01T09:00:04-04:00", "timestamp": 1_785_589_204}));
    }

    #[tokio::test]
    async fn the_usual_list_hides_who_is_on_no_list() {
        let bed = TestBed::new();
        people(&bed);
        for (query, wanted) in [
            ("", &["8"][..]),
            ("status=total", &["8", "9", "10"]),
            ("status=unlisted", &["9", "10"]),
            ("status=bounced", &[]),
            ("status=total&orderby=contactId:desc", &["10", "9", "8"]),
            ("status=total&orderby=createDate:asc&limit=1&offset=1", &["9"]),
            ("status=total&firstName=ann*", &["8", "10"]),
            ("status=total&firstName=", &[]),
            ("status=total&createDate=2026-07-01&createDateSearchType=gte", &["9", "10"]),
            ("status=total&createDate=2026-07-01&createDateSearchType=gt", &["10"]),
            ("status=total&createDate=2026-07-01&createDateSearchType=lt", &["8"]),
            ("status=total&createDate=2026-07-01&createDateSearchType=eq", &["9"]),
            ("status=total&createDate=2026-06-18,2026-07-01&createDateSearchType=bet", &["8", "9"]),
        ] {
            assert_eq!(contacts(&bed, query).await, wanted, "{query}");
        }
        bed.sandbox.delete("icontact", "subscriptions", "9_8").unwrap();
        assert!(contacts(&bed, "").await.is_empty());
        for query in
            ["FirstName=Ann", "orderby=colour:asc", "limit=x", "createDate=2026-07-01&createDateSearchType=near"]
        {
            assert_eq!(get(&bed, &format!("{HOME}/contacts?{query}")).await.status, 400, "{query}");
        }
    }

    #[tokio::test]
    async fn a_list_says_its_limit_and_everything_is_text() {
        let bed = TestBed::new();
        let made = bed.sandbox.create("icontact", "contacts", json!({"bounceCount": 2})).unwrap();
        assert_eq!(
            (&made["createDate"], &made["bounceCount"], made["contactId"].is_string()),
            (&json!("2026-08-01 09:00:04"), &json!("2"), true)
        );
        let list = get(&bed, &format!("{HOME}/contacts?status=total&limit=9999")).await.json();
        assert_eq!((&list["limit"], &list["offset"], &list["total"]), (&json!(500), &json!(0), &json!(1)));
        let id = made["contactId"].as_str().unwrap();
        assert_eq!(get(&bed, &format!("{HOME}/contacts/{id}")).await.json()["contact"], made);
        bed.sandbox.delete("icontact", "contacts", id).unwrap();
        let gone = get(&bed, &format!("{HOME}/contacts/{id}")).await;
        assert_eq!((gone.status, gone.json()), (404, json!({"errors": ["Not Found"]})));
    }

    #[tokio::test]
    async fn a_spam_check_can_change_by_itself() {
        let bed = TestBed::new();
        let made = bed.sandbox.create("icontact", "messages", json!({"subject": "News"})).unwrap();
        assert_eq!(made["createDate"], "2026-08-01T09:00:04-04:00");
        let scores = async |count: usize| {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..count {
                let list = get(&bed, &format!("{HOME}/messages")).await.json();
                seen.insert(list["messages"][0]["spamCheck"]["rawScore"].to_string());
            }
            seen.len()
        };
        assert_eq!(scores(5).await, 1);
        bed.sandbox.set_faults("icontact", Faults { spam_check_flaps: true, ..Faults::default() }).unwrap();
        assert!(scores(5).await > 1);
        let old = [("api-version", "2.0"), HEADERS[1], HEADERS[2], HEADERS[3]];
        let list = bed.send("GET", &format!("/icontact{HOME}/messages"), &old, "").await.json();
        assert_eq!(list["messages"][0].get("spamCheck"), None);
    }

    #[tokio::test]
    async fn busy_times() {
        let bed = TestBed::new();
        bed.sandbox.set_faults("icontact", Faults { busy_burst: Some(3), ..Faults::default() }).unwrap();
        let mut statuses = Vec::new();
        for _ in 0..50 {
            statuses.push(get(&bed, "/icp/a/").await.status);
        }
        assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 3);
        bed.sandbox.set_faults("icontact", Faults { error_200: Some(1), ..Faults::default() }).unwrap();
        let warned = get(&bed, &format!("{HOME}/messages")).await;
        assert_eq!((warned.status, &warned.json()["messages"]), (200, &json!([])));
        assert!(warned.json()["warnings"][0].is_string());
        bed.sandbox.set_faults("icontact", Faults::default()).unwrap();
        for _ in 0..CALLS_PER_HOUR - 47 {
            bed.sandbox.state().within_window(ICONTACT, "main", CALLS_PER_HOUR, 3_600);
        }
        assert_eq!(get(&bed, "/icp/a/").await.status, 503);
        bed.advance(3_600);
        assert_eq!(get(&bed, "/icp/a/").await.status, 200);
    }
}
