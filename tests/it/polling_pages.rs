//! Pages and deletions: a deletion is emitted when it is proven, and an incomplete listing proves nothing.

use std::time::Duration;

use local::sandbox::{Expire, Faults};
use serde_json::{Value, json};
use tests::harness::{SystemHarness, answer, id_of, seed};

/// A world whose Square instance knows so many timecards, listed two a page.
async fn square(cards: usize) -> (SystemHarness, u64, Vec<String>) {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    let made = (0..cards).map(|_| id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard")));
    let cards = made.collect();
    let id = world.create(body).await;
    world.tick().await;
    (world, id, cards)
}

#[tokio::test]
async fn c22_a_page_that_is_refused_deletes_nothing() {
    for status in [401, 404] {
        let (world, id, cards) = square(8).await;
        world.sandbox.delete("square", "timecards", &cards[0]).expect("the timecard");
        let mut asked = 0;
        world.intercept(move |request| {
            asked += u32::from(request.uri().path().ends_with("/timecards/search"));
            let refusal = json!({"errors": [{"category": "X", "code": "Y", "detail": "Z"}]});
            (asked >= 3 && request.uri().path().ends_with("/timecards/search")).then(|| answer(status, &refusal))
        });
        let report = world.poll(id, "timesheets", true).await;
        assert_eq!((&report["outcome"], &report["deleted"]), (&json!("failed"), &json!(0)), "{report:#}");
        world.stop_intercepting();
        world.sandbox.of("main");
        let report = world.poll(id, "timesheets", true).await;
        assert_eq!(report["deleted"], 1, "{report:#}");
        world.drain().await;
        assert_eq!(world.events(), [format!("DELETED timesheets {} #1", cards[0])]);
    }
}

#[tokio::test]
async fn c23_a_sweep_that_spans_invocations_remembers_what_it_saw() {
    let (world, id, cards) = square(40).await;
    world.sandbox.delete("square", "timecards", &cards[3]).expect("the timecard");
    world.sandbox.delete("square", "timecards", &cards[33]).expect("the timecard");
    // Every page takes half a minute, so each invocation reads a few and hands on.
    let clock = std::sync::Arc::clone(&world.ambient);
    world.intercept(move |request| {
        if request.uri().path().ends_with("/timecards/search") {
            clock.advance(Duration::from_secs(20));
        }
        None
    });
    let report = world.poll(id, "timesheets", true).await;
    assert_eq!((&report["outcome"], &report["deleted"]), (&json!("suspended"), &json!(0)), "{report:#}");
    world.drain().await;
    world.stop_intercepting();
    world.drain().await;
    let mut emitted = world.events();
    emitted.sort();
    let mut wanted = [3, 33].map(|n: usize| format!("DELETED timesheets {} #1", cards[n]));
    wanted.sort();
    assert_eq!(emitted, wanted, "only what is gone, whichever invocation listed the rest");
    let (_, coverage) = world.call("GET", &format!("/instances/{id}/coverage"), None).await;
    assert_eq!(coverage[0]["suspended"], false, "{coverage:#}");
}

#[tokio::test]
async fn c24_no_tombstones_from_a_sweep_that_failed() {
    let (world, id, cards) = square(8).await;
    world.sandbox.delete("square", "timecards", &cards[0]).expect("the timecard");
    let faults = Faults { cut_connection_every: Some(3), ..Faults::default() };
    world.sandbox.set_faults("square", faults).expect("faults");
    let report = world.poll(id, "timesheets", true).await;
    assert_eq!((&report["outcome"], &report["deleted"]), (&json!("failed"), &json!(0)), "{report:#}");
    assert_eq!(world.events(), [""; 0]);
}

#[tokio::test]
async fn c25_a_mass_deletion_is_held_until_someone_decides() {
    let (world, id, cards) = square(40).await;
    let empty = || {
        |request: &http::Request<bytes::Bytes>| {
            request.uri().path().ends_with("/timecards/search").then(|| answer(200, &json!({})))
        }
    };
    world.intercept(empty());
    let report = world.poll(id, "timesheets", true).await;
    assert_eq!((&report["deleted"], &report["resources"][0]["held"]), (&json!(0), &json!(40)), "{report:#}");
    let held = format!("/instances/{id}/resources/timesheets/held");
    let (_, shown) = world.call("GET", &held, None).await;
    assert_eq!((&shown["missing"], &shown["known"]), (&json!(40), &json!(40)), "{shown:#}");
    let (status, _) = world.call("POST", &held, Some(json!({"decision": "reject"}))).await;
    assert_eq!(status, 200);
    world.stop_intercepting();
    let (status, _) = world.call("GET", &held, None).await;
    assert_eq!(status, 404, "rejected");
    assert_eq!(world.poll(id, "timesheets", true).await["deleted"], 0, "the listing is whole again");

    for card in &cards[..20] {
        world.sandbox.delete("square", "timecards", card).expect("the timecard");
    }
    assert_eq!(world.poll(id, "timesheets", true).await["resources"][0]["held"], 20);
    let (status, answered) = world.call("POST", &held, Some(json!({"decision": "maybe"}))).await;
    assert_eq!(status, 400, "{answered:#}");
    let (status, _) = world.call("POST", &held, Some(json!({"decision": "approve"}))).await;
    assert_eq!(status, 200);
    world.tick().await;
    assert_eq!(world.events().len(), 20, "the next poll sweeps at once");
    assert!(world.events().iter().all(|line| line.starts_with("DELETED")));
    assert_eq!(world.call("GET", &held, None).await.0, 404);
    let (_, coverage) = world.call("GET", &format!("/instances/{id}/coverage"), None).await;
    assert_eq!(coverage[0]["records"], 20, "what is gone is not counted: {coverage:#}");
}

fn calendar() -> Value {
    let mut body = seed("googlesuite");
    let all = &mut body["configuration"]["event.poller.configuration"];
    *all = json!({"calendars/primary/changed-events": all["calendars/primary/changed-events"]});
    body
}

#[tokio::test]
async fn c26_a_delete_that_comes_with_a_token_reset_is_found() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let event =
        |name: &str| id_of(&world.sandbox.create("googlesuite", "events", json!({"summary": name})).expect("an event"));
    let (kept, gone) = (event("kept"), event("gone"));
    world.create(calendar()).await;
    world.tick().await;
    world.sandbox.delete("googlesuite", "events", &gone).expect("the event");
    world.sandbox.update("googlesuite", "events", &kept, json!({"summary": "moved"})).expect("the event");
    let new = event("new");
    world.sandbox.expire("googlesuite", Expire::SyncTokens).expect("it expires");
    world.tick().await;
    world.tick().await;
    let mut emitted = world.events();
    emitted.sort();
    let name = "calendars/primary/changed-events";
    let mut wanted =
        [format!("DELETED {name} {gone} #1"), format!("UPDATED {name} {kept} #1"), format!("CREATED {name} {new} #1")];
    wanted.sort();
    assert_eq!(emitted, wanted);
}

fn icontact() -> Value {
    let mut body = seed("icontact");
    body["configuration"]["event.poller.configuration"] = json!({"contacts": {"pageSize": 10}});
    body
}

#[tokio::test]
async fn c27_offset_pages_that_shift_skip_and_repeat_nothing() {
    for page_shift in [-3, 3] {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        for n in 0..45 {
            world.sandbox.create("icontact", "contacts", json!({"email": format!("a{n}@x.com")})).expect("a contact");
        }
        world.create(icontact()).await;
        world.tick().await;
        world.sandbox.set_faults("icontact", Faults { page_shift, ..Faults::default() }).expect("faults");
        for n in 0..5 {
            world.sandbox.create("icontact", "contacts", json!({"email": format!("b{n}@x.com")})).expect("a contact");
        }
        world.tick().await;
        world.tick().await;
        assert_eq!(world.events().len(), 5, "{:?}", world.events());
        world.assert_ids_are_facts();
    }
}

#[tokio::test]
async fn c27_thousands_of_one_stamp_end_and_all_arrive() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("revel");
    let polled = &mut body["configuration"]["event.poller.configuration"];
    *polled = json!({"employees": polled["employees"]});
    world.create(body).await;
    world.tick().await;
    for _ in 0..2500 {
        world.sandbox.create("revel", "Employee", json!({})).expect("an employee");
    }
    world.advance(Duration::from_secs(120)).await;
    assert_eq!(world.events().len(), 2500);
    world.assert_ids_are_facts();
    world.tick().await;
    assert_eq!(world.events().len(), 2500);
}

#[tokio::test]
async fn a_page_cursor_that_dies_restarts_the_pass_from_the_watermark() {
    let (world, id, _) = square(20).await;
    let sandbox = world.sandbox.clone();
    for _ in 0..8 {
        sandbox.create("square", "timecards", json!({})).expect("a timecard");
    }
    let mut asked = 0;
    world.intercept(move |request| {
        asked += u32::from(request.uri().path().ends_with("/timecards/search"));
        if asked == 3 {
            sandbox.expire("square", Expire::Cursors).expect("they expire");
        }
        None
    });
    let report = world.poll(id, "timesheets", false).await;
    world.stop_intercepting();
    world.drain().await;
    assert_eq!((&report["outcome"], world.events().len()), (&json!("committed"), 8), "{report:#}");
}

#[tokio::test]
async fn a_long_listing_that_is_throttled_goes_on_where_it_stopped() {
    let (world, _, _) = square(0).await;
    for _ in 0..60 {
        world.sandbox.create("square", "timecards", json!({})).expect("a timecard");
    }
    let faults = Faults { rate_limit_every: Some(9), retry_after: Some(30), ..Faults::default() };
    world.sandbox.set_faults("square", faults).expect("faults");
    world.advance(Duration::from_secs(1800)).await;
    assert_eq!(world.events().len(), 60, "thirty pages, and one call in nine is refused");
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn a_hundred_thousand_records_take_small_items_and_few_writes() {
    let figures = tests::long::poll_account(100_000).await;
    assert!(figures.index_bytes_per_thousand < 45_000, "{figures}");
    assert!(figures.index_write_units <= 6, "{figures}");
}

#[test]
fn a_large_account_is_listed_in_little_memory() {
    // In a process of its own: memory is counted for the whole of one, and here others work beside this test.
    let program = std::process::Command::new(env!("CARGO_BIN_EXE_long-listing")).arg("100000").output();
    let output = program.expect("the program runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text.split(", ").last().and_then(|last| last.split(' ').next()?.parse::<u64>().ok());
    assert!(peak.is_some_and(|megabytes| megabytes < 256), "{text}");
}

#[tokio::test]
async fn a_record_says_why_it_did_or_did_not_become_an_event() {
    let (world, id, cards) = square(1).await;
    let new = id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard"));
    world.tick().await;
    let why = async |record: &str| {
        let path = format!("/instances/{id}/resources/timesheets/records/{record}/why");
        let (status, reason) = world.call("GET", &path, None).await;
        assert_eq!(status, 200, "{reason:#}");
        reason
    };
    let existed = why(&cards[0]).await;
    assert_eq!((&existed["known"][0]["rule"], &existed["notifications"]), (&json!("baseline"), &json!([])));
    assert_eq!(existed["known"][0]["stamp"], "2026-01-05T09:00:00Z", "{existed:#}");
    let reason = why(&new).await;
    assert_eq!(reason["known"][0]["rule"], "createdWithinTolerance", "{reason:#}");
    assert_eq!(reason["notifications"][0]["status"], "delivered", "{reason:#}");
    assert_eq!(reason["notifications"][0]["attempts"][0]["status"], 200, "{reason:#}");
    let never = why("nobody").await;
    assert!(never["answer"].as_str().is_some_and(|answer| answer.starts_with("Never seen")), "{never:#}");
    let (status, _) = world.call("GET", &format!("/instances/{id}/resources/timesheet/records/x/why"), None).await;
    assert_eq!(status, 400);
}
