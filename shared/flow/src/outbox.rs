//! Changes become delivery rows, in the very transaction that commits the poll which found them.
//!
//! Written here: the row (`DLV#`), a large body (`BODY#`) and, unless the next poll looks after the row, its first
//! `RETRY#` entry. Next acts the poller, which sends the job after the commit; should it die before that, the
//! [`Safeguard`] brings the delivery. So a committed event is on its way whatever happens next. *Not* promised: that it
//! is sent only once.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::NotificationFormat;
use domain::envelope::{self, LARGEST_RECORD, Notification, Sender};
use domain::record::Change;
use domain::retry_minute::RetryMinute;

use crate::delivery::row::{DeliveryRow, EventLine, InlineBody, Packing, Status, body_key};
use crate::job::DeliveryJob;
use crate::ports::{Condition, Item, Key, Write};
use crate::table::{InstanceRecord, instance_partition, put, retry_key};
use crate::trace;

/// How long a delivery and its body are kept. The original kept events 7 days and logs 30.
pub const KEPT: TimeDelta = TimeDelta::days(30);

/// When somebody looks after a job that should long have been done.
pub const GRACE: TimeDelta = TimeDelta::minutes(2);

/// What brings a committed delivery if its job is lost: until the first attempt, that is. What an attempt leaves to be
/// done has an entry in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// An entry among the retries of this minute, where the dispatcher finds it: two writes that are paid double, and
    /// one more when it is taken off.
    Entry(RetryMinute),
    /// The next poll of the resource, whose state names the delivery: free, as every poll writes that state.
    NextPoll,
}

impl Safeguard {
    /// An entry as early as is useful.
    pub fn entry(now: DateTime<Utc>) -> Self {
        Self::Entry(entry_minute(now))
    }
}

/// The minute to file a job under that is to be done at `at`.
pub(crate) fn entry_minute(at: DateTime<Utc>) -> RetryMinute {
    RetryMinute::at(at + GRACE)
}

/// An item ends at 400 KB, keys and all; a piece of a body stays clear of that.
pub const LARGEST_PIECE: usize = 300_000;

/// A transaction ends at 4 MB, and the poll's own items want to be in it too. A body that is larger than this when
/// compressed is sent with a stub in place of its record.
const LARGEST_PACKED: usize = 3_000_000;

/// The element's part of a notification.
#[derive(Debug, Clone, Copy)]
pub struct ElementLabel<'a> {
    /// `elementKey`.
    pub key: &'a str,
    /// `hubKey`.
    pub hub: &'a str,
}

/// One delivery on its way into the table.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// To be carried out together, and together with what they follow from.
    pub writes: Vec<Write>,
    /// To be sent once the writes are; none when the instance has no callback.
    pub job: Option<DeliveryJob>,
    /// How many events it tells.
    pub events: usize,
    /// What the writes weigh, for a caller who fills a transaction.
    pub bytes: usize,
}

/// Packs changes of one resource into deliveries, in their order. `poll_date` is when the pass began. With
/// [`Safeguard::NextPoll`], the caller has the resource's state name the rows in the same transaction.
#[allow(clippy::too_many_arguments)] // A record of these would be built and taken apart in one place.
pub fn file(
    instance: &InstanceRecord,
    element: &ElementLabel<'_>,
    resource: &str,
    object_type: &str,
    changes: &[Change],
    poll_date: DateTime<Utc>,
    now: DateTime<Utc>,
    safeguard: Safeguard,
) -> Vec<Outgoing> {
    let sender = Sender {
        instance: instance.id,
        organization: instance.organization,
        user: instance.user,
        name: &instance.name,
        tags: &instance.tags,
        element: element.key,
        hub: element.hub,
    };
    let format = format_of(instance);
    let pack = |changes: &[Change], largest| {
        envelope::notifications(&sender, format, object_type, changes, poll_date, now, largest)
    };
    let mut outgoing = Vec::new();
    for notification in pack(changes, LARGEST_RECORD) {
        let inside = &changes[notification.changes.clone()];
        let mut parcel = Parcel { notification, inline: None, pieces: Vec::new(), packing: Packing::Plain };
        if !parcel.fits() {
            // Only a record that travels alone can be so large, so this is one notification again.
            parcel.notification = pack(inside, LARGEST_PIECE / 2).swap_remove(0);
            parcel.fits();
        }
        outgoing.push(parcel.address(instance, format, resource, object_type, inside, poll_date, now, safeguard));
    }
    outgoing
}

/// The form the instance's callback wants.
pub(crate) fn format_of(instance: &InstanceRecord) -> NotificationFormat {
    instance.callback.as_ref().map(|callback| callback.format).unwrap_or_default()
}

struct Parcel {
    notification: Notification,
    inline: Option<InlineBody>,
    pieces: Vec<Bytes>,
    packing: Packing,
}

impl Parcel {
    /// Puts the body into the row, or cuts it into pieces, compressed if it needs more than one. False: too large for a
    /// transaction.
    fn fits(&mut self) -> bool {
        // Nothing of an earlier body may stay.
        (self.inline, self.pieces, self.packing) =
            (InlineBody::of(&self.notification.body), Vec::new(), Packing::Plain);
        if self.inline.is_some() {
            return true;
        }
        let body = self.notification.body.as_bytes();
        if body.len() <= LARGEST_PIECE {
            self.pieces = vec![Bytes::copy_from_slice(body)];
            return true;
        }
        let packed = zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL)
            .expect("compression into memory that grows does not fail");
        self.packing = Packing::Zstd;
        self.pieces = packed.chunks(LARGEST_PIECE).map(Bytes::copy_from_slice).collect();
        packed.len() <= LARGEST_PACKED
    }

    #[allow(clippy::too_many_arguments)]
    fn address(
        self,
        instance: &InstanceRecord,
        format: NotificationFormat,
        resource: &str,
        object_type: &str,
        changes: &[Change],
        poll_date: DateTime<Utc>,
        now: DateTime<Utc>,
        safeguard: Safeguard,
    ) -> Outgoing {
        let Parcel { notification, inline, pieces, packing } = self;
        // Zero-padded milliseconds: deliveries stand in the order in which they were committed.
        let sk = format!("DLV#{:013}#{}", now.timestamp_millis(), notification.delivery);
        let job = instance.callback.as_ref().map(|_| DeliveryJob {
            organization: instance.organization,
            instance: instance.id,
            row: sk.clone(),
            delivery: notification.delivery.clone(),
            retry_minute: match safeguard {
                Safeguard::Entry(minute) => Some(minute),
                Safeguard::NextPoll => None,
            },
        });
        let row = DeliveryRow {
            id: notification.delivery,
            number: notification.number,
            instance: instance.id,
            organization: instance.organization,
            element: instance.element.clone(),
            resource: resource.to_owned(),
            object_type: object_type.to_owned(),
            format,
            status: if job.is_some() { Status::Created } else { Status::Kept },
            trace: trace::of_poll(instance.id, resource, poll_date),
            events: changes.iter().map(EventLine::of).collect(),
            bytes: notification.body.len(),
            body: inline,
            pieces: pieces.len(),
            packing,
            omitted: notification.omitted.iter().map(|omitted| omitted.reason.to_owned()).collect(),
            callback: instance.callback.as_ref().map(|callback| callback.url.clone()),
            created_at: now,
            updated_at: now,
            attempts_made: 0,
            attempts: Vec::new(),
            rung: 0,
            rung_ends: None,
            due: None,
            retry_minute: job.as_ref().and_then(|job| job.retry_minute),
            in_line: false,
        };
        let expires_at = Some(now + KEPT);
        let key = Key::new(instance_partition(instance.id), sk);
        let mut writes = vec![expiring(put(key.clone(), 1, &row, Condition::Absent), expires_at)];
        writes.extend(pieces.into_iter().enumerate().map(|(piece, body)| Write::Put {
            item: Item { key: body_key(&key, piece), version: 1, body, expires_at },
            condition: Condition::Unconditional,
        }));
        writes.extend(job.as_ref().and_then(|job| Some(retry_entry(job, job.retry_minute?))));
        Outgoing { bytes: writes.iter().map(weight).sum(), events: changes.len(), job, writes }
    }
}

/// The put of a job's entry among what is due in a minute, which its key tells.
pub(crate) fn retry_entry(job: &DeliveryJob, minute: RetryMinute) -> Write {
    put(retry_key(minute, job.instance, &job.delivery.0), 1, job, Condition::Unconditional)
}

pub(crate) fn expiring(write: Write, expires_at: Option<DateTime<Utc>>) -> Write {
    match write {
        Write::Put { item, condition } => Write::Put { item: Item { expires_at, ..item }, condition },
        other => other,
    }
}

fn weight(write: &Write) -> usize {
    let key = write.key();
    let body = if let Write::Put { item, .. } = write { item.body.len() } else { 0 };
    key.pk.len() + key.sk.len() + body + 100
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use domain::configuration::FailurePolicy;
    use domain::event::event_id;
    use domain::id::{InstanceId, OrganizationId, UserId};
    use domain::record::ChangeKind;

    use super::*;
    use crate::delivery::row::{body_of, row_key};
    use crate::ports::Store;
    use crate::table::{CallbackRecord, read};
    use crate::testing::MemoryStore;

    pub(crate) fn instance(callback: Option<&str>) -> InstanceRecord {
        InstanceRecord {
            id: InstanceId(42),
            organization: OrganizationId(7),
            user: UserId(9),
            name: "Shop".into(),
            tags: vec!["eu".into()],
            element: "square".into(),
            created_at: now(),
            updated_at: now(),
            disabled: false,
            suspended: false,
            deleted: false,
            reconnect: None,
            configuration: Default::default(),
            secrets: String::new(),
            token: String::new(),
            token_hash: String::new(),
            previous_token: None,
            events_enabled: true,
            callback: callback.map(|url| CallbackRecord {
                url: url.into(),
                format: NotificationFormat::Elements,
                failure_policy: FailurePolicy::Retry,
                coalesce: false,
            }),
            interval_minutes: 5,
            resources: Default::default(),
            warnings: vec![],
            filter_response_nulls: true,
        }
    }

    pub(crate) fn now() -> DateTime<Utc> {
        "2026-01-05T09:00:00Z".parse().unwrap_or_default()
    }

    pub(crate) fn change(id: &str, revision: u32, raw: &str) -> Change {
        Change {
            event: event_id(InstanceId(42), "orders", "", id, revision),
            kind: if revision == 1 { ChangeKind::Created } else { ChangeKind::Updated },
            id: id.into(),
            partition: String::new(),
            revision,
            date: Some(now()),
            raw: Bytes::copy_from_slice(raw.as_bytes()),
        }
    }

    pub(crate) fn filed(callback: Option<&str>, changes: &[Change], now: DateTime<Utc>) -> Vec<Outgoing> {
        filed_with(callback, changes, now, Safeguard::entry(now))
    }

    pub(crate) fn filed_with(
        callback: Option<&str>,
        changes: &[Change],
        now: DateTime<Utc>,
        safeguard: Safeguard,
    ) -> Vec<Outgoing> {
        let label = ElementLabel { key: "square", hub: "payment" };
        file(&instance(callback), &label, "orders", "orders", changes, now, now, safeguard)
    }

    /// Text that does not compress below three quarters.
    pub(crate) fn noise(bytes: usize) -> String {
        let mut state = 1u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[(state >> 32) as usize % 64] as char
        };
        format!("\"{}\"", (0..bytes).map(|_| next()).collect::<String>())
    }

    #[tokio::test]
    async fn a_row_its_body_and_its_retry_entry_are_born_together() {
        let store = Arc::new(MemoryStore::default());
        let changes: Vec<Change> = (0..12).map(|n| change(&n.to_string(), 1, "{}")).collect();
        let outgoing = filed(Some("https://a.example/"), &changes, now());
        let sizes: Vec<_> = outgoing.iter().map(|one| (one.events, one.writes.len())).collect();
        assert_eq!(sizes, [(10, 3), (2, 2)], "a small body lies in its row");
        for one in &outgoing {
            store.transact(&one.writes).await.unwrap();
            let job = one.job.as_ref().unwrap();
            let minute = RetryMinute::at(now()) + 2;
            assert_eq!(job.retry_minute, Some(minute));
            let entry = store.get(&retry_key(minute, job.instance, &job.delivery.0)).await.unwrap().unwrap();
            assert_eq!(read::<DeliveryJob>(&entry).unwrap(), *job);
            let row: DeliveryRow = read(&store.get(&row_key(job)).await.unwrap().unwrap()).unwrap();
            assert_eq!(
                (row.status, row.events.len(), row.id.clone()),
                (Status::Created, one.events, job.delivery.clone())
            );
            let body = body_of(&*store, &row_key(job), &row).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(body["message"]["eventId"], job.delivery.0);
        }
        let expired =
            store.items().iter().all(|item| item.key.pk.starts_with("RETRY#") || item.expires_at == Some(now() + KEPT));
        assert!(expired);
    }

    #[tokio::test]
    async fn a_large_body_lies_in_pieces_and_comes_back_byte_for_byte() {
        let store = Arc::new(MemoryStore::default());
        let raw = noise(1_500_000);
        let [outgoing] = &filed(Some("https://a.example/"), &[change("1", 1, &raw)], now())[..] else { panic!("one") };
        assert!(outgoing.writes.len() > 4 && outgoing.bytes < 4_000_000, "{}", outgoing.bytes);
        store.transact(&outgoing.writes).await.unwrap();
        let key = row_key(outgoing.job.as_ref().unwrap());
        let row: DeliveryRow = read(&store.get(&key).await.unwrap().unwrap()).unwrap();
        let body = body_of(&*store, &key, &row).await.unwrap();
        assert!(std::str::from_utf8(&body).unwrap().contains(&raw));
        assert!(row.omitted.is_empty());

        store.write_each(&[Write::Delete { key: body_key(&key, 1), condition: Condition::Unconditional }]).await;
        assert!(matches!(body_of(&*store, &key, &row).await, Err(crate::delivery::row::BodyError::Incomplete(_))));
    }

    #[tokio::test]
    async fn what_no_transaction_can_hold_is_told_without_its_record() {
        let store = Arc::new(MemoryStore::default());
        let [outgoing] = &filed(Some("https://a.example/"), &[change("1", 1, &noise(6_000_000))], now())[..] else {
            panic!("one")
        };
        store.transact(&outgoing.writes).await.unwrap();
        let key = row_key(outgoing.job.as_ref().unwrap());
        let row: DeliveryRow = read(&store.get(&key).await.unwrap().unwrap()).unwrap();
        assert_eq!(row.omitted, ["the record is too large to be sent"]);
        let body: serde_json::Value = serde_json::from_slice(&body_of(&*store, &key, &row).await.unwrap()).unwrap();
        assert_eq!(body["message"]["raw"]["orders"][0]["omitted"]["bytes"], 6_000_002);
    }

    #[test]
    fn an_outgoing_weighs_what_its_items_do_and_has_the_callbacks_form() {
        let [outgoing] = &filed(Some("https://a.example/"), &[change("1", 1, "{}")], now())[..] else { panic!("one") };
        let size = |write: &Write| match write {
            Write::Put { item, .. } => item.key.pk.len() + item.key.sk.len() + item.body.len() + 100,
            other => panic!("{other:?}"),
        };
        assert_eq!(outgoing.bytes, outgoing.writes.iter().map(size).sum::<usize>());

        let mut instance = instance(Some("https://a.example/"));
        assert_eq!(format_of(&instance), NotificationFormat::Elements);
        instance.callback.iter_mut().for_each(|callback| callback.format = NotificationFormat::CloudEventsBatch);
        assert_eq!(format_of(&instance), NotificationFormat::CloudEventsBatch);
    }

    #[tokio::test]
    async fn without_a_callback_events_are_only_kept() {
        let [outgoing] = &filed(None, &[change("1", 1, "{}")], now())[..] else { panic!("one") };
        assert!(outgoing.job.is_none());
        let keys: Vec<&str> = outgoing.writes.iter().map(|write| &write.key().sk[..5]).collect();
        assert_eq!(keys, ["DLV#1"]);
        let Write::Put { item, .. } = &outgoing.writes[0] else { panic!("a put") };
        assert_eq!(read::<DeliveryRow>(item).unwrap().status, Status::Kept);
    }
}
