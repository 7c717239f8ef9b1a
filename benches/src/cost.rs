//! The cost meter: the usage of paid services by polls and events, at list prices.
//!
//! A child process runs like a function: it starts with a function's environment and by the code that starts the
//! functions. The embedded engine replaces DynamoDB, and counters replace SQS and KMS. So its CPU time, capacity units,
//! calls and log lines are those of a function.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, ensure};
use aws::store::DynamoStore;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use chrono::{DateTime, TimeDelta, Utc};
use flow::service::Service;
use local::engine::{Engine, TABLE};
use poller::Poller;
use serde::{Deserialize, Serialize};

use crate::clock::{Start, median};
use crate::ours::{self, Api, Fleet, Resource};
use crate::vendor::{Calls, Stock, Vendor};

/// Messages that the event sources hand over at once, as in the template.
const POLLS_AT_ONCE: usize = 20;
/// See above.
const DELIVERIES_AT_ONCE: usize = 10;
/// SQS takes and gives messages in tens.
const QUEUE_BATCH: f64 = 10.0;
/// Memory of the poller, as in the template.
const POLLER_MB: f64 = 512.0;
/// Memory of the dispatcher, as in the template.
const DISPATCHER_MB: f64 = 256.0;
/// With so much memory a function has one processor; with less, that share of it.
const MB_OF_A_PROCESSOR: f64 = 1769.0;
/// Vendors and callbacks are taken to answer after this time.
const ANSWER_MS: u64 = 200;
/// A call of DynamoDB, SQS or KMS is taken to last this long, above what it lasts on one machine.
const CALL_S: f64 = 0.005;
/// Send, receive, delete. A request of the queue carries up to 64 KB; ten jobs are a fraction of that.
const REQUESTS_A_QUEUE_BATCH: f64 = 3.0;
/// The bytes that Lambda itself logs for an invocation (start, end and report, as JSON).
const LAMBDA_LOG_BYTES: f64 = 800.0;

/// The limit and the goal for a million idle polls, in dollars.
pub const IDLE_GOAL: [f64; 2] = [1.0, 0.6];
/// The same of a million events, each alone in its notification.
pub const EVENT_GOAL: [f64; 2] = [3.5, 2.5];

/// List prices in dollars; see `prices.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were looked at.
    pub as_of: String,
    write_unit: f64,
    read_unit: f64,
    queue_request: f64,
    fair_queue_request: f64,
    lambda_gb_second: f64,
    lambda_request: f64,
    key_request: f64,
    log_gb: f64,
    http_api_request: f64,
    schedule_invocation: f64,
}

impl Prices {
    /// Those that are committed.
    pub fn committed() -> anyhow::Result<Self> {
        toml::from_str(include_str!("../prices.toml")).context("prices.toml")
    }
}

/// The mean usage of one poll or one notification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Units {
    /// DynamoDB's write units.
    pub writes: f64,
    /// DynamoDB's read units.
    pub reads: f64,
    /// Calls of DynamoDB in a row, of one message.
    pub calls: f64,
    /// Batches sent to queues by the poller.
    pub sends: f64,
    /// Calls of KMS.
    pub keys: f64,
    /// Seconds that an invocation of a full batch took.
    pub wall_s: f64,
    /// CPU seconds of an invocation of a full batch.
    pub cpu_s: f64,
    /// Bytes of log.
    pub log_bytes: f64,
}

/// The measurements of a child process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// A poll that finds nothing.
    idle: Units,
    /// A poll that finds one change, up to the commit.
    changed: Units,
    /// The delivery of that change.
    delivered: Units,
    /// A poll that finds ten changes, up to the commit.
    ten: Units,
    /// The delivery of those.
    ten_delivered: Units,
    /// The dispatcher's part of a poll; `cpu_s` is of one message.
    dispatched: Units,
}

/// One run through everything that is to be paid.
struct Meter {
    store: DynamoStore,
    http: reqwest::Client,
    vendor: String,
}

impl Meter {
    async fn calls(&self) -> anyhow::Result<Calls> {
        Ok(serde_json::from_str(&self.http.get(format!("{}/calls", self.vendor)).send().await?.text().await?)?)
    }

    async fn stock(&self, stock: &Stock) -> anyhow::Result<()> {
        let url = format!("{}/control", self.vendor);
        let post = self.http.post(url).header("content-type", "application/json");
        post.body(serde_json::to_string(stock)?).send().await?.error_for_status()?;
        Ok(())
    }

    /// Hands everything that waits on a queue to the poller, in full batches, and answers what one message used up.
    async fn drain(&self, poller: &Poller, queue: &str, batch: usize) -> anyhow::Result<Units> {
        let (capacity, calls, logged) = (self.store.capacity(), self.calls().await?, log_length()?);
        let (mut walls, mut cpus, mut messages) = (Vec::new(), Vec::new(), 0);
        loop {
            let mut bodies = Vec::new();
            while bodies.len() < batch {
                let taken = self.http.get(format!("{}/queue/{queue}", self.vendor)).send().await?.text().await?;
                let taken: Vec<String> = serde_json::from_str(&taken)?;
                if taken.is_empty() {
                    break;
                }
                bodies.extend(taken);
            }
            if bodies.is_empty() {
                break;
            }
            messages += bodies.len();
            let mut event = SqsEvent::default();
            for (number, body) in bodies.into_iter().enumerate() {
                let mut message = SqsMessage::default();
                (message.message_id, message.body) = (Some(number.to_string()), Some(body));
                event.records.push(message);
            }
            let full = event.records.len() == batch;
            let start = Start::now();
            let answer = poller.handle(event, Utc::now() + TimeDelta::seconds(60)).await?;
            let reading = start.reading(0, 0);
            ensure!(answer.batch_item_failures.is_empty(), "messages failed");
            if full {
                walls.push(reading.wall_s);
                cpus.push(reading.cpu_s);
            }
        }
        let (after, later) = (self.store.capacity(), self.calls().await?);
        let each = |value: f64| value / messages.max(1) as f64;
        Ok(Units {
            writes: each(after.writes - capacity.writes),
            reads: each(after.reads - capacity.reads),
            calls: each((after.calls - capacity.calls) as f64),
            sends: each((later.sends - calls.sends) as f64),
            keys: each((later.keys - calls.keys) as f64),
            wall_s: median(walls),
            cpu_s: median(cpus),
            log_bytes: each((log_length()? - logged) as f64),
        })
    }

    /// Fifteen minutes of the dispatcher from an instant on: how many polls it queued, and what it used up in all.
    async fn dispatched(&self, service: &Service, from: DateTime<Utc>) -> anyhow::Result<(usize, Units)> {
        let (capacity, calls, start) = (self.store.capacity(), self.calls().await?, Start::now());
        let mut polls = 0;
        for minute in 0..15 {
            polls += flow::schedule::dispatch(service, from + TimeDelta::minutes(minute)).await?.polls;
        }
        let (reading, after, later) = (start.reading(0, 0), self.store.capacity(), self.calls().await?);
        let reads = after.reads - capacity.reads;
        let sends = (later.sends - calls.sends) as f64;
        Ok((polls, Units { reads, sends, cpu_s: reading.cpu_s, ..Units::default() }))
    }

    /// Queues a fleet's polls, and answers what a poll used up and what a delivery did.
    async fn round(&self, service: &Service, poller: &Poller, fleet: &mut Fleet) -> anyhow::Result<(Units, Units)> {
        ours::queue_polls(&*service.ports.queue, &fleet.jobs()).await?;
        let polled = self.drain(poller, "polls", POLLS_AT_ONCE).await?;
        Ok((polled, self.drain(poller, "deliveries", DELIVERIES_AT_ONCE).await?))
    }
}

/// Bytes that this process wrote to its standard output, which is a file.
fn log_length() -> anyhow::Result<u64> {
    Ok(std::fs::metadata("/proc/self/fd/1").context("the log is measured on Linux")?.len())
}

/// The child process: measures, and writes what it measured into `answer`. Its standard output is its log.
pub async fn units(instances: u64, vendor: &str, answer: &Path) -> anyhow::Result<()> {
    let mut service = aws::start::service().await?;
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let store = DynamoStore::new(aws_sdk_dynamodb::Client::new(&config), TABLE);
    service.ports.store = Arc::new(store.clone());
    let meter = Meter { store, http: reqwest::Client::new(), vendor: vendor.to_owned() };
    let still = Stock { records: 20, changed: 0, revision: 0, only_changed: false, page: 20, delay_ms: 0 };
    meter.stock(&still).await?;
    // A day ahead, where no minute is dispatched yet.
    let later = Utc::now() + TimeDelta::days(1);
    let (_, alone) = meter.dispatched(&service, later).await?;
    let api = Api::new(&service).await?;
    let mut fleet = Fleet::create(&service, &api, instances, Resource::Orders, 20, vendor).await?;
    let poller = Poller::new(service.clone());
    let still = Stock { delay_ms: ANSWER_MS, ..still };
    meter.stock(&still).await?;
    // The first poll after a first pass reads what is near the cursor once more.
    meter.round(&service, &poller, &mut fleet).await?;
    let (idle, _) = meter.round(&service, &poller, &mut fleet).await?;
    meter.stock(&Stock { changed: 1, revision: 1, ..still }).await?;
    let (changed, delivered) = meter.round(&service, &poller, &mut fleet).await?;
    meter.stock(&Stock { changed: 10, revision: 2, ..still }).await?;
    let (ten, ten_delivered) = meter.round(&service, &poller, &mut fleet).await?;

    // Every member of the interval is due once in fifteen minutes. What the dispatcher does without members is not theirs.
    let (polls, of_members) = meter.dispatched(&service, later + TimeDelta::minutes(15)).await?;
    ensure!(polls as u64 == instances, "{polls} of {instances} were dispatched");
    let each = |of: fn(&Units) -> f64| (of(&of_members) - of(&alone)).max(0.0) / polls as f64;
    let dispatched = Units {
        reads: each(|units| units.reads),
        sends: each(|units| units.sends),
        cpu_s: each(|units| units.cpu_s),
        ..Units::default()
    };
    let measured = Measured { idle, changed, delivered, ten, ten_delivered, dispatched };
    std::fs::write(answer, serde_json::to_string(&measured)?)?;
    Ok(())
}

/// A bill: what was measured, and what it costs.
#[derive(Debug, Clone)]
pub struct Bill {
    /// An idle poll.
    pub idle: Units,
    measured: Measured,
    prices: Prices,
    instances: u64,
}

/// Measures a fleet and prices it.
pub async fn table(quick: bool) -> anyhow::Result<Bill> {
    // More instances than a function remembers data keys for.
    let instances: u64 = if quick { 20 } else { 600 };
    let directory = tempfile::tempdir()?;
    let (engine, vendor) = (Engine::memory().await?, Vendor::start()?);
    let elements = ours::element_directory(directory.path())?;
    let (answer, log) = (directory.path().join("answer.json"), directory.path().join("log"));
    let mut child = Command::new(std::env::current_exe()?);
    child
        .env_clear()
        .args(["units", "--instances", &instances.to_string(), "--vendor", &vendor.url, "--answer"])
        .arg(&answer)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&log)?);
    for (name, value) in [
        ("POLLUX_TABLE", TABLE.to_owned()),
        ("POLLUX_POLL_QUEUE_URL", format!("{}/queue/polls", vendor.url)),
        ("POLLUX_DELIVERY_QUEUE_URL", format!("{}/queue/deliveries", vendor.url)),
        ("POLLUX_KEY_ID", "alias/bench".to_owned()),
        ("POLLUX_ALLOW_PRIVATE", "true".to_owned()),
        ("POLLUX_VENDOR_BENCH", vendor.url.clone()),
        ("POLLUX_ELEMENTS_DIR", elements.display().to_string()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "bench".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "bench".to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", engine.endpoint().to_owned()),
        ("AWS_ENDPOINT_URL_SQS", format!("{}/queue", vendor.url)),
        ("AWS_ENDPOINT_URL_KMS", format!("{}/kms", vendor.url)),
    ] {
        child.env(name, value);
    }
    let status = tokio::task::spawn_blocking(move || child.status()).await??;
    let lines = std::fs::read(&log)?;
    ensure!(status.success(), "the units could not be measured: {}", String::from_utf8_lossy(&lines));
    let measured: Measured = serde_json::from_str(&std::fs::read_to_string(&answer)?)?;
    engine.shutdown().await;
    Ok(Bill { idle: measured.idle, measured, prices: Prices::committed()?, instances })
}

/// A line of a bill: what it is for, how much of it, and dollars for a million.
type Line = (&'static str, String, f64);

impl Bill {
    /// Dollars for one message that the poller works on.
    fn message(&self, units: &Units, is_poll: bool) -> Vec<Line> {
        let prices = &self.prices;
        let batch = if is_poll { POLLS_AT_ONCE } else { DELIVERIES_AT_ONCE } as f64;
        let million = 1e6;
        // The processor's share stretches what was computed; calls of the cloud last longer than those of one machine.
        let stretched = units.cpu_s * (MB_OF_A_PROCESSOR / POLLER_MB - 1.0).max(0.0);
        let billed = units.wall_s + stretched + (units.calls + units.sends + units.keys) * CALL_S;
        let gb_s = billed * POLLER_MB / 1024.0 / batch;
        let log = units.log_bytes + LAMBDA_LOG_BYTES / batch;
        let requests = REQUESTS_A_QUEUE_BATCH / QUEUE_BATCH;
        let mut lines = vec![
            ("DynamoDB, write units", format!("{:.2}", units.writes), units.writes * prices.write_unit * million),
            ("DynamoDB, read units", format!("{:.2}", units.reads), units.reads * prices.read_unit * million),
            (
                "Lambda, GB-seconds",
                format!("{gb_s:.5} ({:.0} ms for {batch})", billed * 1000.0),
                gb_s * prices.lambda_gb_second * million,
            ),
            ("Lambda, requests", format!("{:.2}", 1.0 / batch), prices.lambda_request * million / batch),
            (
                "SQS, requests (send, receive, delete in tens)",
                format!("{requests:.2}"),
                requests * (prices.queue_request + prices.fair_queue_request) * million,
            ),
            ("KMS, requests", format!("{:.3}", units.keys), units.keys * prices.key_request * million),
            ("CloudWatch, log bytes", format!("{log:.0}"), log / 1e9 * prices.log_gb * million),
        ];
        if is_poll {
            let sent = &self.measured.dispatched;
            let gb_s = sent.cpu_s * (MB_OF_A_PROCESSOR / DISPATCHER_MB) * DISPATCHER_MB / 1024.0;
            let dollars = sent.reads * prices.read_unit + gb_s * prices.lambda_gb_second;
            lines.push((
                "the dispatcher's reads and GB-seconds",
                format!("{:.3} read units, {gb_s:.6} GB-s", sent.reads),
                dollars * million,
            ));
        }
        lines
    }

    /// The usage that `units` add to a poll that finds nothing.
    fn above_idle(&self, units: &Units) -> Vec<Line> {
        let idle = self.message(&self.measured.idle, true);
        let lines = self.message(units, true).into_iter().zip(idle);
        lines.map(|((name, amount, dollars), (_, _, before))| (name, amount, dollars - before)).collect()
    }

    /// Dollars for a million polls that find nothing.
    pub fn idle_dollars(&self) -> f64 {
        total(&self.message(&self.measured.idle, true))
    }

    /// Dollars for a million events, each found by another poll and delivered alone: what they add to those polls, and
    /// their deliveries.
    pub fn event_dollars(&self) -> f64 {
        total(&self.above_idle(&self.measured.changed)) + total(&self.message(&self.measured.delivered, false))
    }

    /// The same when ten are found and delivered together.
    pub fn event_of_ten_dollars(&self) -> f64 {
        let ten =
            total(&self.above_idle(&self.measured.ten)) + total(&self.message(&self.measured.ten_delivered, false));
        ten / 10.0
    }

    /// The tables of the page.
    pub fn in_words(&self) -> String {
        let mut text = format!(
            "Measured on {} with {} instances; prices of {}.\n\n| | dollars | must | aim |\n| --- | --- | --- | --- |\n",
            Utc::now().format("%Y-%m-%d"),
            self.instances,
            self.prices.as_of
        );
        for (what, dollars, [must, aim]) in [
            ("a million idle polls", self.idle_dollars(), IDLE_GOAL),
            ("a million events, each alone in its notification", self.event_dollars(), EVENT_GOAL),
        ] {
            let _ = writeln!(text, "| {what} | **${dollars:.2}** | ${must:.2} | ${aim:.2} |");
        }
        let _ =
            writeln!(text, "| a million events, ten in a notification | **${:.2}** | | |", self.event_of_ten_dollars());
        let parts = [
            ("An idle poll", self.message(&self.measured.idle, true)),
            ("One event: what it adds to the poll that finds it", self.above_idle(&self.measured.changed)),
            ("One event: its delivery", self.message(&self.measured.delivered, false)),
        ];
        for (title, lines) in parts {
            let _ = writeln!(text, "\n### {title}\n\n| | each | dollars a million |\n| --- | --- | --- |");
            for (name, amount, dollars) in &lines {
                let _ = writeln!(text, "| {name} | {amount} | {dollars:.3} |");
            }
            let _ = writeln!(text, "| together | | **{:.3}** |", total(&lines));
        }
        let minutes = 60.0 * 24.0 * 30.0;
        let _ = writeln!(
            text,
            "\nWhatever is polled, the schedule fires {minutes:.0} times a month (${:.2}); a call of the API costs the \
             gateway's ${:.2} a million and its function's time.",
            minutes * self.prices.schedule_invocation,
            self.prices.http_api_request * 1e6,
        );
        text
    }
}

fn total(lines: &[Line]) -> f64 {
    lines.iter().map(|(_, _, dollars)| dollars).sum()
}
