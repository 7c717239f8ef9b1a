//! The review of a body that is not sent yet. A form asks for it while somebody fills it in; nothing is stored, and the
//! vendor is not asked.

use domain::id::InstanceId;
use domain::problem::{FieldProblem, Warning};
use serde::Serialize;
use serde_json::{Map, Value};

use super::check::{check, choose_element};
use super::checked::LoginGiven;
use super::record::merged_with;
use super::{InstanceBody, InstanceError};
use crate::accounts::auth::Caller;
use crate::service::Service;

/// The problems and warnings of a body.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Review {
    /// Problems that the body would be refused for. A login is not missed: it comes last.
    pub problems: Vec<FieldProblem>,
    /// Values that would be read differently from how they are written.
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
pub async fn review(service: &Service, caller: &Caller, id: InstanceId, body: &Value) -> Result<Review, InstanceError> {
    let (read, mut problems) = read_in_part(body);
    let (record, mut configuration) = merged_with(service, caller, id, read.configuration.as_ref()).await?;
    let nothing = Map::new();
    let given = LoginGiven { provider_data: &nothing, tokens_given: false, needed: false };
    let element = choose_element(&service.catalog, Some(&record.element));
    let warnings = said_of(check(element, &mut configuration, given).map(|checked| checked.warnings), &mut problems);
    Ok(Review { problems, warnings })
}

/// The parts of a body that can be read; a slip in one does not hide what is wrong with the others.
pub(super) fn read_in_part(body: &Value) -> (InstanceBody, Vec<FieldProblem>) {
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
