//! Deliveries from filing to their end, on a clock that the test moves: with receivers of every behavior, crashes at
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
use crate::deliver::outbox::tests::{change, filed, filed_with, instance, now};
use crate::deliver::outbox::{ElementLabel, GRACE, Outbox, Outgoing, Safeguard};
use crate::job::{DeliveryJob, Queued};
use crate::ports::{HttpError, Message, Ports, Queue, QueueName, Vault};
use crate::testing::{Fault, TestPorts, TransparentVault};
use store::codec::put;
use store::keys::{instance_key, listing_key};
use store::port::{Condition, Store, Write};
use store::records::instance::{InstanceRecord, ListingRecord};

mod asked;
mod backlog;
mod newest;
mod races;
mod reports;
mod restored;
mod retry_minutes;

const URL: &str = "https://a.example/hook";
const LABEL: ElementLabel<'static> = ElementLabel { key: "square", hub: "payment" };

type Behavior = Box<dyn FnMut(&Request<Bytes>) -> Result<Response<Bytes>, HttpError> + Send>;

/// Owns clock, cloud and receivers.
struct DeliveryHarness {
    test: TestPorts,
    ports: Ports,
    limits: CallbackLimits,
    behavior: Arc<Mutex<Behavior>>,
    dispatched_until: RetryMinute,
    reports: Vec<DeliveryReport>,
}

fn answer(status: u16) -> Result<Response<Bytes>, HttpError> {
    Ok(Response::builder().status(status).body(Bytes::from_static(b"so be it")).unwrap())
}

impl DeliveryHarness {
    /// A harness with one instance whose callback is [`URL`] and answers `status`.
    fn answering(status: u16) -> Self {
        let behavior: Arc<Mutex<Behavior>> = Arc::new(Mutex::new(Box::new(move |_| answer(status))));
        let of_receiver = behavior.clone();
        let test = TestPorts::new("2026-01-05T09:00:00Z", move |request| (of_receiver.lock().unwrap())(&request));
        let ports = test.ports();
        let dispatched_until = RetryMinute::at(now());
        let harness =
            Self { test, ports, limits: CallbackLimits::default(), behavior, dispatched_until, reports: vec![] };
        harness.store_instance(&instance(Some(URL)));
        harness
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

    fn behaves(&self, behavior: impl FnMut(&Request<Bytes>) -> Result<Response<Bytes>, HttpError> + Send + 'static) {
        *self.behavior.lock().unwrap() = Box::new(behavior);
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
            let next_minute = (self.dispatched_until + 1).start();
            let next_due = self.test.queue.next_due().unwrap_or(DateTime::<Utc>::MAX_UTC);
            let next = next_minute.min(next_due).min(end).max(now + TimeDelta::milliseconds(1));
            self.test.ambient.advance((next - now).to_std().unwrap());
            let minute = RetryMinute::at(self.ports.now());
            if minute > self.dispatched_until {
                // A dispatcher that dies asks for the same minutes again.
                while due(&self.ports, self.dispatched_until + 1..=minute).await.is_err() {}
                self.dispatched_until = minute;
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

    /// Everything is settled: nothing is filed, in the backlog, or remembered against the callback.
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
    let mut harness = DeliveryHarness::answering(200);
    let secrets = serde_json::json!({
        "event.notification.signature.key": "new key",
        "event.notification.signature.key.previous": "old key",
        "event.notification.basic.username": "user",
        "event.notification.basic.password": "pass",
        "event.notification.callback.headers": "X-Route: blue\nUser-Agent: mine",
        "password": "of the vendor",
    });
    let sealed = TransparentVault.seal("INST#42", &Secret::new(secrets.to_string())).await.unwrap();
    harness.store_instance(&InstanceRecord { secrets: sealed, ..instance(Some(URL)) });
    let jobs = harness.commit(&[change("1", 1, "{}"), change("2", 1, "{}")], true);
    harness.test.ambient.advance(Duration::from_secs(5));
    harness.drain().await;

    let [request] = &harness.requests()[..] else { panic!("one request") };
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
    harness.assert_at_rest();
    let found = query::one(&harness.ports, instance(None).id, &jobs[0].delivery).await.unwrap().unwrap();
    assert_eq!((found.row.status, found.row.attempts_made), (Status::Delivered, 1));
    assert_eq!((found.row.attempts[0].status, found.row.attempts[0].response.as_str()), (Some(200), "so be it"));
    assert_eq!(query::body(&harness.ports, &found).await.unwrap(), request.body());

    // The same job once more does nothing.
    harness.send(&jobs);
    harness.drain().await;
    assert_eq!(harness.reports.last().map(|report| &report.outcome), Some(&Outcome::AlreadySettled));
    assert_eq!(harness.requests().len(), 1);
}

#[tokio::test]
async fn one_that_never_arrives_climbs_the_schedule_and_is_queued_until_asked_for() {
    let mut harness = DeliveryHarness::answering(500);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.pass(TimeDelta::hours(100)).await;
    let found = &harness.deliveries().await[0];
    assert_eq!((found.row.status, found.row.attempts_made), (Status::Queued, 10));
    let times: Vec<i64> = found.row.attempts.iter().map(|attempt| attempt.at.timestamp()).collect();
    for (gap, rung) in times.windows(2).map(|pair| pair[1] - pair[0]).zip(STEPS) {
        // A minute for the schedule, two more where a retry entry is only the safeguard.
        assert!((rung * 8 / 10..=rung * 12 / 10 + 60).contains(&gap), "{gap} s for the step of {rung} s");
    }
    let ids: BTreeSet<String> = harness.requests().iter().map(delivery_of).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(harness.items_under("RETRY#"), 0);
    let view = callback_view(&harness.ports, instance(None).organization, URL).await.unwrap();
    assert_eq!((view.status, view.waiting), ("disabled", 1));

    // What comes now waits with it.
    harness.commit(&[change("2", 1, "{}")], true);
    harness.pass(TimeDelta::hours(1)).await;
    assert_eq!(harness.requests().len(), 10);
    assert_eq!(harness.statuses().await, BTreeMap::from([("queued", 2)]));

    harness.answers(204);
    let queued = Filter { statuses: vec![Status::Queued], url: Some(URL.into()), ..Filter::default() };
    let found =
        query::of_organization(&harness.ports, instance(None).organization, &queued, None, 100, None).await.unwrap();
    assert_eq!(redeliver::redeliver(&harness.ports, &found.deliveries).await.unwrap(), 2);
    harness.pass(TimeDelta::minutes(1)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 2)]));
    assert_eq!(harness.received()[10..], [["1"], ["2"]]);
    harness.assert_at_rest();
}

#[tokio::test]
async fn a_crash_after_the_commit_is_repaired_by_the_dispatcher() {
    let mut harness = DeliveryHarness::answering(200);
    harness.commit(&[change("1", 1, "{}")], false);
    harness.pass(TimeDelta::minutes(1)).await;
    assert!(harness.requests().is_empty());
    harness.pass(TimeDelta::minutes(2)).await;
    assert_eq!(harness.received(), [["1"]]);
    harness.pass(TimeDelta::minutes(15)).await;
    harness.assert_at_rest();
}

#[tokio::test]
async fn messages_that_are_never_taken_delay_but_lose_nothing() {
    let mut harness = DeliveryHarness::answering(503);
    harness.commit(&[change("1", 1, "{}")], false);
    harness.test.queue.refuse_next(3);
    harness.pass(TimeDelta::hours(2)).await;
    harness.answers(200);
    harness.pass(TimeDelta::hours(8)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1)]));
    harness.assert_at_rest();
}

/// The dispatcher has moved the entry ahead, and whoever gets the job believes that its time has not come.
#[tokio::test]
async fn a_slow_clock_does_not_take_a_moved_entry_for_a_stale_one() {
    let mut harness = DeliveryHarness::answering(503);
    harness.commit(&[change("1", 1, "{}")], true);
    harness.drain().await;
    // The message of the second attempt is lost: it comes by its entry.
    harness.test.ambient.set("2026-01-05T09:00:20Z");
    assert_eq!(harness.test.queue.take(QueueName::Deliveries, 10).len(), 1);
    harness.test.ambient.set("2026-01-05T09:04:00Z");
    harness.dispatched_until = RetryMinute::at(harness.ports.now());
    let minutes = harness.dispatched_until - 4..=harness.dispatched_until;
    assert_eq!(due(&harness.ports, minutes).await.unwrap(), 1);
    let [message] = &harness.test.queue.take(QueueName::Deliveries, 10)[..] else { panic!("one job") };
    let job: DeliveryJob = serde_json::from_str(&message.body).unwrap();
    harness.test.ambient.set("2026-01-05T09:00:01Z");
    let report = deliver(&harness.ports, &harness.limits, &job).await.unwrap();
    assert_eq!(report.attempt, None, "{report:?}");
    harness.test.ambient.set("2026-01-05T09:04:00Z");
    harness.answers(200);
    harness.pass(TimeDelta::minutes(15)).await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("delivered", 1)]));
    harness.assert_at_rest();
}

fn wants_only_the_newest() -> InstanceRecord {
    let mut record = instance(Some(URL));
    record.callback.iter_mut().for_each(|callback| callback.coalesce = true);
    record
}

#[tokio::test]
async fn one_delivery_costs_four_writes_or_two_and_is_found_by_its_id() {
    let mut harness = DeliveryHarness::answering(200);
    for n in 0..300 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
    }
    harness.drain().await;
    harness.test.store.forget_operations();
    let job = harness.commit(&[change("x", 1, "{}")], true).remove(0);
    // The row with its body, and the retry entry; then the row again, and the entry taken off.
    assert_eq!(harness.test.store.operations().items_written, 2);
    harness.drain().await;
    let operations = harness.test.store.operations();
    assert_eq!((operations.transactions, operations.items_written), (2, 4));
    assert_eq!((operations.gets, operations.batch_gets, operations.queries, operations.items_read), (1, 1, 0, 2));

    // Where the next poll looks after it, there is no entry.
    harness.test.store.forget_operations();
    let filed = filed_with(Some(URL), &[change("y", 1, "{}")], harness.ports.now(), Safeguard::NextPoll);
    let jobs = harness.carry_out(filed);
    assert_eq!(jobs.len(), 1);
    harness.send(&jobs);
    harness.drain().await;
    assert_eq!(harness.test.store.operations().items_written, 2);
    harness.assert_at_rest();

    let id = instance(None).id;
    assert!(query::one(&harness.ports, id, &job.delivery).await.unwrap().is_some());
    let large = format!("\"{}\"", "x".repeat(3000));
    let job = harness.commit(&[change("z", 1, &large)], true).remove(0);
    harness.test.store.forget_operations();
    assert!(query::one(&harness.ports, id, &job.delivery).await.unwrap().is_some());
    let operations = harness.test.store.operations();
    assert_eq!(
        (operations.gets, operations.queries, operations.items_read),
        (1, 1, 2),
        "a body beside the row leads to it"
    );
    let unknown = domain::id::DeliveryId("unknown".into());
    assert!(query::one(&harness.ports, id, &unknown).await.unwrap().is_none());
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let mut harness = DeliveryHarness::answering(200);
    let mut first = true;
    harness.behaves(move |_| {
        let mut response = answer(if std::mem::take(&mut first) { 429 } else { 200 })?;
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("2400"));
        Ok(response)
    });
    harness.commit(&[change("1", 1, "{}")], true);
    harness.pass(TimeDelta::minutes(39)).await;
    assert_eq!(harness.requests().len(), 1);
    harness.pass(TimeDelta::minutes(3)).await;
    assert_eq!(harness.requests().len(), 2);
    harness.assert_at_rest();
}

#[tokio::test]
async fn the_queue_policy_tries_once() {
    let mut harness = DeliveryHarness::answering(500);
    let mut record = instance(Some(URL));
    record.callback.iter_mut().for_each(|callback| callback.failure_policy = FailurePolicy::Queue);
    harness.store_instance(&record);
    for n in 0..8 {
        harness.commit(&[change(&n.to_string(), 1, "{}")], true);
        harness.pass(TimeDelta::minutes(20)).await;
    }
    assert_eq!(harness.requests().len(), 5);
    assert!(harness.reports[..5].iter().all(|report| report.outcome == Outcome::Queued), "{:?}", harness.reports);
    assert_eq!(harness.statuses().await, BTreeMap::from([("queued", 8)]));
    assert_eq!(harness.items_under("RETRY#"), 0);
}

#[tokio::test]
async fn a_disabled_instance_keeps_and_a_deleted_one_forgets() {
    let mut harness = DeliveryHarness::answering(200);
    harness.store_instance(&InstanceRecord { disabled: true, ..instance(Some(URL)) });
    harness.commit(&[change("1", 1, "{}")], true);
    harness.drain().await;
    assert_eq!(harness.statuses().await, BTreeMap::from([("queued", 1)]));
    assert_eq!(harness.items_under("RETRY#"), 0);

    harness.commit(&[change("2", 1, "{}")], true);
    harness.write(&[Write::Delete { key: instance_key(instance(None).id), condition: Condition::Present }]);
    harness.drain().await;
    assert_eq!(harness.reports.last().map(|report| &report.outcome), Some(&Outcome::Gone));
    assert!(harness.requests().is_empty());
    harness.assert_at_rest();
}

#[tokio::test]
async fn what_cannot_be_signed_is_not_sent() {
    let mut harness = DeliveryHarness::answering(200);
    harness.store_instance(&InstanceRecord { secrets: "sealed for another".into(), ..instance(Some(URL)) });
    harness.commit(&[change("1", 1, "{}")], true);
    harness.drain().await;
    assert!(harness.requests().is_empty());
    assert_eq!(
        harness.deliveries().await[0].row.attempts[0].error.as_deref(),
        Some("the instance's secrets do not open")
    );
}
