//! What people ask of deliveries: list them, look at one, read its body.

use std::ops::Range as Span;
use std::pin::pin;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::id::{DeliveryId, InstanceId, OrganizationId};
use futures::{StreamExt, TryStreamExt, stream};
use store::records::delivery::{DeliveryRow, Status, body_of, found_by, rows};
use store::records::instance::listing;
use store::{Cursor, Stored};

use super::drain::is_disabled;
use super::{DeliveryError, failed};
use crate::ports::Ports;

/// A choice of deliveries. An empty filter means all of them.
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
}

/// A delivery found, and where it is.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its row. The status of one in the backlog is that of the backlog: `waiting`, or `queued` while its callback is
    /// disabled.
    pub row: DeliveryRow,
    /// Its place in the order of commits, which is a place in every instance's deliveries.
    cursor: Cursor<DeliveryRow>,
    /// The row as it was read, without its contents.
    pub(super) read: Stored<()>,
}

impl Found {
    /// Its place in the order of commits.
    pub(super) fn place(&self) -> &str {
        self.cursor.as_str()
    }
}

/// Some deliveries, the youngest first.
#[derive(Debug, Clone, Default)]
pub struct FoundPage {
    /// Those that the filter takes.
    pub deliveries: Vec<Found>,
    /// The cursor of the next page.
    pub next: Option<Cursor<DeliveryRow>>,
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
    after: Option<&Cursor<DeliveryRow>>,
) -> Result<FoundPage, DeliveryError> {
    let rows = rows(instance, filter.committed.as_ref()).descending();
    let mut pages = pin!(rows.pages_after(&*ports.store, after));
    let (mut page, mut disabled) = (FoundPage::default(), DisabledCallbacks::default());
    while let Some(stored) = pages.try_next().await.map_err(failed("an instance's deliveries"))? {
        for stored in stored.into_iter().filter(|stored| !stored.is_expired(ports.now())) {
            let found = found(ports, stored, &mut disabled).await?;
            if filter.takes(&found.row) {
                page.deliveries.push(found);
                if page.deliveries.len() == limit {
                    page.next = page.deliveries.last().map(|last| last.cursor.clone());
                    return Ok(page);
                }
            }
        }
    }
    Ok(page)
}

/// The callbacks that are disabled, each asked once.
#[derive(Default)]
struct DisabledCallbacks {
    known: Vec<(String, bool)>,
}

impl DisabledCallbacks {
    async fn contain_that_of(&mut self, ports: &Ports, row: &DeliveryRow) -> Result<bool, DeliveryError> {
        let Some(url) = &row.callback else { return Ok(false) };
        if let Some((_, disabled)) = self.known.iter().find(|(known, _)| known == url) {
            return Ok(*disabled);
        }
        let disabled = is_disabled(ports, row.organization, url).await?;
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
    after: Option<&Cursor<DeliveryRow>>,
) -> Result<FoundPage, DeliveryError> {
    let listed = listing(organization).all(&*ports.store).await.map_err(failed("an organization's instances"))?;
    let ids = listed.into_iter().map(|listing| listing.record.id);
    let wanted = ids.filter(|id| only.is_none_or(|only| *id == only));
    let pages: Vec<FoundPage> = stream::iter(wanted)
        // One more than is wanted tells whether there is another page.
        .map(|instance| of_instance(ports, instance, filter, limit + 1, after))
        .buffered(READ_AT_ONCE)
        .try_collect()
        .await?;
    let mut deliveries: Vec<Found> = pages.into_iter().flat_map(|page| page.deliveries).collect();
    deliveries.sort_by(|a, b| b.place().cmp(a.place()));
    let more = deliveries.len() > limit;
    deliveries.truncate(limit);
    let next = deliveries.last().filter(|_| more).map(|last| last.cursor.clone());
    Ok(FoundPage { deliveries, next })
}

/// One delivery of an instance, attempts and all; see [`found_by`] for what that reads.
///
/// # Errors
/// The store failed.
pub async fn one(ports: &Ports, instance: InstanceId, id: &DeliveryId) -> Result<Option<Found>, DeliveryError> {
    let stored = found_by(&*ports.store, instance, id).await.map_err(failed("a delivery by its id"))?;
    match stored.filter(|stored| !stored.is_expired(ports.now())) {
        Some(stored) => Ok(Some(found(ports, stored, &mut DisabledCallbacks::default()).await?)),
        None => Ok(None),
    }
}

async fn found(
    ports: &Ports,
    stored: Stored<DeliveryRow>,
    disabled: &mut DisabledCallbacks,
) -> Result<Found, DeliveryError> {
    let cursor = stored.cursor();
    let (mut row, read) = stored.split();
    if row.in_backlog {
        row.status = if disabled.contain_that_of(ports, &row).await? { Status::Queued } else { Status::Waiting };
    }
    Ok(Found { row, cursor, read })
}

/// The body of a delivery as it was or will be sent.
///
/// # Errors
/// The store failed, or the body has expired.
pub async fn body(ports: &Ports, found: &Found) -> Result<Bytes, DeliveryError> {
    Ok(body_of(&*ports.store, &found.row).await?)
}
