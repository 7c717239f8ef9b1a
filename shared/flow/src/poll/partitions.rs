//! The partitions of a resource, and the rules by which their records are recognized, compared with those of the index.

use domain::record::ListedAs;
use elements::Fault;
use elements::listing::{Cursor, Listing, ScanMode};
use elements::plan::{ChangeStrategy, Partitions};
use store::records::resource::{PassProgress, Recent, ResourceRecord};

use super::error::PassError;
use super::request::Mode;
use super::run::Run;
use super::scan::read_page;
use crate::vendor::VendorError;

/// The partitions to list: one nameless one, the configured ones, or those that a parent listing names.
pub(super) async fn names(run: &mut Run<'_>) -> Result<Vec<String>, PassError> {
    let parent = match run.target.plan.partitions(run.target.session.connection()) {
        Partitions::Single => return Ok(vec![String::new()]),
        Partitions::Fixed(names) => return Ok(names),
        Partitions::Parent(parent) => parent,
    };
    let mut names = Vec::new();
    let mut listing = Listing::start(&parent, ScanMode::Complete, &Cursor::Start, None, "", run.request.began);
    loop {
        match read_page(&mut run.target.session, &parent, &mut listing, &mut run.draft.report).await {
            Ok(page) => {
                names.extend(
                    page.records.into_iter().filter(|record| record.listed_as != ListedAs::Deleted).map(|r| r.id),
                );
                if page.done {
                    return Ok(run.target.plan.partitions_of(&names));
                }
            }
            // The listing went back to its first page by itself, and says when that is too often.
            Err(VendorError::Fault(Fault::RestartScan { .. })) => names.clear(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Compares the rules for ids and versions with those of the index. An element's new release may have others.
///
/// With other ids the index means nothing: the resource starts again and emits what changed since the last pass. With
/// other versions everything is listed once, and records with their old stamp are remembered by their new version,
/// silently.
pub(super) async fn check_rules(run: &mut Run<'_>) -> Result<(), PassError> {
    let shape = run.target.shape();
    let has_baseline = run.draft.state.has_baseline;
    let Some(before) = run.draft.state.shape.filter(|before| has_baseline && *before != shape) else { return Ok(()) };
    if run.target.plan.change_strategy() == ChangeStrategy::HistoryId {
        return Ok(());
    }
    let began = run.request.began;
    if before.ids == shape.ids {
        run.has_new_versions = true;
        run.draft.state.recent = Recent::default();
        if !run.draft.progress.sweep {
            (run.draft.state.resume, run.draft.progress) = (None, PassProgress::beginning(began));
        }
        return Ok(());
    }
    let restarted = ResourceRecord::restarted(run.target.instance.created_at, began).succeeding(&run.draft.state);
    run.draft.progress = PassProgress::beginning(began);
    run.committer.restart(&mut run.draft, restarted).await
}

/// True if everything is to be listed although a cursor would do.
pub(super) fn sweep_is_due(run: &Run<'_>) -> bool {
    let is_due = |every| run.draft.state.sweep_is_due(every, run.request.began);
    run.has_new_versions
        || run.request.mode == Mode::Now { sweep: true }
        || run.draft.state.has_baseline && run.target.plan.sweep_every().is_some_and(is_due)
}
