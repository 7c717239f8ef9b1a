//! The targets, each with its promises.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::ceql::{self, Expression};
use domain::configuration::{EventSettings, FailurePolicy, ResourceConfiguration};
use domain::date::DatePattern;
use domain::json::{Limits, parse_strict};
use domain::ladder::{self, Outcome, Verdict};
use domain::poll_url::{MacroTimes, PollUrl};
use domain::secret::{MASK, Secret};
use domain::zone::Zone;
use elements::call::CallContext;
use elements::catalog;
use elements::listing::{Cursor, Listing, ScanMode};
use elements::{Bases, Catalog, Connection, Plan, Tokens};
use flow::instance::InstanceBody;
use flow::principal::{AuthenticateError, authenticate, create_organization};
use flow::testing::TestPorts;
use http::Response;
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

use super::Target;
use crate::harness::{SystemHarness, seed};

/// Bodies of the original's documentation.
const SEEDED: [&str; 5] = ["square", "maximizer", "googlesuite", "revel", "icontact"];

/// Every target.
pub fn targets() -> Vec<Target> {
    vec![
        authorization(),
        json_text(),
        instance_body(),
        ceql_text(),
        poll_url(),
        date_pattern(),
        page_token(),
        saved_listing(),
        element_file(),
        retry_after(),
        vendor_page(),
    ]
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// The sort of a message: its words without what differs from input to input.
fn sort_of(message: &str) -> String {
    message.chars().filter(|letter| letter.is_ascii_alphabetic() || *letter == ' ').take(60).collect()
}

/// The present instant of every target.
fn now() -> DateTime<Utc> {
    "2026-01-05T09:00:00Z".parse().expect("an instant")
}

// ---------------------------------------------------------------- Who calls

/// The header lets in who has the right secrets by a slow and literal reading of the rule, and nobody else.
fn authorization() -> Target {
    let runtime = runtime();
    let ports = TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("nobody is asked")).ports();
    let made = runtime.block_on(create_organization(&ports, "one")).expect("an empty table takes it");
    let (user, organization) = (made.user_secret.expose().to_owned(), made.organization_secret.expose().to_owned());
    let run = move |input: &[u8]| {
        let text = String::from_utf8_lossy(input).replace("<U>", &user).replace("<O>", &organization);
        let read = runtime.block_on(authenticate(&ports, Some(&text)));
        // Letter by letter: parts between commas; a name, white space, a secret; each name once.
        let mut parts: BTreeMap<String, String> = BTreeMap::new();
        let mut readable = true;
        for part in text.split(',') {
            let trimmed = part.trim();
            let name: String = trimmed.chars().take_while(|letter| !letter.is_whitespace()).collect();
            if name.is_empty() {
                continue;
            }
            let secret = trimmed[name.len()..].trim().to_owned();
            let known = ["user", "organization", "element"].contains(&name.to_ascii_lowercase().as_str());
            let bare = trimmed.len() == name.len();
            readable &= known && !bare && parts.insert(name.to_ascii_lowercase(), secret).is_none();
        }
        let right = |name: &str, secret: &str| parts.get(name).is_some_and(|given| given == secret);
        let let_in =
            readable && right("user", &user) && right("organization", &organization) && !parts.contains_key("element");
        match read {
            Ok(caller) => {
                assert!(let_in, "{text:?} lets {caller:?} in");
                format!("in {}", parts.len())
            }
            Err(AuthenticateError::Unknown) => {
                assert!(!let_in, "{text:?} keeps out");
                format!("out {readable} {}", parts.len())
            }
            Err(error) => panic!("{text:?}: {error}"),
        }
    };
    Target {
        name: "authorization",
        usual: 40_000,
        words: &["User ", "Organization ", "Element ", "<U>", "<O>", ", ", "\t", "\u{a0}", "Bearer "],
        seeds: Vec::new(),
        run: Box::new(run),
    }
}

// ---------------------------------------------------------------- What the API is sent

/// Agrees with serde's parser wherever both accept, accepts nothing that it refuses, and reads its own writing.
fn json_text() -> Target {
    let run = |input: &[u8]| match parse_strict(input, Limits::default()) {
        Ok(value) => {
            let loose: Value = serde_json::from_slice(input).expect("what is strictly JSON is JSON");
            assert_eq!(value, loose);
            // Not the value again: a long number may differ in its last place when it is written and read.
            let text = value.to_string();
            let again = parse_strict(text.as_bytes(), Limits::default()).expect("its own writing");
            assert_eq!(again, serde_json::from_str::<Value>(&text).expect("JSON"));
            format!("{:?}", std::mem::discriminant(&value))
        }
        Err(problem) => {
            assert!(problem.line >= 1 && problem.column >= 1, "{problem}");
            sort_of(&problem.expected)
        }
    };
    Target {
        name: "json",
        usual: 10_000,
        words: &["{", "}", "[", "]", "\"a\":", "\"a\"", ",", "null", "true", "\\ud800", "\\udc00", "1e", "[[[[[[[["],
        seeds: SEEDED.iter().map(|element| seed(element).to_string().into_bytes()).collect(),
        run: Box::new(run),
    }
}

/// A body of `POST /instances` is read, or every problem with it names a field and says what would do.
fn instance_body() -> Target {
    let run = |input: &[u8]| {
        let Ok(value) = parse_strict(input, Limits::default()) else { return "no JSON".to_owned() };
        let body = match InstanceBody::read(&value) {
            Ok(body) => body,
            Err(problems) => {
                assert!(!problems.is_empty() && problems.iter().all(|it| !it.expected.is_empty()), "{problems:?}");
                return format!("outline {}", sort_of(&problems[0].expected));
            }
        };
        match EventSettings::parse(&body.configuration.unwrap_or_default()) {
            Ok((settings, warnings)) => {
                assert!((1..=1440).contains(&settings.interval_minutes), "{settings:?}");
                // What was understood is understood again when it is written as it is stored.
                for (name, resource) in &settings.resources {
                    let stored = serde_json::to_string(resource).expect("a resource serializes");
                    let read: ResourceConfiguration = serde_json::from_str(&stored).expect("and is read again");
                    assert_eq!(&read, resource, "{name}");
                }
                format!("read {} {}", settings.resources.len(), warnings.len())
            }
            Err(problems) => {
                assert!(!problems.is_empty() && problems.iter().all(|it| !it.field.is_empty()), "{problems:?}");
                format!("settings {} {}", problems.len(), sort_of(&problems[0].expected))
            }
        }
    };
    Target {
        name: "instance_body",
        usual: 3_000,
        words: &[
            "\"configuration\":{",
            "\"event.poller.configuration\":",
            "\"event.poller.refresh_interval\":",
            "\"event.notification.callback.url\":",
            "\"datesConfiguration\":{",
            "\"idField\":",
            "\"url\":",
            "\"createdRule\":",
            "\"tags\":[",
            "\"name\":",
            "null",
            "\"\"",
            "{}",
            "[]",
            "true",
            "\"5\"",
        ],
        seeds: SEEDED.iter().map(|element| seed(element).to_string().into_bytes()).collect(),
        run: Box::new(run),
    }
}

// ---------------------------------------------------------------- Expressions, URLs, dates

/// An expression that was read can be written down and read again, and means the same.
fn ceql_text() -> Target {
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

/// A URL that was read is read again from what is stored, and fills in any times.
fn poll_url() -> Target {
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

/// A line with a pattern, a line with a date. What a pattern writes it reads, and writes again the same.
fn date_pattern() -> Target {
    let zones = ["GMT", "PST", "Europe/Berlin"].map(|name| Zone::parse(name).expect("a zone"));
    let instants = ["2026-01-05T09:00:00Z", "2000-02-29T23:59:59.999Z", "2026-10-25T00:30:00Z", "2001-09-09T01:46:40Z"]
        .map(|text| text.parse::<DateTime<Utc>>().expect("an instant"));
    let run = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let (pattern, date) = text.split_once('\n').unwrap_or((text, "2026-01-05T09:00:00Z"));
        let compiled = match DatePattern::compile(pattern) {
            Ok(compiled) => compiled,
            Err(problem) => return sort_of(&problem.to_string()),
        };
        assert_eq!(DatePattern::compile(compiled.as_str()).expect("what is stored is read again"), compiled);
        let mut reads = 0;
        for zone in &zones {
            for instant in instants {
                let once = compiled.format(instant, zone);
                // A pattern may lack what its own writing needs to be read, and then says so.
                if let Ok(read) = compiled.parse(&once, zone) {
                    reads += 1;
                    if !is_whole(pattern) || is_ambiguous(pattern) {
                        continue;
                    }
                    assert_eq!(compiled.format(read, zone), once, "{pattern:?} in {zone}");
                }
            }
            let _ = compiled.parse_json(&json!(date).to_string(), zone);
            let _ = compiled.parse_json(date, zone);
        }
        format!(
            "{reads} {}",
            compiled.parse(date, &zones[0]).map_or_else(|it| sort_of(&it.to_string()), |_| "read".into())
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

/// Whether a pattern names a day in full, and an hour where it names half of the day, so that what else it shows, such as the day of the week, follows from it.
fn is_whole(pattern: &str) -> bool {
    let unquoted: String = pattern.split('\'').step_by(2).collect();
    let half_of_day = !unquoted.contains('a') || unquoted.contains(['h', 'K']);
    half_of_day && ["yyy", "M", "d"].iter().all(|field| unquoted.contains(field))
}

/// Whether two fields follow one another without anything between them, for who wrote `1125` meant what? Or whether a
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

// ---------------------------------------------------------------- Where a listing goes on

/// Whatever stands in for a page token, the answer is a page or says what is wrong.
fn page_token() -> Target {
    let runtime = runtime();
    let (world, token) = runtime.block_on(async {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        let id = world.create(seed("square")).await;
        let (_, shown) = world.call("GET", &format!("/instances/{id}"), None).await;
        (world, shown["token"].as_str().expect("a token").to_owned())
    });
    let paths = ["/instances", "/instances/deliveries", "/organizations/audit", "/hubs/employee/timesheets"];
    let run = move |input: &[u8]| {
        // What is inside a token of ours, and a token as it stands.
        let inside = {
            use base64::Engine;
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(input)
        };
        let mut outcomes = Vec::new();
        for token_text in [inside.clone().into_bytes(), input.to_vec()] {
            let token_text =
                percent_encoding::percent_encode(&token_text, percent_encoding::NON_ALPHANUMERIC).to_string();
            for path in paths {
                let asked = format!("{path}?pageSize=1&nextPage={token_text}");
                let (status, _, answer) = runtime.block_on(world.call_through(Some(&token), "GET", &asked, None));
                assert!([200, 400, 404].contains(&status.as_u16()), "{status} for {asked}: {answer:#}");
                outcomes.push(status.as_u16().to_string());
            }
        }
        outcomes.join(" ")
    };
    Target {
        name: "page_token",
        usual: 200,
        words: &[
            "{\"after\":\"INST#",
            "{\"after\":\"DLV#",
            "{\"after\":\"AUDIT#",
            "\"}",
            "0000000000000001",
            "~",
            "{",
            "null",
            "eyJh",
        ],
        seeds: Vec::new(),
        run: Box::new(run),
    }
}

/// A plan of one of the embedded elements, and what a call of it needs.
struct Listed {
    plan: Plan,
    connection: Connection,
    tokens: Option<Tokens>,
}

impl Listed {
    fn all() -> Vec<Self> {
        let catalog = Catalog::embedded();
        let mut all = Vec::new();
        for element in SEEDED {
            let mut body = seed(element);
            let configuration = body["configuration"].as_object_mut().expect("an object");
            elements::connection::put_right(catalog.get(element).expect("an element"), configuration);
            let configuration = configuration.clone();
            let element = catalog.get(element).expect("an element");
            let connection = Connection::resolve(element, &configuration, &Map::new()).expect("a connection").0;
            for resource in &element.resources {
                let Ok((entry, _)) = ResourceConfiguration::parse(&resource.poll, "entry") else { continue };
                let Ok((plan, _)) = Plan::resolve(element, &resource.name, &entry, &configuration) else { continue };
                let tokens = Tokens {
                    access: Secret::new("an access token"),
                    refresh: None,
                    expires_at: None,
                    extra: BTreeMap::new(),
                };
                all.push(Self { plan, connection: connection.clone(), tokens: Some(tokens) });
            }
        }
        assert!(all.len() > 10, "only {} plans", all.len());
        all
    }

    fn caller<'a>(&'a self, bases: &'a Bases) -> CallContext<'a> {
        CallContext { element: self.plan.element(), connection: &self.connection, bases, tokens: self.tokens.as_ref() }
    }

    fn start(&self) -> Listing {
        Listing::start(&self.plan, ScanMode::Complete, &Cursor::Start, None, "", now())
    }
}

/// A place in a listing that was stored goes on or is refused, and what it becomes can be stored.
fn saved_listing() -> Target {
    let (all, bases) = (Listed::all(), Bases::default());
    let seeds = all.iter().map(|listed| listed.start().save().into_bytes()).collect();
    let run = move |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
        let Some(listing) = Listing::resume(text) else { return "refused".to_owned() };
        let saved = listing.save();
        assert_eq!(Listing::resume(&saved).map(|again| again.save()), Some(saved));
        let mut asked = 0;
        for listed in &all {
            let listing = Listing::resume(text).expect("resumed above");
            asked += usize::from(listing.request(&listed.plan, &listed.caller(&bases)).is_ok());
        }
        format!("resumed {asked}")
    };
    Target {
        name: "saved_listing",
        usual: 10_000,
        words: &["\"", "null", "0", "{", "}", "[", "]", "true", "http://"],
        seeds,
        run: Box::new(run),
    }
}

// ---------------------------------------------------------------- What vendors and callbacks answer

/// An element file is read, or the first problem has a line of the file.
fn element_file() -> Target {
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

/// Whatever a callback wishes, the next attempt is no sooner than its rung, less its jitter, and no later than the
/// larger of an hour and twice the rung.
fn retry_after() -> Target {
    let run = |input: &[u8]| {
        let text = String::from_utf8_lossy(input);
        let mut last = String::new();
        for attempt in [1, 2, 5, 9, 10] {
            let answered = Outcome::Answered { status: 429, retry_after: Some(&text) };
            let plain = Outcome::Answered { status: 429, retry_after: None };
            // Without jitter's chance: the same bits for both.
            let asked = |outcome| ladder::judge(outcome, attempt, now(), 0, FailurePolicy::Retry);
            last = match (asked(answered), asked(plain)) {
                (Verdict::RetryAt(wished), Verdict::RetryAt(least)) => {
                    // No bits is the least of the spread, four fifths of the rung.
                    let rung = (least - now()) * 5 / 4;
                    let most = (rung * 2).max(TimeDelta::hours(1)) + TimeDelta::seconds(1);
                    assert!(wished >= least && wished - now() <= most, "{text:?}: {wished}, rung {rung}");
                    format!("{} {}", wished == least, (wished - now()).num_seconds().ilog2())
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

/// A page is read, or it is said why not. Every record that is read stands in the page by a slow reading of the
/// whole, has an id, and is read the same a second time.
fn vendor_page() -> Target {
    let (all, bases) = (Listed::all(), Bases::default());
    let mut turn = 0;
    let run = move |input: &[u8]| {
        turn += 1;
        let listed = &all[turn % all.len()];
        let caller = listed.caller(&bases);
        let response = Response::builder()
            .status(200)
            .header("date", "Mon, 05 Jan 2026 09:00:00 GMT")
            .body(Bytes::copy_from_slice(input))
            .expect("a response");
        let read = || {
            let mut listing = listed.start();
            let _ = listing.request(&listed.plan, &caller);
            listing.read(&listed.plan, &caller, &response)
        };
        let name = listed.plan.name();
        match (read(), read()) {
            (Ok(page), Ok(again)) => {
                assert_eq!(page.records, again.records);
                let whole: Value = serde_json::from_slice(input).expect("what has records is JSON");
                for record in &page.records {
                    assert!(!record.id.is_empty(), "a record without an id");
                    let own: Value = serde_json::from_slice(&record.raw).expect("a record is JSON");
                    assert!(stands_in(&whole, &own), "{own} is not in the page");
                }
                format!("{name} {} {} {}", page.records.len().min(4), page.problems.len().min(4), page.done)
            }
            (Err(fault), Err(again)) => {
                assert_eq!(fault, again);
                format!("{name} {}", sort_of(&fault.to_string()))
            }
            (one, other) => panic!("{one:?} and then {other:?}"),
        }
    };
    Target {
        name: "vendor_page",
        usual: 4_000,
        words: &[
            "\"id\":",
            "\"updated_at\":",
            "\"timecards\":[",
            "\"cursor\":",
            "\"objects\":[",
            "\"meta\":{",
            "\"items\":[",
            "\"next\":",
            "\"nextPageToken\":",
            "\"contacts\":[",
            "\"total\":",
            "{",
            "}",
            "[",
            "]",
            ",",
            "null",
            "\"\"",
            "0",
            "\"2026-01-05T09:00:00Z\"",
        ],
        seeds: pages(),
        run: Box::new(run),
    }
}

/// Whether a value stands somewhere in another, but for what its element masks.
fn stands_in(whole: &Value, part: &Value) -> bool {
    let same = match (whole, part) {
        (Value::Object(there), Value::Object(here)) => {
            let is_same = |key: &String, value: &Value| there.get(key) == Some(value) || value == MASK;
            there.len() == here.len() && here.iter().all(|(key, value)| is_same(key, value))
        }
        _ => whole == part,
    };
    same || match whole {
        Value::Array(items) => items.iter().any(|item| stands_in(item, part)),
        Value::Object(members) => members.values().any(|member| stands_in(member, part)),
        _ => false,
    }
}

/// The bodies of the recorded exchanges.
fn pages() -> Vec<Vec<u8>> {
    let elements = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/elements");
    let mut pages = Vec::new();
    for element in SEEDED {
        let folder = elements.join(element).join("exchanges");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).expect("exchanges").map(|entry| entry.expect("an entry").path()).collect();
        files.sort();
        for file in files {
            let exchange: Value = serde_json::from_slice(&std::fs::read(file).expect("readable")).expect("JSON");
            let steps = exchange["steps"].as_array().cloned().unwrap_or_default();
            pages.extend(steps.iter().map(|step| step["response"]["body"].to_string().into_bytes()));
        }
    }
    assert!(pages.len() > 20, "only {} pages", pages.len());
    pages
}
