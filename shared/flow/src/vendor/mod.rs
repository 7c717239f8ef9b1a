//! Requests to vendors: the [`Session`] that sends them for polls, hub calls, rehearsals and logins alike, and what it
//! needs: tokens, sealed secrets and budgets.
//!
//! This noun uses the ports and the store's records alone; every other noun may use it.

pub mod budget;
mod error;
pub mod hub;
pub mod secrets;
mod session;
#[cfg(test)]
mod tests;
pub mod tokens;

pub use error::VendorError;
pub use session::{Latency, Purpose, Session};
