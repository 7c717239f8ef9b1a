//! Calls about one thing: reading a record by id, proving that one is gone, proving that a connection works.

use bytes::Bytes;
use domain::problem::FieldProblem;
use domain::record::{Record, Told};
use domain::zone::Zone;
use http::{Request, Response, StatusCode};
use serde_json::Value;

use crate::call::{CallContext, Extras};
use crate::connection::Connection;
use crate::definition::{Check, Confirm, Hydrate, OnMissing};
use crate::fault::{self, Fault, not_json, text_of};
use crate::plan::Plan;
use crate::pointer::{Pointer, Wanted};
use crate::reader::Place;
use crate::template::{Filling, plain_text};

/// What reading a listed record came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hydrated {
    /// The whole record, or word that it is gone.
    Record(Record),
    /// It is gone already; its deletion comes by another way.
    Gone,
}

/// What asking for an absent record came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// It is gone.
    Gone,
    /// It is there after all.
    Present,
}

/// The request that reads one record by its id.
///
/// # Errors
/// A resource that cannot be read by id; a value that the request lacks.
pub fn get_request(
    plan: &Plan,
    caller: &CallContext<'_>,
    id: &str,
    partition: &str,
) -> Result<Request<Bytes>, FieldProblem> {
    let get = plan
        .resource()
        .get
        .as_ref()
        .ok_or_else(|| FieldProblem::new("id", id, format!("a listing: {} cannot be read by id", plan.name())))?;
    let own = |name: &str| match name {
        "id" => Some(Filling::Text(id.to_owned())),
        "partition" => Some(Filling::Text(partition.to_owned())),
        _ => None,
    };
    caller.build(get, &own, &Zone::GMT, &Extras::default())
}

/// The request that reads a listed record as a whole; `None` when there is nothing to read: it is gone.
///
/// # Errors
/// See [`get_request`].
pub fn hydrate_request(
    plan: &Plan,
    caller: &CallContext<'_>,
    record: &Record,
) -> Result<Option<Request<Bytes>>, FieldProblem> {
    match record.told {
        Told::Deleted => Ok(None),
        _ => get_request(plan, caller, &record.id, &record.partition).map(Some),
    }
}

/// Reads the answer to [`hydrate_request`]. What the listing told and the record's fingerprint stay.
///
/// # Errors
/// What the answer means instead.
pub fn hydrated(
    plan: &Plan,
    caller: &CallContext<'_>,
    record: &Record,
    response: &Response<Bytes>,
) -> Result<Hydrated, Fault> {
    if is_missing(response.status()) {
        let dropped = !matches!(plan.resource().hydrate, Hydrate::ById { on_404: OnMissing::Delete });
        return Ok(match dropped {
            true => Hydrated::Gone,
            false => Hydrated::Record(Record { told: Told::Deleted, ..record.clone() }),
        });
    }
    if let Some(fault) = fault::classify(caller, &[], response) {
        return Err(fault);
    }
    let read = one(plan, caller, response, &record.partition)?;
    let whole = read.ok_or_else(|| Fault::retry("the answer holds no record"))?;
    Ok(Hydrated::Record(Record { told: record.told, fingerprint: record.fingerprint, ..whole }))
}

/// The record in the answer to [`get_request`].
///
/// # Errors
/// What the answer means instead.
pub fn got(
    plan: &Plan,
    caller: &CallContext<'_>,
    partition: &str,
    response: &Response<Bytes>,
) -> Result<Option<Record>, Fault> {
    if is_missing(response.status()) {
        return Ok(None);
    }
    match fault::classify(caller, &[], response) {
        Some(fault) => Err(fault),
        None => one(plan, caller, response, partition),
    }
}

fn is_missing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

fn one(
    plan: &Plan,
    caller: &CallContext<'_>,
    response: &Response<Bytes>,
    partition: &str,
) -> Result<Option<Record>, Fault> {
    let text = text_of(response.body())?;
    let whole = Pointer::default();
    let pointer = plan.resource().get_pointer.as_ref().unwrap_or(&whole);
    let mut wanted = Wanted::default();
    let slot = wanted.want(pointer);
    let found = wanted.find(text).map_err(|error| not_json(text, &error))?;
    let Some(raw) = found.raw(slot) else { return Ok(None) };
    let zone = plan.zone(caller.connection, None);
    let place = Place { partition: plan.identity(partition), zone: &zone };
    Ok(plan.records.read_one(response.body(), raw, &place).rows.pop().map(|row| row.record))
}

/// The request that proves whether an absent record is gone; `None` when the element has no such proof and absence
/// itself must do.
///
/// # Errors
/// See [`get_request`].
pub fn confirm_request(
    plan: &Plan,
    caller: &CallContext<'_>,
    id: &str,
    partition: &str,
) -> Result<Option<Request<Bytes>>, FieldProblem> {
    match plan.confirm() {
        Some(Confirm::Get404 | Confirm::ReadEmpty) => get_request(plan, caller, id, partition).map(Some),
        Some(Confirm::None) | None => Ok(None),
    }
}

/// Reads the answer to [`confirm_request`]. A record that says itself that it is gone is gone.
///
/// # Errors
/// What the answer means instead; nothing is proved then.
pub fn confirmed(plan: &Plan, caller: &CallContext<'_>, response: &Response<Bytes>) -> Result<Confirmation, Fault> {
    let record = got(plan, caller, "", response)?;
    match (record, plan.confirm()) {
        (Some(record), _) if record.told != Told::Deleted => Ok(Confirmation::Present),
        (Some(_), _) => Ok(Confirmation::Gone),
        (None, _) if is_missing(response.status()) => Ok(Confirmation::Gone),
        (None, Some(Confirm::ReadEmpty)) => Ok(Confirmation::Gone),
        (None, _) => Err(Fault::retry("the answer holds no record, and does not say that there is none")),
    }
}

/// The request of a check, or `None` when the connection has everything that it would read and it is there for nothing
/// else.
///
/// # Errors
/// A value that the request lacks.
pub fn check_request(check: &Check, caller: &CallContext<'_>) -> Result<Option<Request<Bytes>>, FieldProblem> {
    let known = !check.sets.is_empty() && check.sets.keys().all(|name| caller.connection.has(name));
    if known && check.expect.is_none() {
        return Ok(None);
    }
    caller.build(&check.call, &|_| None, &Zone::GMT, &Extras::default()).map(Some)
}

/// Reads the answer to [`check_request`]: the connection with what was learned.
///
/// # Errors
/// What the answer means instead.
pub fn checked(check: &Check, caller: &CallContext<'_>, response: &Response<Bytes>) -> Result<Connection, Fault> {
    let mut connection = caller.connection.clone();
    if let Some(fault) = fault::classify(caller, &[], response) {
        // A login that is refused is refused for everything; only what is not allowed or not there can be done without.
        let dispensable = check.optional && matches!(fault, Fault::ConfigError { .. });
        return if dispensable { Ok(connection) } else { Err(fault) };
    }
    let text = text_of(response.body())?;
    let tree: Value = serde_json::from_str(text).map_err(|error| not_json(text, &error))?;
    if let Some(expected) = &check.expect
        && expected.all(&tree).iter().all(|value| value.is_null())
        && !check.optional
    {
        let reason = format!("the answer to the check has nothing at {expected}");
        return Err(Fault::ConfigError { reason });
    }
    for (name, pointer) in &check.sets {
        if connection.has(name) {
            continue;
        }
        let values: Vec<String> =
            pointer.all(&tree).into_iter().filter(|value| !value.is_null()).map(plain_text).collect();
        if values.is_empty() && !check.optional {
            let reason = format!("the answer to the check has no {name} at {pointer}");
            return Err(Fault::ConfigError { reason });
        }
        connection.learn(name, values);
    }
    Ok(connection)
}
