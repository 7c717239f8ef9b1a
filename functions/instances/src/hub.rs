//! Hub calls: a resource of the vendor's, read for the instance whose token came along. The hub's name is ignored.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use flow::hub::{self, HubAnswer, HubError};
use flow::instance::{self, Stored};
use serde_json::Value;

use crate::ApiState;
use crate::exchange::{INSTANCE_ID, NEXT_PAGE, RETURNED_COUNT, TOTAL_COUNT};
use crate::input::Authenticated;
use crate::page::Parameters;
use crate::polls::disabled;
use crate::refusal::Refusal;

impl From<HubError> for Refusal {
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

/// `GET /hubs/{hub}/{resource}`, and `GET /hubs/{hub}/{resource}/{id}` where no resource has the whole path.
pub async fn read(
    State(state): State<ApiState>,
    Authenticated(caller): Authenticated,
    Path((_, path)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Result<(HeaderMap, Json<Value>), Refusal> {
    let Some(instance) = caller.instance else {
        return Err(Refusal::bad_request(
            "Hub calls need an instance's token: add `Element <token>` to Authorization.",
        ));
    };
    let Stored { record, .. } = instance::get(&state.service.ports, caller.organization, instance).await?;
    if record.disabled {
        return Err(disabled());
    }
    let mut headers = HeaderMap::new();
    let mut body = match hub::get(&state.service, &record, &path, &parameters).await? {
        HubAnswer::Record(found) => found,
        HubAnswer::Page(page) => {
            headers.insert(RETURNED_COUNT, HeaderValue::from(page.records.len()));
            // Where the vendor does not say how many there are, counting would mean reading them all.
            let counted = parameters.iter().any(|(name, value)| name == "returnTotalCount" && value == "true");
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
