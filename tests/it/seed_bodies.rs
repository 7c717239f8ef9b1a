//! The seed bodies, as the Cloud Elements documentation prints them: each is accepted, and each resource emits the
//! changes of a record.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::{SystemHarness, seed};

/// A record that is created, changed and deleted, and its events.
struct Life {
    element: &'static str,
    collection: &'static str,
    born: Value,
    changed: Value,
    /// Member of the record that holds its id in the sandbox.
    id: &'static str,
    /// The names of the resources that poll it, in `event.poller.configuration`.
    polled_by: &'static [&'static str],
    /// The vendor, or a complete listing, can tell that it is gone.
    goes: bool,
}

fn lives() -> Vec<Life> {
    let life = |element, collection, born, changed, id, polled_by| Life {
        element,
        collection,
        born,
        changed,
        id,
        polled_by,
        goes: true,
    };
    vec![
        life(
            "square",
            "timecards",
            json!({"team_member_id": "TM1"}),
            json!({"status": "CLOSED"}),
            "id",
            &["timesheets"],
        ),
        life(
            "maximizer",
            "AbEntry",
            json!({"Type": "Contact", "FirstName": "Ada", "LastName": "Ng"}),
            json!({"FirstName": "Ida"}),
            "Key",
            &["contacts", "addressbook-entries"],
        ),
        life(
            "maximizer",
            "AbEntry",
            json!({"Type": "Company", "CompanyName": "Acme"}),
            json!({"CompanyName": "Acme Ltd"}),
            "Key",
            &["companies", "addressbook-entries"],
        ),
        life(
            "maximizer",
            "Opportunity",
            json!({"Objective": "Renew"}),
            json!({"Objective": "Win"}),
            "Key",
            &["opportunities"],
        ),
        life(
            "googlesuite",
            "events",
            json!({"summary": "Review"}),
            json!({"summary": "Retro"}),
            "id",
            &["calendars/primary/changed-events", "calendars/{calendarId}/changed-events"],
        ),
        life(
            "googlesuite",
            "contactGroups",
            json!({"name": "Friends"}),
            json!({"name": "Best"}),
            "resourceName",
            &["changed-groups"],
        ),
        life(
            "googlesuite",
            "messages",
            json!({"snippet": "Hi"}),
            json!({"labelIds": ["INBOX", "STARRED"]}),
            "id",
            &["changed-messages"],
        ),
        life(
            "revel",
            "TimeSheetEntry",
            json!({"role_name": "Cook"}),
            json!({"role_name": "Chef"}),
            "id",
            &["timesheets"],
        ),
        Life {
            goes: false,
            ..life(
                "revel",
                "Employee",
                json!({"first_name": "Ada"}),
                json!({"first_name": "Ida"}),
                "id",
                &["employees"],
            )
        },
        life(
            "icontact",
            "contacts",
            json!({"email": "a@example.com"}),
            json!({"firstName": "Ada"}),
            "contactId",
            &["contacts"],
        ),
        Life {
            goes: false,
            ..life(
                "icontact",
                "messages",
                json!({"subject": "News"}),
                json!({"subject": "More"}),
                "messageId",
                &["message"],
            )
        },
    ]
}

#[tokio::test]
async fn every_resource_of_every_seed_emits_what_becomes_of_a_record() {
    let mut wrong = Vec::new();
    for life in lives() {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        world.sandbox.create(life.element, life.collection, life.born.clone()).expect("a record from before");
        world.skip(Duration::from_secs(7200)).await;
        world.create(seed(life.element)).await;
        world.tick().await;

        let record = world.sandbox.create(life.element, life.collection, life.born.clone()).expect("a record");
        let id = match &record[life.id] {
            Value::String(id) => id.clone(),
            other => other.to_string(),
        };
        world.advance(Duration::from_secs(120)).await;
        let own = id.rsplit('/').next().unwrap_or(&id).to_owned();
        let own = if life.element == "maximizer" { id.clone() } else { own };
        world.sandbox.update(life.element, life.collection, &own, life.changed.clone()).expect("the record");
        world.advance(Duration::from_secs(120)).await;
        if life.goes {
            world.sandbox.destroy(life.element, life.collection, &own).expect("the record");
            world.skip(Duration::from_secs(25 * 3600)).await;
        }
        let object_id = own;
        let steps: &[&str] = if life.goes { &["CREATED", "UPDATED", "DELETED"] } else { &["CREATED", "UPDATED"] };
        let mut wanted: Vec<String> = Vec::new();
        for name in life.polled_by {
            wanted.extend(steps.iter().zip(1..).map(|(step, n)| format!("{step} {name} {object_id} #{n}")));
        }
        let mut emitted = world.events();
        emitted.sort();
        wanted.sort();
        world.assert_ids_are_facts();
        if emitted != wanted {
            wrong.push(format!("{} {}: emitted {emitted:#?}, wanted {wanted:#?}", life.element, life.collection));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Fills in what a printed body leaves open, in angle brackets, as its user would.
fn filled(printed: &str, with: &[(&str, &str)]) -> Value {
    let mut body: Value = serde_json::from_str(printed).expect("seed bodies are JSON");
    for part in ["providerData", "configuration"] {
        for (key, value) in body[part].as_object_mut().into_iter().flatten() {
            if let Some((_, text)) = with.iter().find(|(name, _)| name == key) {
                *value = json!(text);
            } else if value.as_str().is_some_and(|text| text.starts_with('<')) {
                *value = json!(if key == "code" { "sandbox-code-main" } else { "main" });
            }
        }
    }
    body
}

macro_rules! printed {
    ($name:literal) => {
        include_str!(concat!("../../shared/domain/tests/seeds/", $name, ".json"))
    };
}

/// The answer is 200, and these are its warnings.
async fn check_accepted(body: Value, expected: &[&str]) {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let resources = body["configuration"]["event.poller.configuration"].as_object().expect("resources").len();
    let (status, answer) = world.call("POST", "/instances", Some(body)).await;
    assert_eq!(status, 200, "{answer:#}");
    let warning = |warning: &Value| format!("{}: {}", word(&warning["field"]), word(&warning["message"]));
    let warnings: Vec<String> = answer["warnings"].as_array().into_iter().flatten().map(warning).collect();
    let prefix = "configuration.\"event.poller.configuration\".";
    let warnings: Vec<&str> = warnings.iter().map(|text| text.trim_start_matches(prefix)).collect();
    assert_eq!(warnings, expected, "{}", answer["element"]["key"]);
    let (status, records) = world.call("GET", &format!("/instances/{}/coverage", answer["id"]), None).await;
    assert_eq!((status.as_u16(), records.as_array().map(Vec::len)), (200, Some(resources)), "{records:#}");
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[tokio::test]
async fn every_printed_body_is_accepted_and_its_quirks_are_reported() {
    let code = ("code", "sandbox-code-main");
    let google = [
        "\"calendars/primary/changed-events\".idField: it is empty, so records are known by the element's own id",
        "\"calendars/{calendarId}/changed-events\".idField: it is empty, so records are known by the element's own id",
        "changed-groups.idField: no record has \"id\"; /resourceName is used",
        "changed-groups.datesConfiguration.createdDateField: metadata.updateTime is both dates, so a record is new when \
         it was never seen before",
    ];
    check_accepted(filled(printed!("square"), &[]), &[]).await;
    check_accepted(filled(printed!("maximizer"), &[]), &[]).await;
    check_accepted(filled(printed!("maximizer_curl"), &[]), &[]).await;
    check_accepted(filled(printed!("googlesuite"), &[]), &google).await;
    check_accepted(filled(printed!("googlesuite_curl"), &[]), &google).await;
    check_accepted(filled(printed!("revel"), &[]), &[]).await;
    // Filled in by the manual's words, which stand one line too low.
    let by_the_words = [
        ("oauth.callback.url", "main"),
        ("oauth.api.key", "its secret"),
        ("oauth.api.secret", "https://mycoolapp.com/oauth"),
    ];
    check_accepted(
        filled(printed!("revel"), &by_the_words),
        &[
            "configuration.\"oauth.api.key\": it is read from \"oauth.callback.url\", because the manual mixes up the two",
            "configuration.\"oauth.api.secret\": it is read from \"oauth.api.key\", because the manual mixes up the two",
            "configuration.\"oauth.callback.url\": it is read from \"oauth.api.secret\", because the manual mixes up the two",
        ],
    )
    .await;
    let icontact = [
        "contacts.url: the }' at the end closes nothing and is left out",
        "message.url: the }' at the end closes nothing and is left out",
        "contacts.datesConfiguration.updatedDateField: the vendor keeps no date of the last change; changes are found \
         by comparing contents",
        "message: it is read as messages",
        "message.datesConfiguration.updatedDateField: the vendor keeps no date of the last change; changes are found \
         by comparing contents",
    ];
    check_accepted(filled(printed!("icontact"), &[("api.version", "2.2"), code]), &icontact).await;
}

#[tokio::test]
async fn the_printed_call_without_credentials_learns_what_it_lacks() {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = filled(printed!("icontact_curl"), &[]);
    let (status, answer) = world.call("POST", "/instances", Some(body.clone())).await;
    assert_eq!(status, 400, "{answer:#}");
    for key in ["api.version", "AppID", "api.username", "api.password"] {
        let named = answer["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|problem| problem["field"].as_str().is_some_and(|field| field.contains(key)));
        assert!(named, "{key}: {answer:#}");
    }
    assert!(world.sandbox.requests().is_empty(), "the vendor is not asked");
    for (key, value) in [("api.version", "2.2"), ("AppID", "a"), ("api.username", "main"), ("api.password", "p")] {
        body["configuration"][key] = json!(value);
    }
    let id_field = "contacts.idField: no record has \"messageId\"; /contactId is used";
    let no_date = "contacts.datesConfiguration.updatedDateField: the vendor keeps no date of the last change; changes \
                   are found by comparing contents";
    check_accepted(body, &[id_field, no_date]).await;
}

/// `{calendarId}` is one value or several of a configuration key of that name, or stands for every calendar there is.
#[tokio::test]
async fn a_blank_in_a_resource_is_filled_from_the_configuration_or_stands_for_all() {
    let name = "calendars/{calendarId}/changed-events";
    let several = json!(["me@example.com", "team@x"]);
    for (given, expected) in [
        (None, "me@example.com team@x third@x"),
        (Some(json!("team@x")), "team@x"),
        (Some(json!("team@x, third@x")), "team@x third@x"),
        (Some(several), "me@example.com team@x"),
    ] {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        for calendar in ["team@x", "third@x"] {
            world.sandbox.create("googlesuite", "calendars", json!({"id": calendar})).expect("a calendar");
        }
        let mut body = seed("googlesuite");
        let entry = body["configuration"]["event.poller.configuration"][name].clone();
        body["configuration"]["event.poller.configuration"] = json!({name: entry});
        if let Some(given) = &given {
            body["configuration"]["calendarId"] = given.clone();
        }
        world.create(body).await;
        for (number, calendar) in ["me@example.com", "team@x", "third@x"].into_iter().enumerate() {
            let of_calendar = if number == 0 { "events".to_owned() } else { format!("events:{calendar}") };
            let event = json!({"id": format!("ev{number}")});
            world.sandbox.create("googlesuite", &of_calendar, event).expect("an event");
        }
        world.advance(Duration::from_secs(120)).await;
        let mut emitted: Vec<String> = Vec::new();
        for callback in world.callbacks() {
            for event in callback.json()["message"]["events"].as_array().into_iter().flatten() {
                emitted.push(word(&event["partition"]).to_owned());
            }
        }
        emitted.sort();
        assert_eq!(emitted.join(" "), expected, "{given:?}");
    }
}
