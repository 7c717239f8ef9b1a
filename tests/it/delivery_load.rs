//! One callback is dead through ten thousand notifications, beside one that works.
//!
//! `cargo test -p tests --test it delivery_load -- --nocapture` prints the figures: requests to the dead one, deliveries a
//! CPU-second, and memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use chrono::TimeDelta;
use domain::id::InstanceId;
use flow::deliver::query::{self, Filter};
use flow::deliver::row::Status;
use flow::deliver::{DeliveryReport, Outcome, callback_view};
use flow::job::DeliveryJob;
use flow::ports::{Message, QueueName};
use futures::StreamExt;
use store::records::instance::InstanceRecord;
use tokio::sync::watch;

use super::delivery::{DeliveryHarness, ORGANIZATION};

/// Rounds of a second each, and what is committed in each.
const ROUNDS: u32 = 1000;
const TO_NEIGHBOUR: u32 = 10;
/// The neighbour's notifications are about so many records, so that each has twenty revisions.
const RECORDS: u32 = ROUNDS * TO_NEIGHBOUR / 20;
/// Nobody runs into it, however busy the machine is: what hangs is let go when the healthy one has been served.
const DEADLINE: Duration = Duration::from_secs(30);

/// A callback over real sockets with connections kept. While it is dead it hangs until it is released, and fails.
#[derive(Clone, Default)]
struct Receiver {
    dead: Arc<AtomicBool>,
    lets_go: watch::Sender<bool>,
    /// Of each request, in order: whether it was answered, the delivery's id, its record and its sequence.
    log: Arc<Mutex<Vec<Arrival>>>,
}

#[derive(Debug, Clone)]
struct Arrival {
    answered: bool,
    delivery: String,
    record: String,
    sequence: u64,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
        let router = axum::Router::new().fallback(answer).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (receiver, url)
    }

    fn arrivals(&self) -> Vec<Arrival> {
        self.log.lock().expect("the log").clone()
    }
}

async fn answer(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let event = &body["message"]["events"][0];
    let answered = !receiver.dead.load(Ordering::SeqCst);
    receiver.log.lock().expect("the log").push(Arrival {
        answered,
        delivery: headers["webhook-id"].to_str().expect("an id").to_owned(),
        record: event["objectId"].as_str().expect("an id").to_owned(),
        sequence: event["sequence"].as_u64().expect("a number"),
    });
    if answered {
        return StatusCode::NO_CONTENT;
    }
    receiver.lets_go.subscribe().wait_for(|lets_go| *lets_go).await.expect("the sender is the receiver's");
    StatusCode::SERVICE_UNAVAILABLE
}

/// The result of a run of all rounds.
struct Run {
    world: DeliveryHarness,
    neighbour: Receiver,
    neighbour_url: String,
    healthy: Receiver,
    /// Reports on the healthy callback's deliveries.
    reports: Vec<DeliveryReport>,
    /// Statuses of the attempts at the neighbour; none where one ran into the deadline.
    neighbours: Vec<Option<u16>>,
}

/// Every round a second passes; ten notifications for the neighbour and one for the healthy callback are committed,
/// in that order, and ten jobs at a time are worked on until nothing is due.
async fn run() -> Run {
    let world = DeliveryHarness::relaxed(DEADLINE);
    let (neighbour, neighbour_url) = Receiver::start().await;
    let (healthy, healthy_url) = Receiver::start().await;
    neighbour.dead.store(true, Ordering::SeqCst);
    let of_neighbour = world.instance(1, &neighbour_url).await;
    let of_healthy = world.instance(2, &healthy_url).await;
    let mut run = Run { world, neighbour, neighbour_url, healthy, reports: vec![], neighbours: vec![] };
    for round in 0..ROUNDS {
        let mut jobs = Vec::new();
        for place in 0..TO_NEIGHBOUR {
            let number = round * TO_NEIGHBOUR + place;
            let (record, revision) = (number % RECORDS, number / RECORDS + 1);
            jobs.push(run.world.commit_revision(&of_neighbour, &record.to_string(), revision).await);
        }
        jobs.push(run.world.commit_revision(&of_healthy, &round.to_string(), 1).await);
        queue_jobs(&run.world, &jobs).await;
        work(&mut run, &of_healthy).await;
        run.world.test.ambient.advance(Duration::from_millis(1000 - 11));
    }
    run
}

async fn queue_jobs(world: &DeliveryHarness, jobs: &[DeliveryJob]) {
    let message = |job| Message {
        body: serde_json::to_string(job).expect("a job"),
        delay: Duration::ZERO,
        group: ORGANIZATION.to_string(),
    };
    world.ports.queue.send(QueueName::Deliveries, jobs.iter().map(message).collect()).await;
}

async fn work(run: &mut Run, of_healthy: &InstanceRecord) {
    let (world, lets_go) = (&run.world, &run.neighbour.lets_go);
    lets_go.send_replace(false);
    // Ten workers, each with a job at a time, as many as the poller function has.
    let worker = || async {
        let mut mine = Vec::new();
        while let Some(message) = world.test.queue.take(QueueName::Deliveries, 1).pop() {
            let job: DeliveryJob = serde_json::from_str(&message.body).expect("a job");
            let report = world.deliver(&job).await;
            if job.instance == of_healthy.id {
                lets_go.send_replace(true);
            }
            mine.push((job.instance, report));
        }
        mine
    };
    let done: Vec<_> = futures::stream::iter(0..10).map(|_| worker()).buffer_unordered(10).collect().await;
    for (instance, report) in done.into_iter().flatten() {
        if instance == of_healthy.id {
            run.reports.push(report);
        } else {
            run.neighbours.extend(report.attempt.map(|attempt| attempt.status));
        }
    }
}

#[expect(clippy::print_stdout, reason = "the figures are for whoever asks for them")]
#[tokio::test]
async fn case_50_a_dead_callback_does_not_affect_the_healthy_one() {
    let total = (ROUNDS * TO_NEIGHBOUR) as usize;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut run = run().await;
    // Each of the healthy one's arrived in its very round, on its first attempt, while its neighbour hung: that lets go
    // only then, and had anybody waited for it, it would have been for the deadline.
    assert!(run.neighbours.iter().all(|status| *status == Some(503)), "{:?}", run.neighbours);
    assert_eq!(run.reports.len(), ROUNDS as usize);
    assert!(run.reports.iter().all(|report| report.outcome == Outcome::Delivered), "each at once");
    let objects: Vec<String> = run.healthy.arrivals().into_iter().map(|arrival| arrival.record).collect();
    assert_eq!(objects, (0..ROUNDS).map(|round| round.to_string()).collect::<Vec<_>>(), "and in order");
    // Over a quarter of an hour the dead one was asked a few times, and all else stands in line.
    let while_dead = run.neighbour.arrivals().len();
    println!("requests to the dead callback: {while_dead} for {total} notifications");
    assert!(while_dead <= 40, "{while_dead}");
    let view = callback_view(&run.world.ports, ORGANIZATION, &run.neighbour_url).await.expect("a view");
    assert_eq!(view.status, "open");
    assert!(view.waiting as usize > total - 100, "{view:?}");
    let (memory_full, while_down) = (memory_mb(), (began.elapsed(), cpu_seconds() - cpu));

    // It is back. All arrives within the time a probe may take, and each once.
    run.neighbour.dead.store(false, Ordering::SeqCst);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    run.world.pass(TimeDelta::minutes(30)).await;
    let (wall, cpu) = (began.elapsed(), cpu_seconds() - cpu);
    let arrived: Vec<Arrival> = run.neighbour.arrivals().into_iter().filter(|arrival| arrival.answered).collect();
    println!(
        "drained: {} deliveries in {wall:.1?}, {:.0} a CPU-second; committing and queueing {total} took {:.1?} \
         ({:.1} CPU-seconds); resident {memory_full:.0} MB with all of them in the memory store",
        arrived.len(),
        arrived.len() as f64 / cpu,
        while_down.0,
        while_down.1,
    );
    assert_eq!(arrived.len(), total);
    let ids: BTreeSet<&str> = arrived.iter().map(|arrival| arrival.delivery.as_str()).collect();
    assert_eq!(ids.len(), total, "each under its own id");
    let mut by_record = BTreeMap::<&str, Vec<u64>>::new();
    for arrival in &arrived {
        by_record.entry(&arrival.record).or_default().push(arrival.sequence);
    }
    for (record, sequences) in by_record {
        assert_eq!(sequences, (1..=20).collect::<Vec<u64>>(), "record {record} in its order");
    }
    let undelivered =
        Filter { statuses: vec![Status::Created, Status::Retry, Status::Waiting, Status::Queued], ..Filter::default() };
    let left = query::of_instance(&run.world.ports, InstanceId(1), &undelivered, 10, None).await.expect("read");
    assert!(left.deliveries.is_empty(), "{:?}", left.deliveries);
    let view = callback_view(&run.world.ports, ORGANIZATION, &run.neighbour_url).await.expect("a view");
    assert_eq!((view.status, view.waiting), ("ok", 0));
}

/// User and system time of this process, where the system tells it; other tests that run beside count in.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: f64 = after_name.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    ticks / 100.0
}

/// Resident memory of this process, where the system tells it.
fn memory_mb() -> f64 {
    tests::program::memory_kb("self", "VmRSS:").unwrap_or(0) as f64 / 1024.0
}
