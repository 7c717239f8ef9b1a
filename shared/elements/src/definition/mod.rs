//! The closed vocabulary of element files: one Rust type for each TOML table, one file for each theme.
//!
//! A value that is wrong by itself (a pointer, a pattern, a placeholder, a duration) is refused while the file is
//! parsed, so that the error has a line. Rules across several values are in `catalog/consistency.rs`.
//! The doc comments of these types are the descriptions in `schema.json`.
//!
//! | File | Contents |
//! | --- | --- |
//! | `connection.rs` | the fields that a user fills in, and the calls that check them |
//! | `auth.rs` | authentication |
//! | `call.rs` | a request to the vendor |
//! | `errors.rs` | the meaning of error answers |
//! | `budget.rs` | rate limits of our own |
//! | `resource.rs` | a resource: its calls, its records, fan-out and hydration |
//! | `time.rs` | timestamps of records |
//! | `conditions.rs` | `where=` and `orderBy` of users |
//! | `paging.rs` | the paging kinds |
//! | `change.rs` | changes and deletions |
//! | `value_types.rs` | durations and patterns |

mod auth;
mod budget;
mod call;
mod change;
mod conditions;
mod connection;
mod errors;
mod paging;
mod resource;
mod time;
mod value_types;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::pointer::Pointer;
use crate::template::Template;

pub use auth::{
    Auth, ClientAuth, ClientCredentials, Expiry, LoginExchange, Oauth2Code, RefreshResult, StaticBearer, TokenBody,
    TokenEndpoint,
};
pub use budget::{Budget, BudgetScope, Window};
pub use call::{Call, Method, QueryValue};
pub use change::{Absence, ChangeDetection, Confirm, Deletion, DeletionFlag, Fingerprint, OperationLists};
pub use conditions::{ConditionTarget, ConditionTargets, OrderBy};
pub use connection::{Check, ConnectionField, SwappedKeys};
pub use errors::{AnswerMatch, ErrorAction, ErrorRule, StatusCodes, Wait};
pub use paging::{EqualStamps, KeysetPaging, LinkHeaderPaging, NextUrlPaging, OffsetPaging, Paging, TokenPaging};
pub use resource::{Defaults, Fanout, Hydrate, IdPart, OnMissing, Records, Resource};
pub use time::{DateStyle, RecordTimes, ZoneSource};
pub use value_types::{Pattern, Span};

/// An element file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElementFile {
    /// The names of the element.
    pub element: Identity,
    /// The fields that a user fills in to connect.
    #[serde(default)]
    pub connection: BTreeMap<String, ConnectionField>,
    /// Configuration keys that a printed manual mixes up.
    #[serde(default, rename = "misprint")]
    pub swapped_keys: Vec<SwappedKeys>,
    /// Base URLs by name, templates over `connection.*`; `api` is the one used by calls that name none.
    pub bases: BTreeMap<String, Template>,
    /// The authentication of every request.
    pub auth: Auth,
    /// Headers of every call.
    #[serde(default)]
    pub headers: BTreeMap<String, Template>,
    /// Cheap calls that prove the connection and read values that later calls need, in order.
    #[serde(default)]
    pub check: Vec<Check>,
    /// The meaning of answers; the first match wins, a resource's own rules come before these.
    #[serde(default)]
    pub errors: Vec<ErrorRule>,
    /// The places of an error answer's text for people, in order of preference.
    #[serde(default)]
    pub messages: Vec<Pointer>,
    /// The rate at which the vendor may be called.
    pub budget: Option<Budget>,
    /// Values for resources that have none of their own.
    #[serde(default)]
    pub defaults: Defaults,
    /// The resources that can be read.
    pub resource: Vec<Resource>,
}

/// The names of an element.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `element.key` of a request, and the folder's name.
    pub key: String,
    /// The name for people.
    pub name: String,
    /// The hub under which Cloud Elements listed it.
    pub hub: String,
    /// Numbers under which Cloud Elements knew it, its own first.
    #[serde(default)]
    pub ids: Vec<u64>,
    /// A sentence about the vendor.
    #[serde(default)]
    pub description: String,
    /// The address of the vendor's manual.
    #[serde(default)]
    pub docs: String,
}
