//! The calls of the API that read and resend deliveries, and the functions behind them.

use std::time::Duration;

use domain::secret::Secret;
use http::StatusCode;
use local::inbox::{Behaviour, Verified};
use serde_json::{Value, json};
use tests::harness::{SIGNATURE_KEY, SystemHarness, seed};

const START: &str = "2026-01-05T09:00:00Z";

/// A world with one instance, and the instance's id.
async fn world() -> (SystemHarness, u64) {
    let world = SystemHarness::new(START).await;
    let id = world.create(seed("square")).await;
    (world, id)
}

fn behave(world: &SystemHarness, status: u16, key: &str) {
    let signature_key = Some(Secret::new(key));
    world.inbox.behave("main", Behaviour { signature_key, status, ..Behaviour::default() });
}

/// Calls and expects success.
async fn call(world: &SystemHarness, method: &str, path: String, body: Option<Value>) -> Value {
    let (status, answer) = world.call(method, &path, body).await;
    assert_eq!(status, StatusCode::OK, "{method} {path}: {answer:#}");
    answer
}

/// Sends a test event and answers its delivery's id.
async fn test_event(world: &SystemHarness, id: u64) -> String {
    let sent = call(world, "POST", format!("/instances/{id}/deliveries/test"), None).await;
    world.drain().await;
    sent["delivery"].as_str().expect("an id").to_owned()
}

/// Sends a test event. Returns how the inbox verifies its signatures with `key`.
async fn signed_by(world: &SystemHarness, id: u64, key: &str) -> Verified {
    behave(world, 200, key);
    test_event(world, id).await;
    world.callbacks().last().expect("a callback").verified
}

fn verified(elements: bool, standard: bool) -> Verified {
    Verified { elements: Some(elements), standard: Some(standard) }
}

#[tokio::test]
async fn while_a_secret_rotates_both_are_valid_for_the_chosen_time() {
    let (world, id) = world().await;
    assert_eq!(signed_by(&world, id, SIGNATURE_KEY).await, verified(true, true));
    let path = format!("/instances/{id}/signing-secret/rotate");
    let rotated = call(&world, "POST", path.clone(), Some(json!({ "validMinutes": 60 }))).await;
    assert_eq!(rotated["previousValidUntil"], "2026-01-05T10:00:00Z");
    let new = rotated["signingSecret"].as_str().expect("a secret");
    assert!(new.starts_with("whsec_") && new.len() == 50, "{new}");
    // The Cloud Elements signature holds one key.
    assert_eq!(signed_by(&world, id, SIGNATURE_KEY).await, verified(false, true));
    assert_eq!(signed_by(&world, id, new).await, verified(true, true));

    // No answer and no later change lets a secret out or drops one.
    let shown = call(&world, "PATCH", format!("/instances/{id}"), Some(json!({ "name": "Other" }))).await;
    assert_eq!(shown["configuration"]["event.notification.signature.key"], "********");
    assert_eq!(shown["configuration"]["event.notification.signature.key.previous"], "********");
    assert!(!shown.to_string().contains(new) && !shown.to_string().contains(SIGNATURE_KEY));
    assert_eq!(signed_by(&world, id, SIGNATURE_KEY).await, verified(false, true));

    world.advance(Duration::from_secs(3600)).await;
    assert_eq!(signed_by(&world, id, SIGNATURE_KEY).await, verified(false, false));
    assert_eq!(signed_by(&world, id, new).await, verified(true, true));

    // At once, and with the default.
    let at_once = call(&world, "POST", path.clone(), Some(json!({ "validMinutes": 0 }))).await;
    assert_eq!(signed_by(&world, id, new).await, verified(false, false));
    assert_eq!(signed_by(&world, id, at_once["signingSecret"].as_str().expect("one")).await, verified(true, true));
    let by_default = call(&world, "POST", path.clone(), None).await;
    assert_eq!(by_default["previousValidUntil"], "2026-01-06T10:00:00Z");
    for wrong in [json!(-1), json!(1.5), json!("60"), json!(43201)] {
        let (status, answer) = world.call("POST", &path, Some(json!({ "validMinutes": wrong }))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
}

#[tokio::test]
async fn deliveries_are_looked_into_and_sent_again_one_many_or_by_time() {
    let (world, id) = world().await;
    let first = test_event(&world, id).await;
    world.advance(Duration::from_secs(600)).await;
    behave(&world, 500, SIGNATURE_KEY);
    let second = test_event(&world, id).await;
    let attempts = call(&world, "GET", format!("/instances/{id}/deliveries/{second}/attempts"), None).await;
    assert_eq!(attempts.as_array().map(Vec::len), Some(1));
    assert_eq!((&attempts[0]["number"], &attempts[0]["status"]), (&json!(1), &json!(500)));
    assert!(attempts[0]["durationMs"].is_u64() && attempts[0]["next"].is_string(), "{attempts:#}");

    behave(&world, 200, SIGNATURE_KEY);
    world.advance(Duration::from_secs(60)).await;
    world.inbox.clear("main");
    let path = format!("/instances/{id}/deliveries/redeliver");
    let again = async |body: Value| {
        let answer = call(&world, "POST", path.clone(), Some(body)).await;
        world.drain().await;
        // Those of one batch are sent at the same time.
        let mut ids: Vec<String> = world.callbacks().iter().filter_map(|one| one.delivery_id.clone()).collect();
        ids.sort();
        world.inbox.clear("main");
        behave(&world, 200, SIGNATURE_KEY);
        (answer["redelivered"].clone(), ids)
    };
    let mut both = vec![first.clone(), second.clone()];
    both.sort();
    let only = |id: &String| vec![id.clone()];
    assert_eq!(again(json!({ "ids": [first] })).await, (json!(1), only(&first)));
    assert_eq!(again(json!({ "ids": [second, first] })).await, (json!(2), both.clone()));
    assert_eq!(again(json!({ "from": "2026-01-05T09:05:00Z" })).await, (json!(1), only(&second)));
    assert_eq!(again(json!({ "to": "2026-01-05T09:05:00Z" })).await, (json!(1), only(&first)));
    assert_eq!(again(json!({ "statuses": ["delivered"] })).await, (json!(2), both));
    assert_eq!(again(json!({ "statuses": ["queued"] })).await, (json!(0), vec![]));
    for wrong in [json!({}), json!([]), json!({"id": first}), json!({"ids": 1}), json!({"from": "today"})] {
        let (status, answer) = world.call("POST", &path, Some(wrong)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
    }
    let (status, _) = world.call("POST", &path, Some(json!({ "ids": ["unknown"] }))).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let delivery = call(&world, "GET", format!("/instances/{id}/deliveries/{first}"), None).await;
    for notification in [delivery["notificationId"].as_str().expect("a number"), &first] {
        let path = format!("/notifications/{notification}/subscriptions/{id}/deliveries?hydrate=true");
        let found = call(&world, "GET", path, None).await;
        assert_eq!((&found[0]["id"], &found[0]["subscriptionId"]), (&json!(first), &json!(id)));
        assert!(found[0]["notification"].as_str().is_some_and(|body| body.contains(&first)));
    }
    let (status, _) = world.call("GET", &format!("/notifications/12/subscriptions/{id}/deliveries"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_came_while_an_instance_was_disabled_is_sent_when_it_is_enabled() {
    let (world, id) = world().await;
    call(&world, "DELETE", format!("/instances/{id}/enabled"), None).await;
    let sent = test_event(&world, id).await;
    assert!(world.callbacks().is_empty());
    let held = call(&world, "GET", format!("/instances/{id}/deliveries/{sent}"), None).await;
    assert_eq!(held["status"], "queued");
    call(&world, "PUT", format!("/instances/{id}/enabled"), None).await;
    world.drain().await;
    assert_eq!(world.callbacks()[0].delivery_id.as_deref(), Some(&*sent));
}

#[tokio::test]
async fn a_new_callback_url_gets_what_waited_for_the_old() {
    let (world, id) = world().await;
    behave(&world, 410, SIGNATURE_KEY);
    let mut sent = [test_event(&world, id).await, test_event(&world, id).await];
    let state = call(&world, "GET", format!("/instances/{id}/callback"), None).await;
    assert_eq!((&state["status"], &state["waiting"]), (&json!("disabled"), &json!(2)));
    let other = json!({ "configuration": { "event.notification.callback.url": "http://pollux.test/inbox/other" } });
    call(&world, "PATCH", format!("/instances/{id}"), Some(other)).await;
    world.advance(Duration::from_secs(60)).await;
    let receipts = world.inbox.received("other");
    let mut arrived: Vec<_> = receipts.iter().filter_map(|one| one.delivery_id.clone()).collect();
    arrived.sort();
    sent.sort();
    assert_eq!(arrived, sent);
}

#[tokio::test]
async fn deliveries_of_all_instances_are_read_page_by_page_in_one_order() {
    let (world, first) = world().await;
    let second = world.create(seed("revel")).await;
    let mut sent = Vec::new();
    for id in [first, second, second, first, second] {
        sent.push(test_event(&world, id).await);
        world.advance(Duration::from_secs(1)).await;
    }
    // Two that were committed at the very same instant are distinguished by their ids.
    sent.extend([test_event(&world, first).await, test_event(&world, second).await]);
    let pages = async |path: &str, size: usize| {
        let (mut ids, mut token) = (Vec::new(), String::new());
        loop {
            let path = format!("{path}?pageSize={size}{token}");
            let (status, headers, page) = world.call_through(None, "GET", &path, None).await;
            assert_eq!(status, StatusCode::OK, "{page:#}");
            let page: Vec<String> = page
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| one["id"].as_str().expect("an id").to_owned())
                .collect();
            assert!(page.len() <= size && !page.is_empty());
            ids.push(page);
            match headers.get("elements-next-page-token") {
                Some(next) => token = format!("&nextPage={}", next.to_str().expect("a token")),
                None => return ids,
            }
        }
    };
    let whole = pages("/notifications/subscriptions/deliveries", 200).await.concat();
    let mut all = [whole.clone(), sent.clone()];
    all.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(all[0], all[1], "all, each once");
    for size in [1, 2, 3] {
        let paged = pages("/notifications/subscriptions/deliveries", size).await;
        assert_eq!((paged.len(), paged.concat()), (7usize.div_ceil(size), whole.clone()));
        assert_eq!(pages("/instances/events", size).await.concat(), whole);
    }
    assert_eq!(whole[6], sent[0], "the youngest first");
    let (status, answer) = world.call("GET", "/instances/events?nextPage=bm8", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
}
