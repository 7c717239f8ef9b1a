//! Removing an instance.

use domain::id::InstanceId;
use store::records::account::secret_key;
use store::records::audit::{Action, AuditRecord};
use store::records::instance::{self, InstanceRecord, belongings, find};
use store::{Attempts, Commit, RecordError, commit, write_each};

use super::InstanceError;
use super::callback::release_backlog;
use super::schedule::leave_all;
use crate::accounts::auth::Caller;
use crate::accounts::limits::Allowance;
use crate::ports::Ports;
use crate::service::Service;

/// Removes an instance and everything that is its own. Its deliveries expire in their own time.
///
/// The first transaction makes it invisible, unpolled and its token worthless. The rest follows item by item, the
/// instance's own item and its listing last: until then the same call can be made again and goes on where it stopped.
///
/// # Errors
/// The instance is not the organization's, or the store failed.
pub async fn remove(service: &Service, caller: &Caller, id: InstanceId) -> Result<(), InstanceError> {
    let store = &*service.ports.store;
    let record = begin(&service.ports, caller, id).await?;
    release_backlog(service, &record).await;
    let mut rest = belongings(store, &record).await?;
    // Slots again: a change that raced with the first transaction may have left one.
    rest.extend(leave_all(&record));
    write_each(store, &rest).await.map_err(RecordError::from)?;
    let last = [instance::key(id).delete(), instance::listing_key(caller.organization, id).delete()];
    Ok(store.transact(&last).await.map_err(RecordError::from)?)
}

/// Marks the instance as going and takes it out of sight; done already, it says so again.
async fn begin(ports: &Ports, caller: &Caller, id: InstanceId) -> Result<InstanceRecord, InstanceError> {
    let store = &*ports.store;
    let mut attempts = Attempts::many();
    loop {
        let stored = find(store, caller.organization, id).await?.ok_or(InstanceError::Absent)?;
        if stored.record.deleted {
            return Ok(stored.record);
        }
        let record = InstanceRecord { deleted: true, disabled: true, ..stored.record.clone() };
        let entry = AuditRecord::new(ports.now(), caller.by(), Action::InstanceDeleted).of_instance(id);
        let mut writes = vec![
            stored.replace(&record),
            Allowance::read(ports, caller.organization).await?.counting(-1),
            entry.write(caller.organization, &id.to_string(), stored.version()),
            secret_key(&record.token_hash).delete(),
        ];
        writes.extend(record.previous_token.iter().map(|previous| secret_key(&previous.hash).delete()));
        writes.extend(leave_all(&record));
        match commit(store, &writes).await.map_err(RecordError::from)? {
            Commit::Done => return Ok(record),
            Commit::Lost { .. } => attempts.lost(&*ports.ambient).await.map_err(RecordError::from)?,
        }
    }
}
