//! Secrets that mask themselves: printing one by accident prints `********`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The text that is shown in the place of a secret.
pub const MASK: &str = "********";

/// A text that must not reach a log, an answer or an error message.
/// Serializing writes the real text, because sealed storage needs it: never serialize one anywhere else.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Makes a secret of a text.
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

/// Shortest secret that is looked for in another party's text. A shorter one is found in any text, and masking it
/// would spoil the text without hiding anything.
const SHORTEST_HIDDEN: usize = 6;

/// Masks secrets in another party's text: vendors and callbacks quote requests in their errors, and those are stored
/// and shown.
pub fn hide<'a>(text: &str, secrets: impl IntoIterator<Item = &'a Secret>) -> String {
    let mut said = text.to_owned();
    for secret in secrets.into_iter().map(Secret::expose).filter(|secret| secret.len() >= SHORTEST_HIDDEN) {
        // As it is, as JSON has it, once or as a text within a text, and as a form or a query has it.
        let quoted = serde_json::Value::from(secret).to_string();
        let twice = serde_json::Value::from(quoted.trim_matches('"')).to_string();
        let in_form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        for form in [secret, quoted.trim_matches('"'), twice.trim_matches('"'), &in_form] {
            if said.contains(form) {
                said = said.replace(form, MASK);
            }
        }
    }
    said
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

    #[test]
    fn others_do_not_repeat_a_secret() {
        let (long, short) = (Secret::new("s3cret"), Secret::new("no"));
        assert_eq!(hide("no: s3cret and s3cret", [&long, &short]), "no: ******** and ********");
        let odd = Secret::new(r#"a"b\c/d e"#);
        assert_eq!(
            hide(r#"a"b\c/d e {"a\"b\\c/d e"} ?x=a%22b%5Cc%2Fd+e"#, [&odd]),
            "******** {\"********\"} ?x=********"
        );
    }
}
