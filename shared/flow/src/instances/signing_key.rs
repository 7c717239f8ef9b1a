//! A new signing key, with the old one beside it for as long as the receiver needs to change over.
//!
//! Both keys sign `webhook-signature`, so that a receiver which knows either is served; the signature of Cloud Elements
//! has room for one, the new. When the time is over the old one is passed over, and the next rotation forgets it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use domain::configuration::keys::{PREVIOUS_KEY, PREVIOUS_KEY_UNTIL, SIGNATURE_KEY};
use domain::id::InstanceId;
use domain::secret::{MASK, Secret};
use domain::signature::SECRET_PREFIX;
use serde_json::Value;
use store::Change;
use store::records::audit::{Action, AuditRecord};

use super::{InstanceError, change};
use crate::accounts::auth::Caller;
use crate::service::Service;
use crate::vendor::secrets;

/// A rotation that is through.
#[derive(Debug, Clone)]
pub struct NewSigningKey {
    /// The new key. It is not shown again.
    pub key: Secret,
    /// End of the time in which the old one signs, too; none if there was no key before.
    pub previous_until: Option<DateTime<Utc>>,
}

/// Gives an instance a new signing key, drawn here: 256 bits in the form of Standard Webhooks. The old one signs,
/// too, for the time `both`.
///
/// # Errors
/// The instance is not the organization's, it was changed by others at every try, or the store or the vault failed.
pub async fn rotate_signing_key(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    both: TimeDelta,
) -> Result<NewSigningKey, InstanceError> {
    let ports = &service.ports;
    let mut bytes = [0; 32];
    ports.ambient.fill_random(&mut bytes);
    let key = Secret::new(format!("{SECRET_PREFIX}{}", STANDARD.encode(bytes)));
    let previous_until = change(ports, caller.organization, id, async |stored| {
        let mut record = stored.record.clone();
        let mut hidden = secrets::open(service, &record).await?;
        let old = hidden.insert(SIGNATURE_KEY.to_owned(), key.clone());
        let until = old.as_ref().map(|_| ports.now() + both);
        let masked = Value::from(MASK);
        record.configuration.insert(SIGNATURE_KEY.to_owned(), masked.clone());
        for stale in [PREVIOUS_KEY, PREVIOUS_KEY_UNTIL] {
            record.configuration.remove(stale);
            hidden.remove(stale);
        }
        if let (Some(old), Some(until)) = (old, until) {
            hidden.insert(PREVIOUS_KEY.to_owned(), old);
            record.configuration.insert(PREVIOUS_KEY.to_owned(), masked);
            let until = until.to_rfc3339_opts(SecondsFormat::Secs, true);
            record.configuration.insert(PREVIOUS_KEY_UNTIL.to_owned(), Value::from(until));
        }
        record.secrets = secrets::seal(service, id, &hidden).await?;
        record.updated_at = ports.now();
        let entry = AuditRecord::new(ports.now(), caller.by(), Action::SigningSecretRotated).of_instance(id);
        let audited = entry.write(caller.organization, &id.to_string(), stored.version());
        Ok(Change::Write(vec![stored.replace(&record), audited], until))
    })
    .await?;
    Ok(NewSigningKey { key, previous_until })
}
