//! The steps of the river in their order, over five ports: Store, Queue, Http, Vault and Ambient.
//!
//! Async, but no cloud type and no clock of its own: the time comes in through [`ports::Ports::now`]. Keys, versions and
//! conflicts are `store`'s alone.
//!
//! | Module | What it does |
//! | --- | --- |
//! | [`vendor`] | sends requests to vendors: sessions, tokens, sealed secrets, budgets, hub calls |
//! | [`accounts`] | organizations, users, secrets, authentication, limits, the audit trail |
//! | [`deliver`] | changes to deliveries, attempts, a callback's backlog, queries and redelivery |
//! | [`poll`] | one poll of one resource, from its state to its committed events |
//! | [`instances`] | creates, checks, changes, rehearses and removes instances |
//! | [`schedule`] | the dispatcher's step: due polls and retries onto the queues |
//! | [`restore`], [`reseal`] | a table restored from a point in time; sealing with a new key |
//! | [`ports`], [`service`], [`job`] | the outside world as traits, what every step is given, messages that carry jobs |
//! | [`fields`], [`trace`] | names of log fields; trace ids |
//!
//! `vendor` and `accounts::{auth, limits, secret}` use none of the others, `deliver` and `poll` use these, `instances`
//! uses all of them, and `accounts::suspend` uses `instances`. No two files import each other in a circle.

pub mod accounts;
pub mod deliver;
pub mod fields;
pub mod instances;
pub mod job;
pub mod poll;
pub mod ports;
pub mod reseal;
pub mod restore;
pub mod schedule;
pub mod service;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod vendor;
