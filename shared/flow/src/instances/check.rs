//! The check of a request as a whole, before anything is stored or sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::configuration::EventSettings;
use domain::configuration::keys::{ACCESS_TOKEN, POLLER_CONFIGURATION, REFRESH_TOKEN};
use domain::limits;
use domain::problem::{FieldProblem, below, nearest};
use elements::connection::{Connection, correct_swapped_keys};
use elements::plan::Plan;
use elements::{Catalog, Element};
use serde_json::{Map, Value};

use super::InstanceError;
use super::body::kind;
use super::checked::{Checked, LoginGiven};
use super::login::check_login;

/// The element that a request names.
pub(super) fn choose_element(catalog: &Catalog, named: Option<&str>) -> Result<Arc<Element>, FieldProblem> {
    let keys = || catalog.iter().map(|element| element.key.as_str());
    let Some(named) = named else {
        let expected =
            format!("an object with the key of an element: one of {}", keys().collect::<Vec<_>>().join(", "));
        return Err(FieldProblem::new("element", "nothing", expected));
    };
    catalog.get(named).cloned().ok_or_else(|| {
        let near = nearest(named, keys()).map_or_else(String::new, |near| format!("; the nearest is {near}"));
        let expected = format!("one of {}{near}", keys().collect::<Vec<_>>().join(", "));
        FieldProblem::new("element.key", named, expected)
    })
}

/// Checks everything together, so that one answer says all that is wrong. Values under wrong keys of the manual
/// of Cloud Elements are put right first.
pub(super) fn check(
    element: Result<Arc<Element>, FieldProblem>,
    configuration: &mut Map<String, Value>,
    login: LoginGiven<'_>,
) -> Result<Checked, InstanceError> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    check_size("configuration", configuration, &mut problems);
    check_size("providerData", login.provider_data, &mut problems);
    if !problems.is_empty() {
        // What is too large is not read any further.
        return Err(InstanceError::Invalid(problems));
    }
    let (element, connection) = match element {
        Err(problem) => {
            problems.push(problem);
            (None, None)
        }
        Ok(element) => {
            warnings.extend(correct_swapped_keys(&element, configuration));
            let configuration = &*configuration;
            let connection = match Connection::resolve(&element, configuration, login.provider_data) {
                Ok((connection, read_differently)) => {
                    warnings.extend(read_differently);
                    Some(connection)
                }
                Err(missing) => {
                    problems.extend(missing);
                    None
                }
            };
            problems.extend(check_login(&element, connection.as_ref(), configuration, login));
            (Some(element), connection)
        }
    };
    let configuration = &*configuration;
    let settings = match EventSettings::parse(configuration) {
        Ok((settings, read_differently)) => {
            warnings.extend(read_differently);
            Some(settings)
        }
        Err(wrong) => {
            problems.extend(wrong);
            None
        }
    };
    // A slip elsewhere does not hide what is wrong with the resources.
    let alone = || {
        let only = configuration.iter().filter(|(key, _)| *key == POLLER_CONFIGURATION);
        let only: Map<String, Value> = only.map(|(key, value)| (key.clone(), value.clone())).collect();
        EventSettings::parse(&only).ok().map(|(settings, _)| settings)
    };
    if let (Some(element), Some(settings)) = (&element, settings.clone().or_else(alone)) {
        let path = below("configuration", POLLER_CONFIGURATION);
        if settings.resources.len() > limits::RESOURCES {
            let read = format!("{} resources", settings.resources.len());
            let expected = format!("at most {}; spread more over several instances", limits::RESOURCES);
            problems.push(FieldProblem::new(&path, read, expected));
        }
        for (name, resource) in &settings.resources {
            match Plan::resolve(element, name, resource, configuration) {
                Ok((_, read_differently)) => warnings.extend(read_differently),
                Err(wrong) => problems.extend(wrong),
            }
        }
    }
    let flat = flatten(configuration, element.as_deref(), login.provider_data, &mut problems);
    match (element, connection, settings) {
        (Some(element), Some(connection), Some(settings)) if problems.is_empty() => {
            Ok(Checked { element, connection, settings, configuration: flat, warnings })
        }
        _ => Err(InstanceError::Invalid(problems)),
    }
}

/// Refuses what would not fit where it is stored, key by key. `given` is as it would be stored: after a merge.
fn check_size(field: &str, given: &Map<String, Value>, problems: &mut Vec<FieldProblem>) {
    if given.len() > limits::CONFIGURATION_KEYS {
        let expected = format!("at most {} keys", limits::CONFIGURATION_KEYS);
        problems.push(FieldProblem::new(field, format!("{} keys", given.len()), expected));
    }
    let mut bytes = 0;
    for (key, value) in given {
        if key.chars().count() > limits::KEY_CHARACTERS {
            let expected = format!("a key of at most {} characters", limits::KEY_CHARACTERS);
            problems.push(FieldProblem::new(below(field, key), "a longer key", expected));
        }
        let length = value.as_str().map_or_else(|| value.to_string().len(), str::len);
        if length > limits::VALUE_BYTES && key != POLLER_CONFIGURATION {
            let expected = format!("at most {} bytes", limits::VALUE_BYTES);
            problems.push(FieldProblem::new(below(field, key), format!("{length} bytes"), expected));
        }
        bytes += key.len() + length;
    }
    if bytes > limits::CONFIGURATION_BYTES {
        let expected = format!("at most {} bytes in all", limits::CONFIGURATION_BYTES);
        problems.push(FieldProblem::new(field, format!("{bytes} bytes"), expected));
    }
}

/// Every key with its value as text. What the connection took from `providerData` becomes configuration, because
/// later polls know nothing else.
fn flatten(
    configuration: &Map<String, Value>,
    element: Option<&Element>,
    provider_data: &Map<String, Value>,
    problems: &mut Vec<FieldProblem>,
) -> BTreeMap<String, Option<String>> {
    let mut flat = BTreeMap::new();
    for (key, value) in configuration {
        let text = match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
            // Event settings are read in either form; Cloud Elements answers them as text.
            Value::Object(_) | Value::Array(_) if key.starts_with("event.") => Some(value.to_string()),
            // Several values for one placeholder of a URL.
            Value::Array(many) if many.iter().all(|one| one.is_string() || one.is_number()) => {
                let texts = many.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned));
                Some(texts.collect::<Vec<_>>().join(","))
            }
            Value::Object(_) | Value::Array(_) => {
                problems.push(FieldProblem::new(
                    below("configuration", key),
                    kind(value),
                    "a text, a number, or true or false",
                ));
                continue;
            }
        };
        if key != ACCESS_TOKEN && key != REFRESH_TOKEN {
            flat.insert(key.clone(), text);
        }
    }
    let fields = element.into_iter().flat_map(|element| element.connection.values());
    for keys in fields.map(|field| &field.configuration_keys) {
        if keys.iter().any(|key| flat.get(key).is_some_and(Option::is_some)) {
            continue;
        }
        let given = keys.iter().find_map(|key| Some((key, provider_data.get(key)?.as_str()?)));
        flat.extend(given.map(|(key, text)| (key.clone(), Some(text.to_owned()))));
    }
    flat
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_key_and_limit() {
        let refused = |given: Value| {
            let mut problems = Vec::new();
            check_size("configuration", given.as_object().unwrap(), &mut problems);
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let long = |bytes: usize| Value::from("x".repeat(bytes));
        assert!(refused(json!({ "a": long(limits::VALUE_BYTES), POLLER_CONFIGURATION: long(60_000) })).is_empty());
        assert_eq!(
            refused(json!({ "a": long(limits::VALUE_BYTES + 1) })),
            ["configuration.a: read 16385 bytes, expected at most 16384 bytes"]
        );
        assert_eq!(
            refused(json!({ POLLER_CONFIGURATION: long(limits::CONFIGURATION_BYTES) })),
            ["configuration: read 98330 bytes, expected at most 98304 bytes in all"]
        );
        let room = limits::CONFIGURATION_BYTES - POLLER_CONFIGURATION.len();
        assert!(refused(json!({ POLLER_CONFIGURATION: long(room) })).is_empty());
        let many = |count| (0..count).map(|n: usize| (n.to_string(), json!(1))).collect::<Map<_, _>>();
        assert!(refused(Value::Object(many(limits::CONFIGURATION_KEYS))).is_empty());
        let said = refused(Value::Object(many(limits::CONFIGURATION_KEYS + 1)));
        assert_eq!(said, ["configuration: read 501 keys, expected at most 500 keys"]);
        let key = |length| "ü".repeat(length);
        assert!(refused(json!({ key(limits::KEY_CHARACTERS): 1 })).is_empty());
        let said = refused(json!({ key(limits::KEY_CHARACTERS + 1): 1 }));
        assert!(said[0].ends_with("read a longer key, expected a key of at most 250 characters"), "{said:?}");
    }
}
