//! A request that was checked, and the login that it brings along.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::configuration::EventSettings;
use domain::problem::Warning;
use elements::Element;
use elements::connection::Connection;
use serde_json::{Map, Value};

/// A request that is in order.
pub(super) struct Checked {
    /// The vendor.
    pub element: Arc<Element>,
    /// The way to reach it.
    pub connection: Connection,
    /// The resources that are polled and the callback.
    pub settings: EventSettings,
    /// Every key as it will be stored, with its real value as text.
    pub configuration: BTreeMap<String, Option<String>>,
    /// Values that were read differently from how they were written.
    pub warnings: Vec<Warning>,
}

/// The login that a request brings along.
#[derive(Clone, Copy)]
pub(super) struct LoginGiven<'a> {
    /// `providerData`.
    pub provider_data: &'a Map<String, Value>,
    /// Tokens stand in the configuration.
    pub tokens_given: bool,
    /// A login has to be there: the instance is new, or it logs in again.
    pub needed: bool,
}
