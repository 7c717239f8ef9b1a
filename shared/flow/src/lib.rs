//! The steps of the river in their order, over the ports of [`ports`]. Async, but no cloud type and no
//! clock of its own: what time it is comes in through [`ports::Ports::now`].

pub mod accounts;
pub mod audit;
pub mod deliver;
pub mod dispatch;
pub mod fields;
pub mod instances;
pub mod job;
pub mod limits;
pub mod poll;
pub mod ports;
pub mod principal;
pub mod reseal;
pub mod restore;
pub mod schedule;
pub mod service;
pub mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod vendor;

/// The former names of [`deliver`] and [`deliver::outbox`], until every user imports these.
pub use deliver as delivery;
pub use deliver::outbox;
/// The former places of the modules of [`vendor`], until every user imports these.
pub use vendor::{hub, secrets, tokens};
