//! Decisions. This crate knows what a poll, a change, an event and a delivery *are*
//! and what follows from what; it refuses to know how anything is fetched, stored or sent.
//! No async, clock, randomness, environment, HTTP client or cloud type: `now` and `jitter` are parameters.

pub mod id;
pub mod problem;
pub mod secret;

pub mod json;
pub mod limits;

pub mod zone;

pub mod date;

pub mod ceql;

pub mod poll_url;

pub mod configuration;

pub mod wheel;

pub mod record;

pub mod coverage;
pub mod detect;
pub mod index;
pub mod lateness;
pub mod rule;

pub mod backoff;

pub mod backlog;
pub mod callback;
pub mod circuit;
pub mod delivery;
pub mod envelope;
pub mod event;
pub mod retry_minute;
pub mod retry_schedule;
pub mod signature;
pub mod transition;
