//! What the stories under `it/` share: the programs that they start beside the system. It has no story of its own.

pub mod moto;
pub mod program;
