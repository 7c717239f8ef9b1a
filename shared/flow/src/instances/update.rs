//! Changing an instance: its configuration, its login, its name and tags.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use domain::id::InstanceId;
use domain::problem::FieldProblem;
use elements::auth::grants_code;
use elements::connection::Connection;
use serde_json::{Map, Value};
use store::records::audit::{Action, AuditRecord};
use store::records::instance::InstanceRecord;
use store::{Attempts, RecordError, Stored, Version};

use super::body::InstanceBody;
use super::callback::release_backlog;
use super::check::{check, choose_element};
use super::checked::{Checked, LoginGiven};
use super::create::Made;
use super::first_poll::first_polls;
use super::login::{Login, log_in, prove};
use super::record::{UpdateMode, configured, merged};
use super::schedule::{intervals, mark_intervals, stored_intervals};
use super::transition::Transition;
use super::{InstanceError, get};
use crate::accounts::auth::Caller;
use crate::accounts::limits::Allowance;
use crate::service::Service;
use crate::vendor::{VendorError, secrets};

/// Changes an instance. A resource that is new starts with a first poll; one that reads other records than before,
/// or reads them differently, starts again; one that is gone loses its state; the others go on where they were.
/// A login among the changes is exchanged and ends a [`store::records::instance::Reconnect`]. Undelivered notifications stay.
/// `expected` is the version that the caller has seen, if only that one may be changed.
///
/// # Errors
/// Nothing is stored on an error, and the vendor is not asked before the whole body is in order.
pub async fn update(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    body: InstanceBody,
    mode: UpdateMode,
    expected: Option<Version>,
) -> Result<Made, InstanceError> {
    let ports = &service.ports;
    let provider_data = body.provider_data.clone().unwrap_or_default();
    // Answers carry an empty `providerData`, and clients send answers back.
    let needed = !provider_data.is_empty() || body.tokens_given;
    let given = LoginGiven { provider_data: &provider_data, tokens_given: body.tokens_given, needed };
    let mut logged_in = None;
    let mut attempts = Attempts::few();
    loop {
        let before = get(ports, caller.organization, id).await?;
        if expected.is_some_and(|expected| expected != before.version()) {
            return Err(InstanceError::OtherVersion);
        }
        if let Some(wanted) = body.element.as_deref() {
            same_element(service, wanted, &before.record)?;
        }
        let element = choose_element(&service.catalog, Some(&before.record.element));
        let stored = secrets::revealed(&before.record, &secrets::open(service, &before.record).await?);
        let mut configuration = merged(stored.clone(), body.configuration.as_ref(), mode);
        let checked = check(element, &mut configuration, given)?;
        let allowance = Allowance::read(ports, caller.organization).await?;
        allowance
            .polling(&stored_intervals(&before.record), &intervals(&checked.settings))
            .map_err(InstanceError::OverLimit)?;
        // Asked once: a code works a single time, however often the write is tried.
        let (login, proven) = match &logged_in {
            Some(logged_in) => logged_in,
            None => logged_in.insert(log_in_again(service, &before.record, &checked, &configuration, given).await?),
        };
        mark_intervals(ports, &checked.settings).await.map_err(RecordError::from)?;
        let blank = renamed(&before.record, &body, login, ports.now());
        let record = configured(service, blank, &checked, proven).await?;
        let mut entry = AuditRecord::new(ports.now(), caller.by(), Action::InstanceUpdated).of_instance(id);
        entry.keys = changed_keys(&stored, &checked.configuration);
        entry.keys.extend((record.name != before.record.name).then(|| "name".to_owned()));
        entry.keys.extend((record.tags != before.record.tags).then(|| "tags".to_owned()));
        entry.keys.extend((!matches!(login, Login::Unchanged)).then(|| "login".to_owned()));
        let transition = Transition { before: &before, after: &record, login, allowance: &allowance, entry: &entry };
        if let Some(started) = transition.commit(service).await? {
            return changed(service, before, record, started, checked).await;
        }
        attempts.lost(&*ports.ambient).await.map_err(RecordError::from)?;
    }
}

/// Carries out what follows the change: the backlog of a callback that was left is released, and the first polls run.
async fn changed(
    service: &Service,
    mut stored: Stored<InstanceRecord>,
    record: InstanceRecord,
    started: Vec<String>,
    checked: Checked,
) -> Result<Made, InstanceError> {
    let url = |record: &InstanceRecord| record.callback.as_ref().map(|callback| callback.url.clone());
    if url(&stored.record).is_some() && url(&stored.record) != url(&record) {
        release_backlog(service, &stored.record).await;
    }
    let token = super::token(service, &record).await?;
    let mut warnings = checked.warnings;
    warnings.extend(first_polls(service, &record, started).await);
    stored.replaced(record);
    Ok(Made { version: stored.version(), record: stored.record, token, warnings })
}

/// The record with the name and tags of the body. A login that is new ends a [`store::records::instance::Reconnect`].
fn renamed(before: &InstanceRecord, body: &InstanceBody, login: &Login, now: DateTime<Utc>) -> InstanceRecord {
    let mut record = before.clone();
    record.updated_at = now;
    record.name = body.name.clone().unwrap_or(record.name);
    record.tags = body.tags.clone().unwrap_or(record.tags);
    if !matches!(login, Login::Unchanged) {
        record.reconnect = None;
    }
    record
}

/// The keys of the configuration whose values are other than they were.
fn changed_keys(before: &Map<String, Value>, after: &BTreeMap<String, Option<String>>) -> Vec<String> {
    let was = |key: &str| before.get(key).and_then(Value::as_str);
    let is = |key: &str| after.get(key).and_then(Option::as_deref);
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter().filter(|key| was(key) != is(key)).cloned().collect()
}

/// Asks the vendor for what a change needs: tokens for a new login, or for other credentials of a kind that needs no
/// user; a proof wherever the account may be another one. Otherwise nothing, and what was proven stands.
pub(super) async fn log_in_again(
    service: &Service,
    before: &InstanceRecord,
    checked: &Checked,
    configuration: &Map<String, Value>,
    given: LoginGiven<'_>,
) -> Result<(Login, Connection), InstanceError> {
    let element = &checked.element;
    let hidden = secrets::open(service, before).await?;
    let old = Connection::resolve(element, &secrets::revealed(before, &hidden), &Map::new());
    let moved = old.map_or(true, |(old, _)| old != checked.connection);
    if !given.needed && !moved {
        let proven = match secrets::connection(service, element, before).await {
            Ok((proven, _)) => proven,
            Err(VendorError::Misconfigured(_)) => checked.connection.clone(),
            Err(error) => return Err(error.into()),
        };
        return Ok((Login::Unchanged, proven));
    }
    let login = match given.needed || !grants_code(element) {
        true => log_in(service, checked, configuration, given).await?,
        false => Login::Unchanged,
    };
    let mut session = login.session(service, checked, Some(before.id));
    session.renew_if_due().await?;
    let proven = prove(session).await?.connection().clone();
    Ok((login, proven))
}

/// An instance stays with its element: what its resources and credentials mean hangs on it.
fn same_element(service: &Service, wanted: &str, record: &InstanceRecord) -> Result<(), InstanceError> {
    match choose_element(&service.catalog, Some(wanted)) {
        Ok(element) if element.key == record.element => Ok(()),
        Ok(_) => {
            let expected = format!("{:?}, the element of this instance", record.element);
            Err(InstanceError::Invalid(vec![FieldProblem::new("element", wanted, expected)]))
        }
        Err(problem) => Err(InstanceError::Invalid(vec![problem])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::outbox::tests::instance;
    use crate::testing::TestPorts;

    #[test]
    fn an_instance_stays_with_its_element() {
        let service = TestPorts::new("2026-01-05T09:00:00Z", |_| panic!("nobody is asked")).service();
        let record = instance(None);
        assert!(same_element(&service, "square", &record).is_ok());
        for other in ["revel", "no element"] {
            let Err(InstanceError::Invalid(problems)) = same_element(&service, other, &record) else {
                panic!("{other} is not the element of the instance")
            };
            assert_eq!(problems.len(), 1, "{other}");
        }
    }
}
