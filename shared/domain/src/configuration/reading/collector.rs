//! Collects the problems and warnings of a configuration while it is parsed.

use std::fmt;

use super::fields::Fields;
use crate::problem::{FieldProblem, Warning, nearest};

/// Most problems, and most warnings, that are reported together. More help nobody.
pub(super) const MOST_REMARKS: usize = 100;

/// The problems and warnings found so far.
#[derive(Default)]
pub(super) struct Collector {
    problems: Vec<FieldProblem>,
    warnings: Vec<Warning>,
}

impl Collector {
    /// Adds a problem with a value that may be shown.
    pub(super) fn refuse(&mut self, field: String, read: impl fmt::Display, expected: impl Into<String>) {
        self.push(FieldProblem::new(field, read, expected));
    }

    /// Adds a problem with a value that must not be shown.
    pub(super) fn refuse_secret(&mut self, field: impl Into<String>, expected: impl Into<String>) {
        self.push(FieldProblem::secret(field, expected));
    }

    fn push(&mut self, problem: FieldProblem) {
        if self.problems.len() < MOST_REMARKS {
            self.problems.push(problem);
        }
    }

    /// Adds a warning.
    pub(super) fn warn(&mut self, field: String, message: impl Into<String>) {
        if self.warnings.len() < MOST_REMARKS {
            self.warnings.push(Warning::new(field, message));
        }
    }

    /// Warns about a key that is not among the known ones.
    pub(super) fn warn_unknown<'k>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        known: impl Iterator<Item = &'k str> + Clone,
    ) {
        if !known.clone().any(|known| known == key) && self.warnings.len() < MOST_REMARKS {
            let hint = nearest(key, known).map(|near| format!("; the nearest known key is {near}"));
            self.warn(fields.at(key), format!("the key is unknown and is left out{}", hint.unwrap_or_default()));
        }
    }

    /// The parsed value with the warnings, unless there are problems.
    pub(super) fn finish<T>(self, value: T) -> Result<(T, Vec<Warning>), Vec<FieldProblem>> {
        if self.problems.is_empty() { Ok((value, self.warnings)) } else { Err(self.problems) }
    }
}
