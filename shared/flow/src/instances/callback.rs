//! An instance's callback: tried before it is saved, and relieved of its backlog when the instance leaves it.

use domain::id::InstanceId;
use serde_json::{Map, Value};
use store::records::instance::InstanceRecord;

use super::InstanceError;
use super::check::choose_element;
use super::record::merged_with;
use super::review::read_in_part;
use crate::accounts::auth::Caller;
use crate::deliver::outbox::ElementLabel;
use crate::deliver::row::Attempt;
use crate::deliver::{self as delivery, TrialError, TrialSender, try_callback};
use crate::fields;
use crate::service::Service;

/// The reason why no test event was sent to the callback of an instance.
#[derive(Debug, thiserror::Error)]
pub enum TryCallbackError {
    /// The instance is not there or cannot be read.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The callback cannot be tried.
    #[error(transparent)]
    Trial(#[from] TrialError),
}

/// Sends a test event to the callback of an instance as `given` would change it.
///
/// # Errors
/// The instance is not there, or nothing was sent.
pub async fn try_callback_of(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    given: Option<&Map<String, Value>>,
) -> Result<Attempt, TryCallbackError> {
    let (record, configuration) = merged_with(service, caller, id, given).await?;
    let element = choose_element(&service.catalog, Some(&record.element));
    let element = element.map_err(|problem| InstanceError::Invalid(vec![problem]))?;
    let element = ElementLabel { key: &element.key, hub: &element.hub };
    let from = TrialSender { instance: Some(id), name: &record.name, element };
    Ok(try_callback(&service.ports, caller, &from, &configuration).await?)
}

/// Sends a test event to the callback of an instance that does not exist yet.
///
/// # Errors
/// Nothing was sent.
pub async fn try_callback_new(service: &Service, caller: &Caller, body: &Value) -> Result<Attempt, TrialError> {
    let (read, _) = read_in_part(body);
    let element = choose_element(&service.catalog, read.element.as_deref()).ok();
    let label = element.as_ref().map_or(ElementLabel { key: "pollux-test", hub: "pollux-test" }, |element| {
        ElementLabel { key: &element.key, hub: &element.hub }
    });
    let from = TrialSender { instance: None, name: read.name.as_deref().unwrap_or("Not saved yet"), element: label };
    try_callback(&service.ports, caller, &from, &read.configuration.unwrap_or_default()).await
}

/// Releases the backlog of a callback that this instance leaves: it is tried again where it goes now. Should that not
/// work, the backlog drains by its own probes.
pub(super) async fn release_backlog(service: &Service, left: &InstanceRecord) {
    let Some(callback) = &left.callback else { return };
    let outcome = delivery::release_backlog(&service.ports, left.organization, &callback.url).await;
    if let Err(error) = outcome {
        tracing::warn!({ fields::INSTANCE } = %left.id, { fields::ERROR } = %error, "backlog of a callback not released");
    }
}
