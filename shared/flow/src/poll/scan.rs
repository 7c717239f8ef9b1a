//! The scan of one partition, from its cursor to its end, page by page.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::detect;
use elements::Fault;
use elements::listing::{Cursor, Finished, Listing, RecordPage, ScanMode};
use elements::plan::{ChangeStrategy, Plan};
use store::records::resource::Resume;
use store::records::seen::Seen;

use super::batch::PageContext;
use super::candidate::{filter_seen, hydrate};
use super::error::PassError;
use super::missing;
use super::report::PollReport;
use super::run::Run;
use crate::service::FlowError;
use crate::vendor::{Session, VendorError};

/// The number of times that one scan may start over because the vendor forgot its cursor.
const RESETS: u32 = 3;
/// A scan that fails after so many pages is resumed where it stopped: started over, it might never get further.
const PAGES_WORTH_KEEPING: u32 = 5;

/// The end of a scan that did not fail.
pub(super) enum ScanOutcome {
    /// The partition is listed to its end.
    Finished,
    /// The time is up; the scan goes on after this time.
    Suspended { resume_in: Duration },
}

/// The outcome of asking for the next page.
enum PageOutcome {
    Page(RecordPage),
    /// The vendor forgot the place in the listing, which went back to its first page.
    Restarted,
    /// The vendor forgot the cursor that the listing began from.
    CursorExpired,
    Failed(VendorError),
}

/// Lists a partition to its end, judges what comes, and commits on the way what memory should not hold.
pub(super) async fn scan(run: &mut Run<'_>, partition: &str) -> Result<ScanOutcome, PassError> {
    let mut scan = PartitionScan::begin(run, partition).await?;
    loop {
        let page = match scan.next_page(run).await {
            PageOutcome::Page(page) => page,
            PageOutcome::Restarted => {
                scan.seen = scan.is_complete.then(Seen::default);
                continue;
            }
            PageOutcome::CursorExpired => {
                scan.start_over(run);
                continue;
            }
            PageOutcome::Failed(error) => {
                let failure = error.into();
                if scan.is_resumable(&failure) {
                    scan.keep_place(run).await?;
                }
                return Err(failure);
            }
        };
        let (is_last, server_date) = (page.done, page.server_date);
        scan.take_page(run, page).await?;
        run.committer.renew_lease(&mut run.draft).await?;
        if is_last {
            scan.finish(run).await?;
            return Ok(ScanOutcome::Finished);
        }
        if let Some(resume_in) = scan.time_is_up(run, server_date) {
            scan.suspend(run).await?;
            return Ok(ScanOutcome::Suspended { resume_in });
        }
        if run.draft.batch.is_full() {
            scan.keep_place(run).await?;
        }
    }
}

/// A partition's listing under way.
struct PartitionScan<'p> {
    partition: &'p str,
    /// The cursor that the last pass ended with.
    cursor: Cursor,
    /// The partition was never listed to its end.
    is_baseline: bool,
    /// Everything is listed, not only changes.
    is_complete: bool,
    listing: Listing,
    /// Records stamped before were judged by earlier passes.
    lower: Option<DateTime<Utc>>,
    /// The newest stamp so far.
    newest: Option<DateTime<Utc>>,
    /// The records that a complete listing has seen.
    seen: Option<Seen>,
    pass: detect::Pass,
    resets: u32,
    good_pages: u32,
}

impl<'p> PartitionScan<'p> {
    /// Begins at the cursor, or where a suspended scan stopped.
    async fn begin(run: &Run<'_>, partition: &'p str) -> Result<Self, FlowError> {
        let (state, plan) = (&run.draft.state, &run.target.plan);
        let known_place = state.cursors.get(partition).cloned();
        let is_baseline = !state.has_baseline || known_place.is_none();
        let cursor = known_place.unwrap_or_default();
        let is_complete = is_baseline
            || run.draft.progress.sweep
            || cursor == Cursor::Start
            || plan.change_strategy() == ChangeStrategy::FullScanHash;
        let lower = if is_complete { None } else { run.target.lower_bound(state, &cursor) };
        let mode = if is_complete { ScanMode::Complete } else { ScanMode::Changes };
        let mut scan = Self {
            partition,
            listing: Listing::start(plan, mode, &cursor, lower, partition, run.request.began),
            cursor,
            is_baseline,
            is_complete,
            lower,
            newest: None,
            seen: is_complete.then(Seen::default),
            pass: detection(run, is_baseline),
            resets: 0,
            good_pages: 0,
        };
        if let Some(resume) = state.resume.as_ref().filter(|resume| resume.partition == partition) {
            scan.resume(run, resume).await?;
        }
        Ok(scan)
    }

    /// Goes on where a suspended scan stopped, unless what is needed for that is lost.
    async fn resume(&mut self, run: &Run<'_>, resume: &Resume) -> Result<(), FlowError> {
        let Some(listing) = Listing::resume(&resume.listing) else { return Ok(()) };
        let (store, job) = (&*run.request.service.ports.store, run.request.job);
        let seen = match resume.complete {
            true => Seen::load(store, job.instance, &job.resource, resume.seen_pieces)
                .await
                .map_err(FlowError::store("what a listing has seen"))?,
            false => None,
        };
        if seen.is_some() == resume.complete {
            (self.listing, self.is_complete, self.newest, self.lower, self.seen) =
                (listing, resume.complete, resume.newest, resume.lower, seen);
        }
        Ok(())
    }

    async fn next_page(&mut self, run: &mut Run<'_>) -> PageOutcome {
        let target = &mut run.target;
        match read_page(&mut target.session, &target.plan, &mut self.listing, &mut run.draft.report).await {
            Ok(page) => PageOutcome::Page(page),
            Err(VendorError::Fault(Fault::RestartScan { .. })) => PageOutcome::Restarted,
            Err(VendorError::Fault(Fault::ResetCursor { .. })) if self.resets < RESETS => PageOutcome::CursorExpired,
            Err(error) => PageOutcome::Failed(error),
        }
    }

    /// Lists everything, to compare it with what is known. Only a resource whose listing cannot show everything has a gap
    /// after that.
    fn start_over(&mut self, run: &mut Run<'_>) {
        let plan = &run.target.plan;
        self.resets += 1;
        run.draft.progress.lost_history |= !self.is_baseline
            && (!run.draft.state.index_is_complete || plan.change_strategy() == ChangeStrategy::HistoryId);
        (self.is_complete, self.lower) = (true, None);
        self.seen = Some(Seen::default());
        self.listing =
            Listing::start(plan, ScanMode::Complete, &Cursor::Start, None, self.partition, run.request.began);
    }

    /// Judges a page: drops what was judged before, loads the index, reads what was listed without content, detects
    /// changes, and holds them in the batch.
    async fn take_page(&mut self, run: &mut Run<'_>, page: RecordPage) -> Result<(), PassError> {
        self.good_pages += 1;
        self.newest = self.newest.max(page.newest);
        if run.target.configured.filter_by_current_date {
            self.pass.not_after = self.pass.not_after.or(page.server_date);
        }
        for problem in &page.problems {
            run.draft.report.problem(problem.what.clone(), problem.sample.clone());
        }
        let Run { target, committer, draft, request, .. } = run;
        let (store, index) = (&*request.service.ports.store, &mut committer.index);
        let candidates = filter_seen(page.records, self.lower, self.seen.as_mut(), draft);
        if candidates.is_empty() {
            return Ok(());
        }
        match self.seen {
            Some(_) => index.load_everything(store).await?,
            None => index.load(store, candidates.iter().map(|candidate| candidate.hash)).await?,
        }
        let candidates = match target.plan.hydrates() {
            true => hydrate(&mut target.session, &target.plan, candidates).await?,
            false => candidates,
        };
        let context = PageContext { pass: &self.pass, cursor: &self.cursor, is_complete: self.seen.is_some() };
        draft.batch.detect(candidates, index, &mut draft.state, &context, &mut draft.report);
        if let Some(entries) = draft.batch.overflow() {
            index.put(store, entries).await?;
        }
        Ok(())
    }

    /// The pause before the scan goes on, if the invocation's time or the budget of calls is used up. The instance's maker
    /// gets an answer then, so from here on a first pass emits what the vendor stamps.
    fn time_is_up(&self, run: &mut Run<'_>, server_date: Option<DateTime<Utc>>) -> Option<Duration> {
        let budget_opens = run.target.session.over_budget_for();
        if budget_opens.is_none() && run.request.service.ports.now() < run.request.until {
            return None;
        }
        if self.is_baseline && run.draft.state.emitted_until.is_none() {
            run.draft.state.emitted_until = server_date.map(|date| date - TimeDelta::microseconds(1));
        }
        Some(budget_opens.unwrap_or_default())
    }

    /// Readies the state for a commit after which another poll can go on from this place.
    async fn suspend(&mut self, run: &mut Run<'_>) -> Result<(), PassError> {
        let (job, now) = (run.request.job, run.request.service.ports.now());
        let listing = self.listing.save();
        let mut seen_pieces = 0;
        if let Some(seen) = &mut self.seen {
            let pieces = seen.take_pieces(job.instance, &job.resource, now);
            seen_pieces = seen.pieces();
            run.committer.save_seen(&mut run.draft, &pieces).await?;
        }
        run.draft.state.resume = Some(Resume {
            partition: self.partition.to_owned(),
            listing,
            complete: self.is_complete,
            newest: self.newest,
            lower: self.lower,
            seen_pieces,
            progress: run.draft.progress.clone(),
            minute: job.minute,
            saved: now,
        });
        Ok(())
    }

    /// Commits what is held, and the place, so that another poll can go on from it.
    async fn keep_place(&mut self, run: &mut Run<'_>) -> Result<(), PassError> {
        self.suspend(run).await?;
        run.committer.commit_progress(&run.target, &mut run.draft).await
    }

    /// True if the place of a scan that failed is worth keeping.
    fn is_resumable(&self, failure: &PassError) -> bool {
        let is_transient = matches!(failure, PassError::Vendor(failure) if failure.is_transient);
        is_transient && self.good_pages >= PAGES_WORTH_KEEPING
    }

    /// Ends a scan that reached its end: looks for missing records and notes where the next pass goes on.
    async fn finish(self, run: &mut Run<'_>) -> Result<(), PassError> {
        let Finished { cursor, complete: reached_the_end } = self.listing.finish(&run.target.plan);
        let is_complete = self.is_complete && reached_the_end;
        run.draft.report.complete_listing |= is_complete;
        if let (true, false, Some(seen)) = (is_complete, self.is_baseline, &self.seen) {
            missing::look_for_missing(run, self.partition, seen, &self.pass).await?;
        }
        run.draft.progress.incomplete |= !is_complete;
        run.draft.progress.newest = run.draft.progress.newest.max(self.newest);
        run.draft.progress.done.insert(self.partition.to_owned(), cursor);
        Ok(())
    }
}

/// The context in which the records of a partition are judged.
fn detection(run: &Run<'_>, is_baseline: bool) -> detect::Pass {
    let (state, configured) = (&run.draft.state, &run.target.configured);
    detect::Pass {
        instance: run.request.job.instance,
        resource: run.request.job.resource.clone(),
        baseline: is_baseline,
        began: run.request.began,
        emitted_until: match (is_baseline, state.has_baseline) {
            (false, _) => None,
            (true, false) => state.emitted_until,
            // A partition that others preceded: what changed in it while they were covered is news.
            (true, true) => state.covered_since.or(state.coverage.stretches().first().map(|first| first.from)),
        },
        reshaped: run.has_new_versions,
        index_is_complete: state.index_is_complete,
        covered_since: state.covered_since.or(state.emitted_until),
        first_revision: state.first_revision,
        created_rule: configured.created_rule,
        created_tolerance: TimeDelta::seconds(configured.created_check_tolerance_s.unwrap_or(0).into()),
        initial_poll: configured.initial_poll,
        not_after: None,
    }
}

/// Reads one page of a listing, a smaller one where the vendor wants that.
pub(super) async fn read_page(
    session: &mut Session<'_>,
    plan: &Plan,
    listing: &mut Listing,
    report: &mut PollReport,
) -> Result<RecordPage, VendorError> {
    loop {
        let request = listing.request(plan, &session.context())?;
        let response = session.send(request).await?;
        report.pages += 1;
        match listing.read(plan, &session.context(), &response) {
            Ok(page) => return Ok(page),
            Err(Fault::ShrinkPage) => {}
            Err(fault) => session.renew_after(fault).await?,
        }
    }
}
