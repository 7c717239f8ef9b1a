//! Vendors as data: builds requests and reads answers as element files describe them.
//!
//! This crate builds `http::Request` and reads `http::Response`. It does not send requests, does not read a clock
//! (`now` is a parameter) and does not know a vendor by name: every difference between vendors is in their files.
//!
//! From file to record:
//!
//! | Module | Contents |
//! | --- | --- |
//! | [`definition`] | the vocabulary of element files, as Rust types |
//! | [`template`] | placeholders in paths, queries and bodies |
//! | [`mod@pointer`] | JSON pointers, and a walk that finds their values in raw JSON |
//! | [`catalog`] | all elements, and the consistency rules of their files |
//! | [`connection`] | the values that a user filled in to connect an account |
//! | [`tokens`] | the tokens of a connected account |
//! | [`auth`] | the login page, requests for tokens, and their answers |
//! | [`call`] | building a request |
//! | `mask` | hiding secrets in a vendor's words |
//! | [`fault`] | the meaning of error answers |
//! | [`plan`] | a configured resource with every choice made |
//! | `paging` | the paging kinds, one file each |
//! | `date` | timestamps in an element's formats |
//! | `reader` | records out of a page's bytes |
//! | [`listing`] | a scan of a listing, page by page |
//! | [`single`] | reading one record, and checking a connection |
//! | [`hub`] | reads by users, `GET /hubs/{hub}/{resource}` |

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
mod mask;
mod paging;
mod reader;

pub use call::Bases;
pub use catalog::{Catalog, Element, FileProblem};
pub use connection::Connection;
pub use fault::Fault;
pub use plan::Plan;
pub use tokens::Tokens;
