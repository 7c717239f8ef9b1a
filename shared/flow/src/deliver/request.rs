//! The request that carries a notification: its headers, its signatures, and sending it once.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::keys::{
    BASIC_PASSWORD, BASIC_USERNAME, CALLBACK_HEADERS, CALLBACK_URL, PREVIOUS_KEY, PREVIOUS_KEY_UNTIL, SIGNATURE_KEY,
};
use domain::configuration::{Callback, EventSettings, NotificationFormat};
use domain::id::DeliveryId;
use domain::retry_schedule::AttemptOutcome;
use domain::secret::{MASK, Secret, hide};
use domain::signature::{elements_signature, standard_webhooks};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use serde_json::{Map, Value};
use store::records::delivery::{Attempt, DeliveryRow};
use store::records::instance::InstanceRecord;
use url::Url;

use super::DeliveryError;
use crate::ports::{Audience, Bounds, Exchange, HttpError, Ports, VaultError};
use crate::trace;
use crate::vendor::secrets::vault_owner;

/// A response is read up to this many bytes, so that a connection can be kept…
const LARGEST_RESPONSE: usize = 16 * 1024;
/// …and remembered up to these.
const REMEMBERED_RESPONSE: usize = 1024;

/// Configuration keys that say how a notification is sent. Secret ones are among the sealed.
const KEYS: [&str; 4] = [SIGNATURE_KEY, BASIC_USERNAME, BASIC_PASSWORD, CALLBACK_HEADERS];

/// True while the key before the present one still signs.
fn previous_signs(instance: &InstanceRecord, now: DateTime<Utc>) -> bool {
    let until = instance.configuration.get(PREVIOUS_KEY_UNTIL).and_then(Value::as_str);
    until.and_then(|until| until.parse::<DateTime<Utc>>().ok()).is_none_or(|until| now < until)
}

/// The result of an attempt.
pub(super) struct AttemptResult {
    at: DateTime<Utc>,
    url: String,
    answer: Result<Exchange, String>,
    took: Duration,
}

impl AttemptResult {
    /// An attempt that was not made, and why.
    pub(super) fn not_made(url: &str, at: DateTime<Utc>, why: String) -> Self {
        Self { at, url: url.to_owned(), answer: Err(why), took: Duration::ZERO }
    }

    /// The end of the attempt, as the retry schedule judges it.
    pub(super) fn outcome(&self) -> AttemptOutcome<'_> {
        match &self.answer {
            Ok(exchange) => {
                let retry_after = exchange.response.headers().get(RETRY_AFTER);
                let retry_after = retry_after.and_then(|value| value.to_str().ok());
                AttemptOutcome::Answered { status: exchange.response.status().as_u16(), retry_after }
            }
            Err(_) => AttemptOutcome::NoAnswer,
        }
    }

    /// The attempt as a row remembers it, without its number.
    pub(super) fn attempt(&self) -> Attempt {
        let (status, error, response) = match &self.answer {
            Ok(exchange) => {
                let body = exchange.response.body();
                let head = String::from_utf8_lossy(&body[..body.len().min(REMEMBERED_RESPONSE)]).into_owned();
                (Some(exchange.response.status().as_u16()), None, head)
            }
            Err(error) => (None, Some(error.clone()), String::new()),
        };
        let duration_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        let url = without_values(&self.url);
        Attempt { number: 0, at: self.at, url, duration_ms, status, error, response, next: None }
    }
}

/// A notification to be sent.
pub(super) struct Notification<'a> {
    pub(super) url: &'a str,
    pub(super) id: &'a DeliveryId,
    pub(super) format: NotificationFormat,
    pub(super) body: Bytes,
    /// When the attempt begins.
    pub(super) at: DateTime<Utc>,
    /// Names the attempt for those who trace.
    pub(super) traceparent: Option<String>,
}

/// The keys and headers of a notification to a callback.
pub(super) struct SignedRequest {
    callback: Callback,
    /// The newest first.
    keys: Vec<Secret>,
}

impl SignedRequest {
    /// Of a callback's settings alone.
    pub(super) fn of(callback: Callback) -> Self {
        Self { keys: callback.signature_key.iter().cloned().collect(), callback }
    }

    /// Sends a row's notification once. An instance whose secrets or settings cannot be read makes no attempt: better
    /// late than unsigned.
    pub(super) async fn send_row(
        ports: &Ports,
        deadline: Duration,
        instance: &InstanceRecord,
        url: &str,
        row: &DeliveryRow,
        body: Bytes,
    ) -> Result<AttemptResult, DeliveryError> {
        let at = ports.now();
        let parent = || trace::traceparent(&row.trace, &row.id.0, row.attempts_made + 1);
        let traceparent = (!row.trace.is_empty()).then(parent);
        match Self::opened(ports, instance, url).await {
            Ok(request) => {
                let (id, format) = (&row.id, row.format);
                Ok(request.send(ports, deadline, Notification { url, id, format, body, at, traceparent }).await)
            }
            Err(Unsigned::Impossible(why)) => Ok(AttemptResult::not_made(url, at, why.to_owned())),
            Err(Unsigned::Later(error)) => Err(DeliveryError::Vault(error)),
        }
    }

    /// Opens the instance's secrets and reads the callback's settings.
    async fn opened(ports: &Ports, instance: &InstanceRecord, url: &str) -> Result<Self, Unsigned> {
        let mut settings: Map<String, Value> =
            KEYS.iter().filter_map(|key| Some((key.to_string(), instance.configuration.get(*key)?.clone()))).collect();
        settings.insert(CALLBACK_URL.into(), url.into());
        let mut previous = None;
        if !instance.secrets.is_empty() {
            let opened = match ports.vault.open(&vault_owner(instance.id), &instance.secrets).await {
                Ok(opened) => opened,
                Err(error @ VaultError::Busy(_)) => return Err(Unsigned::Later(error)),
                Err(VaultError::Broken(_)) => return Err(Unsigned::Impossible("the instance's secrets do not open")),
            };
            let secrets = serde_json::from_str::<Map<String, Value>>(opened.expose());
            let mut secrets = secrets.map_err(|_| Unsigned::Impossible("the instance's secrets cannot be read"))?;
            let previous_key = secrets.get(PREVIOUS_KEY).and_then(Value::as_str).map(Secret::new);
            previous = previous_key.filter(|_| previous_signs(instance, ports.now()));
            settings.extend(KEYS.iter().filter_map(|key| secrets.remove_entry(*key)));
        }
        let Ok((EventSettings { callback: Some(callback), .. }, _)) = EventSettings::parse(&settings) else {
            return Err(Unsigned::Impossible("the callback's settings cannot be read"));
        };
        let mut request = Self::of(callback);
        request.keys.extend(previous);
        Ok(request)
    }

    /// Name and password as Basic authentication writes them.
    fn basic(&self) -> Option<Secret> {
        let (name, password) = self.callback.basic.as_ref()?;
        Some(Secret::new(STANDARD.encode(format!("{name}:{}", password.expose()))))
    }

    /// The text without the secrets of the request.
    fn hide(&self, text: &str) -> String {
        let headers = self.callback.headers.iter().map(|(_, value)| value);
        let password = self.callback.basic.iter().map(|(_, password)| password);
        hide(text, self.keys.iter().chain(headers).chain(password).chain(&self.basic()))
    }

    /// Sends a notification once.
    pub(super) async fn send(
        &self,
        ports: &Ports,
        deadline: Duration,
        notification: Notification<'_>,
    ) -> AttemptResult {
        let (at, url) = (notification.at, notification.url);
        let request = match self.signed(notification) {
            Ok(request) => request,
            Err(error) => {
                return AttemptResult::not_made(url, at, format!("the request could not be built: {error}"));
            }
        };
        let bounds = Bounds { audience: Audience::Callback, deadline, largest_body: LARGEST_RESPONSE };
        let (answer, took) = match ports.http.send(request, bounds).await {
            Ok(mut exchange) => {
                // Its head is stored and shown, and some receivers quote what they were sent.
                let said = self.hide(&String::from_utf8_lossy(exchange.response.body()));
                *exchange.response.body_mut() = Bytes::from(said);
                let took = exchange.elapsed;
                (Ok(exchange), took)
            }
            Err(HttpError::Deadline(deadline)) => (Err(HttpError::Deadline(deadline).to_string()), deadline),
            Err(error) => (Err(error.to_string()), (ports.now() - at).to_std().unwrap_or_default()),
        };
        AttemptResult { at, url: url.to_owned(), answer, took }
    }

    fn signed(&self, notification: Notification<'_>) -> Result<http::Request<Bytes>, http::Error> {
        let Notification { url, id, format, body, at, traceparent } = notification;
        let (id, timestamp) = (id.0.as_str(), at.timestamp());
        let mut request = http::Request::post(url).body(Bytes::new())?;
        let headers = request.headers_mut();
        let secret = |text: String| -> Result<HeaderValue, http::Error> {
            let mut value = HeaderValue::from_str(&text)?;
            value.set_sensitive(true);
            Ok(value)
        };
        // Ours come after and replace what a customer may have given the same name.
        for (name, value) in &self.callback.headers {
            headers.insert(HeaderName::from_bytes(name.as_bytes())?, secret(value.expose().to_owned())?);
        }
        if let Some(pair) = self.basic() {
            headers.insert(AUTHORIZATION, secret(format!("Basic {}", pair.expose()))?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("pollux/", env!("CARGO_PKG_VERSION"))));
        headers.insert("elements-webhook-id", HeaderValue::from_str(id)?);
        headers.insert("webhook-id", HeaderValue::from_str(id)?);
        if let Some(parent) = &traceparent {
            headers.insert("traceparent", HeaderValue::from_str(parent)?);
        }
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp));
        if let Some(newest) = self.keys.first() {
            headers.insert("elements-webhook-signature", HeaderValue::from_str(&elements_signature(newest, &body))?);
            let signatures = standard_webhooks(&self.keys, id, timestamp, &body);
            headers.insert("webhook-signature", HeaderValue::from_str(&signatures)?);
        }
        *request.body_mut() = body;
        Ok(request)
    }
}

/// The reason why a notification cannot be signed.
enum Unsigned {
    /// The key service is out of reach.
    Later(VaultError),
    /// As things stand it cannot be signed at all.
    Impossible(&'static str),
}

/// A callback's URL as attempts remember it: which keys its query has, and not their values, which are often secrets.
fn without_values(url: &str) -> String {
    let Ok(mut shown) = Url::parse(url) else { return url.to_owned() };
    if shown.query().is_none() {
        return url.to_owned();
    }
    let names: Vec<String> = shown.query_pairs().map(|(name, _)| name.into_owned()).collect();
    shown.query_pairs_mut().clear().extend_pairs(names.iter().map(|name| (name, MASK)));
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_remembered_without_the_values_of_its_query() {
        for (url, shown) in [
            ("https://a.example/hook", "https://a.example/hook"),
            ("https://a.example/hook?key=hunter2&x", "https://a.example/hook?key=********&x=********"),
        ] {
            assert_eq!(without_values(url), shown);
        }
    }
}
