//! One poll of one resource, from its state to its committed events.
//!
//! The dispatcher (or a person, by *poll now*) wrote the job; the delivery step acts next, on rows that the commit
//! files. One rule makes this correct: the resource's state is written with every commit, on condition of the version
//! that was read, together with the index buckets and deliveries that belong to it. Two polls of one resource may run
//! at once; one of them commits, the other throws its work away. No lease is needed for that; a poll that takes long
//! takes one only so that short polls do not supersede it again and again.
//!
//! Order matters in three places, each narrated where it happens: a rotated token is stored before it is used, the
//! cursor moves in the last transaction of a pass, and jobs go to the queue after the commit.
//!
//! The path of a job:
//!
//! 1. `functions/poller` reads the message and calls [`poll`], here.
//! 2. `store::records::poll_input` reads instance, tokens and state with one query.
//! 3. `handed_over` sends deliveries again that were lost; `skip` names the reason not to poll, if there is one.
//! 4. `target` opens the credentials and makes the plan; `run` puts the owners of the pass side by side.
//! 5. `partitions` checks the rules for ids and versions, and names the partitions.
//! 6. `scan` reads each partition page by page through `vendor::Session`.
//! 7. For each page, `candidate` drops what was judged before and reads records that were listed without content, and
//!    `batch` judges the rest. At the end of a complete listing `missing` confirms deletions.
//! 8. `commit` files deliveries by `outbox` and writes them with index and state.
//! 9. `jobs` sends the deliveries' jobs; after a failure of the vendor, `failure` notes it and asks for a pause.
//!
//! The path comes back to three files only: to this one between the steps, to `scan` for each stage of a page, and to
//! `commit` for each notification.

mod account;
mod batch;
mod candidate;
mod commit;
mod draft;
mod error;
mod failure;
pub(crate) mod handed_over;
mod jobs;
mod lease;
mod missing;
mod partitions;
mod report;
mod request;
mod run;
mod scan;
mod skip;
mod target;
#[cfg(test)]
mod tests;
pub mod why;

use chrono::{DateTime, Utc};
use store::records::poll_input::PollInput;
pub use store::records::resource as state;

use self::error::{PassError, PrepareError, VendorFailure};
pub use self::report::{Outcome, PROBLEMS_SHOWN, PollProblem, PollReport};
pub use self::request::Mode;
use self::request::PollRequest;
use self::run::Run;
use self::scan::ScanOutcome;
use self::target::Target;
use crate::job::PollJob;
use crate::service::{FlowError, Service};
use crate::{fields, trace};

/// Polls one resource. `until` is the end of the invocation: work that is not done by then is suspended.
pub async fn poll(service: &Service, job: &PollJob, mode: Mode, until: DateTime<Utc>) -> Result<PollReport, FlowError> {
    let mut tries = 0;
    loop {
        let began = service.ports.now();
        let report = poll_once(PollRequest { service, job, mode, began, until }).await?;
        tries += 1;
        // Somebody waits for the answer and nobody else will come back to it: read again and poll again.
        if report.outcome == Outcome::OutrunByAnother && matches!(mode, Mode::Now { .. }) && tries < 5 {
            continue;
        }
        return Ok(report);
    }
}

async fn poll_once(request: PollRequest<'_>) -> Result<PollReport, FlowError> {
    let PollRequest { service, job, mode, began, .. } = request;
    let mut report = PollReport::new(&job.resource, began);
    // A scheduled poll may read a moment-old state: at worst it loses at the commit. Whoever waits for an answer wants
    // what was written just before.
    let is_consistent = mode != Mode::Scheduled;
    let input = PollInput::read(&*service.ports.store, job.instance, &job.resource, is_consistent).await;
    let Some(mut input) = input.map_err(FlowError::record("an instance"))? else {
        return Ok(report.ended(Outcome::Gone, began));
    };
    // A pass that goes on keeps the id it began with, however many invocations it takes.
    let pass_began = input.state.record.resume.as_ref().map_or(began, |resume| resume.progress.began);
    report.trace = trace::of_poll(job.instance, &job.resource, pass_began);
    tracing::Span::current().record(fields::TRACE, &report.trace);
    // First of all: whatever keeps the vendor from being polled must not keep deliveries from being looked after.
    if !handed_over::look_after(&request, &mut input.state).await? {
        return Ok(report.ended(Outcome::OutrunByAnother, began));
    }
    if let Some(outcome) = skip::reason(&request, &input) {
        return Ok(report.ended(outcome, began));
    }
    report.overdue_ms = skip::overdue_ms(&request, &input);
    let PollInput { instance, state, tokens, .. } = input;
    let target = match Target::resolve(&request, &instance.record, tokens.as_ref()).await {
        Ok((target, warnings)) => {
            report.warnings = warnings;
            target
        }
        Err(PrepareError::Misconfigured(message)) => {
            return failure::give_up(&request, &instance, report, VendorFailure::lasting(message), None).await;
        }
        Err(PrepareError::Internal(error)) => return Err(error),
    };
    let mut run = Run::new(request, target, state, report);
    let ended = pass(&mut run).await;
    // Jobs go out after the commit, whatever ended the pass: deliveries of commits in its middle are waiting.
    let Run { target, committer, draft, .. } = run;
    let (mut report, account) = (draft.report, target.session.account());
    report.vendor_took(target.session.latency());
    jobs::send_deliveries(service, committer.into_jobs()).await;
    match ended {
        Ok(ScanOutcome::Finished) => Ok(report.ended(Outcome::Committed, service.ports.now())),
        Ok(ScanOutcome::Suspended { resume_in }) => {
            // After a longer pause the timing wheel comes round.
            if resume_in <= jobs::LONGEST_REQUEUE {
                jobs::requeue(service, job, resume_in).await;
            }
            Ok(report.ended(Outcome::Suspended, service.ports.now()))
        }
        Err(PassError::Superseded) => Ok(report.ended(Outcome::OutrunByAnother, service.ports.now())),
        Err(PassError::Vendor(failure)) => failure::give_up(&request, &instance, report, failure, account).await,
        Err(PassError::Internal(error)) => Err(error),
    }
}

/// Lists every partition and commits what it finds.
async fn pass(run: &mut Run<'_>) -> Result<ScanOutcome, PassError> {
    run.target.session.renew_if_due().await?;
    partitions::check_rules(run).await?;
    let names = partitions::names(run).await?;
    run.draft.progress.sweep |= partitions::sweep_is_due(run);
    run.draft.report.baseline = !run.draft.state.has_baseline;
    for partition in &names {
        if run.draft.progress.done.contains_key(partition) {
            continue;
        }
        if let ScanOutcome::Suspended { resume_in } = scan::scan(run, partition).await? {
            run.committer.release_lease();
            run.committer.commit_progress(&run.target, &mut run.draft).await?;
            return Ok(ScanOutcome::Suspended { resume_in });
        }
    }
    run.committer.commit_pass(&run.target, &mut run.draft).await?;
    Ok(ScanOutcome::Finished)
}
