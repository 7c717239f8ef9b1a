//! The reasons of surviving mutants: `tests/mutants.toml` has one for each mutant or group of mutants.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use crate::planted::root;

/// Reasons by the names of mutants without line and column; `…` stands for any text.
#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<String, String>);

impl Reasons {
    /// Those of the repository.
    ///
    /// # Errors
    /// The file is missing or is no table of texts.
    pub fn read() -> Result<Self> {
        Self::parse(&std::fs::read_to_string(root().join("tests/mutants.toml"))?)
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// It is no table of texts.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(toml::from_str(text).context("tests/mutants.toml")?))
    }

    /// The name under which a mutant has its reason, and the reason.
    pub fn of(&self, key: &str) -> Option<(&str, &str)> {
        let bare = key.rsplit_once(" #").map_or(key, |(name, _)| name);
        let found = self.0.iter().find(|(name, _)| fits(name, key) || fits(name, bare))?;
        Some((found.0, found.1))
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Answers true if a name with `…`s matches this one.
fn fits(name: &str, key: &str) -> bool {
    let Some((head, tail)) = name.split_once('…') else { return name == key };
    let Some(rest) = key.strip_prefix(head) else { return false };
    rest.char_indices().map(|(at, _)| &rest[at..]).chain([""]).any(|rest| fits(tail, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stands_for_one_mutant_or_for_a_group() {
        let reasons = Reasons::parse(
            "'a.rs: replace * with + in b' = 'one'\n'a.rs: …in c #2' = 'two'\n'd.rs: replace … with …' = 'three'",
        );
        let reasons = reasons.expect("a table");
        let of = |key| reasons.of(key).map(|(_, reason)| reason);
        assert_eq!(of("a.rs: replace * with + in b"), Some("one"));
        assert_eq!(of("a.rs: replace * with + in b #7"), Some("one"));
        assert_eq!(of("a.rs: replace * with + in bc"), None);
        assert_eq!(of("a.rs: replace < with > in c #2"), Some("two"));
        assert_eq!(of("a.rs: replace < with > in c"), None);
        assert_eq!(of("d.rs: replace e -> f with ()"), Some("three"));
    }

    /// A name in the file of reasons is of a function that is still there.
    #[test]
    fn every_reason_is_of_a_function_that_exists() {
        for name in Reasons::read().expect("the repository's reasons").names() {
            let (file, what) = name.split_once(": ").unwrap_or_else(|| panic!("{name}: no file"));
            let text = std::fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{name}: no such file"));
            let replaced = what.strip_prefix("replace ").and_then(|rest| rest.split(" -> ").next());
            let within = what.rsplit_once(" in ").map(|(_, function)| function);
            let Some(function) = within.or(replaced) else { continue };
            let function = function.split(" #").next().and_then(|name| name.split("::").last()).unwrap_or_default();
            let named = function.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
            let gone = named && !text.contains(&format!("fn {function}"));
            assert!(!gone, "{name}: no function {function}");
        }
    }
}
