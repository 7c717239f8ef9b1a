//! Authentication: how requests prove their sender, and how tokens are obtained and refreshed.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::value_types::Span;
use crate::pointer::Pointer;
use crate::template::Template;

/// The authentication of requests.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    /// A user logs in at the vendor, a code is exchanged for tokens, tokens are refreshed.
    Oauth2Code(Oauth2Code),
    /// The application's id and secret are exchanged for tokens, without a user.
    Oauth2ClientCredentials(ClientCredentials),
    /// All credentials are in `[headers]`.
    StaticHeaders {},
    /// The bearer token is one that a user created at the vendor.
    StaticBearer(StaticBearer),
    /// A name and a password are exchanged for a session token.
    LoginExchange(LoginExchange),
}

/// OAuth 2 with an authorization code.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oauth2Code {
    /// The page on which the user logs in.
    pub authorize_url: Template,
    /// More query parameters of that page.
    #[serde(default)]
    pub authorize_params: BTreeMap<String, Template>,
    /// The scopes requested when the caller names none.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The separator between scopes: a space by default.
    pub scope_separator: Option<String>,
    /// The endpoint that exchanges codes and refresh tokens for tokens.
    pub token: TokenEndpoint,
    /// The refresh token after a refresh.
    #[serde(default)]
    pub refresh: RefreshResult,
    /// A token that a user created at the vendor; when it is filled in, no login is needed.
    pub static_token: Option<Template>,
}

/// OAuth 2 with client credentials.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentials {
    /// The endpoint that issues tokens.
    pub token: TokenEndpoint,
    /// Scopes, separated by spaces on the wire.
    #[serde(default)]
    pub scopes: Vec<String>,
}

/// A bearer token that does not change.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticBearer {
    /// The token.
    pub token: Template,
}

/// A login that opens a session.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginExchange {
    /// The endpoint that opens the session; its `params` are the body.
    pub token: TokenEndpoint,
}

/// An endpoint that issues tokens.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenEndpoint {
    /// Its URL.
    pub url: Template,
    /// The format of the request's body.
    #[serde(default)]
    pub body: TokenBody,
    /// More parameters.
    #[serde(default)]
    pub params: BTreeMap<String, Template>,
    /// The place of the application's id and secret.
    #[serde(default)]
    pub client: ClientAuth,
    /// The place of the token in the answer: `/access_token` by default.
    pub access: Option<Pointer>,
    /// The place of the refresh token in the answer: `/refresh_token` by default.
    pub refresh: Option<Pointer>,
    /// The way in which the answer gives the token's end.
    #[serde(default)]
    pub expiry: Expiry,
    /// A token is refreshed this long before its end: 5 minutes by default.
    pub refresh_before: Option<Span>,
    /// More values of the answer to store with the tokens.
    #[serde(default)]
    pub keep: BTreeMap<String, Pointer>,
}

/// The format of a token request's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenBody {
    /// `application/x-www-form-urlencoded`.
    #[default]
    Form,
    /// A JSON object.
    Json,
}

/// The place of the application's id and secret in a token request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In the body.
    #[default]
    Body,
    /// In a Basic authorization header.
    Basic,
    /// Nowhere.
    None,
}

/// The way in which a token answer gives the token's end.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// Not at all: the token is used until it is refused.
    #[default]
    None,
    /// Seconds from now.
    SecondsField(Pointer),
    /// An instant, RFC 3339.
    TimestampField(Pointer),
    /// A fixed lifetime.
    Fixed(Span),
}

/// The refresh token after a refresh.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefreshResult {
    /// An answer without a refresh token leaves the old one valid.
    #[default]
    KeepIfAbsent,
    /// A refresh token works once, so every answer must have a new one.
    RotateRequired,
}
