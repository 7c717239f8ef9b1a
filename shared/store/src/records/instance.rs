//! An element instance and its line in its organization's listing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::account::Previous;
use crate::keys;
use crate::pages::{Listable, Section};
use crate::port::{Range, Store};
use crate::record::{RecordError, RecordKey, Stored};

/// An element instance: an authenticated account at a vendor and what is polled of it. No secret stands here in
/// the clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its id.
    pub id: InstanceId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// Who made it.
    pub user: UserId,
    /// As given, HTML stripped.
    pub name: String,
    /// As given.
    pub tags: Vec<String>,
    /// Key of the element.
    pub element: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its configuration last changed.
    pub updated_at: DateTime<Utc>,
    /// Switched off: no polls, and calls answer 403.
    #[serde(default)]
    pub disabled: bool,
    /// Switched off because its organization is: switched on again with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Its removal has begun: it is out of everybody's sight, and removing it again finishes the work.
    #[serde(default)]
    pub deleted: bool,
    /// Set when the vendor no longer accepts the credentials: polling stops until someone logs in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconnect: Option<Reconnect>,
    /// The configuration as the API shows it: flat, event settings included, secrets masked.
    pub configuration: BTreeMap<String, Value>,
    /// Sealed JSON object: the configuration keys whose values are masked above, with their real values.
    pub secrets: String,
    /// Sealed instance token, so that `GET` can show it again as the original does.
    pub token: String,
    /// SHA-256 of the token in hex: the principal item to remove with the instance.
    pub token_hash: String,
    /// The token before this one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_token: Option<Previous>,
    /// Whether events are switched on.
    pub events_enabled: bool,
    /// Where notifications go; none: events are only kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRecord>,
    /// Polling interval in minutes, for resources that set none.
    pub interval_minutes: u16,
    /// By resource name: [`domain::configuration::ResourceConfiguration`], parsed only when that resource is polled.
    pub resources: BTreeMap<String, Box<RawValue>>,
    /// What was read differently from how it was written.
    #[serde(default)]
    pub warnings: Vec<Value>,
    /// Drop null fields from hub answers.
    #[serde(default)]
    pub filter_response_nulls: bool,
}

impl InstanceRecord {
    /// Minutes between polls of a resource.
    pub fn interval_of(&self, resource: &str) -> u16 {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Own {
            #[serde(default)]
            interval_minutes: Option<u16>,
        }
        let raw = self.resources.get(resource);
        raw.and_then(|raw| serde_json::from_str::<Own>(raw.get()).ok()?.interval_minutes)
            .unwrap_or(self.interval_minutes)
    }
}

/// The part of a callback's settings that is no secret. Signature key, header values and password are among the
/// instance's sealed secrets under their configuration keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallbackRecord {
    /// Where to post.
    pub url: String,
    /// `event.notification.format`: `elements` or `cloudevents` or `cloudevents-batch`.
    pub format: String,
    /// What happens when the ladder ends: `retry` or `queue`.
    pub failure_policy: String,
    /// Send only the newest state per record of what piled up while the callback was down.
    #[serde(default)]
    pub coalesce: bool,
}

/// Why an instance needs a new login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconnect {
    /// Since when.
    pub since: DateTime<Utc>,
    /// What the vendor said, for people.
    pub reason: String,
}

/// What a listing shows without reading the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingRecord {
    /// Its id.
    pub id: InstanceId,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Key of its element.
    pub element: String,
}

impl Listable for ListingRecord {
    const PREFIX: &'static str = "INST#";
}

/// Key of an instance.
pub fn key(id: InstanceId) -> RecordKey<InstanceRecord> {
    RecordKey::of(keys::instance_key(id))
}

/// Key of an instance in its organization's listing.
pub fn listing_key(organization: OrganizationId, id: InstanceId) -> RecordKey<ListingRecord> {
    RecordKey::of(keys::listing_key(organization, id))
}

/// The instances of an organization, by id.
pub fn listing(organization: OrganizationId) -> Section<ListingRecord> {
    Section::of(keys::organization_partition(organization), Range::prefix(ListingRecord::PREFIX))
}

/// The instances of these ids, in no particular order; absent ones are left out.
pub async fn get_many(store: &dyn Store, ids: &[InstanceId]) -> Result<Vec<Stored<InstanceRecord>>, RecordError> {
    let keys: Vec<_> = ids.iter().map(|id| keys::instance_key(*id)).collect();
    Ok(store.get_many(&keys).await?.iter().map(Stored::read).collect::<Result<_, _>>()?)
}
