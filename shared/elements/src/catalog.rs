//! The elements there are: those in the binary, and those of a directory that is given at run time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::problem::nearest;

use crate::definition::{
    Auth, Budget, Call, ChangeDetection, Check, Defaults, ElementFile, ErrorRule, Fanout, Field, Hydrate, Misprint,
    Paging, Resource,
};
use crate::pointer::Pointer;
use crate::template::Template;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// An element: a vendor's API as data, checked as a whole.
#[derive(Debug, Clone)]
pub struct Element {
    /// `element.key` of a request.
    pub key: String,
    /// The name for people.
    pub name: String,
    /// The hub under which the original listed it.
    pub hub: String,
    /// Numbers under which the original knew it, its own first.
    pub ids: Vec<u64>,
    /// A sentence.
    pub description: String,
    /// The vendor's manual.
    pub docs: String,
    /// What a user fills in to connect.
    pub connection: BTreeMap<String, Field>,
    /// Configuration keys that a printed manual mixes up.
    pub misprints: Vec<Misprint>,
    /// Base URLs by name.
    pub bases: BTreeMap<String, Template>,
    /// How a request proves who sends it.
    pub auth: Auth,
    /// Headers of every call.
    pub headers: BTreeMap<String, Template>,
    /// Cheap calls that prove the connection.
    pub check: Vec<Check>,
    /// What answers mean.
    pub errors: Vec<ErrorRule>,
    /// Where an error answer has its text for people.
    pub messages: Vec<Pointer>,
    /// How often the vendor may be called.
    pub budget: Option<Budget>,
    /// What holds for resources that do not say otherwise.
    pub defaults: Defaults,
    /// What can be read.
    pub resources: Vec<Resource>,
}

impl Element {
    /// The resource of this name or alias.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.name == name)
            .or_else(|| self.resources.iter().find(|resource| resource.aliases.iter().any(|alias| alias == name)))
    }
}

/// An element file that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileProblem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong, with the nearest valid word where a word was unknown.
    pub message: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// The elements there are.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    elements: BTreeMap<String, Arc<Element>>,
}

impl Catalog {
    /// The elements of this build.
    pub fn embedded() -> Self {
        let elements = EMBEDDED
            .iter()
            .map(|(key, text)| {
                let element = read(Path::new(key), text).expect("the tests read every embedded element");
                (element.key.clone(), Arc::new(element))
            })
            .collect();
        Self { elements }
    }

    /// These and those of `<directory>/<key>/element.toml`, which come before the ones of the same key.
    ///
    /// # Errors
    /// Every problem of every file; one bad file refuses them all.
    pub fn with_directory(&self, directory: &Path) -> Result<Catalog, Vec<FileProblem>> {
        let unreadable = |file: &Path, error: std::io::Error| FileProblem {
            file: file.to_owned(),
            line: None,
            message: error.to_string(),
        };
        let mut catalog = self.clone();
        let mut problems = Vec::new();
        let entries = std::fs::read_dir(directory).map_err(|error| vec![unreadable(directory, error)])?;
        for entry in entries {
            let file = match entry {
                Ok(entry) => entry.path().join("element.toml"),
                Err(error) => {
                    problems.push(unreadable(directory, error));
                    continue;
                }
            };
            if !file.is_file() {
                continue;
            }
            match std::fs::read_to_string(&file).map_err(|error| unreadable(&file, error)) {
                Err(problem) => problems.push(problem),
                Ok(text) => match read(&file, &text) {
                    Err(problem) => problems.push(problem),
                    Ok(element) => {
                        catalog.elements.insert(element.key.clone(), Arc::new(element));
                    }
                },
            }
        }
        if problems.is_empty() { Ok(catalog) } else { Err(problems) }
    }

    /// The element with this key, or with this number.
    pub fn get(&self, key_or_id: &str) -> Option<&Arc<Element>> {
        self.elements.get(key_or_id).or_else(|| {
            let id: u64 = key_or_id.parse().ok()?;
            self.elements.values().find(|element| element.ids.contains(&id))
        })
    }

    /// Every element, by key.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Element>> {
        self.elements.values()
    }
}

/// Reads one element file.
///
/// # Errors
/// The first problem, with its line where one value is to blame.
pub fn read(file: &Path, text: &str) -> Result<Element, FileProblem> {
    let problem = |line, message| FileProblem { file: file.to_owned(), line, message };
    let read: ElementFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        problem(line, with_nearest(error.message()))
    })?;
    let element = Element {
        key: read.element.key,
        name: read.element.name,
        hub: read.element.hub,
        ids: read.element.ids,
        description: read.element.description,
        docs: read.element.docs,
        connection: read.connection,
        misprints: read.misprint,
        bases: read.bases,
        auth: read.auth,
        headers: read.headers,
        check: read.check,
        errors: read.errors,
        messages: read.messages,
        budget: read.budget,
        defaults: read.defaults,
        resources: read.resource,
    };
    match inconsistency(&element) {
        None => Ok(element),
        Some((word, message)) => Err(problem(text.find(&word).map(|at| line_of(text, at)), message)),
    }
}

/// The JSON Schema of element files.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(ElementFile).to_value()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Serde lists every word that would do; the nearest one is what the reader wants.
fn with_nearest(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (Some(first), rest) = (quoted.next(), quoted.collect::<Vec<_>>()) else { return message.to_owned() };
    match message.starts_with("unknown") {
        true => match nearest(first, rest) {
            Some(near) => format!("{message}; the nearest is `{near}`"),
            None => message.to_owned(),
        },
        false => message.to_owned(),
    }
}

/// Placeholders that a listing fills.
const LISTING_NAMES: [&str; 8] =
    ["partition", "page_size", "page_token", "offset", "watermark", "upper", "sync_token", "now"];

/// What no single value shows: the first thing that does not fit together, and the word to look for in the file.
fn inconsistency(element: &Element) -> Option<(String, String)> {
    let known = |name: &str, allowed: &[&str]| match name.strip_prefix("connection.") {
        Some(field) => {
            element.connection.contains_key(field) || element.check.iter().any(|check| check.sets.contains_key(field))
        }
        None => allowed.contains(&name),
    };
    let unknown = |name: &str, allowed: &[&str]| {
        let fields: Vec<String> = element.connection.keys().map(|field| format!("connection.{field}")).collect();
        let near = nearest(name, allowed.iter().copied().chain(fields.iter().map(String::as_str)));
        let near = near.map_or(String::new(), |near| format!("; the nearest is `{near}`"));
        (format!("${{{name}"), format!("no value is named `{name}` here{near}"))
    };
    let check_names = |template: &Template, allowed: &[&str]| {
        template.names().find(|name| !known(name, allowed)).map(|name| unknown(name, allowed))
    };
    let check_call = |call: &Call, allowed: &[&str]| {
        let base = call.base.as_deref().unwrap_or("api");
        if !element.bases.contains_key(base) {
            return Some((format!("base = \"{base}\""), format!("no base is named `{base}`")));
        }
        check_names(&call.path, allowed)
            .or_else(|| call.query.values().flat_map(|value| &value.0).find_map(|one| check_names(one, allowed)))
            .or_else(|| {
                let names = call.body.as_ref().map(|body| body.names()).unwrap_or_default();
                names.into_iter().find(|name| !known(name, allowed)).map(|name| unknown(name, allowed))
            })
    };
    for (name, base) in &element.bases {
        if let Some(found) = check_names(base, &[]) {
            return Some(found);
        }
        for hole in base.names() {
            let field = hole.strip_prefix("connection.").and_then(|field| element.connection.get(field));
            let bounded = field.is_some_and(|field| {
                field.pattern.is_some() || !field.host_suffix.is_empty() || !field.options.is_empty()
            });
            if !bounded {
                return Some((
                    format!("${{{hole}"),
                    format!(
                        "`{hole}` goes into the host of the base `{name}`: give it a pattern, an enum or a host_suffix"
                    ),
                ));
            }
        }
    }
    for template in element.headers.values() {
        if let Some(found) = check_names(template, &[]) {
            return Some(found);
        }
    }
    for check in &element.check {
        if let Some(found) = check_call(&check.call, &[]) {
            return Some(found);
        }
    }
    for field in element.connection.values() {
        if let Some(unless) = &field.unless
            && !element.connection.contains_key(unless)
        {
            return Some((format!("\"{unless}\""), format!("no connection field is named `{unless}`")));
        }
    }
    let mut names = BTreeSet::new();
    for resource in &element.resources {
        let at = format!("\"{}\"", resource.name);
        if !names.insert(&resource.name) {
            return Some((at, format!("two resources are named `{}`", resource.name)));
        }
        let found = check_call(&resource.list, &LISTING_NAMES)
            .or_else(|| resource.get.as_ref().and_then(|get| check_call(get, &["id", "partition"])));
        if found.is_some() {
            return found;
        }
        let order = resource.order.iter().flat_map(|order| [&order.asc, &order.desc]);
        if let Some(found) = order.into_iter().find_map(|template| check_names(template, &["field"])) {
            return Some(found);
        }
        let stamped = matches!(resource.change, ChangeDetection::Filter { .. } | ChangeDetection::ScanDesc { .. })
            || matches!(resource.page, Paging::Keyset { .. });
        let complaint = if stamped && resource.time.updated.is_none() {
            Some("finds changes by a stamp, but has no `time.updated`")
        } else if matches!(resource.hydrate, Hydrate::ById { .. }) && resource.get.is_none() {
            Some("reads records by id, but has no `get`")
        } else if resource.records.id.is_empty() {
            Some("has no `records.id`")
        } else if resource.time.updated.is_some() && resource.time.parse.is_empty() {
            Some("has stamps, but no `time.parse`")
        } else {
            None
        };
        if let Some(complaint) = complaint {
            return Some((at, format!("the resource `{}` {complaint}", resource.name)));
        }
        if let Fanout::Parent { resource: parent, .. } | Fanout::Chunk { resource: parent, .. } = &resource.fanout
            && element.resource(parent).is_none()
        {
            return Some((format!("\"{parent}\""), format!("no resource is named `{parent}`")));
        }
    }
    None
}
