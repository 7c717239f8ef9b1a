//! What becomes of a poll that the vendor did not let happen.

use std::time::Duration;

use chrono::TimeDelta;
use domain::backoff::{self, Jitter};
use domain::problem::FieldProblem;
use elements::Fault;

use super::report::{Outcome, PollReport};
use super::state::{ResourceRecord, Trouble};
use super::{Loaded, Mode, Stop, account, requeue};
use crate::fields;
use crate::job::PollJob;
use crate::ports::StoreError;
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord, Reconnect};
use crate::tokens::TokenError;
use crate::vendor::VendorError;

/// So many polls in a row must be refused before a login counts as lost, where the vendor did not say so outright.
const REFUSALS_BELIEVED: u32 = 3;
/// A job is sent again by the queue within this time; longer pauses wait for the wheel.
pub(super) const LONGEST_REQUEUE: Duration = Duration::from_secs(15 * 60);

/// The vendor, or the way to it, does not do its part.
#[derive(Debug, Clone, Default)]
pub(super) struct VendorTrouble {
    pub(super) message: String,
    pub(super) after: Option<Duration>,
    pub(super) login: Login,
    /// It may well be over when the poll is tried again.
    pub(super) passing: bool,
    /// The vendor wants fewer calls of the whole account.
    pub(super) limited: bool,
}

/// What a failure says about the instance's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Login {
    /// Nothing.
    #[default]
    Fine,
    /// Refused, which may be the vendor's passing confusion.
    Refused,
    /// Spent for good: only a new login helps.
    Dead,
}

/// The poll failed for a reason outside: nothing of it moves but the count of failures and the pause they ask for.
#[allow(clippy::too_many_arguments)] // Each is needed once, here.
pub(super) async fn give_up(
    service: &Service,
    job: &PollJob,
    loaded: Loaded,
    mut report: PollReport,
    trouble: VendorTrouble,
    mode: Mode,
    account: Option<String>,
) -> Result<PollReport, FlowError> {
    let now = service.ports.now();
    let key = table::resource_key(job.instance, &job.resource);
    // Intermediate commits may have moved the version: the stored state is read again and only marked.
    let Some(item) = service.ports.store.get(&key).await.map_err(FlowError::store("the state of a resource"))? else {
        return Ok(report.ended(Outcome::Gone, now));
    };
    let mut state: ResourceRecord = table::read(&item)?;
    state.failures = state.failures.saturating_add(1);
    let pause = backoff::pause(state.failures, trouble.after, Jitter::from_random(service.ports.ambient.random()));
    let skip_until = now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::days(1));
    state.skip_until = Some(skip_until);
    state.taken_until = None;
    let since = state.trouble.as_ref().map_or(now, |trouble| trouble.since);
    state.trouble = Some(Trouble { since, message: trouble.message.clone() });
    if !trouble.passing {
        // What the vendor does not take now it will not take later: not this place in a listing, either.
        state.resume = None;
    }
    report.stale = state.is_stale(loaded.instance.interval_of(&job.resource), now);
    report.covered_until = state.coverage.until();
    let failures = state.failures;
    let marked = service.ports.store.transact(&[table::replace(key, item.version, &state)]).await;
    match marked {
        Ok(()) | Err(StoreError::Conflict { .. }) => {}
        Err(source) => return Err(FlowError::Store { subject: "the failure of a poll", source }),
    }
    if let (true, Some(account)) = (trouble.limited, account) {
        account::pause(service, &loaded.instance.element, &account, job.instance, skip_until).await;
    }
    if report.stale {
        tracing::warn!(
            { fields::INSTANCE } = %job.instance, { fields::RESOURCE } = job.resource, stale = true,
            covered_until = ?report.covered_until, "resource is stale"
        );
    }
    let login_lost = trouble.login == Login::Dead || (trouble.login == Login::Refused && failures >= REFUSALS_BELIEVED);
    if login_lost {
        let reconnect = Some(Reconnect { since: now, reason: trouble.message.clone() });
        let instance = InstanceRecord { reconnect, ..loaded.instance };
        let write = table::replace(table::instance_key(job.instance), loaded.instance_version, &instance);
        match service.ports.store.transact(&[write]).await {
            // An edit meanwhile may well have been the new login.
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(source) => return Err(FlowError::Store { subject: "the need of a new login", source }),
        }
    } else if !matches!(mode, Mode::Now { .. }) && pause <= LONGEST_REQUEUE {
        requeue(service, job, pause).await;
    }
    report.failure = Some(trouble.message);
    report.skip_until = Some(skip_until);
    Ok(report.ended(Outcome::Failed, now))
}

impl From<VendorError> for Stop {
    fn from(error: VendorError) -> Self {
        let trouble = match error {
            VendorError::Flow(error) => return Stop::Flow(error),
            VendorError::Fault(fault) => trouble_of(fault),
            VendorError::Tokens(TokenError::Dead(message)) => {
                VendorTrouble { message, login: Login::Dead, ..VendorTrouble::default() }
            }
            VendorError::Tokens(TokenError::Busy { reason, after }) => {
                VendorTrouble { message: reason, after, passing: true, ..VendorTrouble::default() }
            }
            VendorError::OverBudget { wait } => {
                let (message, after) = (error.to_string(), Some(wait));
                VendorTrouble { message, after, passing: true, ..VendorTrouble::default() }
            }
            other => VendorTrouble { message: other.to_string(), passing: true, ..VendorTrouble::default() },
        };
        Stop::Trouble(trouble)
    }
}

/// What a fault means for the poll.
fn trouble_of(fault: Fault) -> VendorTrouble {
    let passing = !matches!(fault, Fault::ConfigError { .. });
    let limited = matches!(fault, Fault::RateLimited { .. });
    let (message, after, login) = match fault {
        Fault::Retry { after, reason } => (reason, after, Login::Fine),
        Fault::RateLimited { after, reason } => {
            (format!("the vendor asks for fewer calls: {reason}"), after, Login::Fine)
        }
        Fault::RefreshAuth { reason } => {
            (format!("the vendor refused the credentials: {reason}"), None, Login::Refused)
        }
        Fault::Reconnect { reason } => (format!("the vendor wants a new login: {reason}"), None, Login::Dead),
        Fault::ResetCursor { reason } => {
            (format!("the vendor's cursor expires again and again: {reason}"), None, Login::Fine)
        }
        Fault::RestartScan { reason } => {
            (format!("the vendor's page cursor dies again and again: {reason}"), None, Login::Fine)
        }
        Fault::ShrinkPage => ("the vendor finds even the smallest page too large".into(), None, Login::Fine),
        Fault::ConfigError { reason } => (reason, None, Login::Fine),
    };
    VendorTrouble { message, after, login, passing, limited }
}

pub(super) fn in_words(problems: &[FieldProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
