//! Random histories: edits, late indexes, page sizes, crashes, messages that are delivered twice or in another order. A
//! consumer of every event has the vendor's state in the end, and no id names two facts.

use std::collections::BTreeMap;
use std::time::Duration;

use flow::ports::{Queue, QueueName};
use flow::testing::Fault;
use local::sandbox::Faults;
use proptest::prelude::*;
use proptest::test_runner::Config;
use serde_json::{Value, json};
use tests::harness::{SystemHarness, id_of, seed};

/// One step of a history.
#[derive(Debug, Clone)]
enum Step {
    Create,
    Update(usize),
    /// An edit that changes no timestamp and no version.
    Silent(usize),
    Delete(usize),
    /// Records are indexed this late from here on.
    Lag(u32),
    Wait(u16),
    /// The store fails at one of the next transactions.
    Crash(u64, bool),
    /// The messages in the queue are delivered twice, the last one first.
    Shuffle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Create),
        4 => any::<usize>().prop_map(Step::Update),
        1 => any::<usize>().prop_map(Step::Silent),
        2 => any::<usize>().prop_map(Step::Delete),
        1 => (0u32..400).prop_map(Step::Lag),
        5 => (1u16..200).prop_map(Step::Wait),
        1 => (0u64..6, any::<bool>()).prop_map(|(at, lost)| Step::Crash(at, lost)),
        1 => Just(Step::Shuffle),
    ]
}

/// A resource that the history changes.
#[derive(Debug, Clone, Copy)]
struct Subject {
    element: &'static str,
    collection: &'static str,
    resource: &'static str,
    /// Member that edits change.
    member: &'static str,
    /// An edit that changes no timestamp is found by comparing contents.
    silent_edits_show: bool,
}

const SUBJECTS: [Subject; 4] = [
    Subject {
        element: "square",
        collection: "timecards",
        resource: "timesheets",
        member: "team_member_id",
        silent_edits_show: false,
    },
    Subject {
        element: "googlesuite",
        collection: "events",
        resource: "calendars/primary/changed-events",
        member: "summary",
        silent_edits_show: false,
    },
    Subject {
        element: "revel",
        collection: "TimeSheetEntry",
        resource: "timesheets",
        member: "role_name",
        silent_edits_show: true,
    },
    Subject {
        element: "icontact",
        collection: "contacts",
        resource: "contacts",
        member: "firstName",
        silent_edits_show: true,
    },
];

async fn live(world: &SystemHarness, subject: Subject) -> BTreeMap<String, Value> {
    let id = if subject.element == "icontact" { "contactId" } else { "id" };
    let records = world.sandbox.list(subject.element, subject.collection).expect("the collection is there");
    records.into_iter().map(|record| (id_of(&record[id]), record[subject.member].clone())).collect()
}

/// The state of a consumer that kept every event, in any order: the event with the highest sequence counts.
fn rebuilt(world: &SystemHarness, subject: Subject, mut state: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut newest: BTreeMap<String, u64> = BTreeMap::new();
    for callback in world.callbacks() {
        let body = callback.json();
        for event in body["message"]["events"].as_array().into_iter().flatten() {
            let id = event["objectId"].as_str().expect("ids are texts").to_owned();
            let sequence = event["sequence"].as_u64().expect("sequences are numbers");
            if newest.get(&id).is_some_and(|known| *known >= sequence) {
                continue;
            }
            newest.insert(id.clone(), sequence);
            match event["eventType"].as_str() {
                Some("DELETED") => state.remove(&id),
                _ => state.insert(id, raw_of(&body, event)[subject.member].clone()),
            };
        }
    }
    state
}

/// The record that an event carries.
fn raw_of<'a>(body: &'a Value, event: &Value) -> &'a Value {
    let id = &event["objectId"];
    let raws = body["message"]["raw"].as_object().into_iter().flat_map(|raw| raw.values());
    let mut records = raws.flat_map(|value| value.as_array().into_iter().flatten());
    let same = |record: &&Value| ["id", "contactId"].iter().any(|name| id_of(&record[*name]) == id_of(id));
    records.find(same).unwrap_or_else(|| panic!("no record of {id} in {body:#}"))
}

async fn check_history(subject: Subject, page_size: u32, steps: Vec<Step>) {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    for _ in 0..4 {
        world.sandbox.create(subject.element, subject.collection, json!({})).expect("a record");
    }
    let baseline = live(&world, subject).await;
    let mut body = seed(subject.element);
    let polled = &mut body["configuration"]["event.poller.configuration"];
    let mut resource = polled.get(subject.resource).filter(|it| it.is_object()).cloned().unwrap_or_else(|| json!({}));
    resource["pageSize"] = json!(page_size);
    *polled = json!({ subject.resource: resource });
    let instance = world.create(body).await;
    world.tick().await;
    world.expect_failures(true);
    let (mut ids, mut edits): (Vec<String>, u32) = (baseline.keys().cloned().collect(), 0);
    for step in steps {
        edits += 1;
        let value = json!({ subject.member: format!("edit {edits}") });
        let (vendor, collection) = (subject.element, subject.collection);
        match step {
            Step::Create => {
                let record = world.sandbox.create(vendor, collection, value).expect("a record");
                ids.push(id_of(if vendor == "icontact" { &record["contactId"] } else { &record["id"] }));
            }
            Step::Update(which) if !ids.is_empty() => {
                world.sandbox.update(vendor, collection, &ids[which % ids.len()], value).expect("a record");
            }
            Step::Silent(which) if !ids.is_empty() && subject.silent_edits_show => {
                world.sandbox.edit_silently(vendor, collection, &ids[which % ids.len()], value).expect("a record");
            }
            Step::Delete(which) if !ids.is_empty() => {
                let id = ids.swap_remove(which % ids.len());
                world.sandbox.delete(vendor, collection, &id).expect("a record");
            }
            Step::Lag(seconds) => {
                let faults = Faults { late_indexing: Some((0, seconds)), ..Faults::default() };
                world.sandbox.set_faults(vendor, faults).expect("faults");
            }
            Step::Wait(seconds) => world.advance(Duration::from_secs(seconds.into())).await,
            Step::Crash(at, lost) => {
                let fault = if lost { Fault::AnswerLost } else { Fault::NotWritten };
                world.store.plan_faults(move |number| (number == at).then_some(fault));
            }
            Step::Shuffle => {
                world.ambient.advance(Duration::from_secs(60));
                world.dispatch().await;
                for queue in [QueueName::Polls, QueueName::Deliveries] {
                    let mut messages = world.queue.take(queue, 100);
                    messages.reverse();
                    world.queue.send(queue, [messages.clone(), messages].concat()).await;
                }
                world.drain().await;
            }
            _ => {}
        }
    }
    world.store.plan_faults(|_| None);
    world.expect_failures(false);
    // Everything is indexed, everything that failed is over, and a complete listing has the last word.
    world.advance(Duration::from_secs(1800)).await;
    world.poll(instance, subject.resource, true).await;
    world.advance(Duration::from_secs(900)).await;
    assert_eq!(rebuilt(&world, subject, baseline), live(&world, subject).await);
    world.assert_ids_are_facts();
    assert_no_fact_twice(&world);
}

/// The same version of a record under two ids would be one change subject twice.
fn assert_no_fact_twice(world: &SystemHarness) {
    let mut last: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for callback in world.inbox.received("main") {
        let body = callback.json();
        for event in body["message"]["events"].as_array().into_iter().flatten() {
            let kind = event["eventType"].as_str().unwrap_or_default();
            let content = if kind == "DELETED" { String::new() } else { raw_of(&body, event).to_string() };
            let object = event["objectId"].to_string();
            let sequence = event["sequence"].as_u64().unwrap_or_default();
            match last.get(&object) {
                Some((known, emitted)) if sequence == known + 1 && kind == "UPDATED" => {
                    assert_ne!(emitted, &content, "emitted again though nothing changed");
                }
                _ => {}
            }
            last.insert(object, (sequence, content));
        }
    }
}

/// The number of histories: `PROPTEST_CASES`, or a few seconds of work.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, ..Config::default() })]

    #[test]
    fn whatever_happens_the_consumer_can_rebuild_the_vendors_state(
        which in 0..SUBJECTS.len(),
        page_size in 1u32..12,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(check_history(SUBJECTS[which], page_size, steps));
    }
}
