//! A request to the vendor, as a template.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::template::{BodyTemplate, Template};

/// A call to the vendor.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Call {
    /// `GET` or `POST`.
    #[serde(default)]
    pub method: Method,
    /// The name of the base URL: `api` by default.
    pub base: Option<String>,
    /// The path below the base; every placeholder is one segment.
    pub path: Template,
    /// The query; a list repeats the parameter.
    #[serde(default)]
    pub query: BTreeMap<String, QueryValue>,
    /// The JSON body.
    pub body: Option<BodyTemplate>,
}

/// `GET` or `POST`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Method {
    /// Reads by path and query.
    #[default]
    #[serde(rename = "GET")]
    Get,
    /// Reads by a query in the body.
    #[serde(rename = "POST")]
    Post,
}

/// One or more values of a query parameter.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "OneOrMany")]
#[schemars(with = "OneOrMany")]
pub struct QueryValue(pub Vec<Template>);

/// `"value"` or `["a", "b"]`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl TryFrom<OneOrMany> for QueryValue {
    type Error = String;

    fn try_from(read: OneOrMany) -> Result<Self, String> {
        let texts = match read {
            OneOrMany::One(text) => vec![text],
            OneOrMany::Many(texts) => texts,
        };
        texts.into_iter().map(Template::try_from).collect::<Result<_, _>>().map(Self)
    }
}
