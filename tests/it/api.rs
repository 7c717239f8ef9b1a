//! The HTTP API through its real router: the requests, the answers, and the items that are stored by then.

mod changes;
mod reads;
mod refusals;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use bytes::Bytes;
use elements::Bases;
use flow::accounts::{NewOrganization, create_organization};
use flow::ports::{Bounds, Exchange, Http, HttpError};
use flow::service::Service;
use flow::testing::{Fault, TestPorts};
use instances::{ApiState, router};
use local::sandbox::Sandbox;
use serde_json::{Value, json};
use store::ambient::Ambient;
use store::port::Item;
use tower::ServiceExt;

const SQUARE: &str = include_str!("../../shared/domain/tests/seeds/square.json");

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
async fn a_seed_body_makes_an_instance_and_its_answer_has_the_cloud_elements_keys() {
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
async fn given_tokens_make_an_instance_without_a_code() {
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
