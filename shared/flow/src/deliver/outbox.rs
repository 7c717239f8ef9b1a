//! Changes become delivery rows, in the very transaction that commits the poll which found them.
//!
//! Written here: the row, a large body and, unless the next poll looks after the row, its first retry entry. Next acts
//! the poller, which sends the job after the commit; should it die before that, the [`Safeguard`] brings the delivery. So
//! a committed event is on its way whatever happens next. *Not* promised: that it is sent only once.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::NotificationFormat;
use domain::envelope::{self, LARGEST_RECORD, Notification, Sender};
use domain::record::Change;
use domain::retry_minute::RetryMinute;
use store::port::Write;
pub use store::records::delivery::KEPT;
use store::records::delivery::{DeliveryRow, EventLine, InlineBody, Packing, Status, file_retry, insert, row_name};

use crate::job::DeliveryJob;
use crate::trace;
use store::records::instance::InstanceRecord;

/// When somebody looks after a job that should long have been done.
pub const GRACE: TimeDelta = TimeDelta::minutes(2);

/// The safeguard of a committed delivery whose job is lost, until the first attempt. What an attempt leaves to be
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
    /// The number of its events.
    pub events: usize,
    /// The weight of the writes, for a caller who fills a transaction.
    pub bytes: usize,
}

/// The changes of one resource on their way into the table: where they come from and when.
#[derive(Debug, Clone, Copy)]
pub struct Outbox<'a> {
    /// The instance that was polled.
    pub instance: &'a InstanceRecord,
    /// Its element.
    pub element: ElementLabel<'a>,
    /// Key in `event.poller.configuration`.
    pub resource: &'a str,
    /// `objectType` on the wire.
    pub object_type: &'a str,
    /// When the poll began.
    pub poll_date: DateTime<Utc>,
    /// The instant of the commit.
    pub now: DateTime<Utc>,
    /// The safeguard of the deliveries if their jobs are lost. With [`Safeguard::NextPoll`], the caller has the resource's
    /// state name the rows in the same transaction.
    pub safeguard: Safeguard,
}

impl Outbox<'_> {
    /// Packs changes into deliveries, in their order.
    pub fn file(&self, changes: &[Change]) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        for notification in self.notifications(changes, LARGEST_RECORD) {
            let inside = &changes[notification.changes.clone()];
            let mut packed = PackedNotification::of(notification);
            if packed.is_too_large() {
                // Only a record that travels alone can be so large, so this is one notification again.
                packed = PackedNotification::of(self.notifications(inside, LARGEST_PIECE / 2).swap_remove(0));
            }
            outgoing.push(self.outgoing(packed, inside));
        }
        outgoing
    }

    fn notifications(&self, changes: &[Change], largest: usize) -> Vec<Notification> {
        let instance = self.instance;
        let sender = Sender {
            instance: instance.id,
            organization: instance.organization,
            user: instance.user,
            name: &instance.name,
            tags: &instance.tags,
            element: self.element.key,
            hub: self.element.hub,
        };
        let format = format_of(instance);
        envelope::notifications(&sender, format, self.object_type, changes, self.poll_date, self.now, largest)
    }

    fn outgoing(&self, packed: PackedNotification, changes: &[Change]) -> Outgoing {
        let PackedNotification { notification, inline, pieces, packing } = packed;
        let instance = self.instance;
        let job = instance.callback.as_ref().map(|_| DeliveryJob {
            organization: instance.organization,
            instance: instance.id,
            row: row_name(self.now, &notification.delivery),
            delivery: notification.delivery.clone(),
            retry_minute: match self.safeguard {
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
            resource: self.resource.to_owned(),
            object_type: self.object_type.to_owned(),
            format: format_of(instance),
            status: if job.is_some() { Status::Created } else { Status::Kept },
            trace: trace::of_poll(instance.id, self.resource, self.poll_date),
            events: changes.iter().map(EventLine::of).collect(),
            bytes: notification.body.len(),
            body: inline,
            pieces: pieces.len(),
            packing,
            omitted: notification.omitted.iter().map(|omitted| omitted.reason.to_owned()).collect(),
            callback: instance.callback.as_ref().map(|callback| callback.url.clone()),
            created_at: self.now,
            updated_at: self.now,
            attempts_made: 0,
            attempts: Vec::new(),
            retry_steps: 0,
            step_ends: None,
            due: None,
            retry_minute: job.as_ref().and_then(|job| job.retry_minute),
            in_backlog: false,
        };
        let mut writes = insert(&row, pieces);
        writes.extend(job.as_ref().and_then(|job| Some(file_retry(job, job.retry_minute?))));
        Outgoing { bytes: writes.iter().map(Write::weight).sum(), events: changes.len(), job, writes }
    }
}

/// The form the instance's callback wants.
pub(crate) fn format_of(instance: &InstanceRecord) -> NotificationFormat {
    instance.callback.as_ref().map(|callback| callback.format).unwrap_or_default()
}

/// A notification whose body is ready to be stored.
struct PackedNotification {
    notification: Notification,
    inline: Option<InlineBody>,
    pieces: Vec<Bytes>,
    packing: Packing,
}

impl PackedNotification {
    /// Puts the body into the row, or cuts it into pieces, compressed if it needs more than one.
    fn of(notification: Notification) -> Self {
        let inline = InlineBody::of(&notification.body);
        let body = notification.body.as_bytes();
        let (pieces, packing) = if inline.is_some() {
            (Vec::new(), Packing::Plain)
        } else if body.len() <= LARGEST_PIECE {
            (vec![Bytes::copy_from_slice(body)], Packing::Plain)
        } else {
            let packed = zstd::bulk::compress(body, zstd::DEFAULT_COMPRESSION_LEVEL)
                .expect("compression into memory that grows does not fail");
            (packed.chunks(LARGEST_PIECE).map(Bytes::copy_from_slice).collect(), Packing::Zstd)
        };
        Self { notification, inline, pieces, packing }
    }

    /// True if no transaction can hold it.
    fn is_too_large(&self) -> bool {
        self.pieces.iter().map(Bytes::len).sum::<usize>() > LARGEST_PACKED
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use domain::configuration::FailurePolicy;
    use domain::event::event_id;
    use domain::id::{InstanceId, OrganizationId, UserId};
    use domain::record::ChangeKind;

    use super::*;
    use crate::testing::MemoryStore;
    use store::codec::read;
    use store::port::{Condition, Store};
    use store::records::delivery::{BodyError, body_key, body_of, retry_entry, row_key};
    use store::records::instance::CallbackRecord;

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
        let (instance, element) = (instance(callback), ElementLabel { key: "square", hub: "payment" });
        let (resource, object_type, poll_date) = ("orders", "orders", now);
        Outbox { instance: &instance, element, resource, object_type, poll_date, now, safeguard }.file(changes)
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
            let entry = retry_entry(job.instance, &job.delivery, minute).get(&*store).await.unwrap().unwrap();
            assert_eq!(entry.record, *job);
            let row = row_key(job).get(&*store).await.unwrap().unwrap().record;
            assert_eq!(
                (row.status, row.events.len(), row.id.clone()),
                (Status::Created, one.events, job.delivery.clone())
            );
            let body = body_of(&*store, &row).await.unwrap();
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
        let row = key.get(&*store).await.unwrap().unwrap().record;
        let body = body_of(&*store, &row).await.unwrap();
        assert!(std::str::from_utf8(&body).unwrap().contains(&raw));
        assert!(row.omitted.is_empty());

        store
            .write_each(&[Write::Delete { key: body_key(key.as_key(), 1), condition: Condition::Unconditional }])
            .await;
        assert!(matches!(body_of(&*store, &row).await, Err(BodyError::Incomplete(_))));
    }

    #[tokio::test]
    async fn what_no_transaction_can_hold_is_told_without_its_record() {
        let store = Arc::new(MemoryStore::default());
        let [outgoing] = &filed(Some("https://a.example/"), &[change("1", 1, &noise(6_000_000))], now())[..] else {
            panic!("one")
        };
        store.transact(&outgoing.writes).await.unwrap();
        let key = row_key(outgoing.job.as_ref().unwrap());
        let row = key.get(&*store).await.unwrap().unwrap().record;
        assert_eq!(row.omitted, ["the record is too large to be sent"]);
        let body: serde_json::Value = serde_json::from_slice(&body_of(&*store, &row).await.unwrap()).unwrap();
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
