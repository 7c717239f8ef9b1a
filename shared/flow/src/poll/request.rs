//! The request for one poll: the job, the reason for it, and the time it has.

use chrono::{DateTime, Utc};

use crate::job::PollJob;
use crate::service::Service;

/// The reason for a poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The timing wheel: skipped while backing off, and when a newer poll is done.
    Scheduled,
    /// A new instance: only a first pass is wanted.
    Baseline,
    /// A person's request.
    Now {
        /// List everything and look for deletions, due or not.
        sweep: bool,
    },
}

/// One poll that was asked for.
#[derive(Clone, Copy)]
pub(super) struct PollRequest<'a> {
    pub(super) service: &'a Service,
    pub(super) job: &'a PollJob,
    pub(super) mode: Mode,
    /// The start of the poll.
    pub(super) began: DateTime<Utc>,
    /// The end of the invocation. Work that is not done by then is suspended.
    pub(super) until: DateTime<Utc>,
}
