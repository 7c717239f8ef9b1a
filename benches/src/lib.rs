//! Measures the cost of polling and compares it with floors that do the same work with no state, or with the least durable
//! state. Every result is a ratio within one run on one machine. Nothing here fails on a result.

pub mod clock;
pub mod cold;
pub mod core;
pub mod cost;
pub mod floor;
pub mod measure;
pub mod ours;
pub mod plot;
pub mod table;
pub mod vendor;
