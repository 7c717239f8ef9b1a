//! The vendor, the callbacks and the queue service, in a process of their own so that their work is not counted. The
//! vendor lists prepared pages, the callbacks answer at once or after a delay, the queue service accepts every message.

use std::collections::{HashMap, VecDeque};
use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The records and the latency of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Records in all.
    pub records: u64,
    /// The first so many of them carry `revision`; the others are as they were made.
    pub changed: u64,
    /// 0: nothing was ever changed.
    pub revision: u64,
    /// Only the changed ones are listed, as by a vendor that filters.
    pub only_changed: bool,
    /// Records on a page.
    pub page: u64,
    /// Every answer, also of a callback, waits so long.
    pub delay_ms: u64,
}

/// Query of a listing.
#[derive(Debug, Deserialize)]
struct Asked {
    /// Number of the page, from 0.
    #[serde(default)]
    after: Option<u64>,
}

#[derive(Default)]
struct Shelf {
    pages: Vec<Bytes>,
    delay: Duration,
}

#[derive(Clone, Default)]
struct OutsideServices {
    shelf: Arc<RwLock<Shelf>>,
    posts: Arc<AtomicU64>,
    cloud: Arc<Cloud>,
}

/// Counters in place of SQS and KMS.
#[derive(Default)]
struct Cloud {
    /// Bodies of messages that nobody took, by the last segment of the queue's URL.
    queues: Mutex<HashMap<String, VecDeque<String>>>,
    sends: AtomicU64,
    keys: AtomicU64,
}

/// Calls of the services that stand in for the cloud's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Batches that queues were sent.
    pub sends: u64,
    /// Data keys that were made or decrypted.
    pub keys: u64,
}

/// One record, about 300 bytes of JSON. `revision` 0 is as it was made.
pub fn record(number: u64, revision: u64) -> String {
    let updated = match revision {
        0 => stamp(0, number % 40_000),
        _ => stamp(1, revision),
    };
    let created = stamp(0, number % 40_000);
    format!(
        r#"{{"id":"ord-{number:010}","number":{number},"created_at":"{created}","updated_at":"{updated}","status":"{}","customer":{{"id":"cus-{:06}","name":"Customer of order {number}"}},"total":{{"amount":{},"currency":"EUR"}},"lines":[{{"sku":"A-{}","quantity":{},"price":599}}],"note":"as agreed"}}"#,
        if revision == 0 { "open" } else { "changed" },
        number % 100_003,
        1000 + revision,
        number % 977,
        1 + number % 7,
    )
}

fn stamp(day: u64, second: u64) -> String {
    format!("2026-01-{:02}T{:02}:{:02}:{:02}Z", 1 + day, second / 3600, second / 60 % 60, second % 60)
}

impl Stock {
    fn shelf(&self) -> Shelf {
        let listed = if self.only_changed { self.changed } else { self.records };
        let pages = listed.div_ceil(self.page).max(1);
        let page = |number: u64| {
            let (from, to) = (number * self.page, ((number + 1) * self.page).min(listed));
            let records: Vec<String> =
                (from..to).map(|place| record(place, if place < self.changed { self.revision } else { 0 })).collect();
            let next = if number + 1 < pages { format!("\"{}\"", number + 1) } else { "null".into() };
            Bytes::from(format!(r#"{{"next":{next},"items":[{}]}}"#, records.join(",")))
        };
        Shelf { pages: (0..pages).map(page).collect(), delay: Duration::from_millis(self.delay_ms) }
    }
}

async fn items(
    State(world): State<OutsideServices>,
    Query(asked): Query<Asked>,
) -> ([(&'static str, &'static str); 1], Bytes) {
    let (page, delay) = {
        let shelf = world.shelf.read().expect("nothing panics while it writes");
        let number = usize::try_from(asked.after.unwrap_or(0)).unwrap_or(usize::MAX);
        (shelf.pages.get(number).cloned().unwrap_or_default(), shelf.delay)
    };
    rest(delay).await;
    ([("content-type", "application/json")], page)
}

async fn callback(State(world): State<OutsideServices>, _body: Bytes) -> StatusCode {
    world.posts.fetch_add(1, Ordering::Relaxed);
    let delay = world.shelf.read().expect("nothing panics while it writes").delay;
    rest(delay).await;
    StatusCode::NO_CONTENT
}

async fn rest(delay: Duration) {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

/// Takes a batch of messages, as SQS does.
async fn queue(State(world): State<OutsideServices>, body: Bytes) -> Result<Json<Value>, StatusCode> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Batch {
        queue_url: String,
        entries: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry {
        id: String,
        message_body: String,
    }
    let batch: Batch = serde_json::from_slice(&body).map_err(|_| StatusCode::BAD_REQUEST)?;
    world.cloud.sends.fetch_add(1, Ordering::Relaxed);
    let name = batch.queue_url.rsplit('/').next().unwrap_or_default().to_owned();
    let mut queues = world.cloud.queues.lock().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let queue = queues.entry(name).or_default();
    let taken = |entry: Entry| {
        queue.push_back(entry.message_body);
        json!({"Id": entry.id, "MessageId": entry.id, "MD5OfMessageBody": ""})
    };
    Ok(Json(json!({"Successful": batch.entries.into_iter().map(taken).collect::<Vec<_>>(), "Failed": []})))
}

/// Gives up to ten messages of a queue, and forgets them.
async fn take(State(world): State<OutsideServices>, Path(name): Path<String>) -> Json<Vec<String>> {
    let mut queues = world.cloud.queues.lock().expect("nothing panics with it");
    let queue = queues.entry(name).or_default();
    let some = queue.len().min(10);
    Json(queue.drain(..some).collect())
}

/// Makes and decrypts data keys, as KMS does, but always the same one.
async fn keys(State(world): State<OutsideServices>) -> Json<Value> {
    world.cloud.keys.fetch_add(1, Ordering::Relaxed);
    let (plain, encrypted) = (STANDARD.encode([7u8; 32]), STANDARD.encode(vec![9u8; 184]));
    Json(json!({"CiphertextBlob": encrypted, "Plaintext": plain, "KeyId": "bench"}))
}

async fn calls(State(world): State<OutsideServices>) -> Json<Calls> {
    let Cloud { sends, keys, .. } = &*world.cloud;
    Json(Calls { sends: sends.load(Ordering::Relaxed), keys: keys.load(Ordering::Relaxed) })
}

async fn control(State(world): State<OutsideServices>, Json(stock): Json<Stock>) -> StatusCode {
    let shelf = stock.shelf();
    *world.shelf.write().expect("nothing panics while it writes") = shelf;
    StatusCode::NO_CONTENT
}

async fn posts(State(world): State<OutsideServices>) -> String {
    world.posts.load(Ordering::Relaxed).to_string()
}

/// Serves until standard input ends, which is when whoever started it does. Says its address first.
#[allow(clippy::print_stdout)] // The address is read from there.
pub async fn serve() -> anyhow::Result<()> {
    let router = Router::new()
        .route("/items", get(items))
        .route("/items/{id}", get(|| async { StatusCode::NOT_FOUND }))
        .route("/callback/{who}", post(callback))
        .route("/queue/", post(queue))
        .route("/queue/{name}", get(take))
        .route("/kms/", post(keys))
        .route("/calls", get(calls))
        .route("/control", post(control))
        .route("/posts", get(posts))
        .with_state(OutsideServices::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
    println!("http://{}", listener.local_addr()?);
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    tokio::select! {
        outcome = axum::serve(listener, router) => outcome.context("the vendor"),
        _ = end => Ok(()),
    }
}

/// The vendor's process.
pub struct Vendor {
    /// The address.
    pub url: String,
    process: Child,
    control: reqwest::Client,
}

impl Vendor {
    /// Starts it from this very program.
    pub fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("vendor")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the vendor does not start")?;
        let mut url = String::new();
        let said = process.stdout.take().context("the vendor's output")?;
        std::io::BufReader::new(said).read_line(&mut url)?;
        Ok(Self { url: url.trim().to_owned(), process, control: reqwest::Client::new() })
    }

    /// From now on it has this.
    pub async fn stock(&self, stock: &Stock) -> anyhow::Result<()> {
        let body = serde_json::to_string(stock)?;
        let control = self.control.post(format!("{}/control", self.url)).header("content-type", "application/json");
        control.body(body).send().await?.error_for_status()?;
        Ok(())
    }

    /// The number of received callbacks.
    pub async fn posts(&self) -> anyhow::Result<u64> {
        Ok(self.control.get(format!("{}/posts", self.url)).send().await?.text().await?.parse()?)
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
