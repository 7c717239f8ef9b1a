//! Secrets mask themselves: whoever prints one by accident prints `********`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What stands in the place of a secret wherever it is shown.
pub const MASK: &str = "********";

/// A text that must not reach a log, an answer or an error message.
/// Serializing writes the real text, because sealed storage needs it: never serialize one anywhere else.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes charge of `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The real text, for the one place that has to use it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_secret_is_a_mask() {
        let secret = Secret::new("s3cret");
        assert_eq!(format!("{secret} {secret:?}"), "******** ********");
        assert_eq!(secret.expose(), "s3cret");
    }
}
