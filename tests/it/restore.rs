//! A table restored from a point in time: nothing is sent twice, no id names another fact, and later changes arrive.

use std::time::Duration;

use flow::restore::restore;
use flow::testing::MemoryStore;
use local::inbox::Behaviour;
use serde_json::json;
use store::ambient::Ambient;
use store::port::{Condition, Item, Store, Write};
use tests::harness::{SystemHarness, id_of, seed};

/// The table as it is: what a backup holds.
fn backup(store: &MemoryStore) -> Vec<Item> {
    store.items()
}

/// The table becomes what the backup holds, and nothing else.
async fn bring_back(store: &MemoryStore, backup: &[Item]) {
    let gone =
        store.items().into_iter().map(|item| Write::Delete { key: item.key, condition: Condition::Unconditional });
    let back = backup.iter().map(|item| Write::Put { item: item.clone(), condition: Condition::Unconditional });
    for outcome in store.write_each(&gone.collect::<Vec<_>>()).await {
        outcome.expect("removed");
    }
    for outcome in store.write_each(&back.collect::<Vec<_>>()).await {
        outcome.expect("written");
    }
}

/// The sequence of every event of a record that was accepted, in order of arrival.
fn sequences(world: &SystemHarness, record: &str) -> Vec<u64> {
    let bodies = world.callbacks().into_iter().map(|callback| callback.json());
    let events = bodies.flat_map(|body| body["message"]["events"].as_array().cloned().unwrap_or_default());
    events.filter(|event| event["objectId"] == record).filter_map(|event| event["sequence"].as_u64()).collect()
}

#[tokio::test]
async fn a_restored_table_sends_no_flood_and_emits_what_changes_from_then_on() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let id = world.create(seed("square")).await;
    let card = async |n: u32| {
        let made = world.sandbox.create("square", "timecards", json!({"team_member_id": format!("TM{n}")}));
        world.tick().await;
        id_of(&made.expect("a timecard"))
    };
    let first = card(0).await;
    // While the callback is down, deliveries wait; that is when the backup is taken.
    world.inbox.behave("main", Behaviour { status: 503, ..Behaviour::default() });
    for n in 1..4 {
        card(n).await;
    }
    let backup = backup(&world.store);
    world.inbox.behave("main", Behaviour { status: 200, ..Behaviour::default() });
    world.advance(Duration::from_secs(3600)).await;
    for status in ["CLOSED", "OPEN"] {
        world.sandbox.update("square", "timecards", &first, json!({"status": status})).expect("the timecard");
        world.tick().await;
    }
    let emitted = world.inbox.received("main").len();
    let emitted_of_first = sequences(&world, &first);
    assert_eq!(emitted_of_first.len(), 3);

    // The table is lost, and comes back as it was an hour before.
    let lost = world.ambient.now();
    bring_back(&world.store, &backup).await;
    let restored = restore(&world.service.ports, lost).await.expect("restored");
    assert_eq!((restored.instances, restored.resources), (1, 1));
    assert!(restored.deliveries >= 3, "{restored:?}");
    assert_eq!(restore(&world.service.ports, lost).await.expect("again").deliveries, 0);
    world.advance(Duration::from_secs(3 * 24 * 3600)).await;
    assert_eq!(world.inbox.received("main").len(), emitted, "something was sent again");

    // What changes from then on arrives, with a sequence above all that were emitted.
    world.sandbox.update("square", "timecards", &first, json!({"status": "CLOSED"})).expect("the timecard");
    world.tick().await;
    let after = sequences(&world, &first);
    assert_eq!(after.len(), 4);
    assert!(after[3] > *emitted_of_first.iter().max().expect("three"), "{after:?}");

    // What was set aside is there for a person to send, under the ids it always had.
    let (_, listed) = world.call("GET", &format!("/instances/{id}/deliveries?status=queued"), None).await;
    assert!(listed.as_array().is_some_and(|rows| rows.len() >= 3), "{listed:#}");
}

#[tokio::test]
async fn a_change_while_the_table_is_away_is_emitted_when_it_is_back() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    world.create(seed("square")).await;
    world.tick().await;
    let backup = backup(&world.store);
    world.tick().await;
    let lost = world.ambient.now();
    world.ambient.set("2026-01-05T09:30:00Z");
    let made = world.sandbox.create("square", "timecards", json!({"team_member_id": "TM"})).expect("a timecard");
    bring_back(&world.store, &backup).await;
    restore(&world.service.ports, lost).await.expect("restored");
    world.advance(Duration::from_secs(600)).await;
    let events = world.events();
    assert!(events.len() == 1 && events[0].starts_with(&format!("CREATED timesheets {}", id_of(&made))), "{events:?}");
}
