//! Making an instance.

use std::collections::BTreeMap;

use domain::id::InstanceId;
use domain::problem::{FieldProblem, Warning};
use domain::secret::Secret;
use elements::connection::Connection;
use store::records::account::{Principal, hash, insert_secret};
use store::records::audit::{Action, AuditRecord};
use store::records::instance::{self, InstanceRecord};
use store::records::resource::{self, ResourceRecord};
use store::records::{schedule, tokens};
use store::{Attempts, Commit, RecordError, StoreError, Version, Write, commit};

use super::InstanceError;
use super::body::InstanceBody;
use super::check::{check, choose_element};
use super::checked::{Checked, LoginGiven};
use super::first_poll::first_polls;
use super::login::{Login, log_in, prove};
use super::record::configured;
use super::schedule::{intervals, mark_intervals, polled};
use super::token::seal_token;
use crate::accounts::auth::{Caller, draw_secret};
use crate::accounts::limits::Allowance;
use crate::ports::Ports;
use crate::service::Service;
use crate::vendor::tokens::seal;

/// An instance that was made or changed.
#[derive(Debug)]
pub struct Made {
    /// As it is now.
    pub record: InstanceRecord,
    /// Its version, at least.
    pub version: Version,
    /// Its token.
    pub token: Secret,
    /// Values that were read differently from how they were written, and first polls that did not work.
    pub warnings: Vec<Warning>,
}

/// Makes an instance: everything is checked, the vendor's login is exchanged, everything is written at once, and
/// the first polls run, so that a change after the answer is an event.
///
/// # Errors
/// Nothing is stored on an error, and the vendor is not asked before the whole body is in order.
pub async fn create(service: &Service, caller: &Caller, mut body: InstanceBody) -> Result<Made, InstanceError> {
    let ports = &service.ports;
    let mut configuration = body.configuration.take().unwrap_or_default();
    let provider_data = body.provider_data.take().unwrap_or_default();
    let given = LoginGiven { provider_data: &provider_data, tokens_given: body.tokens_given, needed: true };
    let element = choose_element(&service.catalog, body.element.as_deref());
    let checked = check(element, &mut configuration, given)?;
    // Before the vendor is asked: a code works once.
    may_be_made(ports, caller, &checked).await?;
    let login = log_in(service, &checked, &configuration, given).await?;
    let proven = prove(login.session(service, &checked, None)).await?.connection().clone();
    mark_intervals(ports, &checked.settings).await.map_err(RecordError::from)?;
    let mut attempts = Attempts::many();
    loop {
        // The id is taken, or the organization's count moved: draw another id, and look at the limits again.
        let allowance = may_be_made(ports, caller, &checked).await?;
        let (record, token) = drawn(service, caller, &body, &checked, &proven).await?;
        let writes = creation(service, caller, &record, &login, &allowance).await?;
        if is_inserted(ports, record.id, &writes).await? {
            let resources = polled(&record).into_keys().collect();
            let mut warnings = checked.warnings;
            warnings.extend(first_polls(service, &record, resources).await);
            return Ok(Made { record, version: Version::FIRST, token, warnings });
        }
        attempts.lost(&*ports.ambient).await.map_err(RecordError::from)?;
    }
}

/// The organization's limits, if they have room for one more instance like this.
async fn may_be_made(ports: &Ports, caller: &Caller, checked: &Checked) -> Result<Allowance, InstanceError> {
    let allowance = Allowance::read(ports, caller.organization).await?;
    let mut problems: Vec<FieldProblem> = allowance.one_more().err().into_iter().collect();
    let intervals = intervals(&checked.settings);
    problems.extend(allowance.polling(&BTreeMap::new(), &intervals).err().unwrap_or_default());
    if problems.is_empty() { Ok(allowance) } else { Err(InstanceError::OverLimit(problems)) }
}

/// The record under an id that is drawn, and its token.
async fn drawn(
    service: &Service,
    caller: &Caller,
    body: &InstanceBody,
    checked: &Checked,
    proven: &Connection,
) -> Result<(InstanceRecord, Secret), InstanceError> {
    let ports = &service.ports;
    let now = ports.now();
    let id = InstanceId::from_random(ports.ambient.random());
    let token = draw_secret(&*ports.ambient);
    let blank = InstanceRecord {
        id,
        organization: caller.organization,
        user: caller.user,
        name: body.name.clone().unwrap_or_else(|| checked.element.name.clone()),
        tags: body.tags.clone().unwrap_or_default(),
        element: checked.element.key.clone(),
        created_at: now,
        updated_at: now,
        disabled: false,
        suspended: false,
        deleted: false,
        reconnect: None,
        configuration: BTreeMap::new(),
        secrets: String::new(),
        token: seal_token(ports, id, &token).await?,
        token_hash: hash(&token),
        previous_token: None,
        events_enabled: false,
        callback: None,
        interval_minutes: 0,
        resources: BTreeMap::new(),
        warnings: Vec::new(),
        filter_response_nulls: false,
    };
    Ok((configured(service, blank, checked, proven).await?, token))
}

/// Everything that is written with a new instance.
async fn creation(
    service: &Service,
    caller: &Caller,
    record: &InstanceRecord,
    login: &Login,
    allowance: &Allowance,
) -> Result<Vec<Write>, InstanceError> {
    let id = record.id;
    let principal = Principal::Instance { instance: id, organization: caller.organization };
    let entry = AuditRecord::new(record.created_at, caller.by(), Action::InstanceCreated).of_instance(id);
    let mut writes = vec![
        allowance.counting(1),
        entry.write(caller.organization, &id.to_string(), Version::default()),
        instance::key(id).insert(record),
        instance::listing_insert(record),
        insert_secret(&record.token_hash, principal),
    ];
    if let Login::Tokens(new) = login {
        writes.push(tokens::key(id).insert(&seal(service, id, new).await?));
    }
    for (resource, interval) in polled(record) {
        writes.push(resource::key(id, &resource).insert(&ResourceRecord::default()));
        writes.push(schedule::join(record, &resource, interval));
    }
    Ok(writes)
}

/// Carries the writes out. False: the id is taken or the count moved, and nothing was written.
async fn is_inserted(ports: &Ports, id: InstanceId, writes: &[Write]) -> Result<bool, RecordError> {
    match commit(&*ports.store, writes).await {
        // Busy may mean written: only this call knows the id, so a record under it is ours.
        Err(StoreError::Busy(_)) if instance::key(id).exists(&*ports.store).await? => Ok(true),
        outcome => Ok(outcome? == Commit::Done),
    }
}
