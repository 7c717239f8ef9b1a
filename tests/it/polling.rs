//! Polling: the real functions against the sandbox vendors, with a clock that moves only when a test moves it.

use std::time::Duration;

use domain::id::InstanceId;
use flow::poll::state::ResourceRecord;
use local::sandbox::Faults;
use serde_json::json;
use store::ambient::Ambient;
use store::port::Store;
use tests::harness::{SystemHarness, seed};

/// Ids of the records that one create or list call shows.
fn id_of(record: &serde_json::Value) -> String {
    record["id"].as_str().map(str::to_owned).unwrap_or_else(|| record["id"].to_string())
}

#[tokio::test]
async fn a_timecard_is_created_changed_and_deleted() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.sandbox.create("square", "timecards", json!({"team_member_id": "TM0"})).expect("a timecard");
    world.create(seed("square")).await;
    world.tick().await;
    assert_eq!(world.events(), [] as [&str; 0], "what existed before is the baseline");

    let card =
        id_of(&world.sandbox.create("square", "timecards", json!({"team_member_id": "TM1"})).expect("a timecard"));
    world.tick().await;
    world.sandbox.update("square", "timecards", &card, json!({"status": "CLOSED"})).expect("the timecard");
    world.tick().await;
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {card} #1"), format!("UPDATED timesheets {card} #2")]);

    world.sandbox.delete("square", "timecards", &card).expect("the timecard");
    world.skip(Duration::from_secs(25 * 3600)).await;
    assert_eq!(world.events().last(), Some(&format!("DELETED timesheets {card} #3")), "found by the daily sweep");
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn a_report_counts_records_read_emitted_and_suppressed() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let card = || id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard"));
    let before: Vec<String> = (0..3).map(|_| card()).collect();
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    let instance = world.create(body).await;
    world.advance(Duration::from_secs(60)).await;
    let counts = async |sweep| {
        let report = world.poll(instance, "timesheets", sweep).await;
        ["pages", "records", "created", "updated", "deleted", "suppressed"]
            .map(|name| report[name].as_u64().unwrap_or(0))
    };
    (0..2).for_each(|_| drop(card()));
    assert_eq!(counts(false).await, [3, 5, 2, 0, 0, 3]);
    assert_eq!(counts(false).await, [3, 5, 0, 0, 0, 5]);
    world.sandbox.update("square", "timecards", &before[0], json!({"status": "CLOSED"})).expect("the timecard");
    assert_eq!(counts(false).await, [3, 5, 0, 1, 0, 4]);
    world.sandbox.delete("square", "timecards", &before[1]).expect("the timecard");
    assert_eq!(counts(true).await, [2, 4, 0, 0, 1, 4]);
    world.drain().await;
}

#[tokio::test]
async fn an_idle_poll_reads_and_writes_next_to_nothing() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    for n in 0..20 {
        world.sandbox.create("square", "timecards", json!({"team_member_id": format!("TM{n}")})).expect("a timecard");
    }
    world.create(seed("square")).await;
    world.tick().await;
    world.store.forget_operations();
    world.tick().await;
    let idle = world.store.operations();
    insta::assert_debug_snapshot!("operations_of_a_minute_with_one_idle_poll", idle);

    world.sandbox.create("square", "timecards", json!({"team_member_id": "TM"})).expect("a timecard");
    world.store.forget_operations();
    world.tick().await;
    insta::assert_debug_snapshot!("operations_of_a_minute_with_one_changed_record", world.store.operations());
    assert_eq!(world.events().len(), 1);
}

#[tokio::test]
async fn a_change_between_the_answer_and_the_first_scheduled_poll_is_an_event() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.create(seed("square")).await;
    let card = id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard"));
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {card} #1")]);
}

#[tokio::test]
async fn a_late_index_costs_reads_and_no_events() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.create(seed("square")).await;
    let faults = Faults { seed: 3, late_indexing: Some((0, 600)), ..Faults::default() };
    world.sandbox.set_faults("square", faults).expect("square has faults");
    let mut cards = Vec::new();
    for _ in 0..40 {
        cards.push(id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard")));
        world.tick().await;
    }
    world.advance(Duration::from_secs(900)).await;
    let mut emitted = world.events();
    emitted.sort();
    let mut wanted: Vec<_> = cards.iter().map(|card| format!("CREATED timesheets {card} #1")).collect();
    wanted.sort();
    assert_eq!(emitted, wanted);
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn a_vendor_that_fails_moves_nothing_and_is_not_hammered() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    world.tick().await;
    let faults = Faults { seed: 1, status_5xx_every: Some(1), ..Faults::default() };
    world.sandbox.set_faults("square", faults).expect("square has faults");
    let card = id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard"));
    let before = world.sandbox.request_count("square").expect("counted");
    world.advance(Duration::from_secs(3600)).await;
    let asked = world.sandbox.request_count("square").expect("counted") - before;
    assert!((3..=12).contains(&asked), "{asked} requests in an hour of outage");
    assert_eq!(world.events(), [] as [&str; 0]);

    world.sandbox.set_faults("square", Faults::default()).expect("square has faults");
    let report = world.poll(id, "timesheets", false).await;
    assert_eq!(report["created"], 1, "{report:#}");
    world.drain().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {card} #1")]);
}

#[tokio::test]
async fn a_burst_over_many_pages_arrives_once_and_in_notifications_of_ten() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.create(seed("square")).await;
    world.tick().await;
    for n in 0..450 {
        world.sandbox.create("square", "timecards", json!({"team_member_id": format!("TM{n}")})).expect("a timecard");
    }
    world.tick().await;
    assert_eq!(world.events().len(), 450);
    assert_eq!(world.callbacks().len(), 45);
    world.tick().await;
    assert_eq!(world.events().len(), 450);
    world.assert_ids_are_facts();
}

#[tokio::test]
async fn a_record_from_the_future_does_not_hide_what_changes_today() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.create(seed("square")).await;
    let odd = json!({"updated_at": "2099-01-01T00:00:00Z", "created_at": "2099-01-01T00:00:00Z"});
    let odd = id_of(&world.sandbox.create("square", "timecards", odd).expect("a timecard"));
    world.tick().await;
    let card = id_of(&world.sandbox.create("square", "timecards", json!({})).expect("a timecard"));
    world.tick().await;
    world.tick().await;
    assert_eq!(world.events(), [format!("CREATED timesheets {odd} #1"), format!("CREATED timesheets {card} #1")]);
}

#[tokio::test]
async fn a_poll_that_takes_long_keeps_the_scheduled_ones_away_but_not_for_ever() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    world.tick().await;
    let key = store::keys::resource_key(InstanceId(id), "timesheets");
    let item = world.store.get(&key).await.expect("a store in memory").expect("the state");
    let mut state: ResourceRecord = store::codec::read(&item).expect("a state");
    state.leased_until = Some(world.ambient.now() + chrono::TimeDelta::seconds(90));
    world.store.transact(&[store::codec::replace(key, item.version, &state)]).await.expect("nobody else writes");

    let asked = world.sandbox.request_count("square").expect("counted");
    world.tick().await;
    assert_eq!(world.sandbox.request_count("square").expect("counted"), asked, "somebody else is at it");
    world.tick().await;
    assert!(world.sandbox.request_count("square").expect("counted") > asked, "who died is not waited for");
}

#[test]
fn every_test_in_the_table_of_cases_exists() {
    let sources = [
        ("polling", include_str!("polling.rs")),
        ("polling_auth", include_str!("polling_auth.rs")),
        ("polling_edges", include_str!("polling_edges.rs")),
        ("polling_histories", include_str!("polling_histories.rs")),
        ("polling_overlap", include_str!("polling_overlap.rs")),
        ("polling_pages", include_str!("polling_pages.rs")),
        ("polling_zones", include_str!("polling_zones.rs")),
    ];
    let mut named = 0;
    for line in include_str!("../../docs/cases.md").lines().filter(|line| line.starts_with("| ")) {
        let Some((module, test)) = line.split('`').nth(1).and_then(|name| name.split_once("::")) else { continue };
        let source = sources.iter().find(|(name, _)| *name == module).unwrap_or_else(|| panic!("no file {module}"));
        assert!(source.1.contains(&format!("fn {test}(")), "{module} has no {test}");
        named += 1;
    }
    assert!(named > 40, "{named} tests are named");
}
