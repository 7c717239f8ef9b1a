//! The records, one module a noun: their fields as they are stored, their keys, and the reads that need more than a key.

pub mod account;
pub mod audit;
pub mod callback;
pub mod delivery;
pub mod instance;
pub mod job;
pub mod poll_input;
pub mod record_index;
pub mod resource;
pub mod schedule;
pub mod seen;
pub mod tokens;
pub mod vendor_account;
