//! The one thread that writes.
//!
//! It takes whatever waits, carries each request out within a savepoint of its own, commits all of them at once and
//! then answers. A request whose condition fails is rolled back alone. A commit that fails fails all requests of its
//! transaction. Between commits it copies the log into the database and deletes what has expired; nobody else does
//! either.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use store::port::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::database::{LONGEST_LOCK, carry_out, delete_expired};
use crate::directory::Directory;
use crate::error::{OpenError, store_error};
use crate::expiry::Watch;
use crate::limits::Change;

/// Requests in one transaction: enough to share one sync, few enough for the first to be answered soon.
const REQUESTS_IN_COMMIT: usize = 256;
/// Bytes in one transaction, but for its last request.
const BYTES_IN_COMMIT: usize = 4 * 1024 * 1024;
/// Expired items deleted in one transaction, so that nobody waits long for it.
const EXPIRED_IN_COMMIT: usize = 200;
/// Time between two such transactions while there is more to delete.
const EXPIRY_PAUSE: Duration = Duration::from_millis(50);
/// A log of so many times the pages after which it is copied is long.
const LONG_LOG: i64 = 2;
/// Reads take a few milliseconds; a copy or a check of the whole database is not waited for.
const LONGEST_WAIT_FOR_READERS: Duration = Duration::from_millis(50);
/// Pages of the log that a write of a small item takes, about: the item's, the expiry index's, and their parents'.
const PAGES_OF_WRITE: usize = 3;
const PAGE: usize = 4096;

/// A transaction and whoever waits for its outcome.
struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Result<(), StoreError>>,
    /// Its part of the bytes that may wait.
    _room: OwnedSemaphorePermit,
}

enum Message {
    Write(Request),
    Close,
}

/// The way to the thread.
pub(crate) struct Writer {
    messages: Sender<Message>,
    room: Arc<Semaphore>,
    waiting_bytes: usize,
}

/// Everything that the thread needs.
pub(crate) struct Setup {
    pub(crate) connection: Connection,
    pub(crate) directory: Directory,
    pub(crate) watch: Watch,
    pub(crate) waiting_bytes: usize,
    pub(crate) checkpoint_pages: usize,
}

impl Writer {
    /// Starts the thread. The second value ends when the thread has.
    pub(crate) fn start(setup: Setup) -> Result<(Self, oneshot::Receiver<()>), OpenError> {
        let (messages, receiver) = channel();
        let (end, at_end) = oneshot::channel::<()>();
        let waiting_bytes = setup.waiting_bytes.clamp(BYTES_IN_COMMIT, Semaphore::MAX_PERMITS);
        let writing = Loop {
            connection: setup.connection,
            messages: receiver,
            next_expiry: Instant::now() + setup.watch.every(),
            watch: setup.watch,
            checkpoint_pages: setup.checkpoint_pages,
            log_pages: 0,
        };
        let directory = setup.directory;
        let run = move || {
            writing.run();
            // The directory is free for others only when the connection is closed.
            drop(directory);
            drop(end);
        };
        std::thread::Builder::new().name("store-writer".into()).spawn(run).map_err(OpenError::Thread)?;
        Ok((Self { messages, room: Arc::new(Semaphore::new(waiting_bytes)), waiting_bytes }, at_end))
    }

    /// All of the changes or none. Waits for room among the bytes that wait, then for the commit.
    pub(crate) async fn write(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let closed = || StoreError::Busy("the store is closed".into());
        let bytes: usize = changes.iter().map(Change::size).sum();
        let permits = u32::try_from(bytes.min(self.waiting_bytes)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let request = Request { changes, answer, _room: room };
        self.messages.send(Message::Write(request)).map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Ends the thread after what waits already.
    pub(crate) fn close(&self) {
        // An error means that it has ended.
        let _ = self.messages.send(Message::Close);
    }
}

struct Loop {
    connection: Connection,
    messages: Receiver<Message>,
    watch: Watch,
    next_expiry: Instant,
    checkpoint_pages: usize,
    /// Pages written to the log since it was last copied, about.
    log_pages: usize,
}

impl Loop {
    fn run(mut self) {
        let mut open = true;
        while open {
            let patience = self.next_expiry.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(patience) {
                Ok(Message::Write(first)) => open = self.write_what_waits(first),
                Ok(Message::Close) | Err(RecvTimeoutError::Disconnected) => open = false,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= self.next_expiry {
                self.delete_expired();
            }
            if self.log_pages >= self.checkpoint_pages {
                self.checkpoint();
            }
        }
        self.checkpoint();
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(error = %error, "database not closed");
        }
    }

    /// Commits a request and those that wait behind it. False when the store is to be closed.
    fn write_what_waits(&mut self, first: Request) -> bool {
        let size = |request: &Request| request.changes.iter().map(Change::size).sum::<usize>();
        let (mut bytes, mut open) = (size(&first), true);
        let mut requests = vec![first];
        while requests.len() < REQUESTS_IN_COMMIT && bytes < BYTES_IN_COMMIT {
            match self.messages.try_recv() {
                Ok(Message::Write(request)) => {
                    bytes += size(&request);
                    requests.push(request);
                }
                Ok(Message::Close) => {
                    open = false;
                    break;
                }
                Err(_) => break,
            }
        }
        // Whoever has gone learns nothing either way.
        requests.retain(|request| !request.answer.is_closed());
        if requests.is_empty() {
            return open;
        }
        let outcomes = self.commit(&requests);
        let written = requests.iter().map(|request| request.changes.len()).sum::<usize>();
        self.log_pages += PAGES_OF_WRITE * written + bytes / PAGE;
        for (request, outcome) in requests.into_iter().zip(outcomes) {
            let _ = request.answer.send(outcome);
        }
        open
    }

    /// One outcome for each request, in order. None of them is true before the commit.
    fn commit(&self, requests: &[Request]) -> Vec<Result<(), StoreError>> {
        let attempt = || -> rusqlite::Result<Vec<Result<(), StoreError>>> {
            self.execute("BEGIN IMMEDIATE")?;
            let mut outcomes = Vec::with_capacity(requests.len());
            for request in requests {
                outcomes.push(self.carry_out(&request.changes)?);
            }
            self.execute("COMMIT")?;
            Ok(outcomes)
        };
        match attempt() {
            Ok(outcomes) => outcomes,
            Err(error) => {
                self.roll_back();
                vec![Err(store_error(&error)); requests.len()]
            }
        }
    }

    /// The inner error is the request's own; the outer one has ended the transaction.
    fn carry_out(&self, changes: &[Change]) -> rusqlite::Result<Result<(), StoreError>> {
        // A single statement is all or nothing by itself.
        let savepoint = changes.len() > 1;
        if savepoint {
            self.execute("SAVEPOINT request")?;
        }
        let mut outcome = Ok(());
        for (index, change) in changes.iter().enumerate() {
            match carry_out(&self.connection, change) {
                Ok(true) => continue,
                Ok(false) => outcome = Err(StoreError::Conflict { index }),
                // Some errors end the whole transaction by themselves.
                Err(error) if self.connection.is_autocommit() => return Err(error),
                Err(error) => outcome = Err(store_error(&error)),
            }
            break;
        }
        if savepoint {
            if outcome.is_err() {
                self.execute("ROLLBACK TO request")?;
            }
            self.execute("RELEASE request")?;
        }
        Ok(outcome)
    }

    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn roll_back(&self) {
        if self.connection.is_autocommit() {
            return;
        }
        if let Err(error) = self.execute("ROLLBACK") {
            tracing::error!(error = %error, "transaction not rolled back");
        }
    }

    /// Deletes some of what has expired, where the clock is to be believed.
    fn delete_expired(&mut self) {
        let deleted = match self.watch.now() {
            Some(now) => {
                // One statement, and so a transaction: what was given a later expiry until now is not touched.
                let deleted = delete_expired(&self.connection, now.timestamp(), EXPIRED_IN_COMMIT);
                deleted.unwrap_or_else(|error| {
                    tracing::warn!(error = %error, "expired items not deleted");
                    0
                })
            }
            None => 0,
        };
        self.log_pages += PAGES_OF_WRITE * deleted;
        let more = deleted == EXPIRED_IN_COMMIT;
        self.next_expiry = Instant::now() + if more { EXPIRY_PAUSE } else { self.watch.every() };
    }

    /// Copies the log into the database as far as no reader needs it. What was committed is safe either way.
    fn checkpoint(&mut self) {
        let mut copied = self.copy_log("PRAGMA wal_checkpoint(PASSIVE)");
        // Reads that follow one another without a pause keep a log from ever being copied whole. Then they are waited for.
        if matches!(copied, Ok((log, _)) if log > LONG_LOG * self.checkpoint_pages as i64) {
            let patience = |time| self.connection.busy_timeout(time);
            copied = patience(LONGEST_WAIT_FOR_READERS).and_then(|()| self.copy_log("PRAGMA wal_checkpoint(RESTART)"));
            copied = patience(LONGEST_LOCK).and(copied);
        }
        // What could not be copied is tried again after half as much has been written.
        let later = self.checkpoint_pages / 2;
        self.log_pages = match copied {
            Ok((log_pages, copied_pages)) if copied_pages == log_pages => 0,
            Ok((log_pages, copied_pages)) => {
                tracing::debug!(log_pages, copied_pages, "log not copied whole");
                later
            }
            Err(error) => {
                tracing::warn!(error = %error, "log not copied into the database");
                later
            }
        };
    }

    /// Answers how many pages the log has and how many of them are copied.
    fn copy_log(&self, sql: &str) -> rusqlite::Result<(i64, i64)> {
        self.connection.query_row(sql, [], |row| Ok((row.get(1)?, row.get(2)?)))
    }
}
