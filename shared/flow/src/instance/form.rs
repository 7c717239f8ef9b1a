//! What a form asks while it is being filled in: whether it is in order so far, where the user logs in, and whether the
//! callback answers. Nothing is stored, and the vendor is not asked.

use domain::configuration::keys;
use domain::id::InstanceId;
use domain::problem::{FieldProblem, Warning};
use serde::Serialize;
use serde_json::{Map, Value};

use super::change::{Change, merged};
use super::check::{LoginGiven, check, choose_element};
use super::{InstanceBody, InstanceError, get};
use crate::delivery::row::Attempt;
use crate::delivery::{TrialError, TrialSender, try_callback};
use crate::outbox::ElementLabel;
use crate::principal::Caller;
use crate::secrets;
use crate::service::Service;
use crate::table::InstanceRecord;

/// What would be said of a body if it were sent now.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Review {
    /// What would be refused. A login is not missed: it comes last.
    pub problems: Vec<FieldProblem>,
    /// What would be read differently from how it is written.
    pub warnings: Vec<Warning>,
}

/// Reviews the body of an instance that does not exist yet.
pub fn review_new(service: &Service, body: &Value) -> Review {
    let (read, mut problems) = read_in_part(body);
    let element = choose_element(&service.catalog, read.element.as_deref());
    let provider_data = read.provider_data.unwrap_or_default();
    let mut configuration = read.configuration.unwrap_or_default();
    let given = LoginGiven { provider_data: &provider_data, tokens_given: false, needed: false };
    let warnings = said_of(check(element, &mut configuration, given).map(|checked| checked.warnings), &mut problems);
    Review { problems, warnings }
}

/// Reviews a change of an instance, as `PATCH` would merge it.
///
/// # Errors
/// The instance is not there or cannot be read.
pub async fn review(service: &Service, who: &Caller, id: InstanceId, body: &Value) -> Result<Review, InstanceError> {
    let (read, mut problems) = read_in_part(body);
    let (record, mut configuration) = as_changed(service, who, id, read.configuration.as_ref()).await?;
    let nothing = Map::new();
    let given = LoginGiven { provider_data: &nothing, tokens_given: false, needed: false };
    let element = choose_element(&service.catalog, Some(&record.element));
    let warnings = said_of(check(element, &mut configuration, given).map(|checked| checked.warnings), &mut problems);
    Ok(Review { problems, warnings })
}

/// The parts of a body that can be read; a slip in one does not hide what is wrong with the others.
fn read_in_part(body: &Value) -> (InstanceBody, Vec<FieldProblem>) {
    match InstanceBody::read(body) {
        Ok(read) => (read, Vec::new()),
        Err(problems) => {
            let mut rest = body.clone();
            if let Some(members) = rest.as_object_mut() {
                members.retain(|name, value| match name.as_str() {
                    "element" => true,
                    "configuration" | "providerData" => value.is_object(),
                    _ => false,
                });
            }
            (InstanceBody::read(&rest).unwrap_or_default(), problems)
        }
    }
}

fn said_of(checked: Result<Vec<Warning>, InstanceError>, problems: &mut Vec<FieldProblem>) -> Vec<Warning> {
    match checked {
        Ok(warnings) => return warnings,
        Err(InstanceError::Invalid(wrong)) => {
            problems.extend(wrong.into_iter().filter(|problem| !problems.contains(problem)).collect::<Vec<_>>());
        }
        Err(_) => {}
    }
    Vec::new()
}

/// An instance, and its configuration with real values as a merge of `given` would leave it.
async fn as_changed(
    service: &Service,
    who: &Caller,
    id: InstanceId,
    given: Option<&Map<String, Value>>,
) -> Result<(InstanceRecord, Map<String, Value>), InstanceError> {
    let record = get(&service.ports, who.organization, id).await?.record;
    let hidden = secrets::open(service, &record).await?;
    let configuration = merged(secrets::revealed(&record, &hidden), given, Change::Merge);
    Ok((record, configuration))
}

/// What the login at the vendor is built from: the instance's own application and redirect address, with what `given`
/// puts in their place.
///
/// # Errors
/// The instance is not there or cannot be read.
pub async fn login_fields(
    service: &Service,
    who: &Caller,
    id: InstanceId,
    given: &Map<String, Value>,
) -> Result<(InstanceRecord, Map<String, Value>), InstanceError> {
    let (record, mut fields) = as_changed(service, who, id, Some(given)).await?;
    fields.remove(keys::POLLER_CONFIGURATION);
    Ok((record, fields))
}

/// Sends a test event to the callback of an instance as `given` would change it.
///
/// # Errors
/// The instance is not there, or nothing was sent.
pub async fn try_callback_of(
    service: &Service,
    who: &Caller,
    id: InstanceId,
    given: Option<&Map<String, Value>>,
) -> Result<Result<Attempt, TrialError>, InstanceError> {
    let (record, configuration) = as_changed(service, who, id, given).await?;
    let element = choose_element(&service.catalog, Some(&record.element));
    let element = element.map_err(|problem| InstanceError::Invalid(vec![problem]))?;
    let element = ElementLabel { key: &element.key, hub: &element.hub };
    let from = TrialSender { instance: Some(id), name: &record.name, element };
    Ok(try_callback(&service.ports, who, &from, &configuration).await)
}

/// Sends a test event to the callback of an instance that does not exist yet.
///
/// # Errors
/// Nothing was sent.
pub async fn try_callback_new(service: &Service, who: &Caller, body: &Value) -> Result<Attempt, TrialError> {
    let (read, _) = read_in_part(body);
    let element = choose_element(&service.catalog, read.element.as_deref()).ok();
    let label = element.as_ref().map_or(ElementLabel { key: "pollux-test", hub: "pollux-test" }, |element| {
        ElementLabel { key: &element.key, hub: &element.hub }
    });
    let from = TrialSender { instance: None, name: read.name.as_deref().unwrap_or("Not saved yet"), element: label };
    try_callback(&service.ports, who, &from, &read.configuration.unwrap_or_default()).await
}
