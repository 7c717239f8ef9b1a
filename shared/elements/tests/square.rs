//! The embedded element of the first seed document, end to end without a network: configuration in, requests and
//! records out.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::ResourceConfiguration;
use domain::poll_url::PollUrl;
use elements::call::CallContext;
use elements::listing::{Cursor, Listing, ScanMode};
use elements::{Bases, Catalog, Connection, Fault, Plan};
use http::Response;
use serde_json::{Value, json};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

fn answer(status: u16, body: &Value) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from(body.to_string())).expect("an answer")
}

#[test]
fn time_cards_are_read_from_the_newest_back_to_what_is_covered() {
    let catalog = Catalog::embedded();
    let element = catalog.get("square").expect("an element");
    assert_eq!(catalog.get("8374").expect("by its number").key, "square");
    let configuration = json!({"oauth.api.key": "id", "oauth.api.secret": "s"});
    let configuration = configuration.as_object().expect("an object");
    let (connection, _) = Connection::resolve(element, configuration, &serde_json::Map::new()).expect("a connection");
    let url = "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'";
    let entry = ResourceConfiguration { url: Some(PollUrl::parse(url).expect("a URL").0), ..Default::default() };
    let (plan, warnings) = Plan::resolve(element, "timesheets", &entry, configuration).expect("a plan");
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(plan.overlap(), TimeDelta::minutes(2));

    let bases = Bases::default();
    let caller = CallContext { element, connection: &connection, bases: &bases, tokens: None };
    let cursor = Cursor::Watermark(at("2026-08-01T10:02:00Z"));
    let lower = Some(at("2026-08-01T10:00:00Z"));
    let mut listing = Listing::start(&plan, ScanMode::Changes, &cursor, lower, "", at("2026-08-01T12:00:00Z"));
    let request = listing.request(&plan, &caller).expect("a request");
    assert_eq!(request.uri(), "https://connect.squareup.com/v2/labor/timecards/search");
    assert_eq!(request.headers()["square-version"], "2025-08-20");
    assert_eq!(
        serde_json::from_slice::<Value>(request.body()).expect("JSON"),
        json!({"query":{"sort":{"field":"UPDATED_AT","order":"DESC"}},"limit":200})
    );
    let page = answer(
        200,
        &json!({"timecards":[
        {"id":"T2","version":2,"created_at":"2026-07-01T00:00:00Z","updated_at":"2026-08-01T11:00:00Z"},
        {"id":"T1","version":1,"created_at":"2026-08-01T10:30:00Z","updated_at":"2026-08-01T10:30:00Z"}],"cursor":"c1"}),
    );
    let first = listing.read(&plan, &caller, &page).expect("a page");
    assert!(!first.done);
    assert_eq!(first.records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["T2", "T1"]);
    let raw = first.records[1].raw.as_ptr() as usize;
    let whole = page.body().as_ptr() as usize;
    assert!((whole..whole + page.body().len()).contains(&raw), "the record is a slice of the page");
    assert_eq!(listing.finish(&plan).cursor, cursor, "the cursor waits for the last page");

    let mut listing = Listing::resume(&listing.save()).expect("what was saved");
    let request = listing.request(&plan, &caller).expect("a request");
    assert_eq!(serde_json::from_slice::<Value>(request.body()).expect("JSON")["cursor"], "c1");
    let expired = answer(400, &json!({"errors":[{"code":"INVALID_CURSOR","detail":"gone"}]}));
    assert!(matches!(listing.read(&plan, &caller, &expired), Err(Fault::RestartScan { .. })));
    let request = listing.request(&plan, &caller).expect("a request");
    assert_eq!(serde_json::from_slice::<Value>(request.body()).expect("JSON").get("cursor"), None);
    listing.read(&plan, &caller, &page).expect("the first page again");
    let last = answer(
        200,
        &json!({"timecards":[
        {"id":"T0","version":1,"created_at":"2026-08-01T09:00:00Z","updated_at":"2026-08-01T09:59:59Z"}],"cursor":"c2"}),
    );
    let second = listing.read(&plan, &caller, &last).expect("a page");
    assert!(second.done && second.records.is_empty(), "what is older is neither read on nor given out");
    let finished = listing.finish(&plan);
    assert_eq!(finished.cursor, Cursor::Watermark(at("2026-08-01T11:00:00Z")));
    assert!(!finished.complete);
}

#[test]
fn all_missing_values_are_reported_at_once() {
    let catalog = Catalog::embedded();
    let element = catalog.get("square").expect("an element");
    let nothing = serde_json::Map::new();
    let problems = Connection::resolve(element, &nothing, &nothing).expect_err("nothing was given");
    let fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["configuration.\"oauth.api.key\"", "configuration.\"oauth.api.secret\""]);
}
