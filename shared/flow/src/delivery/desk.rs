//! What people ask of deliveries: list them, look at one, send again, send a test.

use std::ops::Range as Span;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::event::event_id;
use domain::id::{DeliveryId, InstanceId, OrganizationId};
use domain::record::{Change, ChangeKind};
use domain::retry_minute::RetryMinute;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::callback::{Place, schedule_now, send};
use super::row::{DeliveryRow, Status, body_of, found_by};
use super::{DeliveryError, resume, store};
use crate::job::{DeliveryJob, Queued};
use crate::outbox::{self, ElementLabel, KEPT, Safeguard, expiring, retry_entry};
use crate::ports::{Item, Key, Ports, Range, StoreError, Write, query_all};
use crate::table::{
    InstanceRecord, ListingRecord, instance_key, instance_partition, organization_partition, read, replace,
};

/// Which deliveries are meant. An empty filter means all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Only with one of these statuses; empty: with any.
    pub statuses: Vec<Status>,
    /// Only those filed for this callback.
    pub url: Option<String>,
    /// Only those committed from its start until before its end.
    pub committed: Option<Span<DateTime<Utc>>>,
    /// Only the notification of this number.
    pub number: Option<String>,
}

impl Filter {
    fn takes(&self, row: &DeliveryRow) -> bool {
        (self.statuses.is_empty() || self.statuses.contains(&row.status))
            && self.url.as_ref().is_none_or(|url| row.callback.as_ref() == Some(url))
            && self.number.as_ref().is_none_or(|number| row.number == *number)
            && self.committed.as_ref().is_none_or(|span| span.contains(&row.created_at))
    }

    fn keys(&self) -> Range {
        match &self.committed {
            Some(Span { start, end }) => Range::between(
                format!("DLV#{:013}", start.timestamp_millis().max(0)),
                format!("DLV#{:013}~", end.timestamp_millis().max(0)),
            ),
            None => Range::prefix("DLV#"),
        }
    }
}

/// A delivery found, and where it is.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its row. The status of one in line is that of the line: `waiting`, or `queued` while its callback is disabled.
    pub row: DeliveryRow,
    key: Key,
    version: u64,
}

/// Some deliveries, the youngest first.
#[derive(Debug, Clone, Default)]
pub struct FoundPage {
    /// Those that the filter takes.
    pub deliveries: Vec<Found>,
    /// Where to go on; opaque.
    pub next: Option<String>,
}

/// An instance's deliveries, the youngest first, at most `limit` on a page. `after` is [`FoundPage::next`].
///
/// # Errors
/// The store failed.
pub async fn of_instance(
    ports: &Ports,
    instance: InstanceId,
    filter: &Filter,
    limit: usize,
    after: Option<&str>,
) -> Result<FoundPage, DeliveryError> {
    let range = filter.keys().descending();
    let mut after = after.map(str::to_owned);
    let mut page = FoundPage::default();
    let mut disabled = Disabled::default();
    loop {
        let answer = ports.store.query(&instance_partition(instance), &range, after.as_deref()).await;
        let answer = answer.map_err(store("an instance's deliveries"))?;
        for item in &answer.items {
            if is_expired(item, ports.now()) {
                continue;
            }
            let found = found(ports, item, &mut disabled).await?;
            if filter.takes(&found.row) {
                page.deliveries.push(found);
                if page.deliveries.len() == limit {
                    page.next = Some(item.key.sk.clone());
                    return Ok(page);
                }
            }
        }
        after = answer.next;
        if after.is_none() {
            return Ok(page);
        }
    }
}

/// An item may outlive its expiry by days.
fn is_expired(item: &Item, now: DateTime<Utc>) -> bool {
    item.expires_at.is_some_and(|at| at <= now)
}

/// Which callbacks are disabled, each asked once.
#[derive(Default)]
struct Disabled {
    known: Vec<(String, bool)>,
}

impl Disabled {
    async fn is(&mut self, ports: &Ports, row: &DeliveryRow) -> Result<bool, DeliveryError> {
        let Some(url) = &row.callback else { return Ok(false) };
        if let Some((_, disabled)) = self.known.iter().find(|(known, _)| known == url) {
            return Ok(*disabled);
        }
        let disabled = Place::of(row.organization, url).read(ports).await?.state.disabled.is_some();
        self.known.push((url.clone(), disabled));
        Ok(disabled)
    }
}

/// Instances whose deliveries are read at once.
const READ_AT_ONCE: usize = 8;

/// The deliveries of all of an organization's instances, the youngest first, at most `limit` on a page, of one
/// instance where `only` names it. `after` is [`FoundPage::next`]: deliveries are ordered by when they were committed
/// and then by their id, whosever they are, so one place in that order is a place in every instance's.
///
/// # Errors
/// The store failed.
pub async fn of_organization(
    ports: &Ports,
    organization: OrganizationId,
    filter: &Filter,
    only: Option<InstanceId>,
    limit: usize,
    after: Option<&str>,
) -> Result<FoundPage, DeliveryError> {
    let items = query_all(&*ports.store, &organization_partition(organization), "INST#").await;
    let items = items.map_err(store("an organization's instances"))?;
    let listed = items.iter().map(read::<ListingRecord>).collect::<Result<Vec<_>, _>>()?;
    let wanted = listed.into_iter().map(|listing| listing.id).filter(|id| only.is_none_or(|only| *id == only));
    let pages: Vec<FoundPage> = stream::iter(wanted)
        // One more than is wanted tells whether there is another page.
        .map(|instance| of_instance(ports, instance, filter, limit + 1, after))
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let mut deliveries: Vec<Found> = pages.into_iter().flat_map(|page| page.deliveries).collect();
    deliveries.sort_by(|a, b| b.key.sk.cmp(&a.key.sk));
    let more = deliveries.len() > limit;
    deliveries.truncate(limit);
    let next = deliveries.last().filter(|_| more).map(|last| last.key.sk.clone());
    Ok(FoundPage { deliveries, next })
}

/// One delivery of an instance, attempts and all; see [`found_by`] for what that reads.
///
/// # Errors
/// The store failed.
pub async fn one(ports: &Ports, instance: InstanceId, id: &DeliveryId) -> Result<Option<Found>, DeliveryError> {
    let item = found_by(&*ports.store, instance, id).await.map_err(store("a delivery by its id"))?;
    match item.filter(|item| !is_expired(item, ports.now())) {
        Some(item) => Ok(Some(found(ports, &item, &mut Disabled::default()).await?)),
        None => Ok(None),
    }
}

async fn found(ports: &Ports, item: &Item, disabled: &mut Disabled) -> Result<Found, DeliveryError> {
    let mut row: DeliveryRow = read(item)?;
    if row.in_line {
        row.status = if disabled.is(ports, &row).await? { Status::Queued } else { Status::Waiting };
    }
    Ok(Found { row, key: item.key.clone(), version: item.version })
}

/// The body of a delivery as it was or will be sent.
///
/// # Errors
/// The store failed, or the body has expired.
pub async fn body(ports: &Ports, found: &Found) -> Result<Bytes, DeliveryError> {
    Ok(body_of(&*ports.store, &found.key, &found.row).await?)
}

/// Sends deliveries again, whatever became of them before: under the same ids, with the same bytes, signed anew.
/// Their callbacks are resumed, for whoever asks says that they work. Answers how many set out.
///
/// # Errors
/// The store failed; those before have set out.
pub async fn redeliver(ports: &Ports, found: &[Found]) -> Result<usize, DeliveryError> {
    let mut sent = 0;
    let mut resumed: Vec<(OrganizationId, String)> = Vec::new();
    // The oldest first: the order in which they were committed.
    let mut in_order: Vec<&Found> = found.iter().collect();
    in_order.sort_by(|a, b| a.key.sk.cmp(&b.key.sk));
    for one in in_order {
        let Some(item) = ports.store.get(&instance_key(one.row.instance)).await.map_err(store("an instance"))? else {
            continue;
        };
        let Some(callback) = read::<InstanceRecord>(&item)?.callback else { continue };
        let place = (one.row.organization, callback.url);
        if !resumed.contains(&place) {
            resume(ports, place.0, &place.1).await?;
            resumed.push(place);
        }
        // What stands in line comes with the line.
        if one.row.in_line || send_again(ports, one).await? {
            sent += 1;
        }
    }
    Ok(sent)
}

/// False: it changed meanwhile, and is on its way by itself.
async fn send_again(ports: &Ports, one: &Found) -> Result<bool, DeliveryError> {
    let now = ports.now();
    let mut row = one.row.clone();
    let retry_minute = schedule_now(now);
    let job = job_of(&row, &one.key, Some(retry_minute));
    let old = row.retry_minute.filter(|minute| *minute != retry_minute);
    (row.status, row.rung, row.rung_ends) = (Status::Created, 0, None);
    (row.updated_at, row.due, row.retry_minute) = (now, Some(now), Some(retry_minute));
    let expires_at = Some(row.created_at + KEPT);
    let mut writes =
        vec![expiring(replace(one.key.clone(), one.version, &row), expires_at), retry_entry(&job, retry_minute)];
    writes.extend(old.map(|minute| Write::Delete {
        key: crate::table::retry_key(minute, row.instance, &row.id.0),
        condition: crate::ports::Condition::Unconditional,
    }));
    match ports.store.transact(&writes).await {
        Ok(()) => {
            send(ports, vec![job.message(std::time::Duration::ZERO)]).await;
            Ok(true)
        }
        Err(StoreError::Conflict { .. }) => Ok(false),
        Err(source) => Err(store("a delivery to be sent again")(source)),
    }
}

fn job_of(row: &DeliveryRow, key: &Key, retry_minute: Option<RetryMinute>) -> DeliveryJob {
    DeliveryJob {
        organization: row.organization,
        instance: row.instance,
        row: key.sk.clone(),
        delivery: row.id.clone(),
        retry_minute,
    }
}

/// What a test event's resource and object type are called.
pub const TEST_RESOURCE: &str = "pollux-test";

/// The change that a test event tells of.
pub(super) fn test_change(ports: &Ports, instance: InstanceId, now: DateTime<Utc>) -> Change {
    let id = format!("test-{:016x}", ports.ambient.random());
    let raw = serde_json::json!({ "id": id, "message": "A test event: nothing changed.", "sentAt": now });
    Change {
        event: event_id(instance, TEST_RESOURCE, "", &id, 1),
        kind: ChangeKind::Created,
        id,
        partition: String::new(),
        revision: 1,
        date: Some(now),
        raw: raw.to_string().into(),
    }
}

/// Files and sends an event that says it is a test, through everything that a real one goes through. None: the
/// instance has no callback, and the test is only kept.
///
/// # Errors
/// The store failed, and nothing is on its way.
pub async fn send_test(
    ports: &Ports,
    instance: &InstanceRecord,
    element: &ElementLabel<'_>,
) -> Result<Option<DeliveryId>, DeliveryError> {
    let now = ports.now();
    let change = test_change(ports, instance.id, now);
    let safeguard = Safeguard::entry(now);
    let mut sent = None;
    for outgoing in outbox::file(instance, element, TEST_RESOURCE, TEST_RESOURCE, &[change], now, now, safeguard) {
        ports.store.transact(&outgoing.writes).await.map_err(store("a test event"))?;
        if let Some(job) = outgoing.job {
            send(ports, vec![job.message(std::time::Duration::ZERO)]).await;
            sent = Some(job.delivery);
        }
    }
    Ok(sent)
}

/// A notification as `GET /instances/{id}/events` of the original shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// `message.eventId` of the notification.
    pub id: DeliveryId,
    /// When it was committed, `yyyy-MM-dd'T'HH:mm:ss'Z'`.
    pub event_date: String,
    /// `RECEIVED` (not yet tried), `DISPATCHED` (on its way), `CONSUMED` (kept: there is no callback, or newer ones took its place) or `NOTIFIED`
    /// (the callback has it). `NEW` of the original does not occur: what is not committed is not there.
    pub status: &'static str,
    /// The notification's body.
    pub provider_data: String,
    /// What was told to whom, a line an attempt.
    pub notified_data: Vec<String>,
    /// For whom.
    pub event_element_instances: Vec<EventInstanceView>,
}

/// The part of an event that is about an instance.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventInstanceView {
    /// [`EventView::id`].
    pub event_id: DeliveryId,
    /// Which instance.
    pub element_instance_id: InstanceId,
    /// `id` of the notification.
    pub notification_id: String,
    /// As in the event.
    pub notified_data: Vec<String>,
    /// When it was committed.
    pub created_date: String,
    /// When it last changed.
    pub updated_date: String,
}

/// A delivery as the original's event.
///
/// # Errors
/// The store failed, or the body has expired.
pub async fn event_view(ports: &Ports, found: &Found) -> Result<EventView, DeliveryError> {
    let row = &found.row;
    let date = |instant: DateTime<Utc>| instant.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let notified_data: Vec<String> = row
        .attempts
        .iter()
        .map(|attempt| match (attempt.status, &attempt.error) {
            (Some(status), _) => format!("attempt {} to {}: {status}", attempt.number, attempt.url),
            (None, error) => {
                format!("attempt {} to {}: {}", attempt.number, attempt.url, error.as_deref().unwrap_or("no answer"))
            }
        })
        .collect();
    Ok(EventView {
        id: row.id.clone(),
        event_date: date(row.created_at),
        status: match row.status {
            Status::Created => "RECEIVED",
            Status::Retry | Status::Waiting | Status::Queued => "DISPATCHED",
            Status::Kept | Status::Superseded => "CONSUMED",
            Status::Delivered => "NOTIFIED",
        },
        provider_data: String::from_utf8_lossy(&body(ports, found).await?).into_owned(),
        notified_data: notified_data.clone(),
        event_element_instances: vec![EventInstanceView {
            event_id: row.id.clone(),
            element_instance_id: row.instance,
            notification_id: row.number.clone(),
            notified_data,
            created_date: date(row.created_at),
            updated_date: date(row.updated_at),
        }],
    })
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::outbox::tests::now;
    use crate::ports::Key;

    #[test]
    fn what_is_over_is_not_shown_though_the_table_has_it() {
        let item = |expires_at| Item { key: Key::new("p", "s"), version: 1, body: Default::default(), expires_at };
        let second = TimeDelta::seconds(1);
        let expired =
            [None, Some(now() + second), Some(now()), Some(now() - second)].map(|at| is_expired(&item(at), now()));
        assert_eq!(expired, [false, false, true, true]);
    }
}
