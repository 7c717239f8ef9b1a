//! Tables of earlier releases, served by this release. `upgrade/` holds one table for each release, written by that
//! release with `cargo run -p tests --bin upgrade-fixture`. A new release adds its own and keeps the others.

use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tests::upgrade;

#[tokio::test]
async fn every_earlier_table_is_listed_polled_and_delivered() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/upgrade");
    let mut releases = 0;
    for file in std::fs::read_dir(folder).expect("the tables of earlier releases") {
        serve(&std::fs::read_to_string(file.expect("a file").path()).expect("a table")).await;
        releases += 1;
    }
    assert!(releases > 0);
}

async fn serve(table: &str) {
    let (world, story) = upgrade::read(table).await;
    let (status, listed) = world.call("GET", "/instances", None).await;
    assert_eq!((status, &listed[0]["id"]), (StatusCode::OK, &json!(story.instance)), "{}: {listed}", story.release);
    let (status, shown) = world.call("GET", &format!("/instances/{}", story.instance), None).await;
    assert_eq!((status, &shown["element"]["key"]), (StatusCode::OK, &json!("square")), "{shown}");

    // The delivery that did not arrive does, the same to the byte, and nothing is emitted twice.
    world.inbox.behave("main", local::inbox::Behaviour { status: 200, ..Default::default() });
    world.advance(Duration::from_secs(3600)).await;
    let received = world.inbox.received("main");
    let [delivered] = &received[..] else { panic!("{}: {} callbacks arrived", story.release, received.len()) };
    assert_eq!(delivered.delivery_id.as_ref(), Some(&story.delivery));
    assert_eq!(delivered.raw, story.body);
    assert_eq!(delivered.headers["webhook-id"], story.delivery);

    // Records that were emitted before are known: its next change is its next revision.
    world.sandbox.update("square", "timecards", &story.emitted, json!({"status": "CLOSED"})).expect("the timecard");
    world.tick().await;
    let received = world.inbox.received("main");
    let event = received.last().expect("a callback").json()["message"]["events"][0].clone();
    assert_eq!((&event["eventType"], &event["objectId"]), (&json!("UPDATED"), &json!(story.emitted)), "{event}");
    assert_eq!(event["sequence"], story.sequence + 1);
}
