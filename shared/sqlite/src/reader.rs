//! The threads that read. Callers wait without blocking their runtime; at most so many reads wait for a thread.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use store::port::StoreError;
use tokio::sync::{Semaphore, oneshot};

use crate::database::open_reader;
use crate::error::{Failure, OpenError};

/// Reads that wait or run; further callers wait before they are let in.
const WAITING: usize = 1024;

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// The way to the threads.
pub(crate) struct Readers {
    jobs: Mutex<Option<Sender<Job>>>,
    room: Semaphore,
    ended: Mutex<Vec<oneshot::Receiver<()>>>,
}

impl Readers {
    /// Starts so many threads, each with a connection of its own.
    pub(crate) fn start(file: &Path, threads: usize) -> Result<Self, OpenError> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let mut ended = Vec::new();
        for number in 0..threads.max(1) {
            let connection =
                open_reader(file).map_err(|source| OpenError::Database { path: file.to_owned(), source })?;
            let (jobs, (end, at_end)) = (Arc::clone(&receiver), oneshot::channel::<()>());
            let serve = move || {
                serve(&connection, &jobs);
                drop(connection);
                drop(end);
            };
            let thread = std::thread::Builder::new().name(format!("store-reader-{number}"));
            thread.spawn(serve).map_err(OpenError::Thread)?;
            ended.push(at_end);
        }
        Ok(Self { jobs: Mutex::new(Some(sender)), room: Semaphore::new(WAITING), ended: Mutex::new(ended) })
    }

    /// Runs a read on one of the threads. A read whose caller has gone is left out.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Busy("the store is closed".into());
        let _room = self.room.acquire().await.map_err(|_| closed())?;
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            if !answer.is_closed() {
                // The caller may go while the read runs.
                let _ = answer.send(read(connection));
            }
        });
        match &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(jobs) => jobs.send(job).map_err(|_| closed())?,
            None => return Err(closed()),
        }
        Ok(answered.await.map_err(|_| closed())??)
    }

    /// Finishes the reads that wait and closes the connections.
    pub(crate) async fn close(&self) {
        drop(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for end in ended {
            // Nothing is ever sent: the thread's end of the channel is dropped when it ends.
            let _ = end.await;
        }
    }
}

fn serve(connection: &Connection, jobs: &Mutex<Receiver<Job>>) {
    loop {
        let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match next {
            Ok(job) => job(connection),
            Err(_) => return,
        }
    }
}
