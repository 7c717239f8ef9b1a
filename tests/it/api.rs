//! The HTTP API through its real router: what a client sends, what it reads, and what is stored by then.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use elements::Bases;
use flow::ports::{Ambient, Bounds, Exchange, Http, HttpError, Item};
use flow::principal::{NewOrganization, create_organization};
use flow::service::Service;
use flow::testing::{Fault, TestPorts};
use instances::{ApiState, router};
use local::sandbox::Sandbox;
use serde_json::{Value, json};
use tower::ServiceExt;

const SQUARE: &str = include_str!("../../shared/domain/tests/seeds/square.json");

/// The body that the original's manual prints for cURL: other quotation marks have been lost, the trailing comma not.
const SQUARE_CURL: &str = r#"{
"element": {
"key": "square"
},
"providerData":{
"code": "<AUTHORIZATION_GRANT_CODE>"
},
"configuration": {
"oauth.callback.url": "https;//mycoolapp.com",
"oauth.api.key": "xxxxxxxxxxxxxxxxxx",
"oauth.api.secret": "xxxxxxxxxxxxxxxxxxxxxxxx",
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
},
"tags": [
"Docs"
],
"name": "API Instance with Polling"
}"#;

type TimeCards = Arc<Mutex<Vec<Value>>>;

/// A vendor that hands out one token, and has time cards and nothing else.
fn vendor(cards: &TimeCards, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
    let body = String::from_utf8_lossy(request.body()).into_owned();
    let (status, answer) = match request.uri().path() {
        "/oauth2/token" if body.contains("expired-code") => {
            (401, json!({"error": "invalid_grant", "error_description": "Authorization code is expired"}))
        }
        "/oauth2/token" if body.contains("broken-vendor") => return Err(HttpError::Connect("refused".into())),
        "/oauth2/token" => (
            200,
            json!({
                "access_token": "vendor-access", "token_type": "bearer", "refresh_token": "vendor-refresh",
                "expires_at": "2026-02-04T09:00:00Z", "merchant_id": "M1"
            }),
        ),
        "/v2/merchants/me" => (200, json!({"merchant": {"id": "M1"}})),
        "/v2/labor/timecards/TC1" => (200, json!({"timecard": {"id": "TC1", "note": null}})),
        path if path.starts_with("/v2/labor/timecards/TC") => (404, json!({"errors": [{"code": "NOT_FOUND"}]})),
        "/v2/labor/timecards/search" => (200, json!({"timecards": *cards.lock().expect("nobody panicked")})),
        _ => (200, json!({})),
    };
    let response = http::Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Bytes::from(answer.to_string())).expect("a response"))
}

struct ApiHarness {
    ports: TestPorts,
    service: Service,
    router: Router,
    owner: NewOrganization,
    cards: TimeCards,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl ApiHarness {
    async fn new() -> Self {
        let cards = TimeCards::default();
        let answering = Arc::clone(&cards);
        let ports = TestPorts::new("2026-01-05T09:00:00Z", move |request| vendor(&answering, request));
        let service = ports.service();
        let owner = create_organization(&service.ports, "owner").await.expect("an organization");
        Self { ports, router: router(ApiState { service: service.clone() }), service, owner, cards }
    }

    fn secrets(&self) -> String {
        secrets_of(&self.owner)
    }

    /// A call with the owner's secrets.
    async fn call(&self, method: &str, path: &str, body: impl Into<String>) -> Answer {
        self.call_as(&self.secrets(), method, path, body).await
    }

    async fn call_as(&self, secrets: &str, method: &str, path: &str, body: impl Into<String>) -> Answer {
        let method: Method = method.parse().expect("a method");
        let request = Request::builder()
            .method(method)
            .uri(format!("/elements/api-v2{path}"))
            .header("authorization", secrets)
            .header("content-type", "application/json")
            .body(Body::from(body.into()))
            .expect("a request");
        self.send(request).await
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.expect("a whole body");
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Everything stored but who may call and who changed what.
    fn stored(&self) -> Vec<Item> {
        let of_organizations = |item: &Item| {
            item.key.pk.starts_with("SECRET#") && item.body.windows(10).all(|part| part != b"\"instance\"")
                || item.key.pk == "ORGS"
                || item.key.sk.starts_with("USER#")
                || item.key.sk.starts_with("AUDIT#")
        };
        self.ports.store.items().into_iter().filter(|item| !of_organizations(item)).collect()
    }

    /// Makes an instance from the seed body and answers its id.
    async fn instance(&self) -> u64 {
        let answer = self.call("POST", "/instances", SQUARE).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["id"].as_u64().expect("an id")
    }
}

fn secrets_of(organization: &NewOrganization) -> String {
    format!("User {}, Organization {}", organization.user_secret.expose(), organization.organization_secret.expose())
}

/// The seed body with a change.
fn square(change: impl FnOnce(&mut Value)) -> String {
    let mut body: Value = serde_json::from_str(SQUARE).expect("JSON");
    change(&mut body);
    body.to_string()
}

fn set(key: &'static str, value: impl Into<Value>) -> String {
    square(|body| body["configuration"][key] = value.into())
}

// ---------------------------------------------------------------- Making one

#[tokio::test]
async fn a_seed_body_makes_an_instance_and_its_answer_has_the_original_keys() {
    let world = ApiHarness::new().await;
    let answer = world.call("POST", "/instances", SQUARE).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = &answer.body;
    for key in [
        "id",
        "name",
        "createdDate",
        "token",
        "element",
        "elementId",
        "tags",
        "provisionInteractions",
        "valid",
        "disabled",
        "maxCacheSize",
        "cacheTimeToLive",
        "providerData",
        "configuration",
        "eventsEnabled",
        "traceLoggingEnabled",
        "cachingEnabled",
        "externalAuthentication",
        "user",
    ] {
        assert!(body.get(key).is_some(), "{key} is missing in {body}");
    }
    assert_eq!(body["createdDate"], "2026-01-05T09:00:00Z");
    assert_eq!(body["element"]["key"], "square");
    assert_eq!(body["element"]["hub"], "employee");
    assert_eq!(body["elementId"], body["element"]["id"]);
    assert_eq!(
        (&body["valid"], &body["disabled"], &body["eventsEnabled"]),
        (&json!(true), &json!(false), &json!(true))
    );
    assert_eq!(body["providerData"], json!({}));
    assert_eq!(body["user"]["id"], world.owner.user.0);
    let configuration = &body["configuration"];
    assert_eq!(configuration["oauth.api.secret"], "********");
    assert_eq!(configuration["event.notification.enabled"], "true");
    assert_eq!(configuration["event.poller.refresh_interval"], "5");
    let resources: Value =
        serde_json::from_str(configuration["event.poller.configuration"].as_str().expect("a text")).expect("JSON");
    assert_eq!(resources["timesheets"]["idField"], "id");

    // The same again by its id and by its token.
    let id = body["id"].as_u64().expect("a number");
    let again = world.call("GET", &format!("/instances/{id}"), "").await;
    assert_eq!((again.status.as_u16(), &again.body["token"]), (200, &body["token"]));
    let with_token = format!("{}, Element {}", world.secrets(), body["token"].as_str().expect("a token"));
    let by_token = world.call_as(&with_token, "GET", "/instances", "").await;
    assert_eq!((by_token.status.as_u16(), &by_token.body["id"]), (200, &body["id"]));
}

#[tokio::test]
async fn the_code_is_exchanged_once_and_no_secret_is_stored_in_the_clear() {
    let world = ApiHarness::new().await;
    world.instance().await;
    let requests = world.ports.http.requests();
    let exchanges: Vec<_> = requests.iter().filter(|(request, _)| request.uri().path() == "/oauth2/token").collect();
    assert_eq!(exchanges.len(), 1);
    let sent = String::from_utf8_lossy(exchanges[0].0.body()).into_owned();
    assert!(sent.contains("AUTHORIZATION_GRANT_CODE") && sent.contains("authorization_code"), "{sent}");
    for item in world.ports.store.items() {
        let text = String::from_utf8_lossy(&item.body).into_owned();
        for secret in ["vendor-access", "vendor-refresh", "Square Application Secret", "AUTHORIZATION_GRANT_CODE"] {
            assert!(!text.contains(secret), "{secret} stands in {:?}", item.key);
        }
    }
}

#[tokio::test]
async fn a_new_instance_sits_on_the_wheel_and_was_polled_once_in_silence() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let keys: Vec<String> = world.stored().into_iter().map(|item| format!("{} {}", item.key.pk, item.key.sk)).collect();
    let has = |start: &str, end: &str| keys.iter().any(|key| key.starts_with(start) && key.ends_with(end));
    assert!(has("SLOT#5#", &format!("{id}#timesheets")), "{keys:?}");
    assert!(has("WHEEL INTERVAL#", "0005"), "{keys:?}");
    assert!(has(&format!("INST#{id} RES#"), "timesheets"), "{keys:?}");
    assert!(!keys.iter().any(|key| key.contains("DLV#")), "{keys:?}");
    let coverage = world.call("GET", &format!("/instances/{id}/coverage"), "").await;
    assert_eq!(coverage.body[0]["resource"], "timesheets");
    assert_eq!(coverage.body[0]["baselined"], true, "{}", coverage.body);
}

#[tokio::test]
async fn tokens_at_hand_make_an_instance_without_a_code() {
    let world = ApiHarness::new().await;
    let body = square(|body| {
        body["providerData"] = json!({});
        body["externalAuthentication"] = json!("initial");
        body["configuration"]["oauth.user.refresh_token"] = json!("my-refresh");
    });
    let answer = world.call("POST", "/instances", body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(!answer.body.to_string().contains("my-refresh"));
    let (request, _) = &world.ports.http.requests()[0];
    let sent = String::from_utf8_lossy(request.body()).into_owned();
    assert!(sent.contains("my-refresh") && sent.contains("refresh_token"), "{sent}");
}

#[tokio::test]
async fn an_instance_whose_answer_was_lost_on_the_way_is_answered_once() {
    let world = ApiHarness::new().await;
    world.ports.store.plan_faults(|number| (number == 0).then_some(Fault::AnswerLost));
    let answer = world.call("POST", "/instances", SQUARE).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let listed = world.call("GET", "/instances", "").await;
    assert_eq!(listed.body.as_array().map(Vec::len), Some(1));
    assert_eq!(listed.body[0]["id"], answer.body["id"]);
}

/// The sandbox vendors behind the port, without a socket between.
struct SandboxHttp(Router);

#[async_trait::async_trait]
impl Http for SandboxHttp {
    async fn send(&self, request: http::Request<Bytes>, _: Bounds) -> Result<Exchange, HttpError> {
        let (mut parts, body) = request.into_parts();
        parts.uri = parts.uri.path_and_query().expect("a path").as_str().parse().expect("a path");
        let response = self.0.clone().oneshot(Request::from_parts(parts, Body::from(body))).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.map_err(|error| HttpError::Broken(error.to_string()))?;
        Ok(Exchange { response: Response::from_parts(parts, body), truncated: false, elapsed: Duration::ZERO })
    }
}

#[tokio::test]
async fn every_seed_body_is_taken_as_printed_by_the_vendor_it_is_for() {
    let seeds = [
        ("square", SQUARE),
        ("maximizer", include_str!("../../shared/domain/tests/seeds/maximizer.json")),
        ("googlesuite", include_str!("../../shared/domain/tests/seeds/googlesuite.json")),
        ("revel", include_str!("../../shared/domain/tests/seeds/revel.json")),
        ("icontact", include_str!("../../shared/domain/tests/seeds/icontact.json")),
    ];
    for (key, seed) in seeds {
        let mut world = ApiHarness::new().await;
        let ambient = Arc::clone(&world.ports.ambient);
        let sandbox = Sandbox::new(Arc::new(move || ambient.now()), 1).with_samples();
        world.service.ports.http = Arc::new(SandboxHttp(local::sandbox::router(sandbox)));
        let base = format!("http://sandbox.test/sandbox/{key}").parse().expect("a URL");
        world.service.bases = Arc::new(Bases { overrides: [(key.to_owned(), base)].into() });
        world.router = router(ApiState { service: world.service.clone() });
        let mut body: Value = serde_json::from_str(seed).expect("JSON");
        body["providerData"]["code"] = json!("sandbox-code-main");
        if key == "icontact" {
            body["configuration"]["api.version"] = json!("2.2");
        }
        let answer = world.call("POST", "/instances", body.to_string()).await;
        assert_eq!(answer.status, 200, "{key}: {}", answer.body);
        let id = answer.body["id"].as_u64().expect("an id");
        let wanted = body["configuration"]["event.poller.configuration"].as_object().expect("resources").len();
        let coverage = world.call("GET", &format!("/instances/{id}/coverage"), "").await;
        let resources = coverage.body.as_array().expect("a list");
        assert_eq!(resources.len(), wanted, "{key}");
        for resource in resources {
            assert_eq!(resource["baselined"], true, "{key}: {resource} after {}", answer.body["warnings"]);
        }
    }
}

// ---------------------------------------------------------------- Refused

/// The call is refused with this status and a message that has this part; nothing was stored, nobody was asked.
async fn check_refused(body: impl Into<String>, status: u16, part: &str) {
    let world = ApiHarness::new().await;
    let body = body.into();
    let answer = world.call("POST", "/instances", body.clone()).await;
    let shown = answer.body.to_string();
    assert_eq!(answer.status.as_u16(), status, "{shown}");
    assert!(shown.contains(part), "{part} is not in {shown}");
    let id = answer.body["requestId"].as_str().expect("a request id");
    assert!(id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(answer.headers["elements-request-id"], id);
    assert_eq!(world.stored(), [], "{part}");
    assert!(world.ports.http.requests().is_empty(), "the vendor was asked for {body}");
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_said_before_anything_is_stored_or_sent() {
    check_refused(SQUARE_CURL, 400, "line 24, column 1").await;
    check_refused("{\"a\": 1, \"a\": 2}", 400, "line 1").await;
    check_refused("", 400, "line 1").await;
    check_refused("[]", 400, "a JSON object").await;
    check_refused(square(|body| body["element"]["key"] = json!("sqare")), 400, "the nearest is square").await;
    check_refused(square(|body| drop(body.as_object_mut().map(|body| body.remove("element")))), 400, "element").await;
    check_refused(square(|body| body["providerData"] = json!({})), 400, "providerData.code").await;
    check_refused(set("oauth.api.secret", Value::Null), 400, "oauth.api.secret").await;
    check_refused(set("event.poller.refresh_interval", "<minutes>"), 400, "event.poller.refresh_interval").await;
    check_refused(set("event.notification.callback.url", "https;//mycoolapp.com"), 400, "callback.url").await;
    check_refused(set("event.notification.callback.url", "ftp://mycoolapp.com"), 400, "callback.url").await;
    let resource = |key: &'static str, value: &'static str| {
        square(|body| body["configuration"]["event.poller.configuration"]["timesheets"][key] = json!(value))
    };
    check_refused(resource("url", "/hubs/employee/timesheets?where=a='${gmtDat:yyyy}'"), 400, "gmtDat").await;
    check_refused(resource("url", "/hubs/employee/nonsense"), 400, "timesheets.url").await;
    let date = |key: &'static str, value: &'static str| {
        square(|body| {
            body["configuration"]["event.poller.configuration"]["timesheets"]["datesConfiguration"][key] = json!(value);
        })
    };
    check_refused(date("updatedDateFormat", "yyyy-jj"), 400, "updatedDateFormat").await;
    check_refused(date("updatedDateTimezone", "Amerika/Denver"), 400, "updatedDateTimezone").await;
    check_refused(set("event.poller.configuration", "{\"timesheets\": "), 400, "event.poller.configuration").await;
    check_refused(square(|body| body["name"] = json!("x".repeat(1 << 20))), 413, "1048576 bytes").await;
}

#[tokio::test]
async fn everything_wrong_is_in_one_answer() {
    let world = ApiHarness::new().await;
    let body = square(|body| {
        body["providerData"] = json!({});
        body["configuration"]["event.poller.refresh_interval"] = json!("soon");
        body["configuration"]["oauth.api.key"] = json!("");
        body["configuration"]["event.poller.configuration"]["nonsense"] = json!({});
    });
    let answer = world.call("POST", "/instances", body).await;
    let fields: Vec<&str> =
        answer.body["errors"].as_array().expect("errors").iter().filter_map(|e| e["field"].as_str()).collect();
    for part in ["providerData.code", "refresh_interval", "oauth.api.key", "nonsense"] {
        assert!(fields.iter().any(|field| field.contains(part)), "{part} is not in {fields:?}");
    }
    for error in answer.body["errors"].as_array().expect("errors") {
        assert!(error["read"].is_string() && error["expected"].is_string(), "{error}");
    }
}

#[tokio::test]
async fn a_code_that_the_vendor_refuses_stores_nothing() {
    let world = ApiHarness::new().await;
    let answer =
        world.call("POST", "/instances", square(|body| body["providerData"]["code"] = json!("expired-code"))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body["providerMessage"].as_str().is_some_and(|said| said.contains("expired")), "{}", answer.body);
    assert_eq!(leftovers(&world), 0);

    let answer =
        world.call("POST", "/instances", square(|body| body["providerData"]["code"] = json!("broken-vendor"))).await;
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert_eq!(leftovers(&world), 0);
}

fn leftovers(world: &ApiHarness) -> usize {
    world.stored().len()
}

#[tokio::test]
async fn other_media_methods_and_paths_are_refused_in_the_same_shape() {
    let world = ApiHarness::new().await;
    let request = |method: &str, path: &str, header: (&str, &str)| {
        let request = Request::builder().method(method).uri(path).header("authorization", world.secrets());
        request.header(header.0, header.1).body(Body::from("{}")).expect("a request")
    };
    let base = "/elements/api-v2/instances";
    for (request, status) in [
        (request("POST", base, ("content-type", "text/xml")), 415),
        (request("GET", base, ("accept", "text/html")), 406),
        (request("PUT", "/elements/api-v2/elements", ("accept", "*/*")), 405),
        (request("GET", "/elements/api-v2/nowhere", ("accept", "*/*")), 404),
        (request("GET", "/nowhere", ("accept", "application/json;q=0.9, text/html")), 404),
    ] {
        let path = request.uri().clone();
        let answer = world.send(request).await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert_eq!(answer.headers["content-type"], "application/json");
        assert!(answer.body["message"].is_string() && answer.body["requestId"].is_string(), "{}", answer.body);
        if status == 405 {
            assert_eq!(answer.headers["allow"], "GET,HEAD");
        }
    }
    let preflight = world.send(request("OPTIONS", base, ("origin", "https://example.com"))).await;
    assert_eq!(preflight.status, 204);
    assert!(
        preflight.headers["access-control-allow-headers"].to_str().is_ok_and(|names| names.contains("Authorization"))
    );
    let exposed = preflight.headers["access-control-expose-headers"].to_str().expect("text");
    assert!(exposed.contains("Elements-Next-Page-Token"));
}

// ---------------------------------------------------------------- Who may

#[tokio::test]
async fn wrong_secrets_get_one_answer_whatever_they_ask() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let stored = world.stored();
    let mut bodies = Vec::new();
    for secrets in ["", "User x, Organization y", "Bearer x", &format!("User {}", world.owner.user_secret.expose())] {
        for (method, path) in [
            ("POST", "/instances".to_owned()),
            ("GET", format!("/instances/{id}")),
            ("GET", "/instances/1".to_owned()),
            ("DELETE", format!("/instances/{id}")),
            ("GET", "/elements/square/oauth/url".to_owned()),
        ] {
            let mut answer = world.call_as(secrets, method, &path, SQUARE).await;
            assert_eq!(answer.status, 401, "{method} {path} as {secrets:?}");
            answer.body["requestId"].take();
            bodies.push(answer.body);
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(world.stored(), stored);
}

#[tokio::test]
async fn another_organization_cannot_tell_an_instance_from_none() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let stranger = create_organization(&world.service.ports, "stranger").await.expect("an organization");
    let stored = world.stored();
    let secrets = secrets_of(&stranger);
    let absent = if id == 12_345 { 12_346 } else { 12_345 };
    for (method, tail) in [
        ("GET", ""),
        ("PUT", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("PUT", "/enabled"),
        ("DELETE", "/enabled"),
        ("POST", "/poll"),
        ("GET", "/coverage"),
        ("GET", "/configuration"),
        ("GET", "/event-poller-records"),
        ("GET", "/events"),
        ("GET", "/events/x"),
        ("GET", "/deliveries"),
        ("PUT", "/deliveries"),
        ("GET", "/deliveries/x"),
        ("PUT", "/deliveries/x"),
        ("POST", "/deliveries/test"),
        ("GET", "/callback"),
    ] {
        let mut answers = Vec::new();
        for id in [id, absent] {
            let mut answer = world.call_as(&secrets, method, &format!("/instances/{id}{tail}"), "{}").await;
            assert_eq!(answer.status, 404, "{method} {tail}");
            answer.body["requestId"].take();
            answers.push(answer.body);
        }
        assert_eq!(answers[0], answers[1], "{method} {tail}");
    }
    assert_eq!(world.call_as(&secrets, "GET", "/instances", "").await.status, 404);
    assert_eq!(world.stored(), stored);
    let token = world.call("GET", &format!("/instances/{id}"), "").await.body["token"].as_str().map(str::to_owned);
    let mixed = format!("{secrets}, Element {}", token.expect("a token"));
    assert_eq!(world.call_as(&mixed, "GET", "/instances", "").await.status, 401);
}

// ---------------------------------------------------------------- Listing, changing, removing

#[tokio::test]
async fn a_listing_is_filtered_and_paged() {
    let world = ApiHarness::new().await;
    for (name, tag) in [("one", "a"), ("two", "a"), ("three", "b")] {
        let body = square(|body| {
            body["name"] = json!(name);
            body["tags"] = json!([tag]);
        });
        assert_eq!(world.call("POST", "/instances", body).await.status, 200);
    }
    let names = |answer: &Answer| -> Vec<String> {
        let mut names: Vec<String> = answer
            .body
            .as_array()
            .into_iter()
            .flatten()
            .map(|i| i["name"].as_str().unwrap_or_default().to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&world.call("GET", "/instances", "").await), ["one", "three", "two"]);
    assert_eq!(names(&world.call("GET", "/instances?tags%5B%5D=a", "").await), ["one", "two"]);
    assert_eq!(names(&world.call("GET", "/instances?searchText=THR", "").await), ["three"]);
    assert_eq!(
        names(&world.call("GET", "/elements/square/instances?hydrate=false", "").await),
        ["one", "three", "two"]
    );
    assert_eq!(world.call("GET", "/instances?tags[]=c", "").await.status, 404);
    assert_eq!(world.call("GET", "/instances?pageSize=0", "").await.status, 400);

    let (mut seen, mut path) = (Vec::new(), "/instances?pageSize=2".to_owned());
    let mut pages = 0;
    loop {
        let page = world.call("GET", &path, "").await;
        assert_eq!(page.headers["elements-returned-count"], page.body.as_array().expect("a list").len().to_string());
        seen.extend(names(&page));
        pages += 1;
        match page.headers.get("elements-next-page-token") {
            Some(token) => path = format!("/instances?pageSize=2&nextPage={}", token.to_str().expect("text")),
            None => break,
        }
    }
    seen.sort();
    assert_eq!((pages, seen), (2, vec!["one".to_owned(), "three".into(), "two".into()]));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_moves_the_slot() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let patch = json!({"name": "renamed", "configuration": {"event.poller.refresh_interval": "1", "oauth.api.secret": "********"}});
    let answer = world.call("PATCH", &format!("/instances/{id}"), patch.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["name"], "renamed");
    assert_eq!(answer.body["configuration"]["event.notification.callback.url"], "http://mycoolapp.com");
    let slots: Vec<String> =
        world.stored().into_iter().filter(|item| item.key.pk.starts_with("SLOT#")).map(|item| item.key.pk).collect();
    assert_eq!(slots, ["SLOT#1#0"]);
    let exchanges = world.ports.http.requests().iter().filter(|(r, _)| r.uri().path() == "/oauth2/token").count();
    assert_eq!(exchanges, 1, "a patch without providerData asked for tokens");

    let bad = json!({"configuration": {"event.poller.refresh_interval": "never"}});
    let before = world.stored();
    assert_eq!(world.call("PATCH", &format!("/instances/{id}"), bad.to_string()).await.status, 400);
    assert_eq!(world.stored(), before);
}

#[tokio::test]
async fn two_editors_cannot_undo_each_other() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let path = format!("/instances/{id}");
    let version = |answer: &Answer| answer.headers["etag"].to_str().expect("text").to_owned();
    let edit = async |seen: &str, method: &str, body: Value| {
        let request = Request::builder()
            .method(method)
            .uri(format!("/elements/api-v2{path}"))
            .header("authorization", world.secrets())
            .header("if-match", seen);
        world.send(request.body(Body::from(body.to_string())).expect("a request")).await
    };
    let read = world.call("GET", &path, "").await;
    // Both have read the same. The first is quicker; what the other sends is made of what is no more.
    let first = edit(&version(&read), "PATCH", json!({"configuration": {"event.poller.refresh_interval": "30"}})).await;
    assert_eq!(first.status, 200, "{}", first.body);
    assert_ne!(version(&first), version(&read));
    let late = edit(&version(&read), "PUT", read.body.clone()).await;
    assert_eq!(late.status, 412, "{}", late.body);
    let now = world.call("GET", &path, "").await;
    assert_eq!(now.body["configuration"]["event.poller.refresh_interval"], "30");
    assert_eq!(version(&now), version(&first));
    let again = edit(&version(&now), "PUT", now.body.clone()).await;
    assert_eq!(again.status, 200, "{}", again.body);
    assert_eq!(edit("*", "PATCH", json!({"name": "any"})).await.status, 200);
    assert_eq!(edit("W/\"1\"", "PATCH", json!({"name": "any"})).await.status, 400);
    // Without If-Match a patch of one thing leaves what others did to another.
    world.call("PATCH", &path, json!({"tags": ["theirs"]}).to_string()).await;
    let mine = world.call("PATCH", &path, json!({"name": "mine"}).to_string()).await;
    assert_eq!((&mine.body["name"], &mine.body["tags"]), (&json!("mine"), &json!(["theirs"])));
}

#[tokio::test]
async fn an_instance_is_found_under_its_element_and_its_objects_are_described() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let found = world.call("GET", &format!("/elements/square/instances/{id}"), "").await;
    assert_eq!((found.status.as_u16(), &found.body["id"]), (200, &json!(id)));
    assert_eq!(world.call("GET", &format!("/elements/8374/instances/{id}"), "").await.status, 200);
    assert_eq!(world.call("GET", &format!("/elements/revel/instances/{id}"), "").await.status, 404);
    let names = world.call("GET", &format!("/instances/{id}/objects"), "").await;
    assert_eq!(names.body[0], "timesheets");
    let told = world.call("GET", &format!("/instances/{id}/objects/timesheets/metadata"), "").await;
    assert_eq!(told.body["eventTypes"], json!(["created", "updated", "deleted"]));
    assert_eq!(told.body["hubPaths"], json!(["/hubs/employee/timesheets"]));
    let field = |name: &str| {
        let fields = told.body["fields"].as_array().into_iter().flatten();
        fields.into_iter().find(|field| field["vendorPath"] == name).cloned().unwrap_or_default()
    };
    assert_eq!((&field("id")["primaryKey"], &field("created_at")["createdDate"]), (&json!(true), &json!(true)));
    assert_eq!((&field("updated_at")["updatedDate"], &field("updated_at")["filterable"]), (&json!(true), &json!(true)));
    let none = world.call("GET", &format!("/instances/{id}/objects/nonsense/metadata"), "").await;
    assert!(none.status == 404 && none.body["message"].to_string().contains("timesheets"), "{}", none.body);
}

#[tokio::test]
async fn what_is_too_long_or_no_text_is_refused_by_name() {
    let world = ApiHarness::new().await;
    let search = format!("/instances?searchText={}", "x".repeat(domain::limits::URL_BYTES));
    let answer = world.call("GET", &search, "").await;
    assert_eq!(answer.status, 414);
    assert!(answer.body["message"].to_string().contains("8192"), "{}", answer.body);
    for (path, field) in [
        ("/instances?searchText=%ff", "query searchText"),
        ("/instances?hydrate=perhaps", "hydrate"),
        ("/instances?pageSize=99999999999999999999", "pageSize"),
        ("/elements/%ff", "path"),
    ] {
        let answer = world.call("GET", path, "").await;
        assert_eq!((answer.status.as_u16(), &answer.body["errors"][0]["field"]), (400, &json!(field)), "{path}");
    }
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(domain::limits::BODY_BYTES));
    let answer = world.call("POST", "/instances", large).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body["message"].to_string().contains("1048576"), "{}", answer.body);
}

#[tokio::test]
async fn a_put_with_a_code_logs_in_again_and_a_put_without_a_key_is_refused() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let answer = world.call("PUT", &format!("/instances/{id}"), SQUARE).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let exchanges = world.ports.http.requests().iter().filter(|(r, _)| r.uri().path() == "/oauth2/token").count();
    assert_eq!(exchanges, 2);
    let answer = world.call("PUT", &format!("/instances/{id}"), json!({"configuration": {}}).to_string()).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.to_string().contains("oauth.api.key"), "{}", answer.body);
    // What an answer says can be sent back as it is.
    let shown = world.call("GET", &format!("/instances/{id}"), "").await;
    let echoed = world.call("PUT", &format!("/instances/{id}"), shown.body.to_string()).await;
    assert_eq!(echoed.status, 200, "{}", echoed.body);
    assert_eq!(echoed.body["configuration"], shown.body["configuration"]);
}

#[tokio::test]
async fn a_resource_that_goes_loses_its_state_and_one_that_stays_keeps_it() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let state = |world: &ApiHarness, resource: &str| {
        let key = format!("RES#{resource}");
        world.stored().into_iter().find(|item| item.key.sk == key).map(|item| (item.version, item.body))
    };
    let before = state(&world, "timesheets").expect("a state");
    let resources = json!({"timesheets": serde_json::from_str::<Value>(SQUARE).expect("JSON")["configuration"]["event.poller.configuration"]["timesheets"], "employees": {}});
    let patch = json!({"configuration": {"event.poller.configuration": resources}});
    let answer = world.call("PATCH", &format!("/instances/{id}"), patch.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(state(&world, "timesheets"), Some(before));
    assert!(state(&world, "employees").is_some());
    let patch = json!({"configuration": {"event.poller.configuration": {"employees": {}}}});
    let answer = world.call("PATCH", &format!("/instances/{id}"), patch.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(state(&world, "timesheets"), None);
    let slots = world.stored().into_iter().filter(|item| item.key.pk.starts_with("SLOT#")).count();
    assert_eq!(slots, 1);
}

#[tokio::test]
async fn a_removed_instance_leaves_nothing_and_its_token_is_worthless() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let token =
        world.call("GET", &format!("/instances/{id}"), "").await.body["token"].as_str().expect("a token").to_owned();
    assert_eq!(world.call("DELETE", &format!("/instances/{id}"), "").await.status, 200);
    let left: Vec<_> = world.stored().into_iter().filter(|item| item.key.pk != "WHEEL").collect();
    assert_eq!(left, []);
    assert_eq!(world.call("GET", &format!("/instances/{id}"), "").await.status, 404);
    assert_eq!(world.call("DELETE", &format!("/instances/{id}"), "").await.status, 404);
    let with_token = format!("{}, Element {token}", world.secrets());
    assert_eq!(world.call_as(&with_token, "GET", "/instances", "").await.status, 401);
}

#[tokio::test]
async fn a_disabled_instance_is_not_polled() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let answer = world.call("DELETE", &format!("/instances/{id}/enabled"), "").await;
    assert_eq!((answer.status.as_u16(), &answer.body["disabled"]), (200, &json!(true)));
    assert_eq!(world.call("POST", &format!("/instances/{id}/poll"), "").await.status, 403);
    let answer = world.call("PUT", &format!("/instances/{id}/enabled"), "").await;
    assert_eq!((answer.status.as_u16(), &answer.body["disabled"]), (200, &json!(false)));
    let answer = world.call("POST", &format!("/instances/{id}/poll?resource=timesheets"), "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for figure in ["pages", "records", "created", "updated", "deleted", "suppressed"] {
        assert!(answer.body[figure].is_u64(), "{figure} in {}", answer.body);
    }
    assert_eq!(world.call("POST", &format!("/instances/{id}/poll?resource=nonsense"), "").await.status, 400);
}

#[tokio::test]
async fn one_configuration_key_is_read_and_changed_by_itself() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let path = format!("/instances/{id}/configuration");
    let all = world.call("GET", &path, "").await;
    let item = all.body.as_array().expect("a list").iter().find(|item| item["key"] == "event.notification.enabled");
    let item = format!("{path}/{}", item.expect("the item")["id"]);
    assert_eq!(world.call("GET", &item, "").await.body["propertyValue"], "true");
    let secret = world.call("GET", &format!("{path}/oauth.api.secret"), "").await;
    assert_eq!(secret.body["propertyValue"], "********");
    let off = world.call("PATCH", &item, json!({"propertyValue": "false"}).to_string()).await;
    assert_eq!((off.status.as_u16(), &off.body["propertyValue"]), (200, &json!("false")), "{}", off.body);
    // With events off nothing is left on the wheel and nothing is remembered.
    let left: Vec<String> = world.stored().into_iter().map(|item| format!("{} {}", item.key.pk, item.key.sk)).collect();
    assert!(!left.iter().any(|key| key.contains("SLOT#") || key.contains("RES#") || key.contains("IDX#")), "{left:?}");
    assert_eq!(world.call("PATCH", &item, json!({"propertyValue": "maybe"}).to_string()).await.status, 400);
    assert_eq!(world.call("PATCH", &item, "{}").await.status, 400);
    assert_eq!(world.call("GET", &format!("{path}/none"), "").await.status, 404);
    let poll = world.call("POST", &format!("/instances/{id}/poll"), "").await;
    assert_eq!(poll.status, 400, "{}", poll.body);
}

#[tokio::test]
async fn the_gateways_event_reaches_the_same_handlers() {
    let world = ApiHarness::new().await;
    let event = json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/elements/api-v2/instances",
        "rawQueryString": "",
        "headers": {"authorization": world.secrets(), "content-type": "application/json"},
        "requestContext": {
            "accountId": "1", "apiId": "a", "domainName": "a.example", "domainPrefix": "a", "requestId": "r",
            "routeKey": "$default", "stage": "$default", "time": "05/Jan/2026:09:00:00 +0000", "timeEpoch": 0,
            "http": {
                "method": "POST", "path": "/elements/api-v2/instances", "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1", "userAgent": "curl"
            }
        },
        "body": SQUARE,
        "isBase64Encoded": false
    });
    let request = lambda_http::request::from_str(&event.to_string()).expect("the gateway's event");
    let response = world.router.clone().oneshot(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(body["element"]["key"], "square");
}

// ---------------------------------------------------------------- Events

#[tokio::test]
async fn a_change_becomes_an_event_that_can_be_read_and_sent_again() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    world.ports.ambient.advance(Duration::from_secs(600));
    let stamp = "2026-01-05T09:08:00Z";
    let card = json!({"id": "TC1", "created_at": stamp, "updated_at": stamp, "version": 1});
    world.cards.lock().expect("nobody panicked").push(card);
    let report = world.call("POST", &format!("/instances/{id}/poll?resource=timesheets"), "").await;
    assert_eq!((report.status.as_u16(), &report.body["created"]), (200, &json!(1)), "{}", report.body);

    let events = world.call("GET", &format!("/instances/{id}/events"), "").await;
    let event = &events.body[0];
    assert_eq!((&event["status"], &event["eventDate"]), (&json!("RECEIVED"), &json!("2026-01-05T09:10:00Z")));
    let notification: Value = serde_json::from_str(event["providerData"].as_str().expect("a text")).expect("JSON");
    assert_eq!(notification["message"]["events"][0]["objectId"], "TC1");
    assert_eq!(notification["message"]["events"][0]["eventType"], "CREATED");
    let event_id = event["id"].as_str().expect("an id");
    let same = world.call("GET", &format!("/instances/{id}/events/{event_id}"), "").await;
    assert_eq!(same.body, *event);
    assert_eq!(world.call("GET", "/instances/events", "").await.body, events.body);
    assert_eq!(world.call("GET", &format!("/instances/{id}/events/none"), "").await.status, 404);

    let deliveries = world.call("GET", &format!("/instances/{id}/deliveries?status=created,retry"), "").await;
    assert_eq!(deliveries.body[0]["id"], event_id);
    assert_eq!(deliveries.body[0]["callbackUrl"], "http://mycoolapp.com");
    assert_eq!(world.call("GET", &format!("/instances/{id}/deliveries?status=lost"), "").await.status, 400);
    let one = world.call("GET", &format!("/instances/{id}/deliveries/{event_id}"), "").await;
    assert_eq!(one.body["notification"], event["providerData"]);
    let again = world.call("PUT", &format!("/instances/{id}/deliveries/{event_id}"), "").await;
    assert_eq!((again.status.as_u16(), &again.body["redelivered"]), (200, &json!(1)));
    let callback = world.call("GET", &format!("/instances/{id}/callback"), "").await;
    assert_eq!(callback.body["status"], "ok", "{}", callback.body);

    let where_url =
        "channel%3D%27webhook%27%20and%20status%3D%27created%27%20and%20config.url%3D%27http%3A%2F%2Fmycoolapp.com%27";
    let found = world.call("GET", &format!("/notifications/subscriptions/deliveries?where={where_url}"), "").await;
    assert_eq!((found.status.as_u16(), &found.body[0]["id"]), (200, &json!(event_id)), "{}", found.body);
    let none = world.call("GET", "/notifications/subscriptions/deliveries?where=status%3D%27queued%27", "").await;
    assert_eq!(none.body, json!([]));
    let bad = world.call("GET", "/notifications/subscriptions/deliveries?where=size%3E3", "").await;
    assert_eq!(bad.status, 400, "{}", bad.body);
    let subscriptions = world.call("GET", "/notifications/subscriptions", "").await;
    assert_eq!(subscriptions.body[0]["topics"][0], format!("instance-{id}-square-events"));

    let test = world.call("POST", &format!("/instances/{id}/deliveries/test"), "").await;
    assert!(test.body["delivery"].is_string(), "{}", test.body);
}

// ---------------------------------------------------------------- Hubs

#[tokio::test]
async fn a_hub_call_reads_what_the_vendor_has_through_the_instance() {
    let world = ApiHarness::new().await;
    let id = world.instance().await;
    let shown = world.call("GET", &format!("/instances/{id}"), "").await;
    let secrets = format!("{}, Element {}", world.secrets(), shown.body["token"].as_str().expect("a token"));
    let stamp = "2026-01-05T09:08:00Z";
    let card = json!({"id": "TC1", "created_at": stamp, "updated_at": stamp, "note": null, "version": 1});
    world.cards.lock().expect("nobody panicked").push(card);
    for hub in ["employee", "crap"] {
        let found = world.call_as(&secrets, "GET", &format!("/hubs/{hub}/timesheets"), "").await;
        let bare = json!([{"id": "TC1", "created_at": stamp, "updated_at": stamp, "version": 1}]);
        assert_eq!((found.status.as_u16(), &found.body), (200, &bare));
        assert_eq!(found.headers["elements-element-instance-id"], id.to_string());
        assert_eq!(found.headers["elements-returned-count"], "1");
    }
    // The hub may be left out; without an instance there is nothing then.
    let bare = world.call_as(&secrets, "GET", "/timesheets?fields=id", "").await;
    assert_eq!((bare.status.as_u16(), &bare.body), (200, &json!([{"id": "TC1"}])));
    assert_eq!(world.call_as(&secrets, "GET", "/timesheets/TC1", "").await.body["id"], "TC1");
    assert_eq!(world.call_as(&secrets, "GET", "/timesheet", "").await.status, 404);
    assert_eq!(world.call_as(&secrets, "POST", "/timesheets", "{}").await.status, 404);
    assert_eq!(world.call("GET", "/timesheets", "").await.status, 404);
    assert_eq!(world.call_as("", "GET", "/timesheets", "").await.status, 401);
    let fields = world.call_as(&secrets, "GET", "/hubs/employee/timesheets?fields=id", "").await;
    assert_eq!(fields.body, json!([{"id": "TC1"}]));
    let one = world.call_as(&secrets, "GET", "/hubs/employee/timesheets/TC1", "").await;
    assert_eq!((one.status.as_u16(), &one.body), (200, &json!({"id": "TC1"})));
    for (path, status) in [
        ("/hubs/employee/timesheets/TC2", 404),
        ("/hubs/employee/nonsense", 404),
        ("/hubs/employee/timesheets?where=id%20%3D", 400),
        ("/hubs/employee/timesheets?where=colour%3D%27red%27", 400),
        ("/hubs/employee/timesheets?orderBy=id", 400),
        ("/hubs/employee/timesheets?nextPage=bm9uZQ", 400),
    ] {
        let answer = world.call_as(&secrets, "GET", path, "").await;
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.body);
    }
    assert_eq!(world.call("GET", "/hubs/employee/timesheets", "").await.status, 400);
    let ping = world.call_as(&secrets, "GET", "/ping", "").await;
    assert_eq!((&ping.body["endpoint"], &ping.body["valid"]), (&json!("square"), &json!(true)));
    world.call("DELETE", &format!("/instances/{id}/enabled"), "").await;
    assert_eq!(world.call_as(&secrets, "GET", "/hubs/employee/timesheets", "").await.status, 403);
    assert_eq!(world.call_as(&secrets, "GET", "/objects", "").await.status, 200);
}

// ---------------------------------------------------------------- Elements

#[tokio::test]
async fn elements_say_what_they_need_and_where_to_log_in() {
    let world = ApiHarness::new().await;
    let anonymous =
        |path: &str| Request::get(format!("/elements/api-v2{path}")).body(Body::empty()).expect("a request");
    let all = world.send(anonymous("/elements")).await;
    assert_eq!(all.status, 200);
    let keys: Vec<&str> =
        all.body.as_array().expect("a list").iter().filter_map(|element| element["key"].as_str()).collect();
    assert!(keys.contains(&"square"), "{keys:?}");
    assert_eq!(world.send(anonymous("/elements/square")).await.body["id"], 8374);
    assert_eq!(world.send(anonymous("/elements/8374")).await.body["key"], "square");
    let absent = world.send(anonymous("/elements/sqare")).await;
    assert_eq!(absent.status, 404);
    assert!(absent.body["message"].as_str().is_some_and(|text| text.contains("\"square\"")), "{}", absent.body);
    let configuration = world.send(anonymous("/elements/square/configuration")).await;
    assert!(configuration.body.as_array().expect("a list").iter().any(|p| p["key"] == "oauth.api.key"));
    let metadata = world.send(anonymous("/elements/square/metadata")).await;
    assert!(metadata.body["events"]["polling"]["timesheets"]["eventTypes"].is_array(), "{}", metadata.body);

    let path =
        "/elements/square/oauth/url?apiKey=app&apiSecret=s&callbackUrl=https%3A%2F%2Fa.example%2Fback&state=mine";
    let login = world.call("GET", path, "").await;
    let url: url::Url = login.body["oauthUrl"].as_str().expect("a URL").parse().expect("a URL");
    let query: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!((query["client_id"].as_str(), query["state"].as_str()), ("app", "mine"));
    assert_eq!(login.body["element"], "square");
    let same = world
        .call(
            "POST",
            "/elements/square/oauth/url",
            json!({"apiKey": "app", "callbackUrl": "https://a.example/back", "state": "mine"}).to_string(),
        )
        .await;
    assert_eq!(same.body["oauthUrl"], login.body["oauthUrl"]);
    assert_eq!(world.call("GET", "/elements/square/oauth/url", "").await.status, 400);
}
