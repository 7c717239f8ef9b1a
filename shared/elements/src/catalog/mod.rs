//! The catalog of elements: those in the binary, and those of a directory that is given at run time.

mod consistency;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::problem::nearest;

use crate::definition::{
    Auth, Budget, Check, ConnectionField, Defaults, ElementFile, ErrorRule, Resource, SwappedKeys,
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
    /// The hub under which Cloud Elements listed it.
    pub hub: String,
    /// Numbers under which Cloud Elements knew it, its own first.
    pub ids: Vec<u64>,
    /// A sentence about the vendor.
    pub description: String,
    /// The address of the vendor's manual.
    pub docs: String,
    /// The fields that a user fills in to connect.
    pub connection: BTreeMap<String, ConnectionField>,
    /// Configuration keys that a printed manual mixes up.
    pub swapped_keys: Vec<SwappedKeys>,
    /// Base URLs by name.
    pub bases: BTreeMap<String, Template>,
    /// The authentication of every request.
    pub auth: Auth,
    /// Headers of every call.
    pub headers: BTreeMap<String, Template>,
    /// Cheap calls that prove the connection.
    pub check: Vec<Check>,
    /// The meaning of answers.
    pub errors: Vec<ErrorRule>,
    /// The places of an error answer's text for people.
    pub messages: Vec<Pointer>,
    /// The rate at which the vendor may be called.
    pub budget: Option<Budget>,
    /// Values for resources that have none of their own.
    pub defaults: Defaults,
    /// The resources that can be read.
    pub resources: Vec<Resource>,
}

impl Element {
    /// Finds the resource of this name or alias.
    pub fn resource(&self, name: &str) -> Option<&Resource> {
        self.resources
            .iter()
            .find(|resource| resource.name == name)
            .or_else(|| self.resources.iter().find(|resource| resource.aliases.iter().any(|alias| alias == name)))
    }
}

impl From<ElementFile> for Element {
    fn from(file: ElementFile) -> Self {
        Self {
            key: file.element.key,
            name: file.element.name,
            hub: file.element.hub,
            ids: file.element.ids,
            description: file.element.description,
            docs: file.element.docs,
            connection: file.connection,
            swapped_keys: file.swapped_keys,
            bases: file.bases,
            auth: file.auth,
            headers: file.headers,
            check: file.check,
            errors: file.errors,
            messages: file.messages,
            budget: file.budget,
            defaults: file.defaults,
            resources: file.resource,
        }
    }
}

/// The reason why an element file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FileProblem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, if it is known.
    pub line: Option<usize>,
    /// The problem, with the nearest valid word if a word was unknown.
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

/// All elements, by key.
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

    /// Adds the elements of `<directory>/<key>/element.toml`; they replace elements of the same key.
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

    /// Finds the element with this key or this number.
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
/// The first problem, with its line if one value causes it.
pub fn read(file: &Path, text: &str) -> Result<Element, FileProblem> {
    let problem = |line, message| FileProblem { file: file.to_owned(), line, message };
    let read: ElementFile = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        problem(line, with_nearest(error.message()))
    })?;
    let element = Element::from(read);
    match consistency::first_inconsistency(&element) {
        None => Ok(element),
        Some(found) => Err(problem(text.find(&found.at).map(|at| line_of(text, at)), found.message)),
    }
}

/// The JSON Schema of element files.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(ElementFile).to_value()
}

/// The line of an offset, from 1.
fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// Adds the nearest valid word to serde's list of all valid words.
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
