//! The test bed: a sandbox on a clock that only the test moves, and one call per request.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Sandbox, router};

/// 2026-08-01T13:00:04.335Z
pub(crate) const START_MS: i64 = 1_785_589_204_335;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }
}

pub(crate) struct TestBed {
    pub(crate) sandbox: Sandbox,
    now_ms: Arc<AtomicI64>,
}

impl TestBed {
    pub(crate) fn new() -> Self {
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        Self { sandbox: Sandbox::new(Self::clock(&now_ms), 1), now_ms }
    }

    pub(crate) fn open(folder: &std::path::Path) -> Self {
        let now_ms = Arc::new(AtomicI64::new(START_MS));
        Self { sandbox: Sandbox::open(folder, Self::clock(&now_ms), 1).unwrap(), now_ms }
    }

    fn clock(now_ms: &Arc<AtomicI64>) -> super::Clock {
        let now_ms = Arc::clone(now_ms);
        Arc::new(move || DateTime::<Utc>::from_timestamp_millis(now_ms.load(Ordering::SeqCst)).unwrap())
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.now_ms.fetch_add(seconds * 1000, Ordering::SeqCst);
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Answer {
        self.try_send(method, path, headers, body).await.expect("the answer must not break off")
    }

    pub(crate) async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<String>,
    ) -> Result<Answer, axum::Error> {
        let mut request = Request::builder().method(method).uri(format!("/sandbox{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into())).unwrap();
        let response = router(self.sandbox.clone()).oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await?;
        Ok(Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() })
    }

    /// Status and JSON of a control call.
    pub(crate) async fn control(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let answer = self
            .send(method, &format!("/control{path}"), &[("content-type", "application/json")], body.to_string())
            .await;
        (answer.status, serde_json::from_str(&answer.text).unwrap_or(json!(null)))
    }
}
