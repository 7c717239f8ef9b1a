//! The difference between an instance as it is stored and as it is to be, resource by resource. Pure.

use std::collections::BTreeMap;

use domain::configuration::ResourceConfiguration;
use serde_json::value::RawValue;
use store::records::instance::InstanceRecord;

use super::schedule::polled;

/// The resources of a change by what becomes of them, in the order of their names. One may be both moved and restarted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ResourceDiff {
    /// Polled from now on, with the minutes between polls.
    pub added: BTreeMap<String, u16>,
    /// Polled at another interval.
    pub moved: BTreeMap<String, Move>,
    /// Polled on, without the state there is: it is of other records, other ids or other dates.
    pub restarted: Vec<String>,
    /// Polled on, with the state there is.
    pub continued: Vec<String>,
    /// Polled no longer, with the minutes that were between polls.
    pub removed: BTreeMap<String, u16>,
}

/// A change of a polling interval, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Move {
    /// The old interval.
    pub from: u16,
    /// The new one.
    pub to: u16,
}

impl ResourceDiff {
    /// The difference from `before` to `after`.
    pub(super) fn between(before: &InstanceRecord, after: &InstanceRecord) -> Self {
        let (mut removed, is) = (polled(before), polled(after));
        let mut diff = Self::default();
        for (resource, to) in is {
            let Some(from) = removed.remove(&resource) else {
                diff.added.insert(resource, to);
                continue;
            };
            if from != to {
                diff.moved.insert(resource.clone(), Move { from, to });
            }
            match reads_differently(&before.resources[&resource], &after.resources[&resource]) {
                true => diff.restarted.push(resource),
                false => diff.continued.push(resource),
            }
        }
        diff.removed = removed;
        diff
    }

    /// The resources that need a first poll.
    pub(super) fn started(&self) -> impl Iterator<Item = &String> {
        self.added.keys().chain(&self.restarted)
    }
}

/// True if a resource's state means nothing under its new configuration: other records, other ids or other dates.
fn reads_differently(before: &RawValue, after: &RawValue) -> bool {
    let parse = |raw: &RawValue| serde_json::from_str::<ResourceConfiguration>(raw.get());
    match (parse(before), parse(after)) {
        (Ok(before), Ok(after)) => {
            (before.url, before.id_field, before.updated, before.created)
                != (after.url, after.id_field, after.updated, after.created)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use domain::configuration::EventSettings;
    use serde_json::value::to_raw_value;
    use serde_json::{Value, json};

    use super::*;
    use crate::deliver::outbox::tests::instance;

    /// An instance that polls these resources every ten minutes, as its user writes them.
    fn polling(resources: Value, enabled: bool) -> InstanceRecord {
        let configuration = json!({"event.poller.configuration": resources, "event.poller.refresh_interval": 10});
        let (settings, _) = EventSettings::parse(configuration.as_object().expect("an object")).expect("settings");
        let raw = |(name, resource)| (name, to_raw_value(&resource).expect("text"));
        InstanceRecord {
            resources: settings.resources.into_iter().map(raw).collect(),
            interval_minutes: settings.interval_minutes,
            events_enabled: enabled,
            ..instance(None)
        }
    }

    fn minutes(of: &[(&str, u16)]) -> BTreeMap<String, u16> {
        of.iter().map(|(name, minutes)| (name.to_string(), *minutes)).collect()
    }

    fn names(of: &[&str]) -> Vec<String> {
        of.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_resource_is_added_removed_restarted_or_continued() {
        let check = |before: Value, after: Value, expected: ResourceDiff| {
            let diff = ResourceDiff::between(&polling(before.clone(), true), &polling(after.clone(), true));
            assert_eq!(diff, expected, "{before} to {after}");
        };
        let none = ResourceDiff::default;
        check(json!({}), json!({}), none());
        check(json!({}), json!({"a": {}}), ResourceDiff { added: minutes(&[("a", 10)]), ..none() });
        check(json!({"a": {}}), json!({}), ResourceDiff { removed: minutes(&[("a", 10)]), ..none() });
        check(json!({"a": {}}), json!({"a": {}}), ResourceDiff { continued: names(&["a"]), ..none() });
        check(
            json!({"a": {}, "b": {}}),
            json!({"b": {}, "c": {"refreshInterval": 5}}),
            ResourceDiff {
                added: minutes(&[("c", 5)]),
                continued: names(&["b"]),
                removed: minutes(&[("a", 10)]),
                ..none()
            },
        );
        let to_five = || [("a".to_owned(), Move { from: 10, to: 5 })].into();
        check(
            json!({"a": {}}),
            json!({"a": {"refreshInterval": 5}}),
            ResourceDiff { moved: to_five(), continued: names(&["a"]), ..none() },
        );
        check(
            json!({"a": {"url": "/hubs/pos/x"}}),
            json!({"a": {"url": "/hubs/pos/y", "refreshInterval": 5}}),
            ResourceDiff { moved: to_five(), restarted: names(&["a"]), ..none() },
        );
    }

    #[test]
    fn a_resource_restarts_with_other_records_ids_or_dates_and_nothing_else() {
        let restarts = |after: Value| {
            let before = polling(json!({"a": {"url": "/hubs/pos/x", "idField": "id"}}), true);
            ResourceDiff::between(&before, &polling(json!({"a": after}), true)).restarted == ["a"]
        };
        assert!(!restarts(json!({"url": "/hubs/pos/x", "idField": "id"})));
        assert!(!restarts(json!({"url": "/hubs/pos/x", "idField": "id", "pageSize": 7})));
        assert!(restarts(json!({"url": "/hubs/pos/y", "idField": "id"})));
        assert!(restarts(json!({"url": "/hubs/pos/x", "idField": "key"})));
        assert!(restarts(
            json!({"url": "/hubs/pos/x", "idField": "id", "datesConfiguration": {"updatedDateField": "at"}})
        ));
        assert!(restarts(
            json!({"url": "/hubs/pos/x", "idField": "id", "datesConfiguration": {"createdDateField": "at"}})
        ));
    }

    #[test]
    fn a_stored_configuration_that_cannot_be_read_restarts() {
        let mut before = polling(json!({"a": {}}), true);
        before.resources.insert("a".into(), to_raw_value("of a later release").expect("text"));
        assert_eq!(ResourceDiff::between(&before, &polling(json!({"a": {}}), true)).restarted, ["a"]);
    }

    #[test]
    fn events_switched_off_remove_every_resource_and_switched_on_add_them() {
        let (off, on) = (polling(json!({"a": {}}), false), polling(json!({"a": {}}), true));
        assert_eq!(ResourceDiff::between(&off, &on).added, minutes(&[("a", 10)]));
        assert_eq!(ResourceDiff::between(&on, &off).removed, minutes(&[("a", 10)]));
        assert_eq!(ResourceDiff::between(&off, &off), ResourceDiff::default());
    }

    #[test]
    fn what_is_new_or_restarted_needs_a_first_poll() {
        let before = polling(json!({"b": {"url": "/hubs/pos/x"}, "c": {}}), true);
        let after = polling(json!({"a": {}, "b": {"url": "/hubs/pos/y"}, "c": {}}), true);
        let diff = ResourceDiff::between(&before, &after);
        assert_eq!(diff.started().collect::<Vec<_>>(), ["a", "b"]);
    }
}
