//! A delivery as it is stored: a row that every attempt rewrites, with a small body in it and a large one beside it.
//! The bytes that are signed and sent are those stored when the events were committed. Here are its keys, too: of the
//! row (`DLV#`), of the pieces of its body (`BODY#`), and of its entry among the retries of a minute (`RETRY#`).

use std::ops::Range as Span;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::NotificationFormat;
use domain::delivery::{Delivery, DeliveryKey};
pub use domain::delivery::{Schedule, Status};
use domain::id::{DeliveryId, EventId, InstanceId, OrganizationId};
use domain::record::{Change, ChangeKind};
use domain::retry_minute::RetryMinute;
use domain::retry_schedule::Progress;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::instance::{self, InstanceRecord};
use super::job::DeliveryJob;
use crate::codec;
use crate::keys::{instance_partition, organization_partition, retry_key, retry_partition};
use crate::pages::{Listable, Section};
use crate::port::{Condition, Item, Key, Range, Store, StoreError, Write};
use crate::record::{RecordError, RecordKey, Stored, expiring};

/// Time that a delivery and its body are kept. Cloud Elements kept events 7 days and logs 30.
pub const KEPT: TimeDelta = TimeDelta::days(30);

/// The youngest attempts that a row remembers; it counts them all.
pub const REMEMBERED_ATTEMPTS: usize = 20;

/// The form in which a body lies in its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// As it is sent.
    Plain,
    /// Compressed by Zstandard, then cut.
    Zstd,
}

/// A row's summary of one of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// The event's id.
    pub id: EventId,
    /// The kind of the change.
    pub kind: ChangeKind,
    /// The record's id.
    pub object_id: String,
    /// The partition in which the record was listed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub partition: String,
    /// The record's revision.
    pub sequence: u32,
    /// When it changed, if the record says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<DateTime<Utc>>,
}

impl EventLine {
    /// The summary of a change.
    pub fn of(change: &Change) -> Self {
        Self {
            id: change.event.clone(),
            kind: change.kind,
            object_id: change.id.clone(),
            partition: change.partition.clone(),
            sequence: change.revision,
            date: change.date,
        }
    }
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// When it began.
    pub at: DateTime<Utc>,
    /// The URL it was sent to.
    pub url: String,
    /// Time until there was an answer or none would come.
    pub duration_ms: u64,
    /// Status of the answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The first kilobyte of the answer's body, as far as it is text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub response: String,
    /// When the next was due, as decided then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<DateTime<Utc>>,
}

/// A body up to this many bytes lies in its row: packed, the two are mostly one kilobyte, the unit in which writes are
/// paid. A larger one is paid for once, by lying beside the row, which is written again with every attempt.
pub const LARGEST_INLINE: usize = 2048;

/// A notification's body among the other fields of a row, as the JSON text that it is, byte for byte.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InlineBody(Box<RawValue>);

impl InlineBody {
    /// The body, to lie in a row. None: too large to lie in a row, or not the text of one JSON value.
    pub fn of(body: &str) -> Option<Self> {
        let fits = body.len() <= LARGEST_INLINE;
        fits.then(|| RawValue::from_string(body.to_owned()).ok()).flatten().filter(|raw| raw.get() == body).map(Self)
    }
}

/// A delivery: which events, and what became of them so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryRow {
    /// Its name on every attempt.
    pub id: DeliveryId,
    /// The notification's number, decimal digits.
    pub number: String,
    /// From which account.
    pub instance: InstanceId,
    /// Its organization.
    pub organization: OrganizationId,
    /// Key of the element.
    pub element: String,
    /// Key in `event.poller.configuration`.
    pub resource: String,
    /// `objectType` on the wire.
    pub object_type: String,
    /// Form of the body.
    pub format: NotificationFormat,
    /// Its status.
    pub status: Status,
    /// Id of the poll that found them. Rows of earlier releases have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// Its events, in order.
    pub events: Vec<EventLine>,
    /// Length of the body as it is sent.
    pub bytes: usize,
    /// The body, if it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<InlineBody>,
    /// In how many items a larger body lies.
    pub pieces: usize,
    /// The form of the pieces.
    pub packing: Packing,
    /// The reasons why records were left out of the body, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// The callback when it was filed. It is sent to whatever the callback is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
    /// Number of attempts.
    pub attempts_made: u32,
    /// The last [`REMEMBERED_ATTEMPTS`], oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Failed attempts that count for the retry schedule; a probe ahead of its step does not.
    #[serde(default, rename = "rung")]
    pub retry_steps: u32,
    /// When the present step is waited out.
    #[serde(default, rename = "rungEnds", skip_serializing_if = "Option::is_none")]
    pub step_ends: Option<DateTime<Utc>>,
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<DateTime<Utc>>,
    /// Under which minute it was last filed; the dispatcher may have moved it on since. None while nothing is due, and
    /// before the first attempt where the next poll looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_minute: Option<RetryMinute>,
    /// It joined the backlog of its callback and has not been tried since.
    #[serde(default, rename = "inLine")]
    pub in_backlog: bool,
}

impl Listable for DeliveryRow {
    const PREFIX: &'static str = ROWS;
}

impl DeliveryRow {
    /// The schedule of its next attempt.
    pub fn schedule(&self) -> Schedule {
        match (self.in_backlog, self.due) {
            (true, _) => Schedule::Backlog,
            (false, _) if self.status.is_settled() => Schedule::Settled,
            (false, Some(due)) => Schedule::At(due),
            (false, None) => Schedule::Now,
        }
    }

    /// The part of it that a transition reads and changes.
    pub fn state(&self, key: DeliveryKey) -> Delivery {
        let progress = Progress { steps: self.retry_steps, step_ends: self.step_ends };
        Delivery { key, records: self.records(), status: self.status, progress }
    }

    /// Remembers an attempt, and forgets the oldest where there are many.
    pub fn remember(&mut self, attempt: Attempt) {
        self.attempts_made = attempt.number;
        self.attempts.push(attempt);
        let forgotten = self.attempts.len().saturating_sub(REMEMBERED_ATTEMPTS);
        self.attempts.drain(..forgotten);
    }

    /// Names of the records inside, for finding out if two deliveries share one.
    pub fn records(&self) -> Vec<u64> {
        let name = |event: &EventLine| {
            // Length first, so that the parts do not run together.
            format!(
                "{} {}#{}#{} {}#{}",
                self.instance,
                self.resource.len(),
                self.resource,
                event.partition.len(),
                event.partition,
                event.object_id
            )
        };
        self.events.iter().map(|event| xxh3_64(name(event).as_bytes())).collect()
    }
}

/// Start of the sort keys of rows.
const ROWS: &str = "DLV#";

/// The sort key of a row. Zero-padded milliseconds: rows stand in the order in which they were committed.
pub fn row_name(committed: DateTime<Utc>, delivery: &DeliveryId) -> String {
    format!("{ROWS}{:013}#{delivery}", committed.timestamp_millis())
}

/// The id of the delivery whose row has this sort key. None: it is not that of a row.
pub(super) fn delivery_of(row: &str) -> Option<DeliveryId> {
    Some(DeliveryId(row.strip_prefix(ROWS)?.split_once('#')?.1.to_owned()))
}

/// The key of a delivery behind its callback, of its row's sort key and its instance.
pub(super) fn behind_callback(row: &str, instance: InstanceId) -> DeliveryKey {
    DeliveryKey::new(format!("{}#{instance}", row.strip_prefix(ROWS).unwrap_or(row)))
}

/// The sort key of a row and the instance, of a delivery's key behind its callback.
pub(super) fn row_behind(key: &DeliveryKey) -> Option<(String, InstanceId)> {
    let (row, instance) = key.as_str().rsplit_once('#')?;
    Some((format!("{ROWS}{row}"), InstanceId(instance.parse().ok()?)))
}

/// Key of the row a job is about.
pub fn row_key(job: &DeliveryJob) -> RecordKey<DeliveryRow> {
    RecordKey::of(Key::new(instance_partition(job.instance), job.row.clone()))
}

/// The rows of an instance, by when they were committed; only those committed in a span, where one is named.
pub fn rows(instance: InstanceId, committed: Option<&Span<DateTime<Utc>>>) -> Section<DeliveryRow> {
    let range = match committed {
        Some(Span { start, end }) => Range::between(
            format!("{ROWS}{:013}", start.timestamp_millis().max(0)),
            format!("{ROWS}{:013}~", end.timestamp_millis().max(0)),
        ),
        None => Range::prefix(ROWS),
    };
    Section::of(instance_partition(instance), range)
}

/// The row of a job and its instance, by one read.
///
/// # Errors
/// The store failed, or what it has cannot be read.
pub async fn row_and_instance(
    store: &dyn Store,
    job: &DeliveryJob,
) -> Result<(Option<Stored<DeliveryRow>>, Option<InstanceRecord>), RecordError> {
    let (row, instance) = (row_key(job), instance::key(job.instance));
    let items = store.get_many(&[row.as_key().clone(), instance.as_key().clone()]).await?;
    let item = |key: &Key| items.iter().find(|item| item.key == *key);
    let row = item(row.as_key()).map(Stored::read).transpose()?;
    let instance: Option<Stored<InstanceRecord>> = item(instance.as_key()).map(Stored::read).transpose()?;
    Ok((row, instance.map(|stored| stored.record)))
}

/// Writes a delivery that is new, with the pieces of a body that does not lie in its row.
pub fn insert(row: &DeliveryRow, pieces: Vec<Bytes>) -> Vec<Write> {
    let expires_at = Some(row.created_at + KEPT);
    let key = Key::new(instance_partition(row.instance), row_name(row.created_at, &row.id));
    let mut writes = vec![expiring(crate::codec::insert(key.clone(), row), expires_at)];
    writes.extend(pieces.into_iter().enumerate().map(|(piece, body)| Write::Put {
        item: Item { key: body_key(&key, piece), version: 1, body, expires_at },
        condition: Condition::Unconditional,
    }));
    writes
}

/// Key of a delivery's entry among those that are due in a minute.
pub fn retry_entry(instance: InstanceId, delivery: &DeliveryId, minute: RetryMinute) -> RecordKey<DeliveryJob> {
    RecordKey::of(retry_key(minute, instance, &delivery.0))
}

/// Writes a job's entry among those that are due in a minute.
pub fn file_retry(job: &DeliveryJob, minute: RetryMinute) -> Write {
    retry_entry(job.instance, &job.delivery, minute).put(job)
}

/// Key of the count of an organization's test events: the instant at which it may send as many as ever again.
pub fn trials_key(organization: OrganizationId) -> RecordKey<DateTime<Utc>> {
    RecordKey::of(Key::new(organization_partition(organization), "TRIALS"))
}

/// The jobs of the deliveries that are due in a minute.
pub fn due_in(minute: RetryMinute) -> Section<DeliveryJob> {
    Section::of(retry_partition(minute), Range::all())
}

/// The jobs filed under a minute, each with the instant at which its delivery is due, if its row has one. What cannot be
/// read is left out.
///
/// # Errors
/// The store failed.
pub async fn due_instants(
    store: &dyn Store,
    minute: RetryMinute,
) -> Result<Vec<(DeliveryJob, Option<DateTime<Utc>>)>, StoreError> {
    let entries: Vec<Item> = due_in(minute).items(store, None).try_concat().await?;
    let jobs: Vec<DeliveryJob> = entries.iter().filter_map(|item| codec::read(item).ok()).collect();
    let keys: Vec<Key> = jobs.iter().map(|job| row_key(job).as_key().clone()).collect();
    let rows = store.get_many(&keys).await?;
    let due = |key: &Key| {
        let item = rows.iter().find(|item| item.key == *key)?;
        codec::read::<DeliveryRow>(item).ok()?.due
    };
    Ok(jobs.into_iter().zip(&keys).map(|(job, key)| (job, due(key))).collect())
}

/// The deliveries with these sort keys, each with its key; those that are gone are left out.
///
/// # Errors
/// The store failed, or a row cannot be read.
pub async fn named(
    store: &dyn Store,
    instance: InstanceId,
    rows: Vec<String>,
) -> Result<Vec<(String, DeliveryRow)>, RecordError> {
    let partition = instance_partition(instance);
    let keys: Vec<Key> = rows.into_iter().map(|row| Key::new(partition.clone(), row)).collect();
    let read = |item: Item| {
        let row = Stored::read(&item)?.record;
        Ok((item.key.sk, row))
    };
    store.get_many(&keys).await?.into_iter().map(read).collect()
}

/// Key of a piece of a body, apart from the rows so that a listing of rows does not read large bodies. It begins with
/// the delivery's id, where rows begin with their time: so the body leads from an id to its row, see [`found_by`].
pub fn body_key(row: &Key, piece: usize) -> Key {
    let (time, id) = row.sk.strip_prefix(ROWS).and_then(|rest| rest.split_once('#')).unwrap_or(("", &row.sk));
    Key::new(row.pk.clone(), format!("{}{time}#{piece:02}", bodies_of(id)))
}

/// Start of the sort keys of a delivery's body.
fn bodies_of(id: &str) -> String {
    format!("BODY#{id}#")
}

/// The row of a delivery, by its id. One whose body lies beside it is found by one short query. The others are looked
/// through, the youngest first: an item that leads from id to row would cost a write with every event, and people ask
/// for few of them, mostly young ones.
///
/// # Errors
/// The store failed, or the row cannot be read.
pub async fn found_by(
    store: &dyn Store,
    instance: InstanceId,
    id: &DeliveryId,
) -> Result<Option<Stored<DeliveryRow>>, RecordError> {
    let partition = instance_partition(instance);
    let page = store.query(&partition, &Range::prefix(&bodies_of(&id.0)).limit(1), None).await?;
    let time = |item: &Item| item.key.sk.rsplit('#').nth(1).map(str::to_owned);
    if let Some(time) = page.items.first().and_then(time) {
        return RecordKey::of(Key::new(partition, format!("{ROWS}{time}#{id}"))).get(store).await;
    }
    let ending = format!("#{id}");
    let mut pages = std::pin::pin!(rows(instance, None).descending().items(store, None));
    while let Some(items) = pages.try_next().await? {
        if let Some(item) = items.iter().find(|item| item.key.sk.ends_with(&ending)) {
            return Ok(Some(Stored::read(item)?));
        }
    }
    Ok(None)
}

/// The reason why a body cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A piece is missing or damaged.
    #[error("the body under {}/{} is incomplete", .0.pk, .0.sk)]
    Incomplete(Key),
}

/// The body as it is sent.
pub async fn body_of(store: &dyn Store, row: &DeliveryRow) -> Result<Bytes, BodyError> {
    let key = &Key::new(instance_partition(row.instance), row_name(row.created_at, &row.id));
    if let Some(InlineBody(body)) = &row.body {
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        return if body.len() == row.bytes { Ok(body) } else { Err(BodyError::Incomplete(key.clone())) };
    }
    let keys: Vec<Key> = (0..row.pieces).map(|piece| body_key(key, piece)).collect();
    let mut pieces = store.get_many(&keys).await?;
    pieces.sort_by(|a, b| a.key.cmp(&b.key));
    unpack(&pieces, row).ok_or_else(|| BodyError::Incomplete(key.clone()))
}

fn unpack(pieces: &[Item], row: &DeliveryRow) -> Option<Bytes> {
    if pieces.len() != row.pieces {
        return None;
    }
    let body = match (row.packing, pieces) {
        (Packing::Plain, [whole]) => whole.body.clone(),
        _ => {
            let packed: Vec<u8> = pieces.iter().flat_map(|piece| piece.body.iter().copied()).collect();
            match row.packing {
                Packing::Plain => packed.into(),
                Packing::Zstd => zstd::bulk::decompress(&packed, row.bytes).ok()?.into(),
            }
        }
    };
    (body.len() == row.bytes).then_some(body)
}
