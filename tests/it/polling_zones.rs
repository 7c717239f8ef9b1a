//! Time zones and formats: timestamps are compared as instants, whatever their format and the zone of the host.

use std::time::Duration;

use local::sandbox::Faults;
use serde_json::{Value, json};
use tests::harness::{SystemHarness, id_of, seed};

fn revel() -> Value {
    let mut body = seed("revel");
    body["configuration"]["event.poller.configuration"]["timesheets"] = Value::Null;
    let polled = body["configuration"]["event.poller.configuration"].as_object_mut().expect("an object");
    polled.remove("timesheets");
    body
}

/// Makes an employee a minute, each polled on its own, and says what was emitted.
async fn a_minute_each(world: &SystemHarness, minutes: usize) -> Vec<String> {
    let mut wanted = Vec::new();
    for _ in 0..minutes {
        let made = world.sandbox.create("revel", "Employee", json!({"first_name": "Ada"})).expect("an employee");
        wanted.push(format!("CREATED employees {} #1", id_of(&made)));
        world.tick().await;
    }
    world.tick().await;
    wanted
}

#[tokio::test]
async fn c17_a_zone_less_filter_in_the_accounts_zone_misses_nothing_around_midnight() {
    for around in ["2026-01-05T23:55:00Z", "2026-01-06T07:55:00Z"] {
        let world = SystemHarness::new(around).await;
        world.create(revel()).await;
        assert_eq!(a_minute_each(&world, 10).await, world.events());
    }
}

#[tokio::test]
async fn c16_clocks_that_change_in_spring_and_autumn_lose_and_repeat_nothing() {
    for around in ["2026-03-08T09:50:00Z", "2026-11-01T08:20:00Z"] {
        let world = SystemHarness::new(around).await;
        world.create(revel()).await;
        let wanted = a_minute_each(&world, 90).await;
        let mut emitted = world.events();
        emitted.sort();
        let mut wanted = wanted;
        wanted.sort();
        assert_eq!(emitted, wanted);
        world.assert_ids_are_facts();
    }
}

#[test]
fn c18_the_zone_of_the_host_makes_no_difference() {
    let this = std::env::current_exe().expect("a test runs from a file");
    for zone in ["Asia/Tokyo", "America/Los_Angeles"] {
        let story = "polling_zones::c17_a_zone_less_filter_in_the_accounts_zone_misses_nothing_around_midnight";
        let ran = std::process::Command::new(&this).args(["--exact", story]).env("TZ", zone).output().expect("it runs");
        let said = String::from_utf8_lossy(&ran.stdout);
        assert!(ran.status.success() && said.contains("1 passed"), "{zone}: {said}");
    }
}

#[tokio::test]
async fn c19_stamps_with_different_offsets_are_compared_as_instants() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let written = |text: &str| json!({"created_at": text, "updated_at": text});
    world.sandbox.create("square", "timecards", written("2026-01-05T15:58:00+07:00")).expect("a timecard");
    world.create(seed("square")).await;
    world.tick().await;
    let mut wanted = Vec::new();
    for text in ["2026-01-05T09:01:10Z", "2026-01-05T16:02:10+07:00", "2026-01-05T01:03:10-08:00"] {
        let made = world.sandbox.create("square", "timecards", written(text)).expect("a timecard");
        wanted.push(format!("CREATED timesheets {} #1", id_of(&made)));
        world.tick().await;
    }
    world.tick().await;
    assert_eq!(world.events(), wanted);
}

#[tokio::test]
async fn c20_a_stamp_without_a_zone_among_others_crashes_nothing_and_digits_survive() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let instance = world.create(seed("square")).await;
    world.tick().await;
    let odd = json!({"created_at": "2026-01-05T09:01:10", "updated_at": "2026-01-05T09:01:10.123456"});
    world.sandbox.create("square", "timecards", odd).expect("a timecard");
    let fine = json!({"created_at": "2026-01-05T09:01:10.123456Z", "updated_at": "2026-01-05T09:01:10.123456Z"});
    let fine = id_of(&world.sandbox.create("square", "timecards", fine).expect("a timecard"));
    let report = world.poll(instance, "timesheets", false).await;
    world.drain().await;
    assert_eq!(report["outcome"], "committed", "{report:#}");
    assert!(world.events().contains(&format!("CREATED timesheets {fine} #1")), "{:?}", world.events());
    let bodies: Vec<String> = world.callbacks().iter().map(|it| it.json().to_string()).collect();
    assert!(bodies.concat().contains("2026-01-05T09:01:10.123456Z"), "the record's own bytes travel");
    world.advance(Duration::from_secs(180)).await;
    assert!(world.events().iter().all(|line| line.ends_with("#1")), "{:?}", world.events());
}

#[tokio::test]
async fn c21_a_vendors_clock_that_runs_ahead_or_behind_moves_nothing() {
    for skew in [-3600, 3600] {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        world.sandbox.set_faults("square", Faults { clock_skew_s: skew, ..Faults::default() }).expect("faults");
        world.create(seed("square")).await;
        let mut wanted = Vec::new();
        for _ in 0..5 {
            let made = world.sandbox.create("square", "timecards", json!({})).expect("a timecard");
            wanted.push(format!("CREATED timesheets {} #1", id_of(&made)));
            world.tick().await;
        }
        assert_eq!(world.events(), wanted, "skew {skew}");
    }
}
