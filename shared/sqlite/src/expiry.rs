//! Decides whether the clock is believed enough to delete what has expired.
//!
//! A clock that is wrong for a while must not cost data that is kept for weeks. Expired items are deleted only after
//! the wall clock has run evenly beside the monotonic one for a while; a leap starts that while again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};

/// A wall clock that differs from the monotonic one by more has leapt.
const LEAP: TimeDelta = TimeDelta::minutes(2);

/// The pace at which expired items are deleted.
#[derive(Clone)]
pub struct Expiry {
    /// The wall clock.
    pub now: Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>,
    /// The clock must have run evenly for this long.
    pub settle: Duration,
    /// Time between two looks at what has expired, where the last one left nothing.
    pub every: Duration,
}

impl Default for Expiry {
    fn default() -> Self {
        let now = || DateTime::from(SystemTime::now());
        Self { now: Arc::new(now), settle: Duration::from_secs(60 * 60), every: Duration::from_secs(60) }
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Expiry")
            .field("settle", &self.settle)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// Compares the two clocks.
pub(crate) struct Watch {
    expiry: Expiry,
    even_since: (Instant, DateTime<Utc>),
}

impl Watch {
    pub(crate) fn new(expiry: Expiry) -> Self {
        let even_since = (Instant::now(), (expiry.now)());
        Self { expiry, even_since }
    }

    /// The present instant, where it is to be believed.
    pub(crate) fn now(&mut self) -> Option<DateTime<Utc>> {
        self.at(Instant::now(), (self.expiry.now)())
    }

    pub(crate) fn every(&self) -> Duration {
        self.expiry.every
    }

    fn at(&mut self, monotonic: Instant, wall: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let even = monotonic.saturating_duration_since(self.even_since.0);
        let expected = self.even_since.1 + even;
        if (wall - expected).abs() > LEAP {
            self.even_since = (monotonic, wall);
            return None;
        }
        (even >= self.expiry.settle).then_some(wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_believed_when_it_has_run_evenly_and_not_after_a_leap() {
        let mut watch = Watch::new(Expiry::default());
        let (start, wall) = watch.even_since;
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let mut at = |monotonic: u64, shown: DateTime<Utc>| watch.at(start + minutes(monotonic), shown);
        assert_eq!(at(59, wall + minutes(59)), None);
        let late = wall + minutes(61);
        assert_eq!(at(60, late), Some(late));
        let ahead = wall + TimeDelta::days(100);
        assert_eq!(at(61, ahead + minutes(61)), None);
        assert_eq!(at(62, ahead + minutes(62)), None);
        assert_eq!(at(63, wall + minutes(63)), None, "it leapt back");
        assert_eq!(at(122, wall + minutes(122)), None);
        assert_eq!(at(123, wall + minutes(123)), Some(wall + minutes(123)));
    }
}
