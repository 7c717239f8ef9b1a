//! Calls that list, change and remove instances.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::{Answer, ApiHarness, SQUARE, square};

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
    let metadata = world.call("GET", &format!("/instances/{id}/objects/timesheets/metadata"), "").await;
    assert_eq!(metadata.body["eventTypes"], json!(["created", "updated", "deleted"]));
    assert_eq!(metadata.body["hubPaths"], json!(["/hubs/employee/timesheets"]));
    let field = |name: &str| {
        let fields = metadata.body["fields"].as_array().into_iter().flatten();
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
async fn a_put_with_a_code_logs_in_and_one_without_a_key_is_refused() {
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
