//! The stored form of an instance: what follows from a checked configuration, and what a change leaves of the one there
//! is.

use std::collections::BTreeMap;

use domain::id::InstanceId;
use domain::secret::{MASK, Secret};
use elements::connection::{Connection, is_secret_key};
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};
use store::records::instance::{CallbackRecord, InstanceRecord};

use super::checked::Checked;
use super::{InstanceError, get};
use crate::accounts::auth::Caller;
use crate::service::{FlowError, Service};
use crate::vendor::secrets::{self, PROVEN_CONNECTION};

/// The treatment of configuration keys that a change does not mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateMode {
    /// `PUT`: a configuration that is given is the whole new one.
    Replace,
    /// `PATCH`: configuration keys that are given replace their likes, null removes one.
    Merge,
}

/// The record with everything that follows from its configuration.
pub(super) async fn configured(
    service: &Service,
    blank: InstanceRecord,
    checked: &Checked,
    proven: &Connection,
) -> Result<InstanceRecord, FlowError> {
    let settings = &checked.settings;
    let (mut shown, mut hidden) = (BTreeMap::new(), BTreeMap::new());
    // Sealed whole, because polls need what the checks learned as much as what the user wrote.
    let sealed = serde_json::to_string(proven).expect("a connection has text keys and serializes");
    hidden.insert(PROVEN_CONNECTION.to_owned(), Secret::new(sealed));
    for (key, value) in &checked.configuration {
        let value = match value {
            Some(text) if is_secret_key(&checked.element, key) => {
                hidden.insert(key.clone(), Secret::new(text));
                Value::from(MASK)
            }
            Some(text) => Value::from(text.as_str()),
            None => Value::Null,
        };
        shown.insert(key.clone(), value);
    }
    let resources = settings.resources.iter().map(|(name, resource)| {
        (name.clone(), to_raw_value(resource).expect("a resource's configuration has text keys and serializes"))
    });
    Ok(InstanceRecord {
        configuration: shown,
        secrets: secrets::seal(service, blank.id, &hidden).await?,
        events_enabled: settings.enabled,
        callback: settings.callback.as_ref().map(|callback| CallbackRecord {
            url: callback.url.clone(),
            format: callback.format,
            failure_policy: callback.failure_policy,
            coalesce: callback.coalesce,
        }),
        interval_minutes: settings.interval_minutes,
        resources: resources.collect(),
        warnings: checked.warnings.iter().map(|warning| json!(warning)).collect(),
        filter_response_nulls: settings.filter_response_nulls,
        ..blank
    })
}

/// The configuration that a change leaves. A mask stands for the value that it masks.
pub(super) fn merged(
    mut stored: Map<String, Value>,
    given: Option<&Map<String, Value>>,
    mode: UpdateMode,
) -> Map<String, Value> {
    let Some(given) = given else { return stored };
    let mut whole = match mode {
        UpdateMode::Merge => stored.clone(),
        UpdateMode::Replace => Map::new(),
    };
    for (key, value) in given {
        if value == MASK {
            whole.extend(stored.remove(key).map(|value| (key.clone(), value)));
        } else if value.is_null() && mode == UpdateMode::Merge {
            whole.remove(key);
        } else {
            whole.insert(key.clone(), value.clone());
        }
    }
    whole
}

/// An instance, and its configuration with real values as a merge of `given` would leave it.
pub(super) async fn merged_with(
    service: &Service,
    caller: &Caller,
    id: InstanceId,
    given: Option<&Map<String, Value>>,
) -> Result<(InstanceRecord, Map<String, Value>), InstanceError> {
    let record = get(&service.ports, caller.organization, id).await?.record;
    let hidden = secrets::open(service, &record).await?;
    let configuration = merged(secrets::revealed(&record, &hidden), given, UpdateMode::Merge);
    Ok((record, configuration))
}
