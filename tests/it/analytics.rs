//! Analytics and dispositions of events, the documents of an instance, and the change of a live instance: through the API
//! while the functions run.

use std::time::Duration;

use local::inbox::Behaviour;
use serde_json::{Value, json};
use tests::harness::{SystemHarness, seed};

const START: &str = "2026-01-05T09:00:00Z";

async fn get(world: &SystemHarness, path: &str) -> Value {
    let (status, answer) = world.call("GET", path, None).await;
    assert_eq!(status, 200, "GET {path}: {answer:#}");
    answer
}

async fn patch(world: &SystemHarness, id: u64, configuration: Value) -> Value {
    let body = json!({ "configuration": configuration });
    let (status, answer) = world.call("PATCH", &format!("/instances/{id}"), Some(body)).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

fn card(world: &SystemHarness) {
    let card = json!({ "employee_id": "E1", "clockin_time": START });
    world.sandbox.create("square", "timecards", card).expect("the sandbox takes it");
}

/// The Square seed, polled every minute.
fn every_minute() -> Value {
    let mut body = seed("square");
    body["configuration"]["event.poller.refresh_interval"] = json!("1");
    body
}

fn counts(answer: &Value) -> Vec<u64> {
    answer.as_array().expect("a list").iter().filter_map(|bucket| bucket["count"].as_u64()).collect()
}

#[tokio::test]
async fn events_are_counted_minute_by_minute_and_instance_by_instance() {
    let world = SystemHarness::new(START).await;
    let (one, other) = (world.create(every_minute()).await, world.create(every_minute()).await);
    world.tick().await;
    card(&world);
    card(&world);
    world.tick().await;
    let range = "from=2026-01-05T08:30:00Z&to=2026-01-05T09:30:00Z&interval=minute";
    let all = get(&world, &format!("/instances/events/analytics?{range}")).await;
    let emitted = counts(&all);
    assert_eq!((emitted.len(), emitted.iter().sum::<u64>()), (61, 4), "{all:#}");
    assert_eq!(all[0]["timestamp"], "2026-01-05T08:30:00Z");
    assert_eq!(emitted[32], 4, "they were emitted at 9:02");
    let of_one = get(&world, &format!("/instances/{one}/events/analytics?{range}")).await;
    assert_eq!(counts(&of_one).iter().sum::<u64>(), 2);
    let by_instance = get(&world, "/instances/events/analytics/instances?interval=hour&to=2026-01-05T09:59:00Z").await;
    let mut records = by_instance.as_array().expect("a list").last().expect("a bucket")["records"].clone();
    records.as_array_mut().expect("records").sort_by_key(|record| record["instanceId"].as_u64());
    let mut ids = [one, other];
    ids.sort_unstable();
    assert_eq!(records, json!(ids.map(|id| json!({ "instanceId": id, "count": 2, "success": 2, "failed": 0 }))));
    let account = world.organization.organization;
    let own = format!("/instances/events/analytics/accounts?interval=day&accountIds[]={account}");
    let by_account = get(&world, &own).await;
    let today = by_account.as_array().expect("a list").last().expect("a bucket");
    assert_eq!((&today["total"], &today["records"][0]["accountId"]), (&json!(4), &json!(account)));
    for (path, status) in [
        ("/instances/events/analytics?interval=second".to_owned(), 400),
        ("/instances/events/analytics?from=2026-01-05T09:00:00Z&to=2026-01-05T08:00:00Z".to_owned(), 400),
        ("/instances/events/analytics?from=2020-01-01T00:00:00Z".to_owned(), 400),
        (format!("/instances/events/analytics?accountIds[]={}", account.0 ^ 1), 403),
        ("/instances/events/analytics/accounts?accountIds[]=x".to_owned(), 400),
    ] {
        let (answered, body) = world.call("GET", &path, None).await;
        assert_eq!(answered.as_u16(), status, "{path}: {body}");
        assert!(body["requestId"].is_string() && body["message"].is_string());
    }
}

#[tokio::test]
async fn dispositions_describe_every_attempt_and_have_pages() {
    let world = SystemHarness::new(START).await;
    let id = world.create(every_minute()).await;
    world.tick().await;
    world.inbox.behave("main", Behaviour { fail_next: 1, ..Behaviour::default() });
    card(&world);
    world.tick().await;
    world.advance(Duration::from_secs(60)).await;
    card(&world);
    world.tick().await;
    let all = get(&world, "/instances/events/dispositions").await;
    let lines = |disposition: &Value| {
        let messages = disposition["notificationData"].as_array().expect("messages").iter();
        messages.map(|line| line["message"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    // The youngest first.
    assert_eq!(lines(&all[0]), ["Delivered event to http://pollux.test/inbox/main at attempt 1: 200"]);
    assert_eq!(
        lines(&all[1]),
        [
            "Error delivering event to http://pollux.test/inbox/main at attempt 1: 500",
            "Delivered event to http://pollux.test/inbox/main at attempt 2: 200",
        ]
    );
    assert_eq!((&all[0]["elementInstanceId"], all.as_array().map(Vec::len)), (&json!(id), Some(2)));
    let (_, headers, first) =
        world.call_through(None, "GET", &format!("/instances/{id}/events/dispositions?pageSize=1"), None).await;
    let next = headers["elements-next-page-token"].to_str().expect("text");
    let second = get(&world, &format!("/instances/{id}/events/dispositions?pageSize=1&nextPage={next}")).await;
    assert_eq!((&first[0], &second[0]), (&all[0], &all[1]));
    let before = get(&world, "/instances/events/dispositions?to=2026-01-05T09:01:30Z").await;
    assert_eq!(before, json!([]));
}

#[tokio::test]
async fn an_instance_has_a_document_of_what_can_be_read_through_it() {
    let world = SystemHarness::new(START).await;
    let id = world.create(seed("square")).await;
    let document = get(&world, &format!("/instances/{id}/docs")).await;
    assert_eq!((&document["swagger"], &document["info"]["x-element-key"]), (&json!("2.0"), &json!("square")));
    assert_eq!(document, get(&world, "/elements/8374/docs").await);
    let one = get(&world, &format!("/instances/{id}/docs?operationId=getTimesheetsById")).await;
    let paths: Vec<&String> = one["paths"].as_object().expect("paths").keys().collect();
    assert_eq!(paths, ["/hubs/employee/timesheets/{id}"]);
    let operation = get(&world, &format!("/instances/{id}/docs/getTimesheets")).await;
    assert_eq!(operation["path"], "/hubs/employee/timesheets");
    let shapes = get(&world, &format!("/instances/{id}/definitions")).await;
    assert!(shapes["Timesheets"]["properties"]["updated_at"].is_object(), "{shapes:#}");
    let (status, refusal) = world.call("GET", &format!("/instances/{id}/docs/getNothing"), None).await;
    assert!(status == 404 && refusal["message"].to_string().contains("getTimesheets"), "{refusal}");
}

#[tokio::test]
async fn undelivered_events_go_to_the_callback_that_there_is_now() {
    let world = SystemHarness::new(START).await;
    let id = world.create(every_minute()).await;
    world.tick().await;
    world.inbox.behave("main", Behaviour { status: 500, ..Behaviour::default() });
    card(&world);
    world.tick().await;
    patch(&world, id, json!({ "event.notification.callback.url": "http://pollux.test/inbox/moved" })).await;
    world.advance(Duration::from_secs(6 * 60)).await;
    let arrived = world.inbox.received("moved");
    assert_eq!(arrived.len(), 1, "what could not be delivered to the old callback is at the new one");
    let deliveries = get(&world, &format!("/instances/{id}/deliveries")).await;
    assert_eq!(deliveries[0]["status"], "delivered");
}

#[tokio::test]
async fn another_interval_moves_the_slot_and_keeps_the_cursors() {
    let world = SystemHarness::new(START).await;
    let mut body = every_minute();
    let timesheets = body["configuration"]["event.poller.configuration"]["timesheets"].clone();
    body["configuration"]["event.poller.configuration"] = json!({ "timesheets": timesheets, "employees": {} });
    let id = world.create(body).await;
    world.tick().await;
    card(&world);
    world.tick().await;
    let slots = || {
        let stored = world.stored();
        stored.into_keys().filter(|key| key.starts_with("SLOT#")).collect::<Vec<_>>()
    };
    let state = |resource: &str| {
        let stored = world.stored();
        let found = stored.into_iter().find(|(key, _)| key.contains(&format!("RES#{resource}")));
        found.expect("a state").1
    };
    assert_eq!(slots().iter().filter(|key| key.starts_with("SLOT#1#")).count(), 2, "{:?}", slots());
    let before = [state("timesheets"), state("employees")];
    assert!(before[0].to_string().contains("cursors"), "{}", before[0]);
    // How often, and how much at once: neither changes which records are read.
    let mut edited = timesheets.clone();
    edited["pageSize"] = json!(50);
    patch(
        &world,
        id,
        json!({
            "event.poller.refresh_interval": "20",
            "event.poller.configuration": { "timesheets": edited, "employees": {} },
        }),
    )
    .await;
    assert_eq!([state("timesheets"), state("employees")], before);
    assert_eq!(slots().len(), 2);
    assert!(slots().iter().all(|key| key.starts_with("SLOT#20#")), "{:?}", slots());
    // What changed meanwhile is emitted by the first poll at the new interval, once.
    let emitted = world.events().len();
    card(&world);
    world.advance(Duration::from_secs(20 * 60)).await;
    assert_eq!(world.events().len(), emitted + 1);
}
