//! The Swagger 2.0 documents of the elements, as Cloud Elements hands them out: one operation for
//! each resource and one for each record, made from the element's file.

use axum::Json;
use axum::extract::State;
use elements::Element;
use elements::definition::Resource;
use elements::pointer::Pointer;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::input::{Path, Query, Target, find_element, part};
use crate::pagination::Parameters;
use crate::route::{Kind, Routes, op};
use crate::{ApiState, BASE, view};

type Answer = Result<Json<Value>, ApiError>;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Documents";
    const ONLY: &str = "Only this operation.";
    Routes::new()
        .get(
            "/elements/{element}/docs",
            of_element,
            op(
                "getElementDocs",
                TAG,
                "What can be read through an element",
                "Swagger 2.0, as Cloud Elements hands it out. It names the fields that Pollux knows of; vendors' records \
                 have more, and those are passed through as they are.",
            )
            .query("operationId", Kind::Text, ONLY)
            .answers("Swagger")
            .or(&[404]),
        )
        .get(
            "/instances/{id}/docs",
            of_instance,
            op("getInstanceDocs", TAG, "What can be read through an instance", "The document of its element.")
                .query("operationId", Kind::Text, ONLY)
                .answers("Swagger"),
        )
        .get(
            "/instances/{id}/docs/{operation}",
            operation_of_instance,
            op("getInstanceOperation", TAG, "One operation of an instance's document", "With its path and its method.")
                .answers("SwaggerOperation"),
        )
        .get(
            "/instances/{id}/definitions",
            definitions_of_instance,
            op("getInstanceDefinitions", TAG, "The shapes of an instance's document", "By name.")
                .answers("Definitions"),
        )
}

/// `GET /elements/{element}/docs`.
async fn of_element(State(state): State<ApiState>, Path(path): Path<Parameters>, Query(query): Query) -> Answer {
    narrowed(swagger(find_element(&state, part(&path, "element"))?), &query)
}

/// `GET /instances/{id}/docs`.
async fn of_instance(State(state): State<ApiState>, target: Target, Query(query): Query) -> Answer {
    narrowed(of_target(&state, &target).await?, &query)
}

/// `GET /instances/{id}/docs/{operation}`.
async fn operation_of_instance(State(state): State<ApiState>, target: Target, Path(path): Path<Parameters>) -> Answer {
    let document = of_target(&state, &target).await?;
    let wanted = part(&path, "operation");
    let operations = document["paths"].as_object().into_iter().flatten();
    for (path, operation) in operations.map(|(path, methods)| (path, &methods["get"])) {
        if operation["operationId"] == wanted {
            let mut shown = operation.clone();
            shown["path"] = json!(path);
            shown["method"] = json!("get");
            return Ok(Json(shown));
        }
    }
    Err(no_operation(&document))
}

/// `GET /instances/{id}/definitions`.
async fn definitions_of_instance(State(state): State<ApiState>, target: Target) -> Answer {
    Ok(Json(of_target(&state, &target).await?["definitions"].take()))
}

async fn of_target(state: &ApiState, target: &Target) -> Result<Value, ApiError> {
    Ok(swagger(find_element(state, &target.record(state).await?.element)?))
}

fn no_operation(document: &Value) -> ApiError {
    let methods = document["paths"].as_object().into_iter().flatten();
    let known: Vec<&str> = methods.filter_map(|(_, methods)| methods["get"]["operationId"].as_str()).collect();
    ApiError::not_found(format!("There is no such operation. There are {}.", known.join(", ")))
}

/// The document with the one operation that is asked for, if one is.
fn narrowed(mut document: Value, query: &Parameters) -> Answer {
    let Some((_, wanted)) = query.iter().find(|(name, value)| name == "operationId" && !value.is_empty()) else {
        return Ok(Json(document));
    };
    let error = no_operation(&document);
    let Some(paths) = document["paths"].as_object_mut() else { return Err(error) };
    paths.retain(|_, methods| methods["get"]["operationId"] == wanted.as_str());
    if paths.is_empty() { Err(error) } else { Ok(Json(document)) }
}

/// The document of an element.
fn swagger(element: &Element) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for resource in &element.resources {
        let Some(path) = resource.hub_paths.first() else { continue };
        let name = capital(&resource.name);
        definitions.insert(name.clone(), shape(resource));
        let address = format!("/hubs/{}/{path}", element.hub);
        let parents: Vec<Value> =
            address.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).map(in_path).collect();
        let list = json!({ "type": "array", "items": { "$ref": format!("#/definitions/{name}") } });
        let about = format!("Lists {}, a page at a time.", label(resource));
        let mut parameters = parents.clone();
        parameters.extend(listing_parameters(resource));
        paths.insert(address.clone(), get(&format!("get{name}"), &about, parameters, &list));
        if resource.get.is_some() {
            let one = json!({ "$ref": format!("#/definitions/{name}") });
            let about = format!("Reads one of {} by its id.", label(resource));
            let mut parameters = parents;
            parameters.push(in_path("id"));
            parameters.push(in_query("fields", "string", "Only these fields, separated by commas."));
            paths.insert(format!("{address}/{{id}}"), get(&format!("get{name}ById"), &about, parameters, &one));
        }
    }
    json!({
        "swagger": "2.0",
        "info": {
            "title": element.name,
            "description": element.description,
            "version": "api-v2",
            "x-element-key": element.key,
            "x-element-id": view::element_id(element),
            "x-element-hub": element.hub,
            "x-element-name": element.name,
        },
        "basePath": BASE,
        "produces": ["application/json"],
        "paths": paths,
        "definitions": definitions,
    })
}

fn label(resource: &Resource) -> &str {
    if resource.label.is_empty() { &resource.name } else { &resource.label }
}

/// `time-entries` as `TimeEntries`, for names in code.
fn capital(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect()
}

fn get(id: &str, about: &str, mut parameters: Vec<Value>, schema: &Value) -> Value {
    parameters.insert(
        0,
        json!({
            "name": "Authorization", "in": "header", "required": true, "type": "string",
            "description": "User <user secret>, Organization <organization secret>, Element <instance token>",
        }),
    );
    json!({ "get": {
        "operationId": id,
        "summary": about,
        "parameters": parameters,
        "responses": {
            "200": { "description": "As the vendor has it.", "schema": schema },
            "400": { "description": "Something about the request is wrong." },
            "401": { "description": "No caller is known by these secrets." },
            "403": { "description": "The instance is disabled." },
            "404": { "description": "There is no such resource or record." },
            "429": { "description": "The vendor wants to be asked later." },
            "502": { "description": "The vendor does not answer as it should." },
        },
    } })
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "type": "string" })
}

fn in_query(name: &str, kind: &str, about: &str) -> Value {
    json!({ "name": name, "in": "query", "required": false, "type": kind, "description": about })
}

fn listing_parameters(resource: &Resource) -> Vec<Value> {
    let mut filters: Vec<&str> = resource.conditions.keys().map(String::as_str).collect();
    filters.sort_unstable();
    let about = match filters.as_slice() {
        [] => "CEQL. This resource cannot be filtered.".to_owned(),
        known => format!("CEQL, over {}.", known.join(", ")),
    };
    vec![
        in_query("where", "string", &about),
        in_query("orderBy", "string", "A field and asc or desc, where the vendor can sort."),
        in_query("fields", "string", "Only these fields, separated by commas."),
        in_query("pageSize", "integer", "How many records; the vendor's own largest page is the most."),
        in_query("nextPage", "string", "elements-next-page-token of the page before."),
    ]
}

/// The schema of a record, as far as it is known: its id and its dates.
fn shape(resource: &Resource) -> Value {
    let mut shape = json!({ "type": "object" });
    let mut note = |pointer: &Pointer, leaf: Value| {
        let mut at = &mut shape;
        for part in pointer.as_str().split('/').filter(|part| !part.is_empty() && *part != "*") {
            at["type"] = json!("object");
            at = &mut at["properties"][part];
        }
        if at.is_null() {
            *at = leaf;
        }
    };
    resource.records.id.iter().for_each(|id| note(id, json!({ "x-primary-key": true })));
    resource.time.updated.iter().for_each(|updated| note(updated, json!({ "description": "When it changed last." })));
    resource.time.created.iter().for_each(|created| note(created, json!({ "description": "When it was made." })));
    shape
}

#[cfg(test)]
mod tests {
    use elements::Catalog;

    use super::*;

    #[test]
    fn every_element_has_a_document_without_loose_ends() {
        for element in Catalog::embedded().iter() {
            let document = swagger(element);
            let paths = document["paths"].as_object().unwrap();
            assert!(paths.len() >= element.resources.len(), "{}", element.key);
            let mut ids: Vec<&str> = paths.values().filter_map(|path| path["get"]["operationId"].as_str()).collect();
            assert_eq!(ids.len(), paths.len());
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), paths.len(), "{}: an operation's name is there twice", element.key);
            let text = document.to_string();
            for reference in text.split("\"#/definitions/").skip(1).filter_map(|rest| rest.split('"').next()) {
                assert!(document["definitions"][reference].is_object(), "{}: {reference}", element.key);
            }
            for (path, methods) in paths {
                let placed = path.matches('{').count();
                let listed = methods["get"]["parameters"].as_array().unwrap();
                assert_eq!(listed.iter().filter(|one| one["in"] == "path").count(), placed, "{path}");
            }
        }
    }

    #[test]
    fn a_name_in_code_has_capitals_and_no_signs() {
        assert_eq!(capital("time-entries"), "TimeEntries");
        assert_eq!(capital("calendarList/events"), "CalendarListEvents");
    }
}
