//! Decisions, without side effects. This crate knows polls, changes, events and deliveries, and what follows from them.
//!
//! It refuses to know how anything is fetched, stored or sent: no async, clock, randomness, environment, HTTP client or
//! cloud type. `now` and `jitter` are parameters.
//!
//! | Module | Contents |
//! | --- | --- |
//! | [`id`] | typed ids of instances, organizations, users, events and deliveries |
//! | [`problem`] | problems and warnings about what a user wrote |
//! | [`secret`] | a text that masks itself |
//! | [`json`] | strict JSON with limits |
//! | [`limits`] | the limits on input |
//! | [`zone`] | time zones by all the names that vendors and Java have |
//! | [`date`] | dates by `SimpleDateFormat` patterns |
//! | [`ceql`] | the query language of `where=` |
//! | [`poll_url`] | the URL of a polled resource, with macros for times |
//! | [`configuration`] | the table of configuration keys, and the settings that they hold |
//! | [`wheel`] | the timing wheel: which resources are due in a minute |
//! | [`record`] | a vendor's record, and a change |
//! | [`detect`] | decides which records become events |
//! | [`rule`] | the rules of detection, the reasons of its decisions |
//! | [`index`] | the packed index of known records |
//! | [`coverage`] | the stretches of time that were watched without a gap |
//! | [`lateness`] | measured lateness of a vendor's listings, and the overlap |
//! | [`event`] | derived ids of events and notifications |
//! | [`envelope`] | the bytes of a notification |
//! | [`signature`] | the two signatures of a notification |
//! | [`backoff`] | waits between failed polls |
//! | [`circuit`] | the circuit breaker of a callback |
//! | [`backlog`] | the deliveries that wait behind a callback |
//! | [`callback`] | the state of a callback: its circuit breaker and its backlog |
//! | [`delivery`] | the schedule and status of a delivery |
//! | [`transition`] | what an attempt changes about a delivery and its callback |
//! | [`retry_schedule`] | the retry schedule of deliveries |
//! | [`retry_minute`] | the minute that a retry entry is filed under |

pub mod backlog;
pub mod backoff;
pub mod callback;
pub mod ceql;
pub mod circuit;
pub mod configuration;
pub mod coverage;
pub mod date;
pub mod delivery;
pub mod detect;
pub mod envelope;
pub mod event;
pub mod id;
pub mod index;
pub mod json;
pub mod lateness;
pub mod limits;
pub mod poll_url;
pub mod problem;
pub mod record;
pub mod retry_minute;
pub mod retry_schedule;
pub mod rule;
pub mod secret;
pub mod signature;
pub mod transition;
pub mod wheel;
pub mod zone;
