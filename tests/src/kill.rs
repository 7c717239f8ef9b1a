//! A real `pollux serve`, killed at random moments under load, between a vendor and an inbox that outlive it. In the end
//! whoever kept every callback must hold what the vendor holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use chrono::Utc;
use domain::secret::Secret;
use local::inbox::{self, Behaviour, Inbox};
use local::sandbox::{self, Sandbox};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::program::Program;
use crate::sim::{Dice, SUBJECTS, Subject, version_in, version_of};
use crate::world::{SIGNATURE_KEY, id_of, seed};

/// Something that has not happened by now does not happen. A delivery whose process died between its commit and its
/// message is found by its retry entry, two to three minutes later.
const PATIENCE: Duration = Duration::from_secs(360);

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Kills.
    pub kills: u64,
    /// Changes at the vendors.
    pub changes: u64,
    /// Events that arrived, each counted once.
    pub events: u64,
    /// Callbacks that brought nothing new.
    pub repeated: u64,
}

/// The vendors and the inbox, in this process.
pub struct Outside {
    sandbox: Sandbox,
    inbox: Inbox,
    url: String,
    dice: Dice,
    changes: u64,
    records: BTreeMap<&'static str, Vec<String>>,
    baseline: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

/// Of these two the vendors tell everything at every poll but Square's deletions, which nobody makes here.
fn watched() -> [Subject; 2] {
    [SUBJECTS[0], SUBJECTS[1]]
}

impl Outside {
    /// Serves them on a port of their own, with a few records.
    ///
    /// # Errors
    /// No port.
    pub async fn serve(seed: u64) -> Result<Self> {
        let sandbox = Sandbox::new(Arc::new(Utc::now), seed);
        let inbox = Inbox::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let routes = sandbox::router(sandbox.clone()).merge(inbox::router(inbox.clone()));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        inbox.behave("main", Behaviour { signature_key: Some(Secret::new(SIGNATURE_KEY)), ..Behaviour::default() });
        let (records, baseline) = (BTreeMap::new(), BTreeMap::new());
        let mut outside = Self { sandbox, inbox, url, dice: Dice::new(seed), changes: 0, records, baseline };
        for subject in watched() {
            for _ in 0..3 {
                let record = outside.sandbox.create(subject.element, subject.collection, json!({}))?;
                outside.records.entry(subject.element).or_default().push(id_of(&record[subject.id]));
            }
            outside.baseline.insert(subject.element, outside.live(subject)?);
        }
        Ok(outside)
    }

    fn live(&self, subject: Subject) -> Result<BTreeMap<String, u64>> {
        let records = self.sandbox.list(subject.element, subject.collection)?;
        Ok(records.iter().map(|record| (id_of(&record[subject.id]), version_of(record, subject))).collect())
    }

    /// One change at one of the vendors.
    ///
    /// # Errors
    /// The sandbox does not know its own records.
    pub fn change(&mut self) -> Result<()> {
        let subject = *self.dice.pick(&watched());
        self.changes += 1;
        let value = json!({ subject.member: format!("edit {}", self.changes) });
        let records = self.records.entry(subject.element).or_default();
        let which = self.dice.below(records.len() as u64) as usize;
        let deletes = subject.deletions_show_at_once && records.len() > 3;
        match self.dice.below(5) {
            0 if deletes => self.sandbox.delete(subject.element, subject.collection, &records.swap_remove(which))?,
            1 | 2 => {
                let record = self.sandbox.create(subject.element, subject.collection, value)?;
                records.push(id_of(&record[subject.id]));
            }
            _ => drop(self.sandbox.update(subject.element, subject.collection, &records[which], value)?),
        }
        Ok(())
    }

    /// What is wrong with what arrived: nothing, in the end.
    ///
    /// # Errors
    /// An id that stands for two facts or the like, which no time mends.
    pub fn missing(&self) -> Result<Option<String>> {
        let mut held: BTreeMap<(&str, String), (u64, Option<u64>)> = BTreeMap::new();
        let mut facts: BTreeMap<String, String> = BTreeMap::new();
        for receipt in self.inbox.received("main") {
            ensure!(receipt.verified.standard == Some(true), "callback {} is not signed", receipt.number);
            let body = receipt.json();
            for event in body["message"]["events"].as_array().into_iter().flatten() {
                let element = body["message"]["elementKey"].as_str().unwrap_or_default();
                let found = watched().into_iter().find(|subject| subject.element == element);
                let subject = found.with_context(|| format!("an event of {element:?}"))?;
                let record = event["objectId"].as_str().unwrap_or_default().to_owned();
                let (kind, sequence) = (event["eventType"].as_str(), event["sequence"].as_u64().unwrap_or(0));
                let version = (kind != Some("DELETED")).then(|| version_in(&body, subject, &record));
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
    /// It did not, or what arrived is wrong.
    pub async fn settle(&self) -> Result<Figures> {
        let until = Instant::now() + PATIENCE;
        while let Some(missing) = self.missing()? {
            ensure!(Instant::now() < until, "it never arrives: {missing}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let received = self.inbox.received("main");
        let events: BTreeSet<&String> = received.iter().flat_map(|receipt| &receipt.event_ids).collect();
        let repeated = received.iter().filter(|receipt| receipt.duplicate).count() as u64;
        Ok(Figures { kills: 0, changes: self.changes, events: events.len() as u64, repeated })
    }
}

/// A `pollux serve` that can be killed and started again on the same directory and port.
pub struct Victim {
    binary: PathBuf,
    data: PathBuf,
    address: String,
    vendors: String,
    client: Client,
    /// The largest file it may write, in kilobytes.
    pub largest_file: Option<u64>,
}

impl Victim {
    /// One that calls these vendors.
    ///
    /// # Errors
    /// No port is free.
    pub fn new(binary: PathBuf, data: &Path, outside: &Outside) -> Result<Self> {
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let (data, vendors) = (data.to_owned(), outside.url.clone());
        Ok(Self { binary, data, address, vendors, client: Client::new(), largest_file: None })
    }

    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn start(&self) -> Result<Program> {
        let mut command = Command::new("sh");
        // A write beyond the limit fails like one on a full disk, where the signal that comes with it is ignored.
        let limit =
            self.largest_file.map_or_else(String::new, |most| format!("trap '' XFSZ; ulimit -f {}; ", 2 * most));
        command.args(["-c", &format!("{limit}exec \"$0\" \"$@\"")]).arg(&self.binary);
        command.args(["serve", "--addr", &self.address, "--minute", "250ms", "--no-sandbox", "--data"]).arg(&self.data);
        for subject in watched() {
            command.arg("--vendor").arg(format!("{0}={1}/sandbox/{0}", subject.element, self.vendors));
        }
        command.env_remove("POLLUX_TABLE").env("POLLUX_LOG", "error");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut program = Program::start(&mut command);
        let until = Instant::now() + Duration::from_secs(60);
        let health = format!("http://{}/healthz", self.address);
        loop {
            if self.client.get(&health).send().await.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(program);
            }
            ensure!(program.child().try_wait()?.is_none(), "pollux ended instead of serving");
            ensure!(Instant::now() < until, "pollux does not answer");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// One call of its API.
    ///
    /// # Errors
    /// No answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<(StatusCode, Value)> {
        let credentials: Value = serde_json::from_slice(&std::fs::read(self.data.join("credentials.json"))?)?;
        let secret = |name: &str| credentials[name].as_str().unwrap_or_default().to_owned();
        let authorization = format!("User {}, Organization {}", secret("userSecret"), secret("organizationSecret"));
        let url = format!("http://{}/elements/api-v2{path}", self.address);
        let request = self.client.request(method, url).header("authorization", authorization);
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body.to_string()),
            None => request,
        };
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, serde_json::from_str(&answer.text().await?).unwrap_or(Value::Null)))
    }

    /// Makes the instances that watch the vendors.
    ///
    /// # Errors
    /// It refuses to.
    pub async fn watch(&self) -> Result<()> {
        for subject in watched() {
            let mut body = seed(subject.element);
            let configuration = &mut body["configuration"];
            configuration["event.notification.callback.url"] = json!(format!("{}/inbox/main", self.vendors));
            configuration["event.notification.signature.key"] = json!(SIGNATURE_KEY);
            configuration["event.poller.configuration"] = json!({ subject.resource: {} });
            let (status, answer) = self.call(Method::POST, "/instances", Some(body)).await?;
            ensure!(status == StatusCode::OK, "{status} {answer}");
        }
        Ok(())
    }
}

/// Kills it so many times, under load, and waits until everything arrived.
///
/// # Errors
/// Something was lost or repeated under another id, or it no longer starts.
pub async fn kill(binary: PathBuf, times: u64, seed: u64) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let mut outside = Outside::serve(seed).await?;
    let victim = Victim::new(binary, &folder.path().join("data"), &outside)?;
    let mut program = victim.start().await?;
    victim.watch().await?;
    for _ in 0..times {
        let life = Duration::from_millis(outside.dice.between(30, 1500));
        let until = Instant::now() + life;
        while Instant::now() < until {
            outside.change()?;
            let pause = outside.dice.between(2, 60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        // SIGKILL, when the handle is dropped.
        drop(program);
        outside.change()?;
        program = victim.start().await?;
    }
    let figures = outside.settle().await?;
    drop(program);
    Ok(Figures { kills: times, ..figures })
}
