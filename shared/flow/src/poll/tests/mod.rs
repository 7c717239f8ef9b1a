//! Tests of polls, one at a time, on ports in memory, with a made-up vendor whose every answer the test decides.

mod commits;
mod failures;
mod handed_over;
mod passes;
mod skips;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::id::{InstanceId, OrganizationId};
use elements::Catalog;
use http::{Request, Response};
use serde_json::{Value, json};
use store::records::delivery::{self, DeliveryRow};
use store::records::instance::{self, InstanceRecord};
use store::records::resource::{self, ResourceRecord};
use store::{RecordKey, Stored, Write, commit};

use super::{Mode, PollReport, poll};
use crate::deliver::outbox;
use crate::job::PollJob;
use crate::ports::HttpError;
use crate::service::Service;
use crate::testing::{MemoryQueue, TestPorts, answer};
use crate::vendor::secrets;

type Answer = Result<Response<Bytes>, HttpError>;
type Interceptor = Box<dyn FnMut(&Request<Bytes>) -> Option<Answer> + Send>;

/// Lists what it has, page by page, in the order in which it was put there.
#[derive(Default)]
struct Vendor {
    rows: Vec<Value>,
    /// Records on a page at most; 0 where there is no limit.
    most: usize,
    /// Its other answer, where there is one.
    intercept: Option<Interceptor>,
    /// Lists all there is, whatever it is asked for.
    deaf: bool,
    /// The time by its clock.
    date: Option<&'static str>,
    /// The number of pages it was asked for.
    listed: usize,
    /// The number of records it was asked for.
    read: usize,
}

impl Vendor {
    fn answer(&mut self, request: &Request<Bytes>) -> Answer {
        let path: Vec<&str> = request.uri().path().trim_start_matches('/').split('/').collect();
        let is_read = matches!(path[..], ["api", "entries" | "feed" | "balances" | "pages", _]);
        self.read += usize::from(is_read);
        self.listed += usize::from(!is_read && path[0] == "api");
        if let Some(said) = self.intercept.as_mut().and_then(|intercept| intercept(request)) {
            return said;
        }
        Ok(match path[..] {
            ["token"] => answer(200, &json!({"access_token": "open sesame", "expires_in": 86_400})),
            ["api", _, id] if is_read => match self.rows.iter().find(|row| row["id"] == id && row["gone"] != true) {
                Some(row) => answer(200, row),
                None => answer(404, &json!({"message": "no such record"})),
            },
            _ => self.page(&path, request),
        })
    }

    fn page(&self, path: &[&str], request: &Request<Bytes>) -> Response<Bytes> {
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()).into_owned().collect();
        let since: Option<DateTime<Utc>> =
            query.get("since").filter(|_| !self.deaf).map(|since| since.parse().expect("a date"));
        let after: Option<usize> = query.get("token").map(|token| token.parse().expect("our own token"));
        let book = path.iter().position(|part| *part == "books").map(|place| path[place + 1]);
        let wanted = |(place, row): &(usize, &Value)| {
            let stamp = || row["at"].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok());
            since.is_none_or(|since| stamp().is_some_and(|at| at >= since))
                && after.is_none_or(|after| *place >= after)
                && (after.is_some() || row["gone"] != true)
                && book.is_none_or(|book| row["book"] == book)
                && (path[1] != "volumes" || row["book"].is_null())
        };
        let wanted: Vec<&Value> = self.rows.iter().enumerate().filter(wanted).map(|(_, row)| row).collect();
        let limit: usize = query["limit"].parse().expect("a number");
        let limit = if self.most == 0 { limit } else { limit.min(self.most) };
        let from: usize = query.get("page").map_or(0, |page| page.parse().expect("our own page"));
        let rows = &wanted[from.min(wanted.len())..(from + limit).min(wanted.len())];
        let next = (from + limit < wanted.len()).then(|| (from + limit).to_string());
        let mut page = answer(200, &json!({"rows": rows, "next": next, "token": self.rows.len().to_string()}));
        if let Some(date) = self.date {
            page.headers_mut().insert(http::header::DATE, http::HeaderValue::from_static(date));
        }
        page
    }
}

/// One instance of a made-up element, one resource of it, and the vendor.
struct PollHarness {
    test: TestPorts,
    service: Service,
    vendor: Arc<Mutex<Vendor>>,
    job: PollJob,
}

const ID: InstanceId = InstanceId(42);

static MADE_UP: LazyLock<Arc<Catalog>> = LazyLock::new(|| {
    let elements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/elements");
    Arc::new(Catalog::default().with_directory(&elements).expect("elements of the tests"))
});

impl PollHarness {
    /// Nothing was polled yet.
    async fn new(element: &str, resource: &str, configured: Value) -> Self {
        let vendor: Arc<Mutex<Vendor>> = Arc::default();
        let of_http = Arc::clone(&vendor);
        let test =
            TestPorts::new("2026-01-05T09:00:00Z", move |request| of_http.lock().expect("whole").answer(&request));
        let service = Service::new(test.ports(), MADE_UP.clone(), Arc::default());
        let minute = service.wheel.minute_of(test.ports().now());
        let job = PollJob { organization: OrganizationId(7), instance: ID, resource: resource.to_owned(), minute };
        let world = Self { test, service, vendor, job };
        let record = InstanceRecord {
            element: element.to_owned(),
            resources: [(resource.to_owned(), serde_json::value::to_raw_value(&configured).expect("JSON"))].into(),
            configuration: [
                ("books".to_owned(), json!("left")),
                ("oauth.api.key".to_owned(), json!("id")),
                ("oauth.api.secret".to_owned(), json!("secret")),
            ]
            .into(),
            secrets: secrets::seal(&world.service, ID, &BTreeMap::new()).await.expect("a seal"),
            ..outbox::tests::instance(Some("https://a.example/hook"))
        };
        world.store(&record).await;
        world.set_state(|_| {}).await;
        world
    }

    /// The same after a first poll of `count` records, `r0` and so on, each a second younger than the one before, the last
    /// of them made a minute ago.
    async fn polled(element: &str, resource: &str, configured: Value, count: usize) -> Self {
        let world = Self::new(element, resource, configured).await;
        world.vendor().rows = (0..count).map(|n| row(&format!("r{n}"), n as i64 - count as i64 - 59)).collect();
        world.poll(Mode::Scheduled).await;
        world
    }

    /// From now on with queues that outlive every process, as the cloud's do.
    fn in_the_cloud(mut self) -> Self {
        self.test.queue = Arc::new(MemoryQueue::new(self.test.ambient.clone()).durable());
        self.service.ports.queue = self.test.queue.clone();
        self
    }

    fn vendor(&self) -> std::sync::MutexGuard<'_, Vendor> {
        self.vendor.lock().expect("whole")
    }

    /// From now on the vendor says what this says, where it says anything.
    fn intercept(&self, intercept: impl FnMut(&Request<Bytes>) -> Option<Answer> + Send + 'static) {
        self.vendor().intercept = Some(Box::new(intercept));
    }

    /// From now on every answer takes so long.
    fn slow(&self, time: TimeDelta) {
        let clock = Arc::clone(&self.test.ambient);
        self.intercept(move |_| {
            clock.advance(time.to_std().expect("forwards"));
            None
        });
    }

    /// From now on there is no page from this record on.
    fn breaks_off_at(&self, record: usize) {
        let last = format!("page={record}");
        self.intercept(move |request| {
            let last = request.uri().query().unwrap_or_default().contains(&last);
            last.then(|| Ok(answer(503, &json!({"message": "not now"}))))
        });
    }

    /// From now on every listing is answered so.
    fn refuses(&self, status: u16) {
        self.intercept(move |request| {
            let refusal = json!({"message": format!("said with {status}")});
            request.uri().path().starts_with("/api").then(|| Ok(answer(status, &refusal)))
        });
    }

    async fn store(&self, record: &InstanceRecord) {
        self.write(&[instance::key(record.id).put(record)]).await;
    }

    async fn write(&self, writes: &[Write]) {
        let _ = commit(&*self.test.store, writes).await.expect("written");
    }

    fn state_key(&self) -> RecordKey<ResourceRecord> {
        resource::key(ID, &self.job.resource)
    }

    async fn state(&self) -> ResourceRecord {
        let stored = self.state_key().get(&*self.test.store).await.expect("a table");
        stored.map(|stored| stored.record).unwrap_or_default()
    }

    async fn set_state(&self, change: impl FnOnce(&mut ResourceRecord)) {
        let stored = self.state_key().snapshot(&*self.test.store).await.expect("a table");
        let mut state = stored.record().cloned().unwrap_or_default();
        change(&mut state);
        self.write(&[stored.put(&state)]).await;
    }

    async fn instance(&self) -> InstanceRecord {
        instance::key(ID).get(&*self.test.store).await.expect("a table").expect("the instance").record
    }

    /// From now on the resource is polled in this way.
    async fn configure(&self, configured: Value) {
        let mut record = self.instance().await;
        let configured = serde_json::value::to_raw_value(&configured).expect("JSON");
        record.resources.insert(self.job.resource.clone(), configured);
        self.store(&record).await;
    }

    /// The reason why the instance wants a new login, if it does.
    async fn reconnect(&self) -> Option<String> {
        self.instance().await.reconnect.map(|reconnect| reconnect.reason)
    }

    async fn poll(&self, mode: Mode) -> PollReport {
        self.poll_until(mode, self.now() + TimeDelta::hours(1)).await
    }

    async fn poll_until(&self, mode: Mode, until: DateTime<Utc>) -> PollReport {
        let job = PollJob { minute: self.service.wheel.minute_of(self.now()), ..self.job.clone() };
        poll(&self.service, &job, mode, until).await.expect("no trouble of our own")
    }

    fn now(&self) -> DateTime<Utc> {
        self.service.ports.now()
    }

    fn pass(&self, time: TimeDelta) {
        self.test.ambient.advance(time.to_std().expect("forwards"));
    }

    async fn stored_deliveries(&self) -> Vec<Stored<DeliveryRow>> {
        delivery::rows(ID, None).all(&*self.test.store).await.expect("rows")
    }

    async fn deliveries(&self) -> Vec<DeliveryRow> {
        self.stored_deliveries().await.into_iter().map(|stored| stored.record).collect()
    }

    /// `CREATED r1 #1` for each event that was filed, in order.
    async fn emitted(&self) -> Vec<String> {
        let deliveries = self.deliveries().await;
        let events = deliveries.iter().flat_map(|row| &row.events);
        events.map(|event| format!("{} {} #{}", event.kind.word(), event.object_id, event.sequence)).collect()
    }
}

/// A record made and changed so many seconds after the worlds begin.
fn row(id: &str, second: i64) -> Value {
    let at = "2026-01-05T09:00:00Z".parse::<DateTime<Utc>>().expect("a date") + TimeDelta::seconds(second);
    json!({"id": id, "at": at, "made": at})
}

/// The same with so many bytes that do not compress.
fn heavy(id: &str, second: i64, bytes: usize) -> Value {
    let mut record = row(id, second);
    record["noise"] = Value::String(outbox::tests::noise(bytes));
    record
}

const MINUTE: TimeDelta = TimeDelta::minutes(1);
const NOW: Mode = Mode::Now { sweep: false };
const SWEEP: Mode = Mode::Now { sweep: true };
