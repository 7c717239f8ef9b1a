//! Logging in at a vendor: the address of the login page, requests for tokens, and their answers.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::problem::{FieldProblem, below, shorten};
use domain::secret::Secret;
use domain::zone::Zone;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};
use url::Url;

use crate::call::{Bases, absolute};
use crate::catalog::Element;
use crate::connection::{Connection, describe, fits, key_of};
use crate::definition::{Auth, ClientAuth, Expiry, RefreshResult, TokenBody, TokenEndpoint};
use crate::fault::{self, Fault};
use crate::mask::SecretMask;
use crate::pointer::{Pointer, Wanted};
use crate::template::{Filling, Values};
use crate::tokens::{Tokens, static_token};

/// A token is refreshed this long before its end, unless the element says otherwise.
const REFRESH_BEFORE: Duration = Duration::from_secs(300);

/// The proof that is exchanged for tokens.
#[derive(Debug, Clone, Copy)]
pub enum Grant<'a> {
    /// The code that the vendor sent when it redirected the user back to us.
    Code {
        /// The code.
        code: &'a Secret,
        /// The address to which the user was redirected.
        redirect_uri: &'a str,
        /// The proof of RFC 7636, if the login began with a challenge.
        code_verifier: Option<&'a Secret>,
    },
    /// A refresh token.
    Refresh {
        /// The token.
        refresh: &'a Secret,
    },
    /// Id and secret of the application.
    ClientCredentials,
    /// Name and password of the account.
    Login,
}

/// The reason why a request for tokens failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthFault {
    /// The grant is no longer valid: the user must log in again.
    #[error("the login is no longer valid: {reason}")]
    Dead {
        /// The vendor's words.
        reason: String,
    },
    /// The vendor cannot answer now: ask again later.
    #[error("the vendor cannot hand out tokens now: {reason}")]
    Retry {
        /// The time to wait, if the vendor names it.
        after: Option<Duration>,
        /// The vendor's words.
        reason: String,
    },
    /// The answer is no token answer.
    #[error("the vendor's token answer cannot be read: {reason}")]
    Unreadable {
        /// The defect of the answer.
        reason: String,
    },
}

/// Returns true if calls of this connection need tokens; a token that the user created replaces them.
pub fn needs_tokens(element: &Element, connection: &Connection) -> bool {
    match &element.auth {
        Auth::Oauth2Code(_) => static_token(element, connection).is_none(),
        Auth::Oauth2ClientCredentials(_) | Auth::LoginExchange(_) => true,
        Auth::StaticHeaders {} | Auth::StaticBearer(_) => false,
    }
}

/// Returns true if a user logs in at the vendor and comes back with a code.
pub fn grants_code(element: &Element) -> bool {
    matches!(element.auth, Auth::Oauth2Code(_))
}

/// The grant that obtains a first or a new token without a user, if the element has one.
pub fn unattended_grant(element: &Element) -> Option<Grant<'static>> {
    match element.auth {
        Auth::Oauth2ClientCredentials(_) => Some(Grant::ClientCredentials),
        Auth::LoginExchange(_) => Some(Grant::Login),
        _ => None,
    }
}

fn endpoint(element: &Element) -> Option<&TokenEndpoint> {
    match &element.auth {
        Auth::Oauth2Code(oauth) => Some(&oauth.token),
        Auth::Oauth2ClientCredentials(credentials) => Some(&credentials.token),
        Auth::LoginExchange(login) => Some(&login.token),
        Auth::StaticHeaders {} | Auth::StaticBearer(_) => None,
    }
}

/// The values of the address of a login page.
#[derive(Debug, Clone, Copy)]
pub struct LoginPage<'a> {
    /// The id of the application.
    pub api_key: &'a str,
    /// The address to which the vendor redirects the user.
    pub callback_url: &'a str,
    /// The scopes as one text; the element's scopes if absent.
    pub scope: Option<&'a str>,
    /// A text that the vendor gives back with the code.
    pub state: Option<&'a str>,
    /// The query parameters of the caller. They give the connection values that the address is made of (`subdomain`,
    /// `maximizer.alias`).
    pub params: &'a BTreeMap<String, String>,
}

impl LoginPage<'_> {
    /// A connection value that the address needs.
    fn value(&self, element: &Element, name: &str) -> Option<String> {
        let field = element.connection.get(name)?;
        let mut keys = field.configuration_keys.iter().map(String::as_str).chain([name]);
        keys.find_map(|key| self.params.get(key)).cloned().or_else(|| field.default.clone())
    }
}

/// The address at which a user logs in.
///
/// # Errors
/// Every value that is missing or does not fit; an element without such a login.
pub fn authorize_url(element: &Element, bases: &Bases, page: &LoginPage<'_>) -> Result<Url, Vec<FieldProblem>> {
    let Auth::Oauth2Code(oauth) = &element.auth else {
        return Err(vec![FieldProblem::new("element", &element.key, "an element at which users log in with OAuth")]);
    };
    let mut problems = Vec::new();
    for (name, value) in [("apiKey", page.api_key), ("callbackUrl", page.callback_url)] {
        if value.trim().is_empty() {
            problems.push(FieldProblem::new(name, "nothing", "a value"));
        }
    }
    for name in oauth.authorize_url.names().filter_map(|name| name.strip_prefix("connection.")) {
        let Some(field) = element.connection.get(name) else { continue };
        match page.value(element, name) {
            None => problems.push(FieldProblem::new(key_of(name, field), "nothing", describe(field))),
            Some(text) => {
                if let Some(expected) = fits(field, &text) {
                    problems.push(FieldProblem::new(key_of(name, field), text, expected));
                }
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let lookup = |name: &str| {
        let name = name.strip_prefix("connection.")?;
        page.value(element, name).map(Filling::Text)
    };
    let values = Values { lookup: &lookup, zone: &Zone::GMT };
    let url = absolute(oauth.authorize_url.text(&values), "auth.authorize_url").map_err(|problem| vec![problem])?;
    let mut url = bases.apply(&element.key, url);
    let separator = oauth.scope_separator.as_deref().unwrap_or(" ");
    let scope = page.scope.map_or_else(|| oauth.scopes.join(separator), str::to_owned);
    let mut query = url.query_pairs_mut();
    query.append_pair("response_type", "code").append_pair("client_id", page.api_key);
    query.append_pair("redirect_uri", page.callback_url);
    if !scope.is_empty() {
        query.append_pair("scope", &scope);
    }
    if let Some(state) = page.state {
        query.append_pair("state", state);
    }
    for (name, template) in &oauth.authorize_params {
        if let Some(text) = template.text(&values) {
            query.append_pair(name, &text);
        }
    }
    drop(query);
    Ok(url)
}

/// The parameters of a grant; `None` if the element does not have it.
fn grant_parameters(auth: &Auth, grant: Grant<'_>) -> Option<Vec<(String, String)>> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, value: &str| parameters.push((name.to_owned(), value.to_owned()));
    match (auth, grant) {
        (Auth::Oauth2Code(_), Grant::Code { code, redirect_uri, code_verifier }) => {
            add("grant_type", "authorization_code");
            add("code", code.expose());
            add("redirect_uri", redirect_uri);
            if let Some(verifier) = code_verifier {
                add("code_verifier", verifier.expose());
            }
        }
        (Auth::Oauth2Code(_), Grant::Refresh { refresh }) => {
            add("grant_type", "refresh_token");
            add("refresh_token", refresh.expose());
        }
        (Auth::Oauth2ClientCredentials(credentials), Grant::ClientCredentials) => {
            add("grant_type", "client_credentials");
            if !credentials.scopes.is_empty() {
                add("scope", &credentials.scopes.join(" "));
            }
        }
        (Auth::LoginExchange(_), Grant::Login) => {}
        _ => return None,
    }
    Some(parameters)
}

/// A credential of the application.
fn client_value(element: &Element, connection: &Connection, name: &str) -> Result<String, FieldProblem> {
    match connection.filling(&format!("connection.{name}")) {
        Some(Filling::Text(text)) => Ok(text),
        _ => {
            let key = element.connection.get(name).map_or(name, |field| key_of(name, field));
            Err(FieldProblem::new(below("configuration", key), "nothing", "a value: tokens are handed out for it"))
        }
    }
}

/// The request that asks for tokens.
///
/// # Errors
/// A grant that the element does not have, or a value that its request lacks.
pub fn token_request(
    element: &Element,
    bases: &Bases,
    connection: &Connection,
    grant: Grant<'_>,
) -> Result<Request<Bytes>, FieldProblem> {
    let no_such = || FieldProblem::new("element", &element.key, "an element that hands out tokens this way");
    let endpoint = endpoint(element).ok_or_else(no_such)?;
    let mut body = grant_parameters(&element.auth, grant).ok_or_else(no_such)?;
    let client = |name: &str| client_value(element, connection, name);
    let oauth = !matches!(element.auth, Auth::LoginExchange(_));
    let mut basic = None;
    match endpoint.client {
        ClientAuth::Body if oauth => {
            body.push(("client_id".to_owned(), client("client_id")?));
            body.push(("client_secret".to_owned(), client("client_secret")?));
        }
        ClientAuth::Basic => {
            let escaped = |text: String| utf8_percent_encode(&text, NON_ALPHANUMERIC).to_string();
            let pair = format!("{}:{}", escaped(client("client_id")?), escaped(client("client_secret")?));
            basic = Some(format!("Basic {}", STANDARD.encode(pair)));
        }
        ClientAuth::Body | ClientAuth::None => {}
    }
    let lookup = |name: &str| connection.filling(name);
    let values = Values { lookup: &lookup, zone: &Zone::GMT };
    for (name, template) in &endpoint.params {
        if let Some(text) = template.text(&values) {
            body.push((name.clone(), text));
        }
    }
    let url = bases.apply(&element.key, absolute(endpoint.url.text(&values), "auth.token.url")?);
    let (kind, body) = match endpoint.body {
        TokenBody::Json => {
            let object: Map<String, Value> = body.into_iter().map(|(name, text)| (name, Value::String(text))).collect();
            ("application/json", Value::Object(object).to_string())
        }
        TokenBody::Form => (
            "application/x-www-form-urlencoded",
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(body).finish(),
        ),
    };
    let mut request = Request::post(url.as_str()).header(ACCEPT, "application/json").header(CONTENT_TYPE, kind);
    if let Some(basic) = basic {
        let mut value = HeaderValue::from_str(&basic)
            .map_err(|_| FieldProblem::secret("client_secret", "a value without control characters"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request
        .body(Bytes::from(body))
        .map_err(|error| FieldProblem::new("auth.token.url", url.as_str(), error.to_string()))
}

/// Reads a token answer. If it has no refresh token, the `previous` one stays, unless the element rotates them.
///
/// # Errors
/// The reason why there are no tokens.
pub fn read_tokens(
    element: &Element,
    response: &Response<Bytes>,
    now: DateTime<Utc>,
    previous: Option<&Tokens>,
) -> Result<Tokens, AuthFault> {
    let unreadable = |reason: &str| AuthFault::Unreadable { reason: reason.to_owned() };
    let endpoint = endpoint(element).ok_or_else(|| unreadable("the element hands out no tokens"))?;
    match fault::classify(element, SecretMask::NONE, &[], response) {
        None => {}
        Some(Fault::Retry { after, reason } | Fault::RateLimited { after, reason }) => {
            return Err(AuthFault::Retry { after, reason });
        }
        Some(_) => return Err(AuthFault::Dead { reason: token_reason(element, response) }),
    }
    let text = fault::text_of(response.body()).map_err(|_| unreadable("it is not UTF-8"))?;
    let mut wanted = Wanted::default();
    let place = |pointer: &Option<Pointer>, usual: &str| pointer.clone().unwrap_or_else(|| Pointer::dotted(usual));
    let access = wanted.want(&place(&endpoint.access, "access_token"));
    let refresh = wanted.want(&place(&endpoint.refresh, "refresh_token"));
    let expiry = match &endpoint.expiry {
        Expiry::SecondsField(pointer) | Expiry::TimestampField(pointer) => Some(wanted.want(pointer)),
        Expiry::None | Expiry::Fixed(_) => None,
    };
    let keep: Vec<(usize, &String)> =
        endpoint.keep.iter().map(|(name, pointer)| (wanted.want(pointer), name)).collect();
    let found = match wanted.find(text) {
        Ok(found) => found,
        Err(error) => match fault::not_json(text, &error) {
            Fault::Retry { reason, .. } if text.trim_start().starts_with('<') => {
                return Err(AuthFault::Retry { after: None, reason });
            }
            _ => return Err(unreadable("it is not JSON")),
        },
    };
    let given = |slot: usize| found.text(slot).filter(|text| !text.is_empty());
    let access = given(access).ok_or_else(|| unreadable("it has no access token"))?;
    let rotates = matches!(&element.auth, Auth::Oauth2Code(oauth) if oauth.refresh == RefreshResult::RotateRequired);
    let refresh = match given(refresh) {
        Some(new) => Some(Secret::new(new)),
        None if rotates && previous.is_some() => return Err(unreadable("it has no new refresh token")),
        None => previous.and_then(|previous| previous.refresh.clone()),
    };
    let expires_at = end_of_token(&endpoint.expiry, expiry.and_then(given).as_deref(), now);
    let mut extra = previous.map(|previous| previous.extra.clone()).unwrap_or_default();
    extra.extend(keep.into_iter().filter_map(|(slot, name)| Some((name.clone(), given(slot)?.into_owned()))));
    Ok(Tokens { access: Secret::new(access), refresh, expires_at, extra })
}

/// The end of an access token. `stated` is the text of the answer.
fn end_of_token(expiry: &Expiry, stated: Option<&str>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match expiry {
        Expiry::None => None,
        Expiry::Fixed(span) => now.checked_add_signed(TimeDelta::from_std(span.0).ok()?),
        Expiry::SecondsField(_) => {
            let seconds = stated?.parse::<f64>().ok()?;
            now.checked_add_signed(TimeDelta::try_seconds(seconds as i64)?)
        }
        Expiry::TimestampField(_) => Some(DateTime::parse_from_rfc3339(stated?).ok()?.to_utc()),
    }
}

/// The text of an error answer: OAuth's members if the answer has them, else the element's messages.
fn token_reason(element: &Element, response: &Response<Bytes>) -> String {
    let tree: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    match (tree.get("error").and_then(Value::as_str), tree.get("error_description").and_then(Value::as_str)) {
        (Some(error), Some(description)) => shorten(&format!("{error}: {description}")),
        (Some(error), None) => shorten(error),
        _ => fault::reason(element, SecretMask::NONE, response),
    }
}

/// Returns true if the access token ends so soon that it should be refreshed before a call.
pub fn refresh_due(element: &Element, tokens: &Tokens, now: DateTime<Utc>) -> bool {
    let before = endpoint(element).and_then(|endpoint| endpoint.refresh_before).map_or(REFRESH_BEFORE, |span| span.0);
    tokens.expires_at.is_some_and(|end| (end - now).to_std().map_or(true, |left| left <= before))
}
