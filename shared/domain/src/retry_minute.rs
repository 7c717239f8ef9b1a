//! The minutes under which deliveries are filed for their next attempt.
//!
//! They stand in stored keys, so they are minutes of the clock however fast the polling schedule runs: a service that is
//! started with another speed finds what the last one filed. A polling minute cannot be taken for one.

use std::fmt;
use std::ops::{Add, Sub};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

const MILLISECONDS: i64 = 60_000;

/// A minute since 1970 in which deliveries are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RetryMinute(i64);

impl RetryMinute {
    /// The minute that an instant falls in.
    pub fn at(instant: DateTime<Utc>) -> Self {
        Self(instant.timestamp_millis().div_euclid(MILLISECONDS))
    }

    /// The first instant of the minute.
    pub fn start(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0.saturating_mul(MILLISECONDS)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Every minute from this to the last, both included; none if the last is earlier.
    pub fn through(self, last: Self) -> impl Iterator<Item = Self> {
        (self.0..=last.0).map(Self)
    }
}

impl Add<i64> for RetryMinute {
    type Output = Self;

    fn add(self, minutes: i64) -> Self {
        Self(self.0.saturating_add(minutes))
    }
}

impl Sub<i64> for RetryMinute {
    type Output = Self;

    fn sub(self, minutes: i64) -> Self {
        Self(self.0.saturating_sub(minutes))
    }
}

impl Sub for RetryMinute {
    type Output = i64;

    /// The minutes from the other to this one.
    fn sub(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for RetryMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_minute_is_stored_as_its_number_and_begins_on_the_minute() {
        let instant = |seconds| DateTime::from_timestamp(seconds, 0).unwrap_or_default();
        let minute = RetryMinute::at(instant(119));
        assert_eq!(serde_json::to_string(&minute).unwrap_or_default(), "1");
        assert_eq!((minute + 2).to_string(), "3");
        assert_eq!((minute.start(), RetryMinute::at(instant(120)) - 1), (instant(60), minute));
        assert_eq!(RetryMinute::at(instant(-1)).to_string(), "-1");
        assert_eq!(minute.through(minute + 2).map(|minute| minute.to_string()).collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(minute.through(minute - 1).count(), 0);
    }
}
