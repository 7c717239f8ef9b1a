//! Vendors as data: what an element file says, turned into requests, and answers turned into records.
//!
//! This crate builds `http::Request` and interprets `http::Response`. It refuses to send anything, to read a clock
//! (`now` is a parameter) and to know a vendor by name: all that tells one vendor from another stands in its file.

pub mod auth;
pub mod call;
pub mod catalog;
pub mod connection;
pub mod definition;
pub mod fault;
pub mod hub;
pub mod listing;
pub mod plan;
pub mod pointer;
pub mod single;
pub mod template;
pub mod tokens;

mod date;
mod reader;

pub use call::Bases;
pub use catalog::{Catalog, Element, FileProblem};
pub use connection::Connection;
pub use fault::Fault;
pub use plan::Plan;
pub use tokens::Tokens;
