//! The address of a polled resource: a platform path with a query in which macros stand for times.

use serde::{Deserialize, Serialize};

/// A poll URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PollUrl {
    text: Box<str>,
}

impl PollUrl {
    /// The URL as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
