//! The timing wheel as it is stored: which resource is a member of which slot, which intervals are in use.

use domain::id::InstanceId;
use domain::retry_minute::RetryMinute;
use domain::wheel::Slot;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::instance::InstanceRecord;
use super::job::PollJob;
use crate::keys;
use crate::pages::Section;
use crate::port::{Range, Store, Write};
use crate::record::{RecordError, RecordKey};

/// Key of a resource's membership in its slot.
pub fn member_key(slot: Slot, instance: InstanceId, resource: &str) -> RecordKey<PollJob> {
    RecordKey::of(keys::slot_key(slot, instance, resource))
}

/// The members of a slot.
pub fn members(slot: Slot) -> Section<PollJob> {
    Section::of(keys::slot_partition(slot), Range::all())
}

/// Puts a resource into the slot of its interval, in minutes.
pub fn join(instance: &InstanceRecord, resource: &str, interval: u16) -> Write {
    let (organization, id) = (instance.organization, instance.id);
    let job = PollJob { organization, instance: id, resource: resource.to_owned(), minute: 0 };
    member_key(Slot::of(id, resource, interval), id, resource).put(&job)
}

/// Takes a resource out of the slot of its interval.
pub fn leave(instance: InstanceId, resource: &str, interval: u16) -> Write {
    member_key(Slot::of(instance, resource, interval), instance, resource).delete()
}

/// Key of the mark that an interval is in use.
pub fn interval_key(interval: u16) -> RecordKey<u16> {
    RecordKey::of(keys::interval_key(interval))
}

/// Marks an interval as in use. No slot of it is without the mark: it is written before the first.
pub fn mark_interval(interval: u16) -> Write {
    interval_key(interval).put(&interval)
}

/// The intervals in use, in minutes.
///
/// # Errors
/// The store failed.
pub async fn intervals(store: &dyn Store) -> Result<Vec<u16>, RecordError> {
    // The body repeats the interval and is not read.
    let marks = Section::<IgnoredAny>::of(keys::WHEEL, Range::prefix(keys::INTERVAL_PREFIX)).all(store).await?;
    let minutes = |sk: &str| sk.strip_prefix(keys::INTERVAL_PREFIX)?.parse().ok();
    Ok(marks.iter().filter_map(|mark| minutes(&mark.key().as_key().sk)).collect())
}

/// The progress of the dispatcher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DispatchedUntil {
    /// Length of a polling minute, in milliseconds; `minute` counts these.
    pub minute_ms: u64,
    /// The last polling minute that was dispatched.
    pub minute: i64,
    /// The last minute of retries that was dispatched.
    pub retry_minute: RetryMinute,
}

/// Key of how far the dispatcher got.
pub fn dispatched_until_key() -> RecordKey<DispatchedUntil> {
    RecordKey::of(keys::hand_key())
}
