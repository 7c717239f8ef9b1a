//! An instance's secrets, sealed beside its masked configuration, and the connection they make.

use std::collections::BTreeMap;

use domain::id::InstanceId;
use domain::secret::Secret;
use elements::Element;
use elements::connection::Connection;
use serde_json::{Map, Value};
use store::records::instance::InstanceRecord;
pub use store::records::instance::vault_owner;

use super::error::VendorError;
use crate::service::{FlowError, Service};

/// Among the sealed values: the connection with what the vendor's own answers added to it, as JSON. No configuration
/// key is called so, because none has a capital letter and a space.
pub const PROVEN_CONNECTION: &str = "Proven connection";

/// Seals the values that the shown configuration masks.
pub async fn seal(
    service: &Service,
    instance: InstanceId,
    values: &BTreeMap<String, Secret>,
) -> Result<String, FlowError> {
    let plain = Secret::new(serde_json::to_string(values).expect("texts by text keys serialize"));
    let sealed = service.ports.vault.seal(&vault_owner(instance), &plain).await;
    sealed.map_err(FlowError::vault("the secrets of an instance"))
}

/// Opens them again, by configuration key.
pub async fn open(service: &Service, instance: &InstanceRecord) -> Result<BTreeMap<String, Secret>, FlowError> {
    let plain = service.ports.vault.open(&vault_owner(instance.id), &instance.secrets).await;
    let plain = plain.map_err(FlowError::vault("the secrets of an instance"))?;
    serde_json::from_str(plain.expose()).map_err(|_| FlowError::Damaged("sealed secrets are not secrets"))
}

/// The instance's configuration with its real values, as the element reads it.
pub fn revealed(instance: &InstanceRecord, secrets: &BTreeMap<String, Secret>) -> Map<String, Value> {
    let mut configuration: Map<String, Value> = instance.configuration.clone().into_iter().collect();
    for (key, secret) in secrets.iter().filter(|(key, _)| *key != PROVEN_CONNECTION) {
        configuration.insert(key.clone(), Value::String(secret.expose().to_owned()));
    }
    configuration
}

/// The connection to the vendor for this instance, with the revealed configuration it was read from.
///
/// # Errors
/// [`VendorError::Misconfigured`]: the configuration does not fit the element. [`VendorError::Flow`].
pub async fn connection(
    service: &Service,
    element: &Element,
    instance: &InstanceRecord,
) -> Result<(Connection, Map<String, Value>), VendorError> {
    let secrets = open(service, instance).await?;
    let configuration = revealed(instance, &secrets);
    if let Some(proven) = secrets.get(PROVEN_CONNECTION) {
        let connection = serde_json::from_str(proven.expose());
        let connection = connection.map_err(|_| FlowError::Damaged("a sealed connection is no connection"))?;
        return Ok((connection, configuration));
    }
    let resolved = Connection::resolve(element, &configuration, &Map::new());
    let (connection, _) = resolved.map_err(VendorError::Misconfigured)?;
    Ok((connection, configuration))
}
