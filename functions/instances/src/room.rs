//! How many calls one process works on at once. What comes beyond that is refused at once, which costs next to nothing,
//! so that those who were let in are answered in time and polls and deliveries beside them go on.
//!
//! In the cloud the gateway's rate and the account's concurrency say this; where one process serves everybody it has to
//! say so itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::refusal::Refusal;

/// Seconds after which a refused call may be tried again.
const RETRY_AFTER_S: &str = "1";

/// Calls that may be under way at once, in all and of one caller. Clones share it.
#[derive(Debug, Clone)]
pub struct Room {
    most: usize,
    most_of_one: usize,
    inside: Arc<Mutex<Inside>>,
}

#[derive(Debug, Default)]
struct Inside {
    /// Callers by the hash of what they call themselves. Whether they are who they say is found out inside.
    callers: HashMap<u64, usize>,
    calls: usize,
    hasher: RandomState,
}

impl Default for Room {
    /// One table answers some thousand reads a second: so many calls are through in a fraction of a second. One caller
    /// leaves a quarter to the others.
    fn default() -> Self {
        Self::new(64, 48)
    }
}

/// A call that was let in, until it is dropped.
struct UnderWay {
    room: Room,
    caller: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut inside = self.room.inside();
        inside.calls -= 1;
        if let Some(calls) = inside.callers.get_mut(&self.caller) {
            *calls -= 1;
            if *calls == 0 {
                inside.callers.remove(&self.caller);
            }
        }
    }
}

impl Room {
    /// Room for `most` calls, `most_of_one` of them of one caller.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, inside: Arc::default() }
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        // Nothing panics while it holds the lock; if it did, the counts would still be in order.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call in, or says why not: 503 when all the room is taken, 429 when this caller has his share.
    fn enter(&self, who: Option<&HeaderValue>) -> Result<UnderWay, Refusal> {
        let mut inside = self.inside();
        let caller = inside.hasher.hash_one(who);
        let (calls, of_caller) = (inside.calls, inside.callers.get(&caller).copied().unwrap_or(0));
        let refused = |status, message: String| {
            let again = HeaderValue::from_static(RETRY_AFTER_S);
            Err(Refusal::new(status, message).with_header(header::RETRY_AFTER, again))
        };
        if of_caller >= self.most_of_one {
            let said = format!("{of_caller} of your calls are under way, as many as one caller may have at once.");
            let advice = "Wait for one of them to be answered before you send the next.";
            return refused(StatusCode::TOO_MANY_REQUESTS, format!("{said} {advice}"));
        }
        if calls >= self.most {
            let said = format!("The service works on {calls} calls, as many as it takes at once.");
            return refused(StatusCode::SERVICE_UNAVAILABLE, format!("{said} Try again in a second."));
        }
        inside.calls += 1;
        *inside.callers.entry(caller).or_default() += 1;
        drop(inside);
        Ok(UnderWay { room: self.clone(), caller })
    }
}

/// Wraps the calls that need room. A call leaves when its answer begins: what is streamed after that holds no place.
pub async fn admit(State(room): State<Room>, request: Request, next: Next) -> Response {
    match room.enter(request.headers().get(header::AUTHORIZATION)) {
        Ok(_under_way) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(entered: &Result<UnderWay, Refusal>) -> Option<StatusCode> {
        entered.as_ref().err().map(|refusal| refusal.clone().into_response().status())
    }

    #[test]
    fn one_caller_leaves_room_for_others_and_whoever_leaves_makes_room() {
        let room = Room::new(3, 2);
        let (one, other) = (HeaderValue::from_static("one"), HeaderValue::from_static("other"));
        let mut inside = vec![room.enter(Some(&one)), room.enter(Some(&one))];
        assert_eq!(status(&room.enter(Some(&one))), Some(StatusCode::TOO_MANY_REQUESTS));
        inside.push(room.enter(Some(&other)));
        assert!(inside.iter().all(Result::is_ok));
        assert_eq!(status(&room.enter(Some(&other))), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status(&room.enter(None)), Some(StatusCode::SERVICE_UNAVAILABLE));
        drop(inside.remove(0));
        assert_eq!(status(&room.enter(None)), None);
        inside.clear();
        let left = room.inside();
        assert_eq!((left.calls, left.callers.len()), (0, 0));
    }
}
