//! placeholder

pub mod engine;
pub mod queue;
pub mod inbox;
pub mod sandbox;
