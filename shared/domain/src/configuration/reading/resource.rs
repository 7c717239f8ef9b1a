//! Parses the polled resources: `event.poller.configuration`, and the older keys that name resources.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::collector::Collector;
use super::dates::{DATE_KEYS, parse_dates};
use super::fields::{
    Fields, NESTED_JSON, parse_boolean, parse_choice, parse_integer, parse_interval, parse_record_path, parse_share,
    parse_text,
};
use super::legacy::legacy_entries;
use crate::configuration::ResourceConfiguration;
use crate::configuration::keys::{OBJECTS, POLLER_CONFIGURATION, POLLER_URLS};
use crate::json::parse_strict;
use crate::limits;
use crate::poll_url::PollUrl;
use crate::problem::below;

/// Seconds of a leap year. Seconds and minutes beyond a year are typing errors.
const YEAR_S: i64 = 366 * 86_400;
/// Largest page that can be asked for, in records.
const LARGEST_PAGE: i64 = 10_000;

/// The keys of a resource.
const RESOURCE_KEYS: [&str; 14] = [
    "url",
    "idField",
    "datesConfiguration",
    "filterByUpdatedDate",
    "filterByUpdateDate",
    "filterByCurrentDate",
    "createdCheckTolerance",
    "pageSize",
    "pollDelay",
    "createdRule",
    "initialPoll",
    "sweepInterval",
    "maxDeleteShare",
    "refreshInterval",
];

/// The resources by name. Names that a newer key has are not read from an older one.
pub(super) fn parse_resources(
    fields: &Fields<'_>,
    collector: &mut Collector,
) -> BTreeMap<String, ResourceConfiguration> {
    let mut resources = BTreeMap::new();
    let path = fields.at(POLLER_CONFIGURATION);
    match fields.get(POLLER_CONFIGURATION) {
        None => {}
        Some(Value::Object(entries)) => parse_entries(&mut resources, entries, &path, collector),
        Some(Value::String(text)) => match parse_strict(text.as_bytes(), NESTED_JSON) {
            Ok(Value::Object(entries)) => parse_entries(&mut resources, &entries, &path, collector),
            Ok(_) => collector.refuse(path, text, "an object of resources"),
            Err(problem) => collector.refuse(path, text, format!("JSON; in its {problem}")),
        },
        Some(other) => collector.refuse(path, other, "an object of resources, or the same as a string"),
    }
    for key in [POLLER_URLS, OBJECTS] {
        if let Some(text) = parse_text(fields, key, collector) {
            let entries = legacy_entries(text, &fields.at(key), collector);
            parse_entries(&mut resources, &entries, &fields.at(key), collector);
        }
    }
    resources
}

/// Adds the entries of an object to the resources. A name that is there already stays as it is.
fn parse_entries(
    resources: &mut BTreeMap<String, ResourceConfiguration>,
    entries: &Map<String, Value>,
    path: &str,
    collector: &mut Collector,
) {
    if entries.len() + resources.len() > limits::RESOURCES {
        let read = format!("{} resources", entries.len() + resources.len());
        let expected = format!("at most {}; spread more over several instances", limits::RESOURCES);
        return collector.refuse(path.to_owned(), read, expected);
    }
    for (name, entry) in entries {
        let path = below(path, name);
        let longest = limits::RESOURCE_NAME_CHARACTERS;
        if name.trim().is_empty() || name.chars().count() > longest || name.contains(char::is_control) {
            collector.refuse(path, name, format!("the name of a resource, of 1 to {longest} characters"));
            continue;
        }
        let resource = match entry {
            _ if resources.contains_key(name) => continue,
            Value::Object(object) => parse_resource(&Fields { object, path }, collector),
            Value::Null => ResourceConfiguration::default(),
            other => {
                collector.refuse(path, other, "an object with url, idField and datesConfiguration, or {}");
                continue;
            }
        };
        resources.insert(name.clone(), resource);
    }
}

/// One resource.
pub(super) fn parse_resource(fields: &Fields<'_>, collector: &mut Collector) -> ResourceConfiguration {
    for key in fields.object.keys() {
        if DATE_KEYS.contains(&key.as_str()) {
            collector.warn(fields.at(key), "it stands beside datesConfiguration instead of in it, and is left out");
        } else {
            collector.warn_unknown(fields, key, RESOURCE_KEYS.iter().copied());
        }
    }
    let url = parse_url(fields, collector);
    let (updated, created) = match fields.get("datesConfiguration") {
        None => (None, None),
        Some(Value::Object(object)) => {
            parse_dates(&Fields { object, path: fields.at("datesConfiguration") }, collector)
        }
        Some(other) => {
            let expected = "an object with updatedDateField and its like";
            collector.refuse(fields.at("datesConfiguration"), other, expected);
            (None, None)
        }
    };
    // The singular is a spelling of the printed examples.
    let misspelt_filter = parse_boolean(fields, "filterByUpdateDate", collector);
    if fields.object.get("idField").and_then(Value::as_str).is_some_and(|text| text.trim().is_empty()) {
        collector.warn(fields.at("idField"), "it is empty, so records are known by the element's own id");
    }
    let seconds = |key, collector: &mut Collector| parse_integer(fields, key, 0..=YEAR_S, "seconds", collector);
    ResourceConfiguration {
        url,
        id_field: parse_record_path(fields, "idField", collector),
        updated,
        created,
        filter_by_updated_date: parse_boolean(fields, "filterByUpdatedDate", collector)
            .or(misspelt_filter)
            .unwrap_or(true),
        filter_by_current_date: parse_boolean(fields, "filterByCurrentDate", collector).unwrap_or(false),
        created_check_tolerance_s: seconds("createdCheckTolerance", collector),
        page_size: parse_integer(fields, "pageSize", 1..=LARGEST_PAGE, "records", collector),
        poll_delay_s: seconds("pollDelay", collector).unwrap_or(0),
        created_rule: parse_choice(fields, "createdRule", collector).unwrap_or_default(),
        initial_poll: parse_choice(fields, "initialPoll", collector).unwrap_or_default(),
        sweep_minutes: parse_integer(fields, "sweepInterval", 1..=YEAR_S / 60, "minutes", collector),
        max_delete_share: parse_share(fields, "maxDeleteShare", collector),
        interval_minutes: parse_interval(fields, "refreshInterval", collector),
    }
}

fn parse_url(fields: &Fields<'_>, collector: &mut Collector) -> Option<PollUrl> {
    let text = parse_text(fields, "url", collector)?;
    match PollUrl::parse(text) {
        Ok((url, warnings)) => {
            for warning in warnings {
                collector.warn(fields.at("url"), warning.message);
            }
            Some(url)
        }
        Err(problem) => {
            collector.refuse(fields.at("url"), text, problem.to_string());
            None
        }
    }
}
