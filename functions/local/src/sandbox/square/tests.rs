//! Tests of the sandbox Square.

use serde_json::{Value, json};

use super::super::testing::{Answer, TestBed};
use super::super::{Expire, Faults};

const HEADERS: [(&str, &str); 3] = [
    ("authorization", "Bearer sandbox-token-main"),
    ("square-version", "2025-08-20"),
    ("content-type", "application/json"),
];

async fn post(bed: &TestBed, path: &str, body: Value) -> Answer {
    bed.send("POST", &format!("/square{path}"), &HEADERS, body.to_string()).await
}

async fn scan(bed: &TestBed, limit: usize) -> (u16, Value) {
    let body = json!({"query": {"sort": {"field": "UPDATED_AT", "order": "DESC"}}, "limit": limit});
    let answer = post(bed, "/v2/labor/timecards/search", body).await;
    (answer.status, answer.json())
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().map(|rows| rows.iter().filter_map(|row| row["id"].as_str()).collect()).unwrap_or_default()
}

fn code(answer: &Answer) -> (u16, String) {
    (answer.status, answer.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_timecard_has_the_true_shape() {
    let bed = TestBed::new();
    let fields = json!({"id": "A", "start_at": "2026-08-01T13:00:59.5Z"});
    let made = bed.sandbox.create("square", "timecards", fields).unwrap();
    assert_eq!(
        (&made["start_at"], &made["status"], &made["version"], &made["created_at"], &made["updated_at"]),
        (
            &json!("2026-08-01T09:00:00-04:00"),
            &json!("OPEN"),
            &json!(1),
            &json!("2026-08-01T13:00:04Z"),
            &json!("2026-08-01T13:00:04Z")
        )
    );
    bed.advance(90);
    let end = json!({"end_at": "2026-08-01T17:00:00-04:00"});
    let changed = bed.sandbox.update("square", "timecards", "A", end).unwrap();
    assert_eq!(
        (&changed["status"], &changed["version"], &changed["created_at"], &changed["updated_at"]),
        (&json!("CLOSED"), &json!(2), &json!("2026-08-01T13:00:04Z"), &json!("2026-08-01T13:01:34Z"))
    );
    let silent = bed.sandbox.edit_silently("square", "timecards", "A", json!({"location_id": "L9"})).unwrap();
    assert_eq!((&silent["version"], &silent["location_id"]), (&json!(2), &json!("L9")));
    let read = bed.send("GET", "/square/v2/labor/timecards/A", &HEADERS, "").await;
    assert_eq!(read.json(), json!({"timecard": silent}));
    let shift = bed.send("GET", "/square/v2/labor/shifts/A", &HEADERS, "").await;
    assert_eq!(shift.json()["shift"]["employee_id"], "TM1");
    bed.sandbox.delete("square", "timecards", "A").unwrap();
    assert_eq!(bed.send("GET", "/square/v2/labor/timecards/A", &HEADERS, "").await.status, 404);
}

#[tokio::test]
async fn a_search_pages_newest_first_and_ends_without_a_cursor() {
    let bed = TestBed::new();
    assert_eq!(scan(&bed, 200).await, (200, json!({})));
    for id in ["a", "b", "c"] {
        bed.sandbox.create("square", "timecards", json!({"id": id})).unwrap();
        bed.advance(1);
    }
    bed.sandbox.update("square", "timecards", "a", json!({"location_id": "L2"})).unwrap();
    let (_, first) = scan(&bed, 2).await;
    assert_eq!(ids(&first["timecards"]), ["a", "c"]);
    let next = |cursor: &Value| json!({"query": {"sort": {"field": "UPDATED_AT", "order": "DESC"}}, "limit": 2, "cursor": cursor});
    let last = post(&bed, "/v2/labor/timecards/search", next(&first["cursor"])).await.json();
    assert_eq!((ids(&last["timecards"]), last.get("cursor")), (vec!["b"], None));

    let mut other = next(&first["cursor"]);
    other["query"]["sort"]["order"] = json!("ASC");
    assert_eq!(code(&post(&bed, "/v2/labor/timecards/search", other).await), (400, "INVALID_CURSOR".into()));
    bed.sandbox.expire("square", Expire::Cursors).unwrap();
    let dead = post(&bed, "/v2/labor/timecards/search", next(&first["cursor"])).await;
    assert_eq!(code(&dead), (400, "INVALID_CURSOR".into()));
    let (_, fresh) = scan(&bed, 2).await;
    bed.advance(15 * 60);
    let late = post(&bed, "/v2/labor/timecards/search", next(&fresh["cursor"])).await;
    assert_eq!(code(&late), (400, "INVALID_CURSOR".into()));
}

#[tokio::test]
async fn wrong_requests_are_refused_in_squares_words() {
    let bed = TestBed::new();
    let timecards = "/v2/labor/timecards/search";
    let eleven: Vec<String> = (0..11).map(|n| format!("L{n}")).collect();
    for (path, body, status, wanted) in [
        (timecards, json!({"limit": 201}), 400, "VALUE_TOO_HIGH"),
        (timecards, json!({"limit": 0}), 400, "VALUE_TOO_LOW"),
        (timecards, json!({"query": {"filter": {"updated_at": {}}}}), 400, "BAD_REQUEST"),
        (timecards, json!({"query": {"sort": {"field": "NAME"}}}), 400, "INVALID_ENUM_VALUE"),
        (timecards, json!([]), 400, "EXPECTED_JSON_BODY"),
        ("/v2/customers/search", json!({"query": {"sort": {"field": "UPDATED_AT"}}}), 400, "INVALID_ENUM_VALUE"),
        ("/v2/orders/search", json!({}), 400, "MISSING_REQUIRED_PARAMETER"),
        ("/v2/orders/search", json!({"location_ids": eleven}), 400, "ARRAY_LENGTH_TOO_LONG"),
        (
            "/v2/orders/search",
            json!({"location_ids": ["LOC1"], "query": {"filter": {"date_time_filter": {"updated_at": {"start_at": "2026-08-01T00:00:00Z"}}}}}),
            400,
            "BAD_REQUEST",
        ),
        ("/v2/nothing", json!({}), 404, "NOT_FOUND"),
    ] {
        assert_eq!(code(&post(&bed, path, body.clone()).await), (status, wanted.into()), "{path} {body}");
    }
    for (headers, path, status, wanted) in [
        (&HEADERS[..0], "/v2/locations", 401, "UNAUTHORIZED"),
        (&HEADERS[..1], "/v2/locations", 400, "BAD_REQUEST"),
        (&HEADERS[..], "/v1/me/timecards", 410, "GONE"),
        (&[HEADERS[0], ("square-version", "2025-01-01")][..], "/v2/labor/timecards/x", 404, "NOT_FOUND"),
    ] {
        assert_eq!(
            code(&bed.send("GET", &format!("/square{path}"), headers, "").await),
            (status, wanted.into()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn filters_have_the_bounds_that_square_gives_them() {
    let bed = TestBed::new();
    for (collection, id) in [("customers", "c1"), ("orders", "o1"), ("payments", "p1"), ("catalog", "i1")] {
        bed.sandbox.create("square", collection, json!({"id": id})).unwrap();
    }
    let (at, later) = ("2026-08-01T13:00:04.335Z", "2026-08-01T13:00:04.336Z");
    let customers =
        |from: &str, to: &str| json!({"query": {"filter": {"updated_at": {"start_at": from, "end_at": to}}}});
    let orders = |from: &str, to: &str| json!({"location_ids": ["LOC1"], "query": {"sort": {"sort_field": "UPDATED_AT"}, "filter": {"date_time_filter": {"updated_at": {"start_at": from, "end_at": to}}}}});
    let catalog = |after: &str| json!({"begin_time": after, "include_deleted_objects": true});
    for (path, key, body, found) in [
        ("/v2/customers/search", "customers", customers(at, later), 1),
        ("/v2/customers/search", "customers", customers("2026-01-01T00:00:00Z", at), 0),
        ("/v2/orders/search", "orders", orders(at, at), 1),
        ("/v2/orders/search", "orders", orders(later, later), 0),
        ("/v2/catalog/search", "objects", catalog(at), 0),
        ("/v2/catalog/search", "objects", catalog("2026-08-01T13:00:04.334Z"), 1),
    ] {
        let answer = post(&bed, path, body.clone()).await;
        assert_eq!((answer.status, ids(&answer.json()[key]).len()), (200, found), "{path} {body}");
    }
    let since = format!("/square/v2/payments?updated_at_begin_time={at}&sort_field=UPDATED_AT&limit=5");
    assert_eq!(ids(&bed.send("GET", &since, &HEADERS, "").await.json()["payments"]), ["p1"]);

    bed.sandbox.delete("square", "catalog", "i1").unwrap();
    bed.sandbox.delete("square", "orders", "o1").unwrap();
    let visible = post(&bed, "/v2/catalog/search", json!({})).await.json();
    assert_eq!((visible.get("objects"), visible["latest_time"].is_string()), (None, true));
    let tombs = post(&bed, "/v2/catalog/search", json!({"include_deleted_objects": true})).await.json();
    assert_eq!(tombs["objects"][0]["is_deleted"], true);
    assert_eq!(bed.sandbox.get("square", "orders", "o1").unwrap()["state"], "CANCELED");
}

async fn token(bed: &TestBed, body: Value) -> Answer {
    let json = [("content-type", "application/json")];
    bed.send("POST", "/square/oauth2/token", &json, body.to_string()).await
}

fn with_code(code: &str) -> Value {
    json!({"client_id": "app", "client_secret": "s", "grant_type": "authorization_code", "code": code, "redirect_uri": "https://app.example/cb"})
}

#[tokio::test]
async fn a_login_ends_in_a_token_that_can_be_refreshed_and_revoked() {
    let bed = TestBed::new();
    let ask = "/square/oauth2/authorize?client_id=app&scope=TIMECARDS_READ&state=x%26y&redirect_uri=https%3A%2F%2Fapp.example%2Fcb";
    let page = bed.send("GET", ask, &[], "").await;
    assert!(page.status == 200 && page.text.contains("Log in to Sandbox Square as") && page.text.contains("x&amp;y"));
    let denied = bed.send("GET", &format!("{ask}&decision=deny"), &[], "").await;
    let location = denied.headers["location"].to_str().unwrap();
    assert!(location.contains("error=access_denied") && location.contains("state=x%26y"), "{location}");
    let allowed = bed.send("GET", &format!("{ask}&decision=allow&account=cafe"), &[], "").await;
    let location = url::Url::parse(allowed.headers["location"].to_str().unwrap()).unwrap();
    let code_given = location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();

    let first = token(&bed, with_code(&code_given)).await.json();
    assert_eq!((&first["expires_at"], &first["merchant_id"]), (&json!("2026-08-31T13:00:04Z"), &json!("MLCAFE")));
    assert!(first.get("expires_in").is_none());
    assert_eq!(code(&token(&bed, with_code(&code_given)).await), (401, "UNAUTHORIZED".into()), "a code works once");

    bed.advance(60);
    let refresh = json!({"client_id": "app", "client_secret": "s", "grant_type": "refresh_token", "refresh_token": first["refresh_token"]});
    let second = token(&bed, refresh.clone()).await.json();
    assert_eq!(
        (&second["refresh_token"], &second["expires_at"]),
        (&first["refresh_token"], &json!("2026-08-31T13:01:04Z"))
    );

    bed.sandbox.of("cafe").create("square", "customers", json!({"id": "only-here"})).unwrap();
    let bearer = format!("Bearer {}", second["access_token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), HEADERS[1]];
    let customers = bed.send("GET", "/square/v2/customers", &headers, "").await.json();
    assert_eq!(ids(&customers["customers"]), ["only-here"]);
    bed.sandbox.of("cafe").expire("square", Expire::Tokens).unwrap();
    let expired = bed.send("GET", "/square/v2/customers", &headers, "").await;
    assert_eq!(code(&expired), (401, "ACCESS_TOKEN_EXPIRED".into()));
    bed.sandbox.of("cafe").expire("square", Expire::Grants).unwrap();
    let revoked = bed.send("GET", "/square/v2/customers", &headers, "").await;
    assert_eq!(code(&revoked), (401, "ACCESS_TOKEN_REVOKED".into()));
    assert_eq!(token(&bed, refresh).await.status, 401);
}

#[tokio::test]
async fn codes_expire_and_bodies_must_be_json() {
    let bed = TestBed::new();
    let ask = "/square/oauth2/authorize?client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&decision=allow";
    let allowed = bed.send("GET", ask, &[], "").await;
    let code_given = allowed.headers["location"].to_str().unwrap().split("code=").nth(1).unwrap().to_owned();
    bed.advance(301);
    assert_eq!(token(&bed, with_code(&code_given)).await.status, 401);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let refused = bed.send("POST", "/square/oauth2/token", &form, "client_id=app&code=sandbox-code-x").await;
    assert_eq!(code(&refused), (400, "BAD_REQUEST".into()));
    for _ in 0..2 {
        let reply = token(&bed, with_code("sandbox-code-shop7")).await.json();
        assert_eq!(reply["merchant_id"], "MLSHOP7", "a developer code is never used up");
    }
}

#[tokio::test]
async fn pkce_binds_a_code_to_its_verifier() {
    let bed = TestBed::new();
    // The pair of RFC 7636, appendix B.
    let (verifier, challenge) =
        ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    for (proof, status) in [(verifier, 200), ("wrong", 401)] {
        let ask = format!(
            "/square/oauth2/authorize?client_id=app&redirect_uri=https%3A%2F%2Fapp.example%2Fcb&decision=allow&code_challenge={challenge}"
        );
        let allowed = bed.send("GET", &ask, &[], "").await;
        let code_given = allowed.headers["location"].to_str().unwrap().split("code=").nth(1).unwrap().to_owned();
        let mut body = with_code(&code_given);
        body["code_verifier"] = json!(proof);
        assert_eq!(token(&bed, body).await.status, status, "{proof}");
    }
}

#[tokio::test]
async fn faults_hit_as_configured() {
    let bed = TestBed::new();
    for id in ["a", "b", "c", "d"] {
        bed.sandbox.create("square", "timecards", json!({"id": id})).unwrap();
    }
    let set = |faults: Faults| bed.sandbox.set_faults("square", faults).unwrap();
    let statuses = async |count: usize| {
        let mut seen = Vec::new();
        for _ in 0..count {
            seen.push(scan(&bed, 2).await.0);
        }
        seen.sort_unstable();
        seen
    };
    set(Faults { rate_limit_every: Some(3), retry_after: Some(4), ..Faults::default() });
    assert_eq!(statuses(6).await, [200, 200, 200, 200, 429, 429]);
    set(Faults { expire_tokens_every: Some(2), ..Faults::default() });
    assert_eq!(statuses(4).await, [200, 200, 401, 401]);
    set(Faults { error_200: Some(1), ..Faults::default() });
    assert_eq!(scan(&bed, 2).await.1["errors"][0]["category"], "API_ERROR");
    set(Faults { cut_connection_every: Some(1), ..Faults::default() });
    assert!(bed.try_send("GET", "/square/v2/locations", &HEADERS, "").await.is_err());
    set(Faults { duplicate_rows: Some(2), ..Faults::default() });
    assert_eq!(ids(&scan(&bed, 2).await.1["timecards"]), ["a", "b", "b"]);
    for (page_shift, second_page) in [(1, ["b", "c"].as_slice()), (-1, ["d"].as_slice())] {
        set(Faults { page_shift, ..Faults::default() });
        let (_, first) = scan(&bed, 2).await;
        let body =
            json!({"query": {"sort": {"field": "UPDATED_AT", "order": "DESC"}}, "limit": 2, "cursor": first["cursor"]});
        let second = post(&bed, "/v2/labor/timecards/search", body).await.json();
        assert_eq!(ids(&second["timecards"]), second_page);
    }
    set(Faults { clock_skew_s: 3600, ..Faults::default() });
    let made = bed.sandbox.create("square", "timecards", json!({})).unwrap();
    assert_eq!(made["updated_at"], "2026-08-01T14:00:04Z");
}

#[tokio::test]
async fn a_late_index_hides_a_change_from_lists_but_not_from_reads() {
    let bed = TestBed::new();
    bed.sandbox.create("square", "timecards", json!({"id": "old", "location_id": "L1"})).unwrap();
    bed.sandbox.create("square", "timecards", json!({"id": "gone"})).unwrap();
    bed.sandbox.set_faults("square", Faults { late_indexing: Some((5, 5)), ..Faults::default() }).unwrap();
    bed.sandbox.create("square", "timecards", json!({"id": "new"})).unwrap();
    bed.sandbox.update("square", "timecards", "old", json!({"location_id": "L2"})).unwrap();
    bed.sandbox.delete("square", "timecards", "gone").unwrap();
    let (_, before) = scan(&bed, 9).await;
    assert_eq!(ids(&before["timecards"]), ["old", "gone"]);
    assert_eq!(before["timecards"][0]["location_id"], "L1");
    assert_eq!(bed.send("GET", "/square/v2/labor/timecards/new", &HEADERS, "").await.status, 200);
    assert_eq!(bed.send("GET", "/square/v2/labor/timecards/gone", &HEADERS, "").await.status, 404);
    bed.advance(5);
    let (_, after) = scan(&bed, 9).await;
    assert_eq!(ids(&after["timecards"]), ["old", "new"]);
    assert_eq!(after["timecards"][0]["location_id"], "L2");
}
