//! The tokens of an instance at its vendor, and the pause that a vendor's rate limit imposes on it.

use chrono::{DateTime, Utc};
use domain::id::InstanceId;
use serde::{Deserialize, Serialize};

use crate::keys;
use crate::record::RecordKey;

/// An instance's tokens, apart from the instance so that a refresh and an edit never race.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokensRecord {
    /// Sealed JSON of `elements::Tokens`.
    pub sealed: String,
    /// When the access token ends, as the vendor said, so that nothing need be opened to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
    /// Somebody is asking the vendor for new ones until then, at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refreshing_until: Option<DateTime<Utc>>,
}

/// The vendor wants no calls for an account, said to one of its instances and noted at all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Until when.
    pub until: DateTime<Utc>,
}

/// Key of an instance's tokens.
pub fn key(id: InstanceId) -> RecordKey<TokensRecord> {
    RecordKey::of(keys::tokens_key(id))
}

/// Key of the pause of an instance.
pub fn pause_key(id: InstanceId) -> RecordKey<PauseRecord> {
    RecordKey::of(keys::pause_key(id))
}
