//! Kills a real `pollux serve` at random moments while it polls, delivers and answers calls. The vendors and the inbox
//! outlive it. At the end a consumer of every callback must have the vendors' state, and everything that the API
//! acknowledged must exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use domain::secret::Secret;
use local::inbox::{self, Behaviour, Inbox, Receipt};
use local::sandbox::{self, Sandbox};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::harness::{SIGNATURE_KEY, id_of, seed};
use crate::program::Pollux;
use crate::sim::{Rng, SUBJECTS, Subject, version_in, version_of};

/// The longest wait for an event. A delivery whose process died between its commit and its message is sent by its retry
/// entry, two to three minutes later.
const PATIENCE: Duration = Duration::from_secs(360);

/// The result of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// The number of kills.
    pub kills: u64,
    /// Changes at the vendors.
    pub changes: u64,
    /// Events that arrived, each counted once.
    pub events: u64,
    /// Notifications without a new event.
    pub repeated: u64,
    /// Changes of an instance that the API acknowledged.
    pub acknowledged: u64,
    /// Calls of the API that were cut off.
    pub cut_off: u64,
}

/// The vendors and the inbox, in this process.
pub struct Outside {
    sandbox: Sandbox,
    inbox: Inbox,
    url: String,
    rng: Rng,
    changes: u64,
    records: BTreeMap<&'static str, Vec<String>>,
    baseline: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

/// The polled resources. Every poll of these two finds every change but Square's deletions, which do not occur here.
fn watched() -> [Subject; 2] {
    [SUBJECTS[0], SUBJECTS[1]]
}

impl Outside {
    /// Serves the vendors and the inbox on a port of their own, with a few records.
    ///
    /// # Errors
    /// No port is free.
    pub async fn serve(seed: u64) -> Result<Self> {
        let sandbox = Sandbox::new(Arc::new(Utc::now), seed);
        let inbox = Inbox::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let routes = sandbox::router(sandbox.clone()).merge(inbox::router(inbox.clone()));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        inbox.behave("main", Behaviour { signature_key: Some(Secret::new(SIGNATURE_KEY)), ..Behaviour::default() });
        let (records, baseline) = (BTreeMap::new(), BTreeMap::new());
        let mut outside = Self { sandbox, inbox, url, rng: Rng::new(seed), changes: 0, records, baseline };
        for subject in watched() {
            for _ in 0..3 {
                let record = outside.sandbox.create(subject.element, subject.collection, json!({}))?;
                outside.records.entry(subject.element).or_default().push(id_of(&record[subject.id]));
            }
            outside.baseline.insert(subject.element, outside.live(subject)?);
        }
        Ok(outside)
    }

    /// The options with which `pollux serve` calls these vendors and none of its own.
    pub fn arguments(&self) -> Vec<String> {
        let at = |subject: Subject| format!("{0}={1}/sandbox/{0}", subject.element, self.url);
        let vendors = watched().into_iter().flat_map(|subject| ["--vendor".to_owned(), at(subject)]);
        ["--minute", "250ms", "--no-sandbox"].map(str::to_owned).into_iter().chain(vendors).collect()
    }

    /// Makes the instances that poll the vendors. Returns the id of one.
    ///
    /// # Errors
    /// The API refuses one.
    pub async fn watch(&self, pollux: &Pollux) -> Result<String> {
        let mut id = String::new();
        for subject in watched() {
            let mut body = seed(subject.element);
            let configuration = &mut body["configuration"];
            configuration["event.notification.callback.url"] = json!(format!("{}/inbox/main", self.url));
            configuration["event.notification.signature.key"] = json!(SIGNATURE_KEY);
            configuration["event.poller.configuration"] = json!({ subject.resource: {} });
            let (status, answer) = pollux.call(Method::POST, "/instances", Some(body)).await?;
            ensure!(status == StatusCode::OK, "{status} {answer}");
            id = answer["id"].to_string();
        }
        Ok(id)
    }

    fn live(&self, subject: Subject) -> Result<BTreeMap<String, u64>> {
        let records = self.sandbox.list(subject.element, subject.collection)?;
        Ok(records.iter().map(|record| (id_of(&record[subject.id]), version_of(record, subject))).collect())
    }

    /// Changes one record at one of the vendors.
    ///
    /// # Errors
    /// The sandbox does not know its own records.
    pub fn change(&mut self) -> Result<()> {
        let subject = *self.rng.pick(&watched());
        self.changes += 1;
        let value = json!({ subject.member: format!("edit {}", self.changes) });
        let records = self.records.entry(subject.element).or_default();
        let which = self.rng.below(records.len() as u64) as usize;
        let deletes = subject.deletions_show_at_once && records.len() > 3;
        match self.rng.below(5) {
            0 if deletes => self.sandbox.delete(subject.element, subject.collection, &records.swap_remove(which))?,
            1 | 2 => {
                let record = self.sandbox.create(subject.element, subject.collection, value)?;
                records.push(id_of(&record[subject.id]));
            }
            _ => drop(self.sandbox.update(subject.element, subject.collection, &records[which], value)?),
        }
        Ok(())
    }

    /// Describes the first difference between the vendors and the received events. `None`: there is no difference.
    ///
    /// # Errors
    /// A permanent fault, such as an id of two facts.
    pub fn missing(&self) -> Result<Option<String>> {
        let held = held(self.inbox.received("main").iter().map(Arc::as_ref), &watched())?;
        for subject in watched() {
            let mut state = self.baseline[subject.element].clone();
            for ((_, record), (_, version)) in held.iter().filter(|((element, _), _)| *element == subject.element) {
                match version {
                    Some(version) => state.insert(record.clone(), *version),
                    None => state.remove(record),
                };
            }
            let live = self.live(subject)?;
            if state != live {
                return Ok(Some(format!("{}: {live:?} at the vendor, {state:?} arrived", subject.element)));
            }
        }
        Ok(None)
    }

    /// Waits until everything arrived.
    ///
    /// # Errors
    /// An event did not arrive, or a wrong one did.
    pub async fn settle(&self) -> Result<Figures> {
        let until = Instant::now() + PATIENCE;
        while let Some(missing) = self.missing()? {
            ensure!(Instant::now() < until, "it never arrives: {missing}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let received = self.inbox.received("main");
        let events: BTreeSet<&String> = received.iter().flat_map(|receipt| &receipt.event_ids).collect();
        let repeated = received.iter().filter(|receipt| receipt.duplicate).count() as u64;
        Ok(Figures { changes: self.changes, events: events.len() as u64, repeated, ..Figures::default() })
    }
}

/// The state of a consumer, by element and record: the highest sequence and its version. `None`: the record is deleted.
pub type Held = BTreeMap<(&'static str, String), (u64, Option<u64>)>;

/// The state of a consumer that kept these callbacks of one inbox.
///
/// # Errors
/// A permanent fault: a callback is not signed, an id names two facts, or a fact has two ids.
pub fn held<'a>(receipts: impl IntoIterator<Item = &'a Receipt>, subjects: &[Subject]) -> Result<Held> {
    let mut held = Held::new();
    let mut facts: BTreeMap<String, String> = BTreeMap::new();
    for receipt in receipts {
        ensure!(receipt.verified.standard == Some(true), "callback {} is not signed", receipt.number);
        let body = receipt.json();
        for (place, event) in body["message"]["events"].as_array().into_iter().flatten().enumerate() {
            let element = body["message"]["elementKey"].as_str().unwrap_or_default();
            let found = subjects.iter().find(|subject| subject.element == element);
            let subject = *found.with_context(|| format!("an event of {element:?}"))?;
            let record = event["objectId"].as_str().unwrap_or_default().to_owned();
            let (kind, sequence) = (event["eventType"].as_str(), event["sequence"].as_u64().unwrap_or(0));
            let version = (kind != Some("DELETED")).then(|| version_in(&body, subject, place));
            let fact = format!("{element} {record} #{sequence} {kind:?} {version:?}");
            let id = event["id"].to_string();
            let before = facts.insert(id.clone(), fact.clone());
            ensure!(before.as_ref().is_none_or(|before| *before == fact), "{id} is {before:?} and {fact}");
            if (200..300).contains(&receipt.status) {
                let held = held.entry((subject.element, record)).or_insert((0, None));
                if sequence > held.0 {
                    *held = (sequence, version);
                }
            }
        }
    }
    ensure!(facts.values().collect::<BTreeSet<_>>().len() == facts.len(), "one fact came under two ids");
    Ok(held)
}

/// A user who renames an instance again and again. An acknowledged name stays until the next one.
#[derive(Debug, Default)]
struct Renaming {
    begun: u64,
    acknowledged: u64,
    cut_off: u64,
}

impl Renaming {
    /// Renames the instance until the process ends.
    async fn go_on(&mut self, victim: &Pollux, path: &str) -> Result<()> {
        loop {
            self.begun += 1;
            let name = json!({ "name": self.begun.to_string() });
            match victim.call(Method::PATCH, path, Some(name)).await {
                Ok((StatusCode::OK, _)) => self.acknowledged = self.begun,
                // Another write was first, or the table is busy: nothing was changed.
                Ok((StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE, _)) => {}
                Ok((status, answer)) => anyhow::bail!("the name was not taken: {status} {answer}"),
                Err(_) => break,
            }
        }
        self.cut_off += 1;
        Ok(())
    }

    /// Checks the state after a start: the last acknowledged change, or the one that was in progress.
    async fn look(&mut self, victim: &Pollux, path: &str) -> Result<()> {
        let (status, answer) = victim.call(Method::GET, path, None).await?;
        let name = answer["name"].as_str().and_then(|name| name.parse().ok());
        let name: u64 = name.unwrap_or(0);
        let may_be = self.acknowledged..=self.begun;
        ensure!(status == StatusCode::OK && may_be.contains(&name), "{status} {answer}, where {may_be:?} is right");
        self.acknowledged = name;
        Ok(())
    }
}

/// Kills `pollux` `times` times under load, and waits until everything arrived. `report` gets the progress.
///
/// # Errors
/// An event was lost or repeated under another id, or `pollux` no longer starts.
pub async fn kill(binary: PathBuf, times: u64, seed: u64, report: impl Fn(&str)) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let mut outside = Outside::serve(seed).await?;
    let victim = Pollux::new(binary, &folder.path().join("data"), outside.arguments())?;
    let mut program = victim.start().await?;
    let path = format!("/instances/{}", outside.watch(&victim).await?);
    let mut renaming = Renaming::default();
    for time in 1..=times {
        let life = Duration::from_millis(outside.rng.between(30, 1500));
        let under_load = async {
            let until = Instant::now() + life;
            while Instant::now() < until {
                outside.change()?;
                let pause = outside.rng.between(2, 60);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            // SIGKILL, when the handle is dropped.
            drop(program);
            anyhow::Ok(())
        };
        let (killed, renamed) = tokio::join!(under_load, renaming.go_on(&victim, &path));
        killed.and(renamed)?;
        outside.change()?;
        program = victim.start().await?;
        renaming.look(&victim, &path).await?;
        if time.is_multiple_of(10) {
            report(&format!("killed {time} times, {} changes, {} names taken", outside.changes, renaming.acknowledged));
        }
    }
    report("waiting for the last to arrive");
    let figures = outside.settle().await?;
    drop(program);
    Ok(Figures { kills: times, acknowledged: renaming.acknowledged, cut_off: renaming.cut_off, ..figures })
}
