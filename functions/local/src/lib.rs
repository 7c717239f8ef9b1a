//! placeholder

pub mod engine;
pub mod queue;
