//! The tokens of a connected account, and the bearer token of its calls.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::secret::Secret;
use domain::zone::Zone;
use serde::{Deserialize, Serialize};

use crate::catalog::Element;
use crate::connection::Connection;
use crate::definition::Auth;
use crate::template::{Template, Values};

/// The tokens that a login returned. Holds secrets: it is stored sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tokens {
    /// The access token, sent with every call.
    pub access: Secret,
    /// The refresh token, sent for the next access token.
    #[serde(default)]
    pub refresh: Option<Secret>,
    /// The end of the access token, if the vendor names it.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// Other values of the answer that later calls need (an account number).
    #[serde(default)]
    pub extra: BTreeMap<String, String>,
}

/// The token that a user created at the vendor and filled in, if the element accepts one.
pub(crate) fn static_token(element: &Element, connection: &Connection) -> Option<String> {
    let template: &Template = match &element.auth {
        Auth::Oauth2Code(oauth) => oauth.static_token.as_ref()?,
        Auth::StaticBearer(bearer) => &bearer.token,
        Auth::StaticHeaders {} | Auth::Oauth2ClientCredentials(_) | Auth::LoginExchange(_) => return None,
    };
    let lookup = |name: &str| connection.filling(name);
    template.text(&Values { lookup: &lookup, zone: &Zone::GMT })
}

/// The bearer token of a call, if the element sends one.
pub(crate) fn bearer(element: &Element, connection: &Connection, tokens: Option<&Tokens>) -> Option<String> {
    match &element.auth {
        Auth::StaticHeaders {} => None,
        _ => static_token(element, connection).or_else(|| tokens.map(|tokens| tokens.access.expose().to_owned())),
    }
}
