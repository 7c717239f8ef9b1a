//! Measures how late records appear in a vendor's listings, and derives the overlap from it.
//!
//! A record that a pass sees for the first time although its stamp lies before the *previous* pass was not yet
//! listed then: it was late by at least the time between the two. Records within the overlap cost reads and are
//! dropped by the index; records later than the overlap would cost events, so the overlap starts generous.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Overlap until enough was measured. Search indexes that lag are minutes late, not hours.
pub const PRIOR_OVERLAP: Duration = Duration::from_secs(15 * 60);
/// Records that must have been seen before the measured overlap may fall below [`PRIOR_OVERLAP`].
pub const ENOUGH_SAMPLES: u64 = 1000;
/// The overlap never grows beyond this: later records are found by the sweep.
pub const LARGEST_OVERLAP: Duration = Duration::from_secs(6 * 3600);
/// Records that make a measure. Then all counts are halved, so that an improvement of the vendor counts.
const FORGET_AT: u64 = 20_000;
/// The overlap is this many times the latest lateness but one in a thousand.
const MARGIN: u32 = 2;

/// Histogram over powers of two: bucket 0 counts records on time, bucket `n` lateness below 2^n seconds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lateness(Vec<u64>);

impl Lateness {
    /// Counts a record that was first seen `late` after it should have been.
    pub fn count(&mut self, late: Duration) {
        let bucket = if late.is_zero() { 0 } else { (u64::BITS - late.as_secs().leading_zeros() + 1) as usize };
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] += 1;
        if self.samples() >= FORGET_AT {
            self.0.iter_mut().for_each(|count| *count /= 2);
        }
    }

    /// The number of records that were counted.
    pub fn samples(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Lateness that all but one in a thousand records stay below, rounded up to a power of two seconds.
    pub fn usual_worst(&self) -> Duration {
        let mut above = self.samples() / 1000;
        for (bucket, count) in self.0.iter().enumerate().rev() {
            if *count > above {
                return if bucket == 0 { Duration::ZERO } else { Duration::from_secs(1 << (bucket - 1).min(32)) };
            }
            above -= count;
        }
        Duration::ZERO
    }

    /// The stretch below the cursor that the next pass reads again: at least `floor`.
    pub fn overlap(&self, floor: Duration) -> Duration {
        let measured = self.usual_worst() * MARGIN;
        let prior = if self.samples() < ENOUGH_SAMPLES { PRIOR_OVERLAP } else { Duration::ZERO };
        measured.max(prior).min(LARGEST_OVERLAP).max(floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_starts_generous_follows_the_measure_and_is_bounded() {
        let mut lateness = Lateness::default();
        assert_eq!(lateness.overlap(Duration::from_secs(120)), PRIOR_OVERLAP);
        for _ in 0..2000 {
            lateness.count(Duration::ZERO);
        }
        assert_eq!(lateness.overlap(Duration::from_secs(120)), Duration::from_secs(120));
        for _ in 0..10 {
            lateness.count(Duration::from_secs(400));
        }
        assert_eq!(lateness.usual_worst(), Duration::from_secs(512));
        assert_eq!(lateness.overlap(Duration::from_secs(120)), Duration::from_secs(1024));
        for _ in 0..1000 {
            lateness.count(Duration::from_secs(90_000));
        }
        assert_eq!(lateness.overlap(Duration::ZERO), LARGEST_OVERLAP);
    }

    #[test]
    fn a_slow_past_is_forgotten() {
        let mut lateness = Lateness::default();
        for _ in 0..100 {
            lateness.count(Duration::from_secs(3000));
        }
        for _ in 0..90_000 {
            lateness.count(Duration::ZERO);
        }
        assert_eq!(lateness.overlap(Duration::from_secs(120)), Duration::from_secs(120));
        assert!(lateness.samples() >= ENOUGH_SAMPLES);
    }

    #[test]
    fn counts_are_halved_when_there_are_many() {
        let mut lateness = Lateness::default();
        for _ in 0..FORGET_AT - 1 {
            lateness.count(Duration::ZERO);
        }
        assert_eq!(lateness.samples(), FORGET_AT - 1);
        lateness.count(Duration::ZERO);
        assert_eq!(lateness.samples(), FORGET_AT / 2);
    }

    #[test]
    fn enough_is_enough() {
        let mut lateness = Lateness::default();
        for _ in 0..ENOUGH_SAMPLES - 1 {
            lateness.count(Duration::ZERO);
        }
        assert_eq!(lateness.overlap(Duration::from_secs(120)), PRIOR_OVERLAP);
        lateness.count(Duration::ZERO);
        assert_eq!(lateness.overlap(Duration::from_secs(120)), Duration::from_secs(120));
    }

    /// Checks the lateness of all but one in a thousand, given pairs of a count and seconds.
    #[test]
    fn the_latest_are_counted_from_above() {
        let usual_worst = |counts: &[(u32, u64)]| {
            let mut lateness = Lateness::default();
            for (count, seconds) in counts {
                (0..*count).for_each(|_| lateness.count(Duration::from_secs(*seconds)));
            }
            lateness.usual_worst().as_secs()
        };
        assert_eq!(usual_worst(&[(999, 1), (1, 5000)]), 2);
        assert_eq!(usual_worst(&[(998, 1), (2, 5000)]), 8192);
        assert_eq!(usual_worst(&[(1997, 1), (2, 1000), (1, 5000)]), 1024);
        assert_eq!(usual_worst(&[(1998, 1), (1, 1000), (1, 5000)]), 2);
    }

    #[test]
    fn one_in_a_thousand_does_not_count() {
        let mut lateness = Lateness::default();
        for _ in 0..1999 {
            lateness.count(Duration::from_secs(1));
        }
        lateness.count(Duration::from_secs(5000));
        assert_eq!(lateness.usual_worst(), Duration::from_secs(2));
    }
}
