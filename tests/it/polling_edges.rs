//! The cursor's edge and late arrivals: nothing is lost or repeated between two polls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use local::sandbox::{Expire, Faults};
use serde_json::{Value, json};
use tests::harness::{SystemHarness, answer, id_of, instant, seed};

/// A world in which one Square instance has its baseline.
async fn square() -> (SystemHarness, u64) {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    world.tick().await;
    (world, id)
}

fn card(world: &SystemHarness, fields: Value) -> String {
    id_of(&world.sandbox.create("square", "timecards", fields).expect("a timecard"))
}

fn late(world: &SystemHarness, seconds: u32) {
    let faults = Faults { late_indexing: Some((seconds, seconds)), ..Faults::default() };
    world.sandbox.set_faults("square", faults).expect("square has faults");
}

#[tokio::test]
async fn c01_ties_split_by_a_page_and_by_a_poll_arrive_once() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    world.create(body).await;
    let mut wanted = Vec::new();
    for _ in 0..2 {
        for _ in 0..3 {
            wanted.push(format!("CREATED timesheets {} #1", card(&world, json!({}))));
        }
        world.tick().await;
    }
    // The same second as those before, after the poll that saw it.
    for _ in 0..3 {
        wanted.push(format!("CREATED timesheets {} #1", card(&world, json!({"updated_at": "2026-01-05T09:01:00Z"}))));
    }
    world.tick().await;
    world.tick().await;
    let mut emitted = world.events();
    emitted.sort();
    wanted.sort();
    assert_eq!(emitted, wanted);
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn c02_records_indexed_late_are_emitted_although_the_watermark_passed_them() {
    let (world, _) = square().await;
    late(&world, 360);
    let a = card(&world, json!({}));
    world.advance(Duration::from_secs(240)).await;
    let b = card(&world, json!({}));
    late(&world, 0);
    world.ambient.advance(Duration::from_secs(30));
    let d = card(&world, json!({}));
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {d} #1")]);
    world.advance(Duration::from_secs(600)).await;
    let mut emitted = world.events();
    emitted.sort();
    let mut wanted = [a, b, d].map(|id| format!("CREATED timesheets {id} #1"));
    wanted.sort();
    assert_eq!(emitted, wanted);
}

#[tokio::test]
async fn c03_a_stamp_cut_to_the_second_of_the_poll_is_not_lost() {
    let world = SystemHarness::new("2026-01-05T09:00:00.400Z").await;
    world.create(seed("square")).await;
    world.ambient.set("2026-01-05T09:01:00.100Z");
    world.dispatch().await;
    world.drain().await;
    world.ambient.set("2026-01-05T09:01:00.900Z");
    let id = card(&world, json!({}));
    world.tick().await;
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {id} #1")]);
}

#[tokio::test]
async fn c04_a_lower_bound_is_never_ahead_of_poll_or_newest_record() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"] = json!({"customers": {}});
    world.create(body).await;
    let bounds = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&bounds);
    world.intercept(move |request| {
        let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let bound = asked["query"]["filter"]["updated_at"]["start_at"].as_str();
        seen.lock().expect("kept").extend(bound.map(instant));
        None
    });
    // Dated an hour ahead of the vendor's own clock.
    world.sandbox.create("square", "customers", json!({"updated_at": "2026-01-05T10:00:00.000Z"})).expect("a customer");
    world.tick().await;
    let id = id_of(&world.sandbox.create("square", "customers", json!({})).expect("a customer"));
    for _ in 0..4 {
        world.tick().await;
        let bounds = bounds.lock().expect("kept");
        assert!(bounds.iter().all(|bound| *bound <= world.service.ports.now()), "{bounds:?}");
    }
    assert!(bounds.lock().expect("kept").len() >= 4);
    assert!(world.events().contains(&format!("CREATED customers {id} #1")), "{:?}", world.events());
    world.stop_intercepting();
}

#[tokio::test]
async fn c05_two_edits_in_one_minute_of_a_coarse_clock_are_emitted_once_each() {
    let (world, _) = square().await;
    let minute = json!("2026-01-05T09:02:00Z");
    let id = card(&world, json!({"created_at": minute, "updated_at": minute}));
    world.tick().await;
    world.sandbox.update("square", "timecards", &id, json!({"status": "CLOSED", "updated_at": minute})).expect("it");
    world.tick().await;
    world.advance(Duration::from_secs(300)).await;
    assert_eq!(world.events(), [format!("CREATED timesheets {id} #1"), format!("UPDATED timesheets {id} #2")]);
}

#[tokio::test]
async fn c07_records_of_one_millisecond_made_as_the_poll_starts_need_no_full_refresh() {
    let world = SystemHarness::new("2026-01-05T09:00:00.123Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"] = json!({"customers": {}});
    let instance = world.create(body).await;
    world.tick().await;
    let sandbox = world.sandbox.clone();
    let mut made = 0;
    world.intercept(move |request| {
        if request.uri().path().ends_with("/customers/search") && made < 2 {
            made += 1;
            sandbox.create("square", "customers", json!({})).expect("a customer");
        }
        None
    });
    let first = world.poll(instance, "customers", false).await;
    let second = world.poll(instance, "customers", false).await;
    world.stop_intercepting();
    world.drain().await;
    assert_eq!((&first["completeListing"], &second["completeListing"]), (&Value::Null, &Value::Null));
    assert_eq!(world.events().len(), 2);
}

#[tokio::test]
async fn c08_a_record_committed_between_two_requests_is_not_skipped() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"] = json!({"customers": {"pageSize": 2}});
    world.create(body).await;
    for _ in 0..5 {
        world.sandbox.create("square", "customers", json!({})).expect("a customer");
    }
    let (sandbox, clock) = (world.sandbox.clone(), Arc::clone(&world.ambient));
    let mut pages = 0;
    world.intercept(move |request| {
        if request.uri().path().ends_with("/customers/search") {
            pages += 1;
            if pages == 2 {
                clock.advance(Duration::from_millis(700));
                sandbox.create("square", "customers", json!({})).expect("a customer");
            }
        }
        None
    });
    world.tick().await;
    world.stop_intercepting();
    world.tick().await;
    assert_eq!(world.events().len(), 6);
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn c09_an_empty_poll_keeps_the_cursor_and_the_next_edit_is_found() {
    let (world, instance) = square().await;
    let stamp = json!("2026-01-05T09:01:30Z");
    let id = card(&world, json!({"created_at": stamp, "updated_at": stamp}));
    world.tick().await;
    world.advance(Duration::from_secs(180)).await;
    let (_, coverage) = world.call("GET", &format!("/instances/{instance}/coverage"), None).await;
    assert_eq!((&coverage[0]["failures"], &coverage[0]["baselined"]), (&json!(0), &json!(true)), "{coverage:#}");
    world.sandbox.update("square", "timecards", &id, json!({"status": "CLOSED", "updated_at": stamp})).expect("it");
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {id} #1"), format!("UPDATED timesheets {id} #2")]);
}

#[tokio::test]
async fn c11_a_slow_index_is_measured_and_the_overlap_follows_it() {
    let (world, instance) = square().await;
    late(&world, 600);
    let mut cards = Vec::new();
    for _ in 0..30 {
        late(&world, 600);
        cards.push(card(&world, json!({})));
        late(&world, 0);
        cards.push(card(&world, json!({})));
        world.tick().await;
    }
    world.advance(Duration::from_secs(900)).await;
    let mut emitted = world.events();
    emitted.sort();
    let mut wanted: Vec<_> = cards.iter().map(|id| format!("CREATED timesheets {id} #1")).collect();
    wanted.sort();
    assert_eq!(emitted, wanted);
    let (_, coverage) = world.call("GET", &format!("/instances/{instance}/coverage"), None).await;
    assert!(coverage[0]["latenessSeconds"].as_u64() >= Some(512), "{coverage:#}");
}

#[tokio::test]
async fn c12_after_days_without_polls_everything_is_caught_up_with() {
    let (world, _) = square().await;
    let mut wanted = Vec::new();
    for _ in 0..30 {
        world.ambient.advance(Duration::from_secs(3 * 3600));
        wanted.push(format!("CREATED timesheets {} #1", card(&world, json!({}))));
    }
    world.tick().await;
    let mut emitted = world.events();
    emitted.sort();
    wanted.sort();
    assert_eq!(emitted, wanted);
}

#[tokio::test]
async fn c13_history_that_ran_out_leaves_a_gap_that_can_be_asked_for() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("googlesuite");
    body["configuration"]["event.poller.configuration"] = json!({"changed-messages": {}});
    let instance = world.create(body).await;
    world.tick().await;
    world.sandbox.create("googlesuite", "messages", json!({"snippet": "lost"})).expect("a message");
    world.sandbox.expire("googlesuite", Expire::History).expect("it expires");
    world.skip(Duration::from_secs(14 * 86_400)).await;
    world.sandbox.create("googlesuite", "messages", json!({"snippet": "found"})).expect("a message");
    world.tick().await;
    assert_eq!(world.events().len(), 1, "{:?}", world.events());
    let (_, coverage) = world.call("GET", &format!("/instances/{instance}/coverage"), None).await;
    let gaps = coverage[0]["gaps"].as_array().expect("gaps").clone();
    assert_eq!(gaps.len(), 1, "{coverage:#}");
    let (from, to) = (gaps[0]["from"].as_str().expect("from"), gaps[0]["to"].as_str().expect("to"));
    assert!(instant(to) - instant(from) > chrono::TimeDelta::days(13), "{from} to {to}");
}

#[tokio::test]
async fn c14_a_call_that_fails_in_the_middle_of_a_poll_moves_no_cursor() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    let instance = world.create(body).await;
    world.tick().await;
    let state = |world: &SystemHarness| world.stored()[&format!("INST#{instance} RES#timesheets")].clone();
    let before = state(&world);
    for _ in 0..6 {
        card(&world, json!({}));
    }
    let mut asked = 0;
    world.intercept(move |request| {
        asked += u32::from(request.uri().path().ends_with("/timecards/search"));
        (asked == 2).then(|| answer(500, &json!({})))
    });
    let report = world.poll(instance, "timesheets", false).await;
    assert_eq!(report["outcome"], "failed", "{report:#}");
    for moved in ["cursors", "coverage", "swept_at"] {
        assert_eq!(state(&world)[moved], before[moved]);
    }
    world.stop_intercepting();
    world.advance(Duration::from_secs(120)).await;
    assert_eq!(world.events().len(), 6);
}

#[tokio::test]
async fn c15_a_record_made_while_a_poll_runs_is_emitted_by_the_next() {
    let (world, _) = square().await;
    let (sandbox, clock) = (world.sandbox.clone(), Arc::clone(&world.ambient));
    let mut asked = 0;
    card(&world, json!({}));
    world.intercept(move |request| {
        asked += u32::from(request.uri().path().ends_with("/timecards/search"));
        if asked == 1 {
            // The vendor has read its table already; this comes after, and before our poll ends.
            asked += 1;
            sandbox.set_faults("square", Faults { late_indexing: Some((2, 2)), ..Faults::default() }).expect("faults");
            sandbox.create("square", "timecards", json!({})).expect("a timecard");
            clock.advance(Duration::from_secs(1));
        }
        None
    });
    world.tick().await;
    assert_eq!(world.events().len(), 1);
    world.stop_intercepting();
    world.tick().await;
    assert_eq!(world.events().len(), 2);
}
