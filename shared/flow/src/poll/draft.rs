//! The work of a pass that is not committed yet.

use store::records::resource::{PassProgress, PassSummary, ResourceRecord, Shape};

use super::batch::Batch;
use super::report::PollReport;

/// The work of a pass since its last commit, and the state that it leads to.
///
/// A commit in the middle of a pass stores only the few fields of the state that [`ResourceRecord::interim`] names.
pub(super) struct Draft {
    /// The resource's state as it will be.
    pub(super) state: ResourceRecord,
    /// The part of the pass that is done, in earlier invocations too.
    pub(super) progress: PassProgress,
    pub(super) batch: Batch,
    pub(super) report: PollReport,
}

impl Draft {
    /// A pass that goes on where a suspended one stopped, or begins now.
    pub(super) fn new(state: ResourceRecord, report: PollReport) -> Self {
        let suspended = state.resume.as_ref().map(|resume| resume.progress.clone());
        let progress = suspended.unwrap_or_else(|| PassProgress::beginning(report.began));
        Self { state, progress, batch: Batch::default(), report }
    }

    /// Brings the state to the end of the pass.
    pub(super) fn complete(&mut self, shape: Shape) {
        let recent = self.batch.take_recent();
        let spent = PassProgress::beginning(self.progress.began);
        let progress = std::mem::replace(&mut self.progress, spent);
        self.state.complete_pass(PassSummary { progress, shape, recent });
        self.report.covered_until = self.state.coverage.until();
    }
}
