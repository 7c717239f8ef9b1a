//! The reasons why a vendor gave nothing that a caller can use.

use std::time::Duration;

use domain::problem::FieldProblem;
use elements::Fault;

use crate::ports::HttpError;
use crate::service::FlowError;

/// The reason why a vendor was not asked, did not answer, or gave an answer that is none. The variants differ in what the caller
/// does next.
#[derive(Debug, thiserror::Error)]
pub enum VendorError {
    /// The element of the instance is not installed.
    #[error("the element {0:?} is not installed")]
    NoElement(String),
    /// The vendor cannot be reached as it is configured.
    #[error("{}", in_words(.0))]
    Misconfigured(Vec<FieldProblem>),
    /// The request cannot be built of what is configured.
    #[error(transparent)]
    Request(#[from] FieldProblem),
    /// Our own budget of calls is spent; nothing was sent.
    #[error("our own budget of calls to the vendor is spent for {} s", wait.as_secs().max(1))]
    OverBudget {
        /// When there is room for a call again.
        wait: Duration,
    },
    /// The caller has no time left; nothing was sent.
    #[error("there was no time left for it: the vendor is slow; try fewer resources at once")]
    OutOfTime,
    /// No answer came.
    #[error("the vendor could not be reached: {0}")]
    Unreachable(HttpError),
    /// The answer is larger than is read.
    #[error("the vendor's page is larger than {} MB: configure a smaller pageSize", limit >> 20)]
    TooLarge {
        /// Largest answer that is read, in bytes.
        limit: usize,
    },
    /// The answer is a fault by the element's rules. [`Fault::RefreshAuth`]: the token was renewed and refused again,
    /// or there is none to renew.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// Answers came, and no page of records however often the listing was asked.
    #[error("the vendor answers without records again and again")]
    NoPage,
    /// The vendor will not renew the tokens: someone must log in again.
    #[error("the vendor no longer accepts the login: {0}")]
    LoginEnded(String),
    /// The tokens cannot be renewed now.
    #[error("the token could not be renewed now: {reason}")]
    NotRenewed {
        /// The reason.
        reason: String,
        /// When the vendor wants to be asked again.
        after: Option<Duration>,
    },
    /// Our own trouble.
    #[error(transparent)]
    Flow(#[from] FlowError),
}

fn in_words(problems: &[FieldProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
