//! The table on one machine: a DynamoDB-compatible engine over SQLite inside this process, reached through a
//! loopback socket by the very adapter that talks to the cloud.
//!
//! A transaction that was answered survives the death of the process, SIGKILL included: it is in SQLite's
//! write-ahead log, and the system holds what the process wrote. A power cut may take back the last moments, whole
//! transactions from the newest on, never a part of one. Waiting for the disk at every commit would protect
//! against that too, at the price of one such wait for each; for a system that polls again by itself it is not worth
//! it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use aws::store::{DynamoStore, ensure_table};
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::{Client, Config};
use dynoxide::{Database, server};
use store::port::StoreError;
use tokio::sync::oneshot;

/// The one table's name here; in the cloud the template chooses it.
pub const TABLE: &str = "pollux";

/// The engine's file in the data directory.
const FILE: &str = "table.sqlite";

/// The time between two removals of expired items. Readers compare the time themselves, so it only frees space.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);

/// The reason why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The directory cannot be made or entered.
    #[error("cannot use the data directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is damaged, or of a newer version, or no database.
    #[error("cannot open the table in {place}")]
    Open {
        /// The file, or "memory".
        place: String,
        /// The cause.
        source: dynoxide::DynoxideError,
    },
    /// No socket or thread on this machine.
    #[error("cannot listen on the loopback address")]
    Listen(#[source] std::io::Error),
    /// It runs but the table cannot be made.
    #[error("cannot make the table")]
    Table(#[source] StoreError),
}

/// The running engine. Dropping it stops it without waiting; [`Engine::shutdown`] waits.
pub struct Engine {
    endpoint: String,
    client: Client,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Over a file in `data_dir`, which is made when absent, for its owner's eyes only.
    pub async fn open(data_dir: &Path) -> Result<Self, EngineError> {
        let directory = |source| EngineError::Directory { path: data_dir.to_owned(), source };
        make_private(data_dir).map_err(directory)?;
        let file = data_dir.join(FILE);
        let place = file.to_str().ok_or_else(|| directory(std::io::ErrorKind::InvalidFilename.into()))?.to_owned();
        let failed = |source| EngineError::Open { place: place.clone(), source };
        let database = Database::new(&place).map_err(failed)?;
        // By its name it ends a bulk load; what it does is set SQLite's `synchronous` to NORMAL.
        database.disable_bulk_loading().map_err(failed)?;
        Self::start(database).await
    }

    /// Over memory, gone with the process.
    pub async fn memory() -> Result<Self, EngineError> {
        let database = Database::memory().map_err(|source| EngineError::Open { place: "memory".into(), source })?;
        Self::start(database).await
    }

    async fn start(database: Database) -> Result<Self, EngineError> {
        let listener =
            std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(EngineError::Listen)?;
        listener.set_nonblocking(true).map_err(EngineError::Listen)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(EngineError::Listen)?);
        // The engine blocks the thread it runs on and does one thing at a time: a thread of its own serves it best.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(EngineError::Listen)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || runtime.block_on(serve(listener, database, stopped));
        let thread =
            std::thread::Builder::new().name("table-engine".into()).spawn(serve).map_err(EngineError::Listen)?;
        let client = client(&endpoint);
        ensure_table(&client, TABLE).await.map_err(EngineError::Table)?;
        Ok(Self { endpoint, client, stop, thread })
    }

    /// The address of the engine, such as `http://127.0.0.1:40123`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A client that reaches it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The production adapter over its table.
    pub fn store(&self) -> DynamoStore {
        DynamoStore::new(self.client.clone(), TABLE)
    }

    /// Finishes what is under way, closes the file and returns.
    pub async fn shutdown(self) {
        let Self { stop, thread, client, .. } = self;
        drop(client);
        // The receiver is gone only when the thread has ended by itself.
        let _ = stop.send(());
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("table engine ended by a panic");
        }
    }
}

async fn serve(listener: std::net::TcpListener, database: Database, stopped: oneshot::Receiver<()>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(error = %error, "table engine cannot listen"),
    };
    let sweeping = database.clone();
    let sweep = async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            if let Err(error) = sweeping.sweep_ttl() {
                tracing::warn!(error = %error, "expired items not removed");
            }
        }
    };
    let shutdown = async {
        // An error means that the engine was dropped, which ends it as well.
        let _ = stopped.await;
    };
    tokio::select! {
        outcome = server::serve_with_shutdown(listener, database, shutdown) => {
            if let Err(error) = outcome {
                tracing::error!(error, "table engine failed");
            }
        }
        () = sweep => {}
    }
}

/// A client for an engine at `endpoint`, which looks at no credentials.
pub(crate) fn client(endpoint: &str) -> Client {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("local", "local", None, None, "local"))
        .endpoint_url(endpoint)
        .build();
    Client::from_conf(config)
}

fn make_private(directory: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}
