//! Coverage: the stretches of time that were watched without a gap.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Stretches that are kept. Older ones are dropped, so coverage begins with the oldest that is left.
pub const STRETCHES_KEPT: usize = 16;

/// Between the two instants every change was emitted, or belongs to the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// First instant covered.
    pub from: DateTime<Utc>,
    /// Last instant covered.
    pub to: DateTime<Utc>,
}

/// Stretches in order, never touching: what lies between two is a gap.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Coverage(Vec<Stretch>);

impl Coverage {
    /// Extends the coverage up to `to`, after a pass that read everything that changed since the last one.
    /// The first pass begins a stretch there.
    pub fn extend(&mut self, to: DateTime<Utc>) {
        match self.0.last_mut() {
            Some(last) => last.to = last.to.max(to),
            None => self.0.push(Stretch { from: to, to }),
        }
    }

    /// Records that the changes since the last pass are lost, because the vendor's history ran out.
    /// A new stretch begins at `from`; the gap before it stays visible.
    pub fn break_off(&mut self, from: DateTime<Utc>) {
        if self.0.last().is_none_or(|last| last.to < from) {
            self.0.push(Stretch { from, to: from });
            let surplus = self.0.len().saturating_sub(STRETCHES_KEPT);
            self.0.drain(..surplus);
        }
    }

    /// The stretches, oldest first.
    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }

    /// The gaps between them, oldest first.
    pub fn gaps(&self) -> Vec<Stretch> {
        self.0.windows(2).map(|pair| Stretch { from: pair[0].to, to: pair[1].from }).collect()
    }

    /// The end of the coverage.
    pub fn until(&self) -> Option<DateTime<Utc>> {
        self.0.last().map(|stretch| stretch.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap_or_default()
    }

    #[test]
    fn passes_merge_and_a_lost_history_leaves_a_gap() {
        let mut coverage = Coverage::default();
        for second in [10, 20, 30, 25] {
            coverage.extend(at(second));
        }
        assert_eq!(coverage.stretches(), [Stretch { from: at(10), to: at(30) }]);
        coverage.break_off(at(30));
        assert_eq!(coverage.stretches().len(), 1, "nothing lies between");
        coverage.break_off(at(100));
        coverage.extend(at(110));
        assert_eq!(coverage.gaps(), [Stretch { from: at(30), to: at(100) }]);
        assert_eq!(coverage.until(), Some(at(110)));
        for second in 2..60 {
            coverage.break_off(at(second * 1000));
        }
        assert_eq!(coverage.stretches().len(), STRETCHES_KEPT);
    }
}
