//! From a committed delivery to an answer of the callback.

pub mod row;
