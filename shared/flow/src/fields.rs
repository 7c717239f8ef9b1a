//! Names of the fields in logs, one word a thing, units in the name. Written as
//! `info!({ fields::INSTANCE } = %id, "poll committed")`.

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
/// How a step ended, in the words of its outcome type.
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
/// How long a step took.
pub const DURATION_MS: &str = "duration_ms";
/// From when a thing was due to when it was begun.
pub const LATE_MS: &str = "late_ms";
/// The error, its causes included.
pub const ERROR: &str = "error";
