//! Hub calls: a resource of the vendor's, read for the instance whose token came along. The hub's name is ignored.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use flow::accounts::auth::Caller;
use flow::instances;
use flow::vendor::hub::{self, HubAnswer, HubError};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use crate::ApiState;
use crate::error::ApiError;
use crate::input::{Authenticated, Path, Query, flag};
use crate::pagination::Parameters;
use crate::request_id::{INSTANCE_ID, NEXT_PAGE, RETURNED_COUNT, TOTAL_COUNT};
use crate::route::{Kind, Operation, Routes, op};

impl From<HubError> for ApiError {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Invalid(problems) => Self::invalid(problems),
            HubError::NoResource(problem) => Self::not_found(format!(
                "There is no such resource: read {}, expected {}.",
                problem.read, problem.expected
            )),
            HubError::NoRecord => Self::not_found("The vendor has no record of this id."),
            HubError::Refused(said) => Self::bad_request("The vendor refuses the request.").with_provider_message(said),
            HubError::NeedsLogin(said) => Self::new(
                StatusCode::BAD_GATEWAY,
                "The vendor no longer accepts this instance's login. Log in again with PUT /instances/{id}.",
            )
            .with_provider_message(said),
            HubError::Unavailable { said, after: None } => {
                Self::new(StatusCode::BAD_GATEWAY, "The vendor cannot answer now.").with_provider_message(said)
            }
            HubError::Unavailable { said, after: Some(after) } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "The vendor wants to be asked later.")
                    .with_provider_message(said)
                    .with_header(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)))
            }
            HubError::Flow(error) => Self::internal(&error),
        }
    }
}

/// The routes of this page. [`read_without_hub`] is the fallback of all.
pub fn routes() -> Routes {
    const TAG: &str = "Hub resources";
    let list = |id| {
        with_listing_parameters(op(
            id,
            TAG,
            "List a resource at the vendor",
            "One page, read from the vendor now, through the instance whose token comes along. The hub's name is \
             ignored, and may be left out. Which resources there are, `GET /instances/{id}/docs` says. 403 while the \
             instance is disabled; 429 and 502 when the vendor does not answer as it should.",
        ))
        .answers("Records")
    };
    let one = |id| {
        of_vendor(op(id, TAG, "Read a record at the vendor", "By its id."))
            .query("fields", Kind::Text, "Only these fields, separated by commas.")
            .answers("Record")
    };
    Routes::new()
        .get_shown_as("/hubs/{hub}/{*path}", "/hubs/{hub}/{resource}", read, list("listRecords"))
        .shown_also_as("/hubs/{hub}/{resource}/{record}", one("getRecord"))
        .shown_also_as("/{resource}", list("listRecordsWithoutHub"))
        .shown_also_as("/{resource}/{record}", one("getRecordWithoutHub"))
}

fn of_vendor(operation: Operation) -> Operation {
    operation.by_token().or(&[400, 403, 404, 429, 502])
}

fn with_listing_parameters(operation: Operation) -> Operation {
    of_vendor(operation)
        .query("where", Kind::Text, "CEQL, as far as the vendor can be asked: `updated_at > '2026-01-05T09:00:00Z'`.")
        .query("orderBy", Kind::Text, "A field and `asc` or `desc`, where the vendor can sort.")
        .query("fields", Kind::Text, "Only these fields, separated by commas.")
        .query(
            "pageSize",
            Kind::Number(1, 4_294_967_295),
            "How many records; the vendor's own largest page is the most.",
        )
        .query("page", Kind::Word(&["1"]), "The first page alone; further ones are asked for by `nextPage`.")
        .query("nextPage", Kind::Text, "`elements-next-page-token` of the page before.")
        .query("returnTotalCount", Kind::Flag, "`true`: `elements-total-count` in the answer, where the vendor counts.")
}

/// `GET /hubs/{hub}/{resource}`, and `GET /hubs/{hub}/{resource}/{id}` where no resource has the whole path.
pub async fn read(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Path((_, path)): Path<(String, String)>,
    Query(parameters): Query,
) -> Result<(HeaderMap, Json<Value>), ApiError> {
    read_path(&state, caller, &path, &parameters).await
}

/// The same without a hub, for every path that is nothing else. Without an instance's token there is nothing.
pub async fn read_without_hub(
    State(state): State<ApiState>,
    method: Method,
    uri: Uri,
    caller: Result<Authenticated, ApiError>,
    query: Result<Query, ApiError>,
) -> Result<(HeaderMap, Json<Value>), ApiError> {
    if !matches!(method, Method::GET | Method::HEAD) {
        return Err(ApiError::nothing_here());
    }
    let Authenticated(caller) = caller?;
    let path = percent_decode_str(uri.path().trim_start_matches('/')).decode_utf8();
    match path {
        Ok(path) if caller.instance.is_some() => read_path(&state, caller, &path, &query?.0).await,
        _ => Err(ApiError::nothing_here()),
    }
}

async fn read_path(
    state: &ApiState,
    caller: Caller,
    path: &str,
    parameters: &Parameters,
) -> Result<(HeaderMap, Json<Value>), ApiError> {
    let counted = flag(parameters, "returnTotalCount")?;
    let Some(instance) = caller.instance else {
        return Err(ApiError::bad_request(
            "Hub calls need an instance's token: add `Element <token>` to Authorization.",
        ));
    };
    let record = instances::get(&state.service.ports, caller.organization, instance).await?.record;
    if record.disabled {
        return Err(ApiError::disabled());
    }
    let mut headers = HeaderMap::new();
    let mut body = match hub::get(&state.service, &record, path, parameters).await? {
        HubAnswer::Record(found) => found,
        HubAnswer::Page(page) => {
            headers.insert(RETURNED_COUNT, HeaderValue::from(page.records.len()));
            // Where the vendor does not say how many there are, counting would mean reading them all.
            let total = page.total.filter(|_| counted);
            headers.extend(total.map(|total| (TOTAL_COUNT, HeaderValue::from(total))));
            let token = page.next_page.and_then(|token| HeaderValue::from_str(&token).ok());
            headers.extend(token.map(|token| (NEXT_PAGE, token)));
            Value::Array(page.records)
        }
    };
    if record.filter_response_nulls {
        drop_nulls(&mut body);
    }
    headers.insert(INSTANCE_ID, HeaderValue::from(record.id.0));
    Ok((headers, Json(body)))
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
