//! A callback that hangs must not hold every attempt of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use store::ambient::{Ambient, within};

/// Unused entries are dropped when there are more than so many.
const MOST_IDLE: usize = 1000;

/// One deadline over connect, headers and body: the lower end of what Standard Webhooks advises.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// The limits of attempts: their deadline, and how many at once one callback may have in this process. Other processes count for themselves; how many
/// there are is the event source's `MaximumConcurrency`.
pub struct CallbackLimits {
    each: usize,
    deadline: Duration,
    by_callback: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for CallbackLimits {
    fn default() -> Self {
        Self::new(4, DEADLINE)
    }
}

impl CallbackLimits {
    /// At most `each` at once for one callback, each for at most `deadline`.
    pub fn new(each: usize, deadline: Duration) -> Self {
        Self { each, deadline, by_callback: Mutex::default() }
    }

    /// The deadline of an attempt.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// A place for one attempt, until it is dropped. At a callback that answers, one is soon free and is waited for,
    /// a fifteenth of the deadline at most. None: all stayed taken, as by a callback that hangs; the job had better
    /// come later than hold this process, too.
    pub async fn enter(&self, ambient: &dyn Ambient, callback: &str) -> Option<OwnedSemaphorePermit> {
        let places = self.places(callback);
        within(ambient, self.deadline / 15, places.acquire_owned()).await?.ok()
    }

    fn places(&self, callback: &str) -> Arc<Semaphore> {
        let mut by_callback = self.by_callback.lock().unwrap_or_else(PoisonError::into_inner);
        if by_callback.len() > MOST_IDLE {
            by_callback.retain(|_, places| Arc::strong_count(places) > 1);
        }
        by_callback.entry(callback.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.each))).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FixedAmbient;

    #[tokio::test]
    async fn a_full_callback_does_not_fill_another() {
        let ambient = FixedAmbient::at("2026-01-05T09:00:00Z");
        let limits = CallbackLimits::new(2, Duration::from_millis(15));
        let held = (
            limits.enter(&ambient, "dead").await.expect("a place"),
            limits.enter(&ambient, "dead").await.expect("a place"),
        );
        assert!(limits.enter(&ambient, "dead").await.is_none());
        assert!(limits.enter(&ambient, "healthy").await.is_some());
        drop(held);
        assert!(limits.enter(&ambient, "dead").await.is_some());
    }

    #[tokio::test]
    async fn a_place_is_waited_for_a_fifteenth_of_the_deadline() {
        let ambient = FixedAmbient::at("2026-01-05T09:00:00Z").leaping();
        let limits = CallbackLimits::new(1, Duration::from_secs(15));
        let began = ambient.now();
        let _held = limits.enter(&ambient, "slow").await.expect("a place");
        assert!(limits.enter(&ambient, "slow").await.is_none());
        assert_eq!(ambient.now() - began, chrono::TimeDelta::seconds(1));
    }

    #[tokio::test]
    async fn callbacks_without_attempts_are_forgotten_when_there_are_many() {
        let ambient = FixedAmbient::at("2026-01-05T09:00:00Z");
        let limits = CallbackLimits::default();
        let count = || limits.by_callback.lock().unwrap_or_else(PoisonError::into_inner).len();
        let held = limits.enter(&ambient, "held").await.expect("a place");
        for n in 0..MOST_IDLE {
            drop(limits.enter(&ambient, &n.to_string()).await.expect("a place"));
        }
        assert_eq!(count(), MOST_IDLE + 1);
        drop(limits.enter(&ambient, "one more").await.expect("a place"));
        assert_eq!(count(), 2, "the one that is held, and the newest");
        drop(held);
    }
}
