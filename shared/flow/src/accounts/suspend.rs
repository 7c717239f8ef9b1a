//! Disabling an organization: its secrets, its users and its instances with it.

use domain::id::OrganizationId;
use store::RecordError;
use store::records::account::Principal;
use store::records::audit::Action;
use store::records::instance::listing;

use super::AccountError;
use super::organization::change_organization;
use super::secret::put_secrets;
use super::user::{set_user_suspended, users};
use crate::instances::{self, InstanceError};
use crate::ports::Ports;

/// The reason why an organization could not be disabled or enabled, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum SuspendError {
    /// The organization or a user could not be changed.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// An instance could not be changed with its organization.
    #[error("changing an instance with its organization")]
    Instance(#[from] InstanceError),
}

impl From<RecordError> for SuspendError {
    fn from(error: RecordError) -> Self {
        Self::Account(error.into())
    }
}

/// Disables an organization or enables it: its secrets, its users, its instances. What was disabled by itself stays so.
///
/// The organization's own record is written first, and refuses new users from then on. A call that did not get to its
/// end is repeated, and goes on where it stopped.
///
/// # Errors
/// There is no such organization, others kept changing it, or the store failed.
pub async fn set_organization_disabled(
    ports: &Ports,
    organization: OrganizationId,
    disabled: bool,
) -> Result<(), SuspendError> {
    let action = if disabled { Action::OrganizationDisabled } else { Action::OrganizationEnabled };
    change_organization(ports, organization, |record| {
        if record.secret.disabled == disabled {
            return None;
        }
        record.secret.disabled = disabled;
        let principal = Principal::Organization { organization };
        Some((action, put_secrets(&record.secret, &principal, disabled)))
    })
    .await?;
    for user in users(ports, organization).await? {
        set_user_suspended(ports, organization, user.id, disabled).await?;
    }
    for entry in listing(organization).all(&*ports.store).await? {
        instances::suspend(ports, organization, entry.record.id, disabled).await?;
    }
    Ok(())
}
