//! The API as an OpenAPI 3.1 document, written from the route table when it is first asked for.
//!
//! Paths, methods, parameters of paths, who may call and which refusals follow from that come from the table and the
//! handlers' signatures; the shapes of bodies and answers stand in `openapi/schemas.json`.

use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use domain::configuration::keys::{Control, KEYS, KeySpec, Kind as KeyKind, Offered, REFRESH_INTERVAL, Section};
use domain::id::LARGEST_ID;
use domain::limits;
use serde_json::{Map, Value, json};

use crate::console::Asset;
use crate::route::{Access, Described, Kind, Operation, Parameter, Routes, op};
use crate::{BASE, routes as all_routes};

/// Shapes by name.
const SCHEMAS: &str = include_str!("openapi/schemas.json");

/// The groups of calls with their descriptions, in the order in which they are shown.
const TAGS: [(&str, &str); 9] = [
    ("Instances", "An instance is one authenticated account at a vendor, and what is polled of it."),
    ("Polling", "What polls found, what they cover, and how to try a configuration before it is switched on."),
    ("Events", "The events that were emitted, in the terms of Cloud Elements, and how many."),
    ("Deliveries", "Every notification on its way to the callback, and every attempt."),
    ("Subscriptions", "Callbacks and deliveries across instances, in the terms of Cloud Elements."),
    ("Elements", "What can be connected, what has to be filled in, and where a user logs in."),
    ("Hub resources", "A vendor's own records, read through an instance."),
    ("Account", "Who changed what, what the organization may have, and new tokens."),
    ("Documents", "These documents."),
];

const ABOUT: &str = "Pollux polls SaaS APIs, finds records that were created, updated or deleted, and posts signed \
events to a callback. Paths, fields and statuses are those of Cloud Elements' platform API, as far as it is about \
polling events.\n\nEvery answer has an `elements-request-id`; every error has the body `{message, requestId}`, with \
`errors` where single fields are at fault and `providerMessage` where the vendor said something. Parameters that a \
call does not know are ignored.";

static DOCUMENT: LazyLock<Asset> = LazyLock::new(|| {
    Asset::new("openapi.json", "application/json", serde_json::to_string(&document()).expect("a document serializes"))
});

/// The routes of this page.
pub fn routes() -> Routes {
    Routes::new().get(
        "/openapi.json",
        get,
        op("getOpenApi", "Documents", "This document", "OpenAPI 3.1, generated from the handlers.").answers("Anything"),
    )
}

async fn get(request: HeaderMap) -> Response {
    DOCUMENT.answer(&request, HeaderValue::from_static("no-cache"))
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for described in &all_routes().described {
        let path = paths.entry(described.path).or_insert_with(|| json!({}));
        path[described.method] = operation(described);
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).expect("the schemas are JSON, as a test shows");
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Pollux",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": BASE }],
        "tags": TAGS.map(|(name, about)| json!({ "name": name, "description": about })),
        "paths": paths,
        "components": {
            "schemas": with_tables(schemas),
            "responses": refusals(),
            "headers": {
                "RequestId": {
                    "description": "Names the exchange.",
                    "schema": { "type": "string", "pattern": "^[0-9a-f]{24}$" },
                },
                "ReturnedCount": {
                    "description": "Entries on this page.",
                    "schema": { "type": "integer", "minimum": 0 },
                },
                "NextPageToken": {
                    "description": "`nextPage` of the next page; absent on the last.",
                    "schema": { "type": "string" },
                },
                "ETag": {
                    "description": "Version of the instance, for `If-Match`.",
                    "schema": { "type": "string", "pattern": "^\"[0-9]+\"$" },
                },
            },
            "securitySchemes": {
                "organization": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`User <user secret>, Organization <organization secret>`, in any order.",
                },
                "element": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`User <user secret>, Element <instance token>`, with or without \
                                    `Organization <organization secret>`, in any order: the call is about that instance.",
                },
            },
        },
    })
}

/// Puts figures of [`domain::limits`] in the place of their names, such as `{"maxLength": "limit:NAME_CHARACTERS"}`, and
/// what follows from the table of configuration keys in the place of `keys:…`.
fn with_tables(value: Value) -> Value {
    const FIGURES: [(&str, u64); 9] = [
        ("limit:ID", LARGEST_ID),
        ("limit:NAME_CHARACTERS", limits::NAME_CHARACTERS as u64),
        ("limit:TAGS", limits::TAGS as u64),
        ("limit:TAG_CHARACTERS", limits::TAG_CHARACTERS as u64),
        ("limit:CONFIGURATION_KEYS", limits::CONFIGURATION_KEYS as u64),
        ("limit:KEY_CHARACTERS", limits::KEY_CHARACTERS as u64),
        ("limit:VALUE_BYTES", limits::VALUE_BYTES as u64),
        ("limit:REDELIVERIES", limits::REDELIVERIES as u64),
        ("limit:RESOURCES", limits::RESOURCES as u64),
    ];
    match value {
        Value::String(text) => match FIGURES.iter().find(|(name, _)| *name == text) {
            Some((_, figure)) => json!(figure),
            None if text == "keys:PROPERTIES" => configuration_keys(),
            None if text == "keys:CONTROLS" => Control::NAMED.iter().map(|control| json!(control.word())).collect(),
            None => Value::String(text),
        },
        Value::Array(all) => all.into_iter().map(with_tables).collect(),
        Value::Object(members) => members.into_iter().map(|(name, member)| (name, with_tables(member))).collect(),
        other => other,
    }
}

/// The platform's configuration keys as members of an object, from their table. What the service takes in several
/// forms, such as a number as text, has all of them.
fn configuration_keys() -> Value {
    let property = |key: &KeySpec| {
        let mut schema = match key.kind {
            KeyKind::Boolean => json!({ "type": ["boolean", "string", "null"] }),
            KeyKind::Integer { least, .. } => json!({ "type": ["integer", "string", "null"], "minimum": least }),
            // A login's texts may be numbers.
            KeyKind::Url | KeyKind::Text if key.section == Section::Account => json!({}),
            KeyKind::Url | KeyKind::Text => json!({ "type": ["string", "null"] }),
            KeyKind::Choice(words) => json!({ "type": ["string", "null"], "examples": words() }),
            KeyKind::Headers => {
                json!({ "type": ["object", "string", "null"], "additionalProperties": { "type": "string" } })
            }
            KeyKind::Resources => json!({ "type": ["object", "string", "null"] }),
            KeyKind::Instant | KeyKind::Anything => json!({}),
        };
        let note = match key.offered {
            Offered::Form(_) | Offered::LoginForm(_) => String::new(),
            Offered::ApiOnly(reason) => format!(" Not in the form: {reason}."),
            Offered::ReadAndIgnored(reason) => format!(" Without effect: {reason}."),
        };
        schema["description"] = json!(format!("{}{note}", key.help));
        if let Some(default) = key.default {
            schema["default"] = json!(default);
        }
        (key.name.to_owned(), schema)
    };
    Value::Object(KEYS.iter().map(property).collect())
}

/// Every refusal by its status, its name among the components, and what it means.
const REFUSALS: [(u16, &str, &str); 14] = [
    (
        400,
        "Invalid",
        "Something about the request is wrong; `errors` names the fields, what was read and what would work.",
    ),
    (401, "Unknown", "No caller is known by these secrets: absent, wrong, or not belonging together."),
    (403, "Disabled", "The instance is disabled, or the account is another's."),
    (404, "Absent", "It is not there, or it is another organization's: the answer does not say which."),
    (406, "NotAcceptable", "The `Accept` header excludes JSON."),
    (409, "Raced", "Others changed the instance at the same time, time and again. Read it and send the change again."),
    (412, "Changed", "The instance is not at the version of `If-Match` any more. Nothing was changed."),
    (413, "TooLarge", "The body is larger than is taken."),
    (414, "TooLong", "The URL is longer than is taken."),
    (415, "NotJson", "The body is not declared to be JSON."),
    (
        429,
        "Later",
        "The vendor, a limit of the organization or the number of the caller's calls under way wants the call to come later: see `Retry-After`.",
    ),
    (500, "Failed", "Something failed on our side; `requestId` names the case."),
    (502, "Vendor", "The vendor cannot be reached, or its answer makes no sense; `providerMessage` has it."),
    (503, "Busy", "The service or its table is busy: see `Retry-After`."),
];

fn refusals() -> Value {
    let shown = |(_, name, about): &(u16, &str, &str)| {
        let response = json!({
            "description": about,
            "headers": { "elements-request-id": { "$ref": "#/components/headers/RequestId" } },
            "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
        });
        ((*name).to_owned(), response)
    };
    Value::Object(REFUSALS.iter().map(shown).collect())
}

fn operation(described: &Described) -> Value {
    let Described { path, operation, .. } = described;
    let mut shown = json!({
        "operationId": operation_id(operation),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.about,
        "security": security(operation),
        "responses": responses(operation),
    });
    let mut parameters: Vec<Value> = in_path(path).collect();
    parameters.extend(operation.query.iter().map(in_query));
    if operation.paged {
        let size =
            json!({ "type": "integer", "minimum": 1, "maximum": limits::PAGE_SIZE, "default": limits::PAGE_SIZE });
        parameters
            .push(json!({ "name": "pageSize", "in": "query", "schema": size, "description": "Entries on a page." }));
        parameters.push(json!({
            "name": "nextPage", "in": "query", "schema": { "type": "string" },
            "description": "`elements-next-page-token` of the page before.",
        }));
    }
    if operation.statuses.contains(&412) {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "schema": { "type": "string", "pattern": "^(\\*|\"[0-9]{1,18}\")$" },
            "description": "`ETag` of the instance as it was read.",
        }));
    }
    if !parameters.is_empty() {
        shown["parameters"] = json!(parameters);
    }
    if let Some(body) = operation.body {
        let schema = json!({ "$ref": format!("#/components/schemas/{}", body.schema) });
        shown["requestBody"] =
            json!({ "required": body.required, "content": { "application/json": { "schema": schema } } });
    }
    shown
}

/// A name of its own for the twin that is served by an instance's token.
fn operation_id(operation: &Operation) -> String {
    format!("{}{}", operation.id, if operation.twin { "ByToken" } else { "" })
}

fn security(operation: &Operation) -> Value {
    match operation.access {
        Access::Open => json!([]),
        Access::Secrets => json!([{ "organization": [] }, { "element": [] }]),
        Access::Token => json!([{ "element": [] }]),
    }
}

/// The parameters that stand in a path.
fn in_path(path: &str) -> impl Iterator<Item = Value> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(|name| {
        let (schema, about) = match name {
            "id" => (json!({ "type": "integer", "minimum": 1, "maximum": LARGEST_ID }), "The instance's id."),
            "element" => {
                (json!({ "type": "string", "minLength": 1, "example": "square" }), "The element's key, or its number.")
            }
            "hub" => (json!({ "type": "string", "minLength": 1, "example": "employee" }), "The hub's key."),
            "resource" => {
                (json!({ "type": "string", "minLength": 1, "example": "timesheets" }), "The resource's name.")
            }
            "object" => (json!({ "type": "string", "minLength": 1, "example": "timesheets" }), "The resource's name."),
            "record" => (json!({ "type": "string", "minLength": 1 }), "The record's id at the vendor."),
            "event" => (json!({ "type": "string", "minLength": 1 }), "`eventId` of the notification."),
            "operation" => {
                (json!({ "type": "string", "minLength": 1, "example": "getTimesheets" }), "Its `operationId`.")
            }
            "delivery" => (json!({ "type": "string", "minLength": 1 }), "The delivery's id."),
            "notification" => (json!({ "type": "string", "minLength": 1 }), "The notification's number or event id."),
            "item" => (
                json!({ "type": "string", "minLength": 1, "example": REFRESH_INTERVAL }),
                "The key, or its number in the list.",
            ),
            _ => (json!({ "type": "string", "minLength": 1 }), "See above."),
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema, "description": about })
    })
}

fn in_query(parameter: &Parameter) -> Value {
    let schema = match parameter.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Flag => json!({ "type": "boolean", "default": false }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Word(words) => json!({ "type": "string", "enum": words }),
        Kind::Numbers => {
            json!({ "type": "array", "items": { "type": "integer", "minimum": 1, "maximum": LARGEST_ID } })
        }
        Kind::Time => json!({ "anyOf": [
            { "type": "string", "format": "date-time" },
            { "type": "integer", "minimum": 0, "maximum": 253_402_300_799_999_u64 },
        ] }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
    };
    json!({
        "name": parameter.name, "in": "query", "schema": schema, "description": parameter.about,
    })
}

fn responses(operation: &Operation) -> Value {
    let mut headers = json!({ "elements-request-id": { "$ref": "#/components/headers/RequestId" } });
    if operation.paged {
        headers["elements-returned-count"] = json!({ "$ref": "#/components/headers/ReturnedCount" });
        headers["elements-next-page-token"] = json!({ "$ref": "#/components/headers/NextPageToken" });
    }
    if operation.answer == Some("Instance") {
        headers["ETag"] = json!({ "$ref": "#/components/headers/ETag" });
    }
    let mut success = json!({ "description": "Done.", "headers": headers });
    if let Some(schema) = operation.answer {
        let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
        success["content"] = json!({ "application/json": { "schema": schema } });
    }
    let mut responses = Map::from_iter([("200".to_owned(), success)]);
    if operation.id == "getOpenApi" {
        responses
            .insert("304".to_owned(), json!({ "description": "The version of `If-None-Match` is the present one." }));
    }
    let mut statuses = operation.statuses.clone();
    statuses.extend([406, 414, 429, 500, 503]);
    match operation.access {
        Access::Open => {}
        Access::Secrets => statuses.push(401),
        Access::Token => statuses.extend([400, 401]),
    }
    if operation.answer == Some("InstanceOrList") {
        statuses.push(400);
    }
    // Parts of a path that are no text.
    statuses.push(400);
    for (status, name, _) in REFUSALS.iter().filter(|(status, ..)| statuses.contains(status)) {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
    }
    Value::Object(responses)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref` in the document.
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Array(all) => all.iter().for_each(|one| references(one, found)),
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_shape_is_used() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 40, "{found:?}");
        for reference in &found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(found.contains(format!("#/components/schemas/{name}").as_str()), "nothing uses the shape {name}");
        }
        for name in ["limit:", "keys:"] {
            assert!(!document.to_string().contains(name), "a name is left in the place of what it stands for: {name}");
        }
        let configuration = &document["components"]["schemas"]["Configuration"]["properties"];
        assert_eq!(configuration.as_object().map(Map::len), Some(KEYS.len()));
    }

    #[test]
    fn operations_have_names_of_their_own_known_groups_and_words() {
        let mut ids = BTreeSet::new();
        for Described { operation, .. } in &all_routes().described {
            let id = operation_id(operation);
            assert!(ids.insert(id.clone()), "{id} is there twice");
            assert!(TAGS.iter().any(|(tag, _)| *tag == operation.tag), "{id} is in no group");
            assert!(operation.summary.len() > 5 && operation.about.ends_with('.'), "{id} is not described");
            assert!(operation.body.is_none_or(|body| body.schema != "Anything"), "{id} takes a body without a shape");
            for status in &operation.statuses {
                assert!(REFUSALS.iter().any(|(known, ..)| known == status), "{id} answers {status}");
            }
        }
        assert!(ids.len() > 70, "{}", ids.len());
    }

    #[test]
    fn it_is_small_enough_for_a_page() {
        assert!(document().to_string().len() < 250_000);
    }
}
