//! Tests of parsing a configuration.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::collector::MOST_REMARKS;
use crate::configuration::keys::{
    BASIC_PASSWORD, BASIC_USERNAME, CALLBACK_HEADERS, CALLBACK_URL, COALESCE, EVENTS_ENABLED, FAILURE_POLICY,
    FILTER_NULLS, NOTIFICATION_FORMAT, NOTIFICATION_TYPE, OBJECTS, POLLER_CONFIGURATION, POLLER_URLS, REFRESH_INTERVAL,
    SIGNATURE_KEY, VENDOR_TYPE,
};
use crate::configuration::{
    Callback, CreatedRule, DateField, EventSettings, FailurePolicy, InitialPoll, NotificationFormat,
    ResourceConfiguration, VendorType,
};
use crate::date::DatePattern;
use crate::limits;
use crate::poll_url::PollUrl;
use crate::problem::{FieldProblem, Warning};
use crate::secret::Secret;
use crate::zone::Zone;

fn parse(configuration: Value) -> Result<(EventSettings, Vec<Warning>), Vec<FieldProblem>> {
    let Value::Object(configuration) = configuration else { panic!("a configuration is an object") };
    EventSettings::parse(&configuration)
}

fn accepted(configuration: Value) -> (EventSettings, Vec<String>) {
    match parse(configuration) {
        Ok((settings, warnings)) => (settings, warnings.iter().map(Warning::to_string).collect()),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn resource(entry: Value) -> (ResourceConfiguration, Vec<String>) {
    let (mut settings, warnings) = accepted(json!({EVENTS_ENABLED: true, POLLER_CONFIGURATION: {"r": entry}}));
    (settings.resources.remove("r").expect("the resource"), warnings)
}

#[track_caller]
fn check_refused(configuration: Value, expected: &[&str]) {
    let problems = parse(configuration).expect_err("problems");
    assert_eq!(problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>(), expected);
}

#[track_caller]
fn check_resource_refused(entry: Value, expected: &str) {
    let at = r#"configuration."event.poller.configuration".r"#;
    check_refused(json!({POLLER_CONFIGURATION: {"r": entry}}), &[&format!("{at}{expected}")]);
}

#[test]
fn nothing_said_means_the_defaults() {
    let blank = json!({EVENTS_ENABLED: null, REFRESH_INTERVAL: " ", POLLER_CONFIGURATION: "", "oauth.api.key": 5, CALLBACK_HEADERS: "", POLLER_URLS: "\n"});
    for configuration in [json!({}), blank] {
        assert_eq!(accepted(configuration), (EventSettings::default(), Vec::new()));
    }
}

#[test]
fn everything_said_is_stored_and_read_again() {
    let (settings, warnings) = accepted(json!({
        EVENTS_ENABLED: "True",
        VENDOR_TYPE: "polling",
        NOTIFICATION_TYPE: "webhook",
        FILTER_NULLS: "false",
        REFRESH_INTERVAL: 7,
        CALLBACK_URL: "https://example.com/events?a=b",
        SIGNATURE_KEY: "k ey",
        BASIC_USERNAME: "u",
        BASIC_PASSWORD: "p:w",
        CALLBACK_HEADERS: {"X-One": "1"},
        NOTIFICATION_FORMAT: "CloudEvents-Batch",
        FAILURE_POLICY: "queue",
        COALESCE: true,
        POLLER_CONFIGURATION: {"contacts": {
            "url": "/hubs/crm/contacts?where=u>'${date:yyyy-MM-dd'T'HH:mm:ssXXX}'",
            "idField": "@.@id",
            "datesConfiguration": {
                "updatedDateField": "_info.lastUpdated", "updatedDateFormat": "milliseconds",
                "updatedDateTimezone": "PST",
                "createdDateField": "c", "createdDateFormat": "yyyy-MM-dd", "createdDateTimezone": "-8:00",
            },
            "filterByUpdatedDate": "false",
            "filterByCurrentDate": true,
            "createdCheckTolerance": "60",
            "pageSize": 20,
            "pollDelay": 60,
            "createdRule": "tolerance",
            "initialPoll": "emit",
            "sweepInterval": 1440,
            "maxDeleteShare": "0.25",
            "refreshInterval": "5",
        }},
    }));
    assert_eq!(warnings, [""; 0]);
    let pattern = |text| DatePattern::parse(text).expect("a pattern");
    let zone = |text| Zone::parse(text).ok();
    let contacts = ResourceConfiguration {
        url: settings.resources["contacts"].url.clone(),
        id_field: Some("@.@id".into()),
        updated: Some(DateField {
            field: "_info.lastUpdated".into(),
            pattern: pattern("milliseconds"),
            zone: zone("PST"),
        }),
        created: Some(DateField { field: "c".into(), pattern: pattern("yyyy-MM-dd"), zone: zone("-8:00") }),
        filter_by_updated_date: false,
        filter_by_current_date: true,
        created_check_tolerance_s: Some(60),
        page_size: Some(20),
        poll_delay_s: 60,
        created_rule: CreatedRule::Tolerance,
        initial_poll: InitialPoll::Emit,
        sweep_minutes: Some(1440),
        max_delete_share: Some(0.25),
        interval_minutes: Some(5),
    };
    assert_eq!(contacts.url.as_ref().map(PollUrl::path), Some("contacts"));
    let expected = EventSettings {
        enabled: true,
        callback: Some(Callback {
            url: "https://example.com/events?a=b".into(),
            signature_key: Some(Secret::new("k ey")),
            headers: vec![("X-One".into(), Secret::new("1"))],
            basic: Some(("u".into(), Secret::new("p:w"))),
            format: NotificationFormat::CloudEventsBatch,
            failure_policy: FailurePolicy::Queue,
            coalesce: true,
        }),
        interval_minutes: 7,
        resources: BTreeMap::from([("contacts".into(), contacts)]),
        filter_response_nulls: false,
        vendor_type: VendorType::Polling,
    };
    assert_eq!(settings, expected);
    let mut stored = serde_json::to_value(&settings).expect("JSON");
    stored["keyOfALaterVersion"] = json!(1);
    assert_eq!(serde_json::from_value::<EventSettings>(stored).expect("settings"), settings);
    assert_eq!(serde_json::from_value::<EventSettings>(json!({})).expect("settings"), EventSettings::default());
}

#[test]
fn intervals() {
    let read = |value: Value| {
        let (settings, warnings) = accepted(json!({REFRESH_INTERVAL: value}));
        (settings.interval_minutes, warnings.len())
    };
    assert_eq!(read(json!("15")), (15, 0));
    assert_eq!(read(json!(1)), (1, 0));
    assert_eq!(read(json!(1440.0)), (1440, 0));
    assert_eq!(read(json!(999_999_999)), (1440, 1));
    assert_eq!(read(json!("99999999999999999999999")), (1440, 1));
    for wrong in [json!("<minutes>"), json!(0), json!("-5"), json!(1.5), json!(true), json!([5])] {
        let shown = match &wrong {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        check_refused(
            json!({REFRESH_INTERVAL: wrong}),
            &[&format!(
                "configuration.\"event.poller.refresh_interval\": read {shown}, \
             expected a whole number of minutes from 1 to 1440, such as \"15\""
            )],
        );
    }
}

#[test]
fn the_documented_examples_are_read() {
    let (deals, warnings) = resource(json!({
        "url": "/hubs/marketing/deals?where=mdate>=2017-02-28T16:11:29-06:00", "idField": "id",
        "filterByUpdatedDate": true,
        "datesConfiguration": {
            "updatedDateField": "mdate", "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX", "updatedDateTimezone": "GMT",
            "createdDateField": "cdate", "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX'", "createdDateTimezone": "",
        },
        "createdCheckTolerance": 60, "pageSize": 20, "pollDelay": 60,
    }));
    assert_eq!(deals.created.and_then(|created| created.zone), Some(Zone::GMT));
    assert_eq!(
        warnings,
        ["configuration.\"event.poller.configuration\".r.datesConfiguration.createdDateFormat: \
         the single quote at the end of the pattern yyyy-MM-dd'T'HH:mm:ssXXX' is left out"]
    );
    let (contacts, warnings) = resource(json!({
        "url": "/hubs/crm/contacts?where=update_time >= '${gmtDate:yyyy-MM-dd HH:mm:ss}'",
        "filterByCurrentDate": true, "filterByUpdateDate": false, "idField": "user.id",
        "datesConfiguration": {"updatedDateField": "update_time", "updatedDateFormat": "yyyy-MM-dd HH:mm:ss",
            "createdDateField": "add_time"},
        "createdCheckTolerance": 2, "pageSize": 10000, "updatedDateTimezone": "MST", "pollDelay": 30, "pageSzie": 1,
    }));
    assert!(!contacts.filter_by_updated_date);
    assert_eq!(contacts.created.expect("created").pattern.as_str(), "yyyy-MM-dd HH:mm:ss");
    assert_eq!(
        warnings,
        [
            "configuration.\"event.poller.configuration\".r.pageSzie: \
         the key is unknown and is left out; the nearest known key is pageSize",
            "configuration.\"event.poller.configuration\".r.updatedDateTimezone: \
         it stands beside datesConfiguration instead of in it, and is left out",
        ]
    );
}

#[test]
fn a_configuration_may_be_a_string() {
    let text = r#"{"contacts": {"url": "/hubs/crm/contacts", "idField": "vid"}}"#;
    let (settings, _) = accepted(json!({POLLER_CONFIGURATION: text}));
    assert_eq!(settings.resources["contacts"].id_field.as_deref(), Some("vid"));
    let at = "configuration.\"event.poller.configuration\"";
    check_refused(
        json!({POLLER_CONFIGURATION: "{\n\"a\": {},\n}"}),
        &[&format!(
            "{at}: read {{\n\"a\": {{}},\n}}, expected JSON; in its line 3, column 1: \
         expected another entry after the comma, or no comma before the closing bracket"
        )],
    );
    let long = format!("{{\"a\": {{}}{}}}", " ".repeat(200_000));
    assert_eq!(accepted(json!({POLLER_CONFIGURATION: long})).0.resources.len(), 1);
    check_refused(json!({POLLER_CONFIGURATION: "[]"}), &[&format!("{at}: read [], expected an object of resources")]);
    let expected = format!("{at}: read 5, expected an object of resources, or the same as a string");
    check_refused(json!({POLLER_CONFIGURATION: 5}), &[&expected]);
}

#[test]
fn the_older_ways_of_naming_resources() {
    let names = |configuration: Value| accepted(configuration).0.resources.into_keys().collect::<Vec<_>>();
    assert_eq!(
        names(json!({POLLER_URLS: "contacts\nopportunities\naccounts"})),
        ["accounts", "contacts", "opportunities"]
    );
    assert_eq!(names(json!({POLLER_URLS: "a|b"})), ["a", "b"]);
    assert_eq!(names(json!({OBJECTS: "Contact, Account"})), ["Account", "Contact"]);

    let line = "accounts|/hubs/crm/accounts?where=LastModifiedDate>=${date}|//x|LastModifiedDate|yyyy-MM-dd'T'HH:mm:ssZ|PST\
                |CreatedDate|yyyy-MM-dd";
    let (settings, warnings) = accepted(
        json!({EVENTS_ENABLED: true, POLLER_URLS: line, POLLER_CONFIGURATION: {"b": {"idField": "x"}}, OBJECTS: "b"}),
    );
    let accounts = &settings.resources["accounts"];
    assert_eq!(accounts.url.as_ref().map(PollUrl::path), Some("accounts"));
    let dates = [&accounts.updated, &accounts.created].map(|date| {
        let DateField { field, pattern, zone } = date.as_ref().expect("a date");
        format!("{field} {pattern} {}", zone.as_ref().expect("a zone"))
    });
    assert_eq!(dates, ["LastModifiedDate yyyy-MM-dd'T'HH:mm:ssZ PST", "CreatedDate yyyy-MM-dd PST"]);
    assert_eq!(warnings, ["configuration.\"event.poller.urls\".accounts: the XPath filter is left out"]);
    assert_eq!(settings.resources["b"].id_field.as_deref(), Some("x"), "the newer form wins");
}

#[test]
fn resources_that_cannot_be_meant() {
    check_resource_refused(json!(5), ": read 5, expected an object with url, idField and datesConfiguration, or {}");
    check_resource_refused(json!({"url": 5}), ".url: read 5, expected a text");
    check_resource_refused(
        json!({"url": "/hubs/crm/x?where=a>'${dte:yyyy}'"}),
        ".url: read /hubs/crm/x?where=a>'${dte:yyyy}', expected one of the macros date, gmtDate, dateTimeZone, \
         nowTimeZone, epoch, milliseconds; there is no ${dte:yyyy}, the nearest is date",
    );
    check_resource_refused(
        json!({"datesConfiguration": {"updatedDateField": "u", "updatedDateTimezone": "PTS"}}),
        ".datesConfiguration.updatedDateTimezone: read PTS, \
         expected a time zone like America/Denver, PST, GMT or -8:00; the nearest is PST",
    );
    check_resource_refused(
        json!({"datesConfiguration": []}),
        ".datesConfiguration: read [], expected an object with updatedDateField and its like",
    );
    check_resource_refused(
        json!({"pageSize": 10001}),
        ".pageSize: read 10001, expected a whole number of records from 1 to 10000",
    );
    check_resource_refused(
        json!({"pollDelay": "soon"}),
        ".pollDelay: read soon, expected a whole number of seconds from 0 to 31622400",
    );
    check_resource_refused(json!({"createdRule": "guess"}), ".createdRule: read guess, expected observed or tolerance");
    check_resource_refused(
        json!({"maxDeleteShare": 1.1}),
        ".maxDeleteShare: read 1.1, expected a share from 0 to 1, such as 0.2",
    );
    check_resource_refused(
        json!({"maxDeleteShare": "NaN"}),
        ".maxDeleteShare: read NaN, expected a share from 0 to 1, such as 0.2",
    );
    check_resource_refused(
        json!({"filterByCurrentDate": "maybe"}),
        ".filterByCurrentDate: read maybe, expected true or false",
    );

    let name = |length: usize| "n".repeat(length);
    assert!(resource(json!({"idField": name(200)})).0.id_field.is_some());
    for odd in [name(201), name(300), "a\u{1}b".into()] {
        check_resource_refused(
            json!({"idField": odd}),
            &format!(
                ".idField: read {}, expected a path like id or user.id, of at most 200 characters",
                crate::problem::shorten(&odd)
            ),
        );
        let refused = parse(json!({POLLER_CONFIGURATION: {odd: {}}})).expect_err("a name");
        assert!(refused[0].expected.contains("the name of a resource"), "{refused:?}");
    }
    assert_eq!(accepted(json!({POLLER_CONFIGURATION: {name(200): {}}})).0.resources.len(), 1);
    assert_eq!(resource(json!({"sweepInterval": 366 * 1440})).0.sweep_minutes, Some(366 * 1440));
    check_resource_refused(
        json!({"sweepInterval": 366 * 1440 + 1}),
        ".sweepInterval: read 527041, expected a whole number of minutes from 1 to 527040",
    );

    let many = (0..=limits::RESOURCES).map(|n| (format!("r{n}"), json!({}))).collect::<Map<_, _>>();
    let at = "configuration.\"event.poller.configuration\"";
    check_refused(
        json!({POLLER_CONFIGURATION: many}),
        &[&format!(
            "{at}: read {} resources, expected at most {}; spread more over several instances",
            limits::RESOURCES + 1,
            limits::RESOURCES
        )],
    );
    check_refused(
        json!({POLLER_CONFIGURATION: {"": {}}}),
        &[&format!("{at}.\"\": read , expected the name of a resource, of 1 to 200 characters")],
    );
}

#[test]
fn problems_come_together() {
    let problems = parse(json!({
        REFRESH_INTERVAL: "soon", EVENTS_ENABLED: 1, CALLBACK_URL: "ftp://x", POLLER_CONFIGURATION: {"a": {"url": "", "pageSize": 0}, "b": 1},
    }));
    let fields = problems.expect_err("problems").into_iter().map(|problem| problem.field).collect::<Vec<_>>();
    assert_eq!(
        fields,
        [
            "configuration.\"event.poller.configuration\".a.pageSize",
            "configuration.\"event.poller.configuration\".b",
            "configuration.\"event.notification.enabled\"",
            "configuration.\"event.notification.callback.url\"",
            "configuration.\"event.poller.refresh_interval\"",
        ]
    );
}

#[test]
fn callbacks() {
    let url = |url: &str| {
        parse(json!({CALLBACK_URL: url})).map(|(settings, _)| settings.callback.map(|callback| callback.url))
    };
    for good in ["http://mycoolapp.com", "https://127.0.0.1:8443/x?y=z", "https://[::1]/", "HTTPS://EXAMPLE.COM"] {
        assert_eq!(url(good), Ok(Some(good.to_owned())));
    }
    for wrong in ["https;//mycoolapp.com", "mycoolapp.com", "ftp://example.com", "https://", "file:///etc/passwd", "/x"]
    {
        assert!(url(wrong).expect_err(wrong)[0].expected.contains("https://example.com/events"));
    }
    assert!(url(&format!("https://example.com/{}", "x".repeat(2048))).expect_err("long")[0].expected.contains("2048"));
    let with_password = url("https://me:hunter2@example.com").expect_err("credentials");
    assert!(!format!("{with_password:?}").contains("hunter2"));

    let (settings, warnings) = accepted(json!({SIGNATURE_KEY: "k"}));
    assert_eq!((settings.callback, warnings.len()), (None, 1));
    check_refused(
        json!({BASIC_PASSWORD: "p"}),
        &["configuration.\"event.notification.basic.username\": read nothing, \
         expected a user name, because event.notification.basic.password is set"],
    );
    check_refused(
        json!({BASIC_USERNAME: "u"}),
        &["configuration.\"event.notification.basic.password\": read nothing, \
         expected a password, because event.notification.basic.username is set"],
    );
    // What is there and wrong is not missing as well.
    check_refused(
        json!({BASIC_USERNAME: "u", BASIC_PASSWORD: 5}),
        &["configuration.\"event.notification.basic.password\": read ********, expected a text"],
    );
    check_refused(
        json!({BASIC_USERNAME: 5, BASIC_PASSWORD: "p"}),
        &["configuration.\"event.notification.basic.username\": read 5, expected a text"],
    );
    for odd in ["a:b", "a\u{1}b"] {
        let problems = parse(json!({BASIC_USERNAME: odd, BASIC_PASSWORD: "p"})).expect_err("a name");
        assert!(problems[0].expected.contains("RFC 7617"), "{problems:?}");
    }
    let of_length = |length: usize| format!("https://example.com/{}", "x".repeat(length - 20));
    assert!(url(&of_length(2048)).is_ok());
    assert!(url(&of_length(2049)).is_err());
    for one in ["https://me@example.com", "https://:hunter2@example.com"] {
        let problems = url(one).expect_err("credentials");
        assert!(problems[0].expected.contains("without credentials"), "{problems:?}");
    }
    check_refused(
        json!({SIGNATURE_KEY: 12345}),
        &["configuration.\"event.notification.signature.key\": read ********, expected a text"],
    );
    check_refused(
        json!({NOTIFICATION_FORMAT: "xml"}),
        &[
            "configuration.\"event.notification.format\": read xml, expected elements or cloudevents or cloudevents-batch",
        ],
    );
}

#[test]
fn headers() {
    let read = |headers: Value| {
        let (settings, _) = accepted(json!({CALLBACK_URL: "https://example.com", CALLBACK_HEADERS: headers}));
        let headers = settings.callback.expect("a callback").headers;
        headers.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(read(json!({"X-B": "2", "X-A": "1"})), "X-A=1 X-B=2");
    assert_eq!(read(json!("{\"X-A\": \"1\"}")), "X-A=1");
    assert_eq!(read(json!("X-A: 1\r\nX-B: a:b\n")), "X-A=1 X-B=a:b");
    assert_eq!(read(json!("X-A:1,X-B:2")), "X-A=1 X-B=2");
    assert_eq!(read(json!("X-A: 1, 2, X-B: 3")), "X-A=1, 2 X-B=3");
    assert_eq!(read(json!("X-A: 1, at noon:30, :5")), "X-A=1, at noon:30, :5");
    let many = |count: usize| (0..count).map(|n| (format!("X-{n}"), json!("v"))).collect::<Map<_, _>>();
    assert_eq!(read(json!(many(20))).split(' ').count(), 20);
    let name = "n".repeat(200);
    assert_eq!(read(json!({name.clone(): "v"})), format!("{name}=v"));
    let value = "v".repeat(1024);
    assert_eq!(read(json!({"X-A": value})), format!("X-A={value}"));
    let wrong = [
        (json!(many(21)), "at most 20"),
        (json!(many(25)), "at most 20"),
        (json!({"": "v"}), "the name of a header"),
        (json!({"n".repeat(201): "v"}), "the name of a header"),
        (json!({"n".repeat(300): "v"}), "the name of a header"),
        (json!({"X-A": "v".repeat(1025)}), "at most 1024"),
        (json!({"X-A": "v".repeat(2000)}), "at most 1024"),
    ];
    for (wrong, expected) in wrong {
        let problems = parse(json!({CALLBACK_HEADERS: wrong})).expect_err("a problem");
        assert!(problems[0].expected.contains(expected), "{problems:?}");
    }

    for (wrong, expected) in [
        (json!({"Host": "x"}), "another header"),
        (json!({"webhook-ID": "x"}), "another header"),
        (json!("Elements-Webhook-Signature: x"), "another header"),
        (json!({"X-A": "1\r\nHost: x"}), "no line breaks"),
        (json!({"X-A": "é"}), "printable ASCII"),
        (json!({"X A": "1"}), "the name of a header"),
        (json!({"X-A": "1", "x-a": "2"}), "every header once"),
        (json!({"X-A": 1}), "an object of texts"),
        (json!("hunter2"), "an object of texts"),
        (json!("{\"X-A\": hunter2}"), "line 1, column"),
        (json!(["X-A"]), "an object of texts"),
    ] {
        let problems = parse(json!({CALLBACK_HEADERS: wrong})).expect_err("a problem");
        assert!(problems[0].expected.contains(expected), "{:?}", problems);
        assert!(!format!("{problems:?}").contains("hunter2"));
    }
    let both = json!({BASIC_USERNAME: "u", BASIC_PASSWORD: "p", CALLBACK_HEADERS: {"authorization": "Bearer x"}});
    assert!(parse(both).expect_err("a problem")[0].expected.contains("not both"));
}

#[test]
fn a_flood_of_mistakes_is_cut_off() {
    let entries =
        |entry: Value| (0..limits::RESOURCES).map(|n| (format!("r{n}"), entry.clone())).collect::<Map<_, _>>();
    let wrong = json!({"pageSize": 0, "maxDeleteShare": 2, "filterByCurrentDate": "maybe"});
    let problems = parse(json!({POLLER_CONFIGURATION: entries(wrong)})).expect_err("problems");
    assert_eq!(problems.len(), MOST_REMARKS);
    let odd = json!({"pagesize": 0, "colour": 1, "size": 2});
    assert_eq!(accepted(json!({POLLER_CONFIGURATION: entries(odd)})).1.len(), MOST_REMARKS);
}

#[test]
fn oddities_are_warnings() {
    let (_, warnings) = accepted(json!({
        "event.poller.refresh_intervall": 5, "event.metadata": "{}", "events": 1, "event.helper.key": "sfdcPolling",
        VENDOR_TYPE: "webhooks", POLLER_CONFIGURATION: {"a": {"datesConfiguration": {"createdDateFormat": "yyyy"}}, "b": null},
    }));
    assert_eq!(
        warnings,
        [
            "configuration.\"event.poller.refresh_intervall\": the key is unknown and is left out; \
         the nearest known key is event.poller.refresh_interval",
            "configuration.\"event.poller.configuration\".a.datesConfiguration.createdDateField: \
         it is absent, so its format and time zone are left out",
            "configuration.\"event.vendor.type\": events come by polling; calls from the vendor are not taken",
            "configuration.\"event.notification.enabled\": it is absent, so nothing is polled until it is true",
        ]
    );
}
