//! Switching an instance off and on, by itself or with its organization.

use domain::id::{InstanceId, OrganizationId};
use store::Change;
use store::records::audit::{Action, AuditRecord};
use store::records::instance::InstanceRecord;

use super::{InstanceError, change};
use crate::accounts::auth::Caller;
use crate::ports::Ports;

/// Switches polling and calls off or on. The slots stay: the poller reads the switch at every poll.
///
/// # Errors
/// The instance is not the organization's, it was changed by others at every try, or the store failed.
pub async fn set_disabled(
    ports: &Ports,
    caller: &Caller,
    id: InstanceId,
    disabled: bool,
) -> Result<InstanceRecord, InstanceError> {
    change(ports, caller.organization, id, async |stored| {
        let mut record = stored.record.clone();
        if record.disabled == disabled {
            return Ok(Change::Keep(record));
        }
        record.disabled = disabled;
        record.updated_at = ports.now();
        let action = if disabled { Action::InstanceDisabled } else { Action::InstanceEnabled };
        let entry = AuditRecord::new(ports.now(), caller.by(), action).of_instance(id);
        let writes = vec![stored.replace(&record), entry.write(caller.organization, &id.to_string(), stored.version())];
        Ok(Change::Write(writes, record))
    })
    .await
}

/// Switches an instance off or on with its organization. One that is off for itself stays as it is, and one that is
/// gone is none.
///
/// # Errors
/// The instance was changed by others at every try, or the store failed.
pub async fn suspend(
    ports: &Ports,
    organization: OrganizationId,
    id: InstanceId,
    suspended: bool,
) -> Result<(), InstanceError> {
    let switched = change(ports, organization, id, async |stored| {
        let mut record = stored.record.clone();
        let is_so = if suspended { record.disabled } else { !record.suspended };
        if is_so {
            return Ok(Change::Keep(()));
        }
        record.disabled = suspended;
        record.suspended = suspended;
        Ok(Change::Write(vec![stored.replace(&record)], ()))
    });
    match switched.await {
        Err(InstanceError::Absent) => Ok(()),
        outcome => outcome,
    }
}
