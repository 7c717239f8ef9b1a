//! One measurement in a process of its own. The rows of the table are made of such measurements.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws::queue::SqsQueue;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use chrono::Utc;
use domain::id::{InstanceId, OrganizationId};
use domain::wheel::Slot;
use flow::job::PollJob;
use flow::ports::{Message, Queue, QueueName};
use flow::testing::MemoryStore;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use store::port::{Condition, Item, Store, Write};

use crate::clock::{Reading, Start, memory_mb};
use crate::floor::{Fingerprints, Floor};
use crate::ours::{self, Api, Fleet, Flow, Resource};
use crate::vendor::{Stock, Vendor};

/// The implementation that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// Nothing is remembered.
    Floor,
    /// The floor with fingerprints (of a scan) or a durable journal and a signature (of anything else).
    Durable,
    /// Our steps over a table in memory.
    Flow,
    /// The whole local service.
    Service,
}

/// The work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Many polls of twenty records each, nothing changed.
    Idle,
    /// The same, one record changed each.
    Event,
    /// A tenth of an account's records changed, as a vendor that filters lists them.
    Burst,
    /// Everything listed, a hundred changed.
    Scan,
    /// A minute of the wheel: due members of many.
    Dispatch,
    /// Notifications committed before, to fast callbacks.
    Delivery,
    /// Instances that rest.
    Rest,
}

/// The amount of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::Args)]
pub struct Size {
    /// Instances, records or members.
    #[arg(long)]
    pub count: u64,
    /// Of a dispatch: members that are due.
    #[arg(long, default_value_t = 0)]
    pub due: u64,
    /// Vendor and callback wait so long before they answer.
    #[arg(long, default_value_t = 0)]
    pub delay_ms: u64,
    /// Polls under way at once.
    #[arg(long, default_value_t = 64)]
    pub at_once: usize,
    /// Rounds that are measured, after one that is not. The reading is the round of the median CPU time.
    #[arg(long, default_value_t = 1)]
    pub rounds: u64,
}

/// Records of a small poll.
const SMALL: u64 = 20;
/// Records on a page of a burst.
const BURST_PAGE: u64 = 100;
/// Records on a page of a scan.
const SCAN_PAGE: u64 = 1000;
/// Changed records of a scan.
const SCAN_CHANGED: u64 = 100;

/// Measures.
pub async fn measure(who: Who, case: Case, size: Size) -> anyhow::Result<Reading> {
    let directory = tempfile::tempdir()?;
    match case {
        Case::Dispatch => dispatched(who, size, directory.path()).await,
        Case::Rest => resting(size, directory.path()).await,
        _ => polled(who, case, size, directory.path()).await,
    }
}

/// The vendor's stock in a round of a case; round 0 is before anything is measured.
fn stock(case: Case, size: &Size, round: u64) -> Stock {
    let still = Stock {
        records: SMALL,
        changed: 0,
        revision: 0,
        only_changed: false,
        page: SMALL,
        delay_ms: if round == 0 { 0 } else { size.delay_ms },
    };
    let changed = |stock: Stock, changed| if round == 0 { stock } else { Stock { changed, revision: round, ..stock } };
    match case {
        Case::Event | Case::Delivery => changed(still, 1),
        Case::Burst => {
            let listed = Stock { records: size.count, page: BURST_PAGE, ..still };
            Stock { only_changed: round > 0, ..changed(listed, size.count / 10) }
        }
        Case::Scan => changed(Stock { records: size.count, page: SCAN_PAGE, ..still }, SCAN_CHANGED),
        _ => still,
    }
}

/// Polls of a round, and how many notifications they make.
fn expected(case: Case, size: &Size) -> (u64, u64) {
    match case {
        Case::Event | Case::Delivery => (size.count, size.count),
        Case::Burst => (1, (size.count / 10).div_ceil(10)),
        Case::Scan => (1, SCAN_CHANGED.min(size.count).div_ceil(10)),
        _ => (size.count, 0),
    }
}

/// The timestamp after which a floor treats a record as changed in a round.
fn since(round: u64) -> String {
    match round {
        0 | 1 => "2026-01-01T23:59:59Z".into(),
        _ => format!("2026-01-02T00:00:{:02}Z", round - 1),
    }
}

async fn polled(who: Who, case: Case, size: Size, directory: &Path) -> anyhow::Result<Reading> {
    let vendor = Vendor::start()?;
    vendor.stock(&stock(case, &size, 0)).await?;
    let (polls, notifications) = expected(case, &size);
    let (resource, page) = match case {
        Case::Scan => (Resource::Ledger, SCAN_PAGE),
        Case::Burst => (Resource::Orders, BURST_PAGE),
        _ => (Resource::Orders, SMALL),
    };
    // The first round is for everything that is done once: connections, the first poll's memory, warm caches.
    let rounds = size.rounds + 1;
    let mut readings = Vec::new();
    match who {
        Who::Floor | Who::Durable => {
            let scan = case == Case::Scan;
            let mut known = (scan && who == Who::Durable).then(Fingerprints::new);
            let floor = Floor::new(&vendor.url, (!scan && who == Who::Durable).then_some(directory))?;
            if scan {
                floor.poll(0, page, &since(0), known.as_mut()).await?;
            }
            for round in 1..=rounds {
                vendor.stock(&stock(case, &size, round)).await?;
                let start = Start::now();
                let posts = match scan {
                    true => floor.poll(0, page, &since(round), known.as_mut()).await?,
                    false => floor.polls(polls, size.at_once, page, &since(round)).await?,
                };
                readings.push(start.reading(polls, posts));
            }
        }
        Who::Flow => {
            let flow = Flow::new(directory, &vendor.url)?;
            let api = Api::new(&flow.service).await?;
            let mut fleet = Fleet::create(&flow.service, &api, polls, resource, page, &vendor.url).await?;
            // A first poll that was too long for the API's answer goes on here.
            while let Some(message) = flow.queue.take(QueueName::Polls, 1).pop() {
                let job: PollJob = serde_json::from_str(&message.body)?;
                let until = Utc::now() + chrono::TimeDelta::hours(1);
                flow::poll::poll(&flow.service, &job, flow::poll::Mode::Baseline, until).await?;
            }
            for round in 1..=rounds {
                vendor.stock(&stock(case, &size, round)).await?;
                let (jobs, before) = (fleet.jobs(), vendor.posts().await?);
                let mut start = Start::now();
                flow.polls(jobs, size.at_once, case != Case::Delivery).await?;
                if case == Case::Delivery {
                    start = Start::now();
                    let workers = stream::iter(0..size.at_once).map(|_| flow.deliveries());
                    let done: Vec<_> = workers.buffer_unordered(size.at_once).collect().await;
                    done.into_iter().collect::<anyhow::Result<()>>()?;
                }
                let mut reading = start.reading(polls, 0);
                reading.posts = vendor.posts().await? - before;
                readings.push(reading);
            }
        }
        Who::Service => {
            let system = ours::whole_service(directory, &vendor.url).await?;
            let api = Api::new(&system.service).await?;
            let mut fleet = Fleet::create(&system.service, &api, polls, resource, page, &vendor.url).await?;
            while !system.queue.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for round in 1..=rounds {
                vendor.stock(&stock(case, &size, round)).await?;
                let (jobs, before) = (fleet.jobs(), vendor.posts().await?);
                let start = Start::now();
                ours::through_queue(&system, &jobs).await?;
                let mut reading = start.reading(polls, 0);
                reading.posts = vendor.posts().await? - before;
                readings.push(reading);
            }
            system.stop().await;
        }
    }
    for reading in &readings {
        ensure!(reading.posts == notifications, "{who:?} {case:?}: {} posts of {notifications}", reading.posts);
    }
    middle(readings)
}

/// The measured round of the median CPU time; the first round is not one of them.
fn middle(mut readings: Vec<Reading>) -> anyhow::Result<Reading> {
    readings.remove(0);
    readings.sort_by(|a, b| a.cpu_s.total_cmp(&b.cpu_s));
    readings.get(readings.len() / 2).copied().context("no round was measured")
}

// ---------------------------------------------------------------- Dispatch

/// Interval of the members.
const INTERVAL: u16 = 15;

fn member(number: u64, minute: i64) -> PollJob {
    PollJob {
        organization: OrganizationId(1 + number % 97),
        instance: InstanceId(1_000_000_000_000 + number),
        resource: "orders".into(),
        minute,
    }
}

fn queue_client(url: &str) -> aws_sdk_sqs::Client {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"))
        .endpoint_url(url)
        .build();
    aws_sdk_sqs::Client::from_conf(config)
}

/// The floor sends as many messages in tens through the same client, made up on the spot; ours finds them in the
/// wheel, where `count` members are of which `due` are due.
async fn dispatched(who: Who, size: Size, directory: &Path) -> anyhow::Result<Reading> {
    let vendor = Vendor::start()?;
    vendor.stock(&stock(Case::Idle, &size, 0)).await?;
    let url = format!("{}/queue", vendor.url);
    let queue = SqsQueue::new(queue_client(&url), format!("{url}/polls"), format!("{url}/deliveries"));
    if who != Who::Flow {
        let mut readings = Vec::new();
        for round in 0..=size.rounds {
            let start = Start::now();
            let messages = (0..size.due).map(|number| {
                let job = member(number, round as i64);
                let body = serde_json::to_string(&job).expect("jobs serialize");
                Message { body, delay: Duration::from_secs(number % 60), group: job.organization.to_string() }
            });
            let outcomes = queue.send(QueueName::Polls, messages.collect()).await;
            ensure!(outcomes.iter().all(Result::is_ok), "everything is taken");
            readings.push(start.reading(size.due, 0));
        }
        return middle(readings);
    }
    let store = Arc::new(MemoryStore::default());
    let service = ours::service(directory, &vendor.url, store.clone(), Arc::new(queue))?;
    // A day ahead, so that every round finds a fresh minute whose slot holds exactly the due ones.
    let first = Utc::now() + chrono::TimeDelta::days(1);
    let minute = service.wheel.minute_of(first);
    let mark = Write::Put {
        item: Item { key: store::keys::interval_key(INTERVAL), version: 1, body: "{}".into(), expires_at: None },
        condition: Condition::Unconditional,
    };
    ensure!(store.write_each(&[mark]).await.iter().all(Result::is_ok), "the interval is in use");
    let rounds = size.rounds as i64;
    let mut number = 0;
    let mut fill = async |slots: Vec<i64>, members: u64| {
        let writes: Vec<Write> = (0..members)
            .map(|n| {
                number += 1;
                let (job, slot) = (member(number, 0), Slot::due(INTERVAL, slots[n as usize % slots.len()]));
                store::codec::put(
                    store::keys::slot_key(slot, job.instance, &job.resource),
                    1,
                    &job,
                    Condition::Unconditional,
                )
            })
            .collect();
        store.write_each(&writes).await.into_iter().collect::<Result<Vec<_>, _>>()
    };
    let all: Vec<i64> = (minute..minute + i64::from(INTERVAL)).collect();
    let (used, rest) = all.split_at(usize::try_from(rounds)? + 1);
    fill(used.to_vec(), size.due * used.len() as u64).await?;
    fill(rest.to_vec(), size.count.saturating_sub(size.due * used.len() as u64)).await?;
    let mut readings = Vec::new();
    for round in 0..=rounds {
        let now = service.wheel.start_of(minute + round);
        let start = Start::now();
        let report = flow::schedule::dispatch(&service, now).await?;
        ensure!(report.polls as u64 == size.due, "{} of {} were due", report.polls, size.due);
        readings.push(start.reading(size.due, 0));
    }
    middle(readings)
}

// ---------------------------------------------------------------- At rest

/// Makes the instances, stops, starts again and looks how much memory the service holds once nothing happens.
async fn resting(size: Size, directory: &Path) -> anyhow::Result<Reading> {
    let vendor = Vendor::start()?;
    vendor.stock(&stock(Case::Idle, &size, 0)).await?;
    // Made by another process, so that what making them took is not counted.
    let made = std::process::Command::new(std::env::current_exe()?)
        .args(["populate", "--count", &size.count.to_string(), "--vendor", &vendor.url])
        .arg("--directory")
        .arg(directory)
        .status()?;
    ensure!(made.success(), "the instances could not be made");
    let start = Start::now();
    let system = ours::whole_service(directory, &vendor.url).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut reading = start.reading(size.count, 0);
    reading.peak_mb = memory_mb("VmRSS:");
    system.stop().await;
    Ok(reading)
}

/// Makes instances in a data directory and stops.
pub async fn populate(count: u64, vendor: &str, directory: &Path) -> anyhow::Result<()> {
    let system = ours::whole_service(directory, vendor).await?;
    let api = Api::new(&system.service).await?;
    Fleet::create(&system.service, &api, count, Resource::Orders, SMALL, vendor).await?;
    while !system.queue.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    system.stop().await;
    Ok(())
}
