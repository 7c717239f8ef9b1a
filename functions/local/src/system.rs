//! The whole system in one process: the functions, and in place of the cloud an embedded table, queues in memory, a
//! schedule, sandbox vendors and an inbox, behind one listener.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws::SystemAmbient;
use aws::guard::GuardPolicy;
use aws::http::Client;
use aws::store::DynamoStore;
use aws::vault::KeyFileVault;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use domain::wheel::Wheel;
use elements::{Bases, Catalog};
use flow::ports::{Ports, QueueName};
use flow::service::Service;
use instances::{ApiState, ConcurrencyLimit};
use poller::Poller;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use url::Url;

use crate::data::{Credentials, DataDirectory};
use crate::engine::Engine;
use crate::inbox::{self, Inbox};
use crate::options::VendorOverride;
use crate::queue::LocalQueue;
use crate::sandbox::{self, Sandbox, Vendor};
use crate::wiring;

/// The longest time that requests under way may take once everything else has stopped. A poll through the API is the
/// slowest of them.
const LAST_REQUESTS: Duration = Duration::from_secs(60);

/// The longest time that answers already begun may take after that. Streams of the console would never end by themselves.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// The file with the keys that seal credentials, in the data directory.
pub(crate) const KEYS: &str = "keys.json";

/// The options of the system.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address to listen on.
    pub address: SocketAddr,
    /// The data directory.
    pub data: PathBuf,
    /// Elements that are elsewhere.
    pub vendors: Vec<VendorOverride>,
    /// More elements, one folder each.
    pub elements: Option<PathBuf>,
    /// Length of a minute of the schedule.
    pub minute: Duration,
    /// Callbacks and vendors may be on private addresses.
    pub allow_private: bool,
    /// There are sandbox vendors, which the elements then call.
    pub sandbox: bool,
}

/// The running system. Dropping it leaves work in hand undone, as a crash would; [`System::stop`] does not.
pub struct System {
    /// The URL of the service.
    pub url: String,
    /// The machine's own user.
    pub credentials: Credentials,
    /// The service that the functions use.
    pub service: Service,
    /// The queues between them.
    pub queue: Arc<LocalQueue>,
    /// The vendors, if there is a sandbox.
    pub sandbox: Option<Sandbox>,
    /// The receivers.
    pub inbox: Inbox,
    stop_work: watch::Sender<bool>,
    work: Vec<JoinHandle<()>>,
    stop_listening: watch::Sender<bool>,
    requests: watch::Sender<usize>,
    server: JoinHandle<std::io::Result<()>>,
    engine: Engine,
    _directory: DataDirectory,
}

/// The ports over an embedded table, with the files of `data` for the rest.
pub(crate) fn ports(store: DynamoStore, queue: Arc<LocalQueue>, data: &Path, allow_private: bool) -> Result<Ports> {
    let policy = GuardPolicy { allow_private };
    Ok(Ports {
        store: Arc::new(store),
        queue,
        http: Arc::new(Client::new(policy, policy)),
        vault: Arc::new(KeyFileVault::open(&data.join(KEYS))?),
        ambient: Arc::new(SystemAmbient),
    })
}

impl System {
    /// Starts everything; when it returns, everything answers.
    pub async fn start(options: &Options) -> Result<Self> {
        let mut directory = DataDirectory::claim_alone(&options.data)?;
        let listener = listen(options.address).await?;
        let url = own_url(listener.local_addr()?);
        let engine = Engine::open(directory.path()).await?;
        directory.publish(engine.endpoint())?;
        let queue = Arc::new(LocalQueue::default());
        let ports = ports(engine.store(), Arc::clone(&queue), directory.path(), options.allow_private)?;
        let credentials = Credentials::ensure(&ports, directory.path(), &url).await?;
        let mut catalog = Catalog::embedded();
        if let Some(directory) = &options.elements {
            catalog = catalog.with_directory(directory).map_err(|problems| {
                let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                anyhow::anyhow!("the elements cannot be used:\n{}", lines.join("\n"))
            })?;
        }
        let catalog = Arc::new(catalog);
        let bases = Arc::new(bases(options, &catalog, &url)?);
        let wheel = Wheel::turning(options.minute);
        let service = Service { wheel, ..Service::new(ports, catalog, bases) };

        wiring::repair(&service.ports).await.context("cannot look for lost deliveries")?;
        let inbox = Inbox::open(directory.path()).context("cannot read the inbox")?;
        let api = instances::router_within(ApiState { service: service.clone() }, ConcurrencyLimit::default());
        let mut router = api.merge(inbox::router(inbox.clone()));
        let mut sandbox = None;
        if options.sandbox {
            let clock = Arc::new(chrono::Utc::now);
            let opened = Sandbox::open(directory.path(), clock, 0).context("cannot read the sandbox")?.with_samples();
            router = router.merge(sandbox::router(opened.clone()));
            sandbox = Some(opened);
        }
        let requests = watch::Sender::new(0);
        let (stop_listening, listening) = watch::channel(false);
        let server = serve(listener, router, requests.clone(), listening);

        let (stop_work, stop) = watch::channel(false);
        let poller = Arc::new(Poller::new(service.clone()));
        let consume = |name| wiring::consume(Arc::clone(&poller), Arc::clone(&queue), name, stop.clone());
        let work = vec![
            tokio::spawn(consume(QueueName::Polls)),
            tokio::spawn(consume(QueueName::Deliveries)),
            tokio::spawn(wiring::schedule(service.clone(), stop.clone())),
        ];
        Ok(Self {
            url,
            credentials,
            service,
            queue,
            sandbox,
            inbox,
            stop_work,
            work,
            stop_listening,
            requests,
            server,
            engine,
            _directory: directory,
        })
    }

    /// Finishes what is in hand and stops. What waits in the queues is found again by the next start.
    pub async fn stop(self) {
        // Polls and deliveries in hand may be talking to the sandbox and the inbox, so the listener goes last.
        self.stop_work.send_replace(true);
        for task in self.work {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task ended by a panic");
            }
        }
        self.stop_listening.send_replace(true);
        let mut requests = self.requests.subscribe();
        // The sender is `self`'s: it is there.
        let _ = tokio::time::timeout(LAST_REQUESTS, requests.wait_for(|under_way| *under_way == 0)).await;
        let abort = self.server.abort_handle();
        if tokio::time::timeout(LAST_BYTES, self.server).await.is_err() {
            abort.abort();
        }
        self.engine.shutdown().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("{address} is in use by another program; choose another with --addr, such as --addr 127.0.0.1:8081")
        }
        Err(error) => Err(error).with_context(|| format!("cannot listen on {address}")),
    }
}

/// The URL by which this machine reaches itself: the loopback address if it listens on every address.
fn own_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    format!("http://{address}")
}

/// The addresses of the elements' vendors: those of the command line, or else the sandbox.
fn bases(options: &Options, catalog: &Catalog, url: &str) -> Result<Bases> {
    let mut bases = Bases::default();
    if options.sandbox {
        for vendor in Vendor::ALL {
            let base: Url = format!("{url}/sandbox/{}", vendor.key()).parse().context("the sandbox's own URL")?;
            bases.overrides.insert(vendor.key().to_owned(), base);
        }
    }
    for VendorOverride { element, base } in &options.vendors {
        let Some(known) = catalog.get(element) else {
            let keys: Vec<&str> = catalog.iter().map(|element| element.key.as_str()).collect();
            bail!("--vendor {element}: there is no such element; there are {}", keys.join(", "));
        };
        bases.overrides.insert(known.key.clone(), base.clone());
    }
    Ok(bases)
}

fn serve(
    listener: TcpListener,
    router: Router,
    requests: watch::Sender<usize>,
    mut stop: watch::Receiver<bool>,
) -> JoinHandle<std::io::Result<()>> {
    let router = router.layer(middleware::from_fn_with_state(requests, count));
    let stopped = async move {
        // An error means that the system was dropped, which is a stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::spawn(axum::serve(listener, router).with_graceful_shutdown(stopped).into_future())
}

/// Counts the requests that are not answered yet.
async fn count(State(requests): State<watch::Sender<usize>>, request: Request, next: Next) -> Response {
    struct UnderWay(watch::Sender<usize>);
    impl Drop for UnderWay {
        fn drop(&mut self) {
            self.0.send_modify(|count| *count -= 1);
        }
    }
    requests.send_modify(|count| *count += 1);
    let _under_way = UnderWay(requests);
    next.run(request).await
}
