//! Calls that read events, deliveries, the vendor's records and elements.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::ApiHarness;

// ---------------------------------------------------------------- Events

#[tokio::test]
async fn a_change_becomes_an_event_that_can_be_read_and_sent_again() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    world.ports.ambient.advance(Duration::from_secs(600));
    let stamp = "2026-01-05T09:08:00Z";
    let card = json!({"id": "TC1", "created_at": stamp, "updated_at": stamp, "version": 1});
    world.cards.lock().expect("nobody panicked").push(card);
    let report = world.call("POST", &format!("/instances/{id}/poll?resource=timesheets"), "").await;
    assert_eq!((report.status.as_u16(), &report.body["created"]), (200, &json!(1)), "{}", report.body);

    let events = world.call("GET", &format!("/instances/{id}/events"), "").await;
    let event = &events.body[0];
    assert_eq!((&event["status"], &event["eventDate"]), (&json!("RECEIVED"), &json!("2026-01-05T09:10:00Z")));
    let notification: Value = serde_json::from_str(event["providerData"].as_str().expect("a text")).expect("JSON");
    assert_eq!(notification["message"]["events"][0]["objectId"], "TC1");
    assert_eq!(notification["message"]["events"][0]["eventType"], "CREATED");
    let event_id = event["id"].as_str().expect("an id");
    let same = world.call("GET", &format!("/instances/{id}/events/{event_id}"), "").await;
    assert_eq!(same.body, *event);
    assert_eq!(world.call("GET", "/instances/events", "").await.body, events.body);
    assert_eq!(world.call("GET", &format!("/instances/{id}/events/none"), "").await.status, 404);

    let deliveries = world.call("GET", &format!("/instances/{id}/deliveries?status=created,retry"), "").await;
    assert_eq!(deliveries.body[0]["id"], event_id);
    assert_eq!(deliveries.body[0]["callbackUrl"], "http://mycoolapp.com");
    assert_eq!(world.call("GET", &format!("/instances/{id}/deliveries?status=lost"), "").await.status, 400);
    let one = world.call("GET", &format!("/instances/{id}/deliveries/{event_id}"), "").await;
    assert_eq!(one.body["notification"], event["providerData"]);
    let again = world.call("PUT", &format!("/instances/{id}/deliveries/{event_id}"), "").await;
    assert_eq!((again.status.as_u16(), &again.body["redelivered"]), (200, &json!(1)));
    let callback = world.call("GET", &format!("/instances/{id}/callback"), "").await;
    assert_eq!(callback.body["status"], "ok", "{}", callback.body);

    let where_url =
        "channel%3D%27webhook%27%20and%20status%3D%27created%27%20and%20config.url%3D%27http%3A%2F%2Fmycoolapp.com%27";
    let found = world.call("GET", &format!("/notifications/subscriptions/deliveries?where={where_url}"), "").await;
    assert_eq!((found.status.as_u16(), &found.body[0]["id"]), (200, &json!(event_id)), "{}", found.body);
    let none = world.call("GET", "/notifications/subscriptions/deliveries?where=status%3D%27queued%27", "").await;
    assert_eq!(none.body, json!([]));
    let bad = world.call("GET", "/notifications/subscriptions/deliveries?where=size%3E3", "").await;
    assert_eq!(bad.status, 400, "{}", bad.body);
    let subscriptions = world.call("GET", "/notifications/subscriptions", "").await;
    assert_eq!(subscriptions.body[0]["topics"][0], format!("instance-{id}-square-events"));

    let test = world.call("POST", &format!("/instances/{id}/deliveries/test"), "").await;
    assert!(test.body["delivery"].is_string(), "{}", test.body);
}

// ---------------------------------------------------------------- Hubs

#[tokio::test]
async fn a_hub_call_reads_what_the_vendor_has_through_the_instance() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let shown = world.call("GET", &format!("/instances/{id}"), "").await;
    let secrets = format!("{}, Element {}", world.secrets(), shown.body["token"].as_str().expect("a token"));
    let stamp = "2026-01-05T09:08:00Z";
    let card = json!({"id": "TC1", "created_at": stamp, "updated_at": stamp, "note": null, "version": 1});
    world.cards.lock().expect("nobody panicked").push(card);
    for hub in ["employee", "crap"] {
        let found = world.call_as(&secrets, "GET", &format!("/hubs/{hub}/timesheets"), "").await;
        let bare = json!([{"id": "TC1", "created_at": stamp, "updated_at": stamp, "version": 1}]);
        assert_eq!((found.status.as_u16(), &found.body), (200, &bare));
        assert_eq!(found.headers["elements-element-instance-id"], id.to_string());
        assert_eq!(found.headers["elements-returned-count"], "1");
    }
    // The hub may be left out; without an instance there is nothing then.
    let bare = world.call_as(&secrets, "GET", "/timesheets?fields=id", "").await;
    assert_eq!((bare.status.as_u16(), &bare.body), (200, &json!([{"id": "TC1"}])));
    assert_eq!(world.call_as(&secrets, "GET", "/timesheets/TC1", "").await.body["id"], "TC1");
    assert_eq!(world.call_as(&secrets, "GET", "/timesheet", "").await.status, 404);
    assert_eq!(world.call_as(&secrets, "POST", "/timesheets", "{}").await.status, 404);
    assert_eq!(world.call("GET", "/timesheets", "").await.status, 404);
    assert_eq!(world.call_as("", "GET", "/timesheets", "").await.status, 401);
    let fields = world.call_as(&secrets, "GET", "/hubs/employee/timesheets?fields=id", "").await;
    assert_eq!(fields.body, json!([{"id": "TC1"}]));
    let one = world.call_as(&secrets, "GET", "/hubs/employee/timesheets/TC1", "").await;
    assert_eq!((one.status.as_u16(), &one.body), (200, &json!({"id": "TC1"})));
    for (path, status) in [
        ("/hubs/employee/timesheets/TC2", 404),
        ("/hubs/employee/nonsense", 404),
        ("/hubs/employee/timesheets?where=id%20%3D", 400),
        ("/hubs/employee/timesheets?where=colour%3D%27red%27", 400),
        ("/hubs/employee/timesheets?orderBy=id", 400),
        ("/hubs/employee/timesheets?nextPage=bm9uZQ", 400),
    ] {
        let answer = world.call_as(&secrets, "GET", path, "").await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.body);
    }
    assert_eq!(world.call("GET", "/hubs/employee/timesheets", "").await.status, 400);
    let ping = world.call_as(&secrets, "GET", "/ping", "").await;
    assert_eq!((&ping.body["endpoint"], &ping.body["valid"]), (&json!("square"), &json!(true)));
    world.call("DELETE", &format!("/instances/{id}/enabled"), "").await;
    assert_eq!(world.call_as(&secrets, "GET", "/hubs/employee/timesheets", "").await.status, 403);
    assert_eq!(world.call_as(&secrets, "GET", "/objects", "").await.status, 200);
}

// ---------------------------------------------------------------- Elements

#[tokio::test]
async fn elements_say_what_they_need_and_where_to_log_in() {
    let world = ApiHarness::new().await;
    let anonymous =
        |path: &str| Request::get(format!("/elements/api-v2{path}")).body(Body::empty()).expect("a request");
    let all = world.send(anonymous("/elements")).await;
    assert_eq!(all.status, 200);
    let keys: Vec<&str> =
        all.body.as_array().expect("a list").iter().filter_map(|element| element["key"].as_str()).collect();
    assert!(keys.contains(&"square"), "{keys:?}");
    assert_eq!(world.send(anonymous("/elements/square")).await.body["id"], 8374);
    assert_eq!(world.send(anonymous("/elements/8374")).await.body["key"], "square");
    let absent = world.send(anonymous("/elements/sqare")).await;
    assert_eq!(absent.status, 404);
    assert!(absent.body["message"].as_str().is_some_and(|text| text.contains("\"square\"")), "{}", absent.body);
    let configuration = world.send(anonymous("/elements/square/configuration")).await;
    assert!(configuration.body.as_array().expect("a list").iter().any(|p| p["key"] == "oauth.api.key"));
    let metadata = world.send(anonymous("/elements/square/metadata")).await;
    assert!(metadata.body["events"]["polling"]["timesheets"]["eventTypes"].is_array(), "{}", metadata.body);

    let path =
        "/elements/square/oauth/url?apiKey=app&apiSecret=s&callbackUrl=https%3A%2F%2Fa.example%2Fback&state=mine";
    let login = world.call("GET", path, "").await;
    let url: url::Url = login.body["oauthUrl"].as_str().expect("a URL").parse().expect("a URL");
    let query: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!((query["client_id"].as_str(), query["state"].as_str()), ("app", "mine"));
    assert_eq!(login.body["element"], "square");
    let same = world
        .call(
            "POST",
            "/elements/square/oauth/url",
            json!({"apiKey": "app", "callbackUrl": "https://a.example/back", "state": "mine"}).to_string(),
        )
        .await;
    assert_eq!(same.body["oauthUrl"], login.body["oauthUrl"]);
    assert_eq!(world.call("GET", "/elements/square/oauth/url", "").await.status, 400);
}
