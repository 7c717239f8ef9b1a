//! The edge: what stands behind the ports when the system runs for real. DynamoDB, SQS, KMS, outbound HTTP,
//! settings and telemetry. It refuses to know what a poll or a delivery is.

mod connect;
pub mod guard;
pub mod http;
pub mod metrics;
pub mod queue;
pub mod settings;
pub mod start;
pub mod store;
pub mod telemetry;
pub mod vault;

pub use connect::{ConnectError, SystemAmbient, connect};

/// The texts of an error and of what caused it, without the debugging output that could hold a request.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// 64 random bits, for spreading retries.
pub(crate) fn random() -> u64 {
    // Without randomness all wait alike, which is late but not wrong.
    getrandom::u64().unwrap_or(0)
}
