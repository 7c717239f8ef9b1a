//! Logins and rate limits: one token refresh for all concurrent polls, and fewer calls of a vendor that throttles.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flow::testing::Fault;
use futures::future::join_all;
use local::sandbox::{Expire, Faults};
use serde_json::{Value, json};
use tests::harness::{SystemHarness, answer, id_of, seed};

async fn google(faults: Faults) -> (SystemHarness, u64) {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.sandbox.set_faults("googlesuite", faults).expect("faults");
    let mut body = seed("googlesuite");
    let polled = body["configuration"]["event.poller.configuration"].as_object_mut().expect("an object");
    polled.remove("calendars/{calendarId}/changed-events");
    let id = world.create(body).await;
    world.tick().await;
    (world, id)
}

fn token_calls(world: &SystemHarness) -> usize {
    world.sandbox.requests().iter().filter(|request| request.path.ends_with("/token")).count()
}

#[tokio::test]
async fn c39_polls_that_refresh_at_once_spend_one_refresh_token() {
    let (world, id) = google(Faults { rotate_refresh: true, ..Faults::default() }).await;
    world.sandbox.expire("googlesuite", Expire::Tokens).expect("they expire");
    let event = id_of(&world.sandbox.create("googlesuite", "events", json!({"summary": "x"})).expect("an event"));
    let before = token_calls(&world);
    let (status, report) = world.call("POST", &format!("/instances/{id}/poll"), None).await;
    assert_eq!((status.as_u16(), &report["outcome"]), (200, &json!("committed")), "{report:#}");
    assert_eq!(token_calls(&world) - before, 1, "one refresh served all resources");
    world.drain().await;
    assert_eq!(world.events(), [format!("CREATED calendars/primary/changed-events {event} #1")]);
}

#[tokio::test]
async fn c40_a_rotated_token_that_was_not_stored_is_recovered_or_flagged() {
    for (writes_lost, recovers) in [(1, true), (100, false)] {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        world.sandbox.set_faults("googlesuite", Faults { rotate_refresh: true, ..Faults::default() }).expect("faults");
        let mut body = seed("googlesuite");
        body["configuration"]["event.poller.configuration"] = json!({"changed-groups": {}});
        let id = world.create(body).await;
        world.tick().await;
        world.sandbox.expire("googlesuite", Expire::Tokens).expect("they expire");
        world.expect_failures(true);
        let (refreshes, bearers) = (Arc::new(AtomicU32::new(0)), Arc::new(Mutex::new(BTreeSet::new())));
        let (seen, shown) = (Arc::clone(&refreshes), Arc::clone(&bearers));
        world.intercept(move |request| {
            seen.fetch_add(u32::from(request.uri().path().ends_with("/token")), Ordering::Relaxed);
            let bearer = request.headers().get("authorization").and_then(|bearer| bearer.to_str().ok());
            shown.lock().expect("nobody panicked").extend(bearer.map(str::to_owned));
            None
        });
        // What is written first after the vendor gave new tokens is those tokens.
        let (seen, mut lost) = (Arc::clone(&refreshes), 0);
        world.store.plan_faults(move |_| {
            let fails = seen.load(Ordering::Relaxed) == 1 && lost < writes_lost;
            lost += u32::from(fails);
            fails.then_some(Fault::NotWritten)
        });
        world.tick().await;
        world.store.plan_faults(|_| None);
        world.advance(Duration::from_secs(1800)).await;
        world.stop_intercepting();
        world.expect_failures(false);
        let (_, instance) = world.call("GET", &format!("/instances/{id}"), None).await;
        let count = refreshes.load(Ordering::Relaxed);
        assert!(count <= if recovers { 1 } else { 3 }, "{count} refreshes");
        assert_eq!(instance["valid"], recovers, "{instance:#}");
        let bearers = bearers.lock().expect("nobody panicked").len();
        assert_eq!(bearers, if recovers { 2 } else { 1 }, "what could not be stored was not used");
    }
}

#[tokio::test]
async fn c41_a_grant_refused_after_a_lost_race_is_read_again_before_it_counts() {
    let (world, id) = google(Faults::default()).await;
    world.sandbox.expire("googlesuite", Expire::Tokens).expect("they expire");
    let (service, good) = (world.service.clone(), "sandbox-token-main");
    world.intercept(move |request| {
        request.uri().path().ends_with("/token").then(|| {
            // Another process was faster: its tokens are stored, and the vendor refuses ours.
            let instance = domain::id::InstanceId(id);
            futures::executor::block_on(async {
                let key = store::keys::tokens_key(instance);
                let item = service.ports.store.get(&key).await.expect("a store").expect("tokens");
                let tokens = elements::Tokens {
                    access: domain::secret::Secret::new(good),
                    refresh: Some(domain::secret::Secret::new("theirs")),
                    expires_at: None,
                    extra: Default::default(),
                };
                let sealed = flow::vendor::tokens::seal(&service, instance, &tokens).await.expect("sealed");
                let write = store::codec::replace(key, item.version, &sealed);
                service.ports.store.transact(&[write]).await.expect("written");
            });
            answer(400, &json!({"error": "invalid_grant"}))
        })
    });
    let report = world.poll(id, "calendars/primary/changed-events", false).await;
    world.stop_intercepting();
    assert_eq!(report["outcome"], "committed", "{report:#}");
}

#[tokio::test]
async fn c42_a_sync_token_that_is_gone_leads_to_a_reconciliation() {
    let (world, id) = google(Faults::default()).await;
    let name = "calendars/primary/changed-events";
    let event = id_of(&world.sandbox.create("googlesuite", "events", json!({"summary": "x"})).expect("an event"));
    world.tick().await;
    world.sandbox.delete("googlesuite", "events", &event).expect("the event");
    world.sandbox.expire("googlesuite", Expire::SyncTokens).expect("they expire");
    let report = world.poll(id, name, false).await;
    assert_eq!((&report["deleted"], &report["outcome"]), (&json!(1), &json!("committed")), "{report:#}");
    world.drain().await;
    assert_eq!(world.events(), [format!("CREATED {name} {event} #1"), format!("DELETED {name} {event} #2")]);
    let (_, coverage) = world.call("GET", &format!("/instances/{id}/coverage"), None).await;
    assert!(coverage.as_array().expect("a list").iter().all(|it| it["gaps"] == json!([])), "no gap: {coverage:#}");
}

fn revel() -> Value {
    let mut body = seed("revel");
    let polled = &mut body["configuration"]["event.poller.configuration"];
    *polled = json!({"employees": polled["employees"]});
    body
}

#[tokio::test]
async fn c43_a_throttled_account_is_left_alone_by_all_its_instances() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    for _ in 0..5 {
        world.create(revel()).await;
    }
    world.tick().await;
    let cursors = |world: &SystemHarness| -> Vec<Value> {
        let states = world.stored().into_iter().filter(|(key, _)| key.contains(" RES#"));
        states.map(|(_, state)| state["cursors"].clone()).collect()
    };
    let before = (cursors(&world), world.sandbox.request_count("revel").expect("counted"));
    // For an hour, without a word of how long.
    world.sandbox.set_faults("revel", Faults { rate_limit_every: Some(1), ..Faults::default() }).expect("faults");
    world.advance(Duration::from_secs(3600)).await;
    let asked = world.sandbox.request_count("revel").expect("counted") - before.1;
    assert!((1..=20).contains(&asked), "{asked} requests of five instances in an hour");
    assert_eq!(cursors(&world), before.0, "no cursor moved");
    // For three hours, in so many words.
    let faults = Faults { rate_limit_every: Some(1), retry_after: Some(3 * 3600), ..Faults::default() };
    world.sandbox.set_faults("revel", faults).expect("faults");
    world.advance(Duration::from_secs(3600)).await;
    let before = world.sandbox.request_count("revel").expect("counted");
    world.advance(Duration::from_secs(90 * 60)).await;
    assert_eq!(world.sandbox.request_count("revel").expect("counted"), before, "nobody asks before its time");
}

#[tokio::test]
async fn c44_a_vendor_that_refuses_for_good_is_not_called_again() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    world.tick().await;
    world.sandbox.expire("square", Expire::Grants).expect("they expire");
    let before = world.sandbox.request_count("square").expect("counted");
    world.advance(Duration::from_secs(6 * 3600)).await;
    let asked = world.sandbox.request_count("square").expect("counted") - before;
    assert!((1..=8).contains(&asked), "{asked} requests in six hours");
    let (_, instance) = world.call("GET", &format!("/instances/{id}"), None).await;
    assert_eq!(instance["valid"], false, "{instance:#}");
    let reports = join_all([world.poll(id, "timesheets", false)]).await;
    assert_eq!(reports[0]["outcome"], "needsLogin");
}
