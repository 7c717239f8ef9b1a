//! Sandbox Revel: Django lists with field filters, naive local dates, numeric ids and links without a host.

use std::cmp::Ordering;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::collection::{Collection, Deletion, Form, Id, Stamp, contents};
use super::faults::{Fault, Faults};
use super::http::{Call, Reply};
use super::records::page;
use super::state::SandboxState;
use super::{Vendor, VendorBehavior};

const REVEL: Vendor = Vendor::Revel;

pub(super) static BEHAVIOR: VendorBehavior = VendorBehavior {
    key: "revel",
    title: "Revel",
    collections: COLLECTIONS,
    contents: LazyLock::new(|| contents(include_str!("collections.json"))),
    oauth: None,
    complete,
    changed: |_, _, _, _, _| {},
    identify,
    answer,
    refusal,
};

const CREATED: Option<Stamp> = Some(Stamp("created_date", Form::Naive));
const UPDATED: Option<Stamp> = Some(Stamp("updated_date", Form::Naive));

static COLLECTIONS: &[Collection] = &[
    Collection {
        name: "Establishment",
        id: Id::Number("id", 0),
        created: CREATED,
        updated: UPDATED,
        revision: None,
        deletion: Deletion::Flag("active", "false"),
    },
    Collection {
        name: "Employee",
        id: Id::Number("id", 0),
        created: CREATED,
        updated: UPDATED,
        revision: None,
        deletion: Deletion::Flag("active", "false"),
    },
    Collection {
        name: "TimeSheetEntry",
        id: Id::Number("id", 0),
        created: CREATED,
        updated: UPDATED,
        revision: None,
        deletion: Deletion::Gone,
    },
    Collection {
        name: "Customer",
        id: Id::Number("id", 0),
        created: CREATED,
        updated: UPDATED,
        revision: None,
        deletion: Deletion::Flag("active", "false"),
    },
    Collection {
        name: "Order",
        id: Id::Number("id", 0),
        created: CREATED,
        updated: UPDATED,
        revision: None,
        deletion: Deletion::Flag("deleted", "true"),
    },
    Collection {
        name: "Product",
        id: Id::Number("id", 0),
        created: CREATED,
        updated: UPDATED,
        revision: None,
        deletion: Deletion::Flag("active", "false"),
    },
];

/// The part of the site under which a resource lives; under another it is not found.
fn site(collection: &str) -> &'static str {
    if collection == "Establishment" { "enterprise" } else { "resources" }
}

fn refusal(fault: Fault, _: u64, _: &Call) -> Reply {
    match fault {
        Fault::TokenExpired => unauthorized(),
        Fault::RateLimited => Reply::json(429, &json!({"error": "Too many requests"})),
        Fault::ErrorIn200 => {
            Reply::ok(&json!({"error": "Sorry, this request could not be processed. Please try again later."}))
        }
        Fault::ServerError | Fault::Cut => Reply::text(502, "text/html", "<html><h1>502 Bad Gateway</h1></html>"),
    }
}

fn unauthorized() -> Reply {
    Reply::json(401, &json!({"error": "Invalid API key or secret"}))
}

fn complete(kind: &str, value: &mut Map<String, Value>, _: DateTime<Utc>, _: u64, _: &Faults) {
    let uri = format!("/{}/{kind}/{}/", site(kind), value.get("id").cloned().unwrap_or_default());
    value.insert("resource_uri".into(), json!(uri));
    if kind == "TimeSheetEntry" {
        let clock_in = value.get("created_date").cloned().unwrap_or_default();
        value.entry("clock_in").or_insert(clock_in);
    }
}

fn identify(_: &mut SandboxState, call: &Call) -> Result<String, Reply> {
    let (key, secret) = match (call.header("api-authentication"), call.query("api_key"), call.query("api_secret")) {
        (Some(header), _, _) => header.split_once(':').unwrap_or_default(),
        (None, Some(key), Some(secret)) => (key, secret),
        _ => return Err(unauthorized()),
    };
    let good = |text: &str| !text.is_empty() && text != "wrong";
    if good(key) && good(secret) { Ok(key.to_owned()) } else { Err(unauthorized()) }
}

fn answer(state: &mut SandboxState, account: &str, call: &Call) -> Reply {
    if call.method != "GET" {
        return Reply::text(405, "text/plain", "");
    }
    let Some(path) = call.path.strip_suffix('/') else {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&call.query).finish();
        let mark = if query.is_empty() { "" } else { "?" };
        return Reply::text(301, "text/html", "").with("location", format!("{}/{mark}{query}", call.path));
    };
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let known =
        parts.get(1).and_then(|name| COLLECTIONS.iter().find(|kind| kind.name == *name && parts[0] == site(name)));
    match (known, parts.len()) {
        (Some(kind), 2) => list(state, account, kind, call),
        (Some(kind), 3) => match state.value(REVEL, account, kind.name, parts[2]) {
            Some(value) => Reply::ok(value),
            None => Reply::text(404, "text/html", ""),
        },
        _ => Reply::text(404, "text/html", "<h1>Not Found</h1>"),
    }
}

/// Parameters that are no filters.
const RESERVED: [&str; 8] = ["limit", "offset", "order_by", "fields", "format", "api_key", "api_secret", "username"];

fn bad(text: String) -> Reply {
    Reply::json(400, &json!({"error": text}))
}

fn list(state: &SandboxState, account: &str, kind: &'static Collection, call: &Call) -> Reply {
    let faults = state.faults(REVEL, account);
    let mut rows = state.listed(REVEL, account, kind.name);
    if faults.odd_dates {
        for row in rows.iter_mut().skip(4).step_by(5) {
            row["created_date"] = json!("0001-01-01T00:00:00");
        }
    }
    if let (Some(zone), "Establishment") = (&faults.zone, kind.name) {
        rows.iter_mut().for_each(|row| row["time_zone"] = json!(zone));
    }
    let mut fields: Vec<String> = REVEL.contents(kind).defaults.keys().cloned().collect();
    fields.extend(["id", "created_date", "updated_date", "resource_uri", "clock_in"].map(str::to_owned));
    fields.extend(rows.iter().filter_map(Value::as_object).flat_map(Map::keys).cloned());

    for (name, wanted) in call.query.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str())) {
        let (field, operator) = name.split_once("__").unwrap_or((name, "exact"));
        if !fields.iter().any(|known| known == field) {
            return bad(format!("The '{field}' field does not allow filtering."));
        }
        let Some(test) = Test::read(operator, wanted, field.ends_with("_date") || field.starts_with("clock_")) else {
            return bad(format!("Invalid resource lookup data provided (mismatched type): {name}"));
        };
        rows.retain(|row| test.passes(&row[field]));
    }
    let order = call.query("order_by").unwrap_or("id");
    let (column, descending) = order.strip_prefix('-').map_or((order, false), |column| (column, true));
    if !fields.iter().any(|known| known == column) {
        return bad(format!("No matching '{column}' field for ordering on."));
    }
    rows.sort_by(|a, b| if descending { compare(&b[column], &a[column]) } else { compare(&a[column], &b[column]) });

    let number = |name: &str, usual: usize| call.query(name).map_or(Ok(usual), str::parse::<usize>);
    let (Ok(limit), Ok(offset)) = (number("limit", 20), number("offset", 0)) else {
        return bad("Invalid limit or offset provided. Please provide a positive integer.".to_owned());
    };
    let everything = if limit == 0 { usize::MAX } else { limit };
    let page = page(rows, offset, everything, &faults);
    let link = |offset: usize| {
        let mut text = url::form_urlencoded::Serializer::new(String::new());
        text.append_pair("limit", &limit.to_string()).append_pair("offset", &offset.to_string());
        text.extend_pairs(call.query.iter().filter(|(name, _)| name != "limit" && name != "offset"));
        format!("{}?{}", call.path, text.finish())
    };
    let mut meta = json!({
        "limit": limit, "offset": offset, "total_count": page.total, "next": page.next.map(link),
        "previous": (offset >= limit && offset > 0).then(|| link(offset - limit)),
    });
    let scoped = call.query.iter().any(|(name, _)| name.starts_with("establishment"));
    if scoped || state.records(REVEL, account, "Establishment").len() == 1 {
        meta["time_zone"] = json!(faults.zone(Tz::America__Los_Angeles).name());
    }
    let mut rows = page.rows;
    if let Some(wanted) = call.query("fields") {
        let wanted: Vec<&str> = wanted.split(',').collect();
        for row in rows.iter_mut().filter_map(Value::as_object_mut) {
            row.retain(|name, _| wanted.contains(&name.as_str()));
        }
    }
    Reply::ok(&json!({"meta": meta, "objects": rows}))
}

fn moment(text: &str) -> Option<NaiveDateTime> {
    let text = text.replace(' ', "T");
    let midnight = || Some(NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok()?.and_time(chrono::NaiveTime::MIN));
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%dT%H:%M:%S%.f").ok().or_else(midnight)
}

/// Nothing comes first; dates are compared as dates whatever their fractions look like.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal),
        (Value::String(a), Value::String(b)) => match (moment(a), moment(b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.cmp(b),
        },
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (a, b) => (!a.is_null()).cmp(&!b.is_null()),
    }
}

/// One filter of the query.
struct Test<'a> {
    operator: &'a str,
    /// The right-hand sides: one, or several for `in` and `range`.
    wanted: Vec<&'a str>,
}

impl<'a> Test<'a> {
    fn read(operator: &'a str, text: &'a str, is_date: bool) -> Option<Self> {
        let wanted: Vec<&str> = if matches!(operator, "in" | "range") { text.split(',').collect() } else { vec![text] };
        let known = [
            "exact",
            "iexact",
            "contains",
            "icontains",
            "in",
            "startswith",
            "range",
            "isnull",
            "gte",
            "lte",
            "gt",
            "lt",
        ];
        let ordered = matches!(operator, "gte" | "lte" | "gt" | "lt" | "range" | "exact");
        let readable = !(is_date && ordered) || wanted.iter().all(|text| moment(text).is_some());
        let whole = operator != "range" || wanted.len() == 2;
        (known.contains(&operator) && readable && whole).then_some(Self { operator, wanted })
    }

    fn passes(&self, value: &Value) -> bool {
        let first = self.wanted[0];
        if self.operator == "isnull" {
            return value.is_null() == first.eq_ignore_ascii_case("true");
        }
        if value.is_null() {
            return false;
        }
        // A reference to another record can be asked for by its number.
        let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text = match plain.strip_suffix('/').and_then(|path| path.rsplit('/').next()) {
            Some(id) if first.bytes().all(|byte| byte.is_ascii_digit()) => id,
            _ => plain.as_str(),
        };
        let against = |wanted: &str| match value {
            Value::Number(number) => number.as_f64().partial_cmp(&wanted.parse::<f64>().ok()),
            Value::Bool(flag) => Some(flag.to_string().cmp(&wanted.to_lowercase())),
            _ => Some(compare(&json!(text), &json!(wanted))),
        };
        match self.operator {
            "exact" => against(first) == Some(Ordering::Equal),
            "iexact" => text.eq_ignore_ascii_case(first),
            "contains" => text.contains(first),
            "icontains" => text.to_lowercase().contains(&first.to_lowercase()),
            "startswith" => text.starts_with(first),
            "in" => self.wanted.iter().any(|wanted| against(wanted) == Some(Ordering::Equal)),
            "range" => {
                against(first).is_some_and(Ordering::is_ge) && against(self.wanted[1]).is_some_and(Ordering::is_le)
            }
            "gte" => against(first).is_some_and(Ordering::is_ge),
            "lte" => against(first).is_some_and(Ordering::is_le),
            "gt" => against(first).is_some_and(Ordering::is_gt),
            _ => against(first).is_some_and(Ordering::is_lt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Answer, TestBed};
    use super::*;

    const KEY: [(&str, &str); 1] = [("API-AUTHENTICATION", "main:s3cret")];

    async fn get(bed: &TestBed, path: &str) -> Answer {
        bed.send("GET", &format!("/revel{path}"), &KEY, "").await
    }

    async fn found(bed: &TestBed, query: &str) -> Vec<u64> {
        let answer = get(bed, &format!("/resources/Employee/?{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        answer.json()["objects"].as_array().unwrap().iter().map(|row| row["id"].as_u64().unwrap()).collect()
    }

    #[tokio::test]
    async fn dates_are_local_and_of_mixed_length() {
        let bed = TestBed::new();
        let stamps: Vec<String> = (0..3)
            .map(|_| bed.sandbox.create("revel", "Employee", json!({})).unwrap())
            .map(|row| row["updated_date"].as_str().unwrap().to_owned())
            .collect();
        let fractions = stamps.iter().filter(|stamp| *stamp == "2026-08-01T06:00:04.335000").count();
        let whole = stamps.iter().filter(|stamp| *stamp == "2026-08-01T06:00:04").count();
        assert_eq!((fractions, whole), (2, 1), "{stamps:?}");
        let faults = Faults { zone: Some("America/New_York".into()), ..Faults::default() };
        bed.sandbox.set_faults("revel", faults).unwrap();
        let eastern = bed.sandbox.create("revel", "Employee", json!({})).unwrap();
        assert!(eastern["created_date"].as_str().unwrap().starts_with("2026-08-01T09:00:04"));
        assert_eq!(get(&bed, "/resources/Employee/").await.json()["meta"]["time_zone"], "America/New_York");
        let stores = get(&bed, "/enterprise/Establishment/").await.json();
        assert_eq!(stores["objects"][0]["time_zone"], "America/New_York");
    }

    #[tokio::test]
    async fn a_list_has_a_page_and_a_link_without_host() {
        let bed = TestBed::new();
        for id in 1..=3 {
            bed.sandbox.create("revel", "TimeSheetEntry", json!({"id": id})).unwrap();
        }
        let path = "/resources/TimeSheetEntry/?updated_date__gte=2026-08-01T00:00:00&order_by=-id&limit=2&format=json";
        let first = get(&bed, path).await.json();
        let next = first["meta"]["next"].as_str().unwrap();
        assert!(next.starts_with("/resources/TimeSheetEntry/?limit=2&offset=2&"), "{next}");
        assert!(next.contains("updated_date__gte="), "{next}");
        assert_eq!(
            (&first["meta"]["previous"], &first["meta"]["total_count"], &first["objects"][0]["id"]),
            (&Value::Null, &json!(3), &json!(3))
        );
        assert_eq!(first["objects"][0]["resource_uri"], "/resources/TimeSheetEntry/3/");
        let last = get(&bed, next).await.json();
        assert_eq!((&last["meta"]["next"], last["objects"].as_array().unwrap().len()), (&Value::Null, 1));
        let all = get(&bed, "/resources/TimeSheetEntry/?limit=0&fields=id").await.json();
        assert_eq!(all["objects"], json!([{"id": 1}, {"id": 2}, {"id": 3}]));
        // An edited row moves to the end of an ascending scan and pulls the next page up by one.
        bed.advance(60);
        let scan = |limit: usize, offset: usize| {
            format!("/resources/TimeSheetEntry/?order_by=updated_date&limit={limit}&offset={offset}")
        };
        let before = get(&bed, &scan(3, 0)).await.json()["objects"].clone();
        let first = before[0]["id"].to_string();
        bed.sandbox.update("revel", "TimeSheetEntry", &first, json!({"stage": 1})).unwrap();
        let second_page = get(&bed, &scan(1, 1)).await.json();
        assert_eq!(second_page["objects"][0]["id"], before[2]["id"], "the second row was never shown");
    }

    #[tokio::test]
    async fn filters_compare_as_django_does() {
        let bed = TestBed::new();
        for (id, name, updated) in [
            (1, "Ada", "2026-08-01T06:00:00"),
            (2, "Bo", "2026-08-01T06:00:00.5"),
            (3, "ada", "2026-08-02T06:00:00.000001"),
        ] {
            let fields = json!({"id": id, "first_name": name, "updated_date": updated, "email": if id == 2 { Value::Null } else { json!("x") }});
            bed.sandbox.create("revel", "Employee", fields).unwrap();
        }
        bed.sandbox.edit_silently("revel", "Employee", "3", json!({"active": false})).unwrap();
        for (query, wanted) in [
            ("updated_date__gte=2026-08-01T06:00:00.500", &[2, 3][..]),
            ("updated_date__gt=2026-08-01T06:00:00.5&id__lt=3", &[]),
            ("updated_date__lte=2026-08-01T06:00:00", &[1]),
            ("updated_date__range=2026-08-01,2026-08-01T07:00:00", &[1, 2]),
            ("first_name__iexact=ADA", &[1, 3]),
            ("first_name__startswith=A", &[1]),
            ("first_name__contains=o", &[2]),
            ("id__in=1,3", &[1, 3]),
            ("email__isnull=true", &[2]),
            ("active=true", &[1, 2]),
            ("user=88&id=1", &[1]),
            ("order_by=-updated_date&limit=1", &[3]),
        ] {
            assert_eq!(found(&bed, query).await, wanted, "{query}");
        }
        for query in ["colour=1", "id__near=1", "updated_date__gte=yesterday", "order_by=colour", "limit=-1"] {
            assert_eq!(get(&bed, &format!("/resources/Employee/?{query}")).await.status, 400, "{query}");
        }
    }

    #[tokio::test]
    async fn doors_and_dead_ends() {
        let bed = TestBed::new();
        let slash = get(&bed, "/resources/Employee?limit=5").await;
        assert_eq!((slash.status, slash.headers["location"].to_str().unwrap()), (301, "/resources/Employee/?limit=5"));
        for (path, status) in [
            ("/enterprise/Employee/", 404),
            ("/resources/TimeSheet/", 404),
            ("/resources/Employee/1/", 404),
            ("/enterprise/Establishment/3/", 200),
        ] {
            assert_eq!(get(&bed, path).await.status, status, "{path}");
        }
        let list = "/revel/resources/Employee/";
        for (headers, query, status) in [
            (&[][..], "", 401),
            (&[("API-AUTHENTICATION", "key:wrong")][..], "", 401),
            (&[("API-AUTHENTICATION", "key")][..], "", 401),
            (&[][..], "?api_key=k&api_secret=s", 200),
        ] {
            assert_eq!(
                bed.send("GET", &format!("{list}{query}"), headers, "").await.status,
                status,
                "{headers:?} {query}"
            );
        }
        bed.sandbox.set_faults("revel", Faults { odd_dates: true, ..Faults::default() }).unwrap();
        for _ in 0..5 {
            bed.sandbox.create("revel", "Employee", json!({})).unwrap();
        }
        let odd = get(&bed, "/resources/Employee/?created_date__lt=0002-01-01T00:00:00").await.json();
        assert_eq!(
            (&odd["meta"]["total_count"], &odd["objects"][0]["created_date"]),
            (&json!(1), &json!("0001-01-01T00:00:00"))
        );
    }
}
