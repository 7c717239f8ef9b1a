//! The body of `POST`, `PUT` and `PATCH /instances`, read into parts. What the parts mean is [`super::check`]'s.

use std::fmt;

use domain::limits;
use domain::problem::{FieldProblem, below};
use serde_json::{Map, Value};

/// A request about an instance, in parts. None: the request does not mention the part.
#[derive(Clone, Default, PartialEq)]
pub struct InstanceBody {
    /// `element.key`, or `element.id` as text.
    pub element: Option<String>,
    /// The result of the vendor's login: `code`, and whatever more the element asks for. Secret.
    pub provider_data: Option<Map<String, Value>>,
    /// Flat keys to values, as written.
    pub configuration: Option<Map<String, Value>>,
    /// Free words to find instances by.
    pub tags: Option<Vec<String>>,
    /// For people; HTML stripped.
    pub name: Option<String>,
    /// `externalAuthentication: "initial"`: the tokens stand in the configuration and nothing is exchanged.
    pub tokens_given: bool,
}

/// Prints which keys there are and none of their values, of which any may be secret.
impl fmt::Debug for InstanceBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |given: &Option<Map<String, Value>>| given.as_ref().map(|it| it.keys().cloned().collect::<Vec<_>>());
        f.debug_struct("InstanceBody")
            .field("element", &self.element)
            .field("provider_data", &keys(&self.provider_data))
            .field("configuration", &keys(&self.configuration))
            .field("tags", &self.tags)
            .field("name", &self.name)
            .field("tokens_given", &self.tokens_given)
            .finish()
    }
}

impl InstanceBody {
    /// Reads a body, or says everything that is wrong with its outline. Unknown members are left alone, as in
    /// Cloud Elements, whose answers clients send back.
    pub fn read(body: &Value) -> Result<Self, Vec<FieldProblem>> {
        let Value::Object(members) = body else {
            return Err(vec![FieldProblem::new("body", kind(body), "a JSON object")]);
        };
        let mut problems = Vec::new();
        let mut read = Self::default();
        for (name, value) in members {
            match (name.as_str(), value) {
                (_, Value::Null) => {}
                ("element", value) => read.element = read_element(value, &mut problems),
                ("providerData", Value::Object(data)) => read.provider_data = Some(data.clone()),
                ("configuration", Value::Object(keys)) => read.configuration = Some(keys.clone()),
                ("providerData" | "configuration", other) => {
                    problems.push(FieldProblem::new(name, kind(other), "an object of keys and values"));
                }
                ("tags", value) => read.tags = read_tags(value, &mut problems),
                ("name", Value::String(text)) => match strip_html(text) {
                    name if name.chars().count() > limits::NAME_CHARACTERS => {
                        let expected = format!("at most {} characters", limits::NAME_CHARACTERS);
                        problems.push(FieldProblem::new("name", name, expected));
                    }
                    name => read.name = Some(name).filter(|name| !name.is_empty()),
                },
                ("name", other) => problems.push(FieldProblem::new("name", kind(other), "a text")),
                ("externalAuthentication", Value::String(word)) if word == "initial" => read.tokens_given = true,
                ("externalAuthentication", Value::String(word)) if word == "none" => {}
                ("externalAuthentication", other) => {
                    problems.push(FieldProblem::new(name, other, "\"initial\" or \"none\""));
                }
                _ => {}
            }
        }
        if let Some(tag) = read.name.as_deref().filter(|name| name.starts_with('@')) {
            let tags = read.tags.get_or_insert_default();
            if !tags.iter().any(|known| known == tag) {
                tags.push(tag.to_owned());
            }
        }
        if problems.is_empty() { Ok(read) } else { Err(problems) }
    }
}

fn read_element(value: &Value, problems: &mut Vec<FieldProblem>) -> Option<String> {
    let choice = match (&value["key"], &value["id"]) {
        (Value::String(key), _) if !key.trim().is_empty() => Some(key.trim().to_owned()),
        (Value::Null, Value::Number(id)) => Some(id.to_string()),
        (Value::Null, Value::String(id)) => Some(id.clone()),
        _ => None,
    };
    if choice.is_none() {
        problems.push(FieldProblem::new(
            "element",
            value,
            "an object with the key of an element, {\"key\":\"square\"}",
        ));
    }
    choice
}

/// Texts, or the `{id, name}` objects of older answers of Cloud Elements.
fn read_tags(value: &Value, problems: &mut Vec<FieldProblem>) -> Option<Vec<String>> {
    let expected =
        || format!("a list of at most {} texts of at most {} characters", limits::TAGS, limits::TAG_CHARACTERS);
    let Some(entries) = value.as_array().filter(|entries| entries.len() <= limits::TAGS) else {
        problems.push(FieldProblem::new("tags", kind(value), expected()));
        return None;
    };
    let mut tags: Vec<String> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match entry.as_str().or_else(|| entry["name"].as_str()).map(strip_html) {
            Some(tag) if tag.chars().count() <= limits::TAG_CHARACTERS => {
                if !tag.is_empty() && !tags.contains(&tag) {
                    tags.push(tag);
                }
            }
            _ => problems.push(FieldProblem::new(below("tags", &index.to_string()), entry, expected())),
        }
    }
    Some(tags)
}

/// The text without what stands in angle brackets and without control characters.
fn strip_html(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        let Some(length) = rest[open..].find('>') else { break };
        plain.push_str(&rest[..open]);
        rest = &rest[open + length + 1..];
    }
    plain.push_str(rest);
    plain.retain(|c| !c.is_control());
    plain.trim().to_owned()
}

/// The kind of a JSON value, for a message that must not repeat the value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_body_is_read_into_its_parts() {
        let body = InstanceBody::read(&json!({
            "element": {"key": "square", "id": 8374}, "providerData": {"code": "c"}, "configuration": {"a": 1},
            "tags": ["Docs", {"id": 1, "name": "<b>two</b>"}, "Docs"], "name": "@my <i>instance</i>",
            "externalAuthentication": "initial", "valid": true, "user": null
        }))
        .unwrap();
        assert_eq!(body.element.as_deref(), Some("square"));
        assert_eq!(body.tags.as_deref(), Some(["Docs".to_owned(), "two".into(), "@my instance".into()].as_slice()));
        assert_eq!(body.name.as_deref(), Some("@my instance"));
        assert!(body.tokens_given);
        assert_eq!(InstanceBody::read(&json!({})), Ok(InstanceBody::default()));
        assert_eq!(InstanceBody::read(&json!({"element": {"id": 5}})).unwrap().element.as_deref(), Some("5"));
    }

    #[test]
    fn everything_wrong_with_the_outline_is_said_at_once() {
        let check = |body: Value, fields: &[&str]| {
            let problems = InstanceBody::read(&body).unwrap_err();
            assert_eq!(problems.iter().map(|p| p.field.as_str()).collect::<Vec<_>>(), fields, "{body}");
        };
        check(json!([]), &["body"]);
        check(
            json!({"element": "square", "providerData": "code", "configuration": [], "tags": "x", "name": 7}),
            &["configuration", "element", "name", "providerData", "tags"],
        );
        check(
            json!({"element": {}, "tags": [1], "externalAuthentication": "later"}),
            &["element", "externalAuthentication", "tags.0"],
        );
    }

    #[test]
    fn names_and_tags_have_a_length_and_nothing_is_nothing() {
        let nothing = json!({"element": null, "tags": null, "name": null, "configuration": null, "providerData": null});
        assert_eq!(InstanceBody::read(&nothing), Ok(InstanceBody::default()));
        assert_eq!(InstanceBody::read(&json!({"element": {"id": "abc"}})).unwrap().element.as_deref(), Some("abc"));
        let text = |length: usize| "ü".repeat(length);
        let fits = |body: Value| match InstanceBody::read(&body) {
            Ok(_) => None,
            Err(problems) => Some(problems[0].field.clone()),
        };
        for (length, fitting) in [(limits::NAME_CHARACTERS, true), (251, false), (400, false)] {
            assert_eq!(fits(json!({"name": text(length)})).is_none(), fitting, "{length}");
        }
        for (length, fitting) in [(limits::TAG_CHARACTERS, true), (251, false), (400, false)] {
            assert_eq!(fits(json!({"tags": [text(length)]})).is_none(), fitting, "{length}");
        }
        for (count, fitting) in [(limits::TAGS, true), (limits::TAGS + 1, false)] {
            assert_eq!(fits(json!({"tags": vec!["x"; count]})).is_none(), fitting, "{count}");
        }
        assert_eq!(fits(json!({"element": {"key": " "}})).as_deref(), Some("element"));
    }

    #[test]
    fn a_problem_names_the_kind_of_what_was_read_and_not_the_value() {
        for (value, kind) in [
            (json!(null), "null"),
            (json!(true), "true or false"),
            (json!(5), "a number"),
            (json!("hunter2"), "a text"),
            (json!(["hunter2"]), "a list"),
        ] {
            assert_eq!(InstanceBody::read(&value).unwrap_err()[0].read, kind);
        }
        assert_eq!(InstanceBody::read(&json!({"name": {"a": "hunter2"}})).unwrap_err()[0].read, "an object");
    }

    #[test]
    fn a_lone_bracket_is_no_tag() {
        assert_eq!(strip_html("a < b"), "a < b");
        assert_eq!(strip_html("<script>alert(1)</script>x\u{7}"), "alert(1)x");
        assert_eq!(strip_html("<INSTANCE_NAME>"), "");
    }
}
