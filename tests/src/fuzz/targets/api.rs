//! Targets of the HTTP API: the authorization header, JSON bodies, instances and page tokens.

use std::collections::BTreeMap;

use domain::configuration::{EventSettings, ResourceConfiguration};
use domain::json::{Limits, parse_strict};
use flow::accounts::auth::{AuthenticateError, authenticate};
use flow::accounts::create_organization;
use flow::instances::InstanceBody;
use flow::testing::TestPorts;
use serde_json::Value;

use super::{SEEDED, runtime, sort_of};
use crate::fuzz::Target;
use crate::harness::{SystemHarness, seed};

/// The header authenticates exactly the callers that a slow and literal reading of the rule accepts.
pub(super) fn authorization() -> Target {
    let runtime = runtime();
    let ports = TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("nobody is asked")).ports();
    let made = runtime.block_on(create_organization(&ports, "one")).expect("an empty table takes it");
    let (user, organization) = (made.user_secret.expose().to_owned(), made.organization_secret.expose().to_owned());
    let run = move |input: &[u8]| {
        let text = String::from_utf8_lossy(input).replace("<U>", &user).replace("<O>", &organization);
        let read = runtime.block_on(authenticate(&ports, Some(&text)));
        // The rule: parts between commas; each part is a name, white space and a secret; each name occurs once.
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

/// The strict parser agrees with serde's parser where both accept, accepts nothing that serde refuses, and reads its own
/// output.
pub(super) fn json_text() -> Target {
    let run = |input: &[u8]| match parse_strict(input, Limits::default()) {
        Ok(value) => {
            let loose: Value = serde_json::from_slice(input).expect("what is strictly JSON is JSON");
            assert_eq!(value, loose);
            // The value may differ: the last digit of a long number may change when it is written and read.
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

/// A body of `POST /instances` is read, or every problem names a field and the expected value.
pub(super) fn instance_body() -> Target {
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
                // The stored form of a resource is read as the same resource.
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

/// For any page token, the answer is a page or an error that names the problem.
pub(super) fn page_token() -> Target {
    let runtime = runtime();
    let (world, token) = runtime.block_on(async {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        let id = world.create(seed("square")).await;
        let (_, shown) = world.call("GET", &format!("/instances/{id}"), None).await;
        (world, shown["token"].as_str().expect("a token").to_owned())
    });
    let paths = ["/instances", "/instances/deliveries", "/organizations/audit", "/hubs/employee/timesheets"];
    let run = move |input: &[u8]| {
        // The content of a token, and a token as it is.
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
