//! The partitions of a resource: it is listed once for each.

use std::sync::Arc;

use domain::poll_url::PollUrl;
use domain::problem::{FieldProblem, below};
use serde_json::{Map, Value};

use super::{Findings, Plan};
use crate::catalog::Element;
use crate::definition::{Fanout, Resource};
use crate::template::plain_text;

/// The partitions of a resource, as callers see them.
#[derive(Debug, Clone)]
pub enum Partitions {
    /// One partition, named by the empty text.
    Single,
    /// These partitions.
    Fixed(Vec<String>),
    /// The records of another resource: list it completely and pass its ids to [`Plan::partitions_of`].
    Parent(Box<Plan>),
}

/// The source of partitions.
#[derive(Debug, Clone)]
pub(super) enum PartitionSource {
    /// There is one partition.
    Single,
    /// These partitions.
    Fixed(Vec<String>),
    /// The values of a connection field.
    Connection(String),
    /// The records of another resource.
    Parent(Box<Plan>),
    /// The records of another resource, a number of them at a time.
    Chunk(Box<Plan>, usize),
}

/// Finds the source of partitions: a value in the URL's path, a configuration key, or the element's fan-out.
pub(super) fn partition_source(
    element: &Arc<Element>,
    resource: &Resource,
    url: Option<&PollUrl>,
    configuration: &Map<String, Value>,
    findings: &mut Findings,
) -> PartitionSource {
    match &resource.fanout {
        Fanout::None => PartitionSource::Single,
        Fanout::List { from } => PartitionSource::Connection(from.clone()),
        Fanout::Chunk { resource: parent, size } => parent_plan(element, parent, findings)
            .map_or(PartitionSource::Single, |plan| PartitionSource::Chunk(plan, *size as usize)),
        Fanout::Parent { resource: parent, param } => match url.and_then(|url| value_in_path(resource, url, param)) {
            Some(value) => PartitionSource::Fixed(vec![value]),
            None => match configured(configuration, param, findings) {
                Configured::Values(values) => PartitionSource::Fixed(values),
                Configured::Nothing => {
                    parent_plan(element, parent, findings).map_or(PartitionSource::Single, PartitionSource::Parent)
                }
                Configured::Refused => PartitionSource::Single,
            },
        },
    }
}

/// The plan that lists the records of a parent resource.
fn parent_plan(element: &Arc<Element>, name: &str, findings: &mut Findings) -> Option<Box<Plan>> {
    match Plan::of_element(element, name) {
        Ok(plan) => Some(Box::new(plan)),
        Err(problems) => {
            findings.problems.extend(problems);
            None
        }
    }
}

/// The value of a parameter in the URL's path; `None` if it is still a placeholder.
fn value_in_path(resource: &Resource, url: &PollUrl, param: &str) -> Option<String> {
    let placeholder = format!("{{{param}}}");
    let asked: Vec<&str> = url.path().split('/').collect();
    let value = resource.hub_paths.iter().find_map(|pattern| {
        let parts: Vec<&str> = pattern.split('/').collect();
        let at = parts.iter().position(|part| *part == placeholder)?;
        (parts.len() == asked.len()).then(|| asked[at].to_owned())
    });
    value.filter(|value| !value.starts_with('{'))
}

/// The values of a parameter in an instance's configuration.
enum Configured {
    Nothing,
    Values(Vec<String>),
    /// The value has a wrong type.
    Refused,
}

fn configured(configuration: &Map<String, Value>, param: &str, findings: &mut Findings) -> Configured {
    match configuration.get(param) {
        Some(Value::String(text)) if !text.trim().is_empty() => {
            let values = text.split(',').map(|one| one.trim().to_owned());
            Configured::Values(values.filter(|one| !one.is_empty()).collect())
        }
        Some(Value::Array(many)) => Configured::Values(many.iter().map(plain_text).collect()),
        Some(Value::Number(number)) => Configured::Values(vec![number.to_string()]),
        None | Some(Value::Null | Value::String(_)) => Configured::Nothing,
        Some(other) => {
            let url = below(&findings.path, "url");
            let expected = format!("a text or a list of texts for {{{param}}} in {url}");
            findings.problems.push(FieldProblem::new(below("configuration", param), other, expected));
            Configured::Refused
        }
    }
}
