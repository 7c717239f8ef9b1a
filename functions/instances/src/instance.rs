//! Calls about instances: made, read, changed, removed, switched, polled.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use domain::id::OrganizationId;
use domain::problem::FieldProblem;
use flow::instances::{self, InstanceBody, InstanceError, ListingQuery, LoginError, Made, UpdateMode};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use store::records::instance::{InstanceRecord, ListingRecord};
use store::{Cursor, RecordError, Version};

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{Authenticated, JsonBody, Path, Query, Target, find_element, flag, part};
use crate::pagination::{self, Paging, Parameters};
use crate::route::{Input, Kind, Operation, Routes, op};
use crate::{redelivery, view};

/// Tokens of a listing that are opened at once.
const OPENED_AT_ONCE: usize = 16;

type Answer = Result<Json<Value>, ApiError>;

impl From<InstanceError> for ApiError {
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::Absent => Self::no_instance(),
            InstanceError::Invalid(problems) => Self::invalid(problems),
            InstanceError::OverLimit(problems) => Self::over_limit(problems),
            InstanceError::Record(RecordError::Contended(_)) => Self::new(
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
            InstanceError::OtherVersion => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "The instance is not at the version of If-Match any more. Read it and make your change again.",
            ),
            other => Self::internal(&other),
        }
    }
}

/// The version of an instance that a change is for: `If-Match`, with what the `ETag` of an answer said.
pub struct IfMatch(Option<Version>);

impl Input for IfMatch {
    fn describe(operation: &mut Operation) {
        operation.statuses.push(412);
    }
}

impl FromRequestParts<ApiState> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(None));
        }
        let version = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')?.parse().ok());
        match version {
            Some(version) => Ok(Self(Some(version))),
            None => Err(ApiError::invalid(vec![FieldProblem::new("If-Match", text, "the ETag of the instance, or *")])),
        }
    }
}

/// The version of an instance, as a header.
fn tagged(version: Version, shown: Value) -> Tagged {
    let tag = HeaderValue::from_str(&format!("\"{version}\"")).expect("digits in quotes");
    ([(header::ETAG, tag)], Json(shown))
}

type Tagged = ([(HeaderName, HeaderValue); 1], Json<Value>);

/// The tag of all operations of this page.
const TAG: &str = "Instances";

/// The routes of this page.
pub fn routes() -> Routes {
    Routes::new()
        .merge(routes_of_all())
        .merge(routes_of_one())
        .merge(routes_of_the_switch())
        .merge(routes_of_the_configuration())
        .merge(routes_of_an_element())
}

fn routes_of_all() -> Routes {
    Routes::new()
        .get(
            "/instances",
            get_or_list,
            listing_parameters(op(
                "listInstances",
                TAG,
                "List the organization's instances",
                "Ordered by id. As in Cloud Elements, **404 where none is found**; `allowEmpty=true` gets an empty list \
                 instead. With an instance's token beside the secrets, the answer is that instance, as of \
                 `GET /instances/{id}`.",
            ))
            .answers("InstanceOrList"),
        )
        .post(
            "/instances",
            create,
            op(
                "createInstance",
                TAG,
                "Make an instance",
                "Checks the whole body, exchanges the vendor's login, stores everything at once and runs the first \
                 polls before it answers, so that every change after the answer is an event. Nothing is stored on an \
                 error. `warnings` says what was read differently from how it was written. With \
                 `externalAuthentication: \"initial\"` the tokens that you already hold stand in `configuration` as \
                 `oauth.user.token` and `oauth.user.refresh_token`, and nothing is exchanged.",
            )
            .query("dryRun", Kind::Flag, "Try it against the vendor and make nothing: the answer is a rehearsal.")
            .takes("NewInstance")
            .answers("InstanceOrRehearsal")
            .or(&[429, 502]),
        )
}

fn routes_of_one() -> Routes {
    const IF_MATCH: &str = "With `If-Match: <ETag of the instance as you read it>` the change is made only if nobody \
                            changed the instance since; otherwise 412 and nothing happens.";
    Routes::new()
        .get(
            "/instances/{id}",
            get,
            op(
                "getInstance",
                TAG,
                "Read an instance",
                "Secrets are masked; the token is shown. The `ETag` header names this version of it.",
            )
            .answers("Instance"),
        )
        .put(
            "/instances/{id}",
            replace,
            op("replaceInstance", TAG, "Change an instance, replacing its configuration", IF_MATCH)
                .also_at("/instances")
                .takes("InstanceChange")
                .answers("Instance")
                .or(&[409, 429, 502]),
        )
        .patch(
            "/instances/{id}",
            merge,
            op("changeInstance", TAG, "Change parts of an instance", IF_MATCH)
                .also_at("/instances")
                .takes("InstanceChange")
                .answers("Instance")
                .or(&[409, 429, 502]),
        )
        .delete(
            "/instances/{id}",
            remove,
            op(
                "deleteInstance",
                TAG,
                "Remove an instance",
                "Everything of it goes: slots, state, events, deliveries, credentials. Its token is worthless then.",
            )
            .also_at("/instances")
            .or(&[409]),
        )
}

fn routes_of_the_switch() -> Routes {
    Routes::new()
        .put(
            "/instances/{id}/enabled",
            enable,
            op(
                "enableInstance",
                TAG,
                "Switch an instance on",
                "Polls go on where they were, and what was held back is sent.",
            )
            .also_at("/instances/enabled")
            .answers("Instance")
            .or(&[409]),
        )
        .delete(
            "/instances/{id}/enabled",
            disable,
            op(
                "disableInstance",
                TAG,
                "Switch an instance off",
                "It is not polled, nothing of it is sent, and calls of its resources answer 403.",
            )
            .also_at("/instances/enabled")
            .answers("Instance")
            .or(&[409]),
        )
}

fn routes_of_the_configuration() -> Routes {
    Routes::new()
        .get(
            "/instances/{id}/configuration",
            configuration,
            op(
                "listConfiguration",
                TAG,
                "List the configuration, key by key",
                "With what the element says of each key. Secrets are masked.",
            )
            .also_at("/instances/configuration")
            .answers("ConfigurationItems"),
        )
        .get(
            "/instances/{id}/configuration/{item}",
            configuration_item,
            op("getConfigurationItem", TAG, "Read one configuration key", "By its number or its key.")
                .answers("ConfigurationItem"),
        )
        .patch(
            "/instances/{id}/configuration/{item}",
            change_configuration_item,
            op(
                "changeConfigurationItem",
                TAG,
                "Change one configuration key",
                "What a patch of the instance with that one key does.",
            )
            .takes("PropertyValue")
            .answers("ConfigurationItem")
            .or(&[409, 429, 502]),
        )
}

fn routes_of_an_element() -> Routes {
    Routes::new()
        .get(
            "/elements/{element}/instances",
            list_of_element,
            listing_parameters(op(
                "listInstancesOfElement",
                TAG,
                "List the instances of an element",
                "As `GET /instances`, of one element.",
            ))
            .answers("InstanceOrList"),
        )
        .post(
            "/elements/{element}/instances",
            create_of_element,
            op(
                "createInstanceOfElement",
                TAG,
                "Make an instance of an element",
                "As `POST /instances`, with the element in the path.",
            )
            .takes("InstanceChange")
            .answers("Instance")
            .or(&[404, 429, 502]),
        )
        .get(
            "/elements/{element}/instances/{id}",
            get_of_element,
            op(
                "getInstanceOfElement",
                TAG,
                "Read an instance of an element",
                "404 where the instance is of another element.",
            )
            .answers("Instance"),
        )
}

/// The parameters that narrow a listing of instances.
fn listing_parameters(operation: Operation) -> Operation {
    operation
        .query("tags[]", Kind::Texts, "Only instances that have this tag; may be repeated, and then all must be there.")
        .query("searchText", Kind::Text, "Only instances whose name, tags or element contain this, in whatever case.")
        .query("hydrate", Kind::Flag, "`false`: only what is shown in a list. Whole instances otherwise.")
        .query("allowEmpty", Kind::Flag, "`true`: an empty list instead of 404.")
        .paged()
        .or(&[404])
}

/// `POST /instances`. With `?dryRun=true` it is the rehearsal, and nothing is made.
pub async fn create(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(query): Query,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let body = InstanceBody::read(&body.0).map_err(ApiError::invalid)?;
    if flag(&query, "dryRun")? {
        return Ok(Json(instances::rehearse_new(&state.service, body).await?).into_response());
    }
    let made = instances::create(&state.service, &caller, body).await?;
    Ok(tagged(made.version, shown(&state, &made)).into_response())
}

/// `POST /elements/{element}/instances`: the same, with the element in the path.
pub async fn create_of_element(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Path(element): Path<String>,
    body: JsonBody,
) -> Result<Tagged, ApiError> {
    let mut body = InstanceBody::read(&body.0).map_err(ApiError::invalid)?;
    let element = find_element(&state, &element)?.key.clone();
    if body
        .element
        .as_deref()
        .is_some_and(|named| state.service.catalog.get(named).is_none_or(|named| named.key != element))
    {
        let expected = format!("{element:?} as in the path, or nothing");
        return Err(ApiError::invalid(vec![FieldProblem::new("element", body.element.unwrap_or_default(), expected)]));
    }
    body.element = Some(element);
    let made = instances::create(&state.service, &caller, body).await?;
    Ok(tagged(made.version, shown(&state, &made)))
}

fn shown(state: &ApiState, made: &Made) -> Value {
    let element = state.service.catalog.get(&made.record.element);
    view::instance(&made.record, element.map(|element| &**element), &made.token, &made.warnings)
}

/// A stored instance, with its token opened.
async fn shown_stored(state: &ApiState, record: &InstanceRecord) -> Result<Value, ApiError> {
    let token = instances::token(&state.service, record).await?;
    let element = state.service.catalog.get(&record.element);
    Ok(view::instance(record, element.map(|element| &**element), &token, &view::stored_warnings(record)))
}

/// `GET /instances/{id}`.
pub async fn get(State(state): State<ApiState>, target: Target) -> Result<Tagged, ApiError> {
    let stored = target.stored(&state).await?;
    Ok(tagged(stored.version(), shown_stored(&state, &stored.record).await?))
}

/// `GET /elements/{element}/instances/{id}`: the same, where it is of that element.
pub async fn get_of_element(
    State(state): State<ApiState>,
    target: Target,
    Path(path): Path<Parameters>,
) -> Result<Tagged, ApiError> {
    let element = find_element(&state, part(&path, "element"))?;
    let stored = target.stored(&state).await?;
    if stored.record.element != element.key {
        return Err(ApiError::no_instance());
    }
    Ok(tagged(stored.version(), shown_stored(&state, &stored.record).await?))
}

/// `GET /instances`: the instance whose token came along, or else the organization's.
pub async fn get_or_list(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Query(query): Query,
) -> Result<Response, ApiError> {
    if let Some(instance) = caller.instance {
        return Ok(get(State(state), Target { caller, instance }).await?.into_response());
    }
    Ok(listing(&state, caller.organization, query, None).await?.into_response())
}

/// `GET /elements/{element}/instances`.
pub async fn list_of_element(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Path(element): Path<String>,
    Query(query): Query,
) -> Result<(HeaderMap, Json<Value>), ApiError> {
    let element = find_element(&state, &element)?.key.clone();
    listing(&state, caller.organization, query, Some(element)).await
}

async fn listing(
    state: &ApiState,
    organization: OrganizationId,
    parameters: Parameters,
    element: Option<String>,
) -> Result<(HeaderMap, Json<Value>), ApiError> {
    // Cloud Elements answers 404 where it finds none; who asks with `allowEmpty` gets the empty list.
    let may_be_empty = flag(&parameters, "allowEmpty")?;
    let (query, hydrate) = listing_query(Paging::of(parameters)?, element)?;
    let page = instances::list(&state.service.ports, organization, &query).await?;
    if page.entries.is_empty() && !may_be_empty {
        return Err(ApiError::not_found("No element instances found."));
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
    Ok((pagination::headers(page.entries.len(), page.next.as_ref().map(Cursor::as_str)), Json(Value::Array(entries))))
}

/// `tags[]`, `searchText` and `hydrate`; other parameters are left alone.
fn listing_query(paging: Paging<ListingRecord>, element: Option<String>) -> Result<(ListingQuery, bool), ApiError> {
    let mut query = ListingQuery { element, page_size: paging.size, after: paging.after, ..ListingQuery::default() };
    let mut hydrate = true;
    for (name, value) in paging.others {
        match (name.as_str(), value.as_str()) {
            ("tags[]" | "tags", _) => query.tags.push(value),
            ("searchText", _) => query.search = Some(value).filter(|text| !text.is_empty()),
            ("hydrate", "true") => hydrate = true,
            ("hydrate", "false") => hydrate = false,
            ("hydrate", _) => return Err(ApiError::invalid(vec![FieldProblem::new(name, value, "true or false")])),
            _ => {}
        }
    }
    Ok((query, hydrate))
}

/// `PUT /instances/{id}`.
pub async fn replace(
    state: State<ApiState>,
    target: Target,
    expected: IfMatch,
    body: JsonBody,
) -> Result<Tagged, ApiError> {
    change(state, target, expected, body, UpdateMode::Replace).await
}

/// `PATCH /instances/{id}`.
pub async fn merge(
    state: State<ApiState>,
    target: Target,
    expected: IfMatch,
    body: JsonBody,
) -> Result<Tagged, ApiError> {
    change(state, target, expected, body, UpdateMode::Merge).await
}

async fn change(
    State(state): State<ApiState>,
    target: Target,
    IfMatch(expected): IfMatch,
    body: JsonBody,
    mode: UpdateMode,
) -> Result<Tagged, ApiError> {
    let body = InstanceBody::read(&body.0).map_err(ApiError::invalid)?;
    let made = instances::update(&state.service, &target.caller, target.instance, body, mode, expected).await?;
    Ok(tagged(made.version, shown(&state, &made)))
}

/// `DELETE /instances/{id}`: 200 without a body.
pub async fn remove(State(state): State<ApiState>, target: Target) -> Result<StatusCode, ApiError> {
    instances::remove(&state.service, &target.caller, target.instance).await?;
    Ok(StatusCode::OK)
}

/// `PUT /instances/{id}/enabled`.
pub async fn enable(State(state): State<ApiState>, target: Target) -> Answer {
    let (caller, instance) = (target.caller, target.instance);
    let answer = switch(&state, target, false).await?;
    redelivery::send_queued(&state, &Target { caller, instance }).await?;
    Ok(answer)
}

/// `DELETE /instances/{id}/enabled`.
pub async fn disable(State(state): State<ApiState>, target: Target) -> Answer {
    switch(&state, target, true).await
}

async fn switch(state: &ApiState, target: Target, disabled: bool) -> Answer {
    let record = instances::set_disabled(&state.service.ports, &target.caller, target.instance, disabled).await?;
    Ok(Json(shown_stored(state, &record).await?))
}

/// `GET /instances/{id}/configuration`: every key with what the element says of it. Secrets are masked.
pub async fn configuration(State(state): State<ApiState>, target: Target) -> Answer {
    let stored = target.stored(&state).await?;
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
fn item_of(state: &ApiState, record: &InstanceRecord, wanted: &str) -> Result<Value, ApiError> {
    let is_it = |item: &Value| item["key"] == wanted || item["id"].as_u64() == wanted.parse().ok();
    let found = items(state, record).into_iter().find(is_it);
    found.ok_or_else(|| ApiError::not_found("The instance has no configuration item of this id or key."))
}

/// `GET /instances/{id}/configuration/{item}`: one item, by its id or its key.
pub async fn configuration_item(
    State(state): State<ApiState>,
    target: Target,
    Path((_, wanted)): Path<(String, String)>,
) -> Answer {
    let stored = target.stored(&state).await?;
    Ok(Json(item_of(&state, &stored.record, &wanted)?))
}

/// `PATCH /instances/{id}/configuration/{item}` with `{"propertyValue": …}`: what a patch of the instance with that
/// one key does.
pub async fn change_configuration_item(
    State(state): State<ApiState>,
    target: Target,
    Path((_, wanted)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
    JsonBody(body): JsonBody,
) -> Answer {
    let stored = target.stored(&state).await?;
    let item = item_of(&state, &stored.record, &wanted)?;
    let (Some(key), Some(value)) = (item["key"].as_str(), body.get("propertyValue")) else {
        let expected = "an object with the new propertyValue";
        return Err(ApiError::invalid(vec![FieldProblem::new("propertyValue", "nothing", expected)]));
    };
    let patch = json!({ "configuration": { key: value } });
    let body = InstanceBody::read(&patch).map_err(ApiError::invalid)?;
    let made =
        instances::update(&state.service, &target.caller, target.instance, body, UpdateMode::Merge, expected).await?;
    Ok(Json(item_of(&state, &made.record, key)?))
}
