//! Listings: paging, bounds, cursors, faults and fingerprints.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use elements::Fault;
use elements::listing::{Cursor, Listing, ScanMode};
use http::Response;
use serde_json::{Value, json};

use crate::support::*;

/// A vendor that sorts by the stamp, filters inclusively, and has these rows.
fn serve(rows: &[(u64, &str)], uri: &str, cap: usize) -> Response<Bytes> {
    let url = url::Url::parse(uri).expect("a URL");
    let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let number = |name: &str| query.get(name).map_or(0, |text| text.parse().expect("a number"));
    let from = query.get("since").map(String::as_str).unwrap_or_default();
    let found: Vec<Value> = rows
        .iter()
        .filter(|(_, stamp)| *stamp >= from)
        .skip(number("offset"))
        .take(number("limit").min(cap))
        .map(|(id, stamp)| json!({"id": id, "at": stamp}))
        .collect();
    answer(200, &json!({"rows": found}))
}

fn read_all(account: &Account, rows: &[(u64, &str)], cap: usize) -> (Vec<u64>, usize, Cursor) {
    let mut listing = account.start(ScanMode::Changes, Some("2026-08-01T00:00:00Z"));
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        pages += 1;
        assert!(pages < 1000, "the listing ends");
        let response = serve(rows, &account.uri(&listing), cap);
        listing = Listing::resume(&listing.save()).expect("what was saved");
        let page = account.read(&mut listing, &response).expect("a page");
        seen.extend(page.records.iter().map(|record| record.id.parse::<u64>().expect("a number")));
        if page.done {
            return (seen, pages, listing.finish(&account.plan).cursor);
        }
    }
}

#[test]
fn a_link_header_leads_to_the_next_page() {
    let account =
        Account::new(element(STATIC, &resource("", r#"kind = "link_header", size = 2"#, r#"kind = "full_scan_hash""#)));
    let mut listing = account.start(ScanMode::Changes, None);
    assert_eq!(listing.mode(), ScanMode::Complete, "comparing contents needs all of them");
    assert_eq!(account.uri(&listing), "https://acme.example.com/api/things");
    let mut page = answer(200, &json!({"rows":[{"id":1}]}));
    let link = "</api/things?page=0>; rel=\"prev\", <https://acme.example.com/api/things?page=2>; rel='next'";
    page.headers_mut().insert("link", link.parse().expect("a header"));
    assert!(!account.read(&mut listing, &page).expect("a page").done);
    assert_eq!(account.uri(&listing), "https://acme.example.com/api/things?page=2");
    assert!(account.read(&mut listing, &answer(200, &json!({"rows":[]}))).expect("a page").done);
    assert!(listing.finish(&account.plan).complete);
}

#[test]
fn a_next_link_never_leads_away() {
    let mut account = Account::new(element(
        STATIC,
        &resource("", r#"kind = "next_url", from = "/next", size = 2"#, r#"kind = "full_scan_hash""#),
    ));
    let follow = |account: &Account, next: &str| {
        let mut listing = account.start(ScanMode::Complete, None);
        account.read(&mut listing, &answer(200, &json!({"rows":[{"id":1}],"next":next}))).expect("a page");
        listing.request(&account.plan, &account.caller()).map(|request| request.uri().to_string())
    };
    assert_eq!(follow(&account, "/api/things?o=2").expect("here"), "https://acme.example.com/api/things?o=2");
    for away in [
        "https://evil.example.com/api/things",
        "http://acme.example.com/api/things",
        "//evil.example.com/x",
        "https://acme.example.com:444/api/things",
        "https://user@acme.example.com/api/things",
        "https://acme.example.com.evil.com/",
    ] {
        assert!(follow(&account, away).is_err(), "{away}");
    }
    let base = "http://127.0.0.1:8080/sandbox/made-up".parse().expect("a URL");
    account.bases.overrides.insert("made-up".to_owned(), base);
    for next in ["/api/things?o=2", "/sandbox/made-up/api/things?o=2", "http://127.0.0.1:8080/api/things?o=2"] {
        assert_eq!(follow(&account, next).expect(next), "http://127.0.0.1:8080/sandbox/made-up/api/things?o=2");
    }
    assert!(follow(&account, "https://acme.example.com/api/things").is_err(), "the real vendor is another host here");
}

#[test]
fn ten_thousand_equal_stamps_are_each_listed_once() {
    let mut rows: Vec<(u64, &str)> = vec![(1, "2026-08-01T10:00:00Z"), (2, "2026-08-01T10:00:01Z")];
    rows.extend((3..10_003).map(|id| (id, "2026-08-01T10:00:02Z")));
    rows.push((10_003, "2026-08-01T10:00:03Z"));
    let query = r#"since = "${watermark}", limit = "${page_size}", offset = "${offset}""#;
    for ties in ["offset", "grow"] {
        let page = format!(r#"kind = "keyset", size = 100, ties = "{ties}", grain = "1s""#);
        let account = Account::new(element(STATIC, &resource(query, &page, r#"kind = "filter""#)));
        let (mut seen, pages, cursor) = read_all(&account, &rows, usize::MAX);
        seen.sort_unstable();
        assert_eq!(seen, (1..=10_003).collect::<Vec<_>>(), "{ties}");
        assert_eq!(cursor, Cursor::Watermark(at("2026-08-01T10:00:03Z")));
        assert!(pages < 200, "{ties} took {pages} pages");
    }
}

#[test]
fn a_vendor_that_caps_pages_below_the_requested_size_loses_nothing() {
    let stamps: Vec<String> = (0..50).map(|second| format!("2026-08-01T10:00:{second:02}Z")).collect();
    let rows: Vec<(u64, &str)> = (0..50).map(|id| (id, stamps[id as usize].as_str())).collect();
    let query = r#"since = "${watermark}", limit = "${page_size}""#;
    let account =
        Account::new(element(STATIC, &resource(query, r#"kind = "keyset", size = 100"#, r#"kind = "filter""#)));
    let (seen, _, _) = read_all(&account, &rows, 7);
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_page_that_must_grow_but_was_already_too_large_is_an_error() {
    let query = r#"since = "${watermark}", limit = "${page_size}""#;
    let page = r#"kind = "keyset", size = 4, ties = "grow""#;
    let resource = resource(query, page, r#"kind = "filter""#);
    let auth = format!("{STATIC}\n[[errors]]\nwhen = {{ status = 408 }}\naction = \"shrink_page\"");
    let account = Account::new(element(&auth, &resource));
    let rows: Vec<(u64, &str)> = (0..9).map(|id| (id, "2026-08-01T10:00:00Z")).collect();
    let mut listing = account.start(ScanMode::Changes, Some("2026-08-01T00:00:00Z"));
    let (mut seen, mut faults) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let uri = account.uri(&listing);
        let large = uri.contains("limit=8&");
        let response = if large { answer(408, &json!({})) } else { serve(&rows, &uri, usize::MAX) };
        match account.read(&mut listing, &response) {
            Ok(page) => seen.extend(ids(&page).into_iter().map(str::to_owned)),
            Err(fault) => faults.push(fault),
        }
        if matches!(faults.last(), Some(Fault::ConfigError { .. })) {
            break;
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3"], "each once");
    let reason = "more than 7 records share one stamp".to_owned();
    assert_eq!(faults, [Fault::ShrinkPage, Fault::ConfigError { reason }]);
}

#[test]
fn an_exclusive_bound_is_moved_by_its_grain() {
    let query = r#"since = "${watermark|iso_ms}""#;
    let account =
        Account::new(element(STATIC, &resource(query, r#"kind = "none""#, r#"kind = "filter", exclusive = "1ms""#)));
    let listing = account.start(ScanMode::Changes, Some("2026-08-01T10:00:00Z"));
    assert_eq!(account.uri(&listing), "https://acme.example.com/api/things?since=2026-08-01T09%3A59%3A59.999Z");
    let complete = account.start(ScanMode::Complete, Some("2026-08-01T10:00:00Z"));
    assert_eq!(account.uri(&complete), "https://acme.example.com/api/things", "everything has no lower bound");
}

#[test]
fn the_cursor_never_goes_back_and_never_comes_from_a_clock() {
    let account = Account::new(element(STATIC, &resource("", r#"kind = "none""#, r#"kind = "filter""#)));
    let mut listing = account.start(ScanMode::Changes, Some("2026-08-01T10:00:00Z"));
    account.read(&mut listing, &answer(200, &json!({"rows":[{"id":1,"at":"2026-07-01T00:00:00Z"}]}))).expect("a page");
    assert_eq!(listing.finish(&account.plan).cursor, Cursor::Watermark(at("2026-08-01T10:00:00Z")));
    let mut first = account.start(ScanMode::Complete, None);
    account.read(&mut first, &answer(200, &json!({"rows":[]}))).expect("a page");
    assert_eq!(first.finish(&account.plan).cursor, Cursor::Watermark(DateTime::UNIX_EPOCH));
}

#[test]
fn a_listing_that_shrank_or_hid_a_record_proves_no_absence() {
    let page = r#"kind = "offset_total", total = "/total", size = 2"#;
    let account =
        Account::new(element(STATIC, &resource(r#"offset = "${offset}""#, page, r#"kind = "full_scan_hash""#)));
    let complete = |pages: &[Value]| {
        let mut listing = account.start(ScanMode::Complete, None);
        for page in pages {
            account.read(&mut listing, &answer(200, page)).expect("a page");
        }
        listing.finish(&account.plan).complete
    };
    let row = |id: u64| json!({"id": id});
    assert!(complete(&[json!({"rows":[row(1),row(2)],"total":3}), json!({"rows":[row(3)],"total":3})]));
    assert!(!complete(&[json!({"rows":[row(1),row(2)],"total":4}), json!({"rows":[row(4)],"total":3})]), "it shrank");
    assert!(!complete(&[json!({"rows":[row(1),{"name":"x"}],"total":2})]), "a record had no id");
    assert!(!complete(&[json!({"rows":[row(1),row(2)],"total":3})]), "a page is missing");
}

#[test]
fn status_codes_have_a_meaning_without_a_rule() {
    let account = Account::new(element(STATIC, &resource("", r#"kind = "none""#, r#"kind = "full_scan_hash""#)));
    let fault = |response: Response<Bytes>| {
        account.read(&mut account.start(ScanMode::Complete, None), &response).map(|_| ()).expect_err("no page")
    };
    let plain = |status| fault(answer(status, &json!({"message": "no"})));
    assert!(matches!(plain(401), Fault::RefreshAuth { .. }));
    assert!(matches!(plain(403), Fault::ConfigError { .. }));
    assert!(matches!(plain(404), Fault::ConfigError { .. }));
    assert!(matches!(plain(302), Fault::ConfigError { .. }));
    assert!(matches!(plain(429), Fault::RateLimited { after: None, .. }));
    for status in [408, 425, 500, 502, 503, 504] {
        assert!(matches!(plain(status), Fault::Retry { .. }), "{status}");
    }
    let mut busy = answer(503, &json!({}));
    busy.headers_mut().insert("date", "Thu, 13 Aug 2026 12:00:00 GMT".parse().expect("a header"));
    busy.headers_mut().insert("retry-after", "Thu, 13 Aug 2026 12:02:00 GMT".parse().expect("a header"));
    let waits = Fault::Retry { after: Some(Duration::from_secs(120)), reason: "503 Service Unavailable".to_owned() };
    assert_eq!(fault(busy), waits);
    for body in ["<html>", "{\"rows\":[", "", "\u{0}", "{\"other\":1}"] {
        let response = Response::new(Bytes::from(body.to_owned()));
        assert!(matches!(fault(response), Fault::Retry { .. }), "{body:?}");
    }
}

#[test]
fn a_page_that_repeats_is_refused() {
    let account = Account::new(element(
        STATIC,
        &resource(r#"t = "${page_token}""#, r#"kind = "token", from = "/t", size = 2"#, r#"kind = "full_scan_hash""#),
    ));
    let mut listing = account.start(ScanMode::Complete, None);
    let page = answer(200, &json!({"rows":[{"id":1}],"t":"same"}));
    account.read(&mut listing, &page).expect("a page");
    assert!(matches!(account.read(&mut listing, &page), Err(Fault::Retry { .. })));
}

#[test]
fn versions_contents_and_exclusions_decide_the_fingerprint() {
    let fingerprint = |rule: &str, row: Value| {
        let resource = resource("", r#"kind = "none""#, r#"kind = "full_scan_hash""#)
            .replace("[resource.poll]", &format!("fingerprint = {{ {rule} }}\n[resource.poll]"));
        let account = Account::new(element(STATIC, &resource));
        let page = account.read(&mut account.start(ScanMode::Complete, None), &answer(200, &json!({"rows":[row]})));
        page.expect("a page").records[0].fingerprint
    };
    let version = r#"pointer = "/v""#;
    assert_eq!(fingerprint(version, json!({"id":1,"v":7,"x":1})), fingerprint(version, json!({"id":1,"v":7,"x":2})));
    assert_ne!(fingerprint(version, json!({"id":1,"v":7})), fingerprint(version, json!({"id":1,"v":8})));
    assert_ne!(fingerprint("", json!({"id":1,"x":1})), fingerprint("", json!({"id":1,"x":2})));
    let exclude = r#"exclude = ["/spam"]"#;
    assert_eq!(fingerprint(exclude, json!({"id":1,"spam":1})), fingerprint(exclude, json!({"id":1,"spam":{"a":2}})));
    assert_ne!(fingerprint(exclude, json!({"id":1,"x":1})), fingerprint(exclude, json!({"id":1,"x":2})));
    assert_ne!(fingerprint("", json!({"id":1})), fingerprint(exclude, json!({"id":1})), "another rule, another print");
}

#[test]
fn ids_are_listed_as_texts_whatever_they_are() {
    let account = Account::new(element(STATIC, &plain_resource()));
    let rows = json!({"rows":[{"id":7},{"id":"a/b"},{"id":null},{"id":{}},{"id":""},{"id":9007199254740993u64}]});
    let page = account.read(&mut account.start(ScanMode::Complete, None), &answer(200, &rows)).expect("a page");
    assert_eq!(ids(&page), ["7", "a/b", "9007199254740993"]);
    assert_eq!(page.problems.len(), 3);
}
