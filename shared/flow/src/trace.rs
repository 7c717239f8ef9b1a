//! One id from a poll to the callback: in every log line of either, in the delivery's row, and in the `traceparent`
//! header that the receiver gets. It follows from what a poll is, so that nobody has to hand it on.

use chrono::{DateTime, Utc};
use domain::id::InstanceId;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The id of a poll, and of all it files: 32 hex digits, as Trace Context (W3C) has them.
pub fn of_poll(instance: InstanceId, resource: &str, began: DateTime<Utc>) -> String {
    // Trace Context forbids zero.
    format!("{:032x}", xxh3_128(format!("{instance} {} {resource}", began.timestamp_micros()).as_bytes()).max(1))
}

/// The header of one attempt at a delivery; the attempt is the parent of whatever the receiver does.
pub fn traceparent(trace: &str, delivery: &str, attempt: u32) -> String {
    let span = xxh3_64(format!("{attempt} {delivery}").as_bytes()).max(1);
    format!("00-{trace}-{span:016x}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_have_ids_of_their_own_and_attempts_share_them() {
        let began: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
        let poll = of_poll(InstanceId(7), "orders", began);
        assert_eq!((poll.len(), &poll), (32, &of_poll(InstanceId(7), "orders", began)));
        for other in [of_poll(InstanceId(8), "orders", began), of_poll(InstanceId(7), "items", began)] {
            assert_ne!(poll, other);
        }
        let (first, second) = (traceparent(&poll, "d", 1), traceparent(&poll, "d", 2));
        assert!(first != second && first.starts_with(&format!("00-{poll}-")) && first.ends_with("-01"), "{first}");
        assert_eq!(first.len(), 55);
    }
}
