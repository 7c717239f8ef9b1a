//! The deliver step with the real client against receivers of every behavior, over real sockets. Table, queue and clock
//! are in memory.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::guard::GuardPolicy;
use aws::http::Client;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::event::event_id;
use domain::id::{InstanceId, OrganizationId};
use domain::record::{Change, ChangeKind};
use domain::retry_minute::RetryMinute;
use flow::deliver::outbox::{ElementLabel, Outbox, Safeguard};
use flow::deliver::query::{self, Filter};
use flow::deliver::redeliver;
use flow::deliver::row::Status;
use flow::deliver::{CallbackLimits, DeliveryReport, Outcome, callback_view, deliver, due};
use flow::job::DeliveryJob;
use flow::ports::{Ports, QueueName};
use flow::testing::TestPorts;
use futures::StreamExt;
use serde_json::json;
use store::codec::insert;
use store::keys::instance_key;
use store::port::Store;
use store::records::instance::InstanceRecord;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Short, so that a test with receivers that hang is quick. An answer that a busy machine makes late is only retried.
const SHORT: Duration = Duration::from_millis(500);
/// For receivers that answer: no busy machine is so slow.
pub(super) const LONG: Duration = Duration::from_secs(30);
pub(super) const ORGANIZATION: OrganizationId = OrganizationId(7);

/// The behavior of a receiver that has read a request.
#[derive(Clone)]
enum Manner {
    /// Says this and closes.
    Says(String),
    /// Says this once it is released.
    SaysLate(String, Arc<tokio::sync::Notify>),
    /// Says this, then nothing, and keeps the connection open.
    SaysAndHangs(&'static str),
    /// Says this, then a byte now and then for ever.
    Drips(&'static str),
    /// Says this, then as much as is taken.
    Floods(&'static str),
    /// Closes with the request unread, which makes the system send a reset.
    Resets,
}

/// A callback that notes the bodies it was sent.
struct Receiver {
    address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    bodies: Arc<Mutex<Vec<Bytes>>>,
    connections: Arc<AtomicUsize>,
}

impl Receiver {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            manner: Arc::new(Mutex::new(manner)),
            bodies: Arc::default(),
            connections: Arc::default(),
        };
        let (manner, bodies, connections) =
            (receiver.manner.clone(), receiver.bodies.clone(), receiver.connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let manner = manner.lock().expect("a manner").clone();
                tokio::spawn(converse(stream, manner, bodies.clone()));
            }
        });
        receiver
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn bodies(&self) -> Vec<Bytes> {
        self.bodies.lock().expect("the bodies").clone()
    }

    /// The object id of the first event of each body, in order.
    fn objects(&self) -> Vec<String> {
        let object = |body: &Bytes| {
            let body: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            body["message"]["events"][0]["objectId"].as_str().expect("an id").to_owned()
        };
        self.bodies().iter().map(object).collect()
    }
}

async fn converse(mut stream: TcpStream, manner: Manner, bodies: Arc<Mutex<Vec<Bytes>>>) -> std::io::Result<()> {
    if let Manner::Resets = manner {
        stream.peek(&mut [0; 16]).await?;
        return Ok(());
    }
    let body = read_request(&mut stream).await?;
    bodies.lock().expect("the bodies").push(body);
    match manner {
        Manner::Says(text) => stream.write_all(text.as_bytes()).await,
        Manner::SaysLate(text, release) => {
            release.notified().await;
            stream.write_all(text.as_bytes()).await
        }
        Manner::SaysAndHangs(text) => {
            stream.write_all(text.as_bytes()).await?;
            // Until the client gives up.
            stream.read(&mut [0; 16]).await.map(drop)
        }
        Manner::Drips(text) => {
            stream.write_all(text.as_bytes()).await?;
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            loop {
                tick.tick().await;
                stream.write_all(b"x").await?;
            }
        }
        Manner::Floods(text) => {
            stream.write_all(text.as_bytes()).await?;
            loop {
                stream.write_all(&[b'x'; 65536]).await?;
            }
        }
        Manner::Resets => Ok(()),
    }
}

async fn read_request(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut request = Vec::new();
    loop {
        let mut chunk = [0; 16384];
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        request.extend_from_slice(&chunk[..length]);
        let Some(head) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let announced = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let body = head + 4..head + 4 + announced.unwrap_or(0);
        if request.len() >= body.end {
            return Ok(Bytes::copy_from_slice(&request[body]));
        }
    }
}

fn says(status: u16, headers: &str) -> Manner {
    Manner::Says(format!("HTTP/1.1 {status} So\r\n{headers}content-length: 0\r\nconnection: close\r\n\r\n"))
}

pub(super) struct DeliveryHarness {
    pub(super) test: TestPorts,
    pub(super) ports: Ports,
    limits: CallbackLimits,
    dispatched_until: RetryMinute,
}

impl DeliveryHarness {
    fn new(guard: GuardPolicy, deadline: Duration) -> Self {
        let test = TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("the real client is used"));
        let http = Client::new(guard, guard);
        let ports = Ports { http: Arc::new(http), ..test.ports() };
        let dispatched_until = RetryMinute::at(ports.now());
        Self { test, ports, limits: CallbackLimits::new(4, deadline), dispatched_until }
    }

    pub(super) fn relaxed(deadline: Duration) -> Self {
        Self::new(GuardPolicy { allow_private: true }, deadline)
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.ports.now()
    }

    pub(super) async fn instance(&self, id: u64, url: &str) -> InstanceRecord {
        self.instance_of(ORGANIZATION, id, url).await
    }

    async fn instance_of(&self, organization: OrganizationId, id: u64, url: &str) -> InstanceRecord {
        let record: InstanceRecord = serde_json::from_value(json!({
            "id": id, "organization": organization, "user": 9, "name": "Shop", "tags": [], "element": "square",
            "created_at": self.now(), "updated_at": self.now(), "configuration": {}, "secrets": "", "token": "",
            "token_hash": "", "events_enabled": true, "interval_minutes": 5, "resources": {},
            "callback": { "url": url, "format": "elements", "failure_policy": "retry" },
        }))
        .expect("an instance");
        self.test.store.transact(&[insert(instance_key(record.id), &record)]).await.expect("stored");
        record
    }

    /// Commits one delivery of one event; each is committed a millisecond after the one before.
    async fn commit(&self, instance: &InstanceRecord, object: &str) -> DeliveryJob {
        self.commit_revision(instance, object, 1).await
    }

    /// The same for any revision of a record.
    pub(super) async fn commit_revision(&self, instance: &InstanceRecord, object: &str, revision: u32) -> DeliveryJob {
        self.test.ambient.advance(Duration::from_millis(1));
        let change = Change {
            event: event_id(instance.id, "orders", "", object, revision),
            kind: if revision == 1 { ChangeKind::Created } else { ChangeKind::Updated },
            id: object.to_owned(),
            partition: String::new(),
            revision,
            date: None,
            raw: Bytes::from_static(b"{ \"total\": 1.50 }"),
        };
        let element = ElementLabel { key: "square", hub: "payment" };
        let (now, resource, object_type) = (self.now(), "orders", "orders");
        let safeguard = Safeguard::entry(now);
        let outbox = Outbox { instance, element, resource, object_type, poll_date: now, now, safeguard };
        let outgoing = outbox.file(&[change]).remove(0);
        self.test.store.transact(&outgoing.writes).await.expect("stored");
        outgoing.job.expect("a callback")
    }

    pub(super) async fn deliver(&self, job: &DeliveryJob) -> DeliveryReport {
        deliver(&self.ports, &self.limits, job).await.expect("no trouble of our own")
    }

    /// Delivers what is due, ten at a time as the poller does, until nothing is.
    pub(super) async fn drain(&self) {
        loop {
            let messages = self.test.queue.take(QueueName::Deliveries, 100);
            if messages.is_empty() {
                return;
            }
            let jobs = messages.into_iter().map(|message| async move {
                let job: DeliveryJob = serde_json::from_str(&message.body).expect("a job");
                self.deliver(&job).await
            });
            futures::stream::iter(jobs).buffer_unordered(10).collect::<Vec<_>>().await;
        }
    }

    /// Lets time pass on the clock, dispatching every minute and delivering whatever comes due.
    pub(super) async fn pass(&mut self, time: TimeDelta) {
        let end = self.now() + time;
        loop {
            self.drain().await;
            if self.now() >= end {
                return;
            }
            let next_due = self.test.queue.next_due().unwrap_or(end);
            let next =
                next_due.min((self.dispatched_until + 1).start()).min(end).max(self.now() + TimeDelta::milliseconds(1));
            self.test.ambient.advance((next - self.now()).to_std().expect("forwards"));
            let minute = RetryMinute::at(self.now());
            if minute > self.dispatched_until {
                due(&self.ports, self.dispatched_until + 1..=minute).await.expect("dispatched");
                self.dispatched_until = minute;
            }
        }
    }
}

/// Delivers to one receiver. Returns the outcome in words, with the attempt's status or error.
async fn judged(manner: Manner, deadline: Duration) -> (String, DeliveryReport, Receiver) {
    let (world, receiver) = (DeliveryHarness::relaxed(deadline), Receiver::start(manner).await);
    let instance = world.instance(42, &receiver.url()).await;
    let job = world.commit(&instance, "1").await;
    let report = world.deliver(&job).await;
    let outcome = match &report.outcome {
        Outcome::RetryAt(at) => {
            let seconds = (*at - world.now()).num_seconds();
            // The first retry step is 5 s, give or take a fifth. A longer time was requested.
            if (4..=6).contains(&seconds) { "retry".into() } else { format!("retry in {seconds} s") }
        }
        other => format!("{other:?}").to_lowercase(),
    };
    let attempt = report.attempt.as_ref().expect("an attempt");
    let how = attempt.status.map_or_else(|| attempt.error.clone().unwrap_or_default(), |status| status.to_string());
    (format!("{outcome}: {how}"), report, receiver)
}

#[tokio::test]
async fn every_answer_has_its_consequence() {
    for (manner, expected) in [
        (says(200, ""), "delivered: 200"),
        (says(204, ""), "delivered: 204"),
        (says(304, ""), "retry: 304"),
        (says(400, ""), "retry: 400"),
        (says(410, ""), "queued: 410"),
        (says(429, "retry-after: 120\r\n"), "retry in 120 s: 429"),
        (says(429, "retry-after: 999999\r\n"), "retry in 3600 s: 429"),
        (says(503, "retry-after: Mon, 05 Jan 2026 09:10:00 GMT\r\n"), "retry in 599 s: 503"),
        (says(503, ""), "retry: 503"),
    ] {
        assert_eq!(judged(manner, LONG).await.0, expected);
    }
}

#[tokio::test]
async fn whatever_is_not_a_whole_answer_in_time_is_tried_again() {
    let late = format!("retry: no complete answer within {} ms", SHORT.as_millis());
    for manner in [
        Manner::SaysAndHangs(""),
        Manner::SaysAndHangs("HTTP/1.1 200 OK\r\n"),
        Manner::SaysAndHangs("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfour"),
        Manner::Drips("HTTP/1.1 200 OK\r\nx-drip: "),
        Manner::Drips("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"),
    ] {
        assert_eq!(judged(manner, SHORT).await.0, late);
    }
    for manner in [
        Manner::Resets,
        Manner::Says("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".into()),
        Manner::Says("I am no HTTP server\r\n\r\n".into()),
        Manner::Says(String::new()),
    ] {
        let (verdict, report, _receiver) = judged(manner, LONG).await;
        assert!(verdict.starts_with("retry: the exchange broke off"), "{verdict}");
        assert_eq!(report.attempt.expect("an attempt").status, None);
    }
}

#[tokio::test]
async fn case_46_a_redirect_is_a_failure_and_is_not_followed() {
    let elsewhere = Receiver::start(says(200, "")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", elsewhere.url());
        assert_eq!(judged(says(status, &location), LONG).await.0, format!("retry: {status}"));
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_long_answer_is_read_up_to_a_cap_and_its_head_is_kept() {
    let (verdict, report, _receiver) = judged(Manner::Floods("HTTP/1.1 200 OK\r\n\r\nhello "), LONG).await;
    assert_eq!(verdict, "delivered: 200");
    let response = report.attempt.expect("an attempt").response;
    assert!(response.starts_with("hello xxx") && response.len() == 1024, "{} bytes", response.len());
}

#[tokio::test]
async fn case_46_nobody_there_and_an_address_inside_are_failures_that_say_so() {
    let world = DeliveryHarness::relaxed(LONG);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    drop(listener);
    let job = world.commit(&world.instance(42, &url).await, "1").await;
    let report = world.deliver(&job).await;
    assert!(matches!(report.outcome, Outcome::RetryAt(_)), "{report:?}");

    let receiver = Receiver::start(says(200, "")).await;
    let world = DeliveryHarness::new(GuardPolicy { allow_private: false }, LONG);
    let job = world.commit(&world.instance(42, &receiver.url()).await, "1").await;
    let report = world.deliver(&job).await;
    assert!(matches!(report.outcome, Outcome::RetryAt(_)), "{report:?}");
    let error = report.attempt.and_then(|attempt| attempt.error).expect("an error");
    assert!(error.contains("not allowed"), "{error}");
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn the_bytes_that_arrive_are_the_bytes_that_were_stored() {
    let (world, receiver) = (DeliveryHarness::relaxed(LONG), Receiver::start(says(500, "")).await);
    let instance = world.instance(42, &receiver.url()).await;
    let job = world.commit(&instance, "1").await;
    world.deliver(&job).await;
    *receiver.manner.lock().expect("a manner") = says(200, "");
    world.test.ambient.advance(Duration::from_secs(7));
    world.drain().await;
    let found = query::one(&world.ports, instance.id, &job.delivery).await.expect("read").expect("there");
    assert_eq!((found.row.status, found.row.attempts_made), (Status::Delivered, 2));
    let stored = query::body(&world.ports, &found).await.expect("a body");
    assert_eq!(receiver.bodies(), [stored.clone(), stored.clone()]);
    assert!(String::from_utf8_lossy(&stored).contains(r#""orders":[{ "total": 1.50 }]"#));
}

#[tokio::test]
async fn case_45_what_was_committed_is_sent_though_its_message_never_was() {
    let (mut world, receiver) = (DeliveryHarness::relaxed(LONG), Receiver::start(says(200, "")).await);
    let instance = world.instance(42, &receiver.url()).await;
    // The process dies between the commit and the send.
    world.commit(&instance, "1").await;
    world.pass(TimeDelta::minutes(1)).await;
    assert_eq!(receiver.connections(), 0);
    world.pass(TimeDelta::minutes(2)).await;
    assert_eq!(receiver.objects(), ["1"]);
    world.pass(TimeDelta::minutes(30)).await;
    assert_eq!(receiver.objects(), ["1"], "and once");
}

/// The rule: five failed attempts in a row cut a callback off, and any success counts from zero.
#[tokio::test]
async fn case_49_a_callback_that_fails_four_times_of_five_stays_closed() {
    let (mut world, receiver) = (DeliveryHarness::relaxed(LONG), Receiver::start(says(200, "")).await);
    let instance = world.instance(42, &receiver.url()).await;
    let set = |manner| *receiver.manner.lock().expect("a manner") = manner;
    let status = async |world: &DeliveryHarness| {
        callback_view(&world.ports, ORGANIZATION, &receiver.url()).await.expect("a view").status
    };
    for round in 0..6 {
        set(says(500, ""));
        for n in 0..4 {
            let job = world.commit(&instance, &format!("{round} {n}")).await;
            assert!(matches!(world.deliver(&job).await.outcome, Outcome::RetryAt(_)));
        }
        assert_eq!(status(&world).await, "failing");
        set(says(200, ""));
        let job = world.commit(&instance, &format!("{round} works")).await;
        assert_eq!(world.deliver(&job).await.outcome, Outcome::Delivered);
        world.pass(TimeDelta::minutes(1)).await;
        assert_eq!(status(&world).await, "ok");
    }
    assert_eq!(receiver.bodies().len(), 6 * 9, "each of the failed ones came at its own first retry step");
    set(says(500, ""));
    for n in 0..5 {
        let job = world.commit(&instance, &format!("last {n}")).await;
        world.deliver(&job).await;
    }
    assert_eq!(status(&world).await, "open");
}

/// A callback that is flooded in one go takes at most four at once here, and the other's are not behind it.
#[tokio::test]
async fn case_50_a_flood_for_one_callback_leaves_room_for_the_others() {
    let world = DeliveryHarness::relaxed(LONG);
    let release = Arc::new(tokio::sync::Notify::new());
    let Manner::Says(text) = says(200, "") else { unreachable!("it says something") };
    let flooded = Receiver::start(Manner::SaysLate(text, release.clone())).await;
    let healthy = Receiver::start(says(200, "")).await;
    let (of_flooded, of_healthy) = (world.instance(1, &flooded.url()).await, world.instance(2, &healthy.url()).await);
    let mut jobs = Vec::new();
    for n in 0..40 {
        jobs.push(world.commit(&of_flooded, &n.to_string()).await);
    }
    let last = world.commit(&of_healthy, "mine").await;
    let flood = futures::stream::iter(&jobs).map(|job| world.deliver(job)).buffer_unordered(10).collect::<Vec<_>>();
    let beside = async {
        // Only once four of the flood are at the callback, which answers none before the other has its own.
        while flooded.bodies().len() < 4 {
            tokio::task::yield_now().await;
        }
        let report = world.deliver(&last).await;
        assert_eq!(flooded.bodies().len(), 4, "no more than four at once");
        *flooded.manner.lock().expect("a manner") = says(200, "");
        for _ in 0..4 {
            release.notify_one();
            tokio::task::yield_now().await;
        }
        release.notify_waiters();
        report
    };
    let (flood, report) = tokio::join!(flood, beside);
    assert_eq!(report.outcome, Outcome::Delivered);
    let delivered = flood.iter().filter(|report| report.outcome == Outcome::Delivered).count();
    let put_back = flood.iter().filter(|report| report.outcome == Outcome::PutBack).count();
    assert_eq!(delivered + put_back, 40, "{flood:?}");
}

/// The queue hides a message for six times as long as a function may take (`template.rs` checks it), and an attempt
/// takes a quarter of that; so a second copy comes when the first is through, and finds nothing to do.
#[tokio::test]
async fn case_51_a_second_copy_of_a_message_sends_nothing() {
    let world = DeliveryHarness::relaxed(LONG);
    let release = Arc::new(tokio::sync::Notify::new());
    release.notify_one();
    let Manner::Says(text) = says(200, "") else { unreachable!("it says something") };
    let receiver = Receiver::start(Manner::SaysLate(text, release)).await;
    let job = world.commit(&world.instance(42, &receiver.url()).await, "1").await;
    assert_eq!(world.deliver(&job).await.outcome, Outcome::Delivered);
    for _ in 0..3 {
        assert_eq!(world.deliver(&job).await.outcome, Outcome::AlreadySettled);
    }
    assert_eq!(receiver.objects(), ["1"]);
}

#[tokio::test]
async fn case_52_a_replay_sends_again_and_two_callbacks_get_two_deliveries() {
    let mut world = DeliveryHarness::relaxed(LONG);
    let (one, other) = (Receiver::start(says(503, "")).await, Receiver::start(says(503, "")).await);
    let (of_one, of_other) = (world.instance(1, &one.url()).await, world.instance(2, &other.url()).await);
    let jobs = [world.commit(&of_one, "same").await, world.commit(&of_other, "same").await];
    assert_ne!(jobs[0].delivery, jobs[1].delivery);
    for job in &jobs {
        assert!(matches!(world.deliver(job).await.outcome, Outcome::RetryAt(_)));
    }
    for receiver in [&one, &other] {
        *receiver.manner.lock().expect("a manner") = says(200, "");
    }
    world.pass(TimeDelta::minutes(1)).await;
    assert_eq!((one.bodies().len(), other.bodies().len()), (2, 2), "each its own retry");

    let found = query::one(&world.ports, of_one.id, &jobs[0].delivery).await.expect("read").expect("there");
    assert_eq!(found.row.status, Status::Delivered);
    assert_eq!(redeliver::redeliver(&world.ports, &[found]).await.expect("sent"), 1);
    world.pass(TimeDelta::minutes(1)).await;
    assert_eq!((one.bodies().len(), other.bodies().len()), (3, 2));
    assert_eq!(one.bodies()[0], one.bodies()[2], "the same bytes");
}

#[tokio::test]
async fn case_54_one_customers_failures_do_not_count_for_another_with_the_same_callback() {
    let (world, receiver) = (DeliveryHarness::relaxed(LONG), Receiver::start(says(500, "")).await);
    let other = OrganizationId(8);
    let mine = world.instance(1, &receiver.url()).await;
    let theirs = world.instance_of(other, 2, &receiver.url()).await;
    for n in 0..6 {
        let job = world.commit(&mine, &n.to_string()).await;
        world.deliver(&job).await;
    }
    let status =
        async |organization| callback_view(&world.ports, organization, &receiver.url()).await.expect("a view").status;
    assert_eq!((status(ORGANIZATION).await, status(other).await), ("open", "ok"));
    *receiver.manner.lock().expect("a manner") = says(200, "");
    let job = world.commit(&theirs, "theirs").await;
    assert_eq!(world.deliver(&job).await.outcome, Outcome::Delivered);
    assert_eq!(status(ORGANIZATION).await, "open", "nor does another's success");
}

/// A callback that hangs, with many notifications before those of a healthy one in the queue.
#[tokio::test]
async fn a_dead_callback_harms_only_itself_and_drains_in_order() {
    let mut world = DeliveryHarness::relaxed(SHORT);
    let dead = Receiver::start(Manner::SaysAndHangs("")).await;
    let healthy = Receiver::start(says(200, "")).await;
    let (of_dead, of_healthy) = (world.instance(1, &dead.url()).await, world.instance(2, &healthy.url()).await);
    let mut jobs = Vec::new();
    for n in 0..60 {
        jobs.push(world.commit(&of_dead, &format!("{n:02}")).await);
    }
    for n in 0..20 {
        jobs.push(world.commit(&of_healthy, &n.to_string()).await);
    }
    let delivered_of = async |world: &DeliveryHarness, id| {
        let filter = Filter { statuses: vec![Status::Delivered], ..Filter::default() };
        let page = query::of_instance(&world.ports, InstanceId(id), &filter, 100, None).await.expect("read");
        page.deliveries.len()
    };
    futures::stream::iter(&jobs).map(|job| world.deliver(job)).buffer_unordered(10).collect::<Vec<_>>().await;
    world.pass(TimeDelta::minutes(1)).await;
    assert_eq!(delivered_of(&world, 2).await, 20, "the healthy ones arrive whatever is before them");

    world.pass(TimeDelta::minutes(30)).await;
    let while_down = dead.bodies().len();
    assert!(while_down < 40, "{while_down} requests to a dead callback in half an hour");
    let view = callback_view(&world.ports, ORGANIZATION, &dead.url()).await.expect("a view");
    assert_eq!(view.status, "open");
    assert!(view.waiting >= 40, "{view:?}");

    *dead.manner.lock().expect("a manner") = says(200, "");
    world.pass(TimeDelta::hours(3)).await;
    assert_eq!(delivered_of(&world, 1).await, 60);
    let view = callback_view(&world.ports, ORGANIZATION, &dead.url()).await.expect("a view");
    assert_eq!((view.status, view.waiting), ("ok", 0));
    // After the probe that finds it alive, the line comes in order but for the few that are under way at once.
    let arrived = &dead.objects()[while_down + 1..];
    let places: Vec<usize> = arrived.iter().take(40).map(|object| object.parse().expect("a number")).collect();
    let strayed = places.windows(2).filter(|pair| pair[1] + 4 < pair[0]).count();
    assert!(strayed <= 4, "{places:?}");
}
