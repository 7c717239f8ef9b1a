//! Deliveries from filing to their end, on a clock that the test moves: with receivers of every temper, crashes at
//! every write, and lost messages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::FailurePolicy;
use domain::record::Change;
use domain::retry_minute::RetryMinute;
use domain::retry_schedule::STEPS;
use domain::secret::Secret;
use domain::signature::{elements_signature, standard_webhooks};
use futures::FutureExt;
use http::{Request, Response};

use super::query::{self, Filter, Found};
use super::redeliver;
use super::row::Status;
use super::{CallbackLimits, DeliveryReport, Outcome, callback_view, deliver, due, release_backlog, resume};
use crate::job::{DeliveryJob, Queued};
use crate::outbox::tests::{change, filed, filed_with, instance, now};
use crate::outbox::{ElementLabel, GRACE, Outbox, Outgoing, Safeguard};
use crate::ports::{Condition, HttpError, Message, Ports, Queue, QueueName, Store, Vault, Write};
use crate::table::{InstanceRecord, ListingRecord, instance_key, listing_key, put};
use crate::testing::{Fault, TestPorts, TransparentVault};

mod newest;
mod races;
mod reports;
mod restored;
mod retry_minutes;

const URL: &str = "https://a.example/hook";
const LABEL: ElementLabel<'static> = ElementLabel { key: "square", hub: "payment" };

type Temper = Box<dyn FnMut(&Request<Bytes>) -> Result<Response<Bytes>, HttpError> + Send>;

/// Owns clock, cloud and receivers.
struct World {
    test: TestPorts,
    ports: Ports,
    limits: CallbackLimits,
    temper: Arc<Mutex<Temper>>,
    hand: RetryMinute,
    reports: Vec<DeliveryReport>,
}

fn answer(status: u16) -> Result<Response<Bytes>, HttpError> {
    Ok(Response::builder().status(status).body(Bytes::from_static(b"so be it")).unwrap())
}

impl World {
    /// A world with one instance whose callback is [`URL`] and answers `status`.
    fn answering(status: u16) -> Self {
        let temper: Arc<Mutex<Temper>> = Arc::new(Mutex::new(Box::new(move |_| answer(status))));
        let of_receiver = temper.clone();
        let test = TestPorts::new("2026-01-05T09:00:00Z", move |request| (of_receiver.lock().unwrap())(&request));
        let ports = test.ports();
        let hand = RetryMinute::at(now());
        let world = Self { test, ports, limits: CallbackLimits::default(), temper, hand, reports: vec![] };
        world.store_instance(&instance(Some(URL)));
        world
    }

    fn store_instance(&self, instance: &InstanceRecord) {
        let listing = ListingRecord {
            id: instance.id,
            name: instance.name.clone(),
            tags: vec![],
            element: instance.element.clone(),
        };
        let key = listing_key(instance.organization, instance.id);
        self.write(&[
            put(instance_key(instance.id), 1, instance, Condition::Unconditional),
            put(key, 1, &listing, Condition::Unconditional),
        ]);
    }

    fn write(&self, writes: &[Write]) {
        self.test.store.transact(writes).now_or_never().unwrap().unwrap();
    }

    fn answers(&self, status: u16) {
        self.behaves(move |_| answer(status));
    }

    fn behaves(&self, temper: impl FnMut(&Request<Bytes>) -> Result<Response<Bytes>, HttpError> + Send + 'static) {
        *self.temper.lock().unwrap() = Box::new(temper);
    }

    /// Commits changes, and sends their jobs unless the poller is to die between the two.
    fn commit(&self, changes: &[Change], sends: bool) -> Vec<DeliveryJob> {
        let jobs = self.carry_out(filed(Some(URL), changes, self.ports.now()));
        if sends {
            self.send(&jobs);
        }
        jobs
    }

    /// Writes what was filed, a transaction each.
    fn carry_out(&self, filed: Vec<Outgoing>) -> Vec<DeliveryJob> {
        let write = |outgoing: Outgoing| {
            self.write(&outgoing.writes);
            outgoing.job
        };
        filed.into_iter().filter_map(write).collect()
    }

    fn send(&self, jobs: &[DeliveryJob]) {
        let messages = jobs.iter().map(|job| job.message(Duration::ZERO)).collect();
        self.test.queue.send(QueueName::Deliveries, messages).now_or_never().unwrap();
    }

    /// Handles every job that is due now, and those that these send at once. A failed one comes again after 2 minutes.
    async fn drain(&mut self) {
        for _ in 0..10_000 {
            let messages = self.test.queue.take(QueueName::Deliveries, 10);
            if messages.is_empty() {
                return;
            }
            for message in messages {
                let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
                match deliver(&self.ports, &self.limits, &job).await {
                    Ok(report) => self.reports.push(report),
                    Err(_) => {
                        let again = Message { delay: Duration::from_secs(120), ..message };
                        self.test.queue.send(QueueName::Deliveries, vec![again]).await;
                    }
                }
            }
        }
        panic!("the queue never empties: {:?}", &self.reports[self.reports.len() - 6..]);
    }

    /// Lets time pass in steps of a second while something is due soon, else to the next minute; dispatches each.
    async fn pass(&mut self, time: TimeDelta) {
        let end = self.ports.now() + time;
        loop {
            self.drain().await;
            let now = self.ports.now();
            if now >= end {
                return;
            }
            let next_minute = (self.hand + 1).start();
            let next_due = self.test.queue.next_due().unwrap_or(DateTime::<Utc>::MAX_UTC);
            let next = next_minute.min(next_due).min(end).max(now + TimeDelta::milliseconds(1));
            self.test.ambient.advance((next - now).to_std().unwrap());
            let minute = RetryMinute::at(self.ports.now());
            if minute > self.hand {
                // A dispatcher that dies asks for the same minutes again.
                while due(&self.ports, self.hand + 1..=minute).await.is_err() {}
                self.hand = minute;
            }
        }
    }

    fn requests(&self) -> Vec<Request<Bytes>> {
        self.test.http.requests().into_iter().map(|(request, _)| request).collect()
    }

    /// The object ids of each request, in order.
    fn received(&self) -> Vec<Vec<String>> {
        self.requests().iter().map(objects).collect()
    }

    async fn deliveries(&self) -> Vec<Found> {
        query::of_instance(&self.ports, instance(None).id, &Filter::default(), 10_000, None).await.unwrap().deliveries
    }

    async fn statuses(&self) -> BTreeMap<&'static str, usize> {
        let mut statuses = BTreeMap::new();
        for found in self.deliveries().await {
            *statuses.entry(found.row.status.word()).or_default() += 1;
        }
        statuses
    }

    fn items_under(&self, prefix: &str) -> usize {
        self.test.store.items().iter().filter(|item| item.key.pk.starts_with(prefix)).count()
    }

    /// Everything is settled: nothing is filed, in line, or remembered against the callback.
    fn assert_at_rest(&self) {
        assert_eq!((self.items_under("RETRY#"), self.items_under("CALLBACK#")), (0, 0));
    }
}

fn objects(request: &Request<Bytes>) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    let events = body["message"]["events"].as_array().unwrap();
    events.iter().map(|event| event["objectId"].as_str().unwrap().to_owned()).collect()
}

/// Object id and sequence of a notification of one event.
fn event_of(request: &Request<Bytes>) -> (String, u64) {
    let body: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    let event = &body["message"]["events"][0];
    (event["objectId"].as_str().unwrap().to_owned(), event["sequence"].as_u64().unwrap())
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

fn delivery_of(request: &Request<Bytes>) -> String {
    header(request, "webhook-id").to_owned()
}

#[tokio::test]
async fn a_delivery_arrives_signed_and_leaves_nothing_behind() {
    let mut world = World::answering(200);
    let secrets = serde_json::json!({
        "event.notification.signature.key": "new key",
        "event.notification.signature.key.previous": "old key",
        "event.notification.basic.username": "user",
        "event.notification.basic.password": "pass",
        "event.notification.callback.headers": "X-Route: blue\nUser-Agent: mine",
        "password": "of the vendor",
    });
    let sealed = TransparentVault.seal("INST#42", &Secret::new(secrets.to_string())).await.unwrap();
    world.store_instance(&InstanceRecord { secrets: sealed, ..instance(Some(URL)) });
    let jobs = world.commit(&[change("1", 1, "{}"), change("2", 1, "{}")], true);
    world.test.ambient.advance(Duration::from_secs(5));
    world.drain().await;

    let [request] = &world.requests()[..] else { panic!("one request") };
    let id = jobs[0].delivery.0.as_str();
    assert_eq!((request.uri().to_string().as_str(), request.method().as_str()), (URL, "POST"));
    let timestamp = now().timestamp() + 5;
    let keys = ["new key", "old key"].map(Secret::new);
    for (name, value) in [
        ("content-type", "application/json"),
        ("user-agent", concat!("pollux/", env!("CARGO_PKG_VERSION"))),
        ("x-route", "blue"),
        ("authorization", "Basic dXNlcjpwYXNz"),
        ("elements-webhook-id", id),
        ("webhook-id", id),
        ("webhook-timestamp", &timestamp.to_string()),
        ("elements-webhook-signature", &elements_signature(&keys[0], request.body())),
        ("webhook-signature", &standard_webhooks(&keys, id, timestamp, request.body())),
    ] {
        assert_eq!(header(request, name), value, "{name}");
    }
    world.assert_at_rest();
    let found = query::one(&world.ports, instance(None).id, &jobs[0].delivery).await.unwrap().unwrap();
    assert_eq!((found.row.status, found.row.attempts_made), (Status::Delivered, 1));
    assert_eq!((found.row.attempts[0].status, found.row.attempts[0].response.as_str()), (Some(200), "so be it"));
    assert_eq!(query::body(&world.ports, &found).await.unwrap(), request.body());

    // The same job once more does nothing.
    world.send(&jobs);
    world.drain().await;
    assert_eq!(world.reports.last().map(|report| &report.outcome), Some(&Outcome::AlreadySettled));
    assert_eq!(world.requests().len(), 1);
}

#[tokio::test]
async fn one_that_never_arrives_climbs_the_ladder_and_is_queued_until_asked_for() {
    let mut world = World::answering(500);
    world.commit(&[change("1", 1, "{}")], true);
    world.pass(TimeDelta::hours(100)).await;
    let found = &world.deliveries().await[0];
    assert_eq!((found.row.status, found.row.attempts_made), (Status::Queued, 10));
    let times: Vec<i64> = found.row.attempts.iter().map(|attempt| attempt.at.timestamp()).collect();
    for (gap, rung) in times.windows(2).map(|pair| pair[1] - pair[0]).zip(STEPS) {
        // A minute for the schedule, two more where a retry entry is only the safeguard.
        assert!((rung * 8 / 10..=rung * 12 / 10 + 60).contains(&gap), "{gap} s for the rung of {rung} s");
    }
    let ids: BTreeSet<String> = world.requests().iter().map(delivery_of).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.items_under("RETRY#"), 0);
    let view = callback_view(&world.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("disabled", 1));

    // What comes now waits with it.
    world.commit(&[change("2", 1, "{}")], true);
    world.pass(TimeDelta::hours(1)).await;
    assert_eq!(world.requests().len(), 10);
    assert_eq!(world.statuses().await, BTreeMap::from([("queued", 2)]));

    world.answers(204);
    let queued = Filter { statuses: vec![Status::Queued], url: Some(URL.into()), ..Filter::default() };
    let found =
        query::of_organization(&world.ports, instance(None).organization, &queued, None, 100, None).await.unwrap();
    assert_eq!(redeliver::redeliver(&world.ports, &found.deliveries).await.unwrap(), 2);
    world.pass(TimeDelta::minutes(1)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 2)]));
    assert_eq!(world.received()[10..], [["1"], ["2"]]);
    world.assert_at_rest();
}

#[tokio::test]
async fn a_crash_after_the_commit_is_repaired_by_the_dispatcher() {
    let mut world = World::answering(200);
    world.commit(&[change("1", 1, "{}")], false);
    world.pass(TimeDelta::minutes(1)).await;
    assert!(world.requests().is_empty());
    world.pass(TimeDelta::minutes(2)).await;
    assert_eq!(world.received(), [["1"]]);
    world.pass(TimeDelta::minutes(15)).await;
    world.assert_at_rest();
}

#[tokio::test]
async fn messages_that_are_never_taken_delay_but_lose_nothing() {
    let mut world = World::answering(503);
    world.commit(&[change("1", 1, "{}")], false);
    world.test.queue.refuse_next(3);
    world.pass(TimeDelta::hours(2)).await;
    world.answers(200);
    world.pass(TimeDelta::hours(8)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 1)]));
    world.assert_at_rest();
}

/// The dispatcher has moved the entry ahead, and whoever gets the job believes that its time has not come.
#[tokio::test]
async fn a_slow_clock_does_not_take_a_moved_entry_for_a_stale_one() {
    let mut world = World::answering(503);
    world.commit(&[change("1", 1, "{}")], true);
    world.drain().await;
    // The message of the second attempt is lost: it comes by its entry.
    world.test.ambient.set("2026-01-05T09:00:20Z");
    assert_eq!(world.test.queue.take(QueueName::Deliveries, 10).len(), 1);
    world.test.ambient.set("2026-01-05T09:04:00Z");
    world.hand = RetryMinute::at(world.ports.now());
    let minutes = world.hand - 4..=world.hand;
    assert_eq!(due(&world.ports, minutes).await.unwrap(), 1);
    let [message] = &world.test.queue.take(QueueName::Deliveries, 10)[..] else { panic!("one job") };
    let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
    world.test.ambient.set("2026-01-05T09:00:01Z");
    let report = deliver(&world.ports, &world.limits, &job).await.unwrap();
    assert_eq!(report.attempt, None, "{report:?}");
    world.test.ambient.set("2026-01-05T09:04:00Z");
    world.answers(200);
    world.pass(TimeDelta::minutes(15)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 1)]));
    world.assert_at_rest();
}

/// At every single transaction of a story with failures, a line and a drain, the process dies once: before the
/// write and after it. What arrives is the same set, each record's events in their order.
#[tokio::test]
async fn wherever_it_dies_every_event_arrives_and_none_overtakes_within_its_record() {
    for fault in [Fault::NotWritten, Fault::AnswerLost] {
        for deadly in 0..60 {
            let mut world = World::answering(500);
            for round in 1..=4u32 {
                for id in ["a", "b"] {
                    world.commit(&[change(id, round, "{}")], true);
                    world.test.ambient.advance(Duration::from_millis(7));
                }
            }
            world.test.store.plan_faults(move |number| (number == deadly).then_some(fault));
            world.pass(TimeDelta::minutes(4)).await;
            let while_down = world.requests().len();
            world.answers(200);
            world.pass(TimeDelta::hours(3)).await;
            assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 8)]), "{fault:?} {deadly}");
            let mut arrived = BTreeMap::<String, Vec<u64>>::new();
            for (id, sequence) in world.requests()[while_down..].iter().map(event_of) {
                let of_record = arrived.entry(id).or_default();
                // A repetition is no news.
                if !of_record.contains(&sequence) {
                    of_record.push(sequence);
                }
            }
            for (id, sequences) in arrived {
                assert_eq!(sequences, [1, 2, 3, 4], "{fault:?} {deadly} {id}");
            }
            world.assert_at_rest();
        }
    }
}

#[tokio::test]
async fn a_dead_callback_costs_a_few_requests_and_then_drains_in_order() {
    let mut world = World::answering(503);
    let total = 200u32;
    for n in 0..total {
        world.commit(&[change(&format!("{n:03}"), 1, "{}")], true);
        world.test.ambient.advance(Duration::from_millis(50));
    }
    world.pass(TimeDelta::hours(1)).await;
    let while_down = world.requests().len();
    assert!(while_down < 40, "{while_down} requests in an hour");
    let view = callback_view(&world.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!(view.status, "open");

    world.answers(200);
    world.pass(TimeDelta::minutes(20)).await;
    let arrived = &world.received()[while_down..];
    let from_line: Vec<&String> = arrived.iter().flatten().collect();
    assert!(from_line.len() > 180, "{} came out of the line", from_line.len());
    let first = from_line.iter().position(|id| *id > from_line[0]).unwrap_or(0);
    let in_order = from_line[first..].windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(in_order > 170, "{in_order} in order");
    // Those that had climbed the ladder before it opened come on their own rungs.
    world.pass(TimeDelta::hours(6)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", total as usize)]));
    world.assert_at_rest();
}

#[tokio::test]
async fn a_newer_event_of_a_record_does_not_overtake_one_that_failed() {
    let mut world = World::answering(200);
    let mut first = true;
    world.behaves(move |_| answer(if std::mem::take(&mut first) { 500 } else { 200 }));
    world.commit(&[change("x", 1, "{}")], true);
    world.drain().await;
    world.test.ambient.advance(Duration::from_secs(1));
    world.commit(&[change("x", 2, "{}")], true);
    world.commit(&[change("y", 1, "{}")], true);
    world.pass(TimeDelta::minutes(5)).await;
    let sequences: Vec<(String, u64)> = world.requests().iter().map(event_of).collect();
    assert_eq!(sequences, [("x".into(), 1), ("y".into(), 1), ("x".into(), 1), ("x".into(), 2)]);
    world.pass(TimeDelta::minutes(15)).await;
    world.assert_at_rest();
}

#[tokio::test]
async fn a_poisonous_delivery_does_not_hold_up_the_others() {
    let mut world = World::answering(200);
    world.behaves(|request| answer(if objects(request) == ["poison"] { 500 } else { 200 }));
    world.commit(&[change("poison", 1, "{}")], true);
    for n in 0..30 {
        world.pass(TimeDelta::hours(3)).await;
        world.commit(&[change(&n.to_string(), 1, "{}")], true);
        world.pass(TimeDelta::minutes(20)).await;
        assert_eq!(world.statuses().await.get("delivered"), Some(&(n + 1)));
    }
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 30), ("queued", 1)]));
    world.assert_at_rest();
}

fn wants_only_the_newest() -> InstanceRecord {
    let mut record = instance(Some(URL));
    record.callback.iter_mut().for_each(|callback| callback.coalesce = true);
    record
}

#[tokio::test]
async fn where_only_the_newest_is_wanted_the_older_that_wait_are_superseded() {
    let mut world = World::answering(503);
    world.store_instance(&wants_only_the_newest());
    for round in 1..=40u32 {
        // One record that changes all the time, one now and then, one beside the others, and one alone.
        world.commit(&[change("always", round, "{}")], true);
        world.test.ambient.advance(Duration::from_millis(3));
        if round % 10 == 1 {
            world.commit(&[change("always", 100 + round, "{}"), change("beside", round, "{}")], true);
            world.commit(&[change("seldom", round, "{}")], true);
        }
        world.pass(TimeDelta::minutes(5)).await;
    }
    world.commit(&[change("alone", 1, "{}")], true);
    world.pass(TimeDelta::minutes(5)).await;
    assert!(world.requests().len() < 60, "{} requests", world.requests().len());
    let waiting = world.statuses().await;
    assert!(waiting["superseded"] >= 40, "{waiting:?}");

    world.answers(200);
    let while_down = world.requests().len();
    world.pass(TimeDelta::minutes(40)).await;
    let statuses = world.statuses().await;
    assert_eq!(statuses.keys().copied().collect::<Vec<_>>(), ["delivered", "superseded"]);
    let arrived: Vec<(String, u64)> = world.requests()[while_down..].iter().map(event_of).collect();
    // The one that tells of two records is whole; of all others only the newest came.
    assert!(arrived.len() <= 5, "{arrived:?}");
    for newest in [("always", 40), ("always", 131), ("seldom", 31), ("alone", 1)] {
        assert!(arrived.contains(&(newest.0.to_owned(), newest.1)), "{newest:?} of {arrived:?}");
    }
    assert_eq!(world.items_under("RETRY#"), 0);
    let items = world.test.store.items().into_iter().map(|item| item.key);
    let left: Vec<String> = items.filter(|key| key.pk.starts_with("CALLBACK#")).map(|key| key.sk).collect();
    assert!(left.iter().all(|sk| sk.starts_with("NEWEST#")), "{left:?}");
}

/// The line drains while newcomers join it and make needless what is just about to come out.
#[tokio::test]
async fn what_is_superseded_while_the_line_drains_is_not_sent() {
    let mut world = World::answering(503);
    world.store_instance(&wants_only_the_newest());
    for n in 0..30 {
        world.commit(&[change(&format!("{n:02}"), 1, "{}")], true);
        world.test.ambient.advance(Duration::from_millis(1));
    }
    world.drain().await;
    // Each that arrives finds the line one shorter, and a newcomer at its end.
    let mut jobs: Vec<DeliveryJob> = Vec::new();
    for n in 0..30 {
        jobs.extend(world.commit(&[change(&format!("{n:02}"), 2, "{}")], false));
        world.test.ambient.advance(Duration::from_millis(1));
    }
    world.answers(200);
    resume(&world.ports, instance(None).organization, URL).await.unwrap();
    for job in jobs {
        world.send(&[job]);
        for message in world.test.queue.take(QueueName::Deliveries, 1) {
            let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
            world.reports.push(deliver(&world.ports, &world.limits, &job).await.unwrap());
        }
    }
    world.pass(TimeDelta::minutes(30)).await;
    let found = world.deliveries().await;
    let left = found.iter().filter(|one| !matches!(one.row.status, Status::Delivered | Status::Superseded)).count();
    let newest = found.iter().filter(|one| one.row.events[0].sequence == 2);
    assert_eq!((left, newest.filter(|one| one.row.status == Status::Delivered).count()), (0, 30));
    assert!(world.statuses().await["superseded"] > 0);
    assert_eq!(world.items_under("RETRY#"), 0);
}

/// Dying at every transaction: whatever is superseded has a newer one that arrived.
#[tokio::test]
async fn wherever_it_dies_the_newest_of_each_record_arrives() {
    for fault in [Fault::NotWritten, Fault::AnswerLost] {
        for deadly in 0..60 {
            let mut world = World::answering(500);
            world.store_instance(&wants_only_the_newest());
            // Commits are transactions, too; the plan is for those of deliveries.
            let committing = Arc::new(AtomicBool::new(false));
            let (seen, mut number) = (committing.clone(), 0);
            world.test.store.plan_faults(move |_| {
                number += u64::from(!seen.load(Ordering::SeqCst));
                (number == deadly + 1 && !seen.load(Ordering::SeqCst)).then_some(fault)
            });
            for round in 1..=8u32 {
                committing.store(true, Ordering::SeqCst);
                for id in ["a", "b"] {
                    world.commit(&[change(id, round, "{}")], true);
                    world.test.ambient.advance(Duration::from_millis(7));
                }
                committing.store(false, Ordering::SeqCst);
                world.pass(TimeDelta::minutes(3)).await;
            }
            world.answers(200);
            world.pass(TimeDelta::hours(3)).await;
            let found = world.deliveries().await;
            let newest = |id: &str| {
                let of_record = found.iter().filter(|one| one.row.events[0].object_id == id);
                of_record.max_by_key(|one| one.row.events[0].sequence).map(|one| one.row.status)
            };
            let arrived = Some(Status::Delivered);
            assert_eq!((newest("a"), newest("b")), (arrived, arrived), "{fault:?} {deadly}");
            assert!(found.iter().all(|one| matches!(one.row.status, Status::Delivered | Status::Superseded)));
            assert_eq!(world.items_under("RETRY#"), 0, "{fault:?} {deadly}");
        }
    }
}

#[tokio::test]
async fn one_delivery_costs_four_writes_or_two_and_is_found_by_its_id() {
    let mut world = World::answering(200);
    for n in 0..300 {
        world.commit(&[change(&n.to_string(), 1, "{}")], true);
    }
    world.drain().await;
    world.test.store.forget_operations();
    let job = world.commit(&[change("x", 1, "{}")], true).remove(0);
    // The row with its body, and the retry entry; then the row again, and the entry taken off.
    assert_eq!(world.test.store.operations().items_written, 2);
    world.drain().await;
    let operations = world.test.store.operations();
    assert_eq!((operations.transactions, operations.items_written), (2, 4));
    assert_eq!((operations.gets, operations.batch_gets, operations.queries, operations.items_read), (1, 1, 0, 2));

    // Where the next poll looks after it, there is no entry.
    world.test.store.forget_operations();
    let filed = filed_with(Some(URL), &[change("y", 1, "{}")], world.ports.now(), Safeguard::NextPoll);
    let jobs = world.carry_out(filed);
    assert_eq!(jobs.len(), 1);
    world.send(&jobs);
    world.drain().await;
    assert_eq!(world.test.store.operations().items_written, 2);
    world.assert_at_rest();

    let id = instance(None).id;
    assert!(query::one(&world.ports, id, &job.delivery).await.unwrap().is_some());
    let large = format!("\"{}\"", "x".repeat(3000));
    let job = world.commit(&[change("z", 1, &large)], true).remove(0);
    world.test.store.forget_operations();
    assert!(query::one(&world.ports, id, &job.delivery).await.unwrap().is_some());
    let operations = world.test.store.operations();
    assert_eq!(
        (operations.gets, operations.queries, operations.items_read),
        (1, 1, 2),
        "a body beside the row leads to it"
    );
    let unknown = domain::id::DeliveryId("unknown".into());
    assert!(query::one(&world.ports, id, &unknown).await.unwrap().is_none());
}

#[tokio::test]
async fn what_had_climbed_high_is_sent_soon_after_the_callback_is_back() {
    let mut world = World::answering(503);
    world.commit(&[change("1", 1, "{}")], true);
    world.pass(TimeDelta::hours(20)).await;
    // Its own ladder would have it wait for hours.
    let due = world.deliveries().await[0].row.due;
    assert!(due.is_some_and(|due| due > world.ports.now() + TimeDelta::hours(5)), "{due:?}");
    world.answers(200);
    world.commit(&[change("2", 1, "{}")], true);
    world.pass(TimeDelta::minutes(20)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 2)]));
    world.pass(TimeDelta::hours(24)).await;
    world.assert_at_rest();
}

#[tokio::test]
async fn a_record_that_changed_a_hundred_times_meanwhile_is_told_in_its_order() {
    let mut world = World::answering(503);
    for n in 0..5 {
        world.commit(&[change(&format!("other {n}"), 1, "{}")], true);
    }
    world.drain().await;
    for revision in 1..=100 {
        world.commit(&[change("hot", revision, "{}")], true);
        world.test.ambient.advance(Duration::from_millis(7));
    }
    world.pass(TimeDelta::hours(2)).await;
    let while_down = world.requests().len();
    world.answers(200);
    world.pass(TimeDelta::minutes(30)).await;
    assert_eq!(world.statuses().await, BTreeMap::from([("delivered", 105)]));
    let mut arrived: Vec<(String, u64)> = world.requests()[while_down..].iter().map(event_of).collect();
    arrived.retain(|(id, _)| id == "hot");
    let sequences: Vec<u64> = arrived.into_iter().map(|(_, sequence)| sequence).collect();
    assert_eq!(sequences, (1..=100).collect::<Vec<_>>());
    world.assert_at_rest();
}

#[tokio::test]
async fn gone_disables_until_resumed() {
    let mut world = World::answering(410);
    world.commit(&[change("1", 1, "{}")], true);
    world.drain().await;
    world.test.ambient.advance(Duration::from_secs(1));
    world.commit(&[change("2", 1, "{}")], true);
    world.pass(TimeDelta::hours(48)).await;
    assert_eq!(world.requests().len(), 1);
    assert_eq!(world.statuses().await, BTreeMap::from([("queued", 2)]));
    let view = callback_view(&world.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("disabled", 2));
    world.answers(200);
    assert_eq!(resume(&world.ports, instance(None).organization, URL).await.unwrap(), 2);
    world.pass(TimeDelta::minutes(20)).await;
    assert_eq!(world.received(), [["1"], ["1"], ["2"]]);
    world.assert_at_rest();
}

#[tokio::test]
async fn a_new_address_takes_over_the_line_of_the_old() {
    let mut world = World::answering(410);
    for n in 0..20 {
        world.commit(&[change(&n.to_string(), 1, "{}")], true);
    }
    world.drain().await;
    world.answers(200);
    world.test.ambient.advance(Duration::from_secs(300));
    let other = "https://b.example/hook";
    world.store_instance(&instance(Some(other)));
    assert_eq!(release_backlog(&world.ports, instance(None).organization, URL).await.unwrap(), 20);
    // Four a second, each with its entry among the retries.
    let sent = world.test.queue.waiting(QueueName::Deliveries);
    let (start, minute) = (world.ports.now(), RetryMinute::at(world.ports.now() + GRACE));
    let seconds: Vec<i64> = sent.iter().map(|(due, _)| (*due - start).num_seconds()).collect();
    assert_eq!(seconds, (0..20_i64).map(|n| (n * 250 + 999) / 1000).collect::<Vec<_>>());
    for (_, message) in &sent {
        let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
        assert_eq!(job.retry_minute, Some(minute));
    }
    world.pass(TimeDelta::minutes(20)).await;
    let to_other = world.requests().iter().filter(|request| request.uri() == other).count();
    assert_eq!(to_other, 20);
    world.assert_at_rest();
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let mut world = World::answering(200);
    let mut first = true;
    world.behaves(move |_| {
        let mut response = answer(if std::mem::take(&mut first) { 429 } else { 200 })?;
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("2400"));
        Ok(response)
    });
    world.commit(&[change("1", 1, "{}")], true);
    world.pass(TimeDelta::minutes(39)).await;
    assert_eq!(world.requests().len(), 1);
    world.pass(TimeDelta::minutes(3)).await;
    assert_eq!(world.requests().len(), 2);
    world.assert_at_rest();
}

#[tokio::test]
async fn the_queue_policy_tries_once() {
    let mut world = World::answering(500);
    let mut record = instance(Some(URL));
    record.callback.iter_mut().for_each(|callback| callback.failure_policy = FailurePolicy::Queue);
    world.store_instance(&record);
    for n in 0..8 {
        world.commit(&[change(&n.to_string(), 1, "{}")], true);
        world.pass(TimeDelta::minutes(20)).await;
    }
    assert_eq!(world.requests().len(), 5);
    assert!(world.reports[..5].iter().all(|report| report.outcome == Outcome::Queued), "{:?}", world.reports);
    assert_eq!(world.statuses().await, BTreeMap::from([("queued", 8)]));
    assert_eq!(world.items_under("RETRY#"), 0);
}

#[tokio::test]
async fn a_disabled_instance_keeps_and_a_deleted_one_forgets() {
    let mut world = World::answering(200);
    world.store_instance(&InstanceRecord { disabled: true, ..instance(Some(URL)) });
    world.commit(&[change("1", 1, "{}")], true);
    world.drain().await;
    assert_eq!(world.statuses().await, BTreeMap::from([("queued", 1)]));
    assert_eq!(world.items_under("RETRY#"), 0);

    world.commit(&[change("2", 1, "{}")], true);
    world.write(&[Write::Delete { key: instance_key(instance(None).id), condition: Condition::Present }]);
    world.drain().await;
    assert_eq!(world.reports.last().map(|report| &report.outcome), Some(&Outcome::Gone));
    assert!(world.requests().is_empty());
    world.assert_at_rest();
}

#[tokio::test]
async fn a_settled_delivery_is_sent_again_when_asked_under_its_old_name() {
    let mut world = World::answering(200);
    world.commit(&[change("1", 1, "{}")], true);
    world.pass(TimeDelta::minutes(1)).await;
    let found = world.deliveries().await;
    assert_eq!(redeliver::redeliver(&world.ports, &found).await.unwrap(), 1);
    world.drain().await;
    let requests = world.requests();
    assert_eq!(delivery_of(&requests[0]), delivery_of(&requests[1]));
    assert_eq!(requests[0].body(), requests[1].body());
    assert_ne!(header(&requests[0], "webhook-timestamp"), header(&requests[1], "webhook-timestamp"));
    assert_eq!(world.deliveries().await[0].row.attempts_made, 2);
    world.assert_at_rest();
}

#[tokio::test]
async fn a_test_event_takes_the_same_way() {
    let mut world = World::answering(200);
    let sent = redeliver::send_test(&world.ports, &instance(Some(URL)), LABEL).await.unwrap();
    world.drain().await;
    assert_eq!(sent.map(|id| id.0), Some(delivery_of(&world.requests()[0])));
    assert_eq!(redeliver::send_test(&world.ports, &instance(None), LABEL).await.unwrap(), None);
}

#[tokio::test]
async fn deliveries_are_listed_by_status_time_and_page() {
    let mut world = World::answering(200);
    for n in 0..5 {
        world.commit(&[change(&n.to_string(), 1, "{}")], n != 4);
        world.test.ambient.advance(Duration::from_secs(60));
    }
    world.drain().await;
    let id = instance(None).id;
    let count =
        async |filter: Filter| query::of_instance(&world.ports, id, &filter, 100, None).await.unwrap().deliveries.len();
    assert_eq!(count(Filter { statuses: vec![Status::Created], ..Filter::default() }).await, 1);
    assert_eq!(count(Filter { url: Some("https://other/".into()), ..Filter::default() }).await, 0);
    let span = now() + TimeDelta::seconds(60)..now() + TimeDelta::seconds(180);
    assert_eq!(count(Filter { committed: Some(span), ..Filter::default() }).await, 2);
    let first = query::of_instance(&world.ports, id, &Filter::default(), 2, None).await.unwrap();
    let rest = query::of_instance(&world.ports, id, &Filter::default(), 9, first.next.as_ref()).await.unwrap();
    let objects: Vec<&str> =
        first.deliveries.iter().chain(&rest.deliveries).map(|found| found.row.events[0].object_id.as_str()).collect();
    assert_eq!(objects, ["4", "3", "2", "1", "0"]);

    // The same of all instances, page by page: the last says that it is.
    let organization = instance(None).organization;
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = query::of_organization(&world.ports, organization, &Filter::default(), None, 2, after.as_ref())
            .await
            .unwrap();
        pages.push(page.deliveries.len());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [2, 2, 1]);
}

#[tokio::test]
async fn what_cannot_be_signed_is_not_sent() {
    let mut world = World::answering(200);
    world.store_instance(&InstanceRecord { secrets: "sealed for another".into(), ..instance(Some(URL)) });
    world.commit(&[change("1", 1, "{}")], true);
    world.drain().await;
    assert!(world.requests().is_empty());
    assert_eq!(
        world.deliveries().await[0].row.attempts[0].error.as_deref(),
        Some("the instance's secrets do not open")
    );
}
