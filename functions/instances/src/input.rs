//! The input of the handlers: the caller, the instance, the parts of the path, the query and a JSON body. Each is read
//! within bounds, and each is refused in the one shape that errors have.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use domain::id::InstanceId;
use domain::json::Limits;
use domain::limits;
use domain::problem::{FieldProblem, nearest};
use elements::Element;
use flow::accounts::auth::{Caller, authenticate};
use flow::instances;
use futures::StreamExt;
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::Stored;
use store::records::instance::InstanceRecord;

use crate::ApiState;
use crate::error::ApiError;
use crate::pagination::Parameters;
use crate::route::{self, Access, Input, Operation};

/// The longest time that a replaced secret may stay valid, in minutes: thirty days, as long as deliveries are kept.
const MOST_MINUTES: i64 = 30 * 24 * 60;

/// The caller, or 401.
pub struct Authenticated(pub Caller);

impl Input for Authenticated {
    fn describe(operation: &mut Operation) {
        if operation.access == Access::Open {
            operation.access = Access::Secrets;
        }
    }
}

impl FromRequestParts<ApiState> for Authenticated {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let header = parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default());
        Ok(Self(authenticate(&state.service.ports, header).await?))
    }
}

/// The instance a call is about: the id in the path, or without one the instance whose token came along.
pub struct Target {
    /// The caller.
    pub caller: Caller,
    /// The instance. It is not checked yet that it belongs to the caller.
    pub instance: InstanceId,
}

impl Input for Target {
    fn describe(operation: &mut Operation) {
        Authenticated::describe(operation);
        operation.of_instance = true;
        operation.statuses.push(404);
    }
}

impl FromRequestParts<ApiState> for Target {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let Authenticated(caller) = Authenticated::from_request_parts(parts, state).await?;
        let Path(path) = Path::<BTreeMap<String, String>>::from_request_parts(parts, state).await?;
        let instance = match path.get("id") {
            Some(id) => id.parse().map_err(|_| ApiError::no_instance())?,
            None => caller.instance.ok_or_else(|| {
                ApiError::bad_request(
                    "Without an id in the path the call is about the instance whose token stands in the \
                     Authorization header, as `Element <token>`.",
                )
            })?,
        };
        Ok(Self { caller, instance })
    }
}

impl Target {
    /// The instance as it is stored; 404 if it is not the caller's.
    pub async fn stored(&self, state: &ApiState) -> Result<Stored<InstanceRecord>, ApiError> {
        Ok(instances::get(&state.service.ports, self.caller.organization, self.instance).await?)
    }

    /// The instance's record alone.
    pub async fn record(&self, state: &ApiState) -> Result<InstanceRecord, ApiError> {
        Ok(self.stored(state).await?.record)
    }
}

/// Parts of the path, decoded; 400 where they are not UTF-8.
pub struct Path<T>(pub T);

impl<T> Input for Path<T> {}

impl<T: DeserializeOwned + Send> FromRequestParts<ApiState> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        read.map(|axum::extract::Path(read)| Self(read)).map_err(|_| {
            let expected = "parts that are UTF-8 once their percent signs are decoded";
            ApiError::invalid(vec![FieldProblem::new("path", parts.uri.path(), expected)])
        })
    }
}

/// The parameters of the query, in their order, decoded; 400 where they are too many or not UTF-8.
pub struct Query(pub Parameters);

impl Input for Query {
    fn describe(operation: &mut Operation) {
        operation.statuses.push(400);
    }
}

impl FromRequestParts<ApiState> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &ApiState) -> Result<Self, ApiError> {
        read_query(parts.uri.query().unwrap_or_default()).map(Self).map_err(|problem| ApiError::invalid(vec![problem]))
    }
}

fn read_query(query: &str) -> Result<Parameters, FieldProblem> {
    let mut parameters = Parameters::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if parameters.len() == limits::QUERY_PARAMETERS {
            let expected = format!("at most {} parameters", limits::QUERY_PARAMETERS);
            return Err(FieldProblem::new("query", "more", expected));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            let spaced = text.replace('+', " ");
            let decoded = percent_decode_str(&spaced).decode_utf8().map(std::borrow::Cow::into_owned);
            decoded.map_err(|_| {
                FieldProblem::new(format!("query {name}"), pair, "UTF-8 once its percent signs are decoded")
            })
        };
        parameters.push((decode(name)?, decode(value)?));
    }
    Ok(parameters)
}

/// The value of a parameter that is `true` or `false`; false where it is absent.
pub fn flag(parameters: &Parameters, name: &str) -> Result<bool, ApiError> {
    match parameters.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str()) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => Err(ApiError::invalid(vec![FieldProblem::new(name, other, "true or false")])),
    }
}

/// A JSON body: of a bounded length, of a JSON content type, without a syntax error.
pub struct JsonBody(pub Value);

impl Input for JsonBody {
    fn describe(operation: &mut Operation) {
        let schema = operation.body.map_or("Anything", |body| body.schema);
        operation.body = Some(route::Body { schema, required: true });
        operation.statuses.extend([400, 413, 415]);
    }
}

impl FromRequest<ApiState> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        parse(&read_bounded(request.into_body()).await?).map(Self)
    }
}

/// The same where a call may also come without a body, which then is null.
pub struct OptionalJsonBody(pub Value);

impl Input for OptionalJsonBody {
    fn describe(operation: &mut Operation) {
        JsonBody::describe(operation);
        operation.body = operation.body.map(|body| route::Body { required: false, ..body });
    }
}

impl FromRequest<ApiState> for OptionalJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, ApiError> {
        let type_checked = check_content_type(request.headers());
        let bytes = read_bounded(request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Self(Value::Null));
        }
        type_checked.and_then(|()| parse(&bytes)).map(Self)
    }
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    domain::json::parse_strict(bytes, Limits::default())
        .map_err(|problem| ApiError::bad_request(format!("The body is not valid JSON at {problem}.")))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let media = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media == "application/json" || (media.starts_with("application/") && media.ends_with("+json")) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body must be JSON and say so: send `Content-Type: application/json`.",
    ))
}

async fn read_bounded(body: Body) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is larger than the limit of {} bytes.", limits::BODY_BYTES),
        )
    };
    let mut stream = body.into_data_stream();
    let mut whole = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::bad_request("The body broke off."))?;
        if whole.len() + chunk.len() > limits::BODY_BYTES {
            return Err(too_large());
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Bytes::from(whole))
}

// ---------------------------------------------------------------- Helpers of the handlers

/// A part of the path by its name in the route.
pub fn part<'a>(path: &'a Parameters, name: &str) -> &'a str {
    path.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value.as_str())
}

/// The element of this key or number, or 404 that names the nearest key.
pub fn find_element<'a>(state: &'a ApiState, key_or_id: &str) -> Result<&'a Arc<Element>, ApiError> {
    state.service.catalog.get(key_or_id).ok_or_else(|| {
        let near = nearest(key_or_id, state.service.catalog.iter().map(|element| element.key.as_str()));
        let near = near.map_or_else(String::new, |key| format!(" The nearest key is {key:?}."));
        ApiError::not_found(format!("There is no element of this key or id.{near}"))
    })
}

/// Reads `validMinutes` of a body that may be absent: the minutes that a replaced secret stays valid.
pub fn valid_minutes(body: &Value, otherwise: i64) -> Result<i64, ApiError> {
    if !matches!(body, Value::Null | Value::Object(_)) {
        return Err(ApiError::invalid(vec![FieldProblem::new("body", body, "an object, or nothing")]));
    }
    match &body["validMinutes"] {
        Value::Null => Ok(otherwise),
        value => value.as_i64().filter(|minutes| (0..=MOST_MINUTES).contains(minutes)).ok_or_else(|| {
            let expected = format!("whole minutes from 0 to {MOST_MINUTES}");
            ApiError::invalid(vec![FieldProblem::new("validMinutes", value.to_string(), expected)])
        }),
    }
}

/// The 400 of a resource that the instance does not have.
pub fn unknown_resource(record: &InstanceRecord, resource: &str) -> FieldProblem {
    let known: Vec<&str> = record.resources.keys().map(String::as_str).collect();
    let near =
        nearest(resource, known.iter().copied()).map_or_else(String::new, |near| format!("; the nearest is {near}"));
    FieldProblem::new("resource", resource, format!("one of {}{near}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_in_its_order_and_decoded() {
        let read = read_query("tags[]=a%20b&tags[]=c+d&empty=&&bare&where=x%3D'1'").unwrap();
        let expected = [("tags[]", "a b"), ("tags[]", "c d"), ("empty", ""), ("bare", ""), ("where", "x='1'")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn what_is_no_text_or_too_much_is_refused_by_name() {
        let problem = read_query("searchText=%ff").unwrap_err();
        assert_eq!(
            problem.to_string(),
            "query searchText: read searchText=%ff, expected UTF-8 once its percent signs are decoded"
        );
        let many = vec!["a=1"; limits::QUERY_PARAMETERS];
        assert_eq!(read_query(&many.join("&")).unwrap().len(), limits::QUERY_PARAMETERS);
        let problem = read_query(&[many, vec!["a=1"]].concat().join("&")).unwrap_err();
        assert_eq!(problem.to_string(), "query: read more, expected at most 100 parameters");
    }

    #[test]
    fn a_flag_is_a_flag() {
        let given = |value: &str| vec![("hydrate".to_owned(), value.to_owned())];
        assert!(!flag(&vec![], "hydrate").unwrap());
        assert!(flag(&given("true"), "hydrate").unwrap());
        assert!(!flag(&given("false"), "hydrate").unwrap());
        assert!(flag(&given("yes"), "hydrate").is_err());
    }
}
