//! Ids that are derived and never drawn. The same fact, found again after a crash or in an overlap, gets the same id,
//! and a record that goes from A to B and back to A gets a new one each time.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::id::{DeliveryId, EventId, InstanceId};

/// SHA-256 over a name for the kind of id and its parts, each with its length before it, so that no two
/// different lists of parts read the same.
fn digest<'a>(kind: &'a str, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(kind.as_bytes()).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// 20 characters of base64url over the first 120 bits: the shape of Cloud Elements' event ids, and long enough
/// that two of 10^15 ids collide with a chance below one in a million.
fn text(digest: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(&digest[..15])
}

/// The id of the fact that this record reached this revision. `partition` is [`crate::record::Record::partition`].
pub fn event_id(instance: InstanceId, resource: &str, partition: &str, record_id: &str, revision: u32) -> EventId {
    let (instance, revision) = (instance.0.to_be_bytes(), revision.to_be_bytes());
    let parts = [&instance[..], resource.as_bytes(), partition.as_bytes(), record_id.as_bytes(), &revision[..]];
    EventId(text(&digest("pollux event v1", parts)))
}

/// The ids of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationIds {
    /// `message.eventId`, `Elements-Webhook-Id` and `webhook-id`.
    pub delivery: DeliveryId,
    /// `id` of the envelope: a positive number of at most 63 bits, as decimal digits.
    pub number: String,
}

/// The ids of a notification of these events, in this order.
pub fn notification_ids<'a>(events: impl IntoIterator<Item = &'a EventId>) -> NotificationIds {
    let digest = digest("pollux delivery v1", events.into_iter().map(|event| event.0.as_bytes()));
    let number = digest[16..24].iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)) >> 1;
    NotificationIds { delivery: DeliveryId(text(&digest)), number: number.max(1).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_is_the_same_for_ever() {
        // Stored ids must survive an upgrade: this literal may never change.
        assert_eq!(event_id(InstanceId(42), "contacts", "", "c-1", 1).0, "rZgMOET62qia1B9y9Wp-");
        let ids = notification_ids(&[event_id(InstanceId(42), "contacts", "", "c-1", 1)]);
        assert_eq!((ids.delivery.0.as_str(), ids.number.as_str()), ("xSa2v-gurxdY_uK7uxiM", "140284583375437965"));
    }

    #[test]
    fn every_part_of_an_event_counts_and_parts_do_not_run_together() {
        let mut ids = vec![
            event_id(InstanceId(1), "ab", "c", "d", 1),
            event_id(InstanceId(2), "ab", "c", "d", 1),
            event_id(InstanceId(1), "a", "bc", "d", 1),
            event_id(InstanceId(1), "ab", "", "cd", 1),
            event_id(InstanceId(1), "ab", "c", "d", 2),
            event_id(InstanceId(1), "ab", "c", "d", 256),
        ];
        assert!(ids.iter().all(|id| id.0.len() == 20));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 6);
    }

    #[test]
    fn a_notification_is_named_by_its_events_in_order() {
        let [a, b] = [1, 2].map(|revision| event_id(InstanceId(1), "r", "", "x", revision));
        assert_eq!(notification_ids([&a, &b]), notification_ids([&a, &b]));
        assert_ne!(notification_ids([&a, &b]), notification_ids([&b, &a]));
        assert_ne!(notification_ids([&a]), notification_ids([&a, &b]));
        assert!(notification_ids([&a]).number.parse::<i64>().is_ok_and(|number| number > 0));
    }
}
