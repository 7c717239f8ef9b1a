//! Names of the fields in logs, one word a thing, units in the name. Written as
//! `info!({ fields::INSTANCE } = %id, "poll committed")`.

use std::error::Error;
use std::fmt;

/// Customer of the service.
pub const ORGANIZATION: &str = "organization";
/// Account at a vendor.
pub const INSTANCE: &str = "instance";
/// Key of the vendor's definition.
pub const ELEMENT: &str = "element";
/// Key in the instance's polling configuration.
pub const RESOURCE: &str = "resource";
/// Minute of the timing wheel.
pub const MINUTE: &str = "minute";
/// Delivery id, which is the webhook id.
pub const DELIVERY: &str = "delivery";
/// Id that a poll shares with the deliveries it files and with their callbacks.
pub const TRACE: &str = "trace";
/// Number of the attempt, from 1.
pub const ATTEMPT: &str = "attempt";
/// The outcome of a step, in the words of its type.
pub const OUTCOME: &str = "outcome";
/// HTTP status of an answer.
pub const STATUS: &str = "status";
/// Pages fetched.
pub const PAGES: &str = "pages";
/// Records read.
pub const RECORDS: &str = "records";
/// Events committed.
pub const EVENTS: &str = "events";
/// Messages sent to a queue.
pub const MESSAGES: &str = "messages";
/// Records that could not be read, or other problems met on the way.
pub const PROBLEMS: &str = "problems";
/// Duration of a step.
pub const DURATION_MS: &str = "duration_ms";
/// Time that a vendor took to answer the calls of a poll.
pub const VENDOR_MS: &str = "vendor_ms";
/// From when a thing was due to when it was begun.
pub const LATE_MS: &str = "late_ms";
/// The error, its causes included.
pub const ERROR: &str = "error";

/// An error with all its causes, on one line: written as `error = %Chain(&error)`. A line of JSON shows the first alone
/// otherwise.
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::FlowError;
    use store::port::StoreError;

    #[test]
    fn a_chain_names_every_cause() {
        let error = FlowError::Store { subject: "the record index", source: StoreError::Busy("throttled".into()) };
        let causes = error.source().expect("a cause").to_string();
        assert_eq!(Chain(&error).to_string(), format!("{error}: {causes}"));
        assert!(causes.contains("throttled"), "{causes}");
    }
}
