//! The ports in memory: for tests and benchmarks that want to own the world, and see what was asked of it.
//! The store and the queue pass the same contract suite as the real adapters.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::secret::Secret;
use elements::Catalog;
use futures::future::BoxFuture;
pub use store::memory::{
    Fault, LARGEST_ITEM, LARGEST_PAGE, LARGEST_TRANSACTION, LARGEST_TRANSACTION_BYTES, MemoryStore, Operations,
};

use crate::ports::{
    Bounds, Exchange, Http, HttpError, LONGEST_QUEUE_DELAY, Message, Ports, Queue, QueueError, QueueName, Vault,
    VaultError,
};
use crate::service::Service;
use store::ambient::Ambient;

/// A test that panicked while it held a lock has failed already; the others may go on reading.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somewhere to log to, for a test that reads the lines. Clones share what is written.
#[derive(Debug, Clone, Default)]
pub struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    /// The text written so far.
    pub fn bytes(&self) -> Vec<u8> {
        lock(&self.0).clone()
    }

    /// The same as text. Panics where it is none.
    pub fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("lines are text")
    }
}

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

// ---------------------------------------------------------------- Everything together

/// The in-memory ports under their own types, so that a test can look inside.
#[derive(Clone)]
pub struct TestPorts {
    /// The table.
    pub store: Arc<MemoryStore>,
    /// The queues; delays follow `ambient`.
    pub queue: Arc<MemoryQueue>,
    /// The outside world, answered by a closure.
    pub http: Arc<AnsweringHttp>,
    /// The clock and the dice.
    pub ambient: Arc<FixedAmbient>,
}

impl TestPorts {
    /// An empty world at an instant such as `2026-01-05T09:00:00Z`, whose every request `answer` answers.
    pub fn new(
        at: &str,
        answer: impl Fn(http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> + Send + Sync + 'static,
    ) -> Self {
        let ambient = Arc::new(FixedAmbient::at(at));
        Self {
            store: Arc::default(),
            queue: Arc::new(MemoryQueue::new(ambient.clone())),
            http: Arc::new(AnsweringHttp::new(answer)),
            ambient,
        }
    }

    /// The service that polls take: the embedded elements at their vendors' own addresses, and a wheel of minutes.
    pub fn service(&self) -> Service {
        Service::new(self.ports(), catalog(), Arc::default())
    }

    /// The ports that steps take.
    pub fn ports(&self) -> Ports {
        Ports {
            store: self.store.clone(),
            queue: self.queue.clone(),
            http: self.http.clone(),
            vault: Arc::new(TransparentVault),
            ambient: self.ambient.clone(),
        }
    }
}

/// The embedded elements, read once for all tests of a process.
pub fn catalog() -> Arc<Catalog> {
    static CATALOG: LazyLock<Arc<Catalog>> = LazyLock::new(|| Arc::new(Catalog::embedded()));
    CATALOG.clone()
}

// ---------------------------------------------------------------- Time and chance

/// A clock that stands until it is moved, and randomness that repeats.
pub struct FixedAmbient {
    state: Arc<Mutex<(DateTime<Utc>, u64)>>,
    leaps: bool,
}

impl FixedAmbient {
    /// At an instant in RFC 3339. Panics when it is not one: it is a literal of the test.
    pub fn at(instant: &str) -> Self {
        Self { state: Arc::new(Mutex::new((parse(instant), 0))), leaps: false }
    }

    /// The same clock with another series of random bits.
    pub fn seeded(self, seed: u64) -> Self {
        lock(&self.state).1 = seed;
        self
    }

    /// The same clock, which nobody waits for: it leaps to the end of every sleep.
    pub fn leaping(self) -> Self {
        Self { leaps: true, ..self }
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let mut state = lock(&self.state);
        state.0 += by;
    }

    /// Puts the clock to an instant, forwards or backwards.
    pub fn set(&self, instant: &str) {
        lock(&self.state).0 = parse(instant);
    }
}

fn parse(instant: &str) -> DateTime<Utc> {
    instant.parse().unwrap_or_else(|error| panic!("{instant:?} is not an instant: {error}"))
}

impl Ambient for FixedAmbient {
    fn now(&self) -> DateTime<Utc> {
        lock(&self.state).0
    }

    /// SplitMix64: well spread, and the same for the same seed.
    fn fill_random(&self, buffer: &mut [u8]) {
        let mut state = lock(&self.state);
        for chunk in buffer.chunks_mut(8) {
            state.1 = state.1.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state.1;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }

    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        if !self.leaps {
            return Box::pin(tokio::time::sleep(time));
        }
        let state = Arc::clone(&self.state);
        Box::pin(async move { lock(&state).0 += time })
    }
}

// ---------------------------------------------------------------- Queue

/// Both queues, seen from the side. A message is there from its due time until it is taken; nobody redelivers.
pub struct MemoryQueue {
    ambient: Arc<dyn Ambient>,
    outlives_us: bool,
    state: Mutex<QueueState>,
}

#[derive(Default)]
struct QueueState {
    waiting: BTreeMap<QueueName, Vec<(DateTime<Utc>, Message)>>,
    refuse: usize,
}

impl MemoryQueue {
    /// Empty queues whose delays follow the clock of `ambient`.
    pub fn new(ambient: Arc<dyn Ambient>) -> Self {
        Self { ambient, outlives_us: false, state: Mutex::default() }
    }

    /// The same, said to outlive every process, as the cloud's do.
    pub fn durable(self) -> Self {
        Self { outlives_us: true, ..self }
    }

    /// Takes up to `max` messages that are due, the longest due first.
    pub fn take(&self, queue: QueueName, max: usize) -> Vec<Message> {
        let now = self.ambient.now();
        let mut state = lock(&self.state);
        let waiting = state.waiting.entry(queue).or_default();
        waiting.sort_by_key(|(due, _)| *due);
        let due = waiting.iter().take_while(|(due, _)| *due <= now).count();
        waiting.drain(..due.min(max)).map(|(_, message)| message).collect()
    }

    /// Everything that waits, due or not, with the instant it is or was due, in the order it was sent.
    pub fn waiting(&self, queue: QueueName) -> Vec<(DateTime<Utc>, Message)> {
        lock(&self.state).waiting.get(&queue).cloned().unwrap_or_default()
    }

    /// The number of messages that wait, due or not.
    pub fn len(&self, queue: QueueName) -> usize {
        lock(&self.state).waiting.get(&queue).map_or(0, Vec::len)
    }

    /// True if nothing waits in either queue.
    pub fn is_empty(&self) -> bool {
        lock(&self.state).waiting.values().all(Vec::is_empty)
    }

    /// When the next message of either queue is due.
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        lock(&self.state).waiting.values().flatten().map(|(due, _)| *due).min()
    }

    /// The next `count` messages sent are not taken.
    pub fn refuse_next(&self, count: usize) {
        lock(&self.state).refuse = count;
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn send(&self, queue: QueueName, messages: Vec<Message>) -> Vec<Result<(), QueueError>> {
        let now = self.ambient.now();
        let mut state = lock(&self.state);
        let mut send_one = |message: Message| {
            if state.refuse > 0 {
                state.refuse -= 1;
                return Err(QueueError("planned".into()));
            }
            let delay = Duration::from_secs(message.delay.min(LONGEST_QUEUE_DELAY).as_secs());
            state.waiting.entry(queue).or_default().push((now + delay, message));
            Ok(())
        };
        messages.into_iter().map(&mut send_one).collect()
    }

    fn outlives_us(&self) -> bool {
        self.outlives_us
    }
}

// ---------------------------------------------------------------- Http

type Answer = dyn Fn(http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> + Send + Sync;

/// An answer with a JSON body.
pub fn answer(status: u16, body: &serde_json::Value) -> http::Response<Bytes> {
    let response = http::Response::builder().status(status).header("content-type", "application/json");
    response.body(Bytes::from(body.to_string())).expect("a status")
}

/// Vendors and callbacks played by a closure; remembers what it was asked.
pub struct AnsweringHttp {
    answer: Box<Answer>,
    requests: Mutex<Vec<(http::Request<Bytes>, Bounds)>>,
}

impl AnsweringHttp {
    /// Every request is answered by `answer`: in no time, or in the `Duration` among the answer's extensions.
    pub fn new(
        answer: impl Fn(http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Box::new(answer), requests: Mutex::default() }
    }

    /// Every request so far, in order.
    pub fn requests(&self) -> Vec<(http::Request<Bytes>, Bounds)> {
        lock(&self.requests).clone()
    }
}

#[async_trait]
impl Http for AnsweringHttp {
    async fn send(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        lock(&self.requests).push((request.clone(), bounds));
        let mut response = (self.answer)(request)?;
        let truncated = response.body().len() > bounds.largest_body;
        response.body_mut().truncate(bounds.largest_body);
        let elapsed = response.extensions_mut().remove::<Duration>().unwrap_or_default();
        Ok(Exchange { response, truncated, elapsed })
    }
}

// ---------------------------------------------------------------- Vault

/// Hides nothing from anybody who knows hexadecimal, but keeps a seal to its owner.
#[derive(Debug, Clone, Copy, Default)]
pub struct TransparentVault;

#[async_trait]
impl Vault for TransparentVault {
    async fn seal(&self, owner: &str, plain: &Secret) -> Result<String, VaultError> {
        let hex: String = plain.expose().bytes().map(|byte| format!("{byte:02x}")).collect();
        Ok(format!("transparent:{owner}:{hex}"))
    }

    async fn open(&self, owner: &str, sealed: &str) -> Result<Secret, VaultError> {
        let broken = || VaultError::Broken("not sealed for this owner".into());
        let hex = sealed.strip_prefix(&format!("transparent:{owner}:")).ok_or_else(broken)?;
        let bytes: Option<Vec<u8>> =
            hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
        let plain = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(broken)?;
        Ok(Secret::new(plain))
    }

    fn is_newest(&self, _: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_moves_when_told_and_the_dice_repeat() {
        let ambient = FixedAmbient::at("2026-01-05T09:00:00Z");
        ambient.advance(Duration::from_secs(90));
        assert_eq!(ambient.now(), parse("2026-01-05T09:01:30Z"));
        let draw = |seed| FixedAmbient::at("2026-01-05T09:00:00Z").seeded(seed).random();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(ambient.random(), ambient.random());
    }
}
