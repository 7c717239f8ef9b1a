//! A connected account: the values a user filled in, by the names that the element file gives them.

use std::collections::BTreeMap;

use domain::configuration::keys;
use domain::problem::{FieldProblem, Warning, below};
use domain::secret::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::catalog::Element;
use crate::definition::Field;
use crate::template::{Filling, plain_text};

/// The values of an account. Holds secrets: it is stored sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// What may be shown.
    #[serde(default)]
    plain: BTreeMap<String, String>,
    /// What may not.
    #[serde(default)]
    secret: BTreeMap<String, Secret>,
    /// Values of which there are several (folders of an account).
    #[serde(default)]
    many: BTreeMap<String, Vec<String>>,
}

impl Connection {
    /// Takes the element's fields out of a configuration; what is absent there may stand in `providerData`.
    ///
    /// # Errors
    /// Everything that is missing or does not fit, each with its configuration key.
    pub fn resolve(
        element: &Element,
        configuration: &Map<String, Value>,
        provider_data: &Map<String, Value>,
    ) -> Result<(Connection, Vec<Warning>), Vec<FieldProblem>> {
        let mut connection = Connection::default();
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        for (name, field) in &element.connection {
            let given = field
                .ce_keys
                .iter()
                .find_map(|key| Some(("configuration", key, configuration.get(key).and_then(scalar)?)))
                .or_else(|| {
                    let keys = field.ce_keys.iter();
                    keys.clone().find_map(|key| Some(("providerData", key, provider_data.get(key).and_then(scalar)?)))
                });
            let (path, text) = match (given, &field.default) {
                (Some((root, key, text)), _) => (below(root, key), text),
                (None, Some(default)) => (below("configuration", key_of(name, field)), default.clone()),
                (None, None) => {
                    let excused = field.unless.as_deref().is_some_and(|other| {
                        let keys = element.connection.get(other).map(|other| other.ce_keys.as_slice());
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

    fn put(&mut self, field: &Field, name: &str, text: &str) {
        let text = if field.host_suffix.is_empty() { text } else { text.trim_end_matches('/') };
        match is_hidden(field) {
            true => drop(self.secret.insert(name.to_owned(), Secret::new(text))),
            false => drop(self.plain.insert(name.to_owned(), text.to_owned())),
        }
    }

    /// A value that may be shown.
    pub fn plain(&self, name: &str) -> Option<&str> {
        self.plain.get(name).map(String::as_str)
    }

    /// A value, secret or not, for what only tells values apart.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.plain(name).or_else(|| self.secret(name).map(Secret::expose))
    }

    /// A secret value.
    pub fn secret(&self, name: &str) -> Option<&Secret> {
        self.secret.get(name)
    }

    /// Every secret value.
    pub fn secrets(&self) -> impl Iterator<Item = &Secret> {
        self.secret.values()
    }

    /// Values of which there are several, or the one there is.
    pub fn many(&self, name: &str) -> Vec<String> {
        match self.many.get(name) {
            Some(many) => many.clone(),
            None => self.plain(name).map(str::to_owned).into_iter().collect(),
        }
    }

    /// Whether the value is there.
    pub fn has(&self, name: &str) -> bool {
        self.plain.contains_key(name) || self.secret.contains_key(name) || self.many.contains_key(name)
    }

    /// Keeps what a check read from the vendor.
    pub(crate) fn learn(&mut self, name: &str, mut values: Vec<String>) {
        match values.len() {
            0 => {}
            1 => drop(self.plain.insert(name.to_owned(), values.remove(0))),
            _ => drop(self.many.insert(name.to_owned(), values)),
        }
    }

    /// The value of a placeholder `connection.name`.
    pub(crate) fn filling(&self, placeholder: &str) -> Option<Filling> {
        let name = placeholder.strip_prefix("connection.")?;
        Some(Filling::Text(self.value(name)?.to_owned()))
    }

    pub(crate) fn is_secret(&self, placeholder: &str) -> bool {
        placeholder.strip_prefix("connection.").is_some_and(|name| self.secret.contains_key(name))
    }
}

/// Puts values that stand under the wrong keys of a printed manual where they belong.
pub fn put_right(element: &Element, configuration: &mut Map<String, Value>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for misprint in &element.misprints {
        let text = configuration.get(&misprint.url_in).and_then(Value::as_str).unwrap_or_default().trim();
        if !text.starts_with("https://") && !text.starts_with("http://") {
            continue;
        }
        let printed = configuration.clone();
        for (right, wrong) in &misprint.keys {
            configuration.insert(right.clone(), printed.get(wrong).cloned().unwrap_or_default());
            let message = format!("it is read from {wrong:?}, because the manual mixes up the two");
            warnings.push(Warning::new(below("configuration", right), message));
        }
    }
    warnings
}

/// True: the value of a configuration key is sealed, and masked wherever it is shown. The key table or the element
/// says so, or the key is named like a secret.
pub fn is_secret_key(element: &Element, configuration_key: &str) -> bool {
    let named_here = |field: &Field| field.ce_keys.iter().any(|key| key == configuration_key);
    is_secret_by_name(configuration_key) || element.connection.values().any(|field| field.secret && named_here(field))
}

fn is_secret_by_name(configuration_key: &str) -> bool {
    if let Some(key) = keys::find(configuration_key) {
        return key.secret;
    }
    let lower = configuration_key.to_ascii_lowercase();
    !lower.starts_with("event.") && ["password", "secret", "token", "api.key"].iter().any(|word| lower.contains(word))
}

/// Whether a field's value is kept from being shown, by the same rule.
fn is_hidden(field: &Field) -> bool {
    field.secret || field.ce_keys.iter().any(|key| is_secret_by_name(key))
}

/// The configuration key that problems name.
pub(crate) fn key_of<'a>(name: &'a str, field: &'a Field) -> &'a str {
    field.ce_keys.first().map_or(name, String::as_str)
}

pub(crate) fn describe(field: &Field) -> String {
    if field.help.is_empty() { field.label.clone() } else { format!("{}: {}", field.label, field.help) }
}

/// What would fit, when the text does not.
pub(crate) fn fits(field: &Field, text: &str) -> Option<String> {
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

/// A text, number or truth value as text; what is empty counts as absent.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.trim().is_empty()).then(|| text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(plain_text(value)),
        _ => None,
    }
}
