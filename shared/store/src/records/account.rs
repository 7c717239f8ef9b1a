//! Secrets and the organizations, users and instances that they open.

use chrono::{DateTime, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};

/// Whom a secret belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Principal {
    /// A user's secret, the `User` part of the authorization header.
    User {
        /// Whose.
        user: UserId,
        /// Of which organization.
        organization: OrganizationId,
    },
    /// An organization's secret, the `Organization` part.
    Organization {
        /// Which.
        organization: OrganizationId,
    },
    /// An instance's token, the `Element` part.
    Instance {
        /// Which.
        instance: InstanceId,
        /// Of which organization.
        organization: OrganizationId,
    },
}

/// A secret's item: whom it belongs to, and whether it opens anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrincipalRecord {
    /// Whose it is.
    #[serde(flatten)]
    pub principal: Principal,
    /// It was replaced, and works until then beside its successor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<DateTime<Utc>>,
    /// Whose it is may do nothing now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
}

/// A secret that was replaced and still works for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// SHA-256 in hex.
    pub hash: String,
    /// Until when.
    pub until: DateTime<Utc>,
}
