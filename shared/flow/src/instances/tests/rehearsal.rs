//! Rehearsals of a configuration against vendors that behave differently.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::{HeaderValue, Request, Response};
use serde_json::{Value, json};

use super::{InstanceFixture, answer, friendly, shop};
use crate::instances::{InstanceBody, Rehearsed, rehearse, rehearse_new};

impl InstanceFixture {
    /// The result of trying one resource of a shop.
    async fn tried(&self, resource: &str) -> Rehearsed {
        let body = InstanceBody::read(&shop(json!({resource: {}}))).unwrap();
        let mut found = rehearse_new(&self.service, body).await.unwrap().resources;
        assert!(self.test.store.items().is_empty(), "nothing is stored");
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    /// The same of a vendor that lists payments with these stamps, two on a page, and filters them so.
    async fn tried_with(&self, stamps: &[&str], keeps: fn(&Payment, DateTime<Utc>) -> bool) -> Rehearsed {
        let payment = |(n, at): (usize, &&str)| Payment { id: n.to_string(), at: at.to_string() };
        let payments: Vec<Payment> = stamps.iter().enumerate().map(payment).collect();
        self.vendor(move |request| till(request, &payments, keeps));
        self.tried("payments").await
    }
}

struct Payment {
    id: String,
    at: String,
}

impl Payment {
    fn updated(&self) -> DateTime<Utc> {
        self.at.parse().unwrap()
    }
}

/// Records on a page.
const PAGE: usize = 4;

fn till(request: &Request<Bytes>, payments: &[Payment], keeps: fn(&Payment, DateTime<Utc>) -> bool) -> Response<Bytes> {
    if request.uri().path() != "/v2/payments" {
        return friendly(request);
    }
    let given = |wanted: &str| {
        let mut query = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes());
        query.find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
    };
    let since = given("updated_at_begin_time").map(|text| text.parse().unwrap());
    let from = given("cursor").map_or(0, |text| text.parse().unwrap());
    let kept: Vec<&Payment> = payments.iter().filter(|one| since.is_none_or(|since| keeps(one, since))).collect();
    let page = kept.iter().skip(from).take(PAGE).map(|one| json!({"id": one.id, "updated_at": one.at}));
    let mut body = json!({"payments": page.collect::<Vec<_>>()});
    if kept.len() > from + PAGE {
        body["cursor"] = json!((from + PAGE).to_string());
    }
    let mut response = answer(200, &body);
    response.headers_mut().insert("date", HeaderValue::from_static("Mon, 05 Jan 2026 09:00:00 GMT"));
    response
}

fn from_the_bound_on(payment: &Payment, since: DateTime<Utc>) -> bool {
    payment.updated() >= since
}

fn beyond_the_bound(payment: &Payment, since: DateTime<Utc>) -> bool {
    payment.updated() > since
}

fn everything(_: &Payment, _: DateTime<Utc>) -> bool {
    true
}

#[tokio::test]
async fn nothing_is_said_where_nothing_is_wrong() {
    let stamps = ["2026-01-05T08:00:00Z", "2026-01-05T08:30:11Z", "2026-01-05T08:59:59Z"];
    let found = InstanceFixture::new().tried_with(&stamps, from_the_bound_on).await;
    assert_eq!((found.records, found.precision, &found.failure), (3, Some("seconds"), &None));
    assert_eq!((&found.problems, &found.findings), (&vec![], &vec![]));
    let shown: Vec<_> = found.samples.iter().map(|one| (one.object_id.as_str(), one.date.as_deref())).collect();
    assert_eq!(shown, [("0", Some(stamps[0])), ("1", Some(stamps[1])), ("2", Some(stamps[2]))]);
}

#[tokio::test]
async fn stamps_are_as_fine_as_the_finest_of_them_and_many_whole_minutes_are_worth_a_word() {
    let whole = "2026-01-05T08:00:00Z";
    for (stamps, precision, findings) in [
        (vec![whole; 3], "minutes", 0),
        (vec![whole; 4], "minutes", 1),
        (vec![whole, whole, whole, "2026-01-05T08:00:01Z"], "seconds", 0),
        (vec!["2026-01-05T08:00:00.5Z"; 4], "milliseconds", 0),
        (vec![whole, "2026-01-05T08:00:01.5Z"], "milliseconds", 0),
    ] {
        let found = InstanceFixture::new().tried_with(&stamps, from_the_bound_on).await;
        assert_eq!((found.precision, found.findings.len()), (Some(precision), findings), "{stamps:?}: {found:?}");
        assert_eq!(found.problems, [""; 0], "{stamps:?}");
    }
}

#[tokio::test]
async fn dates_that_cannot_be_read_are_a_problem_where_changes_are_found_by_them() {
    for (resource, members, problems, findings) in [
        ("payments", json!({"payments": [{"id": "1"}]}), 1, 0),
        ("payments", json!({"payments": []}), 0, 1),
        // No location says when it was changed.
        ("locations", json!({"locations": [{"id": "1"}]}), 0, 0),
        ("locations", json!({"locations": []}), 0, 1),
    ] {
        let fixture = InstanceFixture::new();
        let body = members.clone();
        fixture.vendor(move |request| match request.uri().path() {
            "/v2/payments" | "/v2/locations" => answer(200, &body),
            _ => friendly(request),
        });
        let found = fixture.tried(resource).await;
        assert_eq!((found.problems.len(), found.findings.len()), (problems, findings), "{members}: {found:?}");
        assert_eq!((found.precision, found.failure), (None, None), "{members}");
    }
}

#[tokio::test]
async fn a_stamp_ahead_of_the_vendors_clock_is_in_the_wrong_zone_after_twenty_minutes() {
    for (newest, wrong) in [("2026-01-05T09:20:00Z", false), ("2026-01-05T09:20:01Z", true)] {
        let found = InstanceFixture::new().tried_with(&["2026-01-05T07:00:01Z", newest], from_the_bound_on).await;
        let told = found.problems.iter().any(|said| said.contains("20 minutes ahead of the vendor's own clock"));
        assert_eq!((told, found.problems.len()), (wrong, usize::from(wrong)), "{found:?}");
    }
}

#[tokio::test]
async fn a_filter_that_does_not_filter_is_told_and_one_that_leaves_out_the_bound_is_mentioned() {
    let few = ["2026-01-05T08:00:01Z", "2026-01-05T08:30:00Z", "2026-01-05T08:59:00Z"];
    let found = InstanceFixture::new().tried_with(&few, everything).await;
    let [said] = &found.problems[..] else { panic!("{found:?}") };
    assert!(said.contains("ignores the filter: 3 records"), "{said}");
    assert_eq!(found.findings, [""; 0]);

    let found = InstanceFixture::new().tried_with(&few, beyond_the_bound).await;
    let [said] = &found.findings[..] else { panic!("{found:?}") };
    assert!(said.contains("compares strictly"), "{said}");
    assert_eq!(found.problems, [""; 0]);
}

/// Records of a day after the newest of the first page may come from the other pages.
#[tokio::test]
async fn a_first_page_of_several_does_not_make_a_filter_look_wrong() {
    let many = [
        "2026-01-01T08:00:01Z",
        "2026-01-01T08:00:02Z",
        "2026-01-01T08:00:03Z",
        "2026-01-01T08:00:04Z",
        "2026-01-02T08:00:04Z",
    ];
    for keeps in [from_the_bound_on, beyond_the_bound] {
        let found = InstanceFixture::new().tried_with(&many, keeps).await;
        assert_eq!((found.records, &found.problems, &found.findings), (4, &vec![], &vec![]));
    }
}

#[tokio::test]
async fn only_a_filter_is_tried() {
    let fixture = InstanceFixture::new();
    fixture.vendor(|request| match request.uri().path() {
        "/v2/team-members/search" => {
            answer(200, &json!({"team_members": [{"id": "1", "updated_at": "2026-01-05T08:00:01Z"}]}))
        }
        _ => friendly(request),
    });
    let (found, asked) = fixture.asked(fixture.tried("employees")).await;
    assert_eq!((found.records, found.problems.len(), found.failure), (1, 0, None));
    assert_eq!(asked.len(), 2, "the proof and one page: {asked:?}");
}

#[tokio::test]
async fn what_is_listed_for_each_parent_is_tried_with_those_there_are() {
    let fixture = InstanceFixture::new();
    let places = |request: &Request<Bytes>, locations: Value| match request.uri().path() {
        "/v2/locations" => answer(200, &json!({"locations": locations})),
        "/v2/orders/search" => {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            let order = json!({"id": "O", "updated_at": "2026-01-05T08:00:01Z", "places": body["location_ids"]});
            answer(200, &if body["location_ids"] == json!(["A", "B"]) { json!({"orders": [order]}) } else { json!({}) })
        }
        _ => friendly(request),
    };
    fixture.vendor(move |request| places(request, json!([{"id": "B"}, {"id": "A"}])));
    let found = fixture.tried("orders").await;
    assert_eq!((found.records, found.failure), (1, None));

    fixture.vendor(move |request| places(request, json!([])));
    let (found, asked) = fixture.asked(fixture.tried("orders")).await;
    let [said] = &found.findings[..] else { panic!("{found:?}") };
    assert!(said.contains("parent listing is empty"), "{said}");
    assert!(asked.iter().all(|(path, _)| path != "/v2/orders/search"), "{asked:?}");
}

#[tokio::test]
async fn an_empty_page_before_the_end_is_passed_over() {
    let fixture = InstanceFixture::new();
    fixture.vendor(|request| match (request.uri().path(), request.uri().query()) {
        ("/v2/payments", Some(query)) if !query.contains("&cursor=") => {
            answer(200, &json!({"payments": [], "cursor": "x"}))
        }
        ("/v2/payments", _) => answer(200, &json!({"payments": [{"id": "1"}]})),
        _ => friendly(request),
    });
    let found = fixture.tried("payments").await;
    assert_eq!((found.records, found.failure), (1, None));
}

#[tokio::test]
async fn a_page_may_be_megabytes_long() {
    let fixture = InstanceFixture::new();
    let long = "x".repeat(2_000_000);
    fixture.vendor(move |request| match request.uri().path() {
        "/v2/locations" => answer(200, &json!({"locations": [{"id": "1", "note": long}]})),
        _ => friendly(request),
    });
    let found = fixture.tried("locations").await;
    assert_eq!((found.records, found.failure), (1, None));
}

#[tokio::test]
async fn a_slow_vendor_gets_what_is_left_of_the_time_and_no_more() {
    for (passed, left) in [(5, Some(15)), (20, Some(4)), (24, None)] {
        let fixture = InstanceFixture::new();
        let clock = Arc::clone(&fixture.test.ambient);
        fixture.vendor(move |request| {
            if request.uri().path() == "/v2/merchants/me" {
                clock.advance(Duration::from_secs(passed));
            }
            friendly(request)
        });
        let found = fixture.tried("locations").await;
        let asked = fixture.test.http.requests();
        let page = asked.iter().find(|(request, _)| request.uri().path() == "/v2/locations");
        assert_eq!(page.map(|(_, bounds)| bounds.deadline.as_secs()), left, "after {passed} seconds");
        let told = found.failure.is_some_and(|said| said.contains("no time left"));
        assert_eq!(told, left.is_none(), "after {passed} seconds");
    }
}

#[tokio::test]
async fn a_change_is_tried_with_a_token_made_by_hand() {
    let fixture = InstanceFixture::new();
    let id = fixture.create(&shop(json!({}))).await.unwrap().record.id;
    fixture.vendor(|request| match request.uri().path() {
        "/v2/locations" => answer(200, &json!({"locations": [{"id": "1"}]})),
        _ => friendly(request),
    });
    let change = json!({"configuration": {"event.poller.configuration": {"locations": {}}}});
    let before = fixture.test.store.items();
    let body = InstanceBody::read(&change).unwrap();
    let (found, asked) = fixture.asked(rehearse(&fixture.service, &fixture.caller, id, body)).await;
    assert_eq!(found.unwrap().resources[0].records, 1);
    assert_eq!(asked, [("/v2/locations".to_owned(), "Bearer personal".to_owned())]);
    assert_eq!(fixture.test.store.items(), before, "the instance is as it was");
}
