//! From a committed delivery to an answer of the callback.
//!
//! The row was written by [`outbox`], with its [`outbox::Safeguard`]. [`deliver`] takes a job from the queue, makes one
//! attempt and commits what follows from it; [`due`] puts entries whose minute has come back on the queue; [`query`] and
//! [`redeliver`] are what people ask for: list, show, send again, resume.
//!
//! ```text
//!                        ┌───────────── released ─────────────┐
//!                        ▼                                    │
//!  committed ──► Now ── job ──► admitted? ── no ──► Backlog or At (waiting)
//!                        ▲          │ yes                     ▲
//!                  due   │          ▼                         │
//!         At (retry) ────┘       attempt ── circuit is open ──┘
//!            ▲                      │
//!            └─── failed ───────────┤
//!                                   ├── 2xx ──────────────────────► Settled (delivered)
//!                                   ├── 410, schedule ended ──────► Settled or Backlog (queued) ── resume ──► Now
//!                                   └── a newer one takes its place ► Settled (superseded)
//! ```
//!
//! The boxes are [`domain::delivery::Schedule`], the words in brackets [`domain::delivery::Status`]. Each arrow is one
//! [`domain::transition::Transition`], committed by one transaction; messages are sent after it.
//!
//! **Never lost.** An unsettled delivery has an entry among the retries of a minute, or a place in the backlog of its
//! callback, or, before its first attempt, is named by the state of its resource. A backlog that may drain has a delivery
//! among the retries that drains it. A message that is lost, or never sent, is made good when the entry's minute or the
//! next poll comes.
//!
//! **More than once, at times.** Between an answer and the transaction that notes it anything may die, and the attempt is
//! repeated, under the same delivery id.
//!
//! Uses `accounts::auth` and `vendor::secrets`, and is used by `poll` and `instances`.

mod attempt;
mod commit;
mod context;
mod drain;
mod due;
mod limits;
pub mod outbox;
pub mod query;
pub mod redeliver;
mod request;
mod retry;
pub use store::records::delivery as row;
#[cfg(test)]
mod tests;
mod trial;

pub use attempt::{DeliveryReport, Outcome, Since, deliver, set_aside};
pub use drain::{CallbackView, callback_view, release_backlog, resume};
pub use due::due;
pub use limits::CallbackLimits;
pub use trial::{TrialError, TrialSender, try_callback};

use store::RecordError;
use store::records::delivery::BodyError;

use crate::ports::VaultError;

/// The reason why a step could not be taken. The job should come again; nothing that was promised is lost.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// A record could not be read or written.
    #[error("the store failed on {what}")]
    Record {
        /// The record that was read or written.
        what: &'static str,
        /// The reason.
        #[source]
        source: RecordError,
    },
    /// The credentials could not be opened just now.
    #[error("the callback's secrets cannot be opened now")]
    Vault(#[source] VaultError),
    /// A body is not whole.
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// For `map_err`: names what was read or written.
fn failed<E: Into<RecordError>>(what: &'static str) -> impl FnOnce(E) -> DeliveryError {
    move |source| DeliveryError::Record { what, source: source.into() }
}
