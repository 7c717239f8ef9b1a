//! The calls of a form before anything is saved: the check of a body, a test event, the URL of a login.

use std::time::Duration;

use domain::secret::Secret;
use http::{StatusCode, header};
use local::inbox::{Behaviour, Verified};
use local::sandbox::Expire;
use serde_json::{Value, json};
use tests::harness::{SIGNATURE_KEY, SystemHarness, seed};

const CALLBACK: &str = "event.notification.callback.url";

fn fields(review: &Value) -> Vec<&str> {
    let problems = review["problems"].as_array().into_iter().flatten();
    let mut fields: Vec<&str> = problems.filter_map(|one| one["field"].as_str()).collect();
    fields.sort_unstable();
    fields
}

#[tokio::test]
async fn a_body_is_reviewed_as_far_as_it_is_written() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let review = async |path: &str, body: Value| {
        let (status, answer) = world.call("POST", path, Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer
    };
    let before = world.stored();
    let mut body = seed("square");
    body.as_object_mut().expect("an object").remove("providerData");
    let in_order = review("/instances/check", body.clone()).await;
    assert_eq!(fields(&in_order), [""; 0], "a login that is still to come is not missed: {in_order:#}");

    // What is wrong with one part does not hide what is wrong with another.
    body["name"] = json!(7);
    body["configuration"][CALLBACK] = json!("ftp://nowhere");
    body["configuration"]["event.poller.configuration"]["timesheets"]["datesConfiguration"]["updatedDateFormat"] =
        json!("qq");
    let wrong = review("/instances/check", body).await;
    assert_eq!(
        fields(&wrong),
        [
            r#"configuration."event.notification.callback.url""#,
            r#"configuration."event.poller.configuration".timesheets.datesConfiguration.updatedDateFormat"#,
            "name",
        ],
        "{wrong:#}"
    );
    assert_eq!(fields(&review("/instances/check", json!({})).await)[0], "element");

    let id = world.create(seed("square")).await;
    let path = format!("/instances/{id}/check");
    let change =
        json!({ "configuration": { "event.poller.configuration": { "customers": {}, "orders": { "url": 5 } } } });
    let wrong = review(&path, change).await;
    assert_eq!(fields(&wrong), [r#"configuration."event.poller.configuration".orders.url"#], "{wrong:#}");
    // A mask stands for what is stored, as in a change.
    let same = json!({ "configuration": { "oauth.api.secret": "********" } });
    assert_eq!(fields(&review(&path, same).await), [""; 0]);
    assert_eq!(world.call("POST", "/instances/1/check", Some(json!({}))).await.0, StatusCode::NOT_FOUND);
    assert_eq!(before.keys().filter(|key| !world.stored().contains_key(*key)).count(), 0);
}

#[tokio::test]
async fn a_test_event_reaches_an_unsaved_callback_and_is_rate_limited() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let behave = |status| {
        let signature_key = Some(Secret::new(SIGNATURE_KEY));
        world.inbox.behave("main", Behaviour { signature_key, status, ..Behaviour::default() });
    };
    behave(200);
    let body = json!({ "element": { "key": "square" }, "configuration": {
        CALLBACK: "http://pollux.test/inbox/main", "event.notification.signature.key": SIGNATURE_KEY,
    } });
    let (status, attempt) = world.call("POST", "/notifications/test", Some(body.clone())).await;
    assert_eq!((status, &attempt["status"]), (StatusCode::OK, &json!(200)), "{attempt:#}");
    assert!(attempt["durationMs"].is_u64(), "{attempt:#}");
    let received = world.callbacks().pop().expect("a callback");
    assert_eq!(received.verified, Verified { elements: Some(true), standard: Some(true) });
    assert_eq!(world.events().len(), 1);
    assert!(world.queue.is_empty(), "one attempt, and nothing is left to try again");

    // What goes wrong is the answer, and is not tried again.
    behave(503);
    let (status, attempt) = world.call("POST", "/notifications/test", Some(body.clone())).await;
    assert_eq!((status, &attempt["status"]), (StatusCode::OK, &json!(503)), "{attempt:#}");
    let (status, answer) = world.call("POST", "/notifications/test", Some(json!({}))).await;
    assert_eq!((status, &answer["errors"][0]["read"]), (StatusCode::BAD_REQUEST, &json!("nothing")), "{answer:#}");

    // A few at once, and then one every ten seconds.
    behave(200);
    for _ in 0..3 {
        assert_eq!(world.call("POST", "/notifications/test", Some(body.clone())).await.0, StatusCode::OK);
    }
    let many = world.call_through(None, "POST", "/notifications/test", Some(body.clone())).await;
    assert_eq!(many.0, StatusCode::TOO_MANY_REQUESTS, "{}", many.2);
    assert_eq!(many.1[header::RETRY_AFTER], "10");
    assert_eq!(world.callbacks().len(), 4);
    world.advance(Duration::from_secs(11)).await;
    assert_eq!(world.call("POST", "/notifications/test", Some(body.clone())).await.0, StatusCode::OK);
    assert_eq!(world.call("POST", "/notifications/test", Some(body)).await.0, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn a_saved_instance_is_tested_with_the_key_it_has() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    let signature_key = Some(Secret::new(SIGNATURE_KEY));
    world.inbox.behave("other", Behaviour { signature_key, ..Behaviour::default() });
    let body = json!({ "configuration": {
        CALLBACK: "http://pollux.test/inbox/other", "event.notification.signature.key": "********",
    } });
    let (status, attempt) = world.call("POST", &format!("/instances/{id}/notifications/test"), Some(body)).await;
    assert_eq!((status, &attempt["status"]), (StatusCode::OK, &json!(200)), "{attempt:#}");
    assert_eq!(world.inbox.received("other")[0].verified, Verified { elements: Some(true), standard: Some(true) });
    let (_, shown) = world.call("GET", &format!("/instances/{id}"), None).await;
    assert_eq!(shown["configuration"][CALLBACK], "http://pollux.test/inbox/main", "nothing is stored");
}

#[tokio::test]
async fn the_login_of_an_instance_needs_nothing_typed_again() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    let path = format!("/instances/{id}/oauth/url");
    let (status, answer) = world.call("GET", &format!("{path}?state=s1"), None).await;
    assert_eq!(status, StatusCode::OK, "{answer:#}");
    let url: url::Url = answer["oauthUrl"].as_str().and_then(|url| url.parse().ok()).expect("an address");
    let query: std::collections::BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let stored = seed("square");
    assert_eq!(json!(query["client_id"]), stored["configuration"]["oauth.api.key"]);
    assert_eq!(json!(query["redirect_uri"]), stored["configuration"]["oauth.callback.url"]);
    assert_eq!(query["state"], "s1");
    assert!(!url.as_str().contains(stored["configuration"]["oauth.api.secret"].as_str().expect("a secret")));
    // What is given takes the place of what is stored.
    let given = json!({ "oauth.callback.url": "https://elsewhere.example/", "oauth.api.key": "********" });
    let (_, answer) = world.call("POST", &path, Some(given)).await;
    assert!(answer["oauthUrl"].as_str().is_some_and(|url| url.contains("elsewhere.example")), "{answer:#}");
    let revel = world.create(seed("revel")).await;
    let (status, _) = world.call("GET", &format!("/instances/{revel}/oauth/url"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);

    // Once logged in, nothing waits for what went wrong before.
    world.sandbox.expire("square", Expire::Grants).expect("a vendor");
    assert_eq!(world.poll(id, "timesheets", false).await["outcome"], "failed");
    let waits = async || world.call("GET", &format!("/instances/{id}/coverage"), None).await.1[0]["skipUntil"].clone();
    assert!(waits().await.is_string());
    let login = json!({ "providerData": { "code": "sandbox-code-main" } });
    assert_eq!(world.call("PATCH", &format!("/instances/{id}"), Some(login)).await.0, StatusCode::OK);
    assert_eq!(waits().await, Value::Null);
}
