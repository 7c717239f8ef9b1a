//! The whole system on one machine: the three functions, unchanged, over an embedded table, queues in memory, a
//! schedule, sandbox vendors and an inbox. It refuses to decide anything: what is polled, emitted and delivered is
//! decided where the cloud has it decided.

pub mod admin;
pub mod cli;
pub mod data;
pub mod demo;
pub mod engine;
pub mod inbox;
pub mod options;
mod output;
pub mod queue;
pub mod sandbox;
pub mod serve;
pub mod system;
pub mod wiring;
