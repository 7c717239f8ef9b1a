//! Hub calls: a user reads the vendor's records through an instance, for each element.

use std::collections::BTreeSet;

use http::{HeaderMap, StatusCode};
use local::sandbox::Faults;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tests::harness::{SystemHarness, seed};

/// An account with records, and an instance to ask through.
struct Hub {
    world: SystemHarness,
    instance: u64,
    token: String,
}

impl Hub {
    async fn new(element: &str) -> Self {
        let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
        let instance = world.create(seed(element)).await;
        let (_, shown) = world.call("GET", &format!("/instances/{instance}"), None).await;
        let token = shown["token"].as_str().expect("a token").to_owned();
        Self { world, instance, token }
    }

    async fn get(&self, path: &str) -> (StatusCode, HeaderMap, Value) {
        self.world.call_through(Some(&self.token), "GET", path, None).await
    }

    /// The answer is a refusal with this status, and its text has this part.
    async fn refuses(&self, path: &str, status: u16, part: &str) {
        let (answered, _, body) = self.get(path).await;
        assert_eq!(answered, status, "{path}: {body:#}");
        assert!(body.to_string().contains(part), "{path}: {body:#}");
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A resource as a user asks for it.
struct Asked {
    element: &'static str,
    collection: &'static str,
    resource: &'static str,
    id: &'static str,
    record: Value,
    /// A condition that the vendor can do, and how many of the three records meet it.
    fits: Option<(&'static str, usize)>,
    /// A condition that it cannot do, and what the refusal names instead.
    refused: (&'static str, &'static str),
    total: bool,
}

fn table() -> Vec<Asked> {
    vec![
        Asked {
            element: "square",
            collection: "timecards",
            resource: "timesheets",
            id: "id",
            record: json!({"team_member_id": "TM1"}),
            fits: Some(("begin_updated_at='2026-01-05T09:01:00Z'", 2)),
            refused: ("team_member_id='TM1'", "begin_updated_at with"),
            total: false,
        },
        Asked {
            element: "maximizer",
            collection: "AbEntry",
            resource: "contacts",
            id: "Key",
            record: json!({"Type": "Contact", "LastName": "Ng"}),
            // The vendor's clock is Pacific, whatever its Z says.
            fits: Some(("LastModifyDate>='2026-01-05T01:01:30Z'", 1)),
            refused: ("LastModifyDate<'2026-01-01T00:00:00Z'", "LastModifyDate with > >="),
            total: false,
        },
        Asked {
            element: "googlesuite",
            collection: "events",
            resource: "calendars/primary/changed-events",
            id: "id",
            record: json!({"summary": "Review"}),
            fits: None,
            refused: ("summary='Review'", "cannot be filtered"),
            total: false,
        },
        Asked {
            element: "revel",
            collection: "TimeSheetEntry",
            resource: "timesheets",
            id: "id",
            record: json!({"role_name": "Cook"}),
            fits: Some(("updated_date__gte='2026-01-05T09:01:30Z'", 1)),
            refused: ("role_name LIKE 'C%'", "updated_date__gte with"),
            total: false,
        },
        Asked {
            element: "icontact",
            collection: "contacts",
            resource: "contacts",
            id: "contactId",
            record: json!({"email": "a@example.com"}),
            fits: Some(("email='a@example.com'", 3)),
            refused: ("email!='a@example.com'", "email with ="),
            total: true,
        },
    ]
}

#[tokio::test]
async fn a_list_is_read_page_by_page_through_every_element() {
    for Asked { element, collection, resource, id, record, total, .. } in table() {
        let hub = Hub::new(element).await;
        let mut there = BTreeSet::new();
        for _ in 0..7 {
            let made = hub.world.sandbox.create(element, collection, record.clone()).expect("a record");
            there.insert(text_of(&made[id]));
            hub.world.ambient.advance(std::time::Duration::from_secs(1));
        }
        let first = format!("/hubs/any/{resource}?pageSize=3&returnTotalCount=true");
        let (mut path, mut read, mut pages) = (first.clone(), BTreeSet::new(), 0);
        loop {
            let (status, headers, body) = hub.get(&path).await;
            assert_eq!(status, 200, "{element}: {body:#}");
            let records = body.as_array().expect("a list");
            assert_eq!(headers["elements-returned-count"], records.len().to_string(), "{element}");
            assert_eq!(headers["elements-element-instance-id"], hub.instance.to_string());
            assert_eq!(headers["elements-request-id"].len(), 24);
            let counted = headers.get("elements-total-count").map(|count| count.to_str().expect("a number"));
            assert_eq!(counted, total.then_some("7"), "{element}");
            read.extend(records.iter().map(|record| text_of(&record[id])));
            pages += 1;
            assert!(pages < 10, "{element} goes on for ever");
            let Some(next) = headers.get("elements-next-page-token") else { break };
            path = format!("{first}&nextPage={}", encoded(next.to_str().expect("a token")));
        }
        assert_eq!(read, there, "{element}");
        assert!(pages >= 3, "{element}: {pages} pages");
        let (_, headers, _) = hub.get(&format!("/hubs/any/{resource}")).await;
        assert!(!headers.contains_key("elements-total-count"), "{element}: nobody asked");

        let wanted = there.first().expect("seven");
        let (status, _, one) = hub.get(&format!("/hubs/other/{resource}/{}", encoded(wanted))).await;
        assert_eq!((status.as_u16(), text_of(&one[id])), (200, wanted.clone()), "{element}: {one:#}");
        let (_, _, part) = hub.get(&format!("/hubs/any/{resource}/{}?fields={id}", encoded(wanted))).await;
        assert_eq!(part, json!({id: one[id]}), "{element}");
        let (_, _, parts) = hub.get(&format!("/hubs/any/{resource}?fields={id}")).await;
        assert!(
            parts
                .as_array()
                .is_some_and(|all| all.iter().all(|row| row.as_object().map(serde_json::Map::len) == Some(1)))
        );
        hub.refuses(&format!("/hubs/any/{resource}/0"), 404, "no record").await;
        hub.refuses("/hubs/any/nonsense", 404, "expected one of").await;
    }
}

#[tokio::test]
async fn conditions_go_to_the_vendor_or_are_refused_with_those_that_work() {
    for Asked { element, collection, resource, record, fits, refused, .. } in table() {
        let hub = Hub::new(element).await;
        for _ in 0..3 {
            hub.world.sandbox.create(element, collection, record.clone()).expect("a record");
            hub.world.ambient.advance(std::time::Duration::from_secs(60));
        }
        if let Some((fits, expected)) = fits {
            let (status, _, body) = hub.get(&format!("/hubs/any/{resource}?where={}", encoded(fits))).await;
            assert_eq!((status.as_u16(), body.as_array().map(Vec::len)), (200, Some(expected)), "{element}: {body:#}");
        }
        let (condition, names) = refused;
        let before = hub.world.sandbox.requests().len();
        hub.refuses(&format!("/hubs/any/{resource}?where={}", encoded(condition)), 400, names).await;
        hub.refuses(&format!("/hubs/any/{resource}?where={}", encoded("a = = b")), 400, "CEQL").await;
        hub.refuses(&format!("/hubs/any/{resource}?pageSize=0"), 400, "pageSize").await;
        hub.refuses(&format!("/hubs/any/{resource}?nextPage=bm9uZQ"), 400, "nextPage").await;
        assert_eq!(hub.world.sandbox.requests().len(), before, "{element}: the vendor is not asked what is refused");
    }
}

#[tokio::test]
async fn an_order_that_the_vendor_has_is_given_and_any_other_is_refused() {
    let hub = Hub::new("icontact").await;
    for email in ["b@example.com", "c@example.com", "a@example.com"] {
        hub.world.sandbox.create("icontact", "contacts", json!({"email": email})).expect("a record");
    }
    let (status, _, body) = hub.get("/hubs/any/contacts?fields=email&orderBy=email%20desc").await;
    assert_eq!(status, 200, "{body:#}");
    let emails: Vec<&str> = body.as_array().into_iter().flatten().filter_map(|row| row["email"].as_str()).collect();
    assert_eq!(emails, ["c@example.com", "b@example.com", "a@example.com"]);
    hub.refuses("/hubs/any/contacts?orderBy=email%20up", 400, "asc or desc").await;

    let hub = Hub::new("revel").await;
    let (status, _, body) = hub.get("/hubs/any/timesheets?orderBy=updated_date").await;
    assert_eq!(status, 200, "{body:#}");
    hub.refuses("/hubs/any/timesheets?orderBy=id", 400, "updated_date asc").await;
}

#[tokio::test]
async fn nulls_are_left_out_unless_the_instance_keeps_them_and_secrets_are_masked() {
    let hub = Hub::new("revel").await;
    let employee = json!({"first_name": "Ada", "employee_end": null, "pin": "4711"});
    hub.world.sandbox.create("revel", "Employee", employee).expect("a record");
    let (_, _, body) = hub.get("/hubs/any/employees").await;
    assert_eq!(body[0]["first_name"], "Ada", "{body:#}");
    assert!(body[0].get("employee_end").is_none(), "{body:#}");
    assert_eq!(body[0]["pin"], "********");
    let keep = json!({"configuration": {"filter.response.nulls": false}});
    let (status, answer) = hub.world.call("PATCH", &format!("/instances/{}", hub.instance), Some(keep)).await;
    assert_eq!(status, 200, "{answer:#}");
    let (_, _, body) = hub.get("/hubs/any/employees").await;
    assert_eq!(body[0].get("employee_end"), Some(&Value::Null), "{body:#}");
}

#[tokio::test]
async fn who_may_ask_and_what_the_vendor_said_when_it_fails() {
    for Asked { element, resource, .. } in table() {
        let hub = Hub::new(element).await;
        let path = format!("/hubs/any/{resource}");
        let (status, answer) = hub.world.call("GET", &path, None).await;
        assert_eq!(status, 400, "{element}: without an instance's token: {answer:#}");
        hub.world.sandbox.set_faults(element, Faults { status_5xx_every: Some(1), ..Faults::default() }).expect("it");
        let (status, _, body) = hub.get(&path).await;
        assert_eq!(status, 502, "{element}: {body:#}");
        assert!(body["providerMessage"].as_str().is_some_and(|said| !said.is_empty()), "{element}: {body:#}");
        hub.world.sandbox.set_faults(element, Faults::default()).expect("it");
        hub.world.call("DELETE", &format!("/instances/{}/enabled", hub.instance), None).await;
        hub.refuses(&path, 403, "disabled").await;
    }
}
