//! Tests of the notifications' bytes, sizes and limits.

use bytes::Bytes;
use chrono::TimeDelta;
use serde_json::Value;

use super::*;
use crate::event::event_id;
use crate::record::ChangeKind;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn change(id: &str, raw: &str) -> Change {
    Change {
        event: event_id(InstanceId(7_950_647), "invoices", "", id, 3),
        kind: ChangeKind::Created,
        id: id.into(),
        partition: String::new(),
        revision: 3,
        date: Some(at("2018-08-20T15:29:06.900Z")),
        raw: Bytes::copy_from_slice(raw.as_bytes()),
    }
}

fn pack(format: NotificationFormat, changes: &[Change], largest: usize) -> Vec<Notification> {
    let tags = ["Local netsuite".to_owned()];
    let sender = Sender {
        instance: InstanceId(7_950_647),
        organization: OrganizationId(874),
        user: UserId(2749),
        name: "Local \"netsuite\"",
        tags: &tags,
        element: "netsuiteerpv2",
        hub: "erp",
    };
    let poll_date = at("2018-08-20T15:29:34.827Z");
    notifications(&sender, format, "invoices", changes, poll_date, at("2018-08-20T15:30:07Z"), largest)
}

#[test]
fn the_envelope_is_the_captured_one_byte_for_byte() {
    let raw = r#"{ "internalId":"14682", "total": 2000.00,"total":1E2 }"#;
    let [notification] = &pack(NotificationFormat::Elements, &[change("14682", raw)], LARGEST_RECORD)[..] else {
        panic!("one notification");
    };
    let expected = [
        r#"{"severity":"medium","createdDate":"Mon Aug 20 15:30:07 UTC 2018","#,
        r#""topic":"instance-7950647-netsuiteerpv2-events","action":"create","id":"NUMBER","#,
        r#""message":{"elementKey":"netsuiteerpv2","accountId":874,"eventId":"DELIVERY","companyId":874,"#,
        r#""instanceId":7950647,"instance_id":7950647,"instanceName":"Local \"netsuite\"","#,
        r#""instanceTags":["Local netsuite"],"#,
        r#""raw":{"invoices":[{ "internalId":"14682", "total": 2000.00,"total":1E2 }],"#,
        r#""pollDate":1534778974827,"objectType":"invoices"},"userId":2749,"#,
        r#""events":[{"date":"2018-08-20T15:29:06Z","elementKey":"netsuiteerpv2","#,
        r#""pollDate":"2018-08-20T15:29:34Z","eventType":"CREATED","hubKey":"erp","objectId":"14682","#,
        r#""objectType":"invoices","id":"EVENT","sequence":3}]},"user":"notifications@cloud-elements.com"}"#,
    ]
    .concat()
    .replace("NUMBER", &notification.number)
    .replace("DELIVERY", &notification.delivery.0)
    .replace("EVENT", &change("14682", raw).event.0);
    assert_eq!(notification.body, expected);
    assert!(notification.omitted.is_empty());
}

#[test]
fn an_event_without_a_date_has_the_polls() {
    let dateless = Change { date: None, kind: ChangeKind::Deleted, ..change("1", r#"{"id":"1"}"#) };
    let body: Value =
        serde_json::from_str(&pack(NotificationFormat::Elements, &[dateless], LARGEST_RECORD)[0].body).unwrap();
    assert_eq!(body["message"]["events"][0]["date"], "2018-08-20T15:29:34Z");
    assert_eq!(body["message"]["events"][0]["eventType"], "DELETED");
}

#[test]
fn ten_events_at_most_and_a_megabyte_where_possible() {
    let small: Vec<Change> = (0..25).map(|n| change(&n.to_string(), "{}")).collect();
    let ranges: Vec<_> =
        pack(NotificationFormat::Elements, &small, LARGEST_RECORD).into_iter().map(|one| one.changes).collect();
    assert_eq!(ranges, [0..10, 10..20, 20..25]);
    assert!(pack(NotificationFormat::Elements, &[], LARGEST_RECORD).is_empty());

    let record = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
    let sizes = [400_000, 400_000, 400_000, 3_000_000, 10];
    let mixed: Vec<Change> = sizes.iter().enumerate().map(|(n, size)| change(&n.to_string(), &record(*size))).collect();
    let packed = pack(NotificationFormat::Elements, &mixed, LARGEST_RECORD);
    let ranges: Vec<_> = packed.iter().map(|one| one.changes.clone()).collect();
    assert_eq!(ranges, [0..2, 2..3, 3..4, 4..5]);
    assert!(packed[0].body.len() < LARGEST_SHARED_BODY);
}

#[test]
fn the_bound_on_a_shared_body_is_exact_enough_to_fill_it() {
    for format in [NotificationFormat::Elements, NotificationFormat::CloudEventsBatch] {
        let changes: Vec<Change> =
            (0..10).map(|n| change(&n.to_string(), &format!("\"{}\"", "x".repeat(99_600)))).collect();
        for one in pack(format, &changes, LARGEST_RECORD) {
            assert!(one.body.len() < LARGEST_SHARED_BODY, "{}", one.body.len());
        }
        let changes: Vec<Change> =
            (0..10).map(|n| change(&n.to_string(), &format!("\"{}\"", "x".repeat(99_000)))).collect();
        assert_eq!(pack(format, &changes, LARGEST_RECORD).len(), 1);
    }
}

#[test]
fn a_size_is_what_a_change_adds_to_a_body() {
    let tags = [];
    let (at, id) = (at("2018-08-20T15:29:34Z"), DeliveryId(String::new()));
    let sender = Sender {
        instance: InstanceId(1),
        organization: OrganizationId(2),
        user: UserId(3),
        name: "n",
        tags: &tags,
        element: "square",
        hub: "pos",
    };
    // Commas stand between entries only: two lists in Cloud Elements' form, one in the other.
    for (format, commas) in [(NotificationFormat::Elements, 2), (NotificationFormat::CloudEventsBatch, 1)] {
        let writer = Writer { sender: &sender, format, object_type: "orders", poll_date: at, now: at };
        for count in 1..=3 {
            let changes: Vec<Change> = (0..count).map(|n| change(&n.to_string(), "{\"a\":1}")).collect();
            let records: Vec<_> = changes.iter().map(|change| record(change, 100).expect("JSON")).collect();
            let sizes: usize = changes.iter().zip(&records).map(|(change, raw)| writer.size_of(change, raw)).sum();
            let empty = writer.body(&[], &[], &id, "").len();
            assert_eq!(writer.body(&changes, &records, &id, "").len(), empty + sizes - commas);
        }
    }
}

#[test]
fn groups_are_filled_to_the_brim() {
    assert_eq!(split(&[5, 5], 10, 10).len(), 1);
    assert_eq!(split(&[5, 6], 10, 10), [0..1, 1..2]);
    assert_eq!(split(&[50, 1, 1, 1], 2, 10), [0..1, 1..3, 3..4]);
    assert!(record(&change("1", "\"0123456789\""), 12).is_ok());
    assert!(record(&change("1", "\"0123456789\""), 11).is_err());
}

#[test]
fn what_cannot_travel_leaves_a_stub_and_a_note() {
    let changes = [change("big", "\"0123456789\""), change("odd", "{broken"), change("fine", "{}")];
    let [notification] = &pack(NotificationFormat::Elements, &changes, 11)[..] else { panic!("one notification") };
    let body: Value = serde_json::from_str(&notification.body).unwrap();
    let records = body["message"]["raw"]["invoices"].as_array().unwrap();
    assert_eq!(records[0]["omitted"]["bytes"], 12);
    assert_eq!((&records[0]["objectId"], &records[1]["objectId"]), (&"big".into(), &"odd".into()));
    assert_eq!(records[2], serde_json::json!({}));
    let omitted: Vec<usize> = notification.omitted.iter().map(|omitted| omitted.change).collect();
    assert_eq!(omitted, [0, 1]);
}

#[test]
fn cloud_events_carry_the_record_as_data() {
    let changes = [change("1", r#"{"a":1.0}"#), change("2", "{}")];
    let packed = pack(NotificationFormat::CloudEvents, &changes, LARGEST_RECORD);
    assert_eq!(packed.len(), 2);
    let expected = [
        r#"{"specversion":"1.0","id":"EVENT","source":"/elements/netsuiteerpv2/instances/7950647","#,
        r#""type":"pollux.invoices.created","subject":"1","time":"2018-08-20T15:29:06.900Z","#,
        r#""datacontenttype":"application/json","sequence":"0000000003","data":{"a":1.0}}"#,
    ]
    .concat()
    .replace("EVENT", &changes[0].event.0);
    assert_eq!(packed[0].body, expected);
    let batched = pack(NotificationFormat::CloudEventsBatch, &changes, LARGEST_RECORD);
    assert_eq!(batched.len(), 1);
    assert_eq!(batched[0].body, format!("[{expected},{}]", packed[1].body));
    assert_eq!(NotificationFormat::CloudEventsBatch.content_type(), "application/cloudevents-batch+json");
}

#[test]
fn java_pads_the_day_of_the_month() {
    let start = at("2026-01-01T00:00:00Z");
    assert_eq!(java_date(start), "Thu Jan 01 00:00:00 UTC 2026");
    assert_eq!(java_date(start + TimeDelta::days(180)), "Tue Jun 30 00:00:00 UTC 2026");
}

#[test]
fn the_committed_schema_accepts_what_is_sent_and_nothing_mangled() {
    let schema: Value = serde_json::from_str(include_str!("../../schemas/notification.v1.json")).unwrap();
    let changes: Vec<Change> = (0..10).map(|n| change(&n.to_string(), r#"{"n":1}"#)).collect();
    let body: Value =
        serde_json::from_str(&pack(NotificationFormat::Elements, &changes, LARGEST_RECORD)[0].body).unwrap();
    assert_eq!(schema::problems(&schema, &body), Vec::<String>::new());
    for (pointer, broken) in [
        ("/id", Value::from(5)),
        ("/createdDate", Value::from("2018-08-20T15:30:07Z")),
        ("/message/instance_id", Value::from("7950647")),
        ("/message/events/0/eventType", Value::from("created")),
        ("/message/events/0/date", Value::from("2018-08-20T15:30:07.1Z")),
        ("/message/events/3/sequence", Value::from(0)),
        ("/message/raw/invoices", Value::from("none")),
        ("/message/events", Value::Array(vec![])),
    ] {
        let mut mangled = body.clone();
        *mangled.pointer_mut(pointer).unwrap() = broken;
        assert_eq!(schema::problems(&schema, &mangled).len(), 1, "{pointer}");
    }
    let mut lacking = body.clone();
    lacking["message"].as_object_mut().unwrap().remove("eventId");
    assert_eq!(schema::problems(&schema, &lacking), ["/message lacks eventId"]);
}

/// The part of JSON Schema that the committed file uses; a keyword that is not here is a problem.
mod schema {
    use serde_json::Value;

    pub(super) fn problems(schema: &Value, value: &Value) -> Vec<String> {
        let mut found = Vec::new();
        check(schema, value, "", &mut found);
        found
    }

    fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
        let keywords = schema.as_object().expect("a schema is an object");
        let mut say = |what: String| found.push(format!("{path} {what}"));
        let length = value.as_array().map_or(0, Vec::len) as u64;
        for (keyword, wanted) in keywords {
            match keyword.as_str() {
                "$schema" | "$id" | "title" | "description" | "examples" => {}
                "type" => {
                    let is = match wanted.as_str().expect("one type") {
                        "object" => value.is_object(),
                        "array" => value.is_array(),
                        "string" => value.is_string(),
                        "integer" => value.is_u64() || value.is_i64(),
                        other => panic!("type {other}"),
                    };
                    if !is {
                        say(format!("is no {wanted}"));
                    }
                }
                "const" if value != wanted => say(format!("is not {wanted}")),
                "enum" if !wanted.as_array().expect("a list").contains(value) => say("is no known word".into()),
                "minimum" if value.is_number() && value.as_u64() < wanted.as_u64() => say("is too small".into()),
                "minItems" if length < wanted.as_u64().expect("a number") => say("is too short".into()),
                "maxItems" if length > wanted.as_u64().expect("a number") => say("is too long".into()),
                "pattern" => {
                    let pattern = regex_lite::Regex::new(wanted.as_str().expect("text")).expect("a pattern");
                    if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                        say(format!("does not match {wanted}"));
                    }
                }
                "required" => {
                    for key in wanted.as_array().expect("a list") {
                        let key = key.as_str().expect("text");
                        if value.get(key).is_none() {
                            say(format!("lacks {key}"));
                        }
                    }
                }
                "const" | "enum" | "minimum" | "minItems" | "maxItems" => {}
                "properties" | "additionalProperties" | "items" => {}
                other => panic!("keyword {other}"),
            }
        }
        if let (Some(items), Some(entries)) = (keywords.get("items"), value.as_array()) {
            for (index, entry) in entries.iter().enumerate() {
                check(items, entry, &format!("{path}/{index}"), found);
            }
        }
        for (key, entry) in value.as_object().into_iter().flatten() {
            match (schema["properties"].get(key), keywords.get("additionalProperties")) {
                (Some(schema), _) => check(schema, entry, &format!("{path}/{key}"), found),
                (None, Some(Value::Bool(false))) => found.push(format!("{path} has {key}")),
                (None, Some(schema @ Value::Object(_))) => check(schema, entry, &format!("{path}/{key}"), found),
                (None, _) => {}
            }
        }
    }
}
