//! Calls for one value: read a record by id, prove that a record is deleted, check that a connection works.

use bytes::Bytes;
use domain::problem::FieldProblem;
use domain::record::{ListedAs, Record};
use domain::zone::Zone;
use http::{Request, Response, StatusCode};
use serde_json::Value;

use crate::call::{CallContext, Extras};
use crate::connection::Connection;
use crate::definition::{Check, Confirm, Hydrate, OnMissing};
use crate::fault::{self, Fault, not_json, text_of};
use crate::plan::Plan;
use crate::pointer::{Pointer, Wanted};
use crate::reader::Origin;
use crate::template::{Filling, plain_text};

/// The result of reading a listed record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hydrated {
    /// The whole record, or its deletion.
    Record(Record),
    /// The record is already deleted; its deletion is found in another way.
    Gone,
}

/// The result of reading an absent record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmation {
    /// The record is deleted.
    Gone,
    /// The record still exists.
    Present,
}

/// Builds the request that reads one record by its id.
///
/// # Errors
/// A resource that cannot be read by id; a value that the request lacks.
pub fn get_request(
    plan: &Plan,
    context: &CallContext<'_>,
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
    context.build(get, &own, &Zone::GMT, &Extras::default())
}

/// Builds the request that reads a listed record as a whole; `None` if the record is deleted.
///
/// # Errors
/// The errors of [`get_request`].
pub fn hydrate_request(
    plan: &Plan,
    context: &CallContext<'_>,
    record: &Record,
) -> Result<Option<Request<Bytes>>, FieldProblem> {
    match record.listed_as {
        ListedAs::Deleted => Ok(None),
        _ => get_request(plan, context, &record.id, &record.partition).map(Some),
    }
}

/// Reads the answer to [`hydrate_request`]. The kind of change and the fingerprint stay as the listing had them.
///
/// # Errors
/// The fault of the answer.
pub fn hydrated(
    plan: &Plan,
    context: &CallContext<'_>,
    record: &Record,
    response: &Response<Bytes>,
) -> Result<Hydrated, Fault> {
    if is_missing(response.status()) {
        let dropped = !matches!(plan.resource().hydrate, Hydrate::ById { on_404: OnMissing::Delete });
        return Ok(match dropped {
            true => Hydrated::Gone,
            false => Hydrated::Record(Record { listed_as: ListedAs::Deleted, ..record.clone() }),
        });
    }
    if let Some(fault) = fault::classify(context.element, context.mask(), &[], response) {
        return Err(fault);
    }
    let read = record_of(plan, context, response, &record.partition)?;
    let whole = read.ok_or_else(|| Fault::retry("the answer holds no record"))?;
    Ok(Hydrated::Record(Record { listed_as: record.listed_as, fingerprint: record.fingerprint, ..whole }))
}

/// Reads the record in the answer to [`get_request`]; `None` if there is none.
///
/// # Errors
/// The fault of the answer.
pub(crate) fn read_record(
    plan: &Plan,
    context: &CallContext<'_>,
    partition: &str,
    response: &Response<Bytes>,
) -> Result<Option<Record>, Fault> {
    if is_missing(response.status()) {
        return Ok(None);
    }
    match fault::classify(context.element, context.mask(), &[], response) {
        Some(fault) => Err(fault),
        None => record_of(plan, context, response, partition),
    }
}

fn is_missing(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE)
}

/// Reads the record of an answer.
fn record_of(
    plan: &Plan,
    context: &CallContext<'_>,
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
    let zone = plan.zone(context.connection, None);
    let origin = Origin { partition: plan.identity(partition), zone: &zone };
    Ok(plan.records.read_one(response.body(), raw, &origin).rows.pop().map(|row| row.record))
}

/// Builds the request that proves the deletion of an absent record; `None` if the element has no proof and absence is
/// enough.
///
/// # Errors
/// The errors of [`get_request`].
pub fn confirm_request(
    plan: &Plan,
    context: &CallContext<'_>,
    id: &str,
    partition: &str,
) -> Result<Option<Request<Bytes>>, FieldProblem> {
    match plan.confirm() {
        Some(Confirm::Get404 | Confirm::ReadEmpty) => get_request(plan, context, id, partition).map(Some),
        Some(Confirm::None) | None => Ok(None),
    }
}

/// Reads the answer to [`confirm_request`]. A record that is marked as deleted counts as deleted.
///
/// # Errors
/// The fault of the answer; nothing is proved then.
pub fn confirmed(plan: &Plan, context: &CallContext<'_>, response: &Response<Bytes>) -> Result<Confirmation, Fault> {
    let record = read_record(plan, context, "", response)?;
    match (record, plan.confirm()) {
        (Some(record), _) if record.listed_as != ListedAs::Deleted => Ok(Confirmation::Present),
        (Some(_), _) => Ok(Confirmation::Gone),
        (None, _) if is_missing(response.status()) => Ok(Confirmation::Gone),
        (None, Some(Confirm::ReadEmpty)) => Ok(Confirmation::Gone),
        (None, _) => Err(Fault::retry("the answer holds no record, and does not say that there is none")),
    }
}

/// Builds the request of a check; `None` if the check only reads values that the connection already has.
///
/// # Errors
/// A value that the request lacks.
pub fn check_request(check: &Check, context: &CallContext<'_>) -> Result<Option<Request<Bytes>>, FieldProblem> {
    let known = !check.sets.is_empty() && check.sets.keys().all(|name| context.connection.has(name));
    if known && check.expect.is_none() {
        return Ok(None);
    }
    context.build(&check.call, &|_| None, &Zone::GMT, &Extras::default()).map(Some)
}

/// Reads the answer to [`check_request`]; returns the connection with the values of the answer.
///
/// # Errors
/// The fault of the answer.
pub fn checked(check: &Check, context: &CallContext<'_>, response: &Response<Bytes>) -> Result<Connection, Fault> {
    let mut connection = context.connection.clone();
    if let Some(fault) = fault::classify(context.element, context.mask(), &[], response) {
        // A refused login fails every call. An optional check may be forbidden or absent.
        let may_fail = check.optional && matches!(fault, Fault::ConfigError { .. });
        return if may_fail { Ok(connection) } else { Err(fault) };
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
