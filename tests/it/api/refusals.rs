//! Refused calls of the API: wrong bodies, wrong secrets, other organizations.

use axum::body::Body;
use axum::http::Request;
use flow::accounts::create_organization;
use serde_json::{Value, json};

use super::{ApiHarness, SQUARE, secrets_of, set, square};

/// The body that the Cloud Elements manual prints for cURL, with its trailing comma.
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
async fn another_organization_cannot_distinguish_an_instance_from_none() {
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
