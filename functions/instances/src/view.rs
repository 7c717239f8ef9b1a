//! Instances and elements as answers show them: with the keys of Cloud Elements, so that its clients read them.

use chrono::{DateTime, SecondsFormat, Utc};
use domain::problem::Warning;
use domain::secret::Secret;
use elements::Element;
use elements::definition::Auth;
use serde_json::{Value, json};
use store::records::instance::InstanceRecord;

/// An instant as Cloud Elements writes it: whole seconds, `Z`.
pub fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An instance. The token is shown to its own organization, every time, as Cloud Elements does; other secrets never.
pub fn instance(record: &InstanceRecord, element: Option<&Element>, token: &Secret, warnings: &[Warning]) -> Value {
    let callback = record.callback.as_ref().map(|callback| callback.url.as_str());
    let mut shown = json!({
        "id": record.id,
        "name": record.name,
        "createdDate": instant(record.created_at),
        "updatedDate": instant(record.updated_at),
        "token": token.expose(),
        "element": element.map(self::element),
        "elementId": element.map(element_id),
        "tags": record.tags,
        "provisionInteractions": [],
        "valid": record.reconnect.is_none(),
        "disabled": record.disabled,
        "maxCacheSize": 0,
        "cacheTimeToLive": 0,
        "providerData": {},
        "configuration": record.configuration,
        "eventsEnabled": record.events_enabled,
        "eventsNotificationCallbackUrl": callback,
        "traceLoggingEnabled": false,
        "cachingEnabled": false,
        "externalAuthentication": "none",
        "user": { "id": record.user },
        "warnings": warnings,
    });
    if let Some(reconnect) = &record.reconnect {
        shown["reconnect"] = json!({ "since": instant(reconnect.since), "reason": reconnect.reason });
    }
    shown
}

/// The warnings that were stored with an instance.
pub fn stored_warnings(record: &InstanceRecord) -> Vec<Warning> {
    record.warnings.iter().filter_map(|warning| serde_json::from_value(warning.clone()).ok()).collect()
}

/// The number under which Cloud Elements knew the element: its own first, or one made of the key for elements that
/// it never had. Clients expect a number.
pub fn element_id(element: &Element) -> u64 {
    const OWN_RANGE: u64 = 1_000_000;
    let made = || OWN_RANGE + domain::wheel::place(domain::id::InstanceId(1), &element.key) % OWN_RANGE;
    element.ids.first().copied().unwrap_or_else(made)
}

/// The part of an element that its instances show.
pub fn element(element: &Element) -> Value {
    let (authentication, browser_login) = match element.auth {
        Auth::Oauth2Code(_) => ("oauth2", true),
        Auth::Oauth2ClientCredentials(_) => ("oauth2", false),
        Auth::StaticHeaders {} | Auth::StaticBearer(_) | Auth::LoginExchange(_) => ("custom", false),
    };
    json!({
        "id": element_id(element),
        "name": element.name,
        "key": element.key,
        "description": element.description,
        "image": null,
        "active": true,
        "deleted": false,
        "typeOauth": browser_login,
        "trialAccount": false,
        "resources": [],
        "transformationsEnabled": false,
        "bulkDownloadEnabled": false,
        "bulkUploadEnabled": false,
        "cloneable": false,
        "extendable": false,
        "beta": false,
        "authentication": { "type": authentication },
        "extended": false,
        "hub": element.hub,
        "protocolType": "http",
        "parameters": [],
        "private": false,
    })
}
