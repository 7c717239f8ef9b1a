//! The end of a poll that the vendor did not let happen.

use chrono::TimeDelta;
use domain::backoff::{self, Jitter};
use store::records::instance::{InstanceRecord, Reconnect};
use store::records::resource::{self, Trouble};
use store::{Commit, Stored, commit};

use super::account;
use super::error::{LoginState, VendorFailure};
use super::jobs::{LONGEST_REQUEUE, requeue};
use super::report::{Outcome, PollReport};
use super::request::{Mode, PollRequest};
use crate::fields;
use crate::service::FlowError;

/// A login counts as lost after this many refused polls in a row, where the vendor did not say so outright.
const REFUSALS_BELIEVED: u32 = 3;

/// Ends a poll that failed for a reason outside: nothing of it moves but the count of failures and the pause that they
/// ask for. `account` is the vendor's account, where it is known.
pub(super) async fn give_up(
    request: &PollRequest<'_>,
    instance: &Stored<InstanceRecord>,
    mut report: PollReport,
    failure: VendorFailure,
    account: Option<String>,
) -> Result<PollReport, FlowError> {
    let PollRequest { service, job, mode, .. } = *request;
    let (store, now) = (&*service.ports.store, service.ports.now());
    // Commits in the middle of the pass may have moved the version: the stored state is read again and only marked.
    let stored = resource::key(job.instance, &job.resource).get(store).await;
    let Some(stored) = stored.map_err(FlowError::record("the state of a resource"))? else {
        return Ok(report.ended(Outcome::Gone, now));
    };
    let mut state = stored.record.clone();
    state.failures = state.failures.saturating_add(1);
    let jitter = Jitter::from_random(service.ports.ambient.random());
    let pause = backoff::pause(state.failures, failure.retry_after, jitter);
    let skip_until = now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::days(1));
    state.skip_until = Some(skip_until);
    state.leased_until = None;
    let since = state.trouble.as_ref().map_or(now, |trouble| trouble.since);
    state.trouble = Some(Trouble { since, message: failure.message.clone() });
    if !failure.is_transient {
        // The vendor will not take later what it does not take now, this place in a listing included.
        state.resume = None;
    }
    report.stale = state.is_stale(instance.record.interval_of(&job.resource), now);
    report.covered_until = state.coverage.until();
    // A poll that committed meanwhile did not fail: its state stays.
    let marked = commit(store, &[stored.replace(&state)]).await;
    let (Commit::Done | Commit::Lost { .. }) = marked.map_err(FlowError::store("the failure of a poll"))?;
    if let (true, Some(account)) = (failure.is_rate_limit, account) {
        account::pause(service, &instance.record.element, &account, job.instance, skip_until).await;
    }
    if report.stale {
        tracing::warn!(
            { fields::INSTANCE } = %job.instance, { fields::RESOURCE } = job.resource, stale = true,
            covered_until = ?report.covered_until, "resource is stale"
        );
    }
    let is_login_lost = match failure.login {
        LoginState::Accepted => false,
        LoginState::Refused => state.failures >= REFUSALS_BELIEVED,
        LoginState::Dead => true,
    };
    if is_login_lost {
        let reconnect = Some(Reconnect { since: now, reason: failure.message.clone() });
        let disconnected = InstanceRecord { reconnect, ..instance.record.clone() };
        // An edit meanwhile may well have been the new login.
        let written = commit(store, &[instance.replace(&disconnected)]).await;
        let (Commit::Done | Commit::Lost { .. }) = written.map_err(FlowError::store("the need of a new login"))?;
    } else if !matches!(mode, Mode::Now { .. }) && pause <= LONGEST_REQUEUE {
        requeue(service, job, pause).await;
    }
    report.failure = Some(failure.message);
    report.skip_until = Some(skip_until);
    Ok(report.ended(Outcome::Failed, now))
}
