//! The steps of the river in their order, over the ports of [`ports`]. Async, but no cloud type and no
//! clock of its own: what time it is comes in through [`ports::Ports::now`].

pub mod accounts;
pub mod deliver;
pub mod fields;
pub mod instances;
pub mod job;
pub mod poll;
pub mod ports;
pub mod reseal;
pub mod restore;
pub mod schedule;
pub mod service;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod vendor;
