//! What the stories under `it/` share: the world they are told in, and the programs that they start beside the system.
//! It has no story of its own.

pub mod fuzz;
pub mod kill;
pub mod load;
pub mod long;
pub mod ministack;
pub mod moto;
pub mod mutate;
pub mod planted;
pub mod program;
pub mod python;
pub mod reliability;
pub mod sim;
pub mod soak;
pub mod upgrade;
pub mod world;
