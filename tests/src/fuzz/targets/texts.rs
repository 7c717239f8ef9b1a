//! Targets that read a text: CEQL, poll URLs, date patterns, element files and `Retry-After`.

use chrono::{DateTime, TimeDelta, Utc};
use domain::ceql::{self, Expression};
use domain::configuration::FailurePolicy;
use domain::date::DatePattern;
use domain::poll_url::{MacroTimes, PollUrl};
use domain::retry_schedule::{self, AttemptOutcome, Verdict};
use domain::zone::Zone;
use elements::catalog;

use super::{SEEDED, now, sort_of};
use crate::fuzz::Target;
use crate::harness::seed;

/// An expression that was read can be written and read again, with the same meaning.
pub(super) fn ceql_text() -> Target {
    let run = |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match ceql::parse(text) {
            Ok(expression) => {
                let written = written(&expression);
                let again = ceql::parse(&written).unwrap_or_else(|problem| panic!("{written:?}: {problem}"));
                assert_eq!(again, expression, "{written:?}");
                let count = expression.comparisons().len();
                assert!(count >= 1);
                format!("read {count} {}", expression.all_of().is_some())
            }
            Err(problem) => {
                assert!((1..=text.chars().count() + 1).contains(&problem.position), "{problem} in {text:?}");
                sort_of(problem.expected)
            }
        }
    };
    Target {
        name: "ceql",
        usual: 20_000,
        words: &[
            " AND ",
            " or ",
            "(",
            ")",
            "=",
            "<>",
            "<=",
            "'",
            "\"",
            "`",
            " LIKE ",
            " IN (",
            " IS NOT NULL",
            " IS NULL",
            ",",
            "a.b",
            "2026-01-05T09:00:00Z",
            "\\'",
            "''",
            "NOT ",
            "null",
        ],
        seeds: Vec::new(),
        run: Box::new(run),
    }
}

fn written(expression: &Expression) -> String {
    let joined = |all: &[Expression], word: &str| {
        all.iter().map(|one| format!("({})", written(one))).collect::<Vec<_>>().join(word)
    };
    match expression {
        Expression::And(all) => joined(all, " AND "),
        Expression::Or(all) => joined(all, " OR "),
        Expression::Comparison(comparison) => {
            let values: Vec<String> = comparison
                .values
                .iter()
                .map(|value| match value {
                    ceql::Value::Quoted(text) => format!("'{}'", text.replace('\'', "''")),
                    ceql::Value::Bare(text) => text.clone(),
                })
                .collect();
            let values = match comparison.operator {
                ceql::Operator::In => format!("({})", values.join(",")),
                _ => values.join(","),
            };
            format!("`{}` {} {values}", comparison.attribute.replace('`', "``"), comparison.operator)
        }
    }
}

/// A URL that was read is read again from its stored form, and accepts any times.
pub(super) fn poll_url() -> Target {
    let run = |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match PollUrl::parse(text) {
            Ok((url, warnings)) => {
                let (again, _) = PollUrl::parse(url.as_str()).expect("what is stored is read again");
                assert_eq!(again, url);
                for since in [None, Some(now() - TimeDelta::days(1)), Some(DateTime::<Utc>::UNIX_EPOCH)] {
                    let expanded = url.expand(&MacroTimes { since, now: now() });
                    assert_eq!(expanded.path, url.path());
                    assert!(expanded.query.len() <= url.query().len());
                }
                format!("read {} {} {}", warnings.len(), url.where_clause().is_some(), url.query().len())
            }
            Err(problem) => sort_of(&problem.to_string()),
        }
    };
    Target {
        name: "poll_url",
        usual: 10_000,
        words: &[
            "/hubs/",
            "?where=",
            "${date:",
            "${gmtDate:",
            "${",
            "}",
            "yyyy-MM-dd'T'HH:mm:ssXXX",
            "&orderBy=",
            "{id}",
            "'",
            "=",
            "%27",
            "currentDate",
            "now",
            "yyyy",
            ">=",
            " AND ",
            "&",
            "#",
            "+",
        ],
        seeds: SEEDED
            .iter()
            .flat_map(|element| {
                let body = seed(element);
                let resources = body["configuration"]["event.poller.configuration"].as_object().cloned();
                let urls =
                    resources.unwrap_or_default().into_iter().filter_map(|(_, one)| Some(one["url"].as_str()?.into()));
                urls.collect::<Vec<Vec<u8>>>()
            })
            .collect(),
        run: Box::new(run),
    }
}

/// The input is a line with a pattern and a line with a date. A pattern reads its own output, and writes it again the
/// same.
pub(super) fn date_pattern() -> Target {
    let zones = ["GMT", "PST", "Europe/Berlin"].map(|name| Zone::parse(name).expect("a zone"));
    let instants = ["2026-01-05T09:00:00Z", "2000-02-29T23:59:59.999Z", "2026-10-25T00:30:00Z", "2001-09-09T01:46:40Z"]
        .map(|text| text.parse::<DateTime<Utc>>().expect("an instant"));
    let run = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let (pattern, date) = text.split_once('\n').unwrap_or((text, "2026-01-05T09:00:00Z"));
        let compiled = match DatePattern::parse(pattern) {
            Ok(compiled) => compiled,
            Err(problem) => return sort_of(&problem.to_string()),
        };
        assert_eq!(DatePattern::parse(compiled.as_str()).expect("what is stored is read again"), compiled);
        let mut reads = 0;
        for zone in &zones {
            for instant in instants {
                let once = compiled.format(instant, zone);
                // A pattern may lack fields that reading needs. Then it reports that.
                if let Ok(read) = compiled.parse_date(&once, zone) {
                    reads += 1;
                    if !is_whole(pattern) || is_ambiguous(pattern) {
                        continue;
                    }
                    assert_eq!(compiled.format(read, zone), once, "{pattern:?} in {zone}");
                }
            }
            let _ = compiled.parse_date(date, zone);
        }
        format!(
            "{reads} {}",
            compiled.parse_date(date, &zones[0]).map_or_else(|it| sort_of(&it.to_string()), |_| "read".into())
        )
    };
    Target {
        name: "date_pattern",
        usual: 4_000,
        words: &[
            "yyyy",
            "yy",
            "MM",
            "MMM",
            "dd",
            "d",
            "HH",
            "hh",
            "mm",
            "ss",
            "SSS",
            "a",
            "z",
            "Z",
            "XXX",
            "X",
            "EEE",
            "'T'",
            "''",
            "\n",
            "DDD",
            "ww",
            "K",
            "k",
            "G",
            "2026-01-05",
            "T09:00:00Z",
            "+0100",
        ],
        seeds: Vec::new(),
        run: Box::new(run),
    }
}

/// Answers true if a pattern names a full day, and an hour with each half of the day. All other fields follow from these.
fn is_whole(pattern: &str) -> bool {
    let unquoted: String = pattern.split('\'').step_by(2).collect();
    let half_of_day = !unquoted.contains('a') || unquoted.contains(['h', 'K']);
    half_of_day && ["yyy", "M", "d"].iter().all(|field| unquoted.contains(field))
}

/// Answers true if two fields follow each other without a separator, as in `1125`, or if a
/// field stands there twice, and may say two things.
fn is_ambiguous(pattern: &str) -> bool {
    let (mut quoted, mut before, mut seen) = (false, ' ', String::new());
    for letter in pattern.chars() {
        quoted ^= letter == '\'';
        if !quoted && letter.is_ascii_alphabetic() && letter != before {
            if before.is_ascii_alphabetic() || seen.contains(letter) {
                return true;
            }
            seen.push(letter);
        }
        before = if quoted { ' ' } else { letter };
    }
    false
}

/// An element file is read, or the first problem has a line of the file.
pub(super) fn element_file() -> Target {
    let file = std::path::Path::new("element.toml");
    let run = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        match catalog::read(file, text) {
            Ok(element) => {
                assert!(!element.key.is_empty());
                format!("read {}", element.resources.len())
            }
            Err(problem) => {
                let lines = text.bytes().filter(|byte| *byte == b'\n').count() + 1;
                assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
                sort_of(&problem.message)
            }
        }
    };
    Target {
        name: "element_file",
        usual: 3_000,
        words: &[
            "[auth]\n",
            "kind = ",
            "[[resource]]\n",
            "\"",
            "[",
            "]",
            "= ",
            "\n",
            "${connection.",
            "${page_token}",
            "list = { ",
            "path = ",
            "ids = ",
            "pointer",
            "/",
            "*",
            "1h",
            "true",
            "{ ",
        ],
        seeds: SEEDED
            .iter()
            .map(|element| {
                let elements = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/elements");
                std::fs::read(elements.join(element).join("element.toml")).expect("an element file")
            })
            .collect(),
        run: Box::new(run),
    }
}

/// Whatever a callback requests, the next attempt is not before its retry step, less its jitter, and not after the larger
/// of an hour and twice the retry step.
pub(super) fn retry_after() -> Target {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let mut last = String::new();
        for attempt in [1, 2, 5, 9, 10] {
            let answered = AttemptOutcome::Answered { status: 429, retry_after: Some(&text) };
            let plain = AttemptOutcome::Answered { status: 429, retry_after: None };
            // Without jitter's chance: the same bits for both.
            let asked = |outcome| retry_schedule::judge(outcome, attempt, now(), 0, FailurePolicy::Retry);
            last = match (asked(answered), asked(plain)) {
                (Verdict::RetryAt(requested), Verdict::RetryAt(least)) => {
                    // Zero bits give the least of the spread, four fifths of the retry step.
                    let step = (least - now()) * 5 / 4;
                    let most = (step * 2).max(TimeDelta::hours(1)) + TimeDelta::seconds(1);
                    assert!(requested >= least && requested - now() <= most, "{text:?}: {requested}, step {step}");
                    format!("{} {}", requested == least, (requested - now()).num_seconds().ilog2())
                }
                (one, other) => {
                    assert_eq!(one, other, "{text:?}");
                    last
                }
            };
        }
        last
    };
    Target {
        name: "retry_after",
        usual: 10_000,
        words: &["120", "Mon, 05 Jan 2026 09:10:00 GMT", "GMT", "-", " ", "99999999999999999999", "0", "2026", "Jan"],
        seeds: Vec::new(),
        run: Box::new(run),
    }
}
