//! The report of a poll: returned to whoever asked, logged once, asserted in tests.

use chrono::{DateTime, Utc};
use domain::problem::Warning;
use domain::record::ChangeKind;
use serde::Serialize;

use crate::vendor::Latency;

/// The end of a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything listed was judged and committed.
    #[default]
    Committed,
    /// The time was up: what was found is committed, and the rest goes on in another invocation.
    Suspended,
    /// Another poll of the resource committed meanwhile; this one threw its work away.
    OutrunByAnother,
    /// The vendor, or the way to it, failed: nothing moved, and it is tried again later.
    Failed,
    /// A newer poll covered it already.
    AlreadyCovered,
    /// It goes on in another invocation already.
    UnderWay,
    /// Earlier failures, or another instance of the vendor's account, ask for a pause.
    BackingOff,
    /// The instance is disabled, or its events are off.
    Disabled,
    /// The vendor wants a new login first.
    NeedsLogin,
    /// The instance or its resource is no more.
    Gone,
}

/// A record that could not be read, or a deletion that could not be confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PollProblem {
    /// The problem, in words.
    pub what: String,
    /// A short, masked piece of the record or answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sample: String,
}

/// The number of problems that a report shows in full; more are only counted.
pub const PROBLEMS_SHOWN: usize = 10;

/// The report of one poll of one resource.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PollReport {
    /// The resource.
    pub resource: String,
    /// The end.
    pub outcome: Outcome,
    /// It was the first pass, which remembers records and emits nothing.
    pub baseline: bool,
    /// It listed everything, not only what changed.
    pub complete_listing: bool,
    /// Its id in the logs and at the callbacks of what it filed.
    #[serde(skip)]
    pub trace: String,
    /// The start.
    pub began: DateTime<Utc>,
    /// The time from the end of the interval since the resource was last covered to the start of the poll: 0 when it is
    /// polled in time. None before the first pass, and where nothing was read.
    #[serde(skip)]
    pub overdue_ms: Option<u64>,
    /// The time from start to end.
    pub duration_ms: u64,
    /// Calls to the vendor that it answered or let wait.
    pub vendor_calls: u64,
    /// The time that the vendor took for all of them, in ms.
    pub vendor_ms: u64,
    /// The time that it took for the slowest, in ms.
    pub vendor_longest_ms: u64,
    /// Pages read.
    pub pages: u64,
    /// Records read.
    pub records: u64,
    /// Events emitted as CREATED.
    pub created: u64,
    /// Events emitted as UPDATED.
    pub updated: u64,
    /// Events emitted as DELETED.
    pub deleted: u64,
    /// Records read without an event, baseline included.
    pub suppressed: u64,
    /// Notifications filed.
    pub notifications: u64,
    /// Missing records that wait for approval.
    pub held: u64,
    /// Records that could not be read and the like.
    pub problem_count: u64,
    /// The first of them.
    pub problems: Vec<PollProblem>,
    /// The differences between the configuration as it is written and as it is read.
    pub warnings: Vec<Warning>,
    /// Covered without a gap up to here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub covered_until: Option<DateTime<Utc>>,
    /// The reason of a failure, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// It has not been covered for two intervals.
    pub stale: bool,
    /// The time when a failing resource is polled again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_until: Option<DateTime<Utc>>,
}

impl PollReport {
    pub(super) fn new(resource: &str, began: DateTime<Utc>) -> Self {
        Self { resource: resource.to_owned(), began, ..Self::default() }
    }

    pub(super) fn ended(mut self, outcome: Outcome, now: DateTime<Utc>) -> Self {
        self.outcome = outcome;
        self.duration_ms = u64::try_from((now - self.began).num_milliseconds()).unwrap_or(0);
        self
    }

    pub(super) fn vendor_took(&mut self, latency: Latency) {
        self.vendor_calls = latency.calls;
        (self.vendor_ms, self.vendor_longest_ms) = (latency.total_ms(), latency.longest_ms());
    }

    pub(super) fn problem(&mut self, what: impl Into<String>, sample: impl Into<String>) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_SHOWN {
            self.problems.push(PollProblem { what: what.into(), sample: sample.into() });
        }
    }

    /// Counts an emitted change.
    pub(super) fn count(&mut self, kind: ChangeKind) {
        match kind {
            ChangeKind::Created => self.created += 1,
            ChangeKind::Updated => self.updated += 1,
            ChangeKind::Deleted => self.deleted += 1,
        }
    }

    /// Changes emitted.
    pub fn changes(&self) -> u64 {
        self.created + self.updated + self.deleted
    }
}
