//! The schedule under its former module's name, until every user imports [`crate::schedule`].

pub use crate::job::send_all;
pub use crate::schedule::{DispatchReport, dispatch};
