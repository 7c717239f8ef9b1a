//! Why a record did or did not become an event: what the index remembers of it, in words, and the notifications
//! that carried it. Reads only; asks no vendor.

use chrono::{DateTime, Utc};
use domain::detect::Rule;
use domain::index::{Entry, hash_of, key_of, parts_of};
use serde::Serialize;

use super::index::Index;
use super::state::ResourceRecord;
use crate::delivery::row::{Attempt, DeliveryRow, EventLine, Status};
use crate::ports::query_all;
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord};

/// What is known of one record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// As asked for.
    pub record: String,
    /// The resource's first poll is through.
    pub baselined: bool,
    /// One for each partition that has a record of this id; none when it was never seen.
    pub known: Vec<Known>,
    /// In a sentence.
    pub answer: String,
    /// The notifications of the last thirty days that told of it, oldest first.
    pub notifications: Vec<Carried>,
}

/// What the index remembers.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Where it was listed; empty where a resource has no partitions.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub partition: String,
    /// When a poll last found it new or changed, to the minute.
    pub seen: Option<DateTime<Utc>>,
    /// Its stamp then, by the vendor.
    pub stamp: Option<DateTime<Utc>>,
    /// `sequence` of the last event about it; 0 or the resource's first while nothing was told.
    pub sequence: u32,
    /// It is gone.
    pub gone: bool,
    /// Which rule made it what it is.
    pub rule: Rule,
    /// The rule in a sentence.
    pub because: &'static str,
}

/// A notification that told of the record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// Its id on every attempt.
    pub delivery: String,
    /// Where it stands.
    pub status: Status,
    /// When it was committed.
    pub committed: DateTime<Utc>,
    /// What it says of the record.
    pub events: Vec<EventLine>,
    /// What became of it so far.
    pub attempts: Vec<Attempt>,
}

/// Looks a record up by its id, in every partition.
pub async fn why(service: &Service, instance: &InstanceRecord, resource: &str, id: &str) -> Result<Why, FlowError> {
    let store = &*service.ports.store;
    let key = table::resource_key(instance.id, resource);
    let item = store.get(&key).await.map_err(FlowError::store("the state of a resource"))?;
    let state: ResourceRecord = item.as_ref().map(table::read).transpose()?.unwrap_or_default();
    let mut index = Index::of(instance.id, resource, &state);
    let mut known = Vec::new();
    let partitions: Vec<&String> = state.cursors.keys().filter(|partition| !partition.is_empty()).collect();
    let keys: Vec<String> =
        std::iter::once(id.to_owned()).chain(partitions.iter().map(|partition| key_of(partition, id))).collect();
    index.load(store, keys.iter().map(|key| hash_of(key))).await?;
    for key in keys {
        known.extend(index.get(hash_of(&key), &key).map(|entry| shown(parts_of(&key).0, entry)));
    }
    let mut notifications = Vec::new();
    let rows = query_all(store, &table::instance_partition(instance.id), "DLV#").await;
    for item in rows.map_err(FlowError::store("deliveries"))? {
        let row: DeliveryRow = table::read(&item)?;
        let events: Vec<EventLine> = row.events.iter().filter(|event| event.object_id == id).cloned().collect();
        if row.resource == resource && !events.is_empty() {
            let (delivery, status) = (row.id.0, row.status);
            notifications.push(Carried { delivery, status, committed: row.created_at, events, attempts: row.attempts });
        }
    }
    let answer = in_words(&state, &known, &notifications);
    Ok(Why { record: id.to_owned(), baselined: state.based, known, answer, notifications })
}

fn shown(partition: &str, entry: Entry) -> Known {
    Known {
        partition: partition.to_owned(),
        seen: DateTime::from_timestamp(60 * i64::from(entry.seen_minute), 0),
        stamp: (entry.stamp != 0).then(|| DateTime::from_timestamp_micros(entry.stamp)).flatten(),
        sequence: entry.revision,
        gone: entry.gone,
        rule: entry.rule,
        because: entry.rule.in_words(),
    }
}

fn in_words(state: &ResourceRecord, known: &[Known], notifications: &[Carried]) -> String {
    let Some(newest) = known.iter().max_by_key(|known| known.seen) else {
        return match state.based {
            false => "Never seen: the first poll is not through yet.".into(),
            true => "Never seen: no listing up to now held a record of this id.".into(),
        };
    };
    let sent = match notifications.len() {
        0 if newest.sequence > state.first_revision => {
            "It was told; the notification is older than thirty days.".to_owned()
        }
        0 => "Nothing was sent of it, and nothing will be until it changes.".to_owned(),
        1 => "One notification told of it.".to_owned(),
        count => format!("{count} notifications told of it."),
    };
    format!("{} {sent}", newest.because)
}
