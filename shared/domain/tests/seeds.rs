//! The instance bodies that the manual of Cloud Elements prints, with minutes filled in.

use domain::configuration::{DateField, EventSettings};
use domain::json::{Limits, parse_strict};
use domain::poll_url::{MacroTimes, PollUrl};
use domain::problem::{FieldProblem, Warning};
use domain::zone::Zone;
use serde_json::Value;

fn settings_of(body: &[u8]) -> (EventSettings, Vec<Warning>) {
    let body = parse_strict(body, Limits::default()).expect("JSON");
    let Some(Value::Object(configuration)) = body.get("configuration") else { panic!("no configuration") };
    EventSettings::parse(configuration).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn date(date: Option<&DateField>) -> String {
    date.map_or_else(
        || "-".to_owned(),
        |date| format!("{} {} {}", date.field, date.pattern, date.zone.as_ref().map_or("-", Zone::as_str)),
    )
}

/// `name: expanded url | id | updated | created`, then the warnings.
fn described((settings, warnings): &(EventSettings, Vec<Warning>)) -> Vec<String> {
    let times = MacroTimes {
        since: Some("2026-08-01T10:00:05.307Z".parse().expect("an instant")),
        now: "2026-08-01T12:00:00Z".parse().expect("an instant"),
    };
    let resources = settings.resources.iter().map(|(name, resource)| {
        format!(
            "{name}: {} | {} | {} | {}",
            resource.url.as_ref().map(|url: &PollUrl| url.expand(&times).to_string()).unwrap_or_default(),
            resource.id_field.as_deref().unwrap_or("-"),
            date(resource.updated.as_ref()),
            date(resource.created.as_ref()),
        )
    });
    resources.chain(warnings.iter().map(Warning::to_string)).collect()
}

#[track_caller]
fn check(body: &[u8], expected: &[&str]) {
    let read = settings_of(body);
    let settings = &read.0;
    assert_eq!(described(&read), expected);
    assert!(settings.enabled);
    assert_eq!(settings.interval_minutes, 5);
    assert_eq!(settings.callback.as_ref().map(|callback| callback.url.as_str()), Some("http://mycoolapp.com"));
    let stored = serde_json::to_string(settings).expect("JSON");
    assert_eq!(&serde_json::from_str::<EventSettings>(&stored).expect("settings"), settings);
}

#[test]
fn square() {
    check(
        include_bytes!("seeds/square.json"),
        &["timesheets: /timesheets?where=begin_updated_at = '2026-08-01T10:00:05Z' | id \
           | updated_at yyyy-MM-dd'T'HH:mm:ssXXX GMT | created_at yyyy-MM-dd'T'HH:mm:ssXXX GMT"],
    );
}

#[test]
fn maximizer() {
    check(
        include_bytes!("seeds/maximizer.json"),
        &[
            "addressbook-entries:  | - | - | -",
            "companies: /companies?where=LastModifyDate > '2026-08-01T10:00:05Z' | Key \
             | LastModifyDate yyyy-MM-dd'T'HH:mm:ssXXX - | -",
            "contacts: /contacts?where=LastModifyDate > '2026-08-01T10:00:05Z' | Key \
             | LastModifyDate yyyy-MM-dd'T'HH:mm:ssXXX - | -",
            "opportunities:  | - | - | -",
        ],
    );
}

#[test]
fn googlesuite() {
    check(
        include_bytes!("seeds/googlesuite.json"),
        &[
            "calendars/primary/changed-events: /calendars/primary/changed-events | - \
             | updated yyyy-MM-dd'T'HH:mm:ss.SSS'Z' GMT | created yyyy-MM-dd'T'HH:mm:ss.SSS'Z' GMT",
            "calendars/{calendarId}/changed-events: /calendars/{calendarId}/changed-events | - \
             | updated yyyy-MM-dd'T'HH:mm:ss.SSS'Z' GMT | created yyyy-MM-dd'T'HH:mm:ss.SSS'Z' GMT",
            "changed-groups: /changed-groups | id | metadata.updateTime yyyy-MM-dd'T'HH:mm:ss.SSS'Z' GMT \
             | metadata.updateTime yyyy-MM-dd'T'HH:mm:ss.SSS'Z' GMT",
            "changed-messages: /changed-messages | id | - | -",
            "configuration.\"event.poller.configuration\".\"calendars/primary/changed-events\".idField: \
             it is empty, so records are known by the element's own id",
            "configuration.\"event.poller.configuration\".\"calendars/{calendarId}/changed-events\".idField: \
             it is empty, so records are known by the element's own id",
        ],
    );
}

#[test]
fn revel() {
    check(
        include_bytes!("seeds/revel.json"),
        &[
            "employees: /employees?where=updated_date__gte = '2026-08-01T03:00:05.307' | id \
             | updated_date yyyy-MM-dd'T'HH:mm:ss.SSS PST | created_date yyyy-MM-dd'T'HH:mm:ss.SSS PST",
            "timesheets:  | - | - | -",
        ],
    );
}

#[test]
fn icontact() {
    check(
        include_bytes!("seeds/icontact.json"),
        &[
            "contacts: /contacts | contactId | createDate yyyy-MM-dd' 'HH:mm:ss - | createDate yyyy-MM-dd' 'HH:mm:ss -",
            "message: /messages | messageId | createDate yyyy-MM-dd'T'HH:mm:ssXXX - \
             | createDate yyyy-MM-dd'T'HH:mm:ssXXX -",
            "configuration.\"event.poller.configuration\".contacts.url: \
             the }' at the end closes nothing and is left out",
            "configuration.\"event.poller.configuration\".message.url: \
             the }' at the end closes nothing and is left out",
        ],
    );
}

/// The manual's curl example for Square: a comma too many, and events are not switched on.
#[test]
fn the_square_example_with_a_trailing_comma_says_where() {
    let body = r#"{
"configuration": {
"event.vendor.type": "polling",
"event.notification.callback.url": "https://api.cloud-elements.com/elements/api-v2/events/woocommercerest/",
"event.poller.refresh_interval": "15",
"event.poller.configuration":{
"timesheets": {
"url":"/hubs/ecommerce/customers",
"idField":"id",
"datesConfiguration":{
"updatedDateField":"updated_at",
"updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
"createdDateField":"created_at",
"createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
}
}
}
}
}"#;
    let problem = parse_strict(body.as_bytes(), Limits::default()).expect_err("a comma too many");
    assert_eq!((problem.line, problem.column), (15, 1));

    let read = settings_of(body.replace(",\n}", "\n}").as_bytes());
    assert_eq!((read.0.enabled, read.0.interval_minutes), (false, 15));
    assert_eq!(
        described(&read),
        [
            "timesheets: /customers | id | updated_at yyyy-MM-dd'T'HH:mm:ssXXX - \
             | created_at yyyy-MM-dd'T'HH:mm:ssXXX -",
            "configuration.\"event.notification.enabled\": it is absent, so nothing is polled until it is true",
        ]
    );
}

/// As printed, the interval is a word to be replaced.
#[test]
fn minutes_that_were_not_filled_in_are_pointed_out() {
    let body = include_str!("seeds/square.json").replace("\"5\"", "\"<minutes>\"");
    let body = serde_json::from_str::<Value>(&body).expect("JSON");
    let configuration = body["configuration"].as_object().expect("an object");
    let problems = EventSettings::parse(configuration).expect_err("a problem");
    assert_eq!(
        problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>(),
        ["configuration.\"event.poller.refresh_interval\": read <minutes>, \
          expected a whole number of minutes from 1 to 1440, such as \"15\""]
    );
}
