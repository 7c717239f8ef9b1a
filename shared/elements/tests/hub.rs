//! Hub calls of users: lists with conditions and pages, and single records.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use elements::call::CallContext;
use elements::hub::{HubList, HubPlan, HubProblem, plan_hub_get};
use elements::{Bases, Catalog, Connection};
use http::Response;
use serde_json::{Map, Value, json};

fn now() -> DateTime<Utc> {
    "2026-08-13T12:00:00Z".parse().expect("a date")
}

fn answer(status: u16, body: &Value) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from(body.to_string())).expect("an answer")
}

fn pairs(query: &[(&str, &str)]) -> Vec<(String, String)> {
    query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn list(key: &str, path: &str, query: &[(&str, &str)]) -> HubList {
    let catalog = Catalog::embedded();
    match plan_hub_get(catalog.get(key).expect("an element"), path, &pairs(query)) {
        Ok(HubPlan::List(list)) => list,
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn a_list_is_read_page_by_page_and_field_by_field() {
    let catalog = Catalog::embedded();
    let element = catalog.get("icontact").expect("an element");
    let account =
        json!({"api.version": "2.2", "AppID": "a", "api.username": "u", "api.password": "p", "account.id": "1"});
    let (connection, _) =
        Connection::resolve(element, account.as_object().expect("an object"), &Map::new()).expect("it");
    let bases = Bases::default();
    let caller = CallContext { element, connection: &connection, bases: &bases, tokens: None };
    let partitions = ["2".to_owned(), "3".to_owned()];
    let page = |list: &HubList, body: Value| {
        let mut listing = list.begin(&partitions, now()).expect("a listing");
        let uri = list.request(&listing, &caller).expect("a request").uri().to_string();
        (uri, list.read(&mut listing, &caller, &partitions, &answer(200, &body)).expect("a page"))
    };
    let query = [("where", "status='normal'"), ("fields", "contactId,email"), ("pageSize", "6")];
    let rows = |ids: std::ops::Range<u32>| -> Vec<Value> {
        ids.map(|id| json!({"contactId": id.to_string(), "email": "x", "phone": "1"})).collect()
    };
    let (uri, first) = page(&list("icontact", "contacts", &query), json!({"contacts": rows(0..6), "total": 7}));
    assert!(uri.contains("/c/2/contacts?") && uri.contains("limit=6") && uri.contains("status=normal"), "{uri}");
    assert!(!uri.contains("status=total"), "the user's condition stands in place of the usual one: {uri}");
    assert_eq!(first.records[0], json!({"contactId": "0", "email": "x"}));
    assert_eq!(first.total, Some(7));

    let token = first.next_page.expect("a next page");
    let again = [query[0], query[1], query[2], ("nextPage", token.as_str())];
    let (uri, second) = page(&list("icontact", "contacts", &again), json!({"contacts": rows(1..7), "total": 7}));
    assert!(uri.contains("offset=1"), "{uri}");
    let token = second.next_page.expect("the next folder");
    let (uri, last) = page(&list("icontact", "contacts", &[("nextPage", &token)]), json!({"contacts": [], "total": 0}));
    assert!(uri.contains("/c/3/contacts?"), "{uri}");
    assert_eq!(last.next_page, None);
    let outside = list("icontact", "contacts", &[("nextPage", &token)]).begin(&["9".to_owned()], now());
    assert!(outside.is_err(), "a token leads to no other folder");
    let forged = URL_SAFE_NO_PAD.encode(r#"{"partition":"2","at":"{\"url\":\"/icp/a/1/c/2/lists\"}"}"#);
    let list = list("icontact", "contacts", &[("nextPage", &forged)]);
    let listing = list.begin(&partitions, now()).expect("a listing");
    assert!(list.request(&listing, &caller).is_err(), "a token leads to no other list");
}

#[test]
fn conditions_become_the_vendors_own() {
    let catalog = Catalog::embedded();
    let element = catalog.get("revel").expect("an element");
    let account = json!({"oauth.api.key": "k", "oauth.api.secret": "s", "subdomain": "x"});
    let (connection, _) =
        Connection::resolve(element, account.as_object().expect("an object"), &Map::new()).expect("it");
    let bases = Bases::default();
    let caller = CallContext { element, connection: &connection, bases: &bases, tokens: None };
    let list = list("revel", "employees", &[("where", "updated_date__gte='2026-08-01T16:00:00Z' AND active='true'")]);
    let listing = list.begin(&[String::new()], now()).expect("a listing");
    let uri = list.request(&listing, &caller).expect("a request").uri().to_string();
    assert!(uri.contains("updated_date__gte=2026-08-01T09%3A00%3A00.000000") && uri.contains("active=true"), "{uri}");

    let Ok(HubPlan::One(one)) = plan_hub_get(element, "/employees/44%2010/", &[]) else { panic!("no record") };
    assert_eq!(one.request(&caller, "").expect("a request").uri().path(), "/resources/Employee/44%252010/");
    let found = one.read(&caller, "", &answer(200, &json!({"id": 4410, "pin": "1"}))).expect("a record");
    assert_eq!(found, Some(json!({"id": 4410, "pin": "********"})));
    assert_eq!(one.read(&caller, "", &answer(404, &json!({}))).expect("an answer"), None);
}

#[test]
fn a_query_that_the_vendor_lacks_is_refused_in_words() {
    let catalog = Catalog::embedded();
    let element = catalog.get("square").expect("an element");
    let refusal = |path: &str, query: &[(&str, &str)]| {
        plan_hub_get(element, path, &pairs(query)).map(|_| ()).expect_err("a problem").to_string()
    };
    assert!(matches!(plan_hub_get(element, "timesheet", &[]), Err(HubProblem::NoSuchResource(_))));
    assert!(refusal("timesheet", &[]).contains("the nearest is timesheets"));
    assert!(refusal("timesheets", &[("where", "colour='red'")]).contains("begin_updated_at with = > >="));
    assert!(refusal("timesheets", &[("where", "a = = b")]).contains("CEQL"));
    assert!(refusal("timesheets", &[("pageSize", "0")]).contains("from 1"));
    assert!(refusal("timesheets", &[("nextPage", "!")]).contains("elements-next-page-token"));
    assert!(refusal("timesheets", &[("orderBy", "id asc")]).contains("updated_at desc"));
}
