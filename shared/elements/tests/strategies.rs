//! Every strategy of the vocabulary on elements made up for it: what the embedded ones do not happen to use, and the
//! edges of what they do.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::ResourceConfiguration;
use domain::secret::Secret;
use elements::auth::{self, AuthFault, Grant, LoginPage};
use elements::call::CallContext;
use elements::catalog::read;
use elements::listing::{Cursor, Listing, RecordPage, ScanMode};
use elements::plan::Partitions;
use elements::{Bases, Catalog, Connection, Element, Fault, Plan, Tokens};
use http::{Request, Response};
use serde_json::{Map, Value, json};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("a date")
}

fn element(auth: &str, resource: &str) -> Arc<Element> {
    let text = format!(
        r#"
        [element]
        key = "made-up"
        name = "Made up"
        hub = "general"
        [connection.client_id]
        label = "Id"
        ce_keys = ["oauth.api.key"]
        [connection.client_secret]
        label = "Secret"
        secret = true
        ce_keys = ["oauth.api.secret"]
        [connection.tenant]
        label = "Tenant"
        pattern = "[a-z]+"
        required = true
        ce_keys = ["tenant"]
        [bases]
        api = "https://${{connection.tenant}}.example.com/api"
        {auth}
        [[resource]]
        name = "things"
        hub_paths = ["things"]
        {resource}
        "#
    );
    Arc::new(read(Path::new("element.toml"), &text).unwrap_or_else(|problem| panic!("{problem}")))
}

const STATIC: &str = "[auth]\nkind = \"static_headers\"";

/// A resource with this list call, page and change.
fn resource(query: &str, page: &str, change: &str) -> String {
    format!(
        r#"list = {{ path = "/things", query = {{ {query} }} }}
        get = {{ path = "/things/${{id}}" }}
        records = {{ pointer = "/rows", id = ["/id"] }}
        time = {{ updated = "/at", parse = ["rfc3339"] }}
        page = {{ {page} }}
        change = {{ {change} }}
        delete = {{ absence = {{ confirm = "get_404" }} }}
        [resource.poll]
        url = "/hubs/general/things""#
    )
}

struct Account {
    element: Arc<Element>,
    connection: Connection,
    bases: Bases,
    plan: Plan,
}

impl Account {
    fn new(element: Arc<Element>) -> Self {
        let configuration = json!({"oauth.api.key": "id", "oauth.api.secret": "s+1", "tenant": "acme"});
        let configuration = configuration.as_object().expect("an object");
        let (connection, _) = Connection::resolve(&element, configuration, &Map::new()).expect("a connection");
        let (plan, _) =
            Plan::resolve(&element, "things", &ResourceConfiguration::default(), &Map::new()).expect("a plan");
        Self { element, connection, bases: Bases::default(), plan }
    }

    fn caller(&self) -> CallContext<'_> {
        CallContext { element: &self.element, connection: &self.connection, bases: &self.bases, tokens: None }
    }

    fn start(&self, pass: ScanMode, lower: Option<&str>) -> Listing {
        let cursor = lower.map_or(Cursor::Start, |lower| Cursor::Watermark(at(lower)));
        Listing::start(&self.plan, pass, &cursor, lower.map(at), "", at("2026-08-13T12:00:00Z"))
    }

    fn uri(&self, listing: &Listing) -> String {
        listing.request(&self.plan, &self.caller()).expect("a request").uri().to_string()
    }

    fn read(&self, listing: &mut Listing, response: &Response<Bytes>) -> Result<RecordPage, Fault> {
        listing.read(&self.plan, &self.caller(), response)
    }
}

fn answer(status: u16, body: &Value) -> Response<Bytes> {
    Response::builder().status(status).body(Bytes::from(body.to_string())).expect("an answer")
}

fn ids(page: &RecordPage) -> Vec<&str> {
    page.records.iter().map(|record| record.id.as_str()).collect()
}

fn body_of(request: &Request<Bytes>) -> &str {
    std::str::from_utf8(request.body()).expect("text")
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
fn ten_thousand_equal_stamps_are_each_told_once() {
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
fn a_vendor_that_caps_pages_below_what_was_asked_for_loses_nothing() {
    let stamps: Vec<String> = (0..50).map(|second| format!("2026-08-01T10:00:{second:02}Z")).collect();
    let rows: Vec<(u64, &str)> = (0..50).map(|id| (id, stamps[id as usize].as_str())).collect();
    let query = r#"since = "${watermark}", limit = "${page_size}""#;
    let account =
        Account::new(element(STATIC, &resource(query, r#"kind = "keyset", size = 100"#, r#"kind = "filter""#)));
    let (seen, _, _) = read_all(&account, &rows, 7);
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_page_that_must_grow_but_was_too_much_already_ends_in_words() {
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
fn common_sense_holds_where_the_element_has_no_rule() {
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
fn a_page_that_comes_again_is_no_page() {
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
fn versions_contents_and_exclusions_tell_one_state_from_the_next() {
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

fn oauth(token: &str) -> String {
    format!(
        r#"[auth]
        kind = "oauth2_code"
        authorize_url = "https://${{connection.tenant}}.example.com/login"
        authorize_params = {{ prompt = "consent" }}
        scopes = ["a", "b"]
        refresh = "rotate_required"
        [auth.token]
        url = "https://${{connection.tenant}}.example.com/token"
        {token}"#
    )
}

fn plain_resource() -> String {
    resource("", r#"kind = "none""#, r#"kind = "full_scan_hash""#)
}

#[test]
fn a_user_is_sent_to_log_in() {
    let element = element(&oauth(""), &plain_resource());
    let params = BTreeMap::from([("tenant".to_owned(), "acme".to_owned())]);
    let page =
        LoginPage { api_key: "my id", callback_url: "https://me/cb", scope: None, state: Some("st"), params: &params };
    let url = auth::authorize_url(&element, &Bases::default(), &page);
    assert_eq!(
        url.expect("a URL").as_str(),
        "https://acme.example.com/login?response_type=code&client_id=my+id&redirect_uri=https%3A%2F%2Fme%2Fcb&scope=a+b\
         &state=st&prompt=consent"
    );
    let evil = BTreeMap::from([("tenant".to_owned(), "evil.com/".to_owned())]);
    let page = LoginPage { api_key: "", callback_url: "", scope: None, state: None, params: &evil };
    let problems = auth::authorize_url(&element, &Bases::default(), &page).expect_err("three");
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn tokens_are_asked_for_as_form_json_and_with_basic() {
    let code = Secret::new("c&1");
    let verifier = Secret::new("v");
    let ask = |token: &str| {
        let account = Account::new(element(&oauth(token), &plain_resource()));
        let grant = Grant::Code { code: &code, redirect_uri: "https://me/cb", code_verifier: Some(&verifier) };
        auth::token_request(&account.element, &account.bases, &account.connection, grant).expect("a request")
    };
    let form = ask("");
    assert_eq!(form.uri(), "https://acme.example.com/token");
    assert_eq!(
        body_of(&form),
        "grant_type=authorization_code&code=c%261&redirect_uri=https%3A%2F%2Fme%2Fcb&code_verifier=v&client_id=id\
         &client_secret=s%2B1"
    );
    let parsed: Value = serde_json::from_str(body_of(&ask("body = \"json\""))).expect("JSON");
    assert_eq!(parsed["client_secret"], "s+1");
    let basic = ask("client = \"basic\"\nparams = { audience = \"https://x\" }");
    assert_eq!(basic.headers()["authorization"], "Basic aWQ6cyUyQjE=");
    assert!(!body_of(&basic).contains("client_secret") && body_of(&basic).ends_with("&audience=https%3A%2F%2Fx"));
    assert!(!format!("{basic:?}").contains("aWQ6"), "a header that is a secret is not printed");
}

#[test]
fn token_answers_say_when_they_end_in_four_ways() {
    let now = at("2026-08-13T12:00:00Z");
    let end = |expiry: &str, answer_body: Value| {
        let element = element(&oauth(expiry), &plain_resource());
        let tokens = auth::read_tokens(&element, &answer(200, &answer_body), now, None).expect("tokens");
        (tokens.expires_at, auth::refresh_due(&element, &tokens, now))
    };
    let body = json!({"access_token":"a","refresh_token":"r","expires_in":"240","expires_at":"2026-09-12T12:00:00Z"});
    assert_eq!(
        end("expiry = { seconds_field = \"/expires_in\" }", body.clone()),
        (Some(at("2026-08-13T12:04:00Z")), true)
    );
    assert_eq!(
        end("expiry = { timestamp_field = \"/expires_at\" }\nrefresh_before = \"1h\"", body.clone()),
        (Some(at("2026-09-12T12:00:00Z")), false)
    );
    assert_eq!(end("expiry = { fixed = \"10m\" }", body.clone()), (Some(at("2026-08-13T12:10:00Z")), false));
    assert_eq!(end("expiry = \"none\"", body), (None, false));
}

#[test]
fn a_refresh_keeps_or_rotates_and_a_refusal_says_what_it_means() {
    let now = at("2026-08-13T12:00:00Z");
    let keeping = element(&oauth("").replace("rotate_required", "keep_if_absent"), &plain_resource());
    let rotating = element(&oauth(""), &plain_resource());
    let old = Tokens {
        access: Secret::new("old"),
        refresh: Some(Secret::new("r1")),
        expires_at: None,
        extra: BTreeMap::from([("merchant".to_owned(), "M1".to_owned())]),
    };
    let without = answer(200, &json!({"access_token":"new"}));
    let kept = auth::read_tokens(&keeping, &without, now, Some(&old)).expect("tokens");
    assert_eq!((kept.refresh, kept.extra), (old.refresh.clone(), old.extra.clone()));
    assert!(matches!(auth::read_tokens(&rotating, &without, now, Some(&old)), Err(AuthFault::Unreadable { .. })));
    let with = answer(200, &json!({"access_token":"new","refresh_token":"r2"}));
    let rotated = auth::read_tokens(&rotating, &with, now, Some(&old)).expect("tokens");
    assert_eq!(rotated.refresh, Some(Secret::new("r2")));
    let refused = answer(400, &json!({"error":"invalid_grant","error_description":"Token has been revoked."}));
    let dead = AuthFault::Dead { reason: "invalid_grant: Token has been revoked.".to_owned() };
    assert_eq!(auth::read_tokens(&keeping, &refused, now, Some(&old)), Err(dead));
    for status in [408, 429, 500, 503] {
        let fault = auth::read_tokens(&keeping, &answer(status, &json!({})), now, Some(&old));
        assert!(matches!(fault, Err(AuthFault::Retry { .. })), "{status}");
    }
    let page = Response::new(Bytes::from_static(b"<html>"));
    assert!(matches!(auth::read_tokens(&keeping, &page, now, None), Err(AuthFault::Retry { .. })));
    let empty = answer(200, &json!({}));
    assert!(matches!(auth::read_tokens(&keeping, &empty, now, None), Err(AuthFault::Unreadable { .. })));
}

#[test]
fn tokens_without_a_user_and_without_a_login() {
    let credentials = element(
        "[auth]\nkind = \"oauth2_client_credentials\"\nscopes = [\"x\"]\n[auth.token]\nurl = \"https://a.example.com/t\"",
        &plain_resource(),
    );
    let account = Account::new(credentials);
    assert!(auth::needs_tokens(&account.element, &account.connection) && !auth::grants_code(&account.element));
    let grant = auth::unattended_grant(&account.element).expect("a grant");
    let request = auth::token_request(&account.element, &account.bases, &account.connection, grant).expect("a request");
    assert_eq!(body_of(&request), "grant_type=client_credentials&scope=x&client_id=id&client_secret=s%2B1");
    let refresh = Secret::new("r");
    let wrong = auth::token_request(
        &account.element,
        &account.bases,
        &account.connection,
        Grant::Refresh { refresh: &refresh },
    );
    assert!(wrong.is_err());

    let login = element(
        "[auth]\nkind = \"login_exchange\"\n[auth.token]\nurl = \"https://a.example.com/Authenticate\"\nbody = \"json\"\n\
         access = \"/Data/Token\"\nexpiry = { fixed = \"10m\" }\n\
         params = { UID = \"${connection.client_id}\", Password = \"${connection.client_secret}\" }",
        &plain_resource(),
    );
    let account = Account::new(login);
    let grant = auth::unattended_grant(&account.element).expect("a grant");
    let request = auth::token_request(&account.element, &account.bases, &account.connection, grant).expect("a request");
    assert_eq!(body_of(&request), r#"{"Password":"s+1","UID":"id"}"#);
    let now = at("2026-08-13T12:00:00Z");
    let session = answer(200, &json!({"Code":0,"Data":{"Token":"T1"}}));
    let tokens = auth::read_tokens(&account.element, &session, now, None).expect("tokens");
    let caller = CallContext { tokens: Some(&tokens), ..account.caller() };
    let request = account.start(ScanMode::Complete, None).request(&account.plan, &caller).expect("a request");
    assert_eq!(request.headers()["authorization"], "Bearer T1");

    let bearer =
        element("[auth]\nkind = \"static_bearer\"\ntoken = \"${connection.client_secret}\"", &plain_resource());
    let account = Account::new(bearer);
    assert!(!auth::needs_tokens(&account.element, &account.connection));
    let request = account.start(ScanMode::Complete, None).request(&account.plan, &account.caller()).expect("a request");
    assert_eq!(request.headers()["authorization"], "Bearer s+1");
    assert!(request.headers()["authorization"].is_sensitive());
}

#[test]
fn partitions_come_from_url_configuration_connection_and_parents() {
    let catalog = Catalog::embedded();
    let google = catalog.get("googlesuite").expect("an element");
    let plan = |url: Option<&str>, configuration: Value| {
        let mut entry = Map::new();
        entry.extend(url.map(|url| ("url".to_owned(), Value::from(url))));
        let (entry, _) = ResourceConfiguration::parse(&entry, "entry").expect("an entry");
        let configuration = configuration.as_object().expect("an object");
        Plan::resolve(google, "calendars/{calendarId}/changed-events", &entry, configuration).expect("a plan").0
    };
    let nobody = Connection::default();
    let template = "/hubs/general/calendars/{calendarId}/changed-events";
    let fixed = |plan: Plan| match plan.partitions(&nobody) {
        Partitions::Fixed(values) => values.join(" "),
        other => format!("{other:?}"),
    };
    assert_eq!(fixed(plan(Some("/hubs/x/calendars/a@b/changed-events"), json!({}))), "a@b");
    assert_eq!(fixed(plan(Some(template), json!({"calendarId": "a, b"}))), "a b");
    assert_eq!(fixed(plan(None, json!({"calendarId": ["a", "b"]}))), "a b");
    let Partitions::Parent(parent) = plan(Some(template), json!({})).partitions(&nobody) else { panic!("no parent") };
    assert_eq!(parent.resource().name, "calendars");

    let square = catalog.get("square").expect("an element");
    let (orders, _) = Plan::resolve(square, "orders", &ResourceConfiguration::default(), &Map::new()).expect("a plan");
    let locations: Vec<String> = (0..23).map(|number| format!("L{number:02}")).collect();
    let chunks = orders.partitions_of(&locations);
    assert_eq!(chunks.iter().map(|chunk| chunk.split(',').count()).collect::<Vec<_>>(), [10, 10, 3]);
}

#[test]
fn what_cannot_be_carried_out_is_told_with_what_would_work() {
    let catalog = Catalog::embedded();
    let square = catalog.get("square").expect("an element");
    let problems = |name: &str, entry: Value| {
        let (entry, _) =
            ResourceConfiguration::parse(entry.as_object().expect("an object"), "entry").expect("an entry");
        match Plan::resolve(square, name, &entry, &Map::new()) {
            Ok((plan, warnings)) => format!("{} {warnings:?}", plan.resource().name),
            Err(problems) => problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        }
    };
    let url = |query: &str| json!({"url": format!("/hubs/employee/timesheets?{query}")});
    let unknown = problems("timesheets", url("where=employee='1'"));
    assert!(unknown.contains("begin_updated_at with = > >="), "{unknown}");
    let or = problems("timesheets", url("where=status='OPEN' OR status='CLOSED'"));
    assert!(or.contains("joined by AND"), "{or}");
    let path = problems("timesheets", json!({"url": "/hubs/employee/timesheet"}));
    assert!(path.contains("the nearest is timesheets"), "{path}");
    let name = problems("timesheet", json!({}));
    assert!(name.contains("the nearest is timesheets"), "{name}");
    let size = problems("timesheets", json!({"pageSize": 10_000}));
    assert!(size.contains("200 is the most"), "{size}");
    let parameter = problems("timesheets", url("colour=red"));
    assert!(parameter.contains("colour means nothing"), "{parameter}");
}

#[test]
fn a_fixed_date_and_a_value_of_the_url_reach_the_request() {
    let catalog = Catalog::embedded();
    let square = catalog.get("square").expect("an element");
    let configuration = json!({"oauth.api.key": "id", "oauth.api.secret": "s"});
    let configuration = configuration.as_object().expect("an object");
    let (connection, _) = Connection::resolve(square, configuration, &Map::new()).expect("a connection");
    let entry = json!({"url": "/hubs/ecommerce/payments?where=begin_updated_at='2026-08-01T00:00:00Z' AND \
                       end_updated_at='${nowTimeZone:GMT:yyyy-MM-dd'T'HH:mm:ss'Z'}' AND location_id='L&1'"});
    let (entry, _) = ResourceConfiguration::parse(entry.as_object().expect("an object"), "entry").expect("an entry");
    let (plan, _) = Plan::resolve(square, "payments", &entry, configuration).expect("a plan");
    let bases = Bases::default();
    let caller = CallContext { element: square, connection: &connection, bases: &bases, tokens: None };
    let query = |pass, lower: &str| {
        let cursor = Cursor::Watermark(at(lower));
        let listing = Listing::start(&plan, pass, &cursor, Some(at(lower)), "", at("2026-08-13T12:00:00Z"));
        let uri = listing.request(&plan, &caller).expect("a request").uri().to_string();
        url::Url::parse(&uri).expect("a URL").query_pairs().into_owned().collect::<BTreeMap<_, _>>()
    };
    let older = query(ScanMode::Changes, "2026-07-01T00:00:00Z");
    assert_eq!(older["updated_at_begin_time"], "2026-08-01T00:00:00.000Z", "nothing older is wanted");
    assert_eq!(older["updated_at_end_time"], "2026-08-13T12:00:00.000Z");
    assert_eq!(older["location_id"], "L&1");
    assert_eq!(query(ScanMode::Changes, "2026-08-05T00:00:00Z")["updated_at_begin_time"], "2026-08-05T00:00:00.000Z");
    assert_eq!(query(ScanMode::Complete, "2026-08-05T00:00:00Z")["updated_at_begin_time"], "2026-08-01T00:00:00.000Z");
}

#[test]
fn ids_are_listed_as_texts_whatever_they_are() {
    let account = Account::new(element(STATIC, &plain_resource()));
    let rows = json!({"rows":[{"id":7},{"id":"a/b"},{"id":null},{"id":{}},{"id":""},{"id":9007199254740993u64}]});
    let page = account.read(&mut account.start(ScanMode::Complete, None), &answer(200, &rows)).expect("a page");
    assert_eq!(ids(&page), ["7", "a/b", "9007199254740993"]);
    assert_eq!(page.problems.len(), 3);
}
