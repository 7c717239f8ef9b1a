//! The meaning of `where=` and `orderBy`, which users write in poll URLs and hub calls.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::pointer::Pointer;
use crate::template::Template;

/// The operators of `where=` that can be mapped.
const OPERATORS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

/// The meaning of an attribute of `where=`, for any operator that makes sense or operator by operator.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "TargetTexts")]
#[schemars(with = "TargetTexts")]
pub enum ConditionTargets {
    /// The same for every operator that makes sense for it.
    Any(ConditionTarget),
    /// Operator by operator.
    ByOperator(BTreeMap<String, ConditionTarget>),
}

/// `"target"` or `{ ">=" = "target" }`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum TargetTexts {
    Any(String),
    ByOperator(BTreeMap<String, String>),
}

impl TryFrom<TargetTexts> for ConditionTargets {
    type Error = String;

    fn try_from(read: TargetTexts) -> Result<Self, String> {
        match read {
            TargetTexts::Any(text) => ConditionTarget::try_from(text).map(ConditionTargets::Any),
            TargetTexts::ByOperator(texts) => texts
                .into_iter()
                .map(|(operator, text)| match OPERATORS.contains(&operator.as_str()) {
                    true => Ok((operator, ConditionTarget::try_from(text)?)),
                    false => Err(format!("`{operator}` is no operator; there are {}", OPERATORS.join(" "))),
                })
                .collect::<Result<_, _>>()
                .map(ConditionTargets::ByOperator),
        }
    }
}

/// The part of the vendor's request that a condition sets.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum ConditionTarget {
    /// `watermark`: the lower bound.
    Watermark,
    /// `upper`: the upper bound.
    Upper,
    /// `query:name`: a query parameter.
    Query(String),
    /// `body:/pointer`: a value in the body.
    Body(Pointer),
}

impl TryFrom<String> for ConditionTarget {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (text.as_str(), text.split_once(':')) {
            ("watermark", _) => Ok(Self::Watermark),
            ("upper", _) => Ok(Self::Upper),
            (_, Some(("query", name))) if !name.is_empty() => Ok(Self::Query(name.to_owned())),
            (_, Some(("body", pointer))) => Pointer::try_from(pointer.to_owned()).map(Self::Body),
            _ => Err(format!("`{text}` is none of `watermark`, `upper`, `query:name`, `body:/pointer`")),
        }
    }
}

/// The vendor's parameter for a user's `orderBy`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderBy {
    /// The query parameter.
    pub param: String,
    /// Its value for an ascending order, over `${field}`.
    pub asc: Template,
    /// Its value for a descending order, over `${field}`.
    pub desc: Template,
}
