//! A delivery as it is stored: a row that every attempt rewrites, with a small body in it and a large one beside it.
//! The bytes that are signed and sent are those stored when the events were committed.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::NotificationFormat;
use domain::id::{DeliveryId, EventId, InstanceId, OrganizationId};
use domain::record::{Change, ChangeKind};
use domain::retry_minute::RetryMinute;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

use super::job::DeliveryJob;
use crate::keys::{self, instance_partition};
use crate::pages::{Listable, Section};
use crate::port::{Item, Key, Range, Store, StoreError};

/// The youngest attempts that a row remembers; it counts them all.
pub const REMEMBERED_ATTEMPTS: usize = 20;

/// Where a delivery stands. `created`, `delivered`, `retry` and `queued` are the original's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Committed, not yet tried.
    Created,
    /// The receiver has it.
    Delivered,
    /// Tried, and it will be tried again.
    Retry,
    /// Behind another: its callback is failing, or an older delivery of one of its records is on its way.
    Waiting,
    /// Not sent by itself any more: the ladder ended, or the callback or the instance is switched off.
    Queued,
    /// There was no callback to send it to.
    Kept,
    /// Not sent: while it waited, newer ones came that tell of all its records, and the callback wants only those.
    Superseded,
}

impl Status {
    /// Nothing happens to it unless somebody asks.
    pub fn is_settled(self) -> bool {
        matches!(self, Status::Delivered | Status::Queued | Status::Kept | Status::Superseded)
    }

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Delivered => "delivered",
            Status::Retry => "retry",
            Status::Waiting => "waiting",
            Status::Queued => "queued",
            Status::Kept => "kept",
            Status::Superseded => "superseded",
        }
    }

    /// From its word.
    pub fn named(word: &str) -> Option<Self> {
        use Status::{Created, Delivered, Kept, Queued, Retry, Superseded, Waiting};
        [Created, Delivered, Retry, Waiting, Queued, Kept, Superseded].into_iter().find(|status| status.word() == word)
    }
}

/// How a body lies in its pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// As it is sent.
    Plain,
    /// Compressed by Zstandard, then cut.
    Zstd,
}

/// What a row says of one of its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventLine {
    /// The event's id.
    pub id: EventId,
    /// What became of the record.
    pub kind: ChangeKind,
    /// The record's id.
    pub object_id: String,
    /// Where the record was listed.
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
    /// Where it went.
    pub url: String,
    /// How long until there was an answer or none would come.
    pub duration_ms: u64,
    /// Status of the answer, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was none.
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
    /// Whose.
    pub organization: OrganizationId,
    /// Key of the element.
    pub element: String,
    /// Key in `event.poller.configuration`.
    pub resource: String,
    /// `objectType` on the wire.
    pub object_type: String,
    /// Form of the body.
    pub format: NotificationFormat,
    /// Where it stands.
    pub status: Status,
    /// Id of the poll that found them. Rows of earlier releases have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
    /// What it tells, in order.
    pub events: Vec<EventLine>,
    /// Length of the body as it is sent.
    pub bytes: usize,
    /// The body, if it is small.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<InlineBody>,
    /// In how many items a larger body lies.
    pub pieces: usize,
    /// How.
    pub packing: Packing,
    /// Why records were left out of the body, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub omitted: Vec<String>,
    /// The callback when it was filed. It is sent to whatever the callback is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// When it was committed.
    pub created_at: DateTime<Utc>,
    /// When the row last changed.
    pub updated_at: DateTime<Utc>,
    /// How many attempts there were.
    pub attempts_made: u32,
    /// The last [`REMEMBERED_ATTEMPTS`], oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Failed attempts that count for the ladder; a probe ahead of its rung does not.
    #[serde(default)]
    pub rung: u32,
    /// When the present rung is waited out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung_ends: Option<DateTime<Utc>>,
    /// Not before this instant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<DateTime<Utc>>,
    /// Under which minute it was last filed; the dispatcher may have moved it on since. None while nothing is due, and
    /// before the first attempt where the next poll looks after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_minute: Option<RetryMinute>,
    /// It was put into the line of its callback and has not been tried since.
    #[serde(default)]
    pub in_line: bool,
}

impl Listable for DeliveryRow {
    const PREFIX: &'static str = "DLV#";
}

impl DeliveryRow {
    /// What names the records inside, for telling whether two deliveries share one.
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

/// Sort key of a delivery row is not that of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the key of a delivery")]
pub struct NotARow(pub String);

/// The jobs filed under a minute of the retries.
pub fn due_in(retry_minute: RetryMinute) -> Section<DeliveryJob> {
    Section::of(keys::retry_partition(retry_minute), Range::all())
}

/// Key of the row a job is about.
pub fn row_key(job: &DeliveryJob) -> Key {
    Key::new(instance_partition(job.instance), job.row.clone())
}

/// Key of a piece of a body, apart from the rows so that a listing of rows does not read large bodies. It begins with
/// the delivery's id, where rows begin with their time: so the body leads from an id to its row, see [`found_by`].
pub fn body_key(row: &Key, piece: usize) -> Key {
    let (time, id) = row.sk.strip_prefix("DLV#").and_then(|rest| rest.split_once('#')).unwrap_or(("", &row.sk));
    Key::new(row.pk.clone(), format!("{}{time}#{piece:02}", bodies_of(id)))
}

/// What the sort keys of a delivery's body begin with.
fn bodies_of(id: &str) -> String {
    format!("BODY#{id}#")
}

/// The row of a delivery, by its id. One whose body lies beside it is found by one short query. The others are looked
/// through, the youngest first: an item that leads from id to row would cost a write with every event, and people ask
/// for few of them, mostly young ones.
///
/// # Errors
/// The store failed.
pub async fn found_by(store: &dyn Store, instance: InstanceId, id: &DeliveryId) -> Result<Option<Item>, StoreError> {
    let partition = instance_partition(instance);
    let page = store.query(&partition, &Range::prefix(&bodies_of(&id.0)).limit(1), None).await?;
    let time = |item: &Item| item.key.sk.rsplit('#').nth(1).map(str::to_owned);
    if let Some(time) = page.items.first().and_then(time) {
        return store.get(&Key::new(partition, format!("DLV#{time}#{id}"))).await;
    }
    let (range, ending) = (Range::prefix("DLV#").descending(), format!("#{id}"));
    let mut after = None;
    loop {
        let page = store.query(&partition, &range, after.as_deref()).await?;
        let found = page.items.into_iter().find(|item| item.key.sk.ends_with(&ending));
        after = page.next;
        if found.is_some() || after.is_none() {
            return Ok(found);
        }
    }
}

/// Why a body cannot be had.
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
pub async fn body_of(store: &dyn Store, key: &Key, row: &DeliveryRow) -> Result<Bytes, BodyError> {
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
