//! Tests of the inbox.

use axum::body::{Body, to_bytes};
use axum::http::Request;
use futures::StreamExt;
use tower::ServiceExt;

use super::*;

async fn send(inbox: &Inbox, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = router(inbox.clone()).oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn notification(ids: &[&str]) -> String {
    let events: Vec<Value> = ids.iter().map(|id| json!({"eventId": id})).collect();
    json!({"message": {"eventId": "N", "events": events}}).to_string()
}

#[test]
fn standard_webhooks_vector() {
    let mut headers = HeaderMap::new();
    headers.insert("webhook-id", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk".parse().unwrap());
    headers.insert("webhook-timestamp", "1649367553".parse().unwrap());
    let good = "v1,bad v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=";
    headers.insert("webhook-signature", good.parse().unwrap());
    let body = br#"{"email":"test@example.com","username":"test_user"}"#;
    let key = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    assert_eq!(verify(key, &headers, body), Verified { elements: None, standard: Some(true) });
    assert_eq!(verify(key, &headers, b"{}").standard, Some(false));
    assert_eq!(verify("another", &headers, body).standard, Some(false));
}

#[tokio::test]
async fn signatures_are_checked_once_a_key_is_known() {
    let inbox = Inbox::new();
    // HMAC-SHA256 with key "key" of this sentence is a well-known test value.
    let body = "The quick brown fox jumps over the lazy dog";
    let hex = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8";
    let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect();
    let signature = format!("sha256={}", STANDARD.encode(bytes));
    let signed = [("elements-webhook-signature", signature.as_str())];
    send(&inbox, "POST", "/inbox/a", &signed, body).await;
    let (status, shown) = send(&inbox, "PUT", "/inbox/a", &[], r#"{"signatureKey":"key"}"#).await;
    assert_eq!((status, &shown["signatureKey"]), (200, &json!("********")));
    send(&inbox, "POST", "/inbox/a", &signed, body).await;
    send(&inbox, "POST", "/inbox/a", &signed, "tampered").await;
    send(&inbox, "POST", "/inbox/a", &[], body).await;
    let verdicts: Vec<_> = inbox.received("a").iter().map(|receipt| receipt.verified.elements).collect();
    assert_eq!(verdicts, [None, Some(true), Some(false), None]);
    assert_eq!(inbox.counters("a").badly_signed, 1);
}

#[tokio::test]
async fn it_fails_as_configured_and_knows_duplicates() {
    let inbox = Inbox::new();
    let change = r#"{"failNext":1,"failStatus":503,"retryAfter":7,"status":202}"#;
    assert_eq!(send(&inbox, "PUT", "/inbox/a", &[], change).await.0, 200);
    assert_eq!(send(&inbox, "PUT", "/inbox/a", &[], r#"{"colour":1}"#).await.0, 400);
    let delivery = [("webhook-id", "d1")];
    let answers = [
        send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["1", "2"])).await.0,
        send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["1", "2"])).await.0,
        send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["2", "3"])).await.0,
        send(&inbox, "POST", "/inbox/a", &delivery, &notification(&["3", "1"])).await.0,
        send(&inbox, "POST", "/inbox/a", &delivery, "plain").await.0,
    ];
    assert_eq!(answers, [503, 202, 202, 202, 202]);
    let (_, listed) = send(&inbox, "GET", "/inbox/a?after=1&limit=2", &[], "").await;
    assert_eq!(listed["callbacks"].as_array().unwrap().len(), 2);
    assert_eq!(listed["callbacks"][0]["body"]["message"]["eventId"], "N");
    assert_eq!(listed["callbacks"][0]["eventIds"], json!(["1", "2"]));
    let duplicates: Vec<bool> = inbox.received("a").iter().map(|receipt| receipt.duplicate).collect();
    assert_eq!(duplicates, [false, false, false, true, true]);
    let wanted = Counters { received: 5, events: 3, duplicates: 2, badly_signed: 0, refused: 1 };
    assert_eq!(inbox.counters("a"), wanted);
    let (_, names) = send(&inbox, "GET", "/inbox", &[], "").await;
    assert_eq!((&names["inboxes"][0]["name"], &names["inboxes"][0]["received"]), (&json!("a"), &json!(5)));
    assert_eq!(send(&inbox, "DELETE", "/inbox/a", &[], "").await.0, 204);
    assert_eq!(inbox.counters("a"), Counters::default());
}

#[tokio::test]
async fn a_restart_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let inbox = Inbox::open(folder.path()).unwrap();
    send(&inbox, "PUT", "/inbox/a", &[], r#"{"signatureKey":"key","failNext":2}"#).await;
    for _ in 0..3 {
        send(&inbox, "POST", "/inbox/a", &[("webhook-id", "d")], &notification(&["1"])).await;
    }
    let before = (inbox.received("a"), inbox.counters("a"));
    for _ in 0..2 {
        let again = Inbox::open(folder.path()).unwrap();
        assert_eq!((again.received("a"), again.counters("a")), before);
        assert_eq!(again.state().slot("a").behaviour.fail_next, 0);
        assert_eq!(again.state().slot("a").behaviour.signature_key, Some(Secret::new("key")));
    }
    let again = Inbox::open(folder.path()).unwrap();
    send(&again, "POST", "/inbox/a", &[], &notification(&["1"])).await;
    assert!(again.received("a")[3].duplicate);
}

#[tokio::test]
async fn only_the_newest_are_kept_and_all_are_counted() {
    let inbox = Inbox::new();
    for _ in 0..KEPT + 5 {
        inbox.accept("a", &HeaderMap::new(), b"{}");
    }
    let kept = inbox.received("a");
    assert_eq!((kept.len(), kept[0].number, inbox.counters("a").received), (KEPT, 6, KEPT as u64 + 5));
}

#[tokio::test]
async fn waiting_ends_with_the_callback_or_the_time() {
    let inbox = Inbox::new();
    let waiter = inbox.clone();
    let waiting = tokio::spawn(async move { waiter.wait_for("a", 2, Duration::from_secs(60)).await });
    for _ in 0..2 {
        send(&inbox, "POST", "/inbox/a", &[], "{}").await;
        tokio::task::yield_now().await;
    }
    assert_eq!(waiting.await.unwrap().unwrap().len(), 2);
    let late = inbox.wait_for("a", 3, Duration::ZERO).await;
    assert_eq!(late, Err(TooFew { name: "a".into(), received: 2, wanted: 3 }));
}

#[tokio::test]
async fn a_stream_tells_what_was_and_what_comes() {
    let inbox = Inbox::new();
    for body in ["1", "2"] {
        send(&inbox, "POST", "/inbox/a", &[], body).await;
    }
    let request = Request::builder().uri("/inbox/a/stream").header("last-event-id", "1").body(Body::empty()).unwrap();
    let response = router(inbox.clone()).oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut chunks = response.into_body().into_data_stream();
    let first = chunks.next().await.unwrap().unwrap();
    assert!(std::str::from_utf8(&first).unwrap().contains("id: 2"));
    send(&inbox, "POST", "/inbox/a", &[], "3").await;
    let second = chunks.next().await.unwrap().unwrap();
    assert!(std::str::from_utf8(&second).unwrap().contains("\"body\":3"));
}
