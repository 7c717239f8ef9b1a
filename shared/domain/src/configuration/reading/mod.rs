//! Parses the platform's keys of an instance's `configuration`.
//!
//! Parsing is lenient about form and strict about meaning. Booleans and numbers may be strings, `null` and blank text
//! are absent, unknown keys and misplaced ones are left out with a warning. What has no meaning is a problem, and all
//! problems are reported together.

mod callback;
mod collector;
mod dates;
mod fields;
mod headers;
mod legacy;
mod resource;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use self::callback::parse_callback;
use self::collector::Collector;
use self::fields::{Fields, parse_boolean, parse_choice, parse_interval, parse_word};
use self::resource::{parse_resource, parse_resources};
use super::keys::{
    EVENTS_ENABLED, FILTER_NULLS, KEYS, NOTIFICATION_TYPE, NOTIFICATION_TYPES, REFRESH_INTERVAL, VENDOR_TYPE,
};
use super::{DEFAULT_INTERVAL_MINUTES, EventSettings, ResourceConfiguration, VendorType};
use crate::problem::{FieldProblem, Warning};

impl EventSettings {
    /// Parses the `configuration` object of an instance body. Keys of the element's own are not looked at.
    ///
    /// # Errors
    /// Everything that is wrong, in the order in which it was read.
    pub fn parse(configuration: &Map<String, Value>) -> Result<(Self, Vec<Warning>), Vec<FieldProblem>> {
        let mut collector = Collector::default();
        let fields = Fields { object: configuration, path: "configuration".to_owned() };
        for key in configuration.keys().filter(|key| key.starts_with("event.") || key.starts_with("notification.")) {
            collector.warn_unknown(&fields, key, KEYS.iter().map(|known| known.name));
        }
        let resources = parse_resources(&fields, &mut collector);
        let vendor_type = parse_choice(&fields, VENDOR_TYPE, &mut collector).unwrap_or_default();
        if vendor_type == VendorType::Webhook {
            collector.warn(fields.at(VENDOR_TYPE), "events come by polling; calls from the vendor are not taken");
        }
        parse_word(&fields, NOTIFICATION_TYPE, &NOTIFICATION_TYPES, &mut collector);
        if !resources.is_empty() && fields.get(EVENTS_ENABLED).is_none() {
            collector.warn(fields.at(EVENTS_ENABLED), "it is absent, so nothing is polled until it is true");
        }
        let settings = Self {
            enabled: parse_boolean(&fields, EVENTS_ENABLED, &mut collector).unwrap_or(false),
            callback: parse_callback(&fields, &mut collector),
            interval_minutes: parse_interval(&fields, REFRESH_INTERVAL, &mut collector)
                .unwrap_or(DEFAULT_INTERVAL_MINUTES),
            resources,
            filter_response_nulls: parse_boolean(&fields, FILTER_NULLS, &mut collector).unwrap_or(true),
            vendor_type,
        };
        collector.finish(settings)
    }
}

impl ResourceConfiguration {
    /// Parses one entry of `event.poller.configuration`, such as an element's default, by the rules of
    /// [`EventSettings::parse`]. `path` is the entry's place in the body.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn parse(entry: &Map<String, Value>, path: &str) -> Result<(Self, Vec<Warning>), Vec<FieldProblem>> {
        let mut collector = Collector::default();
        let resource = parse_resource(&Fields { object: entry, path: path.to_owned() }, &mut collector);
        collector.finish(resource)
    }
}
