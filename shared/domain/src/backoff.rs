//! When a failing poll is tried again.

use std::time::Duration;

/// First pause after a failure.
pub const FIRST_PAUSE: Duration = Duration::from_secs(30);
/// Longest pause of our own choosing.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Longest pause that a vendor can ask for: a day.
pub const LONGEST_ASKED_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// A number from 0 to 1, drawn in the shell once a decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// Of 64 random bits.
    pub fn from_random(bits: u64) -> Self {
        Self((bits >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// `base` moved by up to `share` of itself either way.
    pub fn spread(self, base: Duration, share: f64) -> Duration {
        base.mul_f64(1.0 + share * (2.0 * self.0 - 1.0))
    }
}

/// The pause after the `failures`-th failure in a row (from 1): doubling from [`FIRST_PAUSE`], moved by up to a
/// fifth, and never shorter than what the vendor asked for, within [`LONGEST_ASKED_PAUSE`].
pub fn pause(failures: u32, asked: Option<Duration>, jitter: Jitter) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    let own = jitter.spread(doubled, 0.2);
    own.max(asked.unwrap_or_default().min(LONGEST_ASKED_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_are_bounded_and_honour_the_vendor() {
        let middle = Jitter::from_random(1 << 63);
        let seconds: Vec<u64> = (1..=9).map(|n| pause(n, None, middle).as_secs()).collect();
        assert_eq!(seconds, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(pause(1, Some(Duration::from_secs(300)), middle).as_secs(), 300);
        assert_eq!(pause(1, Some(Duration::from_secs(1 << 40)), middle), LONGEST_ASKED_PAUSE);
        assert_eq!(pause(200, None, Jitter::from_random(u64::MAX)).as_secs(), 4320);
        assert_eq!(pause(1, None, Jitter::from_random(0)).as_secs(), 24);
    }
}
