//! The store as its callers see it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use store::port::{Item, Key, QueryPage, Range, Store, StoreError, Write};
use tokio::sync::oneshot;

use crate::backup;
use crate::database::{self, open_writer};
use crate::directory::Directory;
use crate::error::{BackupError, OpenError};
use crate::expiry::{Expiry, Watch};
use crate::limits::Change;
use crate::reader::Readers;
use crate::writer::{Setup, Writer};

/// Keys read in one go; more are read side by side.
const READS_TOGETHER: usize = 100;
/// Writes without a condition that are carried out in one go, and their bytes but for the last one's.
const WRITES_TOGETHER: usize = 250;
const BYTES_TOGETHER: usize = 1024 * 1024;

/// Settings of a store. The default is what the service uses.
#[derive(Debug, Clone)]
pub struct Options {
    /// Threads that read, each with a connection of its own.
    pub readers: usize,
    /// Bytes of writes that may wait for the writer; whoever comes later waits for room, and no memory grows.
    pub waiting_bytes: usize,
    /// The log is copied into the database when it has grown by about so many pages of 4 KB.
    pub checkpoint_pages: usize,
    /// The database takes at most so many pages of 4 KB; none: as many as the disk has.
    pub largest_pages: Option<u32>,
    /// The pace at which expired items are deleted.
    pub expiry: Expiry,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 4)),
            waiting_bytes: 32 * 1024 * 1024,
            checkpoint_pages: 2000,
            largest_pages: None,
            expiry: Expiry::default(),
        }
    }
}

/// A table in a data directory. Cheap to clone. What is under way is finished when the last clone is dropped;
/// [`SqliteStore::close`] waits for it.
#[derive(Clone)]
pub struct SqliteStore(Arc<Inner>);

struct Inner {
    file: PathBuf,
    readers: Readers,
    writer: Writer,
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl SqliteStore {
    /// Opens the directory's database; both are made where there are none.
    ///
    /// # Errors
    /// Another process uses the directory; an earlier or a later release wrote it; it cannot be read or written.
    pub fn open(directory: &Path, options: Options) -> Result<Self, OpenError> {
        let directory = Directory::claim(directory)?;
        let file = directory.file.clone();
        let connection = open_writer(&file, options.largest_pages)?;
        let readers = Readers::start(&file, options.readers)?;
        let (writer, ended) = Writer::start(Setup {
            connection,
            directory,
            watch: Watch::new(options.expiry),
            waiting_bytes: options.waiting_bytes,
            checkpoint_pages: options.checkpoint_pages,
        })?;
        Ok(Self(Arc::new(Inner { file, readers, writer, ended: Mutex::new(Some(ended)) })))
    }

    /// Finishes what is under way, closes the files and gives the directory up. Later calls fail.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close();
        let ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            // Nothing is ever sent: the thread's end of the channel is dropped when it ends.
            let _ = ended.await;
        }
    }

    /// Writes a consistent copy into the directory `to`, while the store serves. [`SqliteStore::open`] opens it.
    ///
    /// # Errors
    /// There is a database in `to` already; it cannot be written; the database is damaged.
    pub async fn backup(&self, to: &Path) -> Result<(), BackupError> {
        let to = to.to_owned();
        self.aside(move |file| backup::copy(file, &to)).await
    }

    /// Reads the whole database and answers what is wrong with its structure: nothing, where all is well.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn check(&self) -> Result<Vec<String>, BackupError> {
        self.aside(backup::check).await
    }

    /// Runs long work on a thread of its own.
    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, BackupError> + Send + 'static,
    ) -> Result<T, BackupError> {
        let (answer, answered) = oneshot::channel();
        let file = self.0.file.clone();
        let run = move || {
            // The caller may have gone.
            let _ = answer.send(work(&file));
        };
        let thread = std::thread::Builder::new().name("store-backup".into()).spawn(run);
        thread.map_err(|_| BackupError::Ended)?;
        answered.await.map_err(|_| BackupError::Ended)?
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &Key) -> Result<Option<Item>, StoreError> {
        let key = key.clone();
        self.0.readers.read(move |connection| database::get(connection, &key)).await
    }

    async fn get_many(&self, keys: &[Key]) -> Result<Vec<Item>, StoreError> {
        let mut seen = HashSet::with_capacity(keys.len());
        let keys: Vec<Key> = keys.iter().filter(|key| seen.insert(*key)).cloned().collect();
        let mut items = Vec::with_capacity(keys.len());
        for some in keys.chunks(READS_TOGETHER) {
            let some = some.to_vec();
            items.extend(self.0.readers.read(move |connection| database::get_many(connection, &some)).await?);
        }
        Ok(items)
    }

    async fn query(&self, pk: &str, range: &Range, after: Option<&str>) -> Result<QueryPage, StoreError> {
        if range.limit == Some(0) {
            return Err(StoreError::Refused("a limit of 0".into()));
        }
        let (pk, range, after) = (pk.to_owned(), range.clone(), after.map(str::to_owned));
        self.0.readers.read(move |connection| database::query(connection, &pk, &range, after.as_deref())).await
    }

    async fn transact(&self, writes: &[Write]) -> Result<(), StoreError> {
        self.0.writer.write(Change::together(writes)?).await
    }

    async fn write_each(&self, writes: &[Write]) -> Vec<Result<(), StoreError>> {
        let mut outcomes = Vec::with_capacity(writes.len());
        let mut rest = writes.iter();
        // One after the other, so that of several writes of one key the last stands.
        while outcomes.len() < writes.len() {
            let (first, mut changes, mut bytes) = (outcomes.len(), Vec::new(), 0);
            for write in rest.by_ref() {
                let change = Change::alone(write);
                bytes += change.as_ref().map_or(0, Change::size);
                outcomes.push(change.map(|change| changes.push(change)));
                if changes.len() == WRITES_TOGETHER || bytes >= BYTES_TOGETHER {
                    break;
                }
            }
            if let Err(error) = self.0.writer.write(changes).await {
                for outcome in outcomes[first..].iter_mut().filter(|outcome| outcome.is_ok()) {
                    *outcome = Err(error.clone());
                }
            }
        }
        outcomes
    }
}
