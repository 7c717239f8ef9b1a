//! The deployed binaries, run as Lambda runs them: each polls a Runtime API for events, gets the documents that API
//! Gateway, EventBridge and SQS send, and answers. The table is the embedded engine, the queues and the key are moto's,
//! vendor and receiver are the sandbox's.

use std::collections::HashMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{TimeDelta, Utc};
use domain::secret::Secret;
use flow::accounts::NewOrganization;
use flow::ports::Ports;
use flow::testing::TestPorts;
use local::engine::{Engine, TABLE};
use local::inbox::{self, Behaviour, Inbox};
use local::sandbox::{self, Sandbox};
use local::wiring::scheduled_event;
use serde_json::{Value, json};
use tests::moto::Moto;
use tests::program::{Program, binary};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

/// A function that has not answered by now does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

// ---------------------------------------------------------------- The Runtime API

/// A function's response to an event: its answer or its error.
type Said = Result<Value, Value>;

/// The Runtime API of one function, as far as a function uses it.
struct Runtime {
    events: tokio::sync::Mutex<mpsc::Receiver<(Value, oneshot::Sender<Said>)>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Said>>>,
}

impl Runtime {
    fn settle(&self, id: &str, said: Said) -> StatusCode {
        let waiting = self.waiting.lock().expect("nothing panics while it holds the lock").remove(id);
        match waiting.map(|waiting| waiting.send(said)) {
            Some(Ok(())) => StatusCode::ACCEPTED,
            _ => StatusCode::NOT_FOUND,
        }
    }
}

async fn next(State(runtime): State<Arc<Runtime>>) -> (HeaderMap, Json<Value>) {
    let received = runtime.events.lock().await.recv().await;
    // Lambda lets an idle function wait; this one is about to end with its test.
    let Some((event, said)) = received else { return std::future::pending().await };
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let id = format!("request-{}", since_epoch.as_nanos());
    runtime.waiting.lock().expect("nothing panics while it holds the lock").insert(id.clone(), said);
    let deadline = (since_epoch + PATIENCE).as_millis().to_string();
    let headers = [
        ("lambda-runtime-aws-request-id", id.as_str()),
        ("lambda-runtime-deadline-ms", &deadline),
        ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:123456789012:function:it"),
        ("lambda-runtime-trace-id", "Root=1-0-0"),
    ];
    let header = |(name, value): (&'static str, &str)| {
        (HeaderName::from_static(name), value.parse().expect("the value is plain"))
    };
    (headers.map(header).into_iter().collect(), Json(event))
}

async fn response(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, said: String) -> StatusCode {
    runtime.settle(&id, Ok(serde_json::from_str(&said).unwrap_or(Value::String(said))))
}

async fn error(State(runtime): State<Arc<Runtime>>, Path(id): Path<String>, said: String) -> StatusCode {
    runtime.settle(&id, Err(serde_json::from_str(&said).unwrap_or(Value::String(said))))
}

/// A deployed function.
struct Function {
    events: mpsc::Sender<(Value, oneshot::Sender<Said>)>,
    _program: Program,
}

impl Function {
    async fn start(name: &str, environment: &[(&str, String)]) -> Self {
        let (events, receiver) = mpsc::channel(1);
        let runtime = Arc::new(Runtime { events: tokio::sync::Mutex::new(receiver), waiting: Mutex::default() });
        let invocation = "/2018-06-01/runtime/invocation";
        let router = Router::new()
            .route(&format!("{invocation}/next"), get(next))
            .route(&format!("{invocation}/{{id}}/response"), post(response))
            .route(&format!("{invocation}/{{id}}/error"), post(error))
            .with_state(runtime);
        let address = serve(router).await;
        let mut command = Command::new(binary(name));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", address)
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", name)
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "it")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdout(std::process::Stdio::null());
        Self { events, _program: Program::start(&mut command) }
    }

    async fn invoke(&self, event: Value) -> Said {
        let (said, answer) = oneshot::channel();
        self.events.send((event, said)).await.expect("the Runtime API lives as long as the test");
        tokio::time::timeout(PATIENCE, answer).await.expect("the function answers").expect("the Runtime API lives")
    }
}

/// Serves on a free port and says on which.
async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

// ---------------------------------------------------------------- The cloud

struct Cloud {
    engine: Engine,
    sqs: aws_sdk_sqs::Client,
    polls: String,
    deliveries: String,
    sandbox: Sandbox,
    inbox: Inbox,
    /// The address of the sandbox and the inbox.
    outside: String,
    environment: Vec<(&'static str, String)>,
    _moto: Moto,
}

impl Cloud {
    async fn start() -> Self {
        let engine = Engine::memory().await.expect("the engine starts");
        let moto = tokio::task::spawn_blocking(Moto::start).await.expect("moto starts");
        let credentials = || Credentials::new("test", "test", None, None, "test");
        let region = || Region::from_static("us-east-1");
        let sqs = aws_sdk_sqs::Config::builder().behavior_version(BehaviorVersion::v2026_01_12()).region(region());
        let sqs = sqs.credentials_provider(credentials()).endpoint_url(&moto.endpoint).build();
        let sqs = aws_sdk_sqs::Client::from_conf(sqs);
        let queue = async |name: &str| {
            let made = sqs.create_queue().queue_name(name).send().await.expect("moto makes queues");
            made.queue_url.expect("a queue has a URL")
        };
        let (polls, deliveries) = (queue("polls").await, queue("deliveries").await);
        let kms = aws_sdk_kms::Config::builder().behavior_version(BehaviorVersion::v2026_01_12()).region(region());
        let kms = kms.credentials_provider(credentials()).endpoint_url(&moto.endpoint).build();
        let key = aws_sdk_kms::Client::from_conf(kms).create_key().send().await.expect("moto makes keys");
        let key = key.key_metadata.expect("a key has an id").key_id;

        let (sandbox, inbox) = (Sandbox::default(), Inbox::new());
        let outside = serve(sandbox::router(sandbox.clone()).merge(inbox::router(inbox.clone()))).await;
        let outside = format!("http://{outside}");
        let environment = vec![
            ("POLLUX_TABLE", TABLE.to_owned()),
            ("POLLUX_POLL_QUEUE_URL", polls.clone()),
            ("POLLUX_DELIVERY_QUEUE_URL", deliveries.clone()),
            ("POLLUX_KEY_ID", key),
            ("POLLUX_ALLOW_PRIVATE", "true".to_owned()),
            ("POLLUX_VENDOR_SQUARE", format!("{outside}/sandbox/square")),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_ENDPOINT_URL_DYNAMODB", engine.endpoint().to_owned()),
            ("AWS_ENDPOINT_URL_SQS", moto.endpoint.clone()),
            ("AWS_ENDPOINT_URL_KMS", moto.endpoint.clone()),
        ];
        Self { engine, sqs, polls, deliveries, sandbox, inbox, outside, environment, _moto: moto }
    }

    /// As an operator does with `pollux admin`.
    async fn create_organization(&self) -> NewOrganization {
        let elsewhere = TestPorts::new("2026-01-05T09:00:00Z", |_| unreachable!("nobody is asked"));
        let seeded = elsewhere.ports();
        let ports = Ports { store: Arc::new(self.engine.store()), ..seeded };
        flow::accounts::create_organization(&ports, "Acme").await.expect("an organization")
    }

    /// Takes what is on a queue, as the event source mapping does, and makes Lambda's document of it.
    async fn batch(&self, queue: &str, wanted: usize) -> Value {
        let mut records = Vec::new();
        while records.len() < wanted {
            let request = self.sqs.receive_message().queue_url(queue).max_number_of_messages(10).wait_time_seconds(5);
            let received = request.send().await.expect("moto gives messages").messages.unwrap_or_default();
            assert!(!received.is_empty(), "{} messages came, {wanted} were awaited", records.len());
            records.extend(received.into_iter().map(|message| {
                json!({
                    "messageId": message.message_id, "receiptHandle": message.receipt_handle, "body": message.body,
                    "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {},
                    "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:it",
                    "awsRegion": "us-east-1",
                })
            }));
        }
        assert_eq!(records.len(), wanted);
        json!({ "Records": records })
    }
}

/// The event that API Gateway sends for a request.
fn http_event(method: &str, path: &str, authorization: &str, body: &Value) -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {
            "authorization": authorization, "content-type": "application/json", "host": "api.example.com",
            "x-forwarded-proto": "https",
        },
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "api.example.com", "domainPrefix": "api",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "it"},
            "requestId": "request", "routeKey": "$default", "stage": "$default",
            "time": "05/Jan/2026:09:00:00 +0000", "timeEpoch": 1_767_603_600_000_u64,
        },
        "body": body.to_string(), "isBase64Encoded": false,
    })
}

fn square_body(outside: &str) -> Value {
    json!({
        "element": {"key": "square"},
        "providerData": {"code": "sandbox-code-main"},
        "configuration": {
            "oauth.callback.url": "https://example.com/callback", "oauth.api.key": "key", "oauth.api.secret": "secret",
            "event.notification.enabled": true,
            "event.notification.callback.url": format!("{outside}/inbox/it"),
            "event.notification.signature.key": "it",
            "event.poller.refresh_interval": "1",
            "event.poller.configuration": {"timesheets": {
                "url": "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'",
                "idField": "id",
                "datesConfiguration": {
                    "updatedDateField": "updated_at", "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
                    "createdDateField": "created_at", "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
                },
            }},
        },
        "name": "it",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_at_the_vendor_goes_through_the_three_binaries_to_the_callback() {
    let cloud = Cloud::start().await;
    cloud.inbox.behave("it", Behaviour { signature_key: Some(Secret::new("it")), ..Behaviour::default() });
    let made = cloud.create_organization().await;
    let authorization =
        format!("User {}, Organization {}", made.user_secret.expose(), made.organization_secret.expose());
    let instances = Function::start("instances", &cloud.environment).await;
    let dispatcher = Function::start("dispatcher", &cloud.environment).await;
    let poller = Function::start("poller", &cloud.environment).await;

    let path = "/elements/api-v2/instances";
    let stranger = instances.invoke(http_event("POST", path, "User x, Organization y", &json!({}))).await;
    assert_eq!(stranger.expect("an answer")["statusCode"], 401);
    let answer = instances.invoke(http_event("POST", path, &authorization, &square_body(&cloud.outside))).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer["statusCode"], 200, "{answer}");
    let instance: Value = serde_json::from_str(answer["body"].as_str().expect("a body")).expect("JSON");

    let timecard = cloud.sandbox.create("square", "timecards", json!({})).expect("a timecard");
    // The minute in which the instance was made was polled by its making.
    let minute = scheduled_event(Utc::now() + TimeDelta::minutes(1));
    let report = dispatcher.invoke(minute.clone()).await.expect("a report");
    assert_eq!((&report["polls"], &report["alreadyDispatched"]), (&json!(1), &json!(false)), "{report}");
    let report = dispatcher.invoke(minute).await.expect("a report");
    assert_eq!((&report["polls"], &report["alreadyDispatched"]), (&json!(0), &json!(true)), "{report}");

    let mut batch = cloud.batch(&cloud.polls, 1).await;
    let records = batch["Records"].as_array_mut().expect("records");
    let poison = [r#"{"job":"poll.v9"}"#, "no JSON", ""];
    records
        .extend(poison.iter().enumerate().map(|(n, body)| json!({"messageId": format!("poison-{n}"), "body": body})));
    let answer = poller.invoke(batch).await.expect("an answer");
    let mut failed: Vec<_> = answer["batchItemFailures"].as_array().expect("a list").clone();
    failed.sort_by_key(Value::to_string);
    let wanted: Vec<_> = (0..poison.len()).map(|n| json!({"itemIdentifier": format!("poison-{n}")})).collect();
    assert_eq!(failed, wanted);

    let batch = cloud.batch(&cloud.deliveries, 1).await;
    assert_eq!(poller.invoke(batch.clone()).await, Ok(json!({"batchItemFailures": []})));
    // The queue may bring a message twice; the delivery is done.
    assert_eq!(poller.invoke(batch).await, Ok(json!({"batchItemFailures": []})));
    let received = cloud.inbox.received("it");
    assert_eq!(received.len(), 1);
    assert_eq!((received[0].verified.elements, received[0].verified.standard), (Some(true), Some(true)));
    let notification = received[0].json();
    assert_eq!(notification["message"]["instanceId"], instance["id"]);
    let event = &notification["message"]["events"][0];
    assert_eq!((&event["eventType"], &event["objectId"]), (&json!("CREATED"), &timecard["id"]));

    let nameless = json!({"Records": [{"body": "{}"}]});
    let error = poller.invoke(nameless).await.expect_err("a record without an id fails the invocation");
    assert!(error["errorMessage"].as_str().is_some_and(|text| text.contains("no message id")), "{error}");
    cloud.engine.shutdown().await;
}
