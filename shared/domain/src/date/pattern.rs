//! Splits a date pattern into tokens, and settles what depends on a token's neighbours.

/// Longest pattern, in bytes; the longest documented one has 29.
pub(super) const LONGEST_PATTERN: usize = 100;

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// A number of units since 1970; the field is the length of a unit in nanoseconds.
    Epoch(i128),
    Letters {
        tokens: Vec<Token>,
        /// An offset may follow the last token: there is a time of day, and no offset of its own.
        may_end_in_offset: bool,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Token {
    Literal(Box<str>),
    /// `fixed_width`: digits follow at once, so only the width separates this number from the next.
    Number {
        field: Field,
        width: usize,
        fixed_width: bool,
    },
    /// `mark`: the point or comma before it, which comes and goes with the digits.
    Fraction {
        mark: Option<char>,
        width: usize,
    },
    MonthName {
        long: bool,
    },
    WeekdayName {
        long: bool,
    },
    AmPm,
    ZoneName,
    Offset(OffsetStyle),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    WeekdayNumber,
    /// 0 to 23.
    Hour,
    /// 1 to 24.
    Hour1To24,
    /// 1 to 12.
    Hour1To12,
    /// 0 to 11.
    Hour0To11,
    Minute,
    Second,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OffsetStyle {
    /// `Z`: `+0000`.
    Plain,
    /// `X`: `-08`, with minutes only where they are not zero; `Z` for zero.
    Hours,
    /// `XX`: `-0800` or `Z`.
    Short,
    /// `XXX`: `-08:00` or `Z`.
    Colon,
}

/// A text that is not a date pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    /// There is nothing in it.
    #[error("a pattern like yyyy-MM-dd'T'HH:mm:ssXXX, or the word milliseconds")]
    Empty,
    /// More than 100 bytes.
    #[error("a pattern of at most {LONGEST_PATTERN} bytes")]
    TooLong,
    /// A letter without a meaning here.
    #[error(
        "a pattern of the letters y M d D E u a H h k K m s S z Z X; \"{letter}\" at character {position} is none: \
         letters that stand for themselves go in single quotes, like 'T'{hint}"
    )]
    UnknownLetter {
        /// The letter.
        letter: char,
        /// Place of the letter, from 1.
        position: usize,
        /// A sentence more where the mistake is a common one.
        hint: &'static str,
    },
    /// A letter repeated too often.
    #[error("at most {most} times \"{letter}\" in a row")]
    TooWide {
        /// The letter.
        letter: char,
        /// The most times that it may stand in a row.
        most: usize,
    },
}

impl Form {
    /// Parses a pattern that is neither empty nor too long. Oddities are added to `warnings`.
    pub(super) fn parse(text: &str, warnings: &mut Vec<String>) -> Result<Self, PatternProblem> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "milliseconds" | "epoch" | "epoch:ms" => Form::Epoch(1_000_000),
            "epoch:s" => Form::Epoch(1_000_000_000),
            "epoch:us" => Form::Epoch(1_000),
            _ => {
                let tokens = link(tokenize(text, warnings)?, warnings);
                let has_hour = tokens.iter().any(Token::is_hour);
                let has_offset = tokens.iter().any(|token| matches!(token, Token::Offset(_) | Token::ZoneName));
                Form::Letters { tokens, may_end_in_offset: has_hour && !has_offset }
            }
        })
    }
}

impl Token {
    fn is_hour(&self) -> bool {
        use Field::{Hour, Hour0To11, Hour1To12, Hour1To24};
        matches!(self, Token::Number { field: Hour | Hour1To24 | Hour1To12 | Hour0To11, .. })
    }
}

/// Splits a pattern into tokens; neighbouring literals are one.
fn tokenize(text: &str, warnings: &mut Vec<String>) -> Result<Vec<Token>, PatternProblem> {
    let chars = text.chars().collect::<Vec<_>>();
    let mut tokens = Vec::new();
    let mut literal = String::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        if c == '\'' {
            if chars.get(at + 1) == Some(&'\'') {
                literal.push('\'');
                at += 2;
                continue;
            }
            at += 1;
            let start = literal.len();
            loop {
                match (chars.get(at), chars.get(at + 1)) {
                    (Some('\''), Some('\'')) => {
                        literal.push('\'');
                        at += 2;
                    }
                    (Some('\''), _) => {
                        at += 1;
                        break;
                    }
                    (Some(c), _) => {
                        literal.push(*c);
                        at += 1;
                    }
                    (None, _) => {
                        let rest = &literal[start..];
                        warnings.push(match rest {
                            "" => format!("the single quote at the end of the pattern {text} is left out"),
                            _ => format!("the pattern {text} does not close the quote before {rest}; it ends there"),
                        });
                        break;
                    }
                }
            }
        } else if c.is_ascii_alphabetic() {
            let width = chars[at..].iter().take_while(|next| **next == c).count();
            if !literal.is_empty() {
                tokens.push(Token::Literal(std::mem::take(&mut literal).into()));
            }
            tokens.push(token(c, width, at + 1)?);
            at += width;
        } else {
            literal.push(c);
            at += 1;
        }
    }
    if !literal.is_empty() {
        tokens.push(Token::Literal(literal.into()));
    }
    Ok(tokens)
}

fn token(letter: char, width: usize, position: usize) -> Result<Token, PatternProblem> {
    let most = if letter == 'X' { 3 } else { 9 };
    if width > most {
        return Err(PatternProblem::TooWide { letter, most });
    }
    let number = |field| Token::Number { field, width, fixed_width: false };
    Ok(match letter {
        'y' => number(Field::Year),
        'M' if width >= 3 => Token::MonthName { long: width > 3 },
        'M' => number(Field::Month),
        'd' => number(Field::Day),
        'D' => number(Field::DayOfYear),
        'u' => number(Field::WeekdayNumber),
        'H' => number(Field::Hour),
        'k' => number(Field::Hour1To24),
        'h' => number(Field::Hour1To12),
        'K' => number(Field::Hour0To11),
        'm' => number(Field::Minute),
        's' => number(Field::Second),
        'S' => Token::Fraction { mark: None, width },
        'E' => Token::WeekdayName { long: width > 3 },
        'a' => Token::AmPm,
        'z' => Token::ZoneName,
        'Z' => Token::Offset(OffsetStyle::Plain),
        'X' => Token::Offset([OffsetStyle::Hours, OffsetStyle::Short, OffsetStyle::Colon][width - 1]),
        _ => {
            let hint = match letter {
                'Y' => " (the year is a small y; Y is the year of the week)",
                _ => "",
            };
            return Err(PatternProblem::UnknownLetter { letter, position, hint });
        }
    })
}

/// Settles what depends on a token's neighbours.
fn link(tokens: Vec<Token>, warnings: &mut Vec<String>) -> Vec<Token> {
    let uses_am_pm = tokens.contains(&Token::AmPm);
    let mut linked: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match token {
            Token::Fraction { width, .. } => {
                let mut mark = None;
                match linked.last_mut() {
                    Some(Token::Literal(before)) if before.ends_with(['.', ',']) => {
                        let mut rest = std::mem::take(before).into_string();
                        mark = rest.pop();
                        *before = rest.into();
                    }
                    Some(Token::Number { fixed_width, .. }) => *fixed_width = true,
                    _ => {}
                }
                if matches!(linked.last(), Some(Token::Literal(before)) if before.is_empty()) {
                    linked.pop();
                }
                linked.push(Token::Fraction { mark, width });
            }
            Token::Number { field, width, .. } => {
                if let Some(Token::Number { fixed_width, .. }) = linked.last_mut() {
                    *fixed_width = true;
                }
                let field = match field {
                    Field::Hour1To12 | Field::Hour0To11 if !uses_am_pm => {
                        warnings.push("h without a is read and written as the hours 0 to 23".to_owned());
                        Field::Hour
                    }
                    field => field,
                };
                linked.push(Token::Number { field, width, fixed_width: false });
            }
            other => linked.push(other),
        }
    }
    linked
}
