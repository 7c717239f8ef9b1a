//! Making an instance and changing one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::configuration::{EventSettings, ResourceConfiguration, Words, keys};
use domain::id::InstanceId;
use domain::problem::{FieldProblem, Warning, below};
use domain::secret::{MASK, Secret};
use domain::wheel::Slot;
use elements::auth::{grants_code, needs_tokens};
use elements::connection::{Connection, is_secret_key};
use futures::{StreamExt, stream};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::body::InstanceBody;
use super::check::{Checked, LoginGiven, check, choose_element};
use super::login::{Login, LoginError, log_in, prove};
use super::remove::{ATTEMPTS, delete, delete_each};
use super::{InstanceError, Stored, get, seal_token};
use crate::audit::{Action, AuditRecord};
use crate::delivery;
use crate::fields;
use crate::job::{PollJob, Queued};
use crate::limits::Allowance;
use crate::poll::handed_over;
use crate::poll::state::ResourceRecord;
use crate::poll::{self, Mode};
use crate::ports::{Condition, Ports, QueueName, StoreError, Write, query_all, within};
use crate::principal::{Caller, draw_secret, hash};
use crate::secrets::{self, PROVEN_CONNECTION};
use crate::service::Service;
use crate::table::{
    self, CallbackRecord, InstanceRecord, ListingRecord, Principal, index_prefix, instance_key, instance_partition,
    interval_key, listing_key, principal_key, resource_key, slot_key, tokens_key,
};
use crate::tokens;

/// Times that making an instance is tried when others of the organization make theirs.
const CREATIONS: usize = 24;

/// Writes that fit in a transaction.
const TRANSACTION: usize = 100;

/// How long the answer waits for the first polls. What is not done by then goes on by way of the queue.
const BASELINE_BUDGET: Duration = Duration::from_secs(5);

/// Time that a poll has for its commit once it stops reading.
const COMMIT_MARGIN: Duration = Duration::from_secs(1);

/// First polls under way at once: a vendor sees a handful of calls, not fifty.
const BASELINES_AT_ONCE: usize = 8;

/// An instance that was made or changed.
#[derive(Debug)]
pub struct Made {
    /// As it is now.
    pub record: InstanceRecord,
    /// Version of its item, at least.
    pub version: u64,
    /// Its token.
    pub token: Secret,
    /// What was read differently from how it was written, and which first polls did not work.
    pub warnings: Vec<Warning>,
}

/// How a change treats what it does not mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// `PUT`: a configuration that is given is the whole new one.
    Replace,
    /// `PATCH`: configuration keys that are given replace their likes, null removes one.
    Merge,
}

/// Makes an instance: everything is checked, the vendor's login is exchanged, everything is written at once, and
/// the first polls run, so that a change after the answer is an event.
///
/// # Errors
/// Nothing is stored on an error, and the vendor is not asked before the whole body is in order.
pub async fn create(service: &Service, caller: &Caller, body: InstanceBody) -> Result<Made, InstanceError> {
    let ports = &service.ports;
    let (mut configuration, provider_data) =
        (body.configuration.unwrap_or_default(), body.provider_data.unwrap_or_default());
    let given = LoginGiven { provider_data: &provider_data, tokens_given: body.tokens_given, needed: true };
    let element = choose_element(&service.catalog, body.element.as_deref());
    let checked = check(element, &mut configuration, given)?;
    // Before the vendor is asked: a code works once.
    may_be_made(ports, caller, &checked).await?;
    let login = log_in(service, &checked, &configuration, given).await?;
    let proven = prove(service, &checked.element, &checked.connection, login.tokens()).await?;
    mark_intervals(ports, &checked.settings).await?;
    for attempt in 0..CREATIONS {
        let allowance = may_be_made(ports, caller, &checked).await?;
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
        let record = configured(service, blank, &checked, &proven).await?;
        let principal = Principal::Instance { instance: id, organization: caller.organization };
        let entry = AuditRecord::new(now, caller.by(), Action::InstanceCreated).of_instance(id);
        let mut writes = vec![
            allowance.counting(1),
            entry.write(caller.organization, &id.to_string(), 0),
            table::insert(instance_key(id), &record),
            table::insert(listing_key(caller.organization, id), &listing(&record)),
            table::insert(principal_key(&record.token_hash), &principal),
        ];
        if let Login::Tokens(new) = &login {
            writes.push(table::insert(tokens_key(id), &tokens::seal(service, id, new).await?));
        }
        for (resource, interval) in polled(&record) {
            writes.push(table::insert(resource_key(id, &resource), &ResourceRecord::default()));
            writes.push(slot(&record, &resource, interval));
        }
        let outcome = match ports.store.transact(&writes).await {
            // Busy may mean written: what lies under an id that only this call knows tells.
            Err(StoreError::Busy(_)) if ports.store.get(&instance_key(id)).await?.is_some() => Ok(()),
            outcome => outcome,
        };
        match outcome {
            Ok(()) => {
                let resources = polled(&record).into_keys().collect();
                let mut warnings = checked.warnings;
                warnings.extend(first_polls(service, &record, resources).await);
                return Ok(Made { record, version: 1, token, warnings });
            }
            // The id is taken, or the organization's count moved: draw another id, and look at the limits again.
            Err(StoreError::Conflict { .. }) => apart(ports, attempt).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(InstanceError::Raced)
}

/// Keeps those apart who race for one count.
pub(super) async fn apart(ports: &Ports, attempt: usize) {
    let most = 4 << attempt.min(6);
    tokio::time::sleep(Duration::from_millis(ports.ambient.random() % most)).await;
}

/// The organization's limits, if they have room for one more instance like this.
async fn may_be_made(ports: &Ports, caller: &Caller, checked: &Checked) -> Result<Allowance, InstanceError> {
    let allowance = Allowance::read(ports, caller.organization).await?;
    let mut problems: Vec<FieldProblem> = allowance.one_more().err().into_iter().collect();
    let intervals = intervals(&checked.settings);
    problems.extend(allowance.polling(&BTreeMap::new(), &intervals).err().unwrap_or_default());
    if problems.is_empty() { Ok(allowance) } else { Err(InstanceError::OverLimit(problems)) }
}

/// Every resource that is configured, with the minutes between its polls.
fn intervals(settings: &EventSettings) -> BTreeMap<String, u16> {
    let of = |resource: &ResourceConfiguration| resource.interval_minutes.unwrap_or(settings.interval_minutes);
    settings.resources.iter().map(|(name, resource)| (name.clone(), of(resource))).collect()
}

/// The same of what is stored.
fn stored_intervals(record: &InstanceRecord) -> BTreeMap<String, u16> {
    record.resources.keys().map(|name| (name.clone(), record.interval_of(name))).collect()
}

/// Changes an instance. A resource that is new starts with a first poll; one that reads other records than before,
/// or reads them differently, starts anew; one that is gone loses its state; the others go on where they were.
/// A login among the changes is exchanged and ends a [`table::Reconnect`]. Undelivered notifications stay.
/// `expected` is the version that the caller has seen, if only that one may be changed.
pub async fn update(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    body: InstanceBody,
    change: Change,
    expected: Option<u64>,
) -> Result<Made, InstanceError> {
    let ports = &service.ports;
    let provider_data = body.provider_data.clone().unwrap_or_default();
    // Answers carry an empty `providerData`, and clients send answers back.
    let fresh_login = !provider_data.is_empty() || body.tokens_given;
    let given = LoginGiven { provider_data: &provider_data, tokens_given: body.tokens_given, needed: fresh_login };
    let mut asked = None;
    for _ in 0..ATTEMPTS {
        let before = get(ports, caller.organization, id).await?;
        if expected.is_some_and(|expected| expected != before.version) {
            return Err(InstanceError::Moved);
        }
        if let Some(wanted) = body.element.as_deref() {
            same_element(service, wanted, &before.record)?;
        }
        let element = choose_element(&service.catalog, Some(&before.record.element));
        let hidden = secrets::open(service, &before.record).await?;
        let mut configuration = merged(secrets::revealed(&before.record, &hidden), body.configuration.as_ref(), change);
        let stored = secrets::revealed(&before.record, &hidden);
        let checked = check(element, &mut configuration, given)?;
        let allowance = Allowance::read(ports, caller.organization).await?;
        allowance
            .polling(&stored_intervals(&before.record), &intervals(&checked.settings))
            .map_err(InstanceError::OverLimit)?;
        // Asked once: a code works a single time, however often the write is tried.
        if asked.is_none() {
            asked = Some(log_in_again(service, &before.record, &checked, &configuration, given).await?);
        }
        let Some((login, proven)) = &asked else { continue };
        mark_intervals(ports, &checked.settings).await?;
        let mut blank = before.record.clone();
        blank.updated_at = ports.now();
        blank.name = body.name.clone().unwrap_or(blank.name);
        blank.tags = body.tags.clone().unwrap_or(blank.tags);
        if !matches!(login, Login::Unchanged) {
            blank.reconnect = None;
        }
        let record = configured(service, blank, &checked, proven).await?;
        let mut entry = AuditRecord::new(ports.now(), caller.by(), Action::InstanceUpdated).of_instance(id);
        entry.keys = changed_keys(&stored, &checked.configuration);
        entry.keys.extend((record.name != before.record.name).then(|| "name".to_owned()));
        entry.keys.extend((record.tags != before.record.tags).then(|| "tags".to_owned()));
        entry.keys.extend((!matches!(login, Login::Unchanged)).then(|| "login".to_owned()));
        match write_change(service, &before, &record, login, &allowance, &entry).await {
            Ok(started) => {
                let urls = [&before.record.callback, &record.callback];
                if let [Some(old), new] = urls
                    && new.as_ref().is_none_or(|new| new.url != old.url)
                {
                    release_line(service, &before.record).await;
                }
                let token = super::token(service, &record).await?;
                let mut warnings = checked.warnings;
                warnings.extend(first_polls(service, &record, started).await);
                return Ok(Made { record, version: before.version + 1, token, warnings });
            }
            Err(InstanceError::Store(StoreError::Conflict { .. })) => {}
            Err(error) => return Err(error),
        }
    }
    Err(InstanceError::Raced)
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
        let proven = secrets::connection(service, element, before).await?;
        return Ok((Login::Unchanged, proven.map_or_else(|_| checked.connection.clone(), |(proven, _)| proven)));
    }
    let login = match given.needed || !grants_code(element) {
        true => log_in(service, checked, configuration, given).await?,
        false => Login::Unchanged,
    };
    let stored;
    let tokens = match &login {
        Login::Unchanged if needs_tokens(element, &checked.connection) => {
            stored = tokens::renewed(service, element, before.id, &checked.connection, None).await;
            Some(stored.as_ref().map_err(|error| LoginError::Refused(error.to_string()))?)
        }
        login => login.tokens(),
    };
    let proven = prove(service, element, &checked.connection, tokens).await?;
    Ok((login, proven))
}

/// What waits in line at a callback that this instance leaves is tried again where it goes now. Should that not
/// work, the line drains by its own probes.
pub(super) async fn release_line(service: &Service, left: &InstanceRecord) {
    let Some(callback) = &left.callback else { return };
    let outcome = delivery::release_line(&service.ports, left.organization, &callback.url).await;
    if let Err(error) = outcome {
        tracing::warn!({ fields::INSTANCE } = %left.id, { fields::ERROR } = %error, "line of a callback not released");
    }
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

/// Writes the step from one state to the next; answers the resources that now need a first poll.
///
/// A conflict means that the instance or the state of a resource moved in between: read again and repeat.
pub(super) async fn write_change(
    service: &Service,
    before: &Stored,
    record: &InstanceRecord,
    login: &Login,
    allowance: &Allowance,
    entry: &AuditRecord,
) -> Result<Vec<String>, InstanceError> {
    let ports = &service.ports;
    let id = record.id;
    let (was, is) = (polled(&before.record), polled(record));
    let mut core = vec![
        allowance.unchanged(),
        table::replace(instance_key(id), before.version, record),
        table::put(listing_key(record.organization, id), 1, &listing(record), Condition::Unconditional),
    ];
    if !entry.keys.is_empty() {
        core.push(entry.write(record.organization, &id.to_string(), before.version));
    }
    match login {
        Login::Tokens(new) => {
            // Conditional, so that a refresh under way neither overwrites the new tokens nor is overwritten unseen.
            let sealed = tokens::seal(service, id, new).await?;
            core.push(match ports.store.get(&tokens_key(id)).await? {
                Some(item) => table::replace(item.key, item.version, &sealed),
                None => table::insert(tokens_key(id), &sealed),
            });
        }
        Login::NotNeeded => core.push(delete(tokens_key(id))),
        Login::Unchanged => {}
    }
    let (mut additions, mut removals, mut started) = (Vec::new(), Vec::new(), Vec::new());
    for (resource, interval) in &is {
        let known = was.get(resource);
        if known != Some(interval) {
            additions.push(slot(record, resource, *interval));
        }
        if known.is_some_and(|old| old != interval) {
            removals.push(delete(slot(&before.record, resource, was[resource]).key().clone()));
        }
        let anew =
            known.is_some() && reads_differently(&before.record.resources[resource], &record.resources[resource]);
        if known.is_some() && !anew {
            // What waited because of the old login waits no longer.
            if !matches!(login, Login::Unchanged)
                && let Some(item) = ports.store.get(&resource_key(id, resource)).await?
            {
                let mut state: ResourceRecord = table::read(&item)?;
                if state.skip_until.take().is_some() {
                    additions.push(table::replace(item.key, item.version, &state));
                }
            }
            continue;
        }
        // The version is read before the index goes and compared when the state is written: a poll that commits in
        // between makes this change start over instead of leaving its index behind.
        let stored = ports.store.get(&resource_key(id, resource)).await?;
        delete_each(ports, index_keys(ports, id, resource).await?).await?;
        let mut fresh = ResourceRecord::anew(record.created_at, ports.now());
        if let Some(item) = &stored {
            fresh = fresh.after(&table::read(item)?);
        }
        additions.push(match stored {
            Some(item) => table::replace(item.key, item.version, &fresh),
            None => table::insert(resource_key(id, resource), &fresh),
        });
        started.push(resource.clone());
    }
    let gone: Vec<&String> = was.keys().filter(|resource| !is.contains_key(*resource)).collect();
    for resource in &gone {
        removals.push(delete(slot(&before.record, resource, was[*resource]).key().clone()));
        let key = resource_key(id, resource);
        let Some(item) = ports.store.get(&key).await? else { continue };
        removals.extend(handed_over::entries(record, &table::read(&item)?, ports.now()));
        removals.push(Write::Delete { key, condition: Condition::Version(item.version) });
    }
    // One transaction wherever it fits. A larger change adds first and removes last: a slot without its resource is
    // a poll that finds nothing to do.
    let mut batches = vec![core];
    if batches[0].len() + additions.len() + removals.len() <= TRANSACTION {
        batches[0].extend(additions.into_iter().chain(removals));
    } else {
        batches.splice(0..0, additions.chunks(TRANSACTION).map(<[Write]>::to_vec));
        batches.extend(removals.chunks(TRANSACTION).map(<[Write]>::to_vec));
    }
    for batch in batches {
        ports.store.transact(&batch).await?;
    }
    for resource in gone {
        delete_each(ports, index_keys(ports, id, resource).await?).await?;
    }
    Ok(started)
}

pub(super) async fn index_keys(
    ports: &Ports,
    id: InstanceId,
    resource: &str,
) -> Result<Vec<crate::ports::Key>, InstanceError> {
    let items = query_all(&*ports.store, &instance_partition(id), &index_prefix(resource)).await?;
    Ok(items.into_iter().map(|item| item.key).collect())
}

/// Whether a resource's state means nothing under its new configuration: other records, other ids or other dates.
fn reads_differently(before: &RawValue, after: &RawValue) -> bool {
    let parse = |raw: &RawValue| serde_json::from_str::<ResourceConfiguration>(raw.get());
    match (parse(before), parse(after)) {
        (Ok(before), Ok(after)) => {
            (before.url, before.id_field, before.updated, before.created)
                != (after.url, after.id_field, after.updated, after.created)
        }
        _ => true,
    }
}

/// The record with everything that follows from its configuration.
async fn configured(
    service: &Service,
    blank: InstanceRecord,
    checked: &Checked,
    proven: &Connection,
) -> Result<InstanceRecord, InstanceError> {
    let settings = &checked.settings;
    let (mut shown, mut hidden) = (BTreeMap::new(), BTreeMap::new());
    // Sealed whole, because polls need what the checks learned as much as what the user wrote.
    let sealed = serde_json::to_string(proven).expect("a connection has text keys and serializes");
    hidden.insert(PROVEN_CONNECTION.to_owned(), Secret::new(sealed));
    for (key, value) in &checked.configuration {
        let value = match value {
            Some(text) if is_secret_key(&checked.element, key) => {
                hidden.insert(key.clone(), Secret::new(text));
                Value::from(MASK)
            }
            Some(text) => Value::from(text.as_str()),
            None => Value::Null,
        };
        shown.insert(key.clone(), value);
    }
    let resources = settings.resources.iter().map(|(name, resource)| {
        (name.clone(), to_raw_value(resource).expect("a resource's configuration has text keys and serializes"))
    });
    Ok(InstanceRecord {
        configuration: shown,
        secrets: secrets::seal(service, blank.id, &hidden).await?,
        events_enabled: settings.enabled,
        callback: settings.callback.as_ref().map(|callback| CallbackRecord {
            url: callback.url.clone(),
            format: callback.format.word().to_owned(),
            failure_policy: callback.failure_policy.word().to_owned(),
            coalesce: callback.coalesce,
        }),
        interval_minutes: settings.interval_minutes,
        resources: resources.collect(),
        warnings: checked.warnings.iter().map(|warning| serde_json::json!(warning)).collect(),
        filter_response_nulls: settings.filter_response_nulls,
        ..blank
    })
}

/// What a change leaves of the stored configuration. A mask stands for the value that it masks.
pub(super) fn merged(
    mut stored: Map<String, Value>,
    given: Option<&Map<String, Value>>,
    change: Change,
) -> Map<String, Value> {
    let Some(given) = given else { return stored };
    let mut whole = match change {
        Change::Merge => stored.clone(),
        Change::Replace => Map::new(),
    };
    for (key, value) in given {
        if value == MASK {
            whole.extend(stored.remove(key).map(|value| (key.clone(), value)));
        } else if value.is_null() && change == Change::Merge {
            whole.remove(key);
        } else {
            whole.insert(key.clone(), value.clone());
        }
    }
    whole
}

fn listing(record: &InstanceRecord) -> ListingRecord {
    ListingRecord {
        id: record.id,
        name: record.name.clone(),
        tags: record.tags.clone(),
        element: record.element.clone(),
    }
}

/// The resources that are polled, with their intervals in minutes.
pub(super) fn polled(record: &InstanceRecord) -> BTreeMap<String, u16> {
    let resources = record.resources.iter().filter(|_| record.events_enabled);
    resources.map(|(name, _)| (name.clone(), record.interval_of(name))).collect()
}

/// The resource's membership in its slot of the wheel.
fn slot(record: &InstanceRecord, resource: &str, interval: u16) -> Write {
    let job =
        PollJob { organization: record.organization, instance: record.id, resource: resource.to_owned(), minute: 0 };
    let key = slot_key(Slot::of(record.id, resource, interval), record.id, resource);
    table::put(key, 1, &job, Condition::Unconditional)
}

/// Says that the intervals are in use, before any slot of theirs exists: a slot is never without its mark.
async fn mark_intervals(ports: &Ports, settings: &EventSettings) -> Result<(), InstanceError> {
    let mut intervals: Vec<u16> = settings
        .resources
        .values()
        .filter(|_| settings.enabled)
        .map(|resource| resource.interval_minutes.unwrap_or(settings.interval_minutes))
        .collect();
    intervals.sort_unstable();
    intervals.dedup();
    let mark = |interval: &u16| table::put(interval_key(*interval), 1, interval, Condition::Unconditional);
    let writes: Vec<Write> = intervals.iter().map(mark).collect();
    for outcome in ports.store.write_each(&writes).await {
        outcome?;
    }
    Ok(())
}

/// Polls resources for the first time, as far as the budget goes, and leaves the rest to the queue. A failure is
/// a warning: the instance is there, and its next slot tries again.
async fn first_polls(service: &Service, record: &InstanceRecord, resources: Vec<String>) -> Vec<Warning> {
    // A poll commits what it has shortly before its time is up and queues its rest; the deadline is for one that
    // hangs on a vendor.
    let until = service.ports.now() + BASELINE_BUDGET - COMMIT_MARGIN;
    let deadline = service.ports.now() + BASELINE_BUDGET;
    let minute = service.wheel.minute_of(service.ports.now());
    let path = below("configuration", keys::POLLER_CONFIGURATION);
    let (mut warnings, mut unfinished) = (Vec::new(), Vec::new());
    let mut polls = stream::iter(resources)
        .map(|resource| {
            let job = PollJob { organization: record.organization, instance: record.id, resource, minute };
            async move {
                let left = (deadline - service.ports.now()).to_std().unwrap_or_default();
                let polled = poll::poll(service, &job, Mode::Baseline, until);
                let outcome = within(&*service.ports.ambient, left, polled).await;
                (job, outcome)
            }
        })
        .buffer_unordered(BASELINES_AT_ONCE);
    while let Some((job, outcome)) = polls.next().await {
        match outcome {
            Some(Ok(report)) => {
                warnings.extend(report.failure.map(|failure| {
                    let message = format!("The first poll did not work and is tried again: {failure}");
                    Warning::new(below(&path, &job.resource), message)
                }));
            }
            Some(Err(error)) => {
                tracing::warn!(
                    { fields::INSTANCE } = %job.instance, { fields::RESOURCE } = job.resource,
                    { fields::ERROR } = %error, "first poll failed"
                );
                let message = "The first poll did not work on our side and is tried again.";
                warnings.push(Warning::new(below(&path, &job.resource), message));
                unfinished.push(job);
            }
            None => unfinished.push(job),
        }
    }
    // A message that is not taken is no loss: the resource's slot comes round.
    service
        .ports
        .queue
        .send(QueueName::Polls, unfinished.iter().map(|job| job.message(Duration::ZERO)).collect())
        .await;
    warnings.sort_by(|a, b| a.field.cmp(&b.field));
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::tests::instance;
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
