//! Every strategy of the vocabulary, on made-up elements: the strategies that no embedded element uses, and edge cases of
//! the others.

mod auth;
mod listing;
mod plans;
mod support;
