//! Logging in again: what the address of the vendor's login page is built from.

use domain::configuration::keys::POLLER_CONFIGURATION;
use domain::id::InstanceId;
use serde_json::{Map, Value};
use store::records::instance::InstanceRecord;

use super::InstanceError;
use super::record::merged_with;
use crate::accounts::auth::Caller;
use crate::service::Service;

/// The fields of the login at the vendor: the instance's own application and redirect address, with what `given` puts
/// in their place.
///
/// # Errors
/// The instance is not there or cannot be read.
pub async fn login_fields(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    given: &Map<String, Value>,
) -> Result<(InstanceRecord, Map<String, Value>), InstanceError> {
    let (record, mut fields) = merged_with(service, caller, id, Some(given)).await?;
    fields.remove(POLLER_CONFIGURATION);
    Ok((record, fields))
}
