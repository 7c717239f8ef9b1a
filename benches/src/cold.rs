//! Cold starts: from the start of a process to its first answer, under a Lambda Runtime API on this machine.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::extract::{Path as In, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::Utc;
use local::engine::{Engine, TABLE};
use local::wiring::scheduled_event;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::clock::median;

/// A function that has not answered by now does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The cold start of one function.
#[derive(Debug, Clone, PartialEq)]
pub struct Cold {
    /// The function's binary.
    pub name: &'static str,
    /// Median milliseconds to its first answer.
    pub ms: f64,
}

struct Runtime {
    event: Value,
    given: Mutex<bool>,
    answered: mpsc::Sender<()>,
}

async fn next(State(runtime): State<Arc<Runtime>>) -> (HeaderMap, Json<Value>) {
    let first = !std::mem::replace(&mut *runtime.given.lock().expect("nothing panics with it"), true);
    if !first {
        return std::future::pending().await;
    }
    let deadline = (Utc::now().timestamp_millis() + PATIENCE.as_millis() as i64).to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", "cold"),
        ("lambda-runtime-deadline-ms", &deadline),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:cold"),
        ("lambda-runtime-trace-id", "Root=1-0-0"),
    ] {
        headers.insert(name, value.parse().expect("plain text"));
    }
    (headers, Json(runtime.event.clone()))
}

async fn said(State(runtime): State<Arc<Runtime>>, In((_, _)): In<(String, String)>, _body: String) -> StatusCode {
    // Whoever waited may have given up.
    let _ = runtime.answered.send(()).await;
    StatusCode::ACCEPTED
}

/// Ends the process with the measurement.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn once(binary: &Path, event: &Value, table: &str) -> anyhow::Result<Duration> {
    let (answered, mut answers) = mpsc::channel(1);
    let runtime = Arc::new(Runtime { event: event.clone(), given: Mutex::new(false), answered });
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{what}", post(said))
        .with_state(runtime);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut command = Command::new(binary);
    command.env_clear().stdout(Stdio::null()).stderr(Stdio::null());
    for (name, value) in [
        ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "cold"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "cold"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "cold"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "bench"),
        ("AWS_SECRET_ACCESS_KEY", "bench"),
        ("AWS_ENDPOINT_URL_DYNAMODB", table),
        ("POLLUX_TABLE", TABLE),
        ("POLLUX_POLL_QUEUE_URL", "http://127.0.0.1:1/polls"),
        ("POLLUX_DELIVERY_QUEUE_URL", "http://127.0.0.1:1/deliveries"),
        ("POLLUX_KEY_ID", "arn:aws:kms:us-east-1:123456789012:key/bench"),
    ] {
        command.env(name, value);
    }
    let began = Instant::now();
    let _process = Ended(command.spawn().with_context(|| binary.display().to_string())?);
    let answer = tokio::time::timeout(PATIENCE, answers.recv()).await;
    let took = began.elapsed();
    server.abort();
    answer.ok().flatten().with_context(|| format!("{} did not answer", binary.display()))?;
    Ok(took)
}

/// Builds the functions as this program was built, and answers where they are.
fn build(profile: &str) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--profile", profile]);
    for package in ["instances", "dispatcher", "poller"] {
        command.args(["-p", package]);
    }
    command.args(["-p", "benches", "--bins"]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    anyhow::ensure!(command.status()?.success(), "the functions do not build");
    let own = std::env::current_exe()?;
    own.parent().map(Path::to_owned).context("a program lies in a folder")
}

/// Starts each function so often, taking turns, and an empty one beside them.
pub async fn starts(times: usize, profile: &str) -> anyhow::Result<Vec<Cold>> {
    let folder = build(profile)?;
    let engine = Engine::memory().await?;
    let request = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/elements/api-v2/instances", "rawQueryString": "",
        "headers": {"host": "api.example.com", "x-forwarded-proto": "https"},
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "api.example.com", "domainPrefix": "api",
            "http": {"method": "GET", "path": "/elements/api-v2/instances", "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1", "userAgent": "bench"},
            "requestId": "request", "routeKey": "$default", "stage": "$default",
            "time": "05/Jan/2026:09:00:00 +0000", "timeEpoch": 1_767_603_600_000_u64,
        },
        "isBase64Encoded": false,
    });
    // Each is asked for what it answers without reading anything: what it takes to be ready, and no more. Only the
    // dispatcher has nothing so small; its event makes it look at the wheel once.
    let functions = [
        ("empty-function", json!({})),
        ("instances", request),
        ("dispatcher", scheduled_event(Utc::now())),
        ("poller", json!({"Records": []})),
    ];
    let mut taken = vec![Vec::new(); functions.len()];
    for _ in 0..times {
        for (place, (name, event)) in functions.iter().enumerate() {
            let binary = folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
            taken[place].push(once(&binary, event, engine.endpoint()).await?.as_secs_f64() * 1000.0);
        }
    }
    engine.shutdown().await;
    Ok(functions.iter().zip(taken).map(|((name, _), taken)| Cold { name, ms: median(taken) }).collect())
}
