//! One attempt at one delivery, from the job to the row that says what came of it.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::breaker::{Admission, Next};
use domain::configuration::keys::{
    BASIC_PASSWORD, BASIC_USERNAME, CALLBACK_HEADERS, CALLBACK_URL, PREVIOUS_KEY, SIGNATURE_KEY,
};
use domain::configuration::{Callback, EventSettings, NotificationFormat};
use domain::id::DeliveryId;
use domain::ladder::{self, Verdict};
use domain::secret::{MASK, Secret, hide};
use domain::signature::{elements_signature, standard_webhooks};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use serde::Serialize;
use serde_json::{Map, Value};
use url::Url;

use super::callback::{Ending, Filing, Place, Scene, send, ticket_of};
use super::limits::CallbackLimits;
use super::rotation::previous_signs;
use super::row::{Attempt, DeliveryRow, REMEMBERED_ATTEMPTS, Status, body_of, row_key};
use super::{DeliveryError, store};
use crate::job::{DeliveryJob, Queued};
use crate::ports::{Audience, Bounds, Condition, Exchange, HttpError, Key, Ports, VaultError, Write};
use crate::secrets::vault_owner;
use crate::table::{InstanceRecord, META, instance_key, read};
use crate::{fields, trace};

/// A response is read up to this many bytes, so that a connection can be kept…
const LARGEST_RESPONSE: usize = 16 * 1024;
/// …and remembered up to these.
const REMEMBERED_RESPONSE: usize = 1024;

/// Configuration keys that say how a notification is sent. Secret ones are among the sealed.
const KEYS: [&str; 4] = [SIGNATURE_KEY, BASIC_USERNAME, BASIC_PASSWORD, CALLBACK_HEADERS];

/// What a job came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It did not work and will be tried again at this instant.
    RetryAt(DateTime<Utc>),
    /// It stands behind others and was not sent.
    Waiting,
    /// Newer ones tell of all its records, and the callback wants only those.
    Superseded,
    /// It will not be sent by itself any more.
    Queued,
    /// It had been settled before.
    AlreadySettled,
    /// A stale copy of a job whose time has not come.
    NotDue,
    /// Row or instance are gone.
    Gone,
    /// As many attempts at this callback as may be are under way here: the job was put back.
    PutBack,
    /// Another copy of the job got there first.
    Outrun,
}

/// What [`deliver`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryReport {
    /// What it came to.
    pub outcome: Outcome,
    /// The attempt, if there was one.
    pub attempt: Option<Attempt>,
    /// How many others this one drew out of the line.
    pub released: usize,
    /// When the delivery was committed, and when this attempt was wanted: that much later it was made. None without an
    /// attempt.
    pub since: Option<Since>,
}

/// The instants that an attempt is measured from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Since {
    /// The delivery's commit.
    pub committed: DateTime<Utc>,
    /// When the attempt was due. None for one that came out of the line or was moved up.
    pub due: Option<DateTime<Utc>>,
}

impl DeliveryReport {
    fn without_attempt(outcome: Outcome) -> Self {
        Self { outcome, attempt: None, released: 0, since: None }
    }
}

/// Makes one attempt, unless there is a reason not to, and files what follows.
///
/// The order: read, claim the probe if the callback is down, send, then write row, retry entry, callback state and
/// whoever comes out of the line in one transaction, then send their messages. A crash before the transaction
/// repeats the attempt, one after it loses messages only.
///
/// # Errors
/// Store, vault or data trouble of our own. The job should come again.
pub async fn deliver(
    ports: &Ports,
    limits: &CallbackLimits,
    job: &DeliveryJob,
) -> Result<DeliveryReport, DeliveryError> {
    let key = row_key(job);
    let (mut scene, instance, url) = scene_of(ports, job).await?;
    let ticket = ticket_of(job);

    let (Some(instance), Some((row, _))) = (instance, scene.row.clone()) else {
        // The row is left to its expiry; it belongs to nobody now.
        scene.row = None;
        return stand_down(&mut scene, &ticket, Filing::Settled, Outcome::Gone).await;
    };
    tracing::Span::current().record(fields::TRACE, &row.trace);
    let in_flight = scene.callback.as_ref().is_some_and(|(_, stored)| stored.state.is_in_flight(&ticket));
    if row.in_line && !in_flight {
        // A stale copy: the line is where it is, and only the line brings it back.
        return stand_down(&mut scene, "", Filing::Stale, Outcome::Waiting).await;
    }
    if row.status.is_settled() && !row.in_line {
        return stand_down(&mut scene, &ticket, Filing::Stale, Outcome::AlreadySettled).await;
    }
    let Some(url) = url.filter(|_| instance.callback.is_some() && !instance.disabled) else {
        return stand_down(&mut scene, &ticket, Filing::Settled, Outcome::Queued).await;
    };
    // The callback's state may have moved it up since the row was written.
    let moved_up = scene.callback.as_ref().and_then(|(_, stored)| stored.state.due_of(&ticket));
    if row.due.map(|due| moved_up.map_or(due, |up| up.min(due))).is_some_and(|due| due > ports.now()) && !row.in_line {
        return stand_down(&mut scene, "", Filing::Stale, Outcome::NotDue).await;
    }
    match admit(&mut scene, &row, &ticket).await? {
        Admitted::Yes => {}
        Admitted::No(report) => return Ok(report),
    }

    let Some(_permit) = limits.enter(&*ports.ambient, &url).await else {
        // The entry stays; the delay lets those under way end. Chance keeps the returning ones apart.
        let delay = Duration::from_secs(5 + ports.ambient.random() % 10);
        send(ports, vec![job.message(delay)]).await;
        return Ok(DeliveryReport::without_attempt(Outcome::PutBack));
    };
    let body = body_of(&*ports.store, &key, &row).await?;
    let at = ports.now();
    let tried = try_once(ports, limits.deadline(), &instance, &url, &row, body, at).await?;
    let wanted = row.due.unwrap_or(row.created_at);
    let due = (!row.in_line && moved_up.is_none_or(|up| up >= wanted)).then_some(wanted);
    let report = conclude(&mut scene, &instance, &ticket, &url, at, tried).await?;
    Ok(DeliveryReport { since: Some(Since { committed: row.created_at, due }), ..report })
}

/// What a job is about, as it is stored: row and callback, the instance, and where its notifications go.
async fn scene_of<'a>(
    ports: &'a Ports,
    job: &'a DeliveryJob,
) -> Result<(Scene<'a>, Option<InstanceRecord>, Option<String>), DeliveryError> {
    let key = row_key(job);
    let items = ports.store.get_many(&[key.clone(), instance_key(job.instance)]).await;
    let items = items.map_err(store("a delivery and its instance"))?;
    let instance = items.iter().find(|item| item.key.sk == META).map(read::<InstanceRecord>).transpose()?;
    let row = match items.iter().find(|item| item.key == key) {
        Some(item) => Some((read::<DeliveryRow>(item)?, item.version)),
        None => None,
    };
    let url = match (&instance, &row) {
        (Some(InstanceRecord { callback: Some(callback), .. }), _) => Some(callback.url.clone()),
        (_, Some((row, _))) => row.callback.clone(),
        _ => None,
    };
    let callback = match &url {
        Some(url) => {
            let place = Place::of(job.organization, url);
            let stored = place.read(ports).await?;
            Some((place, stored))
        }
        None => None,
    };
    let coalesce =
        instance.as_ref().and_then(|instance| instance.callback.as_ref()).is_some_and(|callback| callback.coalesce);
    Ok((Scene { ports, job, row, callback, coalesce }, instance, url))
}

/// Settles a delivery as `queued`, whatever state it is in, and removes the retry entry under which it was found.
/// Answers whether it was under way.
///
/// # Errors
/// Store or data trouble.
pub async fn set_aside(ports: &Ports, job: &DeliveryJob, entry: Option<&Key>) -> Result<bool, DeliveryError> {
    let (mut scene, ..) = scene_of(ports, job).await?;
    let under_way = scene.row.as_ref().is_some_and(|(row, _)| !row.status.is_settled());
    if under_way {
        stand_down(&mut scene, &ticket_of(job), Filing::Settled, Outcome::Queued).await?;
    }
    let removed = entry.map(|key| Write::Delete { key: key.clone(), condition: Condition::Unconditional });
    ports.store.transact(removed.as_slice()).await.map_err(store("a retry entry"))?;
    Ok(under_way)
}

/// Writes that a job needs no attempt; its delivery leaves the callback's state unless `ticket` is empty.
async fn stand_down(
    scene: &mut Scene<'_>,
    ticket: &str,
    filing: Filing,
    outcome: Outcome,
) -> Result<DeliveryReport, DeliveryError> {
    let ending = scene
        .decide(|row, state| {
            if !ticket.is_empty() {
                state.withdrawn(ticket);
            }
            if let (Some(row), Filing::Settled) = (row, filing) {
                row.status = Status::Queued;
            }
            filing
        })
        .await?;
    Ok(match ending {
        Ending::Moved(moved) => DeliveryReport { released: moved.released, ..DeliveryReport::without_attempt(outcome) },
        Ending::Outrun => DeliveryReport::without_attempt(Outcome::Outrun),
    })
}

enum Admitted {
    Yes,
    No(DeliveryReport),
}

/// Asks the callback's state. Whoever becomes the probe has that written before it is sent, so that there is one.
async fn admit(scene: &mut Scene<'_>, row: &DeliveryRow, ticket: &str) -> Result<Admitted, DeliveryError> {
    let Some((_, stored)) = &scene.callback else { return Ok(Admitted::Yes) };
    let records = row.records();
    let now = scene.ports.now();
    let mut state = stored.state.clone();
    if state.admit(ticket, &records, now) == Admission::Send && state == stored.state {
        return Ok(Admitted::Yes);
    }
    let mut admission = Admission::Send;
    let ending = scene
        .decide(|row, state| {
            admission = state.admit(ticket, &records, now);
            match admission {
                // Only the state changes; the row's entry stays where it is.
                Admission::Send => Filing::Stay,
                Admission::ComeBack(at) => {
                    row.into_iter().for_each(|row| row.status = Status::Waiting);
                    Filing::At(at)
                }
                Admission::JoinLine => {
                    let disabled = state.disabled.is_some();
                    row.into_iter().for_each(|row| row.status = in_line(disabled));
                    Filing::Line
                }
            }
        })
        .await?;
    let moved = match ending {
        Ending::Moved(moved) => moved,
        Ending::Outrun => return Ok(Admitted::No(DeliveryReport::without_attempt(Outcome::Outrun))),
    };
    if admission == Admission::Send {
        let (place, _) = scene.callback.as_ref().expect("a state was decided upon");
        let stored = place.read(scene.ports).await?;
        scene.callback.iter_mut().for_each(|(_, old)| *old = stored.clone());
        return Ok(Admitted::Yes);
    }
    let outcome = if moved.superseded { Outcome::Superseded } else { Outcome::Waiting };
    let report = DeliveryReport::without_attempt(outcome);
    Ok(Admitted::No(DeliveryReport { released: moved.released, ..report }))
}

/// What a delivery in line is called.
fn in_line(disabled: bool) -> Status {
    if disabled { Status::Queued } else { Status::Waiting }
}

/// What the outside world made of it.
pub(super) struct Tried {
    answer: Result<Exchange, String>,
    took: Duration,
}

async fn try_once(
    ports: &Ports,
    deadline: Duration,
    instance: &InstanceRecord,
    url: &str,
    row: &DeliveryRow,
    body: Bytes,
    at: DateTime<Utc>,
) -> Result<Tried, DeliveryError> {
    let parent = || trace::traceparent(&row.trace, &row.id.0, row.attempts_made + 1);
    let traceparent = (!row.trace.is_empty()).then(parent);
    let letterhead = match letterhead(ports, instance, url).await? {
        Ok(letterhead) => Letterhead { traceparent, ..letterhead },
        // Better late than unsigned.
        Err(why) => return Ok(Tried { answer: Err(why), took: Duration::ZERO }),
    };
    Ok(letterhead.post(ports, deadline, url, (&row.id, row.format), body, at).await)
}

/// What goes above the body.
pub(super) struct Letterhead {
    pub(super) callback: Callback,
    /// The newest first.
    pub(super) keys: Vec<Secret>,
    /// Which attempt at what this is, for traces.
    pub(super) traceparent: Option<String>,
}

/// Opens the instance's secrets. The inner error is for the attempt: as things stand it cannot be made.
async fn letterhead(
    ports: &Ports,
    instance: &InstanceRecord,
    url: &str,
) -> Result<Result<Letterhead, String>, DeliveryError> {
    let mut settings: Map<String, Value> =
        KEYS.iter().filter_map(|key| Some((key.to_string(), instance.configuration.get(*key)?.clone()))).collect();
    settings.insert(CALLBACK_URL.into(), url.into());
    let mut previous = None;
    if !instance.secrets.is_empty() {
        let opened = match ports.vault.open(&vault_owner(instance.id), &instance.secrets).await {
            Ok(opened) => opened,
            Err(error @ VaultError::Busy(_)) => return Err(DeliveryError::Vault(error)),
            Err(VaultError::Broken(_)) => return Ok(Err("the instance's secrets do not open".into())),
        };
        let Ok(mut secrets) = serde_json::from_str::<Map<String, Value>>(opened.expose()) else {
            return Ok(Err("the instance's secrets cannot be read".into()));
        };
        let previous_key = secrets.get(PREVIOUS_KEY).and_then(Value::as_str).map(Secret::new);
        previous = previous_key.filter(|_| previous_signs(instance, ports.now()));
        settings.extend(KEYS.iter().filter_map(|key| secrets.remove_entry(*key)));
    }
    let Ok((EventSettings { callback: Some(callback), .. }, _)) = EventSettings::parse(&settings) else {
        return Ok(Err("the callback's settings cannot be read".into()));
    };
    let keys = callback.signature_key.iter().cloned().chain(previous).collect();
    Ok(Ok(Letterhead { callback, keys, traceparent: None }))
}

impl Letterhead {
    /// Name and password as Basic authentication writes them.
    fn basic(&self) -> Option<Secret> {
        let (name, password) = self.callback.basic.as_ref()?;
        Some(Secret::new(STANDARD.encode(format!("{name}:{}", password.expose()))))
    }

    /// The text without the secrets that the letterhead holds.
    fn hide(&self, text: &str) -> String {
        let headers = self.callback.headers.iter().map(|(_, value)| value);
        let password = self.callback.basic.iter().map(|(_, password)| password);
        hide(text, self.keys.iter().chain(headers).chain(password).chain(&self.basic()))
    }

    /// Sends a notification once.
    pub(super) async fn post(
        &self,
        ports: &Ports,
        deadline: Duration,
        url: &str,
        (id, format): (&DeliveryId, NotificationFormat),
        body: Bytes,
        at: DateTime<Utc>,
    ) -> Tried {
        let request = match self.request(url, id, format, body, at) {
            Ok(request) => request,
            Err(error) => {
                return Tried { answer: Err(format!("the request could not be built: {error}")), took: Duration::ZERO };
            }
        };
        let bounds = Bounds { audience: Audience::Callback, deadline, largest_body: LARGEST_RESPONSE };
        match ports.http.send(request, bounds).await {
            Ok(mut exchange) => {
                // Its head is stored and shown, and some receivers quote what they were sent.
                let said = self.hide(&String::from_utf8_lossy(exchange.response.body()));
                *exchange.response.body_mut() = Bytes::from(said);
                Tried { took: exchange.elapsed, answer: Ok(exchange) }
            }
            Err(error) => {
                let took = match &error {
                    HttpError::Deadline(deadline) => *deadline,
                    _ => (ports.now() - at).to_std().unwrap_or_default(),
                };
                Tried { answer: Err(error.to_string()), took }
            }
        }
    }

    fn request(
        &self,
        url: &str,
        id: &DeliveryId,
        format: NotificationFormat,
        body: Bytes,
        at: DateTime<Utc>,
    ) -> Result<http::Request<Bytes>, http::Error> {
        let (id, timestamp) = (id.0.as_str(), at.timestamp());
        let mut request = http::Request::post(url).body(Bytes::new())?;
        let headers = request.headers_mut();
        let secret = |text: String| -> Result<HeaderValue, http::Error> {
            let mut value = HeaderValue::from_str(&text)?;
            value.set_sensitive(true);
            Ok(value)
        };
        // Ours come after and replace what a customer may have given the same name.
        for (name, value) in &self.callback.headers {
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, secret(value.expose().to_owned())?);
        }
        if let Some(pair) = self.basic() {
            headers.insert(AUTHORIZATION, secret(format!("Basic {}", pair.expose()))?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("pollux/", env!("CARGO_PKG_VERSION"))));
        headers.insert("elements-webhook-id", HeaderValue::from_str(id)?);
        headers.insert("webhook-id", HeaderValue::from_str(id)?);
        if let Some(parent) = &self.traceparent {
            headers.insert("traceparent", HeaderValue::from_str(parent)?);
        }
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        if let Some(newest) = self.keys.first() {
            headers.insert("elements-webhook-signature", HeaderValue::from_str(&elements_signature(newest, &body))?);
            let signatures = standard_webhooks(&self.keys, id, timestamp, &body);
            headers.insert("webhook-signature", HeaderValue::from_str(&signatures)?);
        }
        *request.body_mut() = body;
        Ok(request)
    }
}

/// Judges the attempt and files what follows.
async fn conclude(
    scene: &mut Scene<'_>,
    instance: &InstanceRecord,
    ticket: &str,
    url: &str,
    at: DateTime<Utc>,
    tried: Tried,
) -> Result<DeliveryReport, DeliveryError> {
    let (now, jitter) = (scene.ports.now(), scene.ports.ambient.random());
    let policy = instance.callback.as_ref().map(|callback| callback.failure_policy).unwrap_or_default();
    let retry_after = tried.answer.as_ref().ok().and_then(|exchange| exchange.response.headers().get(RETRY_AFTER));
    let outcome = match &tried.answer {
        Ok(exchange) => ladder::Outcome::Answered {
            status: exchange.response.status().as_u16(),
            retry_after: retry_after.and_then(|value| value.to_str().ok()),
        },
        Err(_) => ladder::Outcome::NoAnswer,
    };
    let mut outcome_of_job = Outcome::Delivered;
    let mut attempt = describe(url, at, &tried);
    let ending = scene
        .decide(|row, state| {
            let row = row.expect("an attempt has a row");
            attempt.number = row.attempts_made + 1;
            let records = row.records();
            let filing;
            (row.status, outcome_of_job, filing) = match ladder::judge(outcome, row.rung + 1, now, jitter, policy) {
                Verdict::Delivered => {
                    state.succeeded(ticket, now);
                    (Status::Delivered, Outcome::Delivered, Filing::Settled)
                }
                Verdict::Disable(reason) => {
                    state.refused(ticket, reason, now);
                    (Status::Queued, Outcome::Queued, Filing::Line)
                }
                verdict => {
                    let due = climb(row, &verdict, now);
                    match state.failed(ticket, &records, due, policy, now, jitter) {
                        Next::RetryAt(at) => (Status::Retry, Outcome::RetryAt(at), Filing::At(at)),
                        Next::Queue => (Status::Queued, Outcome::Queued, Filing::Settled),
                        Next::JoinLine => {
                            let status = in_line(state.disabled.is_some());
                            let outcome = if status == Status::Queued { Outcome::Queued } else { Outcome::Waiting };
                            (status, outcome, Filing::Line)
                        }
                    }
                }
            };
            attempt.next = if let Filing::At(at) = filing { Some(at) } else { None };
            row.attempts_made = attempt.number;
            row.attempts.push(attempt.clone());
            let forgotten = row.attempts.len().saturating_sub(REMEMBERED_ATTEMPTS);
            row.attempts.drain(..forgotten);
            filing
        })
        .await?;
    let (outcome, released) = match ending {
        Ending::Moved(moved) if moved.superseded => (Outcome::Superseded, moved.released),
        Ending::Moved(moved) => (outcome_of_job, moved.released),
        // Another copy of the job was tried at the same time and has noted its own outcome.
        Ending::Outrun => (Outcome::Outrun, 0),
    };
    Ok(DeliveryReport { outcome, attempt: Some(attempt), released, since: None })
}

/// When the ladder wants the next attempt. A probe that came ahead of its rung does not climb: what was tried
/// every quarter of an hour for the sake of all must not come to its own end sooner for it.
fn climb(row: &mut DeliveryRow, verdict: &Verdict, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    if let Some(ends) = row.rung_ends.filter(|ends| *ends > now) {
        return Some(ends);
    }
    row.rung += 1;
    row.rung_ends = if let Verdict::RetryAt(at) = verdict { Some(*at) } else { None };
    row.rung_ends
}

pub(super) fn describe(url: &str, at: DateTime<Utc>, tried: &Tried) -> Attempt {
    let (status, error, response) = match &tried.answer {
        Ok(exchange) => {
            let body = exchange.response.body();
            let head = String::from_utf8_lossy(&body[..body.len().min(REMEMBERED_RESPONSE)]).into_owned();
            (Some(exchange.response.status().as_u16()), None, head)
        }
        Err(error) => (None, Some(error.clone()), String::new()),
    };
    let duration_ms = u64::try_from(tried.took.as_millis()).unwrap_or(u64::MAX);
    Attempt { number: 0, at, url: without_values(url), duration_ms, status, error, response, next: None }
}

/// A callback's URL as attempts remember it: which keys its query has, and not their values, which are often secrets.
fn without_values(url: &str) -> String {
    let Ok(mut shown) = Url::parse(url) else { return url.to_owned() };
    if shown.query().is_none() {
        return url.to_owned();
    }
    let names: Vec<String> = shown.query_pairs().map(|(name, _)| name.into_owned()).collect();
    shown.query_pairs_mut().clear().extend_pairs(names.iter().map(|name| (name, MASK)));
    shown.into()
}

/// How a report reads in a log line.
impl Serialize for Outcome {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Outcome::Delivered => "delivered",
            Outcome::RetryAt(_) => "retry",
            Outcome::Waiting => "waiting",
            Outcome::Superseded => "superseded",
            Outcome::Queued => "queued",
            Outcome::AlreadySettled => "already settled",
            Outcome::NotDue => "not due",
            Outcome::Gone => "gone",
            Outcome::PutBack => "put back",
            Outcome::Outrun => "outrun",
        })
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::outbox::tests::{change, filed, now};

    #[test]
    fn a_url_is_remembered_without_the_values_of_its_query() {
        for (url, shown) in [
            ("https://a.example/hook", "https://a.example/hook"),
            ("https://a.example/hook?key=hunter2&x", "https://a.example/hook?key=********&x=********"),
        ] {
            assert_eq!(without_values(url), shown);
        }
    }

    #[test]
    fn a_try_ahead_of_its_rung_does_not_climb() {
        let [outgoing] = &filed(Some("https://a.example/"), &[change("1", 1, "{}")], now())[..] else { panic!("one") };
        let Write::Put { item, .. } = &outgoing.writes[0] else { panic!("a row") };
        let mut row: DeliveryRow = read(item).expect("a row");
        let at = |seconds| now() + TimeDelta::seconds(seconds);
        let again = |seconds| Verdict::RetryAt(at(seconds));
        assert_eq!((climb(&mut row, &again(5), now()), row.rung), (Some(at(5)), 1));
        assert_eq!((climb(&mut row, &again(300), at(4)), row.rung), (Some(at(5)), 1));
        assert_eq!((climb(&mut row, &again(300), at(5)), row.rung), (Some(at(300)), 2));
        assert_eq!((climb(&mut row, &Verdict::Exhausted, at(300)), row.rung), (None, 3));
    }
}
