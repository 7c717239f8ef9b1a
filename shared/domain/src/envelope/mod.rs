//! Turns changes into the bytes that are signed, stored and posted: Cloud Elements' notification, or CloudEvents 1.0.
//!
//! The records' own bytes are spliced in as they came. Key order and forms are those of two captured callbacks
//! of Cloud Elements (`createdDate` in the manner of Java's `Date.toString`, the instance id twice); keys of our own
//! stand at the end of each event: `id`, the event's id, `sequence`, the record's revision, and, where a resource
//! fans out, `partition`: the calendar or store whose record it is.
//! `schemas/notification.v1.json` describes the result.

#[cfg(test)]
mod tests;

use std::ops::Range;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::configuration::NotificationFormat;
use crate::event::notification_ids;
use crate::id::{DeliveryId, InstanceId, OrganizationId, UserId};
use crate::record::Change;

/// Most events in one notification, as in Cloud Elements.
pub const MOST_EVENTS: usize = 10;

/// Bodies stay below this many bytes by holding fewer events. A record that is larger by itself travels alone.
pub const LARGEST_SHARED_BODY: usize = 1_000_000;

/// A record above this many bytes does not travel: a stub stands in its place. Cloud Elements has the same bound.
pub const LARGEST_RECORD: usize = 8 * 1024 * 1024;

impl NotificationFormat {
    /// The body's `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            NotificationFormat::Elements => "application/json",
            NotificationFormat::CloudEvents => "application/cloudevents+json",
            NotificationFormat::CloudEventsBatch => "application/cloudevents-batch+json",
        }
    }

    /// Events in one notification at most.
    pub fn most_events(self) -> usize {
        match self {
            NotificationFormat::CloudEvents => 1,
            NotificationFormat::Elements | NotificationFormat::CloudEventsBatch => MOST_EVENTS,
        }
    }
}

/// The instance that a notification comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// `instanceId` and `instance_id`.
    pub instance: InstanceId,
    /// `accountId` and `companyId`: the two levels of Cloud Elements are one here.
    pub organization: OrganizationId,
    /// `userId`.
    pub user: UserId,
    /// `instanceName`.
    pub name: &'a str,
    /// `instanceTags`.
    pub tags: &'a [String],
    /// `elementKey`.
    pub element: &'a str,
    /// `hubKey`.
    pub hub: &'a str,
}

/// A notification, ready to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Its name on every attempt.
    pub delivery: DeliveryId,
    /// `id` of the envelope, decimal digits.
    pub number: String,
    /// The changes that are inside.
    pub changes: Range<usize>,
    /// The bytes, which are JSON and so text.
    pub body: String,
    /// Records that a stub stands for.
    pub omitted: Vec<Omitted>,
}

/// A record that did not travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Omitted {
    /// Place among the changes.
    pub change: usize,
    /// The size of the record in bytes.
    pub bytes: usize,
    /// The reason, for people.
    pub reason: &'static str,
}

/// Packs changes of one resource into notifications, in their order. `poll_date` is when the poll began, `now` when
/// the notification is made; an event without a date of its own gets the poll's. Records above `largest_record`
/// bytes (usually [`LARGEST_RECORD`]) are replaced by `{"objectId": …, "omitted": {"bytes": …, "reason": …}}`.
pub fn notifications(
    sender: &Sender<'_>,
    format: NotificationFormat,
    object_type: &str,
    changes: &[Change],
    poll_date: DateTime<Utc>,
    now: DateTime<Utc>,
    largest_record: usize,
) -> Vec<Notification> {
    let writer = Writer { sender, format, object_type, poll_date, now };
    let mut omitted = Vec::new();
    let records: Vec<Box<RawValue>> = changes
        .iter()
        .enumerate()
        .map(|(index, change)| {
            record(change, largest_record).unwrap_or_else(|reason| {
                omitted.push(Omitted { change: index, bytes: change.raw.len(), reason });
                stub(change, reason)
            })
        })
        .collect();
    let sizes: Vec<usize> = changes.iter().zip(&records).map(|(change, raw)| writer.size_of(change, raw)).collect();
    let empty = writer.body(&[], &[], &DeliveryId(String::new()), "").len() + 64;
    split(&sizes, format.most_events(), LARGEST_SHARED_BODY.saturating_sub(empty))
        .into_iter()
        .map(|range| {
            let inside = &changes[range.clone()];
            let ids = notification_ids(inside.iter().map(|change| &change.event));
            Notification {
                body: writer.body(inside, &records[range.clone()], &ids.delivery, &ids.number),
                delivery: ids.delivery,
                number: ids.number,
                omitted: omitted.iter().filter(|omitted| range.contains(&omitted.change)).cloned().collect(),
                changes: range,
            }
        })
        .collect()
}

/// Consecutive groups of at most `most` entries whose sizes add up to at most `space`, or of one.
fn split(sizes: &[usize], most: usize, space: usize) -> Vec<Range<usize>> {
    let mut groups = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (index, size) in sizes.iter().enumerate() {
        if index > start && (index - start == most || filled + size > space) {
            groups.push(start..index);
            (start, filled) = (index, 0);
        }
        filled += size;
    }
    if start < sizes.len() {
        groups.push(start..sizes.len());
    }
    groups
}

fn record(change: &Change, largest: usize) -> Result<Box<RawValue>, &'static str> {
    if change.raw.len() > largest {
        return Err("the record is too large to be sent");
    }
    let text = std::str::from_utf8(&change.raw).map_err(|_| "the record is not UTF-8")?;
    RawValue::from_string(text.to_owned()).map_err(|_| "the record is not JSON")
}

fn stub(change: &Change, reason: &'static str) -> Box<RawValue> {
    let stub = serde_json::json!({
        "objectId": change.id,
        "omitted": { "bytes": change.raw.len(), "reason": reason },
    });
    serde_json::value::to_raw_value(&stub).expect("a JSON value serializes")
}

struct Writer<'a> {
    sender: &'a Sender<'a>,
    format: NotificationFormat,
    object_type: &'a str,
    poll_date: DateTime<Utc>,
    now: DateTime<Utc>,
}

/// `yyyy-MM-dd'T'HH:mm:ss'Z'`, in UTC.
fn seconds(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// `Date.toString()` of a Java machine in UTC: `Mon Aug 20 15:30:07 UTC 2018`.
fn java_date(instant: DateTime<Utc>) -> String {
    instant.format("%a %b %d %H:%M:%S UTC %Y").to_string()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    severity: &'a str,
    created_date: String,
    topic: String,
    action: &'a str,
    id: &'a str,
    message: Message<'a>,
    user: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message<'a> {
    element_key: &'a str,
    account_id: OrganizationId,
    event_id: &'a DeliveryId,
    company_id: OrganizationId,
    instance_id: InstanceId,
    #[serde(rename = "instance_id")]
    instance_id_again: InstanceId,
    instance_name: &'a str,
    instance_tags: &'a [String],
    raw: Raw<'a>,
    user_id: UserId,
    events: Vec<Event<'a>>,
}

struct Raw<'a> {
    object_type: &'a str,
    records: &'a [Box<RawValue>],
    poll_date: i64,
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry(self.object_type, self.records)?;
        map.serialize_entry("pollDate", &self.poll_date)?;
        map.serialize_entry("objectType", self.object_type)?;
        map.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    date: String,
    element_key: &'a str,
    poll_date: String,
    event_type: &'a str,
    hub_key: &'a str,
    object_id: &'a str,
    object_type: &'a str,
    id: &'a str,
    sequence: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    partition: &'a str,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'a str,
    id: &'a str,
    source: String,
    r#type: String,
    subject: &'a str,
    time: String,
    datacontenttype: &'a str,
    /// The `sequence` extension is a string that sorts by its characters.
    sequence: String,
    data: &'a RawValue,
}

impl Writer<'_> {
    fn event<'a>(&'a self, change: &'a Change) -> Event<'a> {
        Event {
            date: seconds(change.date.unwrap_or(self.poll_date)),
            element_key: self.sender.element,
            poll_date: seconds(self.poll_date),
            event_type: change.kind.word(),
            hub_key: self.sender.hub,
            object_id: &change.id,
            object_type: self.object_type,
            id: &change.event.0,
            sequence: change.revision,
            partition: &change.partition,
        }
    }

    fn cloud_event<'a>(&self, change: &'a Change, raw: &'a RawValue) -> CloudEvent<'a> {
        CloudEvent {
            specversion: "1.0",
            id: &change.event.0,
            source: format!("/elements/{}/instances/{}", self.sender.element, self.sender.instance),
            r#type: format!("pollux.{}.{}", self.object_type, change.kind.word().to_lowercase()),
            subject: &change.id,
            time: change.date.unwrap_or(self.poll_date).to_rfc3339_opts(SecondsFormat::AutoSi, true),
            datacontenttype: "application/json",
            sequence: format!("{:010}", change.revision),
            data: raw,
        }
    }

    /// The bytes that this change adds to a body, commas included.
    fn size_of(&self, change: &Change, raw: &RawValue) -> usize {
        match self.format {
            NotificationFormat::Elements => json(&self.event(change)).len() + raw.get().len() + 2,
            NotificationFormat::CloudEvents | NotificationFormat::CloudEventsBatch => {
                json(&self.cloud_event(change, raw)).len() + 1
            }
        }
    }

    fn body(&self, changes: &[Change], records: &[Box<RawValue>], delivery: &DeliveryId, number: &str) -> String {
        let cloud_events = || changes.iter().zip(records).map(|(change, raw)| self.cloud_event(change, raw));
        match self.format {
            NotificationFormat::Elements => json(&self.envelope(changes, records, delivery, number)),
            NotificationFormat::CloudEventsBatch => json(&cloud_events().collect::<Vec<_>>()),
            NotificationFormat::CloudEvents => cloud_events().next().map_or_else(String::new, |event| json(&event)),
        }
    }

    fn envelope<'a>(
        &'a self,
        changes: &'a [Change],
        records: &'a [Box<RawValue>],
        delivery: &'a DeliveryId,
        number: &'a str,
    ) -> Envelope<'a> {
        let sender = self.sender;
        Envelope {
            severity: "medium",
            created_date: java_date(self.now),
            topic: format!("instance-{}-{}-events", sender.instance, sender.element),
            action: "create",
            id: number,
            message: Message {
                element_key: sender.element,
                account_id: sender.organization,
                event_id: delivery,
                company_id: sender.organization,
                instance_id: sender.instance,
                instance_id_again: sender.instance,
                instance_name: sender.name,
                instance_tags: sender.tags,
                raw: Raw { object_type: self.object_type, records, poll_date: self.poll_date.timestamp_millis() },
                user_id: sender.user,
                events: changes.iter().map(|change| self.event(change)).collect(),
            },
            // A constant of Cloud Elements, kept because receivers may have come to rely on it.
            user: "notifications@cloud-elements.com",
        }
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("text keys and checked JSON serialize")
}
