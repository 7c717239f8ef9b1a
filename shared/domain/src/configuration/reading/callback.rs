//! Parses the callback: its URL, its credentials, and how notifications are sent to it.

use super::collector::Collector;
use super::fields::{Fields, parse_boolean, parse_choice, parse_secret, parse_text};
use super::headers::parse_headers;
use crate::configuration::Callback;
use crate::configuration::keys::{
    BASIC_PASSWORD, BASIC_USERNAME, CALLBACK_HEADERS, CALLBACK_URL, COALESCE, FAILURE_POLICY, NOTIFICATION_FORMAT,
    SIGNATURE_KEY,
};
use crate::secret::Secret;

/// Longest callback URL, in bytes.
const LONGEST_URL: usize = 2048;

/// The callback, or None where there is no URL.
pub(super) fn parse_callback(fields: &Fields<'_>, collector: &mut Collector) -> Option<Callback> {
    let url = parse_text(fields, CALLBACK_URL, collector);
    let signature_key = parse_secret(fields, SIGNATURE_KEY, collector);
    let headers = fields.get(CALLBACK_HEADERS);
    let headers =
        headers.map(|value| parse_headers(value, &fields.at(CALLBACK_HEADERS), collector)).unwrap_or_default();
    let basic = parse_basic(fields, collector);
    if basic.is_some() && headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
        let expected = format!("either this header or {BASIC_USERNAME}, not both");
        collector.refuse(fields.at(CALLBACK_HEADERS), "Authorization", expected);
    }
    let format = parse_choice(fields, NOTIFICATION_FORMAT, collector).unwrap_or_default();
    let failure_policy = parse_choice(fields, FAILURE_POLICY, collector).unwrap_or_default();
    let coalesce = parse_boolean(fields, COALESCE, collector).unwrap_or(false);
    let Some(url) = url else {
        if signature_key.is_some() || basic.is_some() || !headers.is_empty() {
            collector.warn(fields.at(CALLBACK_URL), "it is absent, so events are kept and nothing is sent");
        }
        return None;
    };
    let url = parse_callback_url(url, fields.at(CALLBACK_URL), collector)?;
    Some(Callback { url, signature_key, headers, basic, format, failure_policy, coalesce })
}

/// User name and password: both or none.
fn parse_basic(fields: &Fields<'_>, collector: &mut Collector) -> Option<(String, Secret)> {
    let name = parse_text(fields, BASIC_USERNAME, collector);
    let password = parse_secret(fields, BASIC_PASSWORD, collector);
    match (name, password) {
        (Some(name), _) if name.contains(':') || name.contains(char::is_control) => {
            collector.refuse(fields.at(BASIC_USERNAME), name, "a user name without a colon (RFC 7617)");
            None
        }
        (Some(name), Some(password)) => Some((name.to_owned(), password)),
        (Some(_), None) if fields.get(BASIC_PASSWORD).is_none() => {
            let expected = format!("a password, because {BASIC_USERNAME} is set");
            collector.refuse(fields.at(BASIC_PASSWORD), "nothing", expected);
            None
        }
        (None, Some(_)) if fields.get(BASIC_USERNAME).is_none() => {
            let expected = format!("a user name, because {BASIC_PASSWORD} is set");
            collector.refuse(fields.at(BASIC_USERNAME), "nothing", expected);
            None
        }
        _ => None,
    }
}

fn parse_callback_url(text: &str, field: String, collector: &mut Collector) -> Option<String> {
    let expected = match url::Url::parse(text) {
        _ if text.len() > LONGEST_URL => format!("a URL of at most {LONGEST_URL} bytes"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            let expected = format!("a URL without credentials, which go in {BASIC_USERNAME} and {BASIC_PASSWORD}");
            collector.refuse_secret(field, expected);
            return None;
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => return Some(text.to_owned()),
        _ => "a URL like https://example.com/events".to_owned(),
    };
    // The query may hold a secret.
    collector.refuse(field, text.split('?').next().unwrap_or_default(), expected);
    None
}
