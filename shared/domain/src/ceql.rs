//! CEQL, the query language of `where=`: `AND`, `OR`, comparisons, `LIKE`, `IN`, `IS NULL`, brackets.
//!
//! What is read, and more than the documented grammar: `IS NOT NULL`, `<>` for `!=`, keywords in any case, and values
//! without quotes, which end at a space, a comma or a bracket (`mdate>=2017-02-28T16:11:29-06:00`).
//! Text is in single quotes, a quote inside is doubled. An attribute with odd characters goes in backticks.
//! `AND` binds stronger than `OR`.

use std::fmt;

use serde_json::Value as Json;

/// Longest expression, in bytes.
const LONGEST: usize = 8192;
/// Brackets inside brackets.
const DEEPEST: usize = 32;

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
    /// How it is compared.
    pub operator: Operator,
    /// As many as the operator has: none for `IS NULL` and `IS NOT NULL`, one or more for `IN`, else one.
    pub values: Vec<Value<T>>,
}

/// How an attribute is compared.
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

/// What an attribute is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value<T = String> {
    /// It stood in quotes: a text, whatever it looks like.
    Quoted(T),
    /// It stood without quotes: a number, `true`, `false`, `null`, or a text such as a date.
    Bare(T),
}

/// The text is not CEQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: expected {expected}, found {found}")]
pub struct Problem {
    /// Where, in characters from 1.
    pub position: usize,
    /// What would have been right there.
    pub expected: &'static str,
    /// What is there.
    pub found: String,
}

/// Reads an expression.
///
/// # Errors
/// Where the text stops being CEQL, and what would go on.
pub fn parse(text: &str) -> Result<Expression, Problem> {
    Parser { text, at: 0, depth: 0, macros: false }.whole()
}

/// Reads an expression in which `${…}` inside a value is one piece, whatever quotes, spaces and brackets it holds.
pub(crate) fn parse_with_macros(text: &str) -> Result<Expression, Problem> {
    Parser { text, at: 0, depth: 0, macros: true }.whole()
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
    /// What it is in JSON: a bare number, `true`, `false` or `null` is that, all else is a string.
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
    /// As it is written.
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

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    macros: bool,
}

impl<'a> Parser<'a> {
    fn whole(mut self) -> Result<Expression, Problem> {
        if self.text.len() > LONGEST {
            return Err(Problem {
                position: LONGEST,
                expected: "the end: 8192 bytes are enough",
                found: "more".into(),
            });
        }
        let expression = self.any()?;
        self.skip_spaces();
        if self.rest().is_empty() { Ok(expression) } else { Err(self.problem("AND, OR or the end")) }
    }

    fn any(&mut self) -> Result<Expression, Problem> {
        self.list(
            "OR",
            Self::all,
            |expression| match expression {
                Expression::Or(parts) => Ok(parts),
                other => Err(other),
            },
            Expression::Or,
        )
    }

    fn all(&mut self) -> Result<Expression, Problem> {
        self.list(
            "AND",
            Self::one,
            |expression| match expression {
                Expression::And(parts) => Ok(parts),
                other => Err(other),
            },
            Expression::And,
        )
    }

    /// `part keyword part …`, nested lists of the same kind laid flat.
    fn list(
        &mut self,
        keyword: &str,
        part: fn(&mut Self) -> Result<Expression, Problem>,
        same_kind: fn(Expression) -> Result<Vec<Expression>, Expression>,
        make: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, Problem> {
        let mut parts = Vec::new();
        loop {
            match same_kind(part(self)?) {
                Ok(inner) => parts.extend(inner),
                Err(other) => parts.push(other),
            }
            if !self.keyword(keyword) {
                break;
            }
        }
        Ok(match parts.pop() {
            Some(only) if parts.is_empty() => only,
            last => {
                parts.extend(last);
                make(parts)
            }
        })
    }

    fn one(&mut self) -> Result<Expression, Problem> {
        if !self.symbol("(") {
            return self.comparison().map(Expression::Comparison);
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.problem("at most 32 brackets inside each other"));
        }
        let inner = self.any()?;
        self.depth -= 1;
        if self.symbol(")") { Ok(inner) } else { Err(self.problem("AND, OR or a closing bracket")) }
    }

    fn comparison(&mut self) -> Result<Comparison, Problem> {
        let attribute = self.attribute()?;
        let operator = self.operator()?;
        let values = match operator {
            Operator::IsNull | Operator::IsNotNull => Vec::new(),
            Operator::In => {
                if !self.symbol("(") {
                    return Err(self.problem("an opening bracket and values, as in ('a', 'b')"));
                }
                let mut values = vec![self.value()?];
                while self.symbol(",") {
                    values.push(self.value()?);
                }
                if !self.symbol(")") {
                    return Err(self.problem("a comma or a closing bracket"));
                }
                values
            }
            _ => vec![self.value()?],
        };
        Ok(Comparison { attribute, operator, values })
    }

    fn attribute(&mut self) -> Result<String, Problem> {
        const EXPECTED: &str = "the name of an attribute";
        self.skip_spaces();
        if self.rest().starts_with('`') {
            return match self.quoted('`', "the closing backtick")? {
                name if name.is_empty() => Err(self.problem(EXPECTED)),
                name => Ok(name),
            };
        }
        let name = self.take_while(is_plain);
        if name.is_empty() || is_keyword(name) {
            self.at -= name.len();
            return Err(self.problem(EXPECTED));
        }
        Ok(name.to_owned())
    }

    fn operator(&mut self) -> Result<Operator, Problem> {
        const SYMBOLS: [(&str, Operator); 7] = [
            ("!=", Operator::NotEqual),
            ("<>", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        if let Some((_, operator)) = SYMBOLS.iter().find(|(symbol, _)| self.symbol(symbol)) {
            return Ok(*operator);
        }
        if self.keyword("LIKE") {
            return Ok(Operator::Like);
        }
        if self.keyword("IN") {
            return Ok(Operator::In);
        }
        if self.keyword("IS") {
            let not = self.keyword("NOT");
            return match (self.keyword("NULL"), not) {
                (true, false) => Ok(Operator::IsNull),
                (true, true) => Ok(Operator::IsNotNull),
                (false, false) => Err(self.problem("NULL or NOT NULL")),
                (false, true) => Err(self.problem("NULL")),
            };
        }
        Err(self.problem("one of = != < > <= >= LIKE IN IS"))
    }

    fn value(&mut self) -> Result<Value, Problem> {
        self.skip_spaces();
        if self.rest().starts_with('\'') {
            return self.quoted('\'', "the closing quote").map(Value::Quoted);
        }
        let start = self.at;
        while let Some(c) = self.rest().chars().next() {
            match self.macro_length() {
                Some(length) => self.at += length,
                None if c.is_whitespace() || matches!(c, '(' | ')' | ',' | '\'' | '`' | '=' | '<' | '>' | '!') => break,
                None => self.at += c.len_utf8(),
            }
        }
        match &self.text[start..self.at] {
            "" => Err(self.problem("a number or a text in single quotes")),
            bare => Ok(Value::Bare(bare.to_owned())),
        }
    }

    /// A text between two `quote`s, in which a doubled one stands for itself.
    fn quoted(&mut self, quote: char, expected: &'static str) -> Result<String, Problem> {
        let mut text = String::new();
        self.at += quote.len_utf8();
        while let Some(c) = self.rest().chars().next() {
            if let Some(length) = self.macro_length() {
                text.push_str(&self.rest()[..length]);
                self.at += length;
                continue;
            }
            self.at += c.len_utf8();
            if c == quote {
                if !self.rest().starts_with(quote) {
                    return Ok(text);
                }
                self.at += quote.len_utf8();
            }
            text.push(c);
        }
        Err(self.problem(expected))
    }

    /// Length of the macro that begins here.
    fn macro_length(&self) -> Option<usize> {
        let inside = self.macros && self.rest().starts_with("${");
        if inside { self.rest().find('}').map(|end| end + 1) } else { None }
    }

    fn keyword(&mut self, keyword: &str) -> bool {
        self.skip_spaces();
        let word = self.rest().split(|c: char| !is_plain(c)).next().unwrap_or_default();
        let found = word.eq_ignore_ascii_case(keyword);
        if found {
            self.at += word.len();
        }
        found
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn skip_spaces(&mut self) {
        self.take_while(char::is_whitespace);
    }

    fn take_while(&mut self, wanted: fn(char) -> bool) -> &'a str {
        let rest = &self.text[self.at..];
        let taken = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += taken;
        &rest[..taken]
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn problem(&mut self, expected: &'static str) -> Problem {
        self.skip_spaces();
        let found = match self.rest().chars().take(20).collect::<String>() {
            rest if rest.is_empty() => "the end".to_owned(),
            rest => format!("\"{rest}\""),
        };
        Problem { position: self.text[..self.at].chars().count() + 1, expected, found }
    }
}

/// May stand in an attribute's name without backticks.
fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '$' | '#' | ':' | '/' | '[' | ']')
}

fn is_keyword(word: &str) -> bool {
    ["AND", "OR", "LIKE", "IN", "IS", "NOT", "NULL"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, canonical: &str) {
        assert_eq!(parse(text).map(|expression| expression.to_string()).as_deref(), Ok(canonical), "{text}");
        assert_eq!(parse(canonical), parse(text), "the canonical form says the same");
    }

    #[track_caller]
    fn check_refused(text: &str, problem: &str) {
        assert_eq!(parse(text).expect_err("not CEQL").to_string(), problem, "{text}");
    }

    #[test]
    fn documented_forms_are_read() {
        check("LastModifyDate>'2026-08-01T10:00:00Z'", "LastModifyDate > '2026-08-01T10:00:00Z'");
        check("updated_date__gte='2026-08-01T10:00:00.000'", "updated_date__gte = '2026-08-01T10:00:00.000'");
        check("update_time >= '2026-08-01 10:00:00'", "update_time >= '2026-08-01 10:00:00'");
        check("mdate>=2017-02-28T16:11:29-06:00", "mdate >= 2017-02-28T16:11:29-06:00");
        check("`metaData.lastUpdateTime` > 'x'", "metaData.lastUpdateTime > 'x'");
        check("properties.a.b = 1", "properties.a.b = 1");
        check(
            "channel='webhook' and status='queued' and config.url='https://example.com/?a=b&c'",
            "channel = 'webhook' AND status = 'queued' AND config.url = 'https://example.com/?a=b&c'",
        );
        check("a=1 or b=2 and c=3", "a = 1 OR (b = 2 AND c = 3)");
        check("(a=1 or b=2) and (c=3 and d=4)", "(a = 1 OR b = 2) AND c = 3 AND d = 4");
        check("((a=1))", "a = 1");
        check("name like '%O''Neil%'", "name LIKE '%O''Neil%'");
        check("id in (1,'2' , -3.5)", "id IN (1, '2', -3.5)");
        check("id In('x')", "id IN ('x')");
        check("a is null OR b IS not NULL", "a IS NULL OR b IS NOT NULL");
        check("a <> true AND `or``der`!=''", "a != true AND `or``der` != ''");
        check("`and`=1", "`and` = 1");
        check("name='日本' ", "name = '日本'");
    }

    #[test]
    fn problems_say_where_and_what_would_go_on() {
        check_refused("", "at character 1: expected the name of an attribute, found the end");
        check_refused("a", "at character 2: expected one of = != < > <= >= LIKE IN IS, found the end");
        check_refused("a = ", "at character 5: expected a number or a text in single quotes, found the end");
        check_refused("ä = 'x", "at character 7: expected the closing quote, found the end");
        check_refused("a=1 b=2", "at character 5: expected AND, OR or the end, found \"b=2\"");
        check_refused("d>2017-02-28 16:11", "at character 14: expected AND, OR or the end, found \"16:11\"");
        check_refused("(a=1", "at character 5: expected AND, OR or a closing bracket, found the end");
        check_refused("a=1)", "at character 4: expected AND, OR or the end, found \")\"");
        check_refused("a is 1", "at character 6: expected NULL or NOT NULL, found \"1\"");
        check_refused("and=1", "at character 1: expected the name of an attribute, found \"and=1\"");
        check_refused(
            "a in 1",
            "at character 6: expected an opening bracket and values, as in ('a', 'b'), found \"1\"",
        );
        check_refused("a==1", "at character 3: expected a number or a text in single quotes, found \"=1\"");
        check_refused("a=1 and", "at character 8: expected the name of an attribute, found the end");
        assert!(parse(&"(".repeat(5000)).expect_err("too deep").expected.contains("32"));
        assert!(parse(&"a".repeat(9000)).expect_err("too long").expected.contains("8192"));
        let nested = |depth| format!("{}a=1{}", "(".repeat(depth), ")".repeat(depth));
        assert!(parse(&nested(32)).is_ok());
        assert!(parse(&nested(33)).is_err());
        let long = |length: usize| format!("a={}", "1".repeat(length - 2));
        assert!(parse(&long(8192)).is_ok());
        assert!(parse(&long(8193)).is_err());
        check_refused("``=1", "at character 3: expected the name of an attribute, found \"=1\"");
    }

    #[test]
    fn bare_values_keep_their_kind() {
        let json = |text: &str| parse(text).map(|e| e.comparisons()[0].values[0].to_json()).expect("CEQL");
        assert_eq!(json("a=1"), serde_json::json!(1));
        assert_eq!(json("a=-1.5"), serde_json::json!(-1.5));
        assert_eq!(json("a=True"), serde_json::json!(true));
        assert_eq!(json("a=FALSE"), serde_json::json!(false));
        assert_eq!(json("a=null"), Json::Null);
        assert_eq!(json("a='1'"), serde_json::json!("1"));
        assert_eq!(json("a=2017-02-28"), serde_json::json!("2017-02-28"));
    }

    #[test]
    fn conjunctions_are_lists() {
        let attributes = |text: &str| {
            let expression = parse(text).expect("CEQL");
            let all =
                expression.all_of().map(|all| all.iter().map(|c| c.attribute.clone()).collect::<Vec<_>>().concat());
            (all, expression.comparisons().len())
        };
        assert_eq!(attributes("a=1 and (b=1 and c=1)"), (Some("abc".into()), 3));
        assert_eq!(attributes("a=1 and (b=1 or c=1)"), (None, 3));
    }

    #[test]
    fn one_condition_that_is_left_is_no_list() {
        let left = |text: &str, keep: &[&str]| {
            let expression = parse(text).expect("CEQL");
            expression.filter_map(&|value: &String| keep.contains(&value.as_str()).then(|| value.clone()))
        };
        assert_eq!(left("a=1 and b=2", &["1"]), parse("a=1").ok());
        assert_eq!(left("a=1 and b=2 and c=3", &["1", "3"]), parse("a=1 and c=3").ok());
        assert_eq!(left("a=1 and b=2", &[]), None);
        assert_eq!(left("a=1 or b=2", &["1"]), None);
    }

    #[test]
    fn a_macro_is_one_piece_only_where_it_is_asked_for() {
        let text = "a>'${date:yyyy-MM-dd'T'HH:mm}' and b=${epoch:s}";
        assert!(parse(text).is_err());
        let expression = parse_with_macros(text).expect("CEQL");
        let values = expression.comparisons().iter().map(|c| c.values[0].clone()).collect::<Vec<_>>();
        assert_eq!(
            values,
            [Value::Quoted("${date:yyyy-MM-dd'T'HH:mm}".to_owned()), Value::Bare("${epoch:s}".to_owned())]
        );
    }

    fn expressions() -> impl Strategy<Value = Expression> {
        let bare = "[-A-Za-z0-9_.:+%]{1,12}".prop_map(Value::Bare);
        let value = prop_oneof!["\\PC{0,12}".prop_map(Value::Quoted), bare];
        let simple = prop::sample::select(vec![
            Operator::Equal,
            Operator::NotEqual,
            Operator::Less,
            Operator::Greater,
            Operator::LessOrEqual,
            Operator::GreaterOrEqual,
            Operator::Like,
        ]);
        let null = prop::sample::select(vec![Operator::IsNull, Operator::IsNotNull]);
        let right = prop_oneof![
            (simple, value.clone()).prop_map(|(operator, value)| (operator, vec![value])),
            prop::collection::vec(value, 1..4).prop_map(|values| (Operator::In, values)),
            null.prop_map(|operator| (operator, Vec::new())),
        ];
        let attribute = prop_oneof!["[a-z.@]{1,8}", "\\PC{1,8}", "and|OR|In|is|null"];
        let comparison = (attribute, right).prop_map(|(attribute, (operator, values))| {
            Expression::Comparison(Comparison { attribute, operator, values })
        });
        comparison.prop_recursive(4, 24, 3, |inner| {
            let list = prop::collection::vec(inner, 2..4);
            (any::<bool>(), list).prop_map(|(and, parts)| {
                let flat = parts.into_iter().flat_map(|part| match part {
                    Expression::And(inner) if and => inner,
                    Expression::Or(inner) if !and => inner,
                    other => vec![other],
                });
                if and { Expression::And(flat.collect()) } else { Expression::Or(flat.collect()) }
            })
        })
    }

    proptest! {
        #[test]
        fn what_was_shown_is_read_again(expression in expressions()) {
            prop_assert_eq!(parse(&expression.to_string()), Ok(expression));
        }

        #[test]
        fn no_text_makes_reading_panic(text in "\\PC{0,40}|[a-c =<>!'`()$\\{}%,1ANDORINLIKE]{0,40}") {
            let _ = parse(&text);
            let _ = parse_with_macros(&text);
        }
    }
}
