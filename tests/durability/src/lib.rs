//! Proofs that what the store on one machine has acknowledged is there afterwards: a process that writes is killed, or
//! its disk loses power, or its disk is full.
//!
//! `write` is the process and the oracle, `kill` kills it, `record` watches its calls of the operating system,
//! `power` replays them up to a power cut, `full` fills its disk.

pub mod full;
pub mod kill;
pub mod power;
pub mod record;
pub mod rng;
pub mod write;
