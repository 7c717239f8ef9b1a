//! The same work, done by Pollux: by its steps over an in-memory table, or by the whole local service with its engine, its
//! queue and its functions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use aws::SystemAmbient;
use aws::guard::GuardPolicy;
use aws::http::Client;
use aws::vault::KeyFileVault;
use axum::Router;
use axum::body::Body;
use chrono::{TimeDelta, Utc};
use domain::configuration::keys;
use domain::id::{InstanceId, OrganizationId};
use elements::{Bases, Catalog};
use flow::accounts::{NewOrganization, create_organization};
use flow::deliver::{self as delivery, CallbackLimits};
use flow::job::{DeliveryJob, PollJob, Queued};
use flow::poll::{self, Mode, Outcome};
use flow::ports::{Ports, Queue, QueueName};
use flow::service::Service;
use flow::testing::{MemoryQueue, MemoryStore};
use futures::{StreamExt, TryStreamExt, stream};
use instances::ApiState;
use local::options::VendorOverride;
use local::system::{Options, System};
use serde_json::{Value, json};
use store::port::Store;
use tower::ServiceExt;

/// The vendor's element: one resource that a filter keeps short, one that must be listed whole.
const ELEMENT: &str = r#"
[element]
key = "bench"
name = "Bench"
hub = "bench"

[connection.api_key]
label = "API key"
help = "any"
required = true
secret = true
ce_keys = ["api.key"]

[bases]
api = "http://127.0.0.1:1"

[auth]
kind = "static_headers"

[headers]
X-Api-Key = "${connection.api_key}"

[[resource]]
name = "orders"
hub_paths = ["orders"]
list = { path = "/items", query = { since = "${watermark|iso_ms}", after = "${page_token}", size = "${page_size}" } }
records = { pointer = "/items", id = ["/id"] }
time = { created = "/created_at", updated = "/updated_at", parse = ["rfc3339"] }
page = { kind = "token", from = "/next", size = 20 }
change = { kind = "filter", overlap = "2m" }

[resource.where]
updated_at = { ">" = "watermark", ">=" = "watermark" }

[resource.poll]
url = "/hubs/bench/orders"
idField = "id"

[[resource]]
name = "ledger"
hub_paths = ["ledger"]
list = { path = "/items", query = { after = "${page_token}", size = "${page_size}" } }
records = { pointer = "/items", id = ["/id"] }
time = { created = "/created_at", updated = "/updated_at", parse = ["rfc3339"] }
page = { kind = "token", from = "/next", size = 1000 }
change = { kind = "full_scan_hash" }

[resource.poll]
url = "/hubs/bench/ledger"
idField = "id"
"#;

/// The resource of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Listed from the cursor on.
    Orders,
    /// Listed whole and compared.
    Ledger,
}

impl Resource {
    /// Its key in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Orders => "orders",
            Resource::Ledger => "ledger",
        }
    }
}

/// Body of `POST /instances` for the instance of this number.
pub fn instance_body(number: u64, resource: Resource, page: u64, vendor: &str) -> Value {
    json!({
        "element": {"key": "bench"},
        "name": format!("bench {number}"),
        "configuration": {
            "api.key": format!("key-{number}"),
            keys::EVENTS_ENABLED: true,
            keys::CALLBACK_URL: format!("{vendor}/callback/{number}"),
            keys::SIGNATURE_KEY: "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
            keys::REFRESH_INTERVAL: "15",
            keys::POLLER_CONFIGURATION: {resource.name(): {
                "url": match resource {
                    Resource::Orders => "/hubs/bench/orders?where=updated_at>'${gmtDate:yyyy-MM-dd'T'HH:mm:ss'Z'}'",
                    Resource::Ledger => "/hubs/bench/ledger",
                },
                "idField": "id",
                "pageSize": page,
                "datesConfiguration": {
                    "updatedDateField": "updated_at", "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ss'Z'",
                    "createdDateField": "created_at", "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ss'Z'",
                },
            }},
        },
    })
}

/// Writes the element's folder into `directory` and answers the folder of folders.
pub fn element_directory(directory: &Path) -> anyhow::Result<std::path::PathBuf> {
    let elements = directory.join("elements");
    std::fs::create_dir_all(elements.join("bench"))?;
    std::fs::write(elements.join("bench").join("element.toml"), ELEMENT)?;
    Ok(elements)
}

/// Makes the service of the functions over the given ports.
pub fn service(
    directory: &Path,
    vendor: &str,
    store: Arc<dyn Store>,
    queue: Arc<dyn Queue>,
) -> anyhow::Result<Service> {
    let elements = element_directory(directory)?;
    let catalog = Catalog::embedded().with_directory(&elements);
    let catalog = catalog.map_err(|problems| anyhow::anyhow!("the element: {}", problems[0]))?;
    let mut bases = Bases::default();
    bases.overrides.insert("bench".into(), vendor.parse()?);
    let policy = GuardPolicy { allow_private: true };
    let ports = Ports {
        store,
        queue,
        http: Arc::new(Client::new(policy, policy)),
        vault: Arc::new(KeyFileVault::open(&directory.join("keys.json"))?),
        ambient: Arc::new(SystemAmbient),
    };
    Ok(Service::new(ports, Arc::new(catalog), Arc::new(bases)))
}

/// The API of a service, with somebody who may call it.
pub struct Api {
    router: Router,
    organization: NewOrganization,
}

impl Api {
    /// With an organization of its own.
    pub async fn new(service: &Service) -> anyhow::Result<Self> {
        let organization = create_organization(&service.ports, "Bench").await?;
        Ok(Self { router: instances::router(ApiState { service: service.clone() }), organization })
    }

    /// Makes the instance and answers its id. Its first poll is done, or goes on by the queue.
    pub async fn create(&self, body: &Value) -> anyhow::Result<InstanceId> {
        let (user, organization) = (&self.organization.user_secret, &self.organization.organization_secret);
        let request = http::Request::post("http://pollux.test/elements/api-v2/instances")
            .header("authorization", format!("User {}, Organization {}", user.expose(), organization.expose()))
            .header("content-type", "application/json")
            .body(Body::from(body.to_string()))?;
        let response = self.router.clone().oneshot(request).await.context("the router answers")?;
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
        ensure!(status.is_success(), "POST /instances: {status} {}", String::from_utf8_lossy(&bytes));
        let answer: Value = serde_json::from_slice(&bytes)?;
        Ok(InstanceId(answer["id"].as_u64().context("an instance has an id")?))
    }

    /// The organization of the instances.
    pub fn organization(&self) -> OrganizationId {
        self.organization.organization
    }
}

/// Many instances of one vendor, and jobs for them.
pub struct Fleet {
    /// The organization.
    pub organization: OrganizationId,
    /// The instance.
    pub instances: Vec<InstanceId>,
    /// The resource.
    pub resource: Resource,
    minute: i64,
}

impl Fleet {
    /// Makes so many instances.
    pub async fn create(
        service: &Service,
        api: &Api,
        count: u64,
        resource: Resource,
        page: u64,
        vendor: &str,
    ) -> anyhow::Result<Self> {
        let made = stream::iter(0..count).map(|number| {
            let body = instance_body(number, resource, page, vendor);
            async move { api.create(&body).await }
        });
        let instances = made.buffer_unordered(16).try_collect().await?;
        Ok(Self { organization: api.organization(), instances, resource, minute: service.wheel.minute_of(Utc::now()) })
    }

    /// A job for each, due later than all that went before.
    pub fn jobs(&mut self) -> Vec<PollJob> {
        self.minute += 1;
        let job = |instance: &InstanceId| PollJob {
            organization: self.organization,
            instance: *instance,
            resource: self.resource.name().into(),
            minute: self.minute,
        };
        self.instances.iter().map(job).collect()
    }
}

/// The steps over a table in memory.
pub struct Flow {
    /// The service of the steps.
    pub service: Service,
    /// The queue of their jobs.
    pub queue: Arc<MemoryQueue>,
    /// The table.
    pub store: Arc<MemoryStore>,
    limits: CallbackLimits,
}

impl Flow {
    /// With nothing in it; element and keys in `directory`.
    pub fn new(directory: &Path, vendor: &str) -> anyhow::Result<Self> {
        let (store, queue) =
            (Arc::new(MemoryStore::default()), Arc::new(MemoryQueue::new(Arc::new(SystemAmbient)).durable()));
        let service = service(directory, vendor, store.clone(), queue.clone())?;
        Ok(Self { service, queue, store, limits: CallbackLimits::default() })
    }

    /// Polls, and delivers what the polls filed if `deliver`, at most `at_once` under way.
    pub async fn polls(&self, jobs: Vec<PollJob>, at_once: usize, deliver: bool) -> anyhow::Result<()> {
        stream::iter(jobs)
            .map(Ok)
            .try_for_each_concurrent(at_once, |job| async move {
                let until = Utc::now() + TimeDelta::hours(1);
                let report = poll::poll(&self.service, &job, Mode::Scheduled, until).await?;
                ensure!(report.outcome == Outcome::Committed, "a poll ended otherwise: {report:?}");
                if deliver {
                    self.deliveries().await?;
                }
                Ok(())
            })
            .await
    }

    /// Delivers what waits, one after the other.
    pub async fn deliveries(&self) -> anyhow::Result<()> {
        while let Some(message) = self.queue.take(QueueName::Deliveries, 1).pop() {
            let job: DeliveryJob = serde_json::from_str(&message.body)?;
            let report = delivery::deliver(&self.service.ports, &self.limits, &job).await?;
            ensure!(report.outcome == delivery::Outcome::Delivered, "a delivery ended otherwise: {report:?}");
        }
        Ok(())
    }
}

/// Starts the whole local service over `directory`, its schedule as good as still.
pub async fn whole_service(directory: &Path, vendor: &str) -> anyhow::Result<System> {
    System::start(&Options {
        address: "127.0.0.1:0".parse()?,
        data: directory.join("data"),
        vendors: vec![VendorOverride { element: "bench".into(), base: vendor.parse()? }],
        elements: Some(element_directory(directory)?),
        minute: Duration::from_secs(24 * 60 * 60),
        allow_private: true,
        sandbox: false,
    })
    .await
}

/// Puts jobs on the queue of polls.
pub async fn queue_polls(queue: &dyn Queue, jobs: &[PollJob]) -> anyhow::Result<()> {
    let messages = jobs.iter().map(|job| job.message(Duration::ZERO)).collect();
    let outcomes = queue.send(QueueName::Polls, messages).await;
    ensure!(outcomes.iter().all(Result::is_ok), "the queue takes everything");
    Ok(())
}

/// Puts jobs on the service's queue and waits until everything that follows is done.
pub async fn through_queue(system: &System, jobs: &[PollJob]) -> anyhow::Result<()> {
    queue_polls(&*system.queue, jobs).await?;
    while !system.queue.is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for queue in [QueueName::Polls, QueueName::Deliveries] {
        ensure!(system.queue.dead_letters(queue).is_empty(), "dead letters");
    }
    Ok(())
}
