//! An instance's own token: sealed, shown, and replaced with the old one beside it for as long as its users need to
//! change over.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId};
use domain::secret::Secret;
use store::Change;
use store::records::account::{Principal, hash};
use store::records::audit::{Action, AuditRecord, By};
use store::records::instance::InstanceRecord;

use super::{InstanceError, change};
use crate::accounts::auth::draw_secret;
use crate::accounts::secret::{Replaced, replace_secret};
use crate::ports::Ports;
use crate::service::{FlowError, Service};
use crate::vendor::secrets::vault_owner;

/// The instance's token, to be shown to its organization.
///
/// # Errors
/// The vault does not open it.
pub async fn token(service: &Service, record: &InstanceRecord) -> Result<Secret, InstanceError> {
    let opened = service.ports.vault.open(&vault_owner(record.id), &record.token).await;
    Ok(opened.map_err(FlowError::vault("the token of an instance"))?)
}

pub(super) async fn seal_token(ports: &Ports, id: InstanceId, token: &Secret) -> Result<String, InstanceError> {
    let sealed = ports.vault.seal(&vault_owner(id), token).await;
    Ok(sealed.map_err(FlowError::vault("the token of an instance"))?)
}

/// A rotation that is through.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The new token.
    pub token: Secret,
    /// Until when the old one works, too; none if it stopped at once.
    pub previous_until: Option<DateTime<Utc>>,
}

/// Gives an instance a new token. The old one works for the time `grace` still, or no longer.
///
/// # Errors
/// The instance is not the organization's, it was changed by others at every try, or the store or the vault failed.
pub async fn rotate_token(
    ports: &Ports,
    by: By,
    organization: OrganizationId,
    id: InstanceId,
    grace: TimeDelta,
) -> Result<NewToken, InstanceError> {
    let token = draw_secret(&*ports.ambient);
    let previous_until = change(ports, organization, id, async |stored| {
        let mut record = stored.record.clone();
        record.token = seal_token(ports, id, &token).await?;
        record.updated_at = ports.now();
        let entry = AuditRecord::new(ports.now(), by, Action::TokenRotated).of_instance(id);
        let replaced = Replaced {
            current: &mut record.token_hash,
            previous: &mut record.previous_token,
            principal: Principal::Instance { instance: id, organization },
            disabled: false,
        };
        let mut writes = replace_secret(replaced, &hash(&token), grace, ports.now());
        writes.push(stored.replace(&record));
        writes.push(entry.write(organization, &id.to_string(), stored.version()));
        Ok(Change::Write(writes, record.previous_token.map(|previous| previous.until)))
    })
    .await?;
    Ok(NewToken { token, previous_until })
}
