//! A callback that hangs must not hold every attempt of this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Unused entries are dropped when there are more than so many.
const MOST_IDLE: usize = 1000;

/// How many attempts at once one callback may have in this process. Other processes count for themselves; how many
/// there are is the event source's `MaximumConcurrency`.
pub struct CallbackLimits {
    each: usize,
    by_callback: Mutex<HashMap<String, Arc<Semaphore>>>,
}

impl Default for CallbackLimits {
    fn default() -> Self {
        Self::new(4)
    }
}

impl CallbackLimits {
    /// At most `each` at once for one callback.
    pub fn new(each: usize) -> Self {
        Self { each, by_callback: Mutex::default() }
    }

    /// A place for one attempt, until it is dropped. None: all are taken; waiting for one would let a hanging
    /// callback hold this process, so the job had better come later.
    pub fn enter(&self, callback: &str) -> Option<OwnedSemaphorePermit> {
        let mut by_callback = self.by_callback.lock().unwrap_or_else(PoisonError::into_inner);
        if by_callback.len() > MOST_IDLE {
            by_callback.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        let semaphore = by_callback.entry(callback.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.each)));
        semaphore.clone().try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_callback_does_not_fill_another() {
        let limits = CallbackLimits::new(2);
        let held: Vec<_> = (0..2).map(|_| limits.enter("dead").expect("a place")).collect();
        assert!(limits.enter("dead").is_none());
        assert!(limits.enter("healthy").is_some());
        drop(held);
        assert!(limits.enter("dead").is_some());
    }
}
