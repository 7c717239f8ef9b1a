//! The harness of the system tests: the three functions over in-memory ports, the sandbox vendors and an inbox, reached
//! over HTTP without sockets. Its clock moves only when a test moves it.
//!
//! ```text
//! let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
//! let id = world.create(seed("square")).await;
//! world.sandbox.create("square", "timecards", json!({...}));
//! world.tick().await;                 // a minute passes, and everything that is due happens
//! world.events()                      // the events that the callback received
//! ```

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::secret::Secret;
use elements::Bases;
use flow::accounts::{NewOrganization, create_organization};
use flow::ports::{Bounds, Exchange, Http, HttpError, Message, Ports, Queue, QueueName, Vault};
use flow::service::Service;
pub use flow::testing::answer;
use flow::testing::{FixedAmbient, MemoryQueue, MemoryStore, TransparentVault, catalog};
use http::{HeaderMap, StatusCode};
use instances::ApiState;
use local::inbox::{self, Behaviour, Inbox, Receipt};
use local::sandbox::{self, Sandbox};
use poller::Poller;
use serde_json::{Value, json};
use store::ambient::Ambient;
use store::port::Store;
use tower::ServiceExt;

/// The signature key of the instances that [`SystemHarness::create`] makes.
pub const SIGNATURE_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The whole system in one process, and the state around it.
pub struct SystemHarness {
    /// The clock and the random numbers.
    pub ambient: Arc<FixedAmbient>,
    /// The table.
    pub store: Arc<MemoryStore>,
    /// Both queues.
    pub queue: Arc<MemoryQueue>,
    /// The vendors.
    pub sandbox: Sandbox,
    /// The callbacks.
    pub inbox: Inbox,
    /// The service that the functions share.
    pub service: Service,
    /// The organization and the user that call the API.
    pub organization: NewOrganization,
    api: Router,
    poller: Poller,
    interceptor: SharedInterceptor,
    failures_expected: AtomicBool,
}

/// A function that sees each outbound request. It may change the system's state, and answer in place of the receiver.
type Interceptor = Box<dyn FnMut(&http::Request<Bytes>) -> Option<http::Response<Bytes>> + Send>;
type SharedInterceptor = Arc<Mutex<Option<Interceptor>>>;

impl SystemHarness {
    /// Makes a system at the time `at`. One organization and its user exist.
    pub async fn new(at: &str) -> Self {
        Self::seeded(at, 1).await
    }

    /// Makes a system with other random numbers.
    pub async fn seeded(at: &str, seed: u64) -> Self {
        Self::sealed(at, seed, Arc::new(TransparentVault)).await
    }

    /// Makes a system with a vault that really encrypts.
    pub async fn sealed(at: &str, seed: u64, vault: Arc<dyn Vault>) -> Self {
        let ambient = Arc::new(FixedAmbient::at(at).seeded(seed));
        let clock = Arc::clone(&ambient);
        let sandbox = Sandbox::new(Arc::new(move || clock.now()), seed);
        let inbox = Inbox::new();
        let store = Arc::new(MemoryStore::default());
        let queue = Arc::new(MemoryQueue::new(ambient.clone()).durable());
        let interceptor = SharedInterceptor::default();
        let routes = sandbox::router(sandbox.clone()).merge(inbox::router(inbox.clone()));
        let ports = Ports {
            store: store.clone() as Arc<dyn Store>,
            queue: queue.clone(),
            http: Arc::new(RoutedHttp { routes, interceptor: Arc::clone(&interceptor) }),
            vault,
            ambient: ambient.clone(),
        };
        let catalog = catalog();
        let mut bases = Bases::default();
        for element in catalog.iter() {
            let base = format!("http://pollux.test/sandbox/{}", element.key);
            bases.overrides.insert(element.key.clone(), base.parse().expect("a URL"));
        }
        let service = Service::new(ports, catalog, Arc::new(bases));
        let organization = create_organization(&service.ports, "Acme").await.expect("an empty table takes it");
        let api = instances::router(ApiState { service: service.clone() });
        let poller = Poller::new(service.clone());
        Self {
            ambient,
            store,
            queue,
            sandbox,
            inbox,
            service,
            organization,
            api,
            poller,
            interceptor,
            failures_expected: AtomicBool::new(false),
        }
    }

    /// Calls the API as the harness's user.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let (status, _, answer) = self.call_through(None, method, path, body).await;
        (status, answer)
    }

    /// Calls the API with an instance's token beside the user's secrets. Returns the headers of the answer, too.
    pub async fn call_through(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, HeaderMap, Value) {
        let (user, organization) = (&self.organization.user_secret, &self.organization.organization_secret);
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://pollux.test/elements/api-v2{path}"))
            .header(
                "authorization",
                format!(
                    "User {}, Organization {}{}",
                    user.expose(),
                    organization.expose(),
                    token.map_or_else(String::new, |token| format!(", Element {token}"))
                ),
            )
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .expect("a request");
        let response = self.api.clone().oneshot(request).await.expect("routers answer");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        (parts.status, parts.headers, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// Sends a request to the API as it is.
    pub async fn exchange(&self, request: http::Request<Bytes>) -> http::Response<Bytes> {
        let response = self.api.clone().oneshot(request.map(Body::from)).await.expect("routers answer");
        let (parts, body) = response.into_parts();
        http::Response::from_parts(parts, axum::body::to_bytes(body, usize::MAX).await.expect("a body"))
    }

    /// Makes an instance with this body and a callback at the inbox `main`. Returns its id.
    #[track_caller]
    pub fn create(&self, mut body: Value) -> impl Future<Output = u64> {
        body["configuration"]["event.notification.callback.url"] = json!("http://pollux.test/inbox/main");
        body["configuration"]["event.notification.signature.key"] = json!(SIGNATURE_KEY);
        self.inbox
            .behave("main", Behaviour { signature_key: Some(Secret::new(SIGNATURE_KEY)), ..Behaviour::default() });
        async move {
            let (status, answer) = self.call("POST", "/instances", Some(body)).await;
            assert_eq!(status, StatusCode::OK, "{answer:#}");
            answer["id"].as_u64().expect("instance ids are numbers")
        }
    }

    /// Polls a resource now. Returns the report.
    pub async fn poll(&self, instance: u64, resource: &str, sweep: bool) -> Value {
        let path = format!("/instances/{instance}/poll?resource={}&sweep={sweep}", resource.replace('/', "%2F"));
        let (status, answer) = self.call("POST", &path, None).await;
        assert_eq!(status, StatusCode::OK, "{answer:#}");
        answer
    }

    /// Intercepts every request to a vendor or a callback from now on.
    pub fn intercept(
        &self,
        interceptor: impl FnMut(&http::Request<Bytes>) -> Option<http::Response<Bytes>> + Send + 'static,
    ) {
        *self.interceptor.lock().expect("no interceptor panicked") = Some(Box::new(interceptor));
    }

    /// Stops intercepting requests.
    pub fn stop_intercepting(&self) {
        *self.interceptor.lock().expect("no interceptor panicked") = None;
    }

    /// Sets whether jobs may fail. The queue delivers a failed job again a minute later.
    pub fn expect_failures(&self, expected: bool) {
        self.failures_expected.store(expected, Ordering::Relaxed);
    }

    /// Moves the clock by a minute and runs everything that is due.
    pub async fn tick(&self) {
        self.advance(Duration::from_secs(60)).await;
    }

    /// Moves the clock minute by minute and runs everything that is due.
    pub async fn advance(&self, by: Duration) {
        let until = self.ambient.now() + by;
        loop {
            let left = (until - self.ambient.now()).to_std().unwrap_or_default();
            self.ambient.advance(left.min(Duration::from_secs(60)));
            self.dispatch().await;
            self.drain().await;
            if self.ambient.now() >= until {
                return;
            }
        }
    }

    /// Moves the clock without running anything, then ticks.
    pub async fn skip(&self, by: Duration) {
        self.ambient.advance(by);
        self.tick().await;
    }

    /// Fires the schedule.
    pub async fn dispatch(&self) {
        let event: EventBridgeEvent = serde_json::from_value(json!({
            "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "account": "1",
            "time": self.ambient.now(), "region": "eu-west-1", "resources": [], "detail": {}
        }))
        .expect("the document EventBridge sends");
        let outcome = dispatcher::handle(&self.service, event).await;
        assert!(
            self.failures_expected.load(Ordering::Relaxed) || outcome.is_ok(),
            "in-memory ports fail only when a test says so: {outcome:?}"
        );
    }

    /// Processes all visible messages of the queues until none is left.
    pub async fn drain(&self) {
        for _ in 0..10_000 {
            let mut idle = true;
            for queue in [QueueName::Polls, QueueName::Deliveries] {
                let messages = self.queue.take(queue, 10);
                if messages.is_empty() {
                    continue;
                }
                idle = false;
                let mut event = SqsEvent::default();
                let mut taken = Vec::new();
                for (number, message) in messages.into_iter().enumerate() {
                    let mut sent = SqsMessage::default();
                    sent.message_id = Some(number.to_string());
                    sent.body = Some(message.body.clone());
                    taken.push(message);
                    event.records.push(sent);
                }
                let until = self.ambient.now() + Duration::from_secs(60);
                let answer = self.poller.handle(event, until).await.expect("every record has an id");
                let failures_expected = self.failures_expected.load(Ordering::Relaxed);
                assert!(
                    failures_expected || answer.batch_item_failures.is_empty(),
                    "failed: {:?}",
                    answer.batch_item_failures
                );
                for failed in answer.batch_item_failures {
                    let place: usize = failed.item_identifier.parse().expect("ids are places");
                    let again = Message { delay: Duration::from_secs(60), ..taken[place].clone() };
                    self.queue.send(queue, vec![again]).await;
                }
            }
            if idle {
                return;
            }
        }
        panic!("the queues never run empty");
    }

    /// The notifications that the callback received and answered with success.
    pub fn callbacks(&self) -> Vec<Arc<Receipt>> {
        self.inbox.received("main").into_iter().filter(|receipt| (200..300).contains(&receipt.status)).collect()
    }

    /// Every event that the callback received, in order, as `TYPE objectType objectId #sequence`.
    pub fn events(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for callback in self.callbacks() {
            assert_eq!(callback.verified.elements, Some(true), "the Cloud Elements signature is valid");
            assert_eq!(callback.verified.standard, Some(true), "the Standard Webhooks signature is valid");
            for event in callback.json()["message"]["events"].as_array().into_iter().flatten() {
                let word = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
                let (kind, object_type, id) = (word("eventType"), word("objectType"), word("objectId"));
                lines.push(format!("{kind} {object_type} {id} #{}", event["sequence"]));
            }
        }
        lines
    }

    /// Fails if one event id names two facts, or if one fact has two ids.
    #[track_caller]
    pub fn assert_ids_are_facts(&self) {
        let (mut by_id, mut by_fact) = (BTreeMap::new(), BTreeMap::new());
        for callback in self.inbox.received("main") {
            let body = callback.json();
            for event in body["message"]["events"].as_array().into_iter().flatten() {
                let id = event["id"].as_str().unwrap_or_default().to_owned();
                let fact = format!(
                    "{} {} {} {} {}",
                    body["message"]["instanceId"],
                    event["objectType"],
                    event["partition"],
                    event["objectId"],
                    event["sequence"]
                );
                assert_eq!(by_id.entry(id.clone()).or_insert_with(|| fact.clone()), &fact, "one id, two facts");
                assert_eq!(by_fact.entry(fact).or_insert_with(|| id.clone()), &id, "one fact, two ids");
            }
        }
    }

    /// The stored items as JSON, by `pk sk`.
    pub fn stored(&self) -> BTreeMap<String, Value> {
        let items = self.store.items().into_iter();
        items.map(|item| (format!("{} {}", item.key.pk, item.key.sk), json_of(&item.body))).collect()
    }
}

impl Drop for SystemHarness {
    /// Checks that no due message is left on the queues.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let now = self.ambient.now();
            for queue in [QueueName::Polls, QueueName::Deliveries] {
                let due = self.queue.waiting(queue).into_iter().filter(|(due, _)| *due <= now).count();
                assert_eq!(due, 0, "messages are left on {queue:?}");
            }
        }
    }
}

fn json_of(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| json!({ "bytes": body.len() }))
}

/// The body of a seed document, with its placeholders filled in.
pub fn seed(element: &str) -> Value {
    let text = match element {
        "square" => include_str!("../../shared/domain/tests/seeds/square.json"),
        "maximizer" => include_str!("../../shared/domain/tests/seeds/maximizer.json"),
        "googlesuite" => include_str!("../../shared/domain/tests/seeds/googlesuite.json"),
        "revel" => include_str!("../../shared/domain/tests/seeds/revel.json"),
        "icontact" => include_str!("../../shared/domain/tests/seeds/icontact.json"),
        other => panic!("there is no seed of {other}"),
    };
    let mut body: Value = serde_json::from_str(text).expect("seed bodies are JSON");
    if body["providerData"].get("code").is_some() {
        body["providerData"]["code"] = json!("sandbox-code-main");
    }
    // Without a login, the sandbox finds the account by the credentials.
    match element {
        "revel" => body["configuration"]["oauth.api.key"] = json!("main"),
        "icontact" => {
            body["configuration"]["api.version"] = json!("2.2");
            body["configuration"]["api.username"] = json!("main");
        }
        _ => {}
    }
    body["configuration"]["event.poller.refresh_interval"] = json!("1");
    body
}

/// Outbound HTTP without sockets: every request goes to the sandbox or the inbox, whatever its host.
struct RoutedHttp {
    routes: Router,
    interceptor: SharedInterceptor,
}

#[async_trait]
impl Http for RoutedHttp {
    async fn send(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        let intercepted =
            self.interceptor.lock().expect("no interceptor panicked").as_mut().and_then(|it| it(&request));
        if let Some(response) = intercepted {
            return Ok(Exchange { response, truncated: false, elapsed: Duration::ZERO });
        }
        let answer = async {
            // A request takes time: other tasks run meanwhile.
            tokio::task::yield_now().await;
            let response = self.routes.clone().oneshot(request.map(Body::from)).await.expect("routers answer");
            let (parts, body) = response.into_parts();
            // The sandbox cuts a connection by a body that breaks off.
            let bytes =
                axum::body::to_bytes(body, usize::MAX).await.map_err(|error| HttpError::Broken(error.to_string()))?;
            let truncated = bytes.len() > bounds.largest_body;
            let bytes = bytes.slice(..bytes.len().min(bounds.largest_body));
            Ok(Exchange { response: http::Response::from_parts(parts, bytes), truncated, elapsed: Duration::ZERO })
        };
        match tokio::time::timeout(bounds.deadline, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(HttpError::Deadline(bounds.deadline)),
        }
    }
}

/// The id of a record of the sandbox.
pub fn id_of(record: &Value) -> String {
    let id = record.get("id").unwrap_or(record);
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}

/// Parses a time literal.
pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap_or_else(|error| panic!("{text:?} is not an instant: {error}"))
}
