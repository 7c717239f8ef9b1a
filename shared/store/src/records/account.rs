//! Organizations, their users and limits, and the secrets that open them. Only the SHA-256 of a secret is stored, and
//! it is the key of its record: looking one up tells nobody how near a guess came.

use chrono::{DateTime, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::keys;
use crate::pages::Section;
use crate::port::{Range, Store, Write};
use crate::record::{RecordError, RecordKey, Stored, expiring};

/// The principal that a secret stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Principal {
    /// A user's secret, the `User` part of the authorization header.
    User {
        /// The user.
        user: UserId,
        /// Its organization.
        organization: OrganizationId,
    },
    /// An organization's secret, the `Organization` part.
    Organization {
        /// The organization.
        organization: OrganizationId,
    },
    /// An instance's token, the `Element` part.
    Instance {
        /// The instance.
        instance: InstanceId,
        /// Its organization.
        organization: OrganizationId,
    },
}

/// A secret: its principal, and whether it opens anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalRecord {
    /// Its owner.
    #[serde(flatten)]
    pub principal: Principal,
    /// The end of a secret that was replaced and works beside its successor until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Its owner is disabled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// A secret that was replaced and still works for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// SHA-256 in hex.
    pub hash: String,
    /// The instant at which it ends.
    pub until: DateTime<Utc>,
}

impl PrincipalRecord {
    /// True if the secret opens something now.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        !self.disabled && self.until.is_none_or(|until| now < until)
    }
}

/// The SHA-256 of a secret in lower-case hex.
pub fn hash(secret: &Secret) -> String {
    Sha256::digest(secret.expose()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Key of the secret with this hash.
pub fn secret_key(hash: &str) -> RecordKey<PrincipalRecord> {
    RecordKey::of(keys::principal_key(hash))
}

/// Writes a secret; one with an end may be forgotten then.
pub fn put_secret(hash: &str, record: &PrincipalRecord) -> Write {
    expiring(secret_key(hash).put(record), record.until)
}

/// Writes the secret of a new principal, which must not be taken.
pub fn insert_secret(hash: &str, principal: Principal) -> Write {
    secret_key(hash).insert(&PrincipalRecord { principal, until: None, disabled: false })
}

/// The principals of secrets that are valid now, each at the place of its secret.
pub async fn principals_of<const N: usize>(
    store: &dyn Store,
    secrets: [Option<&Secret>; N],
    now: DateTime<Utc>,
) -> Result<[Option<Principal>; N], RecordError> {
    let keys = secrets.map(|secret| secret.map(|secret| keys::principal_key(&hash(secret))));
    let items = store.get_many(&keys.iter().flatten().cloned().collect::<Vec<_>>()).await?;
    let mut principals = [const { None }; N];
    for (principal, key) in principals.iter_mut().zip(&keys) {
        let Some(item) = items.iter().find(|item| Some(&item.key) == key.as_ref()) else { continue };
        let record = Stored::<PrincipalRecord>::read(item)?.record;
        *principal = record.is_valid(now).then_some(record.principal);
    }
    Ok(principals)
}

/// The secret of an organization or a user, and the one before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSlot {
    /// SHA-256 of the secret in hex.
    pub secret_hash: String,
    /// The secret before this one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The owner is disabled: neither secret works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

impl SecretSlot {
    /// With a first secret of this hash.
    pub fn new(secret_hash: String) -> Self {
        Self { secret_hash, previous: None, disabled: false }
    }
}

/// A customer. Its record claims its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrganizationRecord {
    /// Its id.
    pub id: OrganizationId,
    /// Its name, for people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its secret. While the organization is disabled, its instances are not polled.
    #[serde(flatten)]
    pub secret: SecretSlot,
}

/// A user of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The user's id.
    pub id: UserId,
    /// The user's name, for people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The user's secret.
    #[serde(flatten)]
    pub secret: SecretSlot,
    /// The organization is disabled, and its users with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
}

impl UserRecord {
    /// True if the user's secrets open nothing.
    pub fn is_locked_out(&self) -> bool {
        self.secret.disabled || self.suspended
    }
}

/// Key of an organization.
pub fn organization_key(id: OrganizationId) -> RecordKey<OrganizationRecord> {
    RecordKey::of(keys::organization_key(id))
}

/// All organizations, by id.
pub fn organizations() -> Section<OrganizationRecord> {
    Section::of(keys::ORGANIZATIONS, Range::all())
}

/// Key of a user.
pub fn user_key(organization: OrganizationId, user: UserId) -> RecordKey<UserRecord> {
    RecordKey::of(keys::user_key(organization, user))
}

/// The users of an organization, by id.
pub fn users(organization: OrganizationId) -> Section<UserRecord> {
    Section::of(keys::organization_partition(organization), Range::prefix(keys::USER_PREFIX))
}

/// The most that an organization may have. None: as much as it likes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Number of instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// Number of resources that one instance polls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<u32>,
    /// Shortest time between polls of a resource, in minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smallest_interval: Option<u16>,
}

/// Limits of an organization and its count of instances. Every creation and removal writes it, so that none that races
/// slips past; an organization without limits has no such record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsRecord {
    /// The limits.
    pub limits: Limits,
    /// Number of instances, without those that are being removed.
    pub instances: u32,
}

/// Key of an organization's limits.
pub fn limits_key(organization: OrganizationId) -> RecordKey<LimitsRecord> {
    RecordKey::of(keys::account_limits_key(organization))
}
