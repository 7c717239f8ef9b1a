//! From a committed delivery to an answer of the callback.
//!
//! The row was written by [`crate::outbox`], with its [`crate::outbox::Safeguard`]. [`deliver`] takes a job from the queue,
//! makes one attempt and files what follows from it; [`due`] puts entries whose minute has come back on the queue;
//! [`desk`] is what people ask for: list, show, send again, resume.
//!
//! **Never lost.** An unsettled delivery always has an entry under `RETRY#`, or a place in the line of its callback, or,
//! before its first attempt, is named by the state of its resource; and a line that may drain always has a delivery
//! under `RETRY#` that drains it. Each move from one to the other is one transaction, and messages are sent after it: a
//! message that is lost, or never sent, is made good when the entry's minute or the next poll comes. **More than once, at times**: between an answer and the transaction that
//! notes it anything may die, and the attempt is repeated, under the same delivery id.

mod attempt;
mod callback;
mod coalesce;
pub mod desk;
mod due;
mod limits;
mod rotation;
pub use store::records::delivery as row;
#[cfg(test)]
mod tests;
mod trial;

pub use attempt::{DeliveryReport, Outcome, Since, deliver, set_aside};
pub use callback::{CallbackView, callback_view, release_line, resume};
pub use due::due;
pub use limits::CallbackLimits;
pub use rotation::{Rotated, rotate};
pub use trial::{TrialError, TrialSender, try_callback};

use crate::ports::{StoreError, VaultError};
use crate::table::Unreadable;

/// Why a step could not be taken. The job should come again; nothing that was promised is lost.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The store failed.
    #[error("the store failed on {what}")]
    Store {
        /// What was read or written.
        what: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The credentials could not be opened just now.
    #[error("the callback's secrets cannot be opened now")]
    Vault(#[source] VaultError),
    /// An item does not say what its key promises.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A body is not whole.
    #[error(transparent)]
    Body(#[from] row::BodyError),
    /// Many others change the state of this callback at this moment.
    #[error("the callback's state changed under every try to write it")]
    Contended,
}

/// Names what was asked of the store in its error.
fn store(what: &'static str) -> impl FnOnce(StoreError) -> DeliveryError {
    move |source| DeliveryError::Store { what, source }
}
