//! A connected account: the values that a user filled in, by the names of the element file.

use std::collections::BTreeMap;

use domain::configuration::keys;
use domain::problem::{FieldProblem, Warning, below};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::catalog::Element;
use crate::definition::ConnectionField;
use crate::template::{Filling, plain_text};

/// The values of an account. Holds secrets: it is stored sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Values that may be shown.
    #[serde(default)]
    plain: BTreeMap<String, String>,
    /// Values that may not be shown.
    #[serde(default)]
    secret: BTreeMap<String, Secret>,
    /// Lists of values (folders of an account).
    #[serde(default)]
    many: BTreeMap<String, Vec<String>>,
}

impl Connection {
    /// Takes the element's fields out of a configuration, or out of `providerData` if they are absent there.
    ///
    /// # Errors
    /// Every value that is missing or does not fit, with its configuration key.
    pub fn resolve(
        element: &Element,
        configuration: &Map<String, Value>,
        provider_data: &Map<String, Value>,
    ) -> Result<(Connection, Vec<Warning>), Vec<FieldProblem>> {
        let mut connection = Connection::default();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for (name, field) in &element.connection {
            let given = field
                .configuration_keys
                .iter()
                .find_map(|key| Some(("configuration", key, configuration.get(key).and_then(scalar)?)))
                .or_else(|| {
                    let keys = field.configuration_keys.iter();
                    keys.clone().find_map(|key| Some(("providerData", key, provider_data.get(key).and_then(scalar)?)))
                });
            let (path, text) = match (given, &field.default) {
                (Some((root, key, text)), _) => (below(root, key), text),
                (None, Some(default)) => (below("configuration", key_of(name, field)), default.clone()),
                (None, None) => {
                    let excused = field.replaced_by.as_deref().is_some_and(|other| {
                        let keys = element.connection.get(other).map(|other| other.configuration_keys.as_slice());
                        keys.unwrap_or_default().iter().any(|key| configuration.get(key).and_then(scalar).is_some())
                    });
                    if field.required && !excused {
                        let path = below("configuration", key_of(name, field));
                        problems.push(FieldProblem::new(path, "nothing", describe(field)));
                    }
                    continue;
                }
            };
            let trimmed = text.trim();
            if trimmed.len() != text.len() {
                warnings.push(Warning::new(&path, "the spaces around the value are left out"));
            }
            match fits(field, trimmed) {
                Some(expected) if is_hidden(field) => problems.push(FieldProblem::secret(path, expected)),
                Some(expected) => problems.push(FieldProblem::new(path, trimmed, expected)),
                None => connection.put(field, name, trimmed),
            }
        }
        if problems.is_empty() { Ok((connection, warnings)) } else { Err(problems) }
    }

    fn put(&mut self, field: &ConnectionField, name: &str, text: &str) {
        let text = if field.host_suffix.is_empty() { text } else { text.trim_end_matches('/') };
        match is_hidden(field) {
            true => drop(self.secret.insert(name.to_owned(), Secret::new(text))),
            false => drop(self.plain.insert(name.to_owned(), text.to_owned())),
        }
    }

    /// Returns a value that may be shown.
    pub fn plain(&self, name: &str) -> Option<&str> {
        self.plain.get(name).map(String::as_str)
    }

    /// Returns a value, secret or not.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.plain(name).or_else(|| self.secret(name).map(Secret::expose))
    }

    /// Returns a secret value.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secret.get(name)
    }

    /// Returns every secret value.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secret.values()
    }

    /// Returns a list of values, or a list of the one value.
    pub fn many(&self, name: &str) -> Vec<String> {
        match self.many.get(name) {
            Some(many) => many.clone(),
            None => self.plain(name).map(str::to_owned).into_iter().collect(),
        }
    }

    /// Returns true if there is a value of this name.
    pub fn has(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.secret.contains_key(name) || self.many.contains_key(name)
    }

    /// Stores values that a check read from the vendor.
    pub(crate) fn learn(&mut self, name: &str, mut values: Vec<String>) {
        match values.len() {
            0 => {}
            1 => drop(self.plain.insert(name.to_owned(), values.remove(0))),
            _ => drop(self.many.insert(name.to_owned(), values)),
        }
    }

    /// Returns the value of a placeholder `connection.name`.
    pub(crate) fn filling(&self, placeholder: &str) -> Option<Filling> {
        let name = placeholder.strip_prefix("connection.")?;
        Some(Filling::Text(self.value(name)?.to_owned()))
    }

    /// Returns true if a placeholder `connection.name` has a secret value.
    pub(crate) fn is_secret(&self, placeholder: &str) -> bool {
        placeholder.strip_prefix("connection.").is_some_and(|name| self.secret.contains_key(name))
    }
}

/// Moves values from the keys that a printed manual mixes up to the right keys.
pub fn correct_swapped_keys(element: &Element, configuration: &mut Map<String, Value>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for swapped in &element.swapped_keys {
        let text = configuration.get(&swapped.url_in).and_then(Value::as_str).unwrap_or_default().trim();
        if !text.starts_with("https://") && !text.starts_with("http://") {
            continue;
        }
        let printed = configuration.clone();
        for (right, wrong) in &swapped.keys {
            configuration.insert(right.clone(), printed.get(wrong).cloned().unwrap_or_default());
            let message = format!("it is read from {wrong:?}, because the manual mixes up the two");
            warnings.push(Warning::new(below("configuration", right), message));
        }
    }
    warnings
}

/// Returns true if the value of a configuration key is sealed, and masked wherever it is shown: the key table or the
/// element marks it as secret, or its name looks like that of a secret.
pub fn is_secret_key(element: &Element, configuration_key: &str) -> bool {
    let named_here = |field: &ConnectionField| field.configuration_keys.iter().any(|key| key == configuration_key);
    is_secret_by_name(configuration_key) || element.connection.values().any(|field| field.secret && named_here(field))
}

fn is_secret_by_name(configuration_key: &str) -> bool {
    if let Some(key) = keys::find(configuration_key) {
        return key.secret;
    }
    let lower = configuration_key.to_ascii_lowercase();
    !lower.starts_with("event.") && ["password", "secret", "token", "api.key"].iter().any(|word| lower.contains(word))
}

/// Returns true if the value of a field is secret, by the rule of [`is_secret_key`].
fn is_hidden(field: &ConnectionField) -> bool {
    field.secret || field.configuration_keys.iter().any(|key| is_secret_by_name(key))
}

/// The configuration key that error messages name.
pub(crate) fn key_of<'a>(name: &'a str, field: &'a ConnectionField) -> &'a str {
    field.configuration_keys.first().map_or(name, String::as_str)
}

/// The label and the help of a field.
pub(crate) fn describe(field: &ConnectionField) -> String {
    if field.help.is_empty() { field.label.clone() } else { format!("{}: {}", field.label, field.help) }
}

/// Checks a value; returns a description of valid values if it does not fit.
pub(crate) fn fits(field: &ConnectionField, text: &str) -> Option<String> {
    if !field.options.is_empty() && !field.options.iter().any(|option| option == text) {
        return Some(format!("one of {}", field.options.join(", ")));
    }
    if let Some(pattern) = &field.pattern
        && pattern.0.find(text).is_none_or(|found| found.len() != text.len())
    {
        return Some(format!("{}, written like {}", field.label, pattern.as_str()));
    }
    if !field.host_suffix.is_empty() {
        let allowed = Url::parse(text).ok().is_some_and(|url| {
            url.scheme() == "https"
                && url.username().is_empty()
                && url.port().is_none()
                && url.query().is_none()
                && url.host_str().is_some_and(|host| {
                    field.host_suffix.iter().any(|suffix| match suffix.starts_with('.') {
                        true => host.ends_with(suffix.as_str()),
                        false => host == suffix,
                    })
                })
        });
        if !allowed {
            return Some(format!("an https URL on a host that ends in {}", field.host_suffix.join(" or ")));
        }
    }
    None
}

/// A text, number or boolean as text; an empty text counts as absent.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(plain_text(value)),
        _ => None,
    }
}
