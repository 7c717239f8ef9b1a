//! Measures what polling costs beside the least that it could cost: floors that do the same work with no state, or
//! with the least durable state. Everything is a ratio within one run on one machine; nothing here judges or fails.

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
