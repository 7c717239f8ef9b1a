//! A pass over a resource under way: its owners side by side. Each step borrows those that it needs.

use store::Stored;
use store::records::resource::ResourceRecord;

use super::commit::Committer;
use super::draft::Draft;
use super::report::PollReport;
use super::request::PollRequest;
use super::target::Target;

/// Confirmations of missing records in one poll. The rest waits for the next complete listing, which is made at once.
pub(super) const CONFIRMATIONS_PER_POLL: usize = 1000;

/// A pass under way.
pub(super) struct Run<'a> {
    pub(super) request: PollRequest<'a>,
    pub(super) target: Target<'a>,
    pub(super) committer: Committer<'a>,
    pub(super) draft: Draft,
    /// Versions are made by other rules than those in the index.
    pub(super) has_new_versions: bool,
    pub(super) confirmations_left: usize,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        request: PollRequest<'a>,
        target: Target<'a>,
        stored: Stored<ResourceRecord>,
        report: PollReport,
    ) -> Self {
        let draft = Draft::new(stored.record.clone(), report);
        let committer = Committer::new(request, stored);
        Self { request, target, committer, draft, has_new_versions: false, confirmations_left: CONFIRMATIONS_PER_POLL }
    }
}
