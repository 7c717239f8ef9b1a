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

/// How many callbacks of one name are kept.
const KEPT: usize = 10_000;

/// How a name answers, and the key it checks signatures with. Absent fields of a change leave the old value.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behaviour {
    /// The key that `event.notification.signature.key` was set to; without one nothing is checked.
    pub signature_key: Option<Secret>,
    /// Status of a normal answer.
    pub status: u16,
    /// How long every answer takes, in milliseconds.
    pub delay_ms: u64,
    /// So many of the next callbacks are answered with `failStatus`.
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

/// Whether the two signatures are right; none where there was no key or no such header.
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
    /// What the signatures said.
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
struct Slot {
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
struct Shelf {
    slots: BTreeMap<String, Slot>,
    journal: Option<Journal>,
}

/// A handle on the inbox; clones share the callbacks.
#[derive(Clone)]
pub struct Inbox {
    state: Arc<Mutex<Shelf>>,
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
    /// How many there are.
    pub received: u64,
    /// How many were wanted.
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
        let mut state = Shelf::default();
        for entry in entries {
            state.replay(entry);
        }
        journal.compact(state.entries())?;
        state.journal = Some(journal);
        Ok(Self { state: Arc::new(Mutex::new(state)), ..Self::new() })
    }

    fn state(&self) -> MutexGuard<'_, Shelf> {
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

impl Shelf {
    fn slot(&mut self, name: &str) -> &mut Slot {
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
                self.slots.insert(name, Slot { behaviour, ..Slot::default() });
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

impl Slot {
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

/// What is kept after `after`, then every callback as it arrives; the event id is the callback's number.
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
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use futures::StreamExt;
    use tower::ServiceExt;

    use super::*;

    async fn send(inbox: &Inbox, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = router(inbox.clone()).oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    fn notification(ids: &[&str]) -> String {
        let events: Vec<Value> = ids.iter().map(|id| json!({"eventId": id})).collect();
        json!({"message": {"eventId": "N", "events": events}}).to_string()
    }

    #[test]
    fn standard_webhooks_vector() {
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk".parse().unwrap());
        headers.insert("webhook-timestamp", "1649367553".parse().unwrap());
        let good = "v1,bad v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
        headers.insert("webhook-signature", good.parse().unwrap());
        let body = br#"{"email":"test@example.com","username":"test_user"}"#;
        let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        assert_eq!(verify(key, &headers, body), Verified { elements: None, standard: Some(true) });
        assert_eq!(verify(key, &headers, b"{}").standard, Some(false));
        assert_eq!(verify("another", &headers, body).standard, Some(false));
    }

    #[tokio::test]
    async fn signatures_are_checked_once_a_key_is_known() {
        let inbox = Inbox::new();
        // HMAC-SHA256 with key "key" of this sentence is a well-known test value.
        let body = "The quick brown fox jumps over the lazy dog";
        let hex = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
        let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect();
        let signature = format!("sha256={}", STANDARD.encode(bytes));
        let signed = [("elements-webhook-signature", signature.as_str())];
        send(&inbox, "POST", "/inbox/a", &signed, body).await;
        let (status, shown) = send(&inbox, "PUT", "/inbox/a", &[], r#"{"signatureKey":"key"}"#).await;
        assert_eq!((status, &shown["signatureKey"]), (200, &json!("********")));
        send(&inbox, "POST", "/inbox/a", &signed, body).await;
        send(&inbox, "POST", "/inbox/a", &signed, "tampered").await;
        send(&inbox, "POST", "/inbox/a", &[], body).await;
        let verdicts: Vec<_> = inbox.received("a").iter().map(|receipt| receipt.verified.elements).collect();
        assert_eq!(verdicts, [None, Some(true), Some(false), None]);
        assert_eq!(inbox.counters("a").badly_signed, 1);
    }

    #[tokio::test]
    async fn it_fails_as_told_and_knows_duplicates() {
        let inbox = Inbox::new();
        let change = r#"{"failNext":1,"failStatus":503,"retryAfter":7,"status":202}"#;
        assert_eq!(send(&inbox, "PUT", "/inbox/a", &[], change).await.0, 200);
        assert_eq!(send(&inbox, "PUT", "/inbox/a", &[], r#"{"colour":1}"#).await.0, 400);
        let delivery = [("webhook-id", "d1")];
        let answers = [
            send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["1", "2"])).await.0,
            send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["1", "2"])).await.0,
            send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["2", "3"])).await.0,
            send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["3", "1"])).await.0,
            send(&inbox, "POST", "/inbox/a", &delivery, "plain").await.0,
        ];
        assert_eq!(answers, [503, 202, 202, 202, 202]);
        let (_, listed) = send(&inbox, "GET", "/inbox/a?after=1&limit=2", &[], "").await;
        assert_eq!(listed["callbacks"].as_array().unwrap().len(), 2);
        assert_eq!(listed["callbacks"][0]["body"]["message"]["eventId"], "N");
        assert_eq!(listed["callbacks"][0]["eventIds"], json!(["1", "2"]));
        let duplicates: Vec<bool> = inbox.received("a").iter().map(|receipt| receipt.duplicate).collect();
        assert_eq!(duplicates, [false, false, false, true, true]);
        let wanted = Counters { received: 5, events: 3, duplicates: 2, badly_signed: 0, refused: 1 };
        assert_eq!(inbox.counters("a"), wanted);
        let (_, names) = send(&inbox, "GET", "/inbox", &[], "").await;
        assert_eq!((&names["inboxes"][0]["name"], &names["inboxes"][0]["received"]), (&json!("a"), &json!(5)));
        assert_eq!(send(&inbox, "DELETE", "/inbox/a", &[], "").await.0, 204);
        assert_eq!(inbox.counters("a"), Counters::default());
    }

    #[tokio::test]
    async fn a_restart_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let inbox = Inbox::open(folder.path()).unwrap();
        send(&inbox, "PUT", "/inbox/a", &[], r#"{"signatureKey":"key","failNext":2}"#).await;
        for _ in 0..3 {
            send(&inbox, "POST", "/inbox/a", &[("webhook-id", "d")], &notification(&["1"])).await;
        }
        let before = (inbox.received("a"), inbox.counters("a"));
        for _ in 0..2 {
            let again = Inbox::open(folder.path()).unwrap();
            assert_eq!((again.received("a"), again.counters("a")), before);
            assert_eq!(again.state().slot("a").behaviour.fail_next, 0);
            assert_eq!(again.state().slot("a").behaviour.signature_key, Some(Secret::new("key")));
        }
        let again = Inbox::open(folder.path()).unwrap();
        send(&again, "POST", "/inbox/a", &[], &notification(&["1"])).await;
        assert!(again.received("a")[3].duplicate);
    }

    #[tokio::test]
    async fn only_the_newest_are_kept_and_all_are_counted() {
        let inbox = Inbox::new();
        for _ in 0..KEPT + 5 {
            inbox.accept("a", &HeaderMap::new(), b"{}");
        }
        let kept = inbox.received("a");
        assert_eq!((kept.len(), kept[0].number, inbox.counters("a").received), (KEPT, 6, KEPT as u64 + 5));
    }

    #[tokio::test]
    async fn waiting_ends_with_the_callback_or_the_time() {
        let inbox = Inbox::new();
        let waiter = inbox.clone();
        let waiting = tokio::spawn(async move { waiter.wait_for("a", 2, Duration::from_secs(60)).await });
        for _ in 0..2 {
            send(&inbox, "POST", "/inbox/a", &[], "{}").await;
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting.await.unwrap().unwrap().len(), 2);
        let late = inbox.wait_for("a", 3, Duration::ZERO).await;
        assert_eq!(late, Err(TooFew { name: "a".into(), received: 2, wanted: 3 }));
    }

    #[tokio::test]
    async fn a_stream_tells_what_was_and_what_comes() {
        let inbox = Inbox::new();
        for body in ["1", "2"] {
            send(&inbox, "POST", "/inbox/a", &[], body).await;
        }
        let request =
            Request::builder().uri("/inbox/a/stream").header("last-event-id", "1").body(Body::empty()).unwrap();
        let response = router(inbox.clone()).oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut chunks = response.into_body().into_data_stream();
        let first = chunks.next().await.unwrap().unwrap();
        assert!(std::str::from_utf8(&first).unwrap().contains("id: 2"));
        send(&inbox, "POST", "/inbox/a", &[], "3").await;
        let second = chunks.next().await.unwrap().unwrap();
        assert!(std::str::from_utf8(&second).unwrap().contains("\"body\":3"));
    }
}
