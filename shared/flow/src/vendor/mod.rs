//! Requests to vendors: the [`Session`] that sends them for polls, hub calls, rehearsals and logins alike.
//!
//! This noun uses the ports alone; every other noun may use it.

mod session;

pub use session::{Latency, Purpose, Session, VendorError};
