//! The tokens of a connected account.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};

/// What was got by logging in. Holds secrets: it is stored sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// Sent with every call.
    pub access: Secret,
    /// Sent for the next access token.
    #[serde(default)]
    pub refresh: Option<Secret>,
    /// When the access token ends, where the vendor says so.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// More of the answer that is worth keeping (an account number).
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}
