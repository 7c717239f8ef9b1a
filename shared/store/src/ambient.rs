//! Time and randomness as the steps see them: drawn in the shell, handed to decisions as values.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::{BoxFuture, Either, select};

/// Time and chance, drawn in the shell and handed to decisions as values.
pub trait Ambient: Send + Sync {
    /// The present instant.
    fn now(&self) -> DateTime<Utc>;
    /// Fills the buffer with randomness fit for secrets.
    fn fill_random(&self, buffer: &mut [u8]);
    /// 64 random bits.
    fn random(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill_random(&mut bytes);
        u64::from_le_bytes(bytes)
    }
    /// Ends when so much time has passed, by the clock of this world.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// The result of the work if it ends within the time; otherwise the work is dropped where it stands.
pub async fn within<T>(ambient: &dyn Ambient, time: Duration, work: impl Future<Output = T>) -> Option<T> {
    match select(std::pin::pin!(work), ambient.sleep(time)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}
