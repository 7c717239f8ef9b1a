//! CEQL, the query language of `where=`: `AND`, `OR`, comparisons, `LIKE`, `IN`, `IS NULL`, brackets.
//!
//! What is parsed goes beyond the documented grammar: `IS NOT NULL`, `<>` for `!=`, keywords in any case, and values
//! without quotes, which end at a space, a comma or a bracket (`mdate>=2017-02-28T16:11:29-06:00`).
//! Text is in single quotes, a quote inside is doubled. An attribute with odd characters goes in backticks.
//! `AND` binds stronger than `OR`.

mod parser;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value as Json;

use self::parser::{Parser, is_keyword, is_plain};

/// A condition on records. `T` is what a value's text is: a `String`, or a template with macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression<T = String> {
    /// All hold. At least two, none of them an `And`.
    And(Vec<Expression<T>>),
    /// One holds. At least two, none of them an `Or`.
    Or(Vec<Expression<T>>),
    /// One attribute of the record.
    Comparison(Comparison<T>),
}

/// `attribute operator value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison<T = String> {
    /// Name of the attribute, dotted where it is nested, without backticks.
    pub attribute: String,
    /// The operator.
    pub operator: Operator,
    /// The values, as many as the operator takes: none for `IS NULL` and `IS NOT NULL`, one or more for `IN`, else one.
    pub values: Vec<Value<T>>,
}

/// An operator between an attribute and its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=` or `<>`
    NotEqual,
    /// `<`
    Less,
    /// `>`
    Greater,
    /// `<=`
    LessOrEqual,
    /// `>=`
    GreaterOrEqual,
    /// `LIKE`, with `%` for any text
    Like,
    /// `IN (…)`
    In,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

/// A value that an attribute is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<T = String> {
    /// A value in quotes: always a text.
    Quoted(T),
    /// A value without quotes: a number, `true`, `false`, `null`, or a text such as a date.
    Bare(T),
}

/// A text that is not CEQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: expected {expected}, found {found}")]
pub struct Problem {
    /// The place, in characters from 1.
    pub position: usize,
    /// The part that was expected there.
    pub expected: &'static str,
    /// The text that is there.
    pub found: String,
}

/// Parses an expression.
///
/// # Errors
/// The text is not CEQL; the problem says where and what was expected.
pub fn parse(text: &str) -> Result<Expression, Problem> {
    Parser::new(text, false).whole()
}

/// Parses an expression in which `${…}` inside a value is one piece, with all quotes, spaces and brackets in it.
pub(crate) fn parse_with_macros(text: &str) -> Result<Expression, Problem> {
    Parser::new(text, true).whole()
}

impl<T> Expression<T> {
    /// Every comparison, from left to right.
    pub fn comparisons(&self) -> Vec<&Comparison<T>> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::comparisons).collect(),
            Self::Comparison(comparison) => vec![comparison],
        }
    }

    /// The comparisons that must all hold, if the expression has no `OR`.
    pub fn all_of(&self) -> Option<Vec<&Comparison<T>>> {
        match self {
            Self::Comparison(comparison) => Some(vec![comparison]),
            Self::Or(_) => None,
            Self::And(parts) => parts
                .iter()
                .map(Self::all_of)
                .collect::<Option<Vec<_>>>()
                .map(|lists| lists.into_iter().flatten().collect()),
        }
    }

    /// The same expression with every value's text changed.
    pub(crate) fn try_map<U, E>(self, change: &mut impl FnMut(T) -> Result<U, E>) -> Result<Expression<U>, E> {
        Ok(match self {
            Self::And(parts) => {
                Expression::And(parts.into_iter().map(|part| part.try_map(change)).collect::<Result<_, E>>()?)
            }
            Self::Or(parts) => {
                Expression::Or(parts.into_iter().map(|part| part.try_map(change)).collect::<Result<_, E>>()?)
            }
            Self::Comparison(Comparison { attribute, operator, values }) => {
                let values = values.into_iter().map(|value| match value {
                    Value::Quoted(text) => change(text).map(Value::Quoted),
                    Value::Bare(text) => change(text).map(Value::Bare),
                });
                Expression::Comparison(Comparison { attribute, operator, values: values.collect::<Result<_, E>>()? })
            }
        })
    }

    /// The expression without the comparisons for which `change` has no text: they count as true, so an `AND` goes on
    /// without them and an `OR` goes with them. None when nothing is left to ask.
    pub(crate) fn filter_map<U>(&self, change: &impl Fn(&T) -> Option<U>) -> Option<Expression<U>> {
        match self {
            Self::And(parts) => {
                let mut left = parts.iter().filter_map(|part| part.filter_map(change)).collect::<Vec<_>>();
                if left.len() > 1 { Some(Expression::And(left)) } else { left.pop() }
            }
            Self::Or(parts) => {
                parts.iter().map(|part| part.filter_map(change)).collect::<Option<_>>().map(Expression::Or)
            }
            Self::Comparison(comparison) => {
                let values = comparison.values.iter().map(|value| match value {
                    Value::Quoted(text) => change(text).map(Value::Quoted),
                    Value::Bare(text) => change(text).map(Value::Bare),
                });
                Some(Expression::Comparison(Comparison {
                    attribute: comparison.attribute.clone(),
                    operator: comparison.operator,
                    values: values.collect::<Option<_>>()?,
                }))
            }
        }
    }
}

impl<T> Value<T> {
    /// The text, whether or not it stood in quotes.
    pub fn text(&self) -> &T {
        match self {
            Self::Quoted(text) | Self::Bare(text) => text,
        }
    }
}

impl Value {
    /// The value in JSON: a bare number, `true`, `false` or `null` is that, all else is a string.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Quoted(text) => Json::String(text.clone()),
            Self::Bare(text) => match text.to_ascii_lowercase().as_str() {
                "true" => Json::Bool(true),
                "false" => Json::Bool(false),
                "null" => Json::Null,
                _ => text.parse().map_or_else(|_| Json::String(text.clone()), Json::Number),
            },
        }
    }
}

impl Operator {
    /// The operator as CEQL writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::Greater => ">",
            Self::LessOrEqual => "<=",
            Self::GreaterOrEqual => ">=",
            Self::Like => "LIKE",
            Self::In => "IN",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }
}

impl<T: fmt::Display> fmt::Display for Expression<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, keyword) = match self {
            Self::Comparison(comparison) => return comparison.fmt(f),
            Self::And(parts) => (parts, " AND "),
            Self::Or(parts) => (parts, " OR "),
        };
        for (index, part) in parts.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { keyword })?;
            match part {
                Self::Comparison(comparison) => comparison.fmt(f)?,
                nested => write!(f, "({nested})")?,
            }
        }
        Ok(())
    }
}

impl<T: fmt::Display> fmt::Display for Comparison<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.attribute.chars().all(is_plain) && !is_keyword(&self.attribute) {
            f.write_str(&self.attribute)?;
        } else {
            write!(f, "`{}`", self.attribute.replace('`', "``"))?;
        }
        write!(f, " {}", self.operator)?;
        match self.values.as_slice() {
            [] => Ok(()),
            [value] if self.operator != Operator::In => write!(f, " {value}"),
            values => {
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index == 0 { " (" } else { ", " })?;
                }
                f.write_str(")")
            }
        }
    }
}

impl<T: fmt::Display> fmt::Display for Value<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quoted(text) => write!(f, "'{}'", text.to_string().replace('\'', "''")),
            Self::Bare(text) => text.fmt(f),
        }
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
