//! Switching instances off and on, and removing them.

use domain::id::{InstanceId, OrganizationId};
use domain::wheel::Slot;

use super::change::{apart, polled, release_line};
use super::{InstanceError, Stored, find, get};
use crate::audit::{Action, AuditRecord};
use crate::limits::Allowance;
use crate::poll::state::ResourceRecord;
use crate::ports::{Condition, Key, Ports, StoreError, Write, query_all};
use crate::principal::Caller;
use crate::service::Service;
use crate::table::{
    self, InstanceRecord, account_key, instance_key, instance_partition, listing_key, principal_key, slot_key,
};

/// Times a change is tried again when another came in between.
pub(super) const ATTEMPTS: usize = 4;

/// The same, where others of the organization come and go.
const REMOVALS: usize = 24;

/// Switches polling and calls off or on. The slots stay: the poller reads the switch at every poll.
pub async fn set_disabled(
    ports: &Ports,
    caller: &Caller,
    id: InstanceId,
    disabled: bool,
) -> Result<InstanceRecord, InstanceError> {
    for _ in 0..ATTEMPTS {
        let Stored { mut record, version } = get(ports, caller.organization, id).await?;
        if record.disabled == disabled {
            return Ok(record);
        }
        record.disabled = disabled;
        record.updated_at = ports.now();
        let action = if disabled { Action::InstanceDisabled } else { Action::InstanceEnabled };
        let entry = AuditRecord::new(ports.now(), caller.by(), action).of_instance(id);
        let writes = [
            table::replace(instance_key(id), version, &record),
            entry.write(caller.organization, &id.to_string(), version),
        ];
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(record),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(InstanceError::Raced)
}

/// Switches an instance off or on with its organization. One that is off for itself stays as it is, and one that is
/// gone is none.
pub async fn suspend(
    ports: &Ports,
    organization: OrganizationId,
    id: InstanceId,
    suspended: bool,
) -> Result<(), InstanceError> {
    for _ in 0..ATTEMPTS {
        let Stored { mut record, version } = match get(ports, organization, id).await {
            Err(InstanceError::Absent) => return Ok(()),
            found => found?,
        };
        if if suspended { record.disabled } else { !record.suspended } {
            return Ok(());
        }
        record.disabled = suspended;
        record.suspended = suspended;
        match ports.store.transact(&[table::replace(instance_key(id), version, &record)]).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(InstanceError::Raced)
}

/// Removes an instance and everything that is its own. Its deliveries expire in their own time.
///
/// The first transaction makes it invisible, unpolled and its token worthless. The rest follows item by item, the
/// instance's own item and its listing last: until then the same call can be made again and goes on where it stopped.
pub async fn remove(service: &Service, caller: &Caller, id: InstanceId) -> Result<(), InstanceError> {
    let ports = &service.ports;
    let record = begin(ports, caller, id).await?;
    release_line(service, &record).await;
    let partition = instance_partition(id);
    let mut rest: Vec<Key> = Vec::new();
    for prefix in ["META#", "RES#", "IDX#", "SEEN#"] {
        for item in query_all(&*ports.store, &partition, prefix).await? {
            let state = if prefix == "RES#" { table::read::<ResourceRecord>(&item).ok() } else { None };
            let account = state.and_then(|state| state.account);
            rest.extend(account.map(|account| account_key(&record.element, &account, id)));
            rest.push(item.key);
        }
    }
    // Slots again: a change that raced with the first transaction may have left one.
    rest.extend(slots(&record));
    delete_each(ports, rest).await?;
    Ok(ports.store.transact(&[delete(instance_key(id)), delete(listing_key(caller.organization, id))]).await?)
}

/// Marks the instance as going and takes it out of sight; done already, it says so again.
async fn begin(ports: &Ports, caller: &Caller, id: InstanceId) -> Result<InstanceRecord, InstanceError> {
    for attempt in 0..REMOVALS {
        let Some(Stored { mut record, version }) = find(ports, caller.organization, id).await? else {
            return Err(InstanceError::Absent);
        };
        if record.deleted {
            return Ok(record);
        }
        record.deleted = true;
        record.disabled = true;
        let entry = AuditRecord::new(ports.now(), caller.by(), Action::InstanceDeleted).of_instance(id);
        let mut writes = vec![
            table::replace(instance_key(id), version, &record),
            Allowance::read(ports, caller.organization).await?.counting(-1),
            entry.write(caller.organization, &id.to_string(), version),
            delete(principal_key(&record.token_hash)),
        ];
        writes.extend(record.previous_token.iter().map(|previous| delete(principal_key(&previous.hash))));
        writes.extend(slots(&record).map(delete));
        match ports.store.transact(&writes).await {
            Ok(()) => return Ok(record),
            Err(StoreError::Conflict { .. }) => apart(ports, attempt).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(InstanceError::Raced)
}

/// Where the instance's resources sit on the wheel.
fn slots(record: &InstanceRecord) -> impl Iterator<Item = Key> {
    polled(record)
        .into_iter()
        .map(|(resource, interval)| slot_key(Slot::of(record.id, &resource, interval), record.id, &resource))
}

/// An unconditional delete.
pub(super) fn delete(key: Key) -> Write {
    Write::Delete { key, condition: Condition::Unconditional }
}

/// Deletes any number of items, each on its own.
pub(super) async fn delete_each(ports: &Ports, keys: Vec<Key>) -> Result<(), InstanceError> {
    let writes: Vec<Write> = keys.into_iter().map(delete).collect();
    for outcome in ports.store.write_each(&writes).await {
        outcome?;
    }
    Ok(())
}
