//! JSON from users, read strictly: what serde_json lets pass is refused too, and every problem says where it is.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::limits;

/// The limits of what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest text, in bytes.
    pub bytes: usize,
    /// Most lists and objects inside each other; serde_json stops at 127 in any case.
    pub depth: usize,
}

impl Default for Limits {
    /// Those of a request's body.
    fn default() -> Self {
        Self { bytes: limits::BODY_BYTES, depth: limits::JSON_DEPTH }
    }
}

/// The bytes are not the JSON that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {expected}")]
pub struct JsonProblem {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
    /// The mistake there, and what was expected.
    pub expected: String,
}

/// Reads one JSON value and nothing after it. Refused: bytes that are no UTF-8, a key that an object has twice,
/// numbers that do not fit a double, and what the limits exclude.
///
/// # Errors
/// The first problem, with its place.
pub fn parse_strict(bytes: &[u8], limits: Limits) -> Result<Value, JsonProblem> {
    if bytes.len() > limits.bytes {
        let expected = format!("at most {} bytes, found {}", limits.bytes, bytes.len());
        return Err(JsonProblem { line: 1, column: 1, expected });
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
        JsonProblem {
            line: before.iter().filter(|b| **b == b'\n').count() + 1,
            column: before.len() - line_start + 1,
            expected: "expected UTF-8 text".to_owned(),
        }
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth_left: limits.depth, depth: limits.depth }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| describe(&error))
}

/// serde_json's message, in words of what would be right.
fn describe(error: &serde_json::Error) -> JsonProblem {
    let whole = error.to_string();
    let message = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(message, _)| message);
    let expected = match message {
        "trailing comma" => "expected another entry after the comma, or no comma before the closing bracket",
        "expected `,` or `}`" => "expected a comma and the next \"key\": value, or }",
        "expected `,` or `]`" => "expected a comma and the next value, or ]",
        "expected value" => "expected a value: \"text\", a number, true, false, null, {…} or […]",
        "key must be a string" => "expected a key in double quotes",
        "expected `:`" => "expected a colon between key and value",
        "trailing characters" => "expected the end, found more after the value",
        "EOF while parsing a value" => "expected a value, found the end of the text",
        "EOF while parsing an object" => "expected }, found the end of the text",
        "EOF while parsing a list" => "expected ], found the end of the text",
        "EOF while parsing a string" => "expected the closing \", found the end of the text",
        "number out of range" => "expected a number that fits a 64-bit float",
        other => other,
    };
    JsonProblem { line: error.line(), column: error.column().max(1), expected: expected.to_owned() }
}

/// Reads any value, counting how deep it is.
#[derive(Clone, Copy)]
struct Strict {
    depth_left: usize,
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let too_deep =
            || E::custom(format_args!("expected at most {} lists and objects inside each other", self.depth));
        self.depth_left.checked_sub(1).map(|depth_left| Self { depth_left, ..self }).ok_or_else(too_deep)
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(value) = access.next_element_seed(inner)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut seen = BTreeSet::new();
        let mut object = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if !seen.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("expected every key once, found {key:?} again")));
            }
            object.insert(key, access.next_value_seed(inner)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 200, depth: 4 };

    #[track_caller]
    fn check(text: impl AsRef<[u8]>, problem: &str) {
        let found = parse_strict(text.as_ref(), LIMITS).expect_err("not strict JSON").to_string();
        assert_eq!(found, problem);
    }

    #[test]
    fn json_is_read() {
        let text = r#" {"a":[1,-2,1.5,true,null,"\u00e9"],"b":{"c":{"d":{}}}} "#;
        let value = json!({"a": [1, -2, 1.5, true, null, "é"], "b": {"c": {"d": {}}}});
        assert_eq!(parse_strict(text.as_bytes(), LIMITS), Ok(value));
    }

    #[test]
    fn problems_have_a_place_and_say_what_is_expected() {
        check(
            "{\n\"a\": 1,\n}",
            "line 3, column 1: expected another entry after the comma, or no comma before the closing bracket",
        );
        check(
            "{\"code\": \"xxx\"\n\"token\": \"x\"}",
            "line 2, column 1: expected a comma and the next \"key\": value, or }",
        );
        check("[1 2]", "line 1, column 4: expected a comma and the next value, or ]");
        check("{a:1}", "line 1, column 2: expected a key in double quotes");
        check("", "line 1, column 1: expected a value, found the end of the text");
        check("{} x", "line 1, column 4: expected the end, found more after the value");
        check("{\"a\":1,\n \"a\":2}", "line 2, column 4: expected every key once, found \"a\" again");
        check("[1e999]", "line 1, column 6: expected a number that fits a 64-bit float");
        check("[[[[[]]]]]", "line 1, column 6: expected at most 4 lists and objects inside each other");
        check(b"{\"a\":\n\"\xff\"}", "line 2, column 2: expected UTF-8 text");
        check("1".repeat(201), "line 1, column 1: at most 200 bytes, found 201");
        assert!(parse_strict("1".repeat(200).as_bytes(), LIMITS).is_ok());
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json_on_what_both_take(text in "[\\[\\]{}\",:0-9a-e.+ -]{0,30}") {
            let lenient = serde_json::from_str::<Value>(&text);
            match parse_strict(text.as_bytes(), Limits { bytes: 30, depth: 32 }) {
                Ok(value) => prop_assert_eq!(Some(value), lenient.ok()),
                Err(problem) => prop_assert!(lenient.is_err() || problem.expected.contains("every key once")),
            }
        }
    }
}
