//! A new token for an instance, with the old one beside it for as long as its users need to change over.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId};
use domain::secret::Secret;

use super::remove::ATTEMPTS;
use super::{InstanceError, Stored, get, seal_token};
use crate::audit::{Action, AuditRecord, By};
use crate::ports::{Ports, StoreError};
use crate::principal::{draw_secret, hash, succeed};
use crate::table::{self, Principal, instance_key};

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
    for _ in 0..ATTEMPTS {
        let Stored { mut record, version } = get(ports, organization, id).await?;
        record.token = seal_token(ports, id, &token).await?;
        record.updated_at = ports.now();
        let entry = AuditRecord::new(ports.now(), by, Action::TokenRotated).of_instance(id);
        let mut writes = succeed(
            ports.now(),
            grace,
            &hash(&token),
            (&mut record.token_hash, &mut record.previous_token),
            (Principal::Instance { instance: id, organization }, false),
        );
        writes.push(table::replace(instance_key(id), version, &record));
        writes.push(entry.write(organization, &id.to_string(), version));
        match ports.store.transact(&writes).await {
            Ok(()) => {
                let previous_until = record.previous_token.map(|previous| previous.until);
                return Ok(NewToken { token, previous_until });
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(InstanceError::Raced)
}
