//! Calls about instances: made, read, changed, removed, switched, polled.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::routing::{MethodRouter, delete};
use domain::id::OrganizationId;
use domain::problem::FieldProblem;
use flow::instance::{self, Change, InstanceBody, InstanceError, ListingQuery, LoginError, Made};
use flow::table::InstanceRecord;
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::ApiState;
use crate::input::{Authenticated, JsonBody, Target};
use crate::page::{self, Paging, Parameters};
use crate::refusal::Refusal;
use crate::view;

/// Tokens of a listing that are opened at once.
const OPENED_AT_ONCE: usize = 16;

type Answer = Result<Json<Value>, Refusal>;

impl From<InstanceError> for Refusal {
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::Absent => Self::no_instance(),
            InstanceError::Invalid(problems) => Self::invalid(problems),
            InstanceError::Raced => Self::new(
                StatusCode::CONFLICT,
                "The instance was changed by others at the same time. Read it and send your change again.",
            ),
            InstanceError::Login(LoginError::Refused(said)) => {
                Self::bad_request("The vendor did not accept the login. Check the credentials, or log in at the vendor again for a new code.")
                    .with_provider_message(said)
            }
            InstanceError::Login(LoginError::Unavailable { said, after: None }) => {
                Self::new(StatusCode::BAD_GATEWAY, "The vendor could not be asked for tokens. Nothing was stored.")
                    .with_provider_message(said)
            }
            InstanceError::Login(LoginError::Unavailable { said, after: Some(after) }) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "The vendor wants to be asked later. Nothing was stored.")
                    .with_provider_message(said)
                    .with_header(axum::http::header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)))
            }
            other => Self::internal(&other),
        }
    }
}

/// `PUT`, `PATCH` and `DELETE`, with an id in the path or by an instance's token.
pub fn by_token() -> MethodRouter<ApiState> {
    delete(remove).put(replace).patch(merge)
}

/// `POST /instances`. With `?dryRun=true` it is the rehearsal, and nothing is made.
pub async fn create(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(query): Query<BTreeMap<String, String>>,
    body: JsonBody,
) -> Answer {
    let body = InstanceBody::read(&body.0).map_err(Refusal::invalid)?;
    if query.get("dryRun").is_some_and(|dry| dry == "true") {
        return Ok(Json(json!(instance::rehearse_new(&state.service, body).await?)));
    }
    let made = instance::create(&state.service, &caller, body).await?;
    Ok(Json(shown(&state, &made)))
}

/// `POST /elements/{element}/instances`: the same, with the element in the path.
pub async fn create_of_element(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Path(element): Path<String>,
    body: JsonBody,
) -> Answer {
    let mut body = InstanceBody::read(&body.0).map_err(Refusal::invalid)?;
    let element = crate::catalog::find(&state, &element)?.key.clone();
    if body
        .element
        .as_deref()
        .is_some_and(|named| state.service.catalog.get(named).is_none_or(|named| named.key != element))
    {
        let expected = format!("{element:?} as in the path, or nothing");
        return Err(Refusal::invalid(vec![FieldProblem::new("element", body.element.unwrap_or_default(), expected)]));
    }
    body.element = Some(element);
    let made = instance::create(&state.service, &caller, body).await?;
    Ok(Json(shown(&state, &made)))
}

fn shown(state: &ApiState, made: &Made) -> Value {
    let element = state.service.catalog.get(&made.record.element);
    view::instance(&made.record, element.map(|element| &**element), &made.token, &made.warnings)
}

/// A stored instance, with its token opened.
async fn shown_stored(state: &ApiState, record: &InstanceRecord) -> Result<Value, Refusal> {
    let token = instance::token(&state.service, record).await?;
    let element = state.service.catalog.get(&record.element);
    Ok(view::instance(record, element.map(|element| &**element), &token, &view::stored_warnings(record)))
}

/// `GET /instances/{id}`.
pub async fn get(State(state): State<ApiState>, target: Target) -> Answer {
    let stored = instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    Ok(Json(shown_stored(&state, &stored.record).await?))
}

/// `GET /instances`: the instance whose token came along, or else the organization's.
pub async fn get_or_list(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(query): Query<Parameters>,
) -> Result<(HeaderMap, Json<Value>), Refusal> {
    if let Some(instance) = caller.instance {
        let shown = get(State(state), Target { caller, instance }).await?;
        return Ok((HeaderMap::new(), shown));
    }
    listing(&state, caller.organization, query, None).await
}

/// `GET /elements/{element}/instances`.
pub async fn list_of_element(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Path(element): Path<String>,
    Query(query): Query<Parameters>,
) -> Result<(HeaderMap, Json<Value>), Refusal> {
    let element = crate::catalog::find(&state, &element)?.key.clone();
    listing(&state, caller.organization, query, Some(element)).await
}

async fn listing(
    state: &ApiState,
    organization: OrganizationId,
    parameters: Parameters,
    element: Option<String>,
) -> Result<(HeaderMap, Json<Value>), Refusal> {
    // The original answers 404 where it finds none; who asks with `allowEmpty` gets the empty list.
    let may_be_empty = parameters.iter().any(|(name, value)| name == "allowEmpty" && value == "true");
    let (query, hydrate) = listing_query(Paging::of(parameters, "INST#")?, element)?;
    let page = instance::list(&state.service.ports, organization, &query).await?;
    if page.entries.is_empty() && !may_be_empty {
        return Err(Refusal::not_found("No element instances found."));
    }
    let entries: Vec<Value> = if hydrate {
        let opening: Vec<_> = page.entries.iter().map(|record| shown_stored(state, record)).collect();
        stream::iter(opening).buffered(OPENED_AT_ONCE).try_collect().await?
    } else {
        let brief = |record: &InstanceRecord| {
            json!({
                "id": record.id,
                "name": record.name,
                "tags": record.tags,
                "element": { "key": record.element },
                "createdDate": view::instant(record.created_at),
                "valid": record.reconnect.is_none(),
                "disabled": record.disabled,
                "eventsEnabled": record.events_enabled,
            })
        };
        page.entries.iter().map(brief).collect()
    };
    Ok((page::headers(page.entries.len(), page.next.as_deref()), Json(Value::Array(entries))))
}

/// `tags[]`, `searchText` and `hydrate`; other parameters are left alone.
fn listing_query(paging: Paging, element: Option<String>) -> Result<(ListingQuery, bool), Refusal> {
    let mut query = ListingQuery { element, page_size: paging.size, after: paging.after, ..ListingQuery::default() };
    let mut hydrate = true;
    for (name, value) in paging.others {
        match (name.as_str(), value.as_str()) {
            ("tags[]" | "tags", _) => query.tags.push(value),
            ("searchText", _) => query.search = Some(value).filter(|text| !text.is_empty()),
            ("hydrate", "true") => hydrate = true,
            ("hydrate", "false") => hydrate = false,
            ("hydrate", _) => return Err(Refusal::invalid(vec![FieldProblem::new(name, value, "true or false")])),
            _ => {}
        }
    }
    Ok((query, hydrate))
}

/// `PUT /instances/{id}`.
pub async fn replace(state: State<ApiState>, target: Target, body: JsonBody) -> Answer {
    change(state, target, body, Change::Replace).await
}

/// `PATCH /instances/{id}`.
pub async fn merge(state: State<ApiState>, target: Target, body: JsonBody) -> Answer {
    change(state, target, body, Change::Merge).await
}

async fn change(State(state): State<ApiState>, target: Target, body: JsonBody, change: Change) -> Answer {
    let body = InstanceBody::read(&body.0).map_err(Refusal::invalid)?;
    let made = instance::update(&state.service, &target.caller, target.instance, body, change).await?;
    Ok(Json(shown(&state, &made)))
}

/// `DELETE /instances/{id}`: 200 without a body.
pub async fn remove(State(state): State<ApiState>, target: Target) -> Result<StatusCode, Refusal> {
    instance::remove(&state.service, target.caller.organization, target.instance).await?;
    Ok(StatusCode::OK)
}

/// `PUT /instances/{id}/enabled`.
pub async fn enable(State(state): State<ApiState>, target: Target) -> Answer {
    let (caller, instance) = (target.caller, target.instance);
    let answer = switch(&state, target, false).await?;
    crate::delivery_ops::send_queued(&state, &Target { caller, instance }).await?;
    Ok(answer)
}

/// `DELETE /instances/{id}/enabled`.
pub async fn disable(State(state): State<ApiState>, target: Target) -> Answer {
    switch(&state, target, true).await
}

async fn switch(state: &ApiState, target: Target, disabled: bool) -> Answer {
    let organization = target.caller.organization;
    let record = instance::set_disabled(&state.service.ports, organization, target.instance, disabled).await?;
    Ok(Json(shown_stored(state, &record).await?))
}

/// `GET /instances/{id}/configuration`: every key with what the element says of it. Secrets are masked.
pub async fn configuration(State(state): State<ApiState>, target: Target) -> Answer {
    let stored = instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    Ok(Json(Value::Array(items(&state, &stored.record))))
}

fn items(state: &ApiState, record: &InstanceRecord) -> Vec<Value> {
    let element = state.service.catalog.get(&record.element);
    let described = element.map(|element| crate::catalog::properties(element)).unwrap_or_default();
    let item = |(index, (key, value)): (usize, (&String, &Value))| {
        let known = described.iter().find(|property| property["key"] == key.as_str());
        let of = |name: &str, otherwise: Value| known.map_or(otherwise, |property| property[name].clone());
        json!({
            "id": index + 1,
            "key": key,
            "name": of("name", json!(key)),
            "description": of("description", json!("")),
            "propertyValue": value,
            "type": of("type", json!("TEXTFIELD_1000")),
            "active": true,
            "required": of("required", json!(false)),
            "hideFromConsole": false,
        })
    };
    record.configuration.iter().enumerate().map(item).collect()
}

/// The item of this id or key.
fn item_of(state: &ApiState, record: &InstanceRecord, wanted: &str) -> Result<Value, Refusal> {
    let is_it = |item: &Value| item["key"] == wanted || item["id"].as_u64() == wanted.parse().ok();
    let found = items(state, record).into_iter().find(is_it);
    found.ok_or_else(|| Refusal::not_found("The instance has no configuration item of this id or key."))
}

/// `GET /instances/{id}/configuration/{item}`: one item, by its id or its key.
pub async fn configuration_item(
    State(state): State<ApiState>,
    target: Target,
    Path((_, wanted)): Path<(String, String)>,
) -> Answer {
    let stored = instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    Ok(Json(item_of(&state, &stored.record, &wanted)?))
}

/// `PATCH /instances/{id}/configuration/{item}` with `{"propertyValue": …}`: what a patch of the instance with that
/// one key does.
pub async fn change_configuration_item(
    State(state): State<ApiState>,
    target: Target,
    Path((_, wanted)): Path<(String, String)>,
    JsonBody(body): JsonBody,
) -> Answer {
    let stored = instance::get(&state.service.ports, target.caller.organization, target.instance).await?;
    let item = item_of(&state, &stored.record, &wanted)?;
    let (Some(key), Some(value)) = (item["key"].as_str(), body.get("propertyValue")) else {
        let expected = "an object with the new propertyValue";
        return Err(Refusal::invalid(vec![FieldProblem::new("propertyValue", "nothing", expected)]));
    };
    let patch = json!({ "configuration": { key: value } });
    let body = InstanceBody::read(&patch).map_err(Refusal::invalid)?;
    let made = instance::update(&state.service, &target.caller, target.instance, body, Change::Merge).await?;
    Ok(Json(item_of(&state, &made.record, key)?))
}
