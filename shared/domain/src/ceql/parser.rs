//! The parser of CEQL: one function per rule of the grammar.

use super::{Comparison, Expression, Operator, Problem, Value};

/// Longest expression, in bytes.
const LONGEST: usize = 8192;
/// Most brackets inside each other.
const DEEPEST: usize = 32;

/// A text and the place that parsing has come to.
pub(super) struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    macros: bool,
}

impl<'a> Parser<'a> {
    /// A parser at the start of a text. `macros`: `${…}` inside a value is one piece.
    pub(super) fn new(text: &'a str, macros: bool) -> Self {
        Self { text, at: 0, depth: 0, macros }
    }

    /// The whole text as one expression.
    pub(super) fn whole(mut self) -> Result<Expression, Problem> {
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

/// True: the character may stand in an attribute's name without backticks.
pub(super) fn is_plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '@' | '$' | '#' | ':' | '/' | '[' | ']')
}

/// True: the word is one of the language.
pub(super) fn is_keyword(word: &str) -> bool {
    ["AND", "OR", "LIKE", "IN", "IS", "NOT", "NULL"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword))
}
