//! The one table: which items there are, under which keys, and what their bodies say.
//!
//! | Item | pk / sk | Body |
//! | --- | --- | --- |
//! | principal | `SECRET#<sha256>` / `-` | [`Principal`] |
//! | instance | `INST#<id>` / `META` | [`InstanceRecord`] |
//! | tokens | `INST#<id>` / `META#TOKENS` | [`TokensRecord`] |
//! | resource state | `INST#<id>` / `RES#<name>` | [`crate::poll::state::ResourceRecord`] |
//! | pause | `INST#<id>` / `META#PAUSE` | [`PauseRecord`]: the vendor wants no calls for this account |
//! | record index | `INST#<id>` / `IDX#<name>#<bucket>` | packed bucket |
//! | seen | `INST#<id>` / `SEEN#<name>#<piece>` | hashes of what a listing that spans invocations has seen |
//! | delivery | `INST#<id>` / `DLV#<commit ms>#<delivery>` | [`crate::delivery::row::DeliveryRow`]: events, attempts, a small body |
//! | body | `INST#<id>` / `BODY#<delivery>#<commit ms>#<piece>` | a piece of a larger notification as it is sent |
//! | callback | `CALLBACK#<organization>#<hash of url>` / `STATE` | what is wrong with it; absent when nothing is |
//! | line | `CALLBACK#<organization>#<hash of url>` / `WAIT#<commit ms>#<delivery>#<instance>` | a delivery behind it |
//! | newest | `CALLBACK#<organization>#<hash of url>` / `NEWEST#<record>` | who joined the line last for a record, where only the newest is wanted |
//! | retry | `RETRY#<minute>` / `<instance>#<delivery>` | a [`crate::job::DeliveryJob`] |
//! | of an account | `ACCOUNT#<element>#<hash>` / `<instance>` | empty: who shares the vendor's limits |
//! | of an organization | `ORG#<id>` / `INST#<id>` | [`ListingRecord`] |
//! | limits | `ORG#<id>` / `LIMITS` | [`crate::limits::LimitsRecord`]; absent where nothing is limited |
//! | audit | `ORG#<id>` / `AUDIT#<ms>#<subject>#<version>` | [`crate::audit::AuditRecord`]: who changed what |
//! | slot | `SLOT#<interval>#<minute>` / `<instance>#<resource>` | a [`crate::job::PollJob`] |
//! | wheel | `WHEEL` / `HAND`, `INTERVAL#<interval>` | last minute dispatched; intervals in use |
//!
//! Instance, tokens and one resource's state are neighbours, so that a poll reads them in one query.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::wheel::Slot;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::ports::{Condition, Item, Key, Write};

/// Sort key of an instance's own item.
pub const META: &str = "META";
/// Sort key of an instance's tokens.
pub const TOKENS: &str = "META#TOKENS";

/// Sort key of the word that the vendor wants no calls for this account. Lies between an instance and its resources.
pub const PAUSE: &str = "META#PAUSE";

/// Partition of everything that belongs to one instance.
pub fn instance_partition(id: InstanceId) -> String {
    format!("INST#{id}")
}

/// Key of the instance's own item.
pub fn instance_key(id: InstanceId) -> Key {
    Key::new(instance_partition(id), META)
}

/// Key of the instance's tokens.
pub fn tokens_key(id: InstanceId) -> Key {
    Key::new(instance_partition(id), TOKENS)
}

/// Key of a resource's state.
pub fn resource_key(id: InstanceId, resource: &str) -> Key {
    Key::new(instance_partition(id), format!("RES#{resource}"))
}

/// Key of the listing item that an organization's page of instances is read from. Zero-padded: ordered by id.
pub fn listing_key(organization: OrganizationId, id: InstanceId) -> Key {
    Key::new(organization_partition(organization), format!("INST#{:016}", id.0))
}

/// Partition of an organization's listing.
pub fn organization_partition(organization: OrganizationId) -> String {
    format!("ORG#{organization}")
}

/// Key of what an organization may have, and has.
pub fn account_limits_key(organization: OrganizationId) -> Key {
    Key::new(organization_partition(organization), "LIMITS")
}

/// What the sort keys of audit entries begin with.
pub const AUDIT_PREFIX: &str = "AUDIT#";

/// Key of an audit entry: by time, then by which version of what was changed.
pub fn audit_key(organization: OrganizationId, at: DateTime<Utc>, subject: &str, version: u64) -> Key {
    let sk = format!("{AUDIT_PREFIX}{:013}#{subject}#{version:08}", at.timestamp_millis().max(0));
    Key::new(organization_partition(organization), sk)
}

/// Key of the principal that a secret belongs to; `hash` is lower-case hex of SHA-256 of the secret.
pub fn principal_key(hash: &str) -> Key {
    Key::new(format!("SECRET#{hash}"), "-")
}

/// Partition of one slot of the wheel.
pub fn slot_partition(slot: Slot) -> String {
    format!("SLOT#{}#{}", slot.interval, slot.minute)
}

/// Key of a resource's membership in its slot.
pub fn slot_key(slot: Slot, instance: InstanceId, resource: &str) -> Key {
    Key::new(slot_partition(slot), format!("{instance}#{resource}"))
}

/// Partition of the deliveries that are due in a minute.
pub fn retry_partition(minute: i64) -> String {
    format!("RETRY#{minute}")
}

/// Key of one delivery's entry among those due in a minute.
pub fn retry_key(minute: i64, instance: InstanceId, delivery: &str) -> Key {
    Key::new(retry_partition(minute), format!("{instance}#{delivery}"))
}

/// A resource name as part of a longer sort key: `#` separates there, so it is written otherwise.
fn in_key(resource: &str) -> String {
    resource.replace('%', "%25").replace('#', "%23")
}

/// What the sort keys of a resource's index buckets begin with.
pub fn index_prefix(resource: &str) -> String {
    format!("IDX#{}#", in_key(resource))
}

/// Key of one bucket of a resource's record index.
pub fn bucket_key(id: InstanceId, resource: &str, bucket: u32) -> Key {
    Key::new(instance_partition(id), format!("{}{bucket:08x}", index_prefix(resource)))
}

/// Key of one piece of what a resource's listing under way has seen.
pub fn seen_key(id: InstanceId, resource: &str, piece: u32) -> Key {
    Key::new(instance_partition(id), format!("SEEN#{}#{piece:08x}", in_key(resource)))
}

/// Key of the word that the vendor wants no calls for an instance's account.
pub fn pause_key(id: InstanceId) -> Key {
    Key::new(instance_partition(id), PAUSE)
}

/// Partition of the instances of one vendor account.
pub fn account_partition(element: &str, account: &str) -> String {
    format!("ACCOUNT#{element}#{account}")
}

/// Key of one instance among those of its vendor account.
pub fn account_key(element: &str, account: &str, id: InstanceId) -> Key {
    Key::new(account_partition(element, account), id.to_string())
}

/// Key of the wheel's hand: the last minute that was dispatched.
pub fn hand_key() -> Key {
    Key::new("WHEEL", "HAND")
}

/// Key of the mark that an interval is in use.
pub fn interval_key(interval: u16) -> Key {
    Key::new("WHEEL", format!("INTERVAL#{interval:04}"))
}

/// The vendor wants no calls for an account, said to one of its instances and noted at all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseRecord {
    /// Until when.
    pub until: DateTime<Utc>,
}

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

/// A stored item does not say what its key promises.
#[derive(Debug, thiserror::Error)]
#[error("the item under {}/{} cannot be read", key.pk, key.sk)]
pub struct Unreadable {
    /// Which item.
    pub key: Key,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

/// Reads a JSON body.
pub fn read<T: DeserializeOwned>(item: &Item) -> Result<T, Unreadable> {
    serde_json::from_slice(&item.body).map_err(|source| Unreadable { key: item.key.clone(), source })
}

/// A put of a JSON body.
pub fn put<T: Serialize>(key: Key, version: u64, body: &T, condition: Condition) -> Write {
    let body = serde_json::to_vec(body).expect("table bodies have text keys and serialize");
    Write::Put { item: Item { key, version, body: Bytes::from(body), expires_at: None }, condition }
}

/// A put of an item that must not exist yet.
pub fn insert<T: Serialize>(key: Key, body: &T) -> Write {
    put(key, 1, body, Condition::Absent)
}

/// A put over the version that was read.
pub fn replace<T: Serialize>(key: Key, read_version: u64, body: &T) -> Write {
    put(key, read_version + 1, body, Condition::Version(read_version))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is stored stays where it is: these literals may never change.
    #[test]
    fn what_belongs_to_one_resource_or_account_lies_apart() {
        let id = InstanceId(7);
        assert_eq!(bucket_key(id, "a#b%c", 26), Key::new("INST#7", "IDX#a%23b%25c#0000001a"));
        assert_eq!(seen_key(id, "a#b", 1), Key::new("INST#7", "SEEN#a%23b#00000001"));
        assert_eq!(account_key("square", "me", id), Key::new("ACCOUNT#square#me", "7"));
        assert_eq!(retry_key(5, id, "d"), Key::new("RETRY#5", "7#d"));
        assert_eq!(slot_key(Slot { interval: 5, minute: 3 }, id, "r"), Key::new("SLOT#5#3", "7#r"));
        assert_eq!(interval_key(5), Key::new("WHEEL", "INTERVAL#0005"));
        assert_eq!(hand_key(), Key::new("WHEEL", "HAND"));
    }
}
