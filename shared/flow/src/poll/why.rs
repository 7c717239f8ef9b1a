//! The reason why a record did or did not become an event: the memory of the index in words, and the notifications that
//! carried it. Reads the store alone; asks no vendor.

use chrono::{DateTime, Utc};
use domain::index::{Entry, hash_of, key_of, parts_of};
use domain::rule::Rule;
use serde::Serialize;
use store::records::delivery::{self, Attempt, EventLine, Status};
use store::records::instance::InstanceRecord;
use store::records::record_index::RecordIndex;
use store::records::resource::{self, ResourceRecord};

use crate::service::{FlowError, Service};

/// The answer about one record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// As asked for.
    pub record: String,
    /// The resource's first poll is complete.
    pub baselined: bool,
    /// One for each partition that has a record of this id; none when it was never seen.
    pub known: Vec<Known>,
    /// In a sentence.
    pub answer: String,
    /// The notifications of the last thirty days with an event about it, oldest first.
    pub notifications: Vec<Carried>,
}

/// A record as the index remembers it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// The partition it was listed in; empty where a resource has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub partition: String,
    /// The time when a poll last found it new or changed, to the minute.
    pub seen: Option<DateTime<Utc>>,
    /// Its stamp then, by the vendor.
    pub stamp: Option<DateTime<Utc>>,
    /// `sequence` of the last event about it; 0 or the resource's first while nothing was emitted.
    pub sequence: u32,
    /// It is gone.
    pub gone: bool,
    /// The rule that made it what it is.
    pub rule: Rule,
    /// The rule in a sentence.
    pub because: &'static str,
}

/// A notification with an event about the record.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Carried {
    /// Its id on every attempt.
    pub delivery: String,
    /// The state of the delivery.
    pub status: Status,
    /// The time of its commit.
    pub committed: DateTime<Utc>,
    /// Its events about the record.
    pub events: Vec<EventLine>,
    /// The attempts so far.
    pub attempts: Vec<Attempt>,
}

/// Looks a record up by its id, in every partition.
pub async fn why(service: &Service, instance: &InstanceRecord, resource: &str, id: &str) -> Result<Why, FlowError> {
    let store = &*service.ports.store;
    let stored = resource::key(instance.id, resource).get(store).await;
    let stored = stored.map_err(FlowError::record("the state of a resource"))?;
    let state = stored.map(|stored| stored.record).unwrap_or_default();
    let mut index = RecordIndex::of(instance.id, resource, &state);
    let mut known = Vec::new();
    let partitions: Vec<&String> = state.cursors.keys().filter(|partition| !partition.is_empty()).collect();
    let keys: Vec<String> =
        std::iter::once(id.to_owned()).chain(partitions.iter().map(|partition| key_of(partition, id))).collect();
    index.load(store, keys.iter().map(|key| hash_of(key))).await?;
    for key in keys {
        known.extend(index.get(hash_of(&key), &key).map(|entry| shown(parts_of(&key).0, entry)));
    }
    let mut notifications = Vec::new();
    let rows = delivery::rows(instance.id, None).all(store).await;
    for row in rows.map_err(FlowError::record("deliveries"))?.into_iter().map(|stored| stored.record) {
        let events: Vec<EventLine> = row.events.iter().filter(|event| event.object_id == id).cloned().collect();
        if row.resource == resource && !events.is_empty() {
            let (delivery, status) = (row.id.0, row.status);
            notifications.push(Carried { delivery, status, committed: row.created_at, events, attempts: row.attempts });
        }
    }
    let answer = in_words(&state, &known, &notifications);
    Ok(Why { record: id.to_owned(), baselined: state.has_baseline, known, answer, notifications })
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
        return match state.has_baseline {
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
