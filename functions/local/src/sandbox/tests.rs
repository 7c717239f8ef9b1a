//! Tests of the rules that hold for every vendor: the control API, the log, the tables, restarts.

use std::io::Write;

use serde_json::{Value, json};

use super::testing::TestBed;
use super::{Faults, Sandbox, SandboxError, Vendor};

#[test]
fn every_collection_can_be_filled_changed_and_emptied() {
    let bed = TestBed::new();
    let sandbox = bed.sandbox.clone().with_samples();
    for vendor in Vendor::ALL {
        for kind in vendor.collections() {
            let (key, name) = (vendor.key(), kind.name);
            assert!(!sandbox.list(key, name).unwrap().is_empty(), "{key} {name} has no sample");
            let made = sandbox.create(key, name, json!({})).unwrap();
            let id = kind.id.of(&made);
            assert_eq!(sandbox.get(key, name, &id).unwrap(), made, "{key} {name}");
            bed.advance(60);
            let changed = sandbox.update(key, name, &id, json!({"touched": true})).unwrap();
            assert_eq!(changed["touched"], true);
            if let Some(stamp) = &kind.updated {
                let path = format!("/{}", stamp.0);
                assert_ne!(made.pointer(&path), changed.pointer(&path), "{key} {name} keeps its date");
            }
            sandbox.destroy(key, name, &id).unwrap();
            assert!(matches!(sandbox.get(key, name, &id), Err(SandboxError::NotFound { .. })), "{key} {name}");
        }
    }
    assert!(matches!(sandbox.create("acme", "things", json!({})), Err(SandboxError::UnknownVendor { .. })));
    assert!(matches!(sandbox.create("square", "things", json!({})), Err(SandboxError::UnknownCollection { .. })));
    assert_eq!(sandbox.create("square", "timecards", json!([])), Err(SandboxError::NotAnObject));
}

#[test]
fn accounts_do_not_see_each_other() {
    let sandbox = Sandbox::default();
    sandbox.of("a").create("square", "timecards", json!({"id": "x"})).unwrap();
    assert_eq!(sandbox.of("a").list("square", "timecards").unwrap().len(), 1);
    assert!(sandbox.of("b").list("square", "timecards").unwrap().is_empty());
    sandbox.of("a").set_faults("square", Faults { clock_skew_s: 9, ..Faults::default() }).unwrap();
    sandbox.set_faults_everywhere("square", Faults { clock_skew_s: 5, ..Faults::default() }).unwrap();
    let skew = |account: &str| sandbox.state().faults(Vendor::Square, account).clock_skew_s;
    assert_eq!((skew("a"), skew("b")), (9, 5));
}

#[tokio::test]
async fn the_control_api_does_what_the_handle_does() {
    let bed = TestBed::new();
    let (status, made) = bed.control("POST", "/square/timecards?account=a", json!({"location_id": "L"})).await;
    assert_eq!((status, &made["location_id"]), (201, &json!("L")));
    let path = format!("/square/timecards/{}", made["id"].as_str().unwrap());
    bed.advance(1);
    assert_eq!(bed.control("PATCH", &format!("{path}?account=a&silent=true"), json!({"x": 1})).await.1["version"], 1);
    assert_eq!(bed.control("PATCH", &format!("{path}?account=a"), json!({"x": 2})).await.1["version"], 2);
    assert_eq!(bed.control("GET", "/square/timecards?account=a", json!({})).await.1[0]["x"], 2);
    assert_eq!(bed.control("GET", "/square/timecards", json!({})).await.1, json!([]));
    assert_eq!(bed.control("DELETE", &format!("{path}?account=a"), json!({})).await.0, 204);
    assert_eq!(bed.control("DELETE", &format!("{path}?account=a"), json!({})).await.0, 404);

    let faults = json!({"vendor": "square", "account": "a", "faults": {"rate_limit_every": 1}});
    let (status, set) = bed.control("PUT", "/faults", faults).await;
    assert_eq!((status, &set["faults"]["rate_limit_every"]), (200, &json!(1)));
    let (status, wrong) = bed.control("PUT", "/faults", json!({"vendor": "square", "faults": {"rain": 1}})).await;
    assert!(status == 400 && wrong["error"].as_str().unwrap().contains("rain"), "{wrong}");
    assert_eq!(
        bed.control("POST", "/square/expire", json!({"what": "tokens"})).await,
        (200, json!({"expired": "tokens"}))
    );

    let headers = [("authorization", "Bearer sandbox-token-a"), ("square-version", "2025-08-20")];
    assert_eq!(bed.send("GET", "/square/v2/payments?token=hush", &headers, "").await.status, 429);
    let (_, log) = bed.control("GET", "/requests?vendor=square&limit=1", json!({})).await;
    let line = &log["requests"][0];
    assert_eq!(
        (&line["path"], &line["status"], &line["fault"], &line["account"]),
        (&json!("/v2/payments"), &json!(429), &json!("rateLimited"), &json!("a"))
    );
    assert!(!log.to_string().contains("hush"));
    assert_eq!(log["counters"]["square.fault.rateLimited"], 1);

    let (_, described) = bed.control("GET", "", json!({})).await;
    assert_eq!(described["vendors"].as_array().unwrap().len(), Vendor::ALL.len());
    assert!(described["faults"].as_array().unwrap().contains(&json!("late_indexing")));
    assert_eq!(bed.send("GET", "/acme/x", &[], "").await.status, 404);
}

#[tokio::test]
async fn data_tokens_and_faults_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let json_body = [("content-type", "application/json")];
    let ask =
        json!({"client_id": "app", "client_secret": "s", "grant_type": "authorization_code", "code": "sandbox-code-a"});
    let bed = TestBed::open(folder.path());
    let token = bed.send("POST", "/square/oauth2/token", &json_body, ask.to_string()).await.json();
    let account = bed.sandbox.of("a");
    for id in ["one", "two"] {
        account.create("square", "timecards", json!({"id": id})).unwrap();
    }
    account.delete("square", "timecards", "one").unwrap();
    account.set_faults("square", Faults { late_indexing: Some((5, 5)), ..Faults::default() }).unwrap();
    account.update("square", "timecards", "two", json!({"location_id": "later"})).unwrap();
    let minted = account.create("square", "timecards", json!({})).unwrap();
    account.destroy("square", "timecards", minted["id"].as_str().unwrap()).unwrap();
    // Never closed in order, and the last line is torn.
    let mut torn = std::fs::OpenOptions::new().append(true).open(folder.path().join("sandbox.jsonl")).unwrap();
    torn.write_all(br#"{"Record":{"vendor":"squ"#).unwrap();

    let bearer = format!("Bearer {}", token["access_token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str()), ("square-version", "2025-08-20")];
    for restart in 0..2 {
        let bed = TestBed::open(folder.path());
        let found = bed.send("POST", "/square/v2/labor/timecards/search", &headers, "{}").await.json();
        let seen: Vec<&Value> = found["timecards"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
        assert_eq!(seen[0], "two", "restart {restart}");
        assert_eq!(found["timecards"][0]["location_id"], "LOC1", "the list is still behind");
        let account = bed.sandbox.of("a");
        assert_eq!(account.get("square", "timecards", "two").unwrap()["location_id"], "later");
        assert_eq!(account.list("square", "locations").unwrap().len(), 1, "what every account has is made once");
        let again = account.create("square", "timecards", json!({})).unwrap();
        assert_ne!(again["id"], minted["id"], "a number is never given twice");
    }
}

#[tokio::test]
async fn over_a_real_socket_a_cut_answer_is_an_error_and_the_next_one_is_whole() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let home = format!("http://{}/sandbox/revel", listener.local_addr().unwrap());
    let sandbox = Sandbox::default().with_samples();
    sandbox.set_faults("revel", Faults { cut_connection_every: Some(2), ..Faults::default() }).unwrap();
    let server = tokio::spawn(sandbox.clone().serve(listener));
    let client = reqwest::Client::new();
    let mut whole = 0;
    for _ in 0..4 {
        let request = client.get(format!("{home}/resources/Employee/")).header("API-AUTHENTICATION", "main:s");
        let response = request.send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        if let Ok(text) = response.text().await {
            assert!(serde_json::from_str::<Value>(&text).unwrap()["objects"].is_array());
            whole += 1;
        }
    }
    assert_eq!(whole, 2);
    assert_eq!(sandbox.request_count("revel").unwrap(), 4);
    server.abort();
}
