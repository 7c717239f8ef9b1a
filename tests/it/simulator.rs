//! The simulator over many seeds, and a test of each bug that it found.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use flow::job::PollJob;
use flow::poll::{Mode, Outcome, poll};
use flow::testing::FixedAmbient;
use serde_json::json;
use tests::harness::{SystemHarness, answer, seed};
use tests::program::binary;
use tests::sim::{campaign, simulate};
use tests::soak::{SETTLED, Soaked};

/// The number of simulations: `POLLUX_WORLDS`, or as many as take about a minute and a half of two processors.
fn worlds() -> u64 {
    std::env::var("POLLUX_WORLDS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000)
}

#[test]
fn whatever_goes_wrong_nothing_is_lost_repeated_or_stuck() {
    let campaign = campaign(1, worlds());
    let failed: Vec<String> = campaign.failed.iter().map(ToString::to_string).collect();
    assert!(failed.is_empty(), "{}\n{}", failed.join("\n"), campaign.summary());
    assert!(campaign.counts.events > 5 * campaign.simulations, "little happened: {}", campaign.summary());
}

#[test]
fn the_same_seed_is_the_same_world_to_the_byte() {
    for seed in [7, 8, 9] {
        let (once, again) = (simulate(seed, true), simulate(seed, false));
        assert_eq!(once.hash, again.hash, "seed {seed}");
        assert!(again.trace.is_empty() && once.trace.len() > 100);
    }
    assert_ne!(simulate(7, false).hash, simulate(8, false).hash);
}

/// A page after the first one that is an error with status 200 would end the listing, and what it did not list would
/// lie below the cursor.
#[tokio::test]
async fn an_error_that_looks_like_an_empty_page_ends_no_listing() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    body["configuration"]["event.poller.configuration"]["timesheets"]["pageSize"] = json!(2);
    let instance = world.create(body).await;
    for _ in 0..4 {
        world.sandbox.create("square", "timecards", json!({})).expect("a record");
        world.ambient.advance(Duration::from_secs(1));
    }
    let mut pages = 0;
    world.intercept(move |request| {
        pages += u64::from(request.uri().path().ends_with("/search"));
        let error = json!({"errors": [{"category": "API_ERROR", "code": "INTERNAL_SERVER_ERROR"}]});
        (pages == 2).then(|| answer(200, &error))
    });
    let report = world.poll(instance, "timesheets", false).await;
    assert_eq!((&report["outcome"], &report["notifications"]), (&json!("failed"), &json!(0)), "{report:#}");
    // An hour later all of it is older than what an overlap reaches.
    world.stop_intercepting();
    world.skip(Duration::from_secs(3600)).await;
    assert_eq!(world.events().len(), 4, "{:?}", world.events());
}

/// A retry entry is filed by the clock of the machine that files it. If that is slow, the minute is over already.
#[tokio::test]
async fn what_a_machine_with_a_slow_clock_files_is_found() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("square");
    // No poll looks after its deliveries in time: they have entries.
    body["configuration"]["event.poller.refresh_interval"] = json!("60");
    let instance = world.create(body).await;
    world.advance(Duration::from_secs(300)).await;
    world.sandbox.create("square", "timecards", json!({})).expect("a record");
    let mut slow = world.service.clone();
    slow.ports.ambient = Arc::new(FixedAmbient::at("2026-01-05T09:02:00Z"));
    let organization = domain::id::OrganizationId(
        world.stored()[&format!("INST#{instance} META")]["organization"].as_u64().expect("a number"),
    );
    let job = PollJob {
        organization,
        instance: domain::id::InstanceId(instance),
        resource: "timesheets".into(),
        minute: slow.wheel.minute_of(world.service.ports.now()),
    };
    world.queue.refuse_next(1);
    let report = poll(&slow, &job, Mode::Now { sweep: false }, world.service.ports.now()).await.expect("a report");
    assert_eq!((report.outcome, report.created), (Outcome::Committed, 1));
    assert!(world.events().is_empty(), "nobody was emitted of the delivery");
    world.tick().await;
    assert_eq!(world.events().len(), 1);
}

/// The bugs that are planted by `cargo run -p tests --bin planted` are those of the code as it is.
#[test]
fn every_planted_bug_still_applies() {
    let planted = tests::planted::all().expect("patches");
    assert!(planted.len() >= 12, "{} are left", planted.len());
    for bug in planted {
        bug.applies().unwrap_or_else(|problem| panic!("{problem:#}"));
        let filter = bug.caught_by.last().expect("a filter").rsplit("::").find(|part| !part.is_empty());
        let filter = filter.expect("a filter names something");
        assert!(tests::reliability::names_a_test(filter), "{}: no test is called {filter}", bug.name);
    }
}

#[test]
fn every_test_on_the_reliability_page_exists() {
    let unknown = tests::reliability::unknown_tests().expect("the page");
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(!tests::reliability::names_a_test(&["nobody", "wrote", "this"].join("_")));
}

/// An hour at a time, a change in each: the store keeps deliveries for thirty days, so after these neither it nor the
/// process grows. In a process of its own, whose memory is nobody else's.
#[test]
fn after_weeks_store_and_memory_have_their_size_and_every_hour_its_poll() {
    let days = 2 * SETTLED;
    let output = Command::new(binary("soak")).args(["--days", &days.to_string()]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let soaked: Soaked = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(soaked.events, 24 * days as u64);
    let (items, memory) = (&soaked.items, &soaked.kilobytes);
    assert!(items[days - 1] <= items[SETTLED - 1], "items by day: {items:?}");
    // A tenth is what an allocator may scatter; what is kept of each of 800 polls would be more.
    let (settled, end) = (memory[SETTLED - 1], memory[days - 1]);
    assert!(end <= settled + settled / 10, "kilobytes by day: {memory:?}");
    let figures = json!({
        "cases": days, "failed": 0, "events": soaked.events, "itemsAfter33Days": items[SETTLED - 1],
        "itemsAfter66Days": items[days - 1], "kbAfter33Days": settled, "kbAfter66Days": end
    });
    tests::reliability::record("soak", &figures);
}
