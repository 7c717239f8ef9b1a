//! The errors that end a poll, one enum for each caller. Suspension is no error: it is an outcome of a scan.

use std::time::Duration;

use domain::problem::FieldProblem;
use elements::Fault;
use store::records::record_index::IndexError;

use crate::service::FlowError;
use crate::vendor::VendorError;

/// A resource cannot be polled.
pub(super) enum PrepareError {
    /// It is configured wrongly; in words.
    Misconfigured(String),
    /// Our own trouble.
    Internal(FlowError),
}

impl From<FlowError> for PrepareError {
    fn from(error: FlowError) -> Self {
        Self::Internal(error)
    }
}

impl From<VendorError> for PrepareError {
    fn from(error: VendorError) -> Self {
        match error {
            VendorError::Flow(error) => Self::Internal(error),
            other => Self::Misconfigured(other.to_string()),
        }
    }
}

impl From<Vec<FieldProblem>> for PrepareError {
    fn from(problems: Vec<FieldProblem>) -> Self {
        Self::Misconfigured(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

/// A pass ended before its end.
pub(super) enum PassError {
    /// Another poll changed the resource's state meanwhile; the work of this one is thrown away.
    Superseded,
    /// The vendor, or the way to it, failed.
    Vendor(VendorFailure),
    /// Our own trouble.
    Internal(FlowError),
}

impl From<FlowError> for PassError {
    fn from(error: FlowError) -> Self {
        Self::Internal(error)
    }
}

impl From<IndexError> for PassError {
    fn from(error: IndexError) -> Self {
        Self::Internal(error.into())
    }
}

impl From<VendorError> for PassError {
    fn from(error: VendorError) -> Self {
        match error {
            VendorError::Flow(error) => Self::Internal(error),
            other => Self::Vendor(other.into()),
        }
    }
}

/// A failure of the vendor, or of the way to it.
#[derive(Debug, Clone, Default)]
pub(super) struct VendorFailure {
    /// The reason, for people.
    pub(super) message: String,
    /// The pause that the vendor asks for.
    pub(super) retry_after: Option<Duration>,
    pub(super) login: LoginState,
    /// It may be over when the poll is tried again.
    pub(super) is_transient: bool,
    /// The vendor wants fewer calls of the whole account.
    pub(super) is_rate_limit: bool,
}

/// The meaning of a failure for the instance's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LoginState {
    /// The failure is about something else.
    #[default]
    Accepted,
    /// Refused, which may be a passing confusion of the vendor.
    Refused,
    /// Spent for good: only a new login helps.
    Dead,
}

impl VendorFailure {
    /// A failure that lasts until something is configured otherwise.
    pub(super) fn lasting(message: String) -> Self {
        Self { message, ..Self::default() }
    }

    fn transient(message: String, retry_after: Option<Duration>) -> Self {
        Self { message, retry_after, is_transient: true, ..Self::default() }
    }

    fn of_fault(fault: Fault) -> Self {
        match fault {
            Fault::Retry { after, reason } => Self::transient(reason, after),
            Fault::RateLimited { after, reason } => {
                let message = format!("the vendor asks for fewer calls: {reason}");
                Self { is_rate_limit: true, ..Self::transient(message, after) }
            }
            Fault::RefreshAuth { reason } => {
                let message = format!("the vendor refused the credentials: {reason}");
                Self { login: LoginState::Refused, ..Self::transient(message, None) }
            }
            Fault::Reconnect { reason } => {
                let message = format!("the vendor wants a new login: {reason}");
                Self { login: LoginState::Dead, ..Self::transient(message, None) }
            }
            Fault::ResetCursor { reason } => {
                Self::transient(format!("the vendor's cursor expires again and again: {reason}"), None)
            }
            Fault::RestartScan { reason } => {
                Self::transient(format!("the vendor's page cursor dies again and again: {reason}"), None)
            }
            Fault::ShrinkPage => Self::transient("the vendor finds even the smallest page too large".into(), None),
            Fault::ConfigError { reason } => Self::lasting(reason),
        }
    }
}

impl From<VendorError> for VendorFailure {
    fn from(error: VendorError) -> Self {
        match error {
            VendorError::Fault(fault) => Self::of_fault(fault),
            VendorError::LoginEnded(message) => Self { login: LoginState::Dead, ..Self::lasting(message) },
            VendorError::NotRenewed { reason, after } => Self::transient(reason, after),
            VendorError::OverBudget { wait } => Self::transient(error.to_string(), Some(wait)),
            other => Self::transient(other.to_string(), None),
        }
    }
}
