//! The limit on the calls that one process works on at once. A call beyond it is refused immediately, which costs next
//! to nothing, so that the admitted calls are answered in time and polls and deliveries in the same process go on.
//!
//! In the cloud the gateway's rate and the account's concurrency set this limit. A process that serves all callers by
//! itself needs one of its own.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;

/// Seconds after which a refused call may be tried again.
const RETRY_AFTER_S: &str = "1";

/// Calls that may be under way at once, in all and of one caller. Clones share it.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimit {
    most: usize,
    most_of_one: usize,
    under_way: Arc<Mutex<Calls>>,
}

#[derive(Debug, Default)]
struct Calls {
    /// Calls by the hash of the Authorization header. The handlers check the header later.
    by_caller: HashMap<u64, usize>,
    total: usize,
    hasher: RandomState,
}

impl Default for ConcurrencyLimit {
    /// 64 calls, 48 of one caller. One table answers some thousand reads a second, so 64 calls take a fraction of a
    /// second. One caller leaves a quarter to the others.
    fn default() -> Self {
        Self::new(64, 48)
    }
}

/// An admitted call. Dropping it ends the call.
struct UnderWay {
    limit: ConcurrencyLimit,
    caller: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut calls = self.limit.under_way();
        calls.total -= 1;
        if let Some(of_caller) = calls.by_caller.get_mut(&self.caller) {
            *of_caller -= 1;
            if *of_caller == 0 {
                calls.by_caller.remove(&self.caller);
            }
        }
    }
}

impl ConcurrencyLimit {
    /// Allows `most` calls at once, `most_of_one` of them of one caller.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, under_way: Arc::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, Calls> {
        // Nothing panics while it holds the lock; if it did, the counts would still be in order.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a call. Refuses it with 503 at the limit of all calls, and with 429 at the limit of one caller.
    fn enter(&self, who: Option<&HeaderValue>) -> Result<UnderWay, ApiError> {
        let mut calls = self.under_way();
        let caller = calls.hasher.hash_one(who);
        let (total, of_caller) = (calls.total, calls.by_caller.get(&caller).copied().unwrap_or(0));
        let refused = |status, message: String| {
            let again = HeaderValue::from_static(RETRY_AFTER_S);
            Err(ApiError::new(status, message).with_header(header::RETRY_AFTER, again))
        };
        if of_caller >= self.most_of_one {
            let said = format!("{of_caller} of your calls are under way, as many as one caller may have at once.");
            let advice = "Wait for one of them to be answered before you send the next.";
            return refused(StatusCode::TOO_MANY_REQUESTS, format!("{said} {advice}"));
        }
        if total >= self.most {
            let said = format!("The service works on {total} calls, as many as it takes at once.");
            return refused(StatusCode::SERVICE_UNAVAILABLE, format!("{said} Try again in a second."));
        }
        calls.total += 1;
        *calls.by_caller.entry(caller).or_default() += 1;
        drop(calls);
        Ok(UnderWay { limit: self.clone(), caller })
    }
}

/// Wraps the calls that are limited. A call ends when its answer begins: a stream after that does not count.
pub async fn admit(State(limit): State<ConcurrencyLimit>, request: Request, next: Next) -> Response {
    match limit.enter(request.headers().get(header::AUTHORIZATION)) {
        Ok(_under_way) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(entered: &Result<UnderWay, ApiError>) -> Option<StatusCode> {
        entered.as_ref().err().map(|error| error.clone().into_response().status())
    }

    #[test]
    fn one_caller_cannot_take_every_place_and_an_ended_call_frees_its_place() {
        let limit = ConcurrencyLimit::new(3, 2);
        let (one, other) = (HeaderValue::from_static("one"), HeaderValue::from_static("other"));
        let mut inside = vec![limit.enter(Some(&one)), limit.enter(Some(&one))];
        assert_eq!(status(&limit.enter(Some(&one))), Some(StatusCode::TOO_MANY_REQUESTS));
        inside.push(limit.enter(Some(&other)));
        assert!(inside.iter().all(Result::is_ok));
        assert_eq!(status(&limit.enter(Some(&other))), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status(&limit.enter(None)), Some(StatusCode::SERVICE_UNAVAILABLE));
        drop(inside.remove(0));
        assert_eq!(status(&limit.enter(None)), None);
        inside.clear();
        let left = limit.under_way();
        assert_eq!((left.total, left.by_caller.len()), (0, 0));
    }
}
