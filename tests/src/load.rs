//! Overloads a real `pollux serve` with its sandbox vendor: calls of the API, polls and deliveries at once. It must refuse
//! the excess with answers that say so, and recover soon after, with nothing lost.
//!
//! First one caller sends several times the calls that the service can answer, then two do. A third one calls a few times
//! a second.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use local::inbox::Receipt;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{SIGNATURE_KEY, id_of, seed};
use crate::kill::held;
use crate::program::{Pollux, Program, memory_kb};
use crate::sim::{Rng, SUBJECTS, version_of};

/// Accounts at the vendor, each with an instance that is polled every minute of the schedule.
const ACCOUNTS: u64 = 20;
/// A minute of the schedule.
const MINUTE: &str = "1s";
/// The overload: the number of calls sent for each call that the service can answer.
const TIMES: f64 = 3.0;
/// The most concurrent calls of a caller. More would only measure this machine's sockets.
const UNDER_WAY: usize = 200;
/// The calls a second of the caller without overload.
const FEW: f64 = 10.0;
/// Changes a second at the vendor.
const CHANGES: u64 = 20;
/// A call without an answer after this time hangs.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// The time by which the service must have recovered.
const PATIENCE: Duration = Duration::from_secs(120);

/// The counts of a part of a run.
#[derive(Debug, Default)]
pub struct Tally {
    /// Calls that were sent.
    pub offered: u64,
    /// Calls that were not sent, because the caller had too many concurrent ones.
    pub held_back: u64,
    /// Answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// The durations of successful calls, in milliseconds.
    latencies: Vec<f64>,
    /// The durations of refused calls, in milliseconds.
    refusals: Vec<f64>,
    /// The calls with a wrong answer.
    pub wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.held_back += other.held_back;
        for (status, count) in &other.answers {
            *self.answers.entry(*status).or_default() += count;
        }
        self.latencies.extend(&other.latencies);
        self.refusals.extend(&other.refusals);
        self.wrong.extend(other.wrong.iter().cloned());
    }

    /// Answers of this status.
    pub fn of(&self, status: u16) -> u64 {
        self.answers.get(&status).copied().unwrap_or(0)
    }

    /// The number of successful calls.
    pub fn done(&self) -> u64 {
        self.latencies.len() as u64
    }

    /// The latency, in milliseconds, that this share of the successful calls kept below.
    pub fn latency(&self, share: f64) -> f64 {
        quantile(&self.latencies, share)
    }

    /// Formats the counts as a line. `seconds` is the duration.
    fn summary(&self, seconds: f64) -> String {
        let each = |count: u64| count as f64 / seconds;
        format!(
            "{:.0} calls/s offered, {:.0}/s done, {:.0}/s refused with 429 and {:.0}/s with 503; p50 {:.1} ms, p99 {:.1} ms, \
             a refusal's p99 {:.1} ms; {} held back, {} wrong",
            each(self.offered),
            each(self.done()),
            each(self.of(429)),
            each(self.of(503)),
            self.latency(0.5),
            self.latency(0.99),
            quantile(&self.refusals, 0.99),
            self.held_back,
            self.wrong.len()
        )
    }
}

fn quantile(of: &[f64], share: f64) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).copied().unwrap_or(0.0)
}

/// A caller of the API.
#[derive(Clone)]
struct Caller {
    client: Client,
    url: Arc<str>,
    authorization: Arc<str>,
    instances: Arc<[String]>,
    tally: Arc<Mutex<Tally>>,
}

impl Caller {
    fn new(pollux: &Pollux, authorization: &str) -> Result<Self> {
        let client = Client::builder().timeout(ANSWERED_WITHIN).build()?;
        let url = format!("http://{}", pollux.address).into();
        Ok(Self { client, url, authorization: authorization.into(), instances: Arc::new([]), tally: Arc::default() })
    }

    /// Makes an instance that polls one account of the sandbox.
    async fn watch(&self, account: &str) -> Result<String> {
        let subject = SUBJECTS[0];
        let inbox = format!("{}/inbox/{account}", self.url);
        let knows = self.client.put(&inbox).header("content-type", "application/json");
        let knows = knows.body(json!({ "signatureKey": SIGNATURE_KEY }).to_string()).send().await?;
        ensure!(knows.status() == StatusCode::OK, "the inbox says {}", knows.status());
        let mut body = seed(subject.element);
        body["providerData"]["code"] = json!(format!("sandbox-code-{account}"));
        let configuration = &mut body["configuration"];
        configuration["event.notification.callback.url"] = json!(inbox);
        configuration["event.notification.signature.key"] = json!(SIGNATURE_KEY);
        configuration["event.poller.configuration"] = json!({ subject.resource: {} });
        let answer = self.send(Method::POST, "/instances", Some(body)).await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::OK, "{status} {text}");
        Ok(serde_json::from_str::<Value>(&text)?["id"].to_string())
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> reqwest::Result<reqwest::Response> {
        let url = format!("{}/elements/api-v2{path}", self.url);
        let request = self.client.request(method, url).header("authorization", &*self.authorization);
        match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()).send().await,
            None => request.send().await,
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_tally(&self) -> Tally {
        std::mem::take(&mut self.tally())
    }

    /// Makes one call, selected by a random number, and counts its answer.
    async fn call(&self, number: u64) {
        let id = &self.instances[(number >> 8) as usize % self.instances.len()];
        let (method, path, body) = match number % 10 {
            0 | 1 => (Method::GET, "/instances".to_owned(), None),
            2..=4 => (Method::GET, format!("/instances/{id}"), None),
            5 | 6 => (Method::GET, format!("/instances/{id}/coverage"), None),
            7 => (Method::GET, format!("/instances/{id}/events?pageSize=20"), None),
            8 => (Method::PATCH, format!("/instances/{id}"), Some(json!({ "name": format!("name {number}") }))),
            _ => (Method::POST, format!("/instances/{id}/poll"), None),
        };
        self.tally().offered += 1;
        let began = Instant::now();
        let answer = async {
            let answer = self.send(method.clone(), &path, body).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, answer.bytes().await?))
        };
        let answer = answer.await;
        let took = began.elapsed().as_secs_f64() * 1000.0;
        let mut tally = self.tally();
        let (status, headers, bytes) = match answer {
            Ok(answer) => answer,
            Err(error) => return tally.wrong.push(format!("{method} {path}: {error:?}")),
        };
        *tally.answers.entry(status.as_u16()).or_default() += 1;
        let json: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let seconds = headers.get("retry-after").and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
        let says =
            json["message"].as_str().is_some_and(|message| message.ends_with('.')) && json["requestId"].is_string();
        match status.as_u16() {
            // 409: concurrent renames won every race.
            200 | 409 if !json.is_null() => tally.latencies.push(took),
            429 | 503 if seconds.is_some() && says => tally.refusals.push(took),
            _ => tally.wrong.push(format!("{method} {path}: {status} {}", String::from_utf8_lossy(&bytes))),
        }
    }

    /// Makes `rate` calls a second until a time, whatever the answers.
    async fn go_on(&self, rate: f64, until: Instant, mut rng: Rng) {
        let (began, mut sent, mut under_way) = (Instant::now(), 0, JoinSet::new());
        let mut beat = tokio::time::interval(Duration::from_millis(10));
        while Instant::now() < until {
            beat.tick().await;
            while under_way.try_join_next().is_some() {}
            let due = (began.elapsed().as_secs_f64() * rate) as u64;
            for _ in sent..due {
                if under_way.len() >= UNDER_WAY {
                    self.tally().held_back += 1;
                    continue;
                }
                let (caller, number) = (self.clone(), rng.next_u64());
                under_way.spawn(async move { caller.call(number).await });
            }
            sent = due.max(sent);
        }
        under_way.join_all().await;
    }
}

/// The user of the vendor, who changes records and knows the current ones.
struct Vendor {
    client: Client,
    url: String,
    rng: Rng,
    changes: u64,
    records: BTreeMap<u64, Vec<String>>,
    /// The records before the first poll.
    baseline: BTreeMap<u64, BTreeMap<String, u64>>,
}

fn account(number: u64) -> String {
    format!("load-{number}")
}

impl Vendor {
    fn new(pollux: &Pollux) -> Self {
        let url = format!("http://{}", pollux.address);
        Self {
            client: Client::new(),
            url,
            rng: Rng::new(5),
            changes: 0,
            records: BTreeMap::new(),
            baseline: BTreeMap::new(),
        }
    }

    fn collection(&self) -> String {
        format!("{}/sandbox/control/{}/{}", self.url, SUBJECTS[0].element, SUBJECTS[0].collection)
    }

    async fn change(&mut self) -> Result<()> {
        let number = self.rng.below(ACCOUNTS);
        self.changes += 1;
        let value = json!({ SUBJECTS[0].member: format!("edit {}", self.changes) }).to_string();
        let records = self.records.entry(number).or_default();
        let which = self.rng.below(records.len() as u64) as usize;
        let update = !records.is_empty() && (records.len() >= 20 || self.rng.below(3) > 0);
        let (method, path) = match update {
            true => (Method::PATCH, format!("/{}", records[which])),
            false => (Method::POST, String::new()),
        };
        let url = format!("{}{path}?account={}", self.collection(), account(number));
        let request = self.client.request(method, url).header("content-type", "application/json").body(value);
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "the sandbox says {status} {text}");
        if !update {
            let record: Value = serde_json::from_str(&text)?;
            self.records.entry(number).or_default().push(id_of(&record[SUBJECTS[0].id]));
        }
        Ok(())
    }

    async fn go_on(&mut self, until: Instant) -> Result<()> {
        let mut beat = tokio::time::interval(Duration::from_millis(1000 / CHANGES));
        while Instant::now() < until {
            beat.tick().await;
            self.change().await?;
        }
        Ok(())
    }

    async fn get(&self, url: String) -> Result<Value> {
        Ok(serde_json::from_str(&self.client.get(url).send().await?.error_for_status()?.text().await?)?)
    }

    /// The records of an account.
    async fn live(&self, number: u64) -> Result<BTreeMap<String, u64>> {
        let live = self.get(format!("{}?account={}", self.collection(), account(number))).await?;
        let records = live.as_array().into_iter().flatten();
        Ok(records.map(|record| (id_of(&record[SUBJECTS[0].id]), version_of(record, SUBJECTS[0]))).collect())
    }

    /// The records of an account that did not arrive, or that arrived with another version.
    async fn missing(&self, number: u64) -> Result<Option<String>> {
        let (subject, name) = (SUBJECTS[0], account(number));
        let live = self.live(number).await?;
        let inbox = self.get(format!("{}/inbox/{name}?limit=10000", self.url)).await?;
        let receipts: Vec<Receipt> = serde_json::from_value(inbox["callbacks"].clone())?;
        let held = held(&receipts, &[subject])?;
        let mut arrived = self.baseline[&number].clone();
        arrived.extend(held.into_iter().filter_map(|((_, record), (_, version))| Some((record, version?))));
        Ok((live != arrived).then(|| format!("{name}: {live:?} at the vendor, {arrived:?} arrived")))
    }

    /// Waits until everything arrived. Returns the number of events.
    async fn settle(&self) -> Result<u64> {
        let (until, mut events) = (Instant::now() + PATIENCE, 0);
        for number in 0..ACCOUNTS {
            while let Some(missing) = self.missing(number).await? {
                ensure!(Instant::now() < until, "it never arrives: {missing}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let inbox = self.get(format!("{}/inbox/{}?limit=0", self.url, account(number))).await?;
            events += inbox["counters"]["events"].as_u64().unwrap_or(0);
        }
        Ok(events)
    }
}

/// The memory of the process in megabytes: now and at most.
fn memory(program: &mut Program) -> Result<(u64, u64)> {
    let process = program.child().id().to_string();
    let kilobytes = (memory_kb(&process, "VmRSS:"), memory_kb(&process, "VmHWM:"));
    let (Some(now), Some(most)) = kilobytes else { bail!("the system does not say how much memory a process has") };
    Ok((now / 1024, most / 1024))
}

/// The polls and deliveries since the last reading of the log.
#[derive(Debug, Default)]
struct Work {
    polls: u64,
    /// Polls that started more than a minute of the schedule late.
    late: u64,
    deliveries: u64,
    failures: Vec<String>,
}

fn read_log(file: &Path, from: &mut usize) -> Result<Work> {
    let text = std::fs::read_to_string(file)?;
    let mut work = Work::default();
    for line in text.get(*from..).unwrap_or_default().lines() {
        let late = line.split("late_ms=").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<f64>().ok());
        if line.contains("poll ended outcome=Committed") {
            work.polls += 1;
            work.late += u64::from(late.is_some_and(|late| late > 1000.0));
        } else if line.contains("attempt made outcome=Delivered") {
            work.deliveries += 1;
        } else if line.contains(" ERROR ") || line.contains("panicked") {
            work.failures.push(line.to_owned());
        }
    }
    *from = text.len();
    Ok(work)
}

/// The result of a run.
#[derive(Debug, Default)]
pub struct Figures {
    /// Calls of the overloading callers.
    pub during: Tally,
    /// Calls of the other caller during the overload.
    pub others: Tally,
    /// The 99th percentile of the latency before and after, in milliseconds.
    pub p99: (f64, f64),
    /// Polls during the overload.
    pub polls: u64,
    /// Polls during the overload that started more than a minute of the schedule late.
    pub late: u64,
    /// Deliveries during the overload.
    pub deliveries: u64,
    /// Changes at the vendor.
    pub changes: u64,
    /// Events that arrived.
    pub events: u64,
    /// Megabytes before, at most, and after.
    pub memory: (u64, u64, u64),
    /// The times from the end of the overload until calls were as fast as before, and until everything had arrived.
    pub recovered: (Duration, Duration),
}

/// Makes the three callers, each with its instances.
async fn callers(pollux: &Pollux) -> Result<Vec<Caller>> {
    let mut callers = vec![Caller::new(pollux, &pollux.authorization()?)?];
    for name in ["second", "quiet"] {
        callers.push(Caller::new(pollux, &pollux.organization(name)?)?);
    }
    let shares = [ACCOUNTS / 2, ACCOUNTS / 2 - 1, 1];
    let mut next = 0;
    for (caller, share) in callers.iter_mut().zip(shares) {
        let mut instances = Vec::new();
        for number in next..next + share {
            instances.push(caller.watch(&account(number)).await?);
        }
        (caller.instances, next) = (instances.into(), next + share);
    }
    Ok(callers)
}

/// Measures the calls a second that the service answers: 16 at once, each worker one after the other.
async fn measure_capacity(caller: &Caller, time: Duration, report: &impl Fn(&str)) -> (f64, Tally) {
    let began = Instant::now();
    let workers = (0..16).map(|number| async move {
        let mut rng = Rng::new(number);
        while began.elapsed() < time {
            caller.call(rng.next_u64()).await;
        }
    });
    futures::future::join_all(workers).await;
    let capacity = caller.tally().done() as f64 / began.elapsed().as_secs_f64();
    let calibration = caller.take_tally();
    report(&format!("16 at a time: {}", calibration.summary(began.elapsed().as_secs_f64())));
    (capacity, calibration)
}

/// Calls the service until no call is refused and the latency is at most `near`, in milliseconds.
async fn wait_for_recovery(caller: &Caller, near: f64) -> Result<Tally> {
    let over = Instant::now();
    loop {
        caller.go_on(2.0 * FEW, Instant::now() + Duration::from_secs(1), Rng::new(6)).await;
        let tally = caller.take_tally();
        let refused = tally.of(429) + tally.of(503);
        if refused == 0 && tally.wrong.is_empty() && tally.latency(0.99) <= near {
            return Ok(tally);
        }
        ensure!(over.elapsed() < PATIENCE, "it does not recover: {}", tally.summary(1.0));
    }
}

/// Overloads the service for this time, and waits until it has recovered. `report` gets the measurements.
///
/// # Errors
/// A call had no answer or a wrong one, an event was lost, or the service did not recover.
pub async fn load(binary: PathBuf, seconds: u64, report: impl Fn(&str)) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let mut pollux = Pollux::new(binary, &folder.path().join("data"), vec!["--minute".into(), MINUTE.into()])?;
    let log = folder.path().join("log");
    pollux.log = Some(("warn,dynoxide=error,poller=info", log.clone()));
    let mut program = pollux.start().await?;
    let mut vendor = Vendor::new(&pollux);
    for number in 0..ACCOUNTS {
        vendor.baseline.insert(number, vendor.live(number).await?);
    }
    let callers = callers(&pollux).await?;
    let [first, second, quiet] = callers.as_slice() else { bail!("three callers") };
    let (stretch, mut read) = (Duration::from_secs(seconds.div_ceil(4)), 0);

    // Without overload.
    let until = Instant::now() + stretch;
    let (changed, ()) = tokio::join!(vendor.go_on(until), quiet.go_on(FEW, until, Rng::new(1)));
    changed?;
    let (before, peace) = (quiet.take_tally(), memory(&mut program)?.0);
    report(&format!("in peace: {}", before.summary(stretch.as_secs_f64())));

    let (capacity, calibration) = measure_capacity(first, stretch.min(Duration::from_secs(4)) / 2, &report).await;

    // Overload: by one caller, and then by two.
    read_log(&log, &mut read)?;
    let (mut during, drive) = (Tally::default(), Duration::from_secs(seconds) / 2);
    for (what, of_second) in [("too much of one caller", 0.0), ("too much of two", TIMES)] {
        let until = Instant::now() + drive;
        let (changed, ..) = tokio::join!(
            vendor.go_on(until),
            first.go_on(TIMES * capacity, until, Rng::new(2)),
            second.go_on(of_second * capacity, until, Rng::new(3)),
            quiet.go_on(FEW, until, Rng::new(4)),
        );
        changed?;
        let mut tally = first.take_tally();
        tally.add(&second.take_tally());
        report(&format!("{what}: {}", tally.summary(drive.as_secs_f64())));
        during.add(&tally);
    }
    let over = Instant::now();
    let others = quiet.take_tally();
    report(&format!("somebody else meanwhile: {}", others.summary(seconds as f64)));
    let work = read_log(&log, &mut read)?;

    // It must recover: be as fast as before, and deliver everything.
    let after = wait_for_recovery(quiet, 2.0 * before.latency(0.99) + 50.0).await?;
    let quick = over.elapsed();
    let events = vendor.settle().await?;
    let drained = over.elapsed();
    report(&format!(
        "afterwards: {}; as before after {quick:.1?}, everything arrived after {drained:.1?}",
        after.summary(1.0)
    ));
    let (end, peak) = memory(&mut program)?;
    let rest = read_log(&log, &mut read)?;
    report(&format!(
        "{} polls, {} of them a minute late, and {} deliveries while it was driven; {} changes, {events} events; {peace} MB before, {peak} at most, {end} after",
        work.polls, work.late, work.deliveries, vendor.changes
    ));
    for tally in [&before, &calibration, &during, &others, &after] {
        ensure!(
            tally.wrong.is_empty(),
            "{} calls went wrong: {:#?}",
            tally.wrong.len(),
            &tally.wrong[..tally.wrong.len().min(5)]
        );
    }
    let failures = [work.failures, rest.failures].concat();
    ensure!(failures.is_empty(), "the log has failures: {:#?}", &failures[..failures.len().min(5)]);
    ensure!(program.child().try_wait()?.is_none(), "it ended");
    let p99 = (before.latency(0.99), after.latency(0.99));
    let (polls, late, deliveries, changes) = (work.polls, work.late, work.deliveries, vendor.changes);
    let (memory, recovered) = ((peace, peak, end), (quick, drained));
    drop(program);
    ensure!(events > 0 && polls > 0, "nothing was polled");
    during.of(429).checked_add(during.of(503)).filter(|refused| *refused > 0).context("it was never too much")?;
    Ok(Figures { during, others, p99, polls, late, deliveries, changes, events, memory, recovered })
}
