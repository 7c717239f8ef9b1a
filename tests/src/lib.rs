//! The parts that the tests under `it/` share: the system harness, the simulator, and the programs that they start beside
//! the system. It contains no test.

pub mod fuzz;
pub mod harness;
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
