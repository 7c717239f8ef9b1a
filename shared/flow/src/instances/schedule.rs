//! Slots and intervals: the places of an instance's resources on the timing wheel.

use std::collections::{BTreeMap, BTreeSet};

use domain::configuration::{EventSettings, ResourceConfiguration};
use store::records::instance::InstanceRecord;
use store::records::schedule;
use store::{StoreError, Write};

use crate::ports::Ports;

/// Every resource that is configured, with the minutes between its polls.
pub(super) fn intervals(settings: &EventSettings) -> BTreeMap<String, u16> {
    let of = |resource: &ResourceConfiguration| resource.interval_minutes.unwrap_or(settings.interval_minutes);
    settings.resources.iter().map(|(name, resource)| (name.clone(), of(resource))).collect()
}

/// Every resource that is stored, with the minutes between its polls.
pub(super) fn stored_intervals(record: &InstanceRecord) -> BTreeMap<String, u16> {
    record.resources.keys().map(|name| (name.clone(), record.interval_of(name))).collect()
}

/// The resources that are polled, with the minutes between their polls: none while events are switched off.
pub(super) fn polled(record: &InstanceRecord) -> BTreeMap<String, u16> {
    if record.events_enabled { stored_intervals(record) } else { BTreeMap::new() }
}

/// Takes every resource of the instance off the wheel.
pub(super) fn leave_all(record: &InstanceRecord) -> Vec<Write> {
    let leave = |(resource, interval): (String, u16)| schedule::leave(record.id, &resource, interval);
    polled(record).into_iter().map(leave).collect()
}

/// Marks the intervals as in use, before any slot of theirs exists: a slot is never without its mark.
pub(super) async fn mark_intervals(ports: &Ports, settings: &EventSettings) -> Result<(), StoreError> {
    if !settings.enabled {
        return Ok(());
    }
    let used: BTreeSet<u16> = intervals(settings).into_values().collect();
    let marks: Vec<Write> = used.into_iter().map(schedule::mark_interval).collect();
    store::write_each(&*ports.store, &marks).await
}
