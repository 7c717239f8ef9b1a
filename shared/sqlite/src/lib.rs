//! The [`Store`](store::port::Store) on one machine: a SQLite database in a data directory, inside this process.
//!
//! - [`directory`]: the data directory, private and used by one process at a time.
//! - `database`: connections, settings and the one table.
//! - `writer`: the one thread that writes. It commits whatever waits as one transaction and answers after the commit.
//! - `reader`: the threads that read. Each page of a query is a snapshot of its own.
//! - `expiry`: decides whether the clock is believed enough to delete what has expired.
//! - `body`, `limits`: the form in which a body is stored; the limits of the port.
//! - `backup`: a consistent copy of a database in use, and the check of its structure.
//!
//! A write that was answered survives the death of the process and a power cut: the log is synced before the answer.
//! This crate knows nothing of what an item means.

mod backup;
mod body;
mod database;
pub mod directory;
mod error;
mod expiry;
mod limits;
mod reader;
mod sqlite_store;
mod writer;

pub use error::{BackupError, OpenError};
pub use expiry::Expiry;
pub use sqlite_store::{Options, SqliteStore};
