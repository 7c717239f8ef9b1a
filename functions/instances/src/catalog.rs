//! Calls about elements and hubs: what can be connected, what has to be filled in, and where a user logs in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::configuration::keys::{self, Control, KEYS, KeySpec, Kind as KeyKind, Offered, Section};
use elements::Element;
use elements::auth::{LoginPage, authorize_url};
use elements::definition::{Auth, ChangeDetection, ConnectionField, Resource};
use serde_json::{Map, Value, json};

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{Authenticated, JsonBody, Path, Query, find_element};
use crate::route::{Kind, Operation, Routes, op};
use crate::view;

pub(crate) type Answer = Result<Json<Value>, ApiError>;

/// The routes of this page.
pub fn routes() -> Routes {
    const TAG: &str = "Elements";
    Routes::new()
        .get("/elements", list, op("listElements", TAG, "List the elements", "What can be connected, with everything that has to be filled in.").answers("Elements"))
        .get("/elements/keys", keys, op("listElementKeys", TAG, "List the elements' keys", "Key, number and name.").answers("ElementKeys"))
        .get(
            "/elements/{element}",
            get,
            op("getElement", TAG, "Read an element", "By its key or its number.").answers("ElementWhole").or(&[404]),
        )
        .get(
            "/elements/{element}/configuration",
            configuration,
            op("listElementConfiguration", TAG, "What has to be filled in for an element", "Its own fields, then the event keys.")
                .answers("Properties")
                .or(&[404]),
        )
        .get(
            "/elements/{element}/metadata",
            metadata,
            op("getElementMetadata", TAG, "Which events an element has", "By resource: the kinds, and the URL that is polled.")
                .answers("ElementMetadata")
                .or(&[404]),
        )
        .get(
            "/elements/{element}/oauth/url",
            oauth_url,
            login_parameters(op(
                "getLoginUrl",
                TAG,
                "Where a user logs in at the vendor",
                "The vendor sends the browser back to `callbackUrl` with `code` and `state`; the code goes into \
                 `providerData` of `POST /instances`. Parameters that the element's login needs besides are given under \
                 their configuration keys. 400 for an element that needs no login in the browser.",
            ))
            .answers("LoginUrl")
            .or(&[404]),
        )
        .post(
            "/elements/{element}/oauth/url",
            oauth_url_of_body,
            op("getLoginUrlOfBody", TAG, "The same, with the fields in the body", "As `GET`, for secrets that should not stand in a URL.")
                .takes("LoginUrlRequest")
                .answers("LoginUrl")
                .or(&[404]),
        )
        .get("/hubs", hubs, op("listHubs", TAG, "List the hubs", "A hub is a kind of element.").answers("Hubs"))
        .get("/hubs/keys", hub_keys, op("listHubKeys", TAG, "List the hubs' keys", "Of the elements that there are.").answers("Texts"))
        .get(
            "/hubs/{hub}/elements",
            elements_of_hub,
            op("listElementsOfHub", TAG, "List the elements of a hub", "As `GET /elements`.").answers("Elements").or(&[404]),
        )
}

/// Adds the parameters of a login's address.
fn login_parameters(operation: Operation) -> Operation {
    operation
        .query("apiKey", Kind::Text, "The client id that the vendor gave your application.")
        .query("apiSecret", Kind::Text, "Accepted as in Cloud Elements, and not needed.")
        .query("callbackUrl", Kind::Text, "Where the vendor sends the browser back to.")
        .query("scope", Kind::Text, "Instead of the element's own scopes.")
        .query("state", Kind::Text, "Comes back with the code. The element's key where it is left out.")
}

/// `GET /elements`.
pub async fn list(State(state): State<ApiState>) -> Json<Value> {
    Json(state.service.catalog.iter().map(|element| whole(element)).collect())
}

/// `GET /elements/keys`.
pub async fn keys(State(state): State<ApiState>) -> Json<Value> {
    let entry =
        |element: &Arc<Element>| json!({ "id": view::element_id(element), "key": element.key, "name": element.name });
    Json(state.service.catalog.iter().map(entry).collect())
}

/// `GET /elements/{element}`.
pub async fn get(State(state): State<ApiState>, Path(element): Path<String>) -> Answer {
    Ok(Json(whole(find_element(&state, &element)?)))
}

/// `GET /elements/{element}/configuration`.
pub async fn configuration(State(state): State<ApiState>, Path(element): Path<String>) -> Answer {
    Ok(Json(Value::Array(properties(find_element(&state, &element)?))))
}

/// `GET /elements/{element}/metadata`.
pub async fn metadata(State(state): State<ApiState>, Path(element): Path<String>) -> Answer {
    let element = find_element(&state, &element)?;
    let polling: Map<String, Value> = element
        .resources
        .iter()
        .map(|resource| {
            let shown = json!({ "eventTypes": event_types(resource), "pollUrl": resource.poll.get("url") });
            (resource.name.clone(), shown)
        })
        .collect();
    Ok(Json(json!({
        "id": view::element_id(element),
        "key": element.key,
        "events": { "supported": !polling.is_empty(), "methods": ["polling"], "polling": polling },
    })))
}

/// The kinds of change that are found in a resource.
pub fn event_types(resource: &Resource) -> &'static [&'static str] {
    let finds_deletions = resource.delete.flag.is_some()
        || resource.delete.absence.is_some()
        || matches!(resource.change, ChangeDetection::SyncToken { .. } | ChangeDetection::HistoryId { .. });
    if finds_deletions { &["created", "updated", "deleted"] } else { &["created", "updated"] }
}

/// An element with everything that a page needs to make an instance of it.
fn whole(element: &Element) -> Value {
    let mut shown = view::element(element);
    let resource = |resource: &Resource| {
        json!({
            "name": resource.name,
            "label": resource.label,
            "path": resource.hub_paths.first().map(|path| format!("/hubs/{}/{path}", element.hub)),
            "pollerConfiguration": resource.poll,
        })
    };
    shown["resources"] = element.resources.iter().map(resource).collect();
    shown["configuration"] = Value::Array(properties(element));
    shown["docs"] = json!(element.docs);
    shown
}

/// Everything a user may fill in: the element's own fields, then the keys that the platform knows.
pub fn properties(element: &Element) -> Vec<Value> {
    let mut listed: Vec<Value> = element.connection.values().filter_map(|field| own_property(element, field)).collect();
    let own_keys: BTreeSet<&str> =
        element.connection.values().flat_map(|field| &field.configuration_keys).map(String::as_str).collect();
    let logs_in = matches!(element.auth, Auth::Oauth2Code(_));
    for key in KEYS {
        let is_offered = match key.offered {
            Offered::Form(_) => true,
            // The client's id and secret are fields of the element.
            Offered::LoginForm(control) => logs_in && control == Control::RedirectUrl,
            Offered::ApiOnly(_) | Offered::ReadAndIgnored(_) => false,
        };
        if is_offered && !own_keys.contains(key.name) {
            listed.push(platform_property(element, key));
        }
    }
    for (order, shown) in listed.iter_mut().enumerate() {
        shown["displayOrder"] = json!(order);
    }
    listed
}

/// A field of the element. None: it has no configuration key, so nobody can fill it in.
fn own_property(element: &Element, field: &ConnectionField) -> Option<Value> {
    let key = field.configuration_keys.first()?;
    let kind = if field.secret { "PASSWORD" } else { "TEXTFIELD_128" };
    let required = field.required && field.default.is_none() && field.replaced_by.is_none();
    let mut shown = property(key, &field.label, kind, json!(field.default), &field.help, required);
    shown["section"] = json!(Section::Account.word());
    if !field.options.is_empty() {
        shown["options"] = json!(field.options);
    }
    let instead =
        field.replaced_by.as_deref().and_then(|other| element.connection.get(other)?.configuration_keys.first());
    if let Some(instead) = instead {
        shown["requiredUnless"] = json!(instead);
    }
    let control = keys::find(key).and_then(|key| key.offered.control()?.word());
    if let Some(control) = control {
        shown["control"] = json!(control);
    }
    Some(shown)
}

/// A key of the platform's.
fn platform_property(element: &Element, key: &KeySpec) -> Value {
    let kind = match key.kind {
        _ if key.secret => "PASSWORD",
        KeyKind::Boolean => "BOOLEAN",
        KeyKind::Url => "TEXTFIELD_1000",
        KeyKind::Choice(_) => "TEXTFIELD_32",
        KeyKind::Resources => "TEXTAREA",
        KeyKind::Integer { .. } | KeyKind::Text | KeyKind::Headers | KeyKind::Instant | KeyKind::Anything => {
            "TEXTFIELD_128"
        }
    };
    let default = match key.kind {
        KeyKind::Resources => {
            let resources = element.resources.iter();
            let defaults: Map<String, Value> =
                resources.map(|resource| (resource.name.clone(), Value::Object(resource.poll.clone()))).collect();
            json!(Value::Object(defaults).to_string())
        }
        _ => json!(key.default),
    };
    let mut shown = property(key.name, key.title, kind, default, key.help, false);
    shown["section"] = json!(key.section.word());
    if let KeyKind::Choice(words) = key.kind {
        shown["options"] = json!(words());
    }
    if let Some(control) = key.offered.control().and_then(Control::word) {
        shown["control"] = json!(control);
    }
    shown
}

/// A property in the shape that Cloud Elements answers with.
fn property(key: &str, name: &str, kind: &str, default: Value, description: &str, required: bool) -> Value {
    json!({
        "key": key, "name": name, "type": kind, "defaultValue": default, "description": description,
        "required": required, "active": true, "internal": false, "groupControl": false,
        "resellerConfig": false, "companyConfig": false, "hideFromConsole": false,
    })
}

/// `GET /elements/{element}/oauth/url`.
pub async fn oauth_url(
    State(state): State<ApiState>,
    _: Authenticated,
    Path(element): Path<String>,
    Query(parameters): Query,
) -> Answer {
    let given = parameters.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
    login_address(&state, &element, given)
}

/// `POST` of the same, with the fields in the body.
pub async fn oauth_url_of_body(
    State(state): State<ApiState>,
    _: Authenticated,
    Path(element): Path<String>,
    JsonBody(body): JsonBody,
) -> Answer {
    match body {
        Value::Object(given) => login_address(&state, &element, given),
        _ => Err(ApiError::bad_request("The body must be a JSON object with apiKey, apiSecret and callbackUrl.")),
    }
}

/// Answers with the address where the user logs in at the vendor.
pub(crate) fn login_address(state: &ApiState, element: &str, given: Map<String, Value>) -> Answer {
    let element = find_element(state, element)?;
    if !matches!(element.auth, Auth::Oauth2Code(_)) {
        return Err(ApiError::bad_request(format!(
            "{} needs no login in the browser: create the instance with its configuration alone.",
            element.name
        )));
    }
    // Parameters stand for the configuration keys of the same meaning; every other name is such a key itself.
    let texts: BTreeMap<String, String> = given
        .into_iter()
        .filter_map(|(name, value)| match value {
            Value::String(text) if !text.is_empty() => Some((name, text)),
            Value::Number(_) | Value::Bool(_) => Some((name, value.to_string())),
            _ => None,
        })
        .collect();
    let text = |name: &str, key: &str| texts.get(name).or_else(|| texts.get(key)).map(String::as_str);
    let page = LoginPage {
        api_key: text("apiKey", keys::API_KEY).unwrap_or_default(),
        callback_url: text("callbackUrl", keys::REDIRECT_URL).unwrap_or_default(),
        scope: text("scope", keys::SCOPE),
        // Cloud Elements sends the element's key if the caller has no state of its own.
        state: Some(text("state", "state").unwrap_or(&element.key)),
        params: &texts,
    };
    let url = authorize_url(element, &state.service.bases, &page).map_err(ApiError::invalid)?;
    Ok(Json(json!({ "oauthUrl": url.as_str(), "element": element.key })))
}

/// `GET /hubs`.
pub async fn hubs(State(state): State<ApiState>) -> Json<Value> {
    let hubs: BTreeSet<&str> = state.service.catalog.iter().map(|element| element.hub.as_str()).collect();
    Json(hubs.into_iter().map(|hub| json!({ "key": hub, "name": hub, "active": true })).collect())
}

/// `GET /hubs/keys`.
pub async fn hub_keys(State(state): State<ApiState>) -> Json<Value> {
    let hubs: BTreeSet<&str> = state.service.catalog.iter().map(|element| element.hub.as_str()).collect();
    Json(json!(hubs))
}

/// `GET /hubs/{hub}/elements`.
pub async fn elements_of_hub(State(state): State<ApiState>, Path(hub): Path<String>) -> Answer {
    let of_hub: Vec<Value> =
        state.service.catalog.iter().filter(|element| element.hub == hub).map(|element| whole(element)).collect();
    match of_hub.is_empty() {
        true => Err(ApiError::new(StatusCode::NOT_FOUND, "There is no hub of this key.")),
        false => Ok(Json(Value::Array(of_hub))),
    }
}
