//! The timing wheel: finds the resources that are due, without a write to schedule them.
//!
//! A resource with interval `I` stays in slot `hash(instance, resource) mod I`, and at minute `m` exactly
//! the slots `(I, m mod I)` are due. The dispatcher reads those, the poller never writes them.

use std::time::Duration;

use chrono::{DateTime, Utc};
use xxhash_rust::xxh3::xxh3_64;

use crate::id::InstanceId;

/// The smallest interval, in minutes.
pub const SHORTEST_INTERVAL: u16 = 1;
/// The largest interval, in minutes: a day. A larger number is read as this one: clients "park" a poller with 999999999.
pub const LONGEST_INTERVAL: u16 = 1440;

/// The length of a wheel minute. It is a minute, except where a local run turns the wheel faster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wheel {
    minute_ms: i64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self::MINUTES
    }
}

impl Wheel {
    /// The wheel whose minutes are minutes.
    pub const MINUTES: Wheel = Wheel { minute_ms: 60_000 };

    /// A wheel whose minute lasts `minute`, at least a millisecond.
    pub fn turning(minute: Duration) -> Self {
        Self { minute_ms: i64::try_from(minute.as_millis()).unwrap_or(i64::MAX).max(1) }
    }

    /// Number of the wheel minute that `instant` falls in, counted from 1970.
    pub fn minute_of(&self, instant: DateTime<Utc>) -> i64 {
        instant.timestamp_millis().div_euclid(self.minute_ms)
    }

    /// First instant of a wheel minute.
    pub fn start_of(&self, minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(minute.saturating_mul(self.minute_ms)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// The length of a wheel minute.
    pub fn minute(&self) -> Duration {
        Duration::from_millis(self.minute_ms.unsigned_abs())
    }
}

/// The place of a resource on the wheel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    /// Interval in minutes.
    pub interval: u16,
    /// Minute within the interval, `0..interval`.
    pub minute: u16,
}

impl Slot {
    /// The slot of a resource: fixed by its name and its instance, spread evenly by the hash.
    pub fn of(instance: InstanceId, resource: &str, interval: u16) -> Self {
        Self { interval, minute: (place(instance, resource) % u64::from(interval)) as u16 }
    }

    /// The slot of this interval that is due at `minute`.
    pub fn due(interval: u16, minute: i64) -> Self {
        Self { interval, minute: minute.rem_euclid(i64::from(interval)) as u16 }
    }
}

/// The resource's place on every wheel: 64 bits of hash.
pub fn place(instance: InstanceId, resource: &str) -> u64 {
    let mut bytes = Vec::with_capacity(8 + resource.len());
    bytes.extend_from_slice(&instance.0.to_le_bytes());
    bytes.extend_from_slice(resource.as_bytes());
    xxh3_64(&bytes)
}

/// The next minute after `minute` in which the resource is due.
pub fn next_due(instance: InstanceId, resource: &str, interval: u16, minute: i64) -> i64 {
    let slot = i64::from(Slot::of(instance, resource, interval).minute);
    let step = (slot - minute - 1).rem_euclid(i64::from(interval));
    minute + 1 + step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resource_is_due_once_in_each_interval() {
        for interval in [1, 5, 15, 1440] {
            let mine = Slot::of(InstanceId(7), "timesheets", interval);
            let due: Vec<i64> =
                (100_000..100_000 + i64::from(interval)).filter(|m| Slot::due(interval, *m) == mine).collect();
            assert_eq!(due.len(), 1);
            assert_eq!(next_due(InstanceId(7), "timesheets", interval, due[0]), due[0] + i64::from(interval));
            assert_eq!(next_due(InstanceId(7), "timesheets", interval, due[0] - 1), due[0]);
        }
    }

    #[test]
    fn a_thousand_resources_spread_over_the_wheel() {
        let mut slots = [0u32; 15];
        for instance in 1..=1500 {
            slots[usize::from(Slot::of(InstanceId(instance), "contacts", 15).minute)] += 1;
        }
        assert!(slots.iter().all(|n| (60..=140).contains(n)), "{slots:?}");
    }

    #[test]
    fn a_faster_wheel_counts_more_minutes() {
        let instant = DateTime::from_timestamp(120, 0).unwrap_or_default();
        assert_eq!(Wheel::default().minute_of(instant), 2);
        assert_eq!(Wheel::turning(Duration::from_secs(1)).minute_of(instant), 120);
        assert_eq!(Wheel::turning(Duration::from_secs(1)).start_of(120), instant);
        assert_eq!(Wheel::turning(Duration::from_secs(1)).minute(), Duration::from_secs(1));
    }
}
