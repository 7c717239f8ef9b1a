//! Trying a polling configuration before it is switched on.

use http::StatusCode;
use serde_json::{Value, json};
use tests::harness::{SystemHarness, seed};

fn texts(list: &Value) -> String {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn a_body_is_tried_and_nothing_is_stored_or_sent() {
    let world = SystemHarness::new("2026-01-05T18:00:00Z").await;
    world.sandbox.create("revel", "Employee", json!({"first_name": "Ada"})).expect("an employee");
    let before = world.store.items().len();
    let (status, report) = world.call("POST", "/instances/rehearse", Some(seed("revel"))).await;
    assert_eq!(status, StatusCode::OK, "{report:#}");
    let employees = &report["resources"][0];
    assert_eq!((&employees["resource"], &employees["records"]), (&json!("employees"), &json!(1)), "{report:#}");
    assert!(employees["samples"][0]["objectId"].is_string(), "{report:#}");
    assert_eq!(employees["problems"], json!([]), "{report:#}");
    let (_, again) = world.call("POST", "/instances?dryRun=true", Some(seed("revel"))).await;
    assert_eq!(again, report, "the same by the other name");
    assert_eq!(world.store.items().len(), before, "nothing is stored");
    assert!(world.queue.is_empty(), "nothing is queued");
}

#[tokio::test]
async fn a_wrong_time_zone_shows_before_it_costs_events() {
    let world = SystemHarness::new("2026-01-05T18:00:00Z").await;
    world.sandbox.create("revel", "Employee", json!({"first_name": "Ada"})).expect("an employee");
    let mut body = seed("revel");
    let dates = &mut body["configuration"]["event.poller.configuration"]["employees"]["datesConfiguration"];
    dates["updatedDateTimezone"] = json!("Pacific/Honolulu");
    let (_, report) = world.call("POST", "/instances/rehearse", Some(body)).await;
    let problems = texts(&report["resources"][0]["problems"]);
    assert!(problems.contains("time zone"), "{report:#}");
}

#[tokio::test]
async fn a_change_of_an_instance_is_tried_with_the_login_it_has() {
    let world = SystemHarness::new("2026-01-05T09:00:07Z").await;
    for _ in 0..5 {
        world.sandbox.create("square", "timecards", json!({})).expect("a timecard");
    }
    let id = world.create(seed("square")).await;
    let change = json!({"configuration": {"event.poller.configuration": {
        "timesheets": {}, "customers": {}
    }}});
    let before = world.stored();
    let (status, report) = world.call("POST", &format!("/instances/{id}/rehearse"), Some(change)).await;
    assert_eq!(status, StatusCode::OK, "{report:#}");
    assert_eq!(report["resources"][1]["resource"], "timesheets");
    assert_eq!(report["resources"][1]["records"], 5, "{report:#}");
    assert_eq!(report["resources"][1]["precision"], "seconds");
    assert_eq!(report["resources"][0]["failure"], Value::Null, "{report:#}");
    assert_eq!(world.stored(), before, "the instance is as it was");
}

#[tokio::test]
async fn what_cannot_be_tried_says_what_can() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let (status, answer) = world.call("POST", "/instances/rehearse", Some(seed("square"))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["message"].as_str().is_some_and(|text| text.contains("/rehearse")), "{answer:#}");
    let mut body = seed("revel");
    body["configuration"]["event.poller.configuration"]["employees"]["url"] = json!("/hubs/x/employes");
    let (status, answer) = world.call("POST", "/instances/rehearse", Some(body)).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer:#}");
}

#[tokio::test]
async fn other_credentials_in_a_change_are_tried_and_not_the_stored_ones() {
    let world = SystemHarness::new("2026-01-05T18:00:00Z").await;
    let id = world.create(seed("revel")).await;
    let path = format!("/instances/{id}/rehearse");
    let before = world.stored();
    let (status, answer) =
        world.call("POST", &path, Some(json!({"configuration": {"oauth.api.secret": "wrong"}}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer:#}");
    assert!(answer["providerMessage"].as_str().is_some_and(|text| text.contains("Invalid API key")), "{answer:#}");
    let (status, answer) =
        world.call("POST", &path, Some(json!({"configuration": {"oauth.api.secret": "another"}}))).await;
    assert_eq!((status, &answer["resources"][0]["failure"]), (StatusCode::OK, &Value::Null), "{answer:#}");
    assert_eq!(world.stored(), before, "the instance is as it was");
}
