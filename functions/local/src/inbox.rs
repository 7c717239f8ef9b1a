//! The inbox receives callbacks like a customer's server would, checks their signatures and keeps them to look at.
//!
//! Each name under `/inbox/{name}` is a receiver of its own with its own key and behaviour. What is kept: the last
//! 10,000 callbacks of each name and counters of all of them, in `inbox.jsonl`, across restarts and kills.
//! Not promised: which callbacks count as duplicates of ones received before a restart and long fallen out of the 10,000.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path as UrlPath, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use domain::secret::Secret;
use futures::Stream;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::watch;

use crate::sandbox::journal::Journal;

/// The most callbacks of one name that are kept.
const KEPT: usize = 10_000;

/// The answers of a name, and the key it checks signatures with. Absent fields of a change leave the old value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behaviour {
    /// The key that `event.notification.signature.key` was set to; without one nothing is checked.
    pub signature_key: Option<Secret>,
    /// Status of a normal answer.
    pub status: u16,
    /// Milliseconds that every answer takes.
    pub delay_ms: u64,
    /// Number of the next callbacks that are answered with `failStatus`.
    pub fail_next: u32,
    /// Status of a failing answer.
    pub fail_status: u16,
    /// Seconds in a `Retry-After` header of every answer that is not a success.
    pub retry_after: Option<u32>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { signature_key: None, status: 200, delay_ms: 0, fail_next: 0, fail_status: 500, retry_after: None }
    }
}

/// The verdict on the two signatures, true if they are right; none where there was no key or no such header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// `Elements-Webhook-Signature`.
    pub elements: Option<bool>,
    /// `webhook-signature` of Standard Webhooks.
    pub standard: Option<bool>,
}

/// One callback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Counts from 1 within the name.
    pub number: u64,
    /// When it arrived.
    pub received_at: DateTime<Utc>,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body as it was sent (bytes that are not UTF-8 replaced).
    pub raw: String,
    /// Ids of the events in it.
    pub event_ids: Vec<String>,
    /// Its `webhook-id`.
    pub delivery_id: Option<String>,
    /// The verdict on the signatures.
    pub verified: Verified,
    /// Every event in it, or else its delivery id, was received before in a callback that was answered with success.
    pub duplicate: bool,
    /// Status it was answered with.
    pub status: u16,
}

impl Receipt {
    /// The body as JSON; null if it is something else.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.raw).unwrap_or_default()
    }

    fn shown(&self) -> Value {
        let mut shown = json!(self);
        shown["body"] = serde_json::from_str(&self.raw).unwrap_or_else(|_| json!(self.raw));
        shown
    }
}

/// Counters of one name since it was first used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Callbacks.
    pub received: u64,
    /// Distinct events.
    pub events: u64,
    /// Callbacks that brought nothing new.
    pub duplicates: u64,
    /// Callbacks with a signature that was wrong.
    pub badly_signed: u64,
    /// Callbacks that were answered with another status than 2xx.
    pub refused: u64,
}

#[derive(Default)]
struct NamedInbox {
    behaviour: Behaviour,
    counters: Counters,
    receipts: VecDeque<Arc<Receipt>>,
    /// Hashes of event ids that were accepted.
    events: HashSet<u64>,
    deliveries: HashSet<u64>,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    Received { name: String, receipt: Arc<Receipt> },
    Behaves { name: String, behaviour: Behaviour },
    Counted { name: String, counters: Counters },
    Cleared { name: String },
}

#[derive(Default)]
struct InboxState {
    slots: BTreeMap<String, NamedInbox>,
    journal: Option<Journal>,
}

/// A handle on the inbox; clones share the callbacks.
#[derive(Clone)]
pub struct Inbox {
    state: Arc<Mutex<InboxState>>,
    /// Ticks at every callback, for those who wait.
    arrivals: watch::Sender<u64>,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inbox")
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Fewer callbacks than wanted had arrived in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inbox {name:?} has {received} callbacks, {wanted} were awaited")]
pub struct TooFew {
    /// The name.
    pub name: String,
    /// The number of callbacks.
    pub received: u64,
    /// The number that was wanted.
    pub wanted: u64,
}

impl Inbox {
    /// Keeps everything in memory.
    pub fn new() -> Self {
        Self { state: Arc::default(), arrivals: watch::Sender::new(0) }
    }

    /// Keeps everything in `folder/inbox.jsonl` too.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        let (mut journal, entries) = Journal::open(&folder.join("inbox.jsonl"))?;
        let mut state = InboxState::default();
        for entry in entries {
            state.replay(entry);
        }
        journal.compact(state.entries())?;
        state.journal = Some(journal);
        Ok(Self { state: Arc::new(Mutex::new(state)), ..Self::new() })
    }

    fn state(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets key and answers of a name.
    pub fn behave(&self, name: &str, behaviour: Behaviour) {
        let mut state = self.state();
        state.note(&Entry::Behaves { name: name.to_owned(), behaviour: behaviour.clone() });
        state.slot(name).behaviour = behaviour;
    }

    /// The callbacks of a name that are kept, oldest first.
    pub fn received(&self, name: &str) -> Vec<Arc<Receipt>> {
        self.state().slots.get(name).map(|slot| slot.receipts.iter().cloned().collect()).unwrap_or_default()
    }

    /// The counters of a name.
    pub fn counters(&self, name: &str) -> Counters {
        self.state().slots.get(name).map(|slot| slot.counters).unwrap_or_default()
    }

    /// Waits until a name has received `wanted` callbacks in all, at most `within`, and returns those that are kept.
    pub async fn wait_for(&self, name: &str, wanted: u64, within: Duration) -> Result<Vec<Arc<Receipt>>, TooFew> {
        let mut arrivals = self.arrivals.subscribe();
        let enough = arrivals.wait_for(|_| self.counters(name).received >= wanted);
        match tokio::time::timeout(within, enough).await {
            Ok(_) => Ok(self.received(name)),
            Err(_) => Err(TooFew { name: name.to_owned(), received: self.counters(name).received, wanted }),
        }
    }

    /// Forgets the callbacks and counters of a name, not its behaviour.
    pub fn clear(&self, name: &str) {
        let mut state = self.state();
        state.note(&Entry::Cleared { name: name.to_owned() });
        state.replay(Entry::Cleared { name: name.to_owned() });
    }

    /// Takes a callback in and says how it is answered: status, `Retry-After`, delay.
    fn accept(&self, name: &str, headers: &HeaderMap, body: &[u8]) -> (u16, Option<u32>, Duration) {
        let mut state = self.state();
        let slot = state.slot(name);
        let failing = slot.behaviour.fail_next > 0;
        slot.behaviour.fail_next = slot.behaviour.fail_next.saturating_sub(1);
        let behaviour = slot.behaviour.clone();
        let status = if failing { behaviour.fail_status } else { behaviour.status };
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let receipt = Arc::new(Receipt {
            number: slot.counters.received + 1,
            received_at: Utc::now(),
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
                .collect(),
            raw: String::from_utf8_lossy(body).into_owned(),
            event_ids: event_ids(&serde_json::from_slice(body).unwrap_or_default()),
            delivery_id: text("webhook-id").map(str::to_owned),
            verified: behaviour
                .signature_key
                .as_ref()
                .map(|key| verify(key.expose(), headers, body))
                .unwrap_or_default(),
            duplicate: false,
            status,
        });
        let receipt = slot.take(receipt, true);
        state.note(&Entry::Received { name: name.to_owned(), receipt });
        if failing {
            state.note(&Entry::Behaves { name: name.to_owned(), behaviour: behaviour.clone() });
        }
        drop(state);
        self.arrivals.send_modify(|count| *count += 1);
        let success = (200..300).contains(&status);
        (status, behaviour.retry_after.filter(|_| !success), Duration::from_millis(behaviour.delay_ms))
    }
}

impl InboxState {
    fn slot(&mut self, name: &str) -> &mut NamedInbox {
        self.slots.entry(name.to_owned()).or_default()
    }

    fn note(&mut self, entry: &Entry) {
        if let Some(journal) = &mut self.journal {
            journal.append(entry);
        }
    }

    fn replay(&mut self, entry: Entry) {
        match entry {
            Entry::Received { name, receipt } => drop(self.slot(&name).take(receipt, false)),
            Entry::Behaves { name, behaviour } => self.slot(&name).behaviour = behaviour,
            Entry::Counted { name, counters } => self.slot(&name).counters = counters,
            Entry::Cleared { name } => {
                let behaviour = self.slot(&name).behaviour.clone();
                self.slots.insert(name, NamedInbox { behaviour, ..NamedInbox::default() });
            }
        }
    }

    /// The counters come last: replaying the receipts before them counts only those that are kept.
    fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for (name, slot) in &self.slots {
            entries.push(Entry::Behaves { name: name.clone(), behaviour: slot.behaviour.clone() });
            entries.extend(
                slot.receipts
                    .iter()
                    .map(|receipt| Entry::Received { name: name.clone(), receipt: Arc::clone(receipt) }),
            );
            entries.push(Entry::Counted { name: name.clone(), counters: slot.counters });
        }
        entries
    }
}

impl NamedInbox {
    /// Counts and keeps a callback; a fresh one is also judged as new or duplicate.
    fn take(&mut self, mut receipt: Arc<Receipt>, fresh: bool) -> Arc<Receipt> {
        let delivery = receipt.delivery_id.as_ref().map(hash);
        let events: Vec<u64> = receipt.event_ids.iter().map(hash).collect();
        if fresh {
            let seen = if events.is_empty() {
                delivery.is_some_and(|id| self.deliveries.contains(&id))
            } else {
                events.iter().all(|id| self.events.contains(id))
            };
            Arc::make_mut(&mut receipt).duplicate = seen;
        }
        let success = (200..300).contains(&receipt.status);
        if success {
            self.deliveries.extend(delivery);
            for id in events {
                self.counters.events += u64::from(self.events.insert(id));
            }
        }
        let wrong = [receipt.verified.elements, receipt.verified.standard].contains(&Some(false));
        self.counters.received += 1;
        self.counters.duplicates += u64::from(receipt.duplicate);
        self.counters.badly_signed += u64::from(wrong);
        self.counters.refused += u64::from(!success);
        if self.receipts.len() == KEPT {
            self.receipts.pop_front();
        }
        self.receipts.push_back(Arc::clone(&receipt));
        receipt
    }
}

fn hash(text: &String) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// The ids of the single events where they have some, or else the id of the whole notification.
fn event_ids(body: &Value) -> Vec<String> {
    let message = if body["message"].is_object() { &body["message"] } else { body };
    let id = |value: &Value| match value.get("eventId").unwrap_or(&value["id"]) {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    let single: Vec<String> = message["events"].as_array().into_iter().flatten().filter_map(id).collect();
    if single.is_empty() { id(message).into_iter().collect() } else { single }
}

// ---------------------------------------------------------------- signatures

/// Checks both signatures of a callback: HMAC-SHA256 of the body, and of `id.timestamp.body` as Standard Webhooks say.
fn verify(key: &str, headers: &HeaderMap, body: &[u8]) -> Verified {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let elements = text("elements-webhook-signature").map(|given| {
        given.strip_prefix("sha256=").is_some_and(|signature| matches(key.as_bytes(), &[body], signature))
    });
    let standard = text("webhook-signature").map(|given| {
        let secret = match key.strip_prefix("whsec_") {
            Some(encoded) => STANDARD.decode(encoded).unwrap_or_default(),
            None => key.as_bytes().to_vec(),
        };
        let (id, at) = (text("webhook-id").unwrap_or_default(), text("webhook-timestamp").unwrap_or_default());
        let signed: [&[u8]; 5] = [id.as_bytes(), b".", at.as_bytes(), b".", body];
        // Several signatures stand side by side while a key is being changed; one good one is enough.
        given.split(' ').filter_map(|one| one.strip_prefix("v1,")).any(|one| matches(&secret, &signed, one))
    });
    Verified { elements, standard }
}

fn matches(key: &[u8], parts: &[&[u8]], signature: &str) -> bool {
    let (Ok(mut mac), Ok(given)) = (Hmac::<Sha256>::new_from_slice(key), STANDARD.decode(signature)) else {
        return false;
    };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(&given).is_ok()
}

// ---------------------------------------------------------------- routes

/// Routes with their full paths, `/inbox` and below: merge it, do not nest it.
pub fn router(inbox: Inbox) -> Router {
    Router::new()
        .route("/inbox", get(names))
        .route("/inbox/{name}", get(list).post(receive).put(behave).delete(clear))
        .route("/inbox/{name}/stream", get(stream))
        .with_state(inbox)
}

async fn receive(
    State(inbox): State<Inbox>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let (status, retry_after, delay) = inbox.accept(&name, &headers, &body);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let mut response = status.into_response();
    if let Some(seconds) = retry_after {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

async fn names(State(inbox): State<Inbox>) -> Json<Value> {
    let state = inbox.state();
    let names: Vec<Value> = state
        .slots
        .iter()
        .map(|(name, slot)| {
            let mut shown = json!(slot.counters);
            shown["name"] = json!(name);
            shown["kept"] = json!(slot.receipts.len());
            shown["lastReceivedAt"] = json!(slot.receipts.back().map(|receipt| receipt.received_at));
            shown
        })
        .collect();
    Json(json!({"inboxes": names}))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Range {
    /// Number of the last callback already known.
    after: u64,
    limit: Option<usize>,
}

async fn list(State(inbox): State<Inbox>, UrlPath(name): UrlPath<String>, Query(range): Query<Range>) -> Json<Value> {
    let callbacks: Vec<Value> = inbox
        .received(&name)
        .iter()
        .filter(|receipt| receipt.number > range.after)
        .take(range.limit.unwrap_or(100))
        .map(|receipt| receipt.shown())
        .collect();
    Json(json!({"name": name, "counters": inbox.counters(&name), "callbacks": callbacks}))
}

async fn behave(State(inbox): State<Inbox>, UrlPath(name): UrlPath<String>, Json(change): Json<Value>) -> Response {
    let (Value::Object(mut fields), Value::Object(change)) = (json!(inbox.state().slot(&name).behaviour), change)
    else {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "the body must be a JSON object"}))).into_response();
    };
    fields.extend(change);
    match serde_json::from_value::<Behaviour>(Value::Object(fields)) {
        Ok(behaviour) => {
            inbox.behave(&name, behaviour.clone());
            let mut shown = json!(behaviour);
            if behaviour.signature_key.is_some() {
                shown["signatureKey"] = json!(domain::secret::MASK);
            }
            Json(shown).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({"error": error.to_string()}))).into_response(),
    }
}

async fn clear(State(inbox): State<Inbox>, UrlPath(name): UrlPath<String>) -> StatusCode {
    inbox.clear(&name);
    StatusCode::NO_CONTENT
}

/// Streams the callbacks that are kept after `after`, then every callback as it arrives; the event id is the callback's number.
async fn stream(
    State(inbox): State<Inbox>,
    UrlPath(name): UrlPath<String>,
    headers: HeaderMap,
    Query(range): Query<Range>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let resumed = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let known = resumed.unwrap_or(range.after);
    let arrivals = inbox.arrivals.subscribe();
    let events =
        futures::stream::unfold((inbox, name, arrivals, known), |(inbox, name, mut arrivals, known)| async move {
            loop {
                arrivals.borrow_and_update();
                let next = {
                    let state = inbox.state();
                    let receipts = state.slots.get(&name).map(|slot| &slot.receipts);
                    receipts.and_then(|receipts| receipts.iter().find(|receipt| receipt.number > known).cloned())
                };
                if let Some(receipt) = next {
                    let event = Event::default().id(receipt.number.to_string()).data(receipt.shown().to_string());
                    return Some((Ok(event), (inbox, name, arrivals, receipt.number)));
                }
                arrivals.changed().await.ok()?;
            }
        });
    Sse::new(events).keep_alive(KeepAlive::default())
}

#[cfg(test)]
mod tests;
