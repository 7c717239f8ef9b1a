//! placeholder

pub mod engine;
pub mod inbox;
pub mod queue;
pub mod sandbox;
