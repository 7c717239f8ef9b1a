//! Every key and prefix of the table. Nothing outside this crate builds one.

use std::fmt::Display;

use chrono::{DateTime, Utc};
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::retry_minute::RetryMinute;
use domain::wheel::Slot;

use crate::port::Key;

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

/// Start of the sort keys of resource states.
pub const RESOURCE_PREFIX: &str = "RES#";

/// Key of a resource's state.
pub fn resource_key(id: InstanceId, resource: &str) -> Key {
    Key::new(instance_partition(id), format!("{RESOURCE_PREFIX}{resource}"))
}

/// Key of the listing item that an organization's page of instances is read from. Zero-padded: ordered by id.
pub fn listing_key(organization: OrganizationId, id: InstanceId) -> Key {
    Key::new(organization_partition(organization), format!("INST#{:016}", id.0))
}

/// Partition of an organization's listing.
pub fn organization_partition(organization: OrganizationId) -> String {
    format!("ORG#{organization}")
}

/// Partition of all organizations.
pub const ORGANIZATIONS: &str = "ORGS";

/// Key of an organization. Zero-padded: ordered by id.
pub fn organization_key(id: OrganizationId) -> Key {
    Key::new(ORGANIZATIONS, format!("{:016}", id.0))
}

/// Start of the sort keys of users.
pub const USER_PREFIX: &str = "USER#";

/// Key of a user of an organization.
pub fn user_key(organization: OrganizationId, user: UserId) -> Key {
    Key::new(organization_partition(organization), format!("{USER_PREFIX}{:016}", user.0))
}

/// Key of an organization's limits and count.
pub fn account_limits_key(organization: OrganizationId) -> Key {
    Key::new(organization_partition(organization), "LIMITS")
}

/// Start of the sort keys of audit entries.
pub const AUDIT_PREFIX: &str = "AUDIT#";

/// Key of an audit entry: by time, then by which version of what was changed.
pub fn audit_key(organization: OrganizationId, at: DateTime<Utc>, subject: &str, version: impl Display) -> Key {
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
pub fn retry_partition(minute: RetryMinute) -> String {
    format!("RETRY#{minute}")
}

/// Key of one delivery's entry among those due in a minute.
pub fn retry_key(minute: RetryMinute, instance: InstanceId, delivery: &str) -> Key {
    Key::new(retry_partition(minute), format!("{instance}#{delivery}"))
}

/// A resource name as part of a longer sort key: `#` separates there, so it is written otherwise.
fn in_key(resource: &str) -> String {
    resource.replace('%', "%25").replace('#', "%23")
}

/// Start of the sort keys of a resource's index buckets.
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

/// Partition of what the timing wheel keeps.
pub const WHEEL: &str = "WHEEL";

/// Start of the sort keys of intervals in use.
pub const INTERVAL_PREFIX: &str = "INTERVAL#";

/// Key of how far the dispatcher got.
pub fn hand_key() -> Key {
    Key::new(WHEEL, "HAND")
}

/// Key of the mark that an interval is in use.
pub fn interval_key(interval: u16) -> Key {
    Key::new(WHEEL, format!("{INTERVAL_PREFIX}{interval:04}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored keys stay as they are: these literals may never change.
    #[test]
    fn what_belongs_to_one_resource_or_account_lies_apart() {
        let id = InstanceId(7);
        assert_eq!(bucket_key(id, "a#b%c", 26), Key::new("INST#7", "IDX#a%23b%25c#0000001a"));
        assert_eq!(seen_key(id, "a#b", 1), Key::new("INST#7", "SEEN#a%23b#00000001"));
        assert_eq!(account_key("square", "me", id), Key::new("ACCOUNT#square#me", "7"));
        let minute = RetryMinute::at(DateTime::from_timestamp(300, 0).unwrap_or_default());
        assert_eq!(retry_key(minute, id, "d"), Key::new("RETRY#5", "7#d"));
        assert_eq!(slot_key(Slot { interval: 5, minute: 3 }, id, "r"), Key::new("SLOT#5#3", "7#r"));
        assert_eq!(interval_key(5), Key::new("WHEEL", "INTERVAL#0005"));
        assert_eq!(hand_key(), Key::new("WHEEL", "HAND"));
    }
}
