//! `event.notification.coalesce`: of what waits while a callback is down, only the newest state of each record is sent.
//!
//! A delivery that has to wait looks for older ones that wait, all of whose records it tells of, too; they are marked
//! superseded, stay visible, and may still be sent again by hand. One that tells also of other records is sent whole:
//! its bytes were signed and stored when it was committed. So a callback that is down for days has at most about as
//! many waiting as there are records. Who stands last in line for a record is noted beside the line (`NEWEST#`), a
//! write a record, and only of callbacks that ask for it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::breaker::{CallbackState, Coalesced, Ticket};

use super::callback::{Filing, InLine, Place, job_of, ticket_of};
use super::row::{DeliveryRow, Status, row_key};
use super::{DeliveryError, store};
use crate::job::DeliveryJob;
use crate::outbox::{KEPT, expiring};
use crate::ports::{Condition, Item, Key, Ports, Write};
use crate::table::{put, read, replace, retry_key};

/// As many of those with a time of their own as one move takes out. It takes out of the line no more than it has records,
/// which are ten. Each is two writes of a transaction, which has room for a hundred.
const MOST: usize = 10;

/// Where the delivery goes now, and what is to be written of those whose place it takes.
#[allow(clippy::too_many_arguments)] // What a move knows, for its one caller.
pub(super) async fn coalesce(
    ports: &Ports,
    place: &Place,
    job: &DeliveryJob,
    row: &mut DeliveryRow,
    state: &mut CallbackState,
    filing: Filing,
    now: DateTime<Utc>,
) -> Result<(Filing, Vec<Write>), DeliveryError> {
    if !matches!(filing, Filing::At(_) | Filing::Line) {
        return Ok((filing, Vec::new()));
    }
    let (ticket, records) = (ticket_of(job), row.records());
    let (mut older, at) = match state.coalesce(&ticket, &records, MOST, now) {
        Coalesced::Overtaken => return Ok((overtaken(row), Vec::new())),
        Coalesced::Overtakes { older, at } => (older, at),
    };
    let mut writes = Vec::new();
    if filing == Filing::Line {
        let line = in_line(ports, place, &ticket, &records).await?;
        if line.overtaken {
            state.overtaken(&ticket);
            return Ok((overtaken(row), rows_of(ports, job, &older, now).await?));
        }
        for ticket in line.older {
            state.overtaken(&ticket);
            writes.push(Write::Delete { key: place.line_key(&ticket), condition: Condition::Present });
            older.push(ticket);
        }
        let expires_at = Some(row.created_at + KEPT);
        let note = |record: &u64| put(place.newest_key(*record), 1, &ticket, Condition::Unconditional);
        writes.extend(line.newest_of.iter().map(|record| expiring(note(record), expires_at)));
    }
    writes.extend(rows_of(ports, job, &older, now).await?);
    Ok((at.map_or(filing, Filing::At), writes))
}

fn overtaken(row: &mut DeliveryRow) -> Filing {
    row.status = Status::Superseded;
    row.attempts.last_mut().into_iter().for_each(|attempt| attempt.next = None);
    Filing::Settled
}

/// How a delivery stands to those in line.
struct AmongLine {
    /// Each of its records has a newer one.
    overtaken: bool,
    /// Those that it, with others, makes needless.
    older: Vec<Ticket>,
    /// The records of which it is the newest.
    newest_of: Vec<u64>,
}

async fn in_line(ports: &Ports, place: &Place, ticket: &str, records: &[u64]) -> Result<AmongLine, DeliveryError> {
    let mut newest = newest(ports, place, records).await?;
    let mut tickets: Vec<Ticket> = newest.values().cloned().collect();
    tickets.sort();
    tickets.dedup();
    let keys: Vec<Key> = tickets.iter().map(|ticket| place.line_key(ticket)).collect();
    let items = ports.store.get_many(&keys).await.map_err(store("the line of a callback"))?;
    let mut line = BTreeMap::new();
    for ticket in tickets {
        let key = place.line_key(&ticket);
        if let Some(item) = items.iter().find(|item| item.key == key) {
            line.insert(ticket, read::<InLine>(item)?);
        }
    }
    let newer =
        |record: &u64| newest.get(record).is_some_and(|newer| newer.as_str() > ticket && line.contains_key(newer));
    if records.iter().all(newer) {
        return Ok(AmongLine { overtaken: true, older: vec![], newest_of: vec![] });
    }
    let newest_of: Vec<u64> = records
        .iter()
        .copied()
        .filter(|record| newest.get(record).is_none_or(|newer| newer.as_str() <= ticket))
        .collect();
    // An older one may tell of other records, too, which still newer ones tell of.
    let others: Vec<u64> =
        line.values().flat_map(|entry| &entry.records).copied().filter(|record| !newest.contains_key(record)).collect();
    newest.extend(self::newest(ports, place, &others).await?);
    newest.extend(newest_of.iter().map(|record| (*record, ticket.to_owned())));
    let needless = |older: &Ticket, entry: &InLine| {
        older.as_str() < ticket
            && entry.records.iter().all(|record| newest.get(record).is_some_and(|newer| newer > older))
    };
    let older = line.iter().filter(|(older, entry)| needless(older, entry)).map(|(older, _)| older.clone());
    Ok(AmongLine { overtaken: false, older: older.collect(), newest_of })
}

/// Who joined the line last for each of the records.
async fn newest(ports: &Ports, place: &Place, records: &[u64]) -> Result<BTreeMap<u64, Ticket>, DeliveryError> {
    let keys: BTreeMap<Key, u64> = records.iter().map(|record| (place.newest_key(*record), *record)).collect();
    let items: Vec<Item> = match &keys.keys().cloned().collect::<Vec<_>>()[..] {
        [] => Vec::new(),
        keys => ports.store.get_many(keys).await.map_err(store("the newest in the line of a callback"))?,
    };
    items.iter().map(|item| Ok((keys[&item.key], read::<Ticket>(item)?))).collect()
}

/// Marks the rows of those that are not sent, and takes their entries off.
async fn rows_of(
    ports: &Ports,
    job: &DeliveryJob,
    tickets: &[Ticket],
    now: DateTime<Utc>,
) -> Result<Vec<Write>, DeliveryError> {
    let jobs: Vec<DeliveryJob> = tickets.iter().filter_map(|ticket| job_of(job.organization, ticket, None)).collect();
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<Key> = jobs.iter().map(row_key).collect();
    let mut writes = Vec::new();
    for item in ports.store.get_many(&keys).await.map_err(store("deliveries that are superseded"))? {
        let mut row: DeliveryRow = read(&item)?;
        writes.extend(row.retry_minute.map(|minute| Write::Delete {
            key: retry_key(minute, row.instance, &row.id.0),
            condition: Condition::Unconditional,
        }));
        (row.status, row.updated_at, row.due, row.retry_minute, row.in_line) =
            (Status::Superseded, now, None, None, false);
        writes.push(expiring(replace(item.key.clone(), item.version, &row), item.expires_at));
    }
    Ok(writes)
}
