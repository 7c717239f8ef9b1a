//! Rules across several values of an element file, one function for each rule.

use domain::problem::nearest;

use super::Element;
use crate::definition::{Call, ChangeDetection, Fanout, Hydrate, Resource};
use crate::template::Template;

/// Two parts of an element file that do not fit together.
#[derive(Debug)]
pub(super) struct Inconsistency {
    /// A text of the file; the problem is on its line.
    pub at: String,
    /// The problem, in words.
    pub message: String,
}

/// The rules for the element as a whole, in the order in which they are checked.
const ELEMENT_RULES: [fn(&Element) -> Option<Inconsistency>; 4] =
    [bases_name_bounded_values, headers_name_known_values, checks_can_be_called, replacing_fields_exist];

/// The rules for each resource, in the order in which they are checked.
const RESOURCE_RULES: [fn(&Element, &Resource) -> Option<Inconsistency>; 9] = [
    resource_names_are_unique,
    list_can_be_called,
    get_can_be_called,
    order_names_known_values,
    stamps_have_a_place,
    hydration_has_a_call,
    records_have_an_id,
    stamps_have_a_format,
    fanout_has_a_parent,
];

/// Finds the first violation of a rule.
pub(super) fn first_inconsistency(element: &Element) -> Option<Inconsistency> {
    let of_resource = |resource| RESOURCE_RULES.iter().find_map(|rule| rule(element, resource));
    ELEMENT_RULES.iter().find_map(|rule| rule(element)).or_else(|| element.resources.iter().find_map(of_resource))
}

/// Placeholders that a listing fills.
const LISTING_NAMES: [&str; 8] =
    ["partition", "page_size", "page_token", "offset", "watermark", "upper", "sync_token", "now"];
/// Placeholders that a call for one record fills.
const GET_NAMES: [&str; 2] = ["id", "partition"];

/// The placeholders that a template may have: `connection.*` and the names of its place.
struct Scope<'a> {
    element: &'a Element,
    names: &'a [&'a str],
}

impl Scope<'_> {
    fn knows(&self, name: &str) -> bool {
        match name.strip_prefix("connection.") {
            Some(field) => {
                self.element.connection.contains_key(field)
                    || self.element.check.iter().any(|check| check.sets.contains_key(field))
            }
            None => self.names.contains(&name),
        }
    }

    /// Finds the first unknown name.
    fn check_names<'n>(&self, mut names: impl Iterator<Item = &'n str>) -> Option<Inconsistency> {
        let name = names.find(|name| !self.knows(name))?;
        let fields: Vec<String> = self.element.connection.keys().map(|field| format!("connection.{field}")).collect();
        let near = nearest(name, self.names.iter().copied().chain(fields.iter().map(String::as_str)));
        let near = near.map_or(String::new(), |near| format!("; the nearest is `{near}`"));
        Some(Inconsistency { at: format!("${{{name}"), message: format!("no value is named `{name}` here{near}") })
    }

    fn check_template(&self, template: &Template) -> Option<Inconsistency> {
        self.check_names(template.names())
    }

    fn check_call(&self, call: &Call) -> Option<Inconsistency> {
        let base = call.base.as_deref().unwrap_or("api");
        if !self.element.bases.contains_key(base) {
            let message = format!("no base is named `{base}`");
            return Some(Inconsistency { at: format!("base = \"{base}\""), message });
        }
        let mut query = call.query.values().flat_map(|value| &value.0);
        let body = call.body.as_ref().map(|body| body.names()).unwrap_or_default();
        self.check_template(&call.path)
            .or_else(|| query.find_map(|template| self.check_template(template)))
            .or_else(|| self.check_names(body.into_iter()))
    }
}

fn bases_name_bounded_values(element: &Element) -> Option<Inconsistency> {
    let scope = Scope { element, names: &[] };
    let violation = |base: &String, template: &Template| {
        scope.check_template(template).or_else(|| {
            let open = template.names().find(|placeholder| !is_bounded(element, placeholder))?;
            let message = format!(
                "`{open}` goes into the host of the base `{base}`: give it a pattern, an enum or a host_suffix"
            );
            Some(Inconsistency { at: format!("${{{open}"), message })
        })
    };
    element.bases.iter().find_map(|(base, template)| violation(base, template))
}

/// Returns true if the element limits the values of a connection field.
fn is_bounded(element: &Element, placeholder: &str) -> bool {
    let field = placeholder.strip_prefix("connection.").and_then(|field| element.connection.get(field));
    field.is_some_and(|field| field.pattern.is_some() || !field.host_suffix.is_empty() || !field.options.is_empty())
}

fn headers_name_known_values(element: &Element) -> Option<Inconsistency> {
    let scope = Scope { element, names: &[] };
    element.headers.values().find_map(|header| scope.check_template(header))
}

fn checks_can_be_called(element: &Element) -> Option<Inconsistency> {
    let scope = Scope { element, names: &[] };
    element.check.iter().find_map(|check| scope.check_call(&check.call))
}

fn replacing_fields_exist(element: &Element) -> Option<Inconsistency> {
    let mut replacing = element.connection.values().filter_map(|field| field.replaced_by.as_ref());
    let missing = replacing.find(|name| !element.connection.contains_key(*name))?;
    let message = format!("no connection field is named `{missing}`");
    Some(Inconsistency { at: format!("\"{missing}\""), message })
}

fn resource_names_are_unique(element: &Element, resource: &Resource) -> Option<Inconsistency> {
    let mut before = element.resources.iter().take_while(|other| !std::ptr::eq(*other, resource));
    let twin = before.find(|other| other.name == resource.name)?;
    let message = format!("two resources are named `{}`", twin.name);
    Some(Inconsistency { at: format!("\"{}\"", twin.name), message })
}

fn list_can_be_called(element: &Element, resource: &Resource) -> Option<Inconsistency> {
    Scope { element, names: &LISTING_NAMES }.check_call(&resource.list)
}

fn get_can_be_called(element: &Element, resource: &Resource) -> Option<Inconsistency> {
    Scope { element, names: &GET_NAMES }.check_call(resource.get.as_ref()?)
}

fn order_names_known_values(element: &Element, resource: &Resource) -> Option<Inconsistency> {
    let scope = Scope { element, names: &["field"] };
    let order = resource.order.as_ref()?;
    [&order.asc, &order.desc].into_iter().find_map(|template| scope.check_template(template))
}

fn stamps_have_a_place(_: &Element, resource: &Resource) -> Option<Inconsistency> {
    let needed = matches!(resource.change, ChangeDetection::Filter { .. } | ChangeDetection::ScanDesc { .. })
        || resource.page.is_ordered_by_stamp();
    let found = needed && resource.time.updated.is_none();
    found.then(|| of_resource(resource, "finds changes by a stamp, but has no `time.updated`"))
}

fn hydration_has_a_call(_: &Element, resource: &Resource) -> Option<Inconsistency> {
    let found = matches!(resource.hydrate, Hydrate::ById { .. }) && resource.get.is_none();
    found.then(|| of_resource(resource, "reads records by id, but has no `get`"))
}

fn records_have_an_id(_: &Element, resource: &Resource) -> Option<Inconsistency> {
    resource.records.id.is_empty().then(|| of_resource(resource, "has no `records.id`"))
}

fn stamps_have_a_format(_: &Element, resource: &Resource) -> Option<Inconsistency> {
    let found = resource.time.updated.is_some() && resource.time.parse.is_empty();
    found.then(|| of_resource(resource, "has stamps, but no `time.parse`"))
}

fn fanout_has_a_parent(element: &Element, resource: &Resource) -> Option<Inconsistency> {
    let parent = match &resource.fanout {
        Fanout::Parent { resource, .. } | Fanout::Chunk { resource, .. } => resource,
        Fanout::None | Fanout::List { .. } => return None,
    };
    let missing = element.resource(parent).is_none();
    missing.then(|| Inconsistency { at: format!("\"{parent}\""), message: format!("no resource is named `{parent}`") })
}

/// A violation on the line of a resource's name.
fn of_resource(resource: &Resource, complaint: &str) -> Inconsistency {
    let message = format!("the resource `{}` {complaint}", resource.name);
    Inconsistency { at: format!("\"{}\"", resource.name), message }
}
