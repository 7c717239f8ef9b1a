//! Dates as vendors write them, read and written by Java `SimpleDateFormat` patterns.

use serde::{Deserialize, Serialize};

/// A date pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DatePattern {
    text: Box<str>,
}

impl DatePattern {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
