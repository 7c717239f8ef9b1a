//! The timing wheel as it is stored: which resource is a member of which slot, which intervals are in use.

use domain::id::InstanceId;
use domain::wheel::Slot;

use super::job::PollJob;
use crate::keys;
use crate::pages::Section;
use crate::port::Range;
use crate::record::RecordKey;

/// Key of a resource's membership in its slot.
pub fn member_key(slot: Slot, instance: InstanceId, resource: &str) -> RecordKey<PollJob> {
    RecordKey::of(keys::slot_key(slot, instance, resource))
}

/// The members of a slot.
pub fn members(slot: Slot) -> Section<PollJob> {
    Section::of(keys::slot_partition(slot), Range::all())
}

/// Key of the mark that an interval is in use.
pub fn interval_key(interval: u16) -> RecordKey<()> {
    RecordKey::of(keys::interval_key(interval))
}
