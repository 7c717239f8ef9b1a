//! Overlapping polls, crashes and the life of an instance: every change is emitted once.

use std::collections::BTreeSet;
use std::time::Duration;

use flow::ports::QueueName;
use flow::testing::Fault;
use futures::future::join_all;
use local::sandbox::Faults;
use serde_json::{Value, json};
use tests::harness::{SystemHarness, answer, id_of, seed};

async fn square() -> (SystemHarness, u64) {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    world.tick().await;
    (world, id)
}

fn card(world: &SystemHarness) -> String {
    id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard"))
}

#[tokio::test]
async fn c28_a_poll_that_takes_longer_than_its_interval_is_not_run_twice() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    let id = world.create(body).await;
    for _ in 0..40 {
        card(&world);
    }
    let clock = std::sync::Arc::clone(&world.ambient);
    world.intercept(move |_| {
        clock.advance(Duration::from_secs(20));
        None
    });
    let report = world.poll(id, "timesheets", false).await;
    assert_eq!(report["outcome"], "suspended", "{report:#}");
    // The schedule fires while the pass belongs to the job that was handed on.
    let before = world.sandbox.request_count("square").expect("counted");
    world.queue.take(QueueName::Polls, 10);
    world.ambient.advance(Duration::from_secs(60));
    world.dispatch().await;
    world.drain().await;
    let asked = world.sandbox.request_count("square").expect("counted") - before;
    assert_eq!(asked, 0, "the second run leaves the vendor alone");
    // The job is lost with its machine: after a while any other goes on, and nothing is emitted twice.
    world.stop_intercepting();
    world.advance(Duration::from_secs(360)).await;
    assert_eq!(world.events().len(), 40);
    world.assert_ids_are_facts();
    // It was one pass, and its callbacks have one trace.
    let received = world.inbox.received("main");
    let traces: BTreeSet<&str> = received.iter().map(|it| &it.headers["traceparent"][..35]).collect();
    assert_eq!(traces.len(), 1, "{traces:?}");
}

#[tokio::test]
async fn c29_dying_before_or_after_any_write_loses_and_repeats_nothing() {
    for fault in [Fault::NotWritten, Fault::AnswerLost] {
        for dies_at in 0..6 {
            let (world, _) = square().await;
            let cards: Vec<String> = (0..35).map(|_| card(&world)).collect();
            world.expect_failures(true);
            world.store.plan_faults(move |number| (number == dies_at).then_some(fault));
            world.tick().await;
            world.advance(Duration::from_secs(600)).await;
            world.expect_failures(false);
            let mut emitted = world.events();
            emitted.sort();
            emitted.dedup();
            let mut wanted: Vec<_> = cards.iter().map(|id| format!("CREATED timesheets {id} #1")).collect();
            wanted.sort();
            assert_eq!(emitted, wanted, "{fault:?} at {dies_at}");
            world.assert_ids_are_facts();
        }
    }
}

/// With a durable queue, a delivery has no retry entry of its own before its first attempt.
#[tokio::test]
async fn a_delivery_whose_job_is_lost_is_brought_by_the_next_poll() {
    let (world, id) = square().await;
    let lost = |world: &SystemHarness| world.queue.take(QueueName::Deliveries, 10).len();
    let entries =
        |world: &SystemHarness| world.store.items().iter().filter(|item| item.key.pk.starts_with("RETRY#")).count();
    let made = card(&world);
    world.poll(id, "timesheets", false).await;
    assert_eq!((lost(&world), entries(&world)), (1, 0));
    // Too young to be called lost.
    world.poll(id, "timesheets", false).await;
    assert_eq!((lost(&world), entries(&world)), (0, 0));
    world.ambient.advance(Duration::from_secs(180));
    // Not even a vendor that fails keeps it.
    world
        .sandbox
        .set_faults("square", Faults { seed: 1, status_5xx_every: Some(1), ..Faults::default() })
        .expect("known");
    world.poll(id, "timesheets", false).await;
    assert_eq!(entries(&world), 1);
    world.drain().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {made} #1")]);
    assert_eq!(entries(&world), 0);

    // A resource that goes leaves its deliveries to the dispatcher.
    world.sandbox.set_faults("square", Faults::default()).expect("known");
    let last = card(&world);
    world.poll(id, "timesheets", false).await;
    assert_eq!((lost(&world), entries(&world)), (1, 0));
    let body = json!({"configuration": {"event.poller.configuration": {"locations": {"url": "/hubs/employee/locations", "idField": "id"}}}});
    let (status, answer) = world.call("PATCH", &format!("/instances/{id}"), Some(body)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(entries(&world), 1);
    world.advance(Duration::from_secs(300)).await;
    assert!(world.events().contains(&format!("CREATED timesheets {last} #1")), "{:?}", world.events());
}

#[tokio::test]
async fn c30_two_workers_on_one_poll_emit_once_and_remember_both() {
    let (world, id) = square().await;
    let (a, b) = (card(&world), card(&world));
    let before = world.sandbox.request_count("square").expect("counted");
    // Each reads before another commits, and commits at an instant of its own.
    let clock = std::sync::Arc::clone(&world.ambient);
    world.intercept(move |_| {
        clock.advance(Duration::from_millis(1));
        None
    });
    let reports = join_all((0..4).map(|_| world.poll(id, "timesheets", false))).await;
    world.stop_intercepting();
    let asked = world.sandbox.request_count("square").expect("counted") - before;
    assert!(asked > 4, "whoever was outrun polls again: {asked} requests");
    let created: u64 = reports.iter().filter_map(|report| report["created"].as_u64()).sum();
    assert_eq!(created, 2, "{reports:#?}");
    world.drain().await;
    world.tick().await;
    let mut emitted = world.events();
    emitted.sort();
    let mut wanted = [a, b].map(|id| format!("CREATED timesheets {id} #1"));
    wanted.sort();
    assert_eq!(emitted, wanted);
}

#[tokio::test]
async fn c31_switching_off_and_on_again_keeps_one_event_per_change() {
    let (world, id) = square().await;
    let path = format!("/instances/{id}/enabled");
    for _ in 0..2 {
        assert_eq!(world.call("DELETE", &path, None).await.0, 200);
        world.tick().await;
        assert_eq!(world.call("PUT", &path, None).await.0, 200);
    }
    assert_eq!(world.call("DELETE", &path, None).await.0, 200);
    let made = card(&world);
    world.advance(Duration::from_secs(300)).await;
    assert_eq!(world.events(), [""; 0]);
    assert_eq!(world.call("PUT", &path, None).await.0, 200);
    world.advance(Duration::from_secs(300)).await;
    assert_eq!(world.events(), [format!("CREATED timesheets {made} #1")]);
}

#[tokio::test]
async fn c32_duplicate_and_reordered_messages_change_nothing() {
    let (world, _) = square().await;
    let made = card(&world);
    world.ambient.advance(Duration::from_secs(60));
    world.dispatch().await;
    let messages = world.queue.take(flow::ports::QueueName::Polls, 10);
    assert_eq!(messages.len(), 1);
    use flow::ports::Queue;
    for _ in 0..3 {
        world.queue.send(flow::ports::QueueName::Polls, messages.clone()).await;
    }
    world.drain().await;
    world.tick().await;
    world.queue.send(flow::ports::QueueName::Polls, messages).await;
    world.drain().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {made} #1")]);
}

#[tokio::test]
async fn c33_a_configuration_edited_between_two_polls_keeps_the_event_in_between() {
    let (world, id) = square().await;
    let first = card(&world);
    world.tick().await;
    let other_interval = json!({"configuration": {"event.poller.refresh_interval": "2"}});
    let mut resource = seed("square")["configuration"]["event.poller.configuration"].clone();
    resource["timesheets"]["url"] =
        json!("/hubs/employee/timesheets?where=updated_at>'${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'");
    let other_url = json!({"configuration": {"event.poller.configuration": resource}});
    let mut wanted = vec![format!("CREATED timesheets {first} #1")];
    for change in [other_interval, other_url] {
        world.ambient.advance(Duration::from_secs(10));
        let made = card(&world);
        let (status, answered) = world.call("PATCH", &format!("/instances/{id}"), Some(change)).await;
        assert_eq!(status, 200, "{answered:#}");
        world.advance(Duration::from_secs(240)).await;
        wanted.push(format!("CREATED timesheets {made}"));
    }
    let emitted = world.events();
    assert_eq!(emitted.len(), wanted.len(), "{emitted:?}");
    for (emitted, wanted) in emitted.iter().zip(&wanted) {
        assert!(emitted.starts_with(wanted.as_str()), "{emitted} is {wanted}");
    }
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn c34_a_frozen_watermark_shows_as_stale_within_two_intervals() {
    let (world, id) = square().await;
    let stale = async || {
        let (_, coverage) = world.call("GET", &format!("/instances/{id}/coverage"), None).await;
        coverage[0]["stale"].clone()
    };
    assert_eq!(stale().await, false);
    world.sandbox.set_faults("square", Faults { status_5xx_every: Some(1), ..Faults::default() }).expect("faults");
    world.advance(Duration::from_secs(4 * 60)).await;
    assert_eq!(stale().await, true);
    let report = world.poll(id, "timesheets", false).await;
    assert_eq!(report["resources"][0]["stale"], true, "{report:#}");
    world.sandbox.set_faults("square", Faults::default()).expect("faults");
    world.poll(id, "timesheets", false).await;
    assert_eq!(stale().await, false);
}

#[tokio::test]
async fn c35_thousands_of_existing_records_are_emitted_only_if_asked_for() {
    for (initial, emitted) in [("silent", 0), ("emit", 1500)] {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        for _ in 0..1500 {
            card(&world);
        }
        let mut body = seed("square");
        body["configuration"]["event.poller.configuration"]["timesheets"]["initialPoll"] = json!(initial);
        world.create(body).await;
        world.drain().await;
        world.tick().await;
        assert_eq!(world.events().len(), emitted, "{initial}");
        world.assert_ids_are_facts();
    }
}

#[tokio::test]
async fn c38_thousands_of_one_stamp_are_not_rewritten_by_every_poll() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    for _ in 0..4000 {
        card(&world);
    }
    let id = world.create(seed("square")).await;
    world.drain().await;
    world.tick().await;
    world.store.forget_operations();
    world.tick().await;
    let idle = world.store.operations();
    assert!(idle.items_written <= 3, "{idle:?}");
    let key = format!("INST#{id}");
    let state = world.store.items().into_iter().find(|item| item.key.pk == key && item.key.sk == "RES#timesheets");
    assert!(state.expect("a state").body.len() < 2048);
    let largest = world.store.items().into_iter().map(|item| item.body.len()).max();
    assert!(largest < Some(64 * 1024), "no item grows with the account: {largest:?}");
}

#[tokio::test]
async fn c38_state_grows_with_the_number_of_partitions_and_no_faster() {
    let mut sizes = Vec::new();
    for calendars in [10, 40] {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        for n in 0..calendars {
            world.sandbox.create("googlesuite", "calendars", json!({"id": format!("cal-{n}@x")})).expect("a calendar");
        }
        let mut body = seed("googlesuite");
        let all = &mut body["configuration"]["event.poller.configuration"];
        *all = json!({"calendars/{calendarId}/changed-events": all["calendars/{calendarId}/changed-events"]});
        let id = world.create(body).await;
        world.drain().await;
        world.tick().await;
        let stored = world.stored();
        let state = &stored[&format!("INST#{id} RES#calendars/{{calendarId}}/changed-events")];
        assert_eq!(state["cursors"].as_object().map(|it| it.len() >= calendars), Some(true), "{state:#}");
        sizes.push(state.to_string().len());
    }
    assert!(sizes[1] < 5 * sizes[0], "{sizes:?}");
}

#[tokio::test]
async fn a_calendar_that_appears_later_emits_what_is_new_in_it() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.sandbox.create("googlesuite", "events", json!({"summary": "old"})).expect("an event");
    let mut body = seed("googlesuite");
    let all = &mut body["configuration"]["event.poller.configuration"];
    *all = json!({"calendars/{calendarId}/changed-events": all["calendars/{calendarId}/changed-events"]});
    world.create(body).await;
    world.tick().await;
    world.sandbox.create("googlesuite", "calendars", json!({"id": "late@x"})).expect("a calendar");
    let old = json!({"summary": "old", "created": "2020-01-01T00:00:00.000Z", "updated": "2020-01-01T00:00:00.000Z"});
    world.sandbox.create("googlesuite", "events:late@x", old).expect("an event");
    let new =
        id_of(&world.sandbox.create("googlesuite", "events:late@x", json!({"summary": "new"})).expect("an event"));
    world.tick().await;
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED calendars/{{calendarId}}/changed-events {new} #1")]);
}

#[tokio::test]
async fn a_change_while_a_long_first_pass_runs_on_is_emitted() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    for _ in 0..40 {
        card(&world);
    }
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"] = json!({"customers": {"pageSize": 2}});
    for _ in 0..20 {
        world.sandbox.create("square", "customers", json!({})).expect("a customer");
    }
    let clock = std::sync::Arc::clone(&world.ambient);
    world.intercept(move |request| {
        if request.uri().path().ends_with("/search") {
            clock.advance(Duration::from_secs(2));
        }
        None
    });
    let id = world.create(body).await;
    world.stop_intercepting();
    world.ambient.advance(Duration::from_secs(5));
    let new = id_of(&world.sandbox.create("square", "customers", json!({})).expect("a customer"));
    world.advance(Duration::from_secs(120)).await;
    assert_eq!(world.events(), [format!("CREATED customers {new} #1")], "it came after the answer");
    let (_, coverage) = world.call("GET", &format!("/instances/{id}/coverage"), None).await;
    assert_eq!(coverage[0]["baselined"], true);
}

#[tokio::test]
async fn another_way_of_recognizing_records_floods_nobody() {
    let (world, id) = square().await;
    let made: Vec<String> = (0..30).map(|_| card(&world)).collect();
    world.tick().await;
    assert_eq!(world.events().len(), 30);
    // As if the element's last release had made fingerprints, and then ids, by another rule.
    for field in ["versions", "ids"] {
        let key = store::keys::resource_key(domain::id::InstanceId(id), "timesheets");
        use store::port::Store;
        let item = world.store.get(&key).await.expect("a store").expect("a state");
        let mut state: Value = serde_json::from_slice(&item.body).expect("JSON");
        state["shape"][field] = json!(1);
        world.store.transact(&[store::codec::replace(key, item.version, &state)]).await.expect("written");
        world.sandbox.update("square", "timecards", &made[0], json!({"status": field})).expect("it");
        world.ambient.advance(Duration::from_secs(5));
        world.tick().await;
        world.tick().await;
    }
    let emitted = world.events();
    assert_eq!(emitted.len(), 32, "one event for each of two changes: {:?}", &emitted[30..]);
    assert!(
        emitted[30..].iter().all(|line| line.starts_with(&format!("UPDATED timesheets {} ", made[0]))),
        "{emitted:?}"
    );
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn what_the_vendor_answers_to_a_saved_place_does_not_stick() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    let id = world.create(body).await;
    for _ in 0..20 {
        card(&world);
    }
    let clock = std::sync::Arc::clone(&world.ambient);
    world.intercept(move |_| {
        clock.advance(Duration::from_secs(20));
        None
    });
    assert_eq!(world.poll(id, "timesheets", false).await["outcome"], "suspended");
    // The vendor does not take the cursor of then, in words that nobody wrote down.
    world.intercept(|request| {
        let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let refusal = json!({"errors": [{"category": "INVALID_REQUEST_ERROR", "code": "WHAT", "detail": "?"}]});
        (!asked["cursor"].is_null()).then(|| answer(400, &refusal))
    });
    world.drain().await;
    world.stop_intercepting();
    world.advance(Duration::from_secs(600)).await;
    assert_eq!(world.events().len(), 20);
    world.assert_ids_are_facts();
}
