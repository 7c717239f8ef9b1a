//! The whole outside world as this system sees it: a Store, a Queue, an Http client and a Vault for secrets.
//!
//! Each trait says the least that an implementation must guarantee and what success does *not* promise.
//! Two implementations of each ship: the adapters of `aws`, and the in-memory ones of `testing`,
//! held to one contract suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::secret::Secret;
use store::{Ambient, Store};

/// Everything a step may touch. Cheap to clone.
#[derive(Clone)]
pub struct Ports {
    /// The one table.
    pub store: Arc<dyn Store>,
    /// The two queues.
    pub queue: Arc<dyn Queue>,
    /// Vendors and callbacks.
    pub http: Arc<dyn Http>,
    /// Seals and opens credentials.
    pub vault: Arc<dyn Vault>,
    /// The clock and the source of randomness: the real ones in a function, chosen ones in a test.
    pub ambient: Arc<dyn Ambient>,
}

impl Ports {
    /// The present instant.
    pub fn now(&self) -> DateTime<Utc> {
        self.ambient.now()
    }
}

// ---------------------------------------------------------------- Queue

/// Polls and deliveries do not wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueName {
    /// [`crate::job::PollJob`]s.
    Polls,
    /// [`crate::job::DeliveryJob`]s.
    Deliveries,
}

/// SQS holds a message back for at most this long.
pub const LONGEST_QUEUE_DELAY: Duration = Duration::from_secs(15 * 60);

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// JSON of a job.
    pub body: String,
    /// The time that nobody sees it; whole seconds, clamped to [`LONGEST_QUEUE_DELAY`].
    pub delay: Duration,
    /// The fair-queueing group: the organization.
    pub group: String,
}

/// The reason why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the queue did not take the message: {0}")]
pub struct QueueError(pub String);

/// At least once, in no order. A taken message may arrive twice or late. A message that was not taken is not
/// lost work: the next slot, the next poll or the retry entry of its delivery repairs it.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Sends any number; the answer has one entry for each message, in order.
    async fn send(&self, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>>;

    /// True if what was taken outlives every process of ours. Where it does not, a restart loses what waits, often and
    /// much of it, and each delivery gets its retry entry with its commit; see [`crate::deliver::outbox::Safeguard`].
    fn outlives_us(&self) -> bool;
}

// ---------------------------------------------------------------- Http

/// The target of a request. It decides which addresses are allowed and what happens to redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A vendor's API or token endpoint.
    Vendor,
    /// A customer's callback.
    Callback,
}

/// Bounds on one exchange. Redirects are never followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The target of the request.
    pub audience: Audience,
    /// One deadline over connect, headers and body.
    pub deadline: Duration,
    /// The body is read up to this many bytes; see [`Exchange::truncated`].
    pub largest_body: usize,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Status, headers and the body, or the head of it.
    pub response: http::Response<Bytes>,
    /// The body went on past `largest_body` and the rest was not read.
    pub truncated: bool,
    /// From the first byte sent to the last one read.
    pub elapsed: Duration,
}

/// The reason why there is no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address guard refused: private, loopback, link-local, metadata and the like, or not http(s).
    #[error("the address is not allowed: {0}")]
    Forbidden(String),
    /// No connection: unknown host, refused, TLS failed.
    #[error("could not connect: {0}")]
    Connect(String),
    /// The deadline passed.
    #[error("no complete answer within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The connection broke or the answer was not HTTP.
    #[error("the exchange broke off: {0}")]
    Broken(String),
}

/// Sends one request and reads one answer. Bodies are whole in memory on both sides, bounded by [`Bounds`].
#[async_trait]
pub trait Http: Send + Sync {
    /// One exchange, never retried here.
    async fn send(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError>;
}

// ---------------------------------------------------------------- Vault

/// The reason why a seal did not open or close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// Key service out of reach: try again.
    #[error("the vault is busy: {0}")]
    Busy(String),
    /// Not sealed for this owner, damaged, or sealed with a key that is gone.
    #[error("the seal does not open: {0}")]
    Broken(String),
}

/// Envelope encryption. What was sealed for one owner does not open for another.
#[async_trait]
pub trait Vault: Send + Sync {
    /// Text form of the sealed `plain`, bound to `owner` as associated data.
    async fn seal(&self, owner: &str, plain: &Secret) -> Result<String, VaultError>;
    /// The plain text again.
    async fn open(&self, owner: &str, sealed: &str) -> Result<Secret, VaultError>;
    /// True if it was sealed with the key that seals now. False where that is not known.
    fn is_newest(&self, sealed: &str) -> bool;
}
