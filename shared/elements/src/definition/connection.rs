//! The fields that a user fills in to connect an account, and the calls that check them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::call::Call;
use super::value_types::Pattern;
use crate::pointer::Pointer;

/// One field that a user fills in to connect.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionField {
    /// The label beside the input.
    pub label: String,
    /// A hint where the user finds the value.
    #[serde(default)]
    pub help: String,
    /// The account cannot be connected without it.
    #[serde(default)]
    pub required: bool,
    /// Another field; when that one is filled in, this one may be left out.
    #[serde(rename = "unless")]
    pub replaced_by: Option<String>,
    /// The value must never be shown.
    #[serde(default)]
    pub secret: bool,
    /// The value when none is given.
    pub default: Option<String>,
    /// The only values allowed.
    #[serde(default, rename = "enum")]
    pub options: Vec<String>,
    /// A pattern that the whole value must match.
    pub pattern: Option<Pattern>,
    /// The value is an https URL whose host ends in one of these (each starts with a dot) or equals one.
    #[serde(default)]
    pub host_suffix: Vec<String>,
    /// Configuration keys that give the value, in order of preference; error messages name the first.
    #[serde(rename = "ce_keys")]
    pub configuration_keys: Vec<String>,
}

/// Configuration keys that a printed manual mixes up. A value under the printed key is moved to the right key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SwappedKeys {
    /// A key that holds an http or https URL only if the user followed the manual.
    pub url_in: String,
    /// Maps each right key to the key that the manual prints for its value.
    pub keys: BTreeMap<String, String>,
}

/// A cheap call that proves the connection.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The call.
    pub call: Call,
    /// A value that the answer must have.
    pub expect: Option<Pointer>,
    /// Connection values read from the answer; with `*` all of them. A value given by the user is not overwritten.
    #[serde(default)]
    pub sets: BTreeMap<String, Pointer>,
    /// A refusal of this one call or an absent value is no failure; a refused login is.
    #[serde(default)]
    pub optional: bool,
}
