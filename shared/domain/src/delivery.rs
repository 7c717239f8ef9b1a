//! A delivery as far as decisions about it go: its key, its status, and what it waits for.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::retry_schedule::Progress;

/// What names a delivery behind its callback: commit time, delivery and instance, so that keys sort in order of commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryKey(String);

impl DeliveryKey {
    /// A key of its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeliveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a delivery stands. `created`, `delivered`, `retry` and `queued` are Cloud Elements' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Committed, not yet tried.
    #[default]
    Created,
    /// The receiver has it.
    Delivered,
    /// Tried, and it will be tried again.
    Retry,
    /// Behind another: its callback is failing, or an older delivery of one of its records is on its way.
    Waiting,
    /// Not sent by itself any more: the retry schedule ended, or the callback or the instance is switched off.
    Queued,
    /// There was no callback to send it to.
    Kept,
    /// Not sent: while it waited, newer ones came that tell of all its records, and the callback wants only those.
    Superseded,
}

impl Status {
    /// Nothing happens to it unless somebody asks.
    pub fn is_settled(self) -> bool {
        matches!(self, Status::Delivered | Status::Queued | Status::Kept | Status::Superseded)
    }

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Delivered => "delivered",
            Status::Retry => "retry",
            Status::Waiting => "waiting",
            Status::Queued => "queued",
            Status::Kept => "kept",
            Status::Superseded => "superseded",
        }
    }

    /// The status of a word.
    pub fn named(word: &str) -> Option<Self> {
        use Status::{Created, Delivered, Kept, Queued, Retry, Superseded, Waiting};
        [Created, Delivered, Retry, Waiting, Queued, Kept, Superseded].into_iter().find(|status| status.word() == word)
    }
}

/// What a delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Nothing: its first attempt is to be made now.
    Now,
    /// This instant.
    At(DateTime<Utc>),
    /// Its turn in the backlog of its callback.
    Backlog,
    /// Somebody who asks for it.
    Settled,
}

/// The part of a delivery that a transition reads and changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its key behind its callback.
    pub key: DeliveryKey,
    /// Names of the records inside.
    pub records: Vec<u64>,
    /// Where it stands.
    pub status: Status,
    /// Where it stands in the retry schedule.
    pub progress: Progress,
}
