//! The audit trail: an entry for every change that a person made, written in the transaction of the change.
//!
//! An entry names the keys that changed and never a value, so that no secret can stand in one. The system's own work
//! has no entries; states and deliveries show it.

use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::pages::{Listable, Section};
use crate::port::{Range, Write};
use crate::record::{RecordKey, Version, expiring};

/// Time that an entry is kept: a year, and a month to look back at it.
pub const RETENTION: TimeDelta = TimeDelta::days(396);

/// The author of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum By {
    /// A user of the organization, through the API.
    User {
        /// The user.
        user: UserId,
    },
    /// The operator of the service, by `pollux admin`.
    Operator,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// An instance was made.
    #[serde(rename = "instance.created")]
    InstanceCreated,
    /// Its configuration, name, tags or login were changed.
    #[serde(rename = "instance.updated")]
    InstanceUpdated,
    /// It was removed.
    #[serde(rename = "instance.deleted")]
    InstanceDeleted,
    /// It was switched on.
    #[serde(rename = "instance.enabled")]
    InstanceEnabled,
    /// It was switched off.
    #[serde(rename = "instance.disabled")]
    InstanceDisabled,
    /// It got a new token.
    #[serde(rename = "instance.token.rotated")]
    TokenRotated,
    /// Its callbacks are signed with a new secret.
    #[serde(rename = "instance.signing-secret.rotated")]
    SigningSecretRotated,
    /// Deletions that were held are to be emitted.
    #[serde(rename = "instance.deletions.approved")]
    DeletionsApproved,
    /// Deletions that were held are not to be emitted.
    #[serde(rename = "instance.deletions.rejected")]
    DeletionsRejected,
    /// The organization was made.
    #[serde(rename = "organization.created")]
    OrganizationCreated,
    /// Its secrets work again and its instances are polled.
    #[serde(rename = "organization.enabled")]
    OrganizationEnabled,
    /// Its secrets work no more, and its instances rest.
    #[serde(rename = "organization.disabled")]
    OrganizationDisabled,
    /// It got a new secret.
    #[serde(rename = "organization.secret.rotated")]
    OrganizationSecretRotated,
    /// Its secret works no more.
    #[serde(rename = "organization.secret.revoked")]
    OrganizationSecretRevoked,
    /// Its limits were set.
    #[serde(rename = "organization.limits.set")]
    LimitsSet,
    /// A user was made.
    #[serde(rename = "user.created")]
    UserCreated,
    /// A user's secret works again.
    #[serde(rename = "user.enabled")]
    UserEnabled,
    /// A user's secret works no more until the user is enabled.
    #[serde(rename = "user.disabled")]
    UserDisabled,
    /// A user got a new secret.
    #[serde(rename = "user.secret.rotated")]
    UserSecretRotated,
    /// A user's secret works no more.
    #[serde(rename = "user.secret.revoked")]
    UserSecretRevoked,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Time of the change.
    pub at: DateTime<Utc>,
    /// The author of a change.
    pub by: By,
    /// Its kind.
    pub action: Action,
    /// The instance that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The user that was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The resource of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The keys of the configuration that changed; `name`, `tags` and `login` beside them. Never their values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

impl AuditRecord {
    /// An entry without particulars.
    pub fn new(at: DateTime<Utc>, by: By, action: Action) -> Self {
        Self { at, by, action, instance: None, user: None, resource: None, keys: Vec::new() }
    }

    /// The same, about an instance.
    pub fn of_instance(self, instance: InstanceId) -> Self {
        Self { instance: Some(instance), ..self }
    }

    /// The same, about a user.
    pub fn of_user(self, user: UserId) -> Self {
        Self { user: Some(user), ..self }
    }

    /// The write that belongs into the transaction of the change. `subject` and `version` name the item that the change
    /// wrote and the version that it had before, the initial one if it is new, so that two changes in one millisecond have two entries
    /// and a repeated one has one.
    pub fn write(&self, organization: OrganizationId, subject: &str, version: Version) -> Write {
        let key = RecordKey::<Self>::of(keys::audit_key(organization, self.at, subject, version.0));
        expiring(key.put(self), Some(self.at + RETENTION))
    }
}

impl Listable for AuditRecord {
    const PREFIX: &'static str = keys::AUDIT_PREFIX;
}

/// The entries of an organization, oldest first.
pub fn of_organization(organization: OrganizationId) -> Section<AuditRecord> {
    Section::of(keys::organization_partition(organization), Range::prefix(keys::AUDIT_PREFIX))
}
