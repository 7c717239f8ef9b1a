//! An element instance and its entry in its organization's listing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::configuration::{FailurePolicy, NotificationFormat, Words};
use domain::id::{InstanceId, OrganizationId, UserId};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::account::Previous;
use super::resource::ResourceRecord;
use crate::pages::{Listable, Section};
use crate::port::{Condition, Key, Range, Store, StoreError, Write, query_all};
use crate::record::{RecordError, RecordKey, Stored};
use crate::{codec, keys};

/// An element instance: an authenticated account at a vendor and what is polled of it. No secret stands here in
/// the clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceRecord {
    /// Its id.
    pub id: InstanceId,
    /// Its organization.
    pub organization: OrganizationId,
    /// The user who made it.
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
    /// Sealed instance token, so that `GET` can show it again as Cloud Elements does.
    pub token: String,
    /// SHA-256 of the token in hex: the principal item to remove with the instance.
    pub token_hash: String,
    /// The token before this one, while it still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_token: Option<Previous>,
    /// Events are switched on.
    pub events_enabled: bool,
    /// Target of notifications; none: events are only kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<CallbackRecord>,
    /// Polling interval in minutes, for resources that set none.
    pub interval_minutes: u16,
    /// By resource name: [`domain::configuration::ResourceConfiguration`], parsed only when that resource is polled.
    pub resources: BTreeMap<String, Box<RawValue>>,
    /// Values that were read differently from how they were written.
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
    /// Target of the posts.
    pub url: String,
    /// `event.notification.format`, as its word. A word of a later release reads as the default.
    #[serde(with = "format_word")]
    pub format: NotificationFormat,
    /// `event.notification.failure.policy`. A word of a later release reads as the default.
    #[serde(deserialize_with = "policy_word")]
    pub failure_policy: FailurePolicy,
    /// Send only the newest state per record of what piled up while the callback was down.
    #[serde(default)]
    pub coalesce: bool,
}

/// A format as the word of its configuration key, which is not the word that delivery rows have for it.
mod format_word {
    use domain::configuration::{NotificationFormat, Words};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(format: &NotificationFormat, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.word())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NotificationFormat, D::Error> {
        Ok(NotificationFormat::from_word(&String::deserialize(deserializer)?).unwrap_or_default())
    }
}

fn policy_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FailurePolicy, D::Error> {
    Ok(FailurePolicy::from_word(&String::deserialize(deserializer)?).unwrap_or_default())
}

/// The reason why an instance needs a new login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconnect {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The vendor's message, for people.
    pub reason: String,
}

/// The part of an instance that a listing shows without reading the instance.
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

impl ListingRecord {
    fn of(record: &InstanceRecord) -> Self {
        Self { id: record.id, name: record.name.clone(), tags: record.tags.clone(), element: record.element.clone() }
    }
}

/// Key of an instance.
pub fn key(id: InstanceId) -> RecordKey<InstanceRecord> {
    RecordKey::of(keys::instance_key(id))
}

/// The name under which an instance's secrets are sealed: what was sealed for one instance opens for no other.
pub fn vault_owner(id: InstanceId) -> String {
    keys::instance_partition(id)
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

/// The instance of this id, if it is the organization's and not being removed.
///
/// # Errors
/// The store failed or the record is damaged.
pub async fn get(
    store: &dyn Store,
    organization: OrganizationId,
    id: InstanceId,
) -> Result<Option<Stored<InstanceRecord>>, RecordError> {
    Ok(find(store, organization, id).await?.filter(|stored| !stored.record.deleted))
}

/// The same, also when its removal has begun. The organization's own listing is asked first, so that the answer for
/// another's instance comes from the same place, and as fast, as the answer for none.
///
/// # Errors
/// The store failed or the record is damaged.
pub async fn find(
    store: &dyn Store,
    organization: OrganizationId,
    id: InstanceId,
) -> Result<Option<Stored<InstanceRecord>>, RecordError> {
    if !listing_key(organization, id).exists(store).await? {
        return Ok(None);
    }
    Ok(key(id).get(store).await?.filter(|stored| stored.record.organization == organization))
}

/// Writes what the organization's listing says of a new instance.
pub fn listing_insert(record: &InstanceRecord) -> Write {
    listing_key(record.organization, record.id).insert(&ListingRecord::of(record))
}

/// Writes what the organization's listing says of the instance.
pub fn listing_write(record: &InstanceRecord) -> Write {
    listing_key(record.organization, record.id).put(&ListingRecord::of(record))
}

/// The removal of everything that is the instance's alone, but for its item, its listing, its slots and its deliveries,
/// which expire in their own time.
///
/// # Errors
/// The store failed.
pub async fn belongings(store: &dyn Store, record: &InstanceRecord) -> Result<Vec<Write>, RecordError> {
    let partition = keys::instance_partition(record.id);
    let mut removals = Vec::new();
    for prefix in ["META#", "RES#", "IDX#", "SEEN#"] {
        for item in query_all(store, &partition, prefix).await? {
            let state = if prefix == "RES#" { codec::read::<ResourceRecord>(&item).ok() } else { None };
            let account = state.and_then(|state| state.account);
            removals.extend(account.map(|account| removal(keys::account_key(&record.element, &account, record.id))));
            removals.push(removal(item.key));
        }
    }
    Ok(removals)
}

/// The removal of the record index of one resource.
///
/// # Errors
/// The store failed.
pub async fn index_removal(store: &dyn Store, id: InstanceId, resource: &str) -> Result<Vec<Write>, StoreError> {
    let items = query_all(store, &keys::instance_partition(id), &keys::index_prefix(resource)).await?;
    Ok(items.into_iter().map(|item| removal(item.key)).collect())
}

fn removal(key: Key) -> Write {
    Write::Delete { key, condition: Condition::Unconditional }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored words stay as they are: these literals may never change.
    #[test]
    fn formats_and_policies_are_stored_as_their_words() {
        for (format, policy, stored) in [
            (NotificationFormat::Elements, FailurePolicy::Retry, r#""format":"elements","failure_policy":"retry""#),
            (
                NotificationFormat::CloudEvents,
                FailurePolicy::Queue,
                r#""format":"cloudevents","failure_policy":"queue""#,
            ),
            (
                NotificationFormat::CloudEventsBatch,
                FailurePolicy::Queue,
                r#""format":"cloudevents-batch","failure_policy":"queue""#,
            ),
        ] {
            let record = CallbackRecord { url: "u".into(), format, failure_policy: policy, coalesce: true };
            let text = format!(r#"{{"url":"u",{stored},"coalesce":true}}"#);
            assert_eq!(serde_json::to_string(&record).expect("text"), text);
            assert_eq!(serde_json::from_str::<CallbackRecord>(&text).expect("a record"), record);
        }
        let later = r#"{"url":"u","format":"avro","failure_policy":"later"}"#;
        let record: CallbackRecord = serde_json::from_str(later).expect("a record");
        assert_eq!((record.format, record.failure_policy), Default::default());
    }
}
