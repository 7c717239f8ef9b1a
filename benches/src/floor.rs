//! The least that polling can cost: an HTTP client, and the records of the pages as they came, without a memory. The
//! durable floor adds the least that keeps events from being lost or forged: one SQLite commit of everything in flight
//! before each post, and an HMAC.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;

use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

/// Events in one notification, as ours.
const EVENTS: usize = 10;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    next: Option<&'a str>,
    #[serde(borrow)]
    items: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Head<'a> {
    id: &'a str,
    updated_at: &'a str,
}

/// The memory of a listing with fingerprints.
pub type Fingerprints = HashMap<u64, u64>;

/// Polls and posts with nothing in between.
pub struct Floor {
    client: reqwest::Client,
    url: String,
    journal: Option<Journal>,
}

impl Floor {
    /// Of the vendor at `url`; with a journal in `directory` if it is to be durable.
    pub fn new(url: &str, directory: Option<&Path>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { client, url: url.to_owned(), journal: directory.map(Journal::open).transpose()? })
    }

    /// So many polls, at most `at_once` under way; what is stamped after `since` is posted. Answers how many posts.
    pub async fn polls(&self, count: u64, at_once: usize, page: u64, since: &str) -> anyhow::Result<u64> {
        let polls = stream::iter(0..count).map(|who| self.poll(who, page, since, None));
        polls.buffer_unordered(at_once).try_fold(0, |sum, posts| async move { Ok(sum + posts) }).await
    }

    /// One listing to its end, page by page. With `known`, what is new or differs is posted instead of what is newer.
    pub async fn poll(
        &self,
        who: u64,
        page: u64,
        since: &str,
        mut known: Option<&mut Fingerprints>,
    ) -> anyhow::Result<u64> {
        let (mut after, mut posts, mut newest) = (None::<String>, 0, since.to_owned());
        let mut waiting = Vec::new();
        loop {
            let mut url = format!("{}/items?since={since}&size={page}", self.url);
            if let Some(after) = &after {
                url.push_str("&after=");
                url.push_str(after);
            }
            let answer = self.client.get(url).header("x-api-key", "key").send().await?.error_for_status()?;
            let body: Bytes = answer.bytes().await?;
            let read: Page<'_> = serde_json::from_slice(&body)?;
            for raw in read.items {
                let head: Head<'_> = serde_json::from_str(raw.get())?;
                let changed = match known.as_deref_mut() {
                    Some(known) => {
                        let fingerprint = xxh3_64(raw.get().as_bytes());
                        known.insert(xxh3_64(head.id.as_bytes()), fingerprint) != Some(fingerprint)
                    }
                    None => head.updated_at > since,
                };
                if changed {
                    if head.updated_at > newest.as_str() {
                        newest = head.updated_at.to_owned();
                    }
                    waiting.push(body.slice_ref(raw.get().as_bytes()));
                }
            }
            after = read.next.map(str::to_owned);
            if after.is_none() {
                break;
            }
        }
        if let (Some(journal), true) = (&self.journal, waiting.is_empty()) {
            journal.commit(who, newest.clone(), Bytes::new()).await?;
        }
        for records in waiting.chunks(EVENTS) {
            let mut body = Vec::with_capacity(records.iter().map(Bytes::len).sum::<usize>() + 64);
            body.extend_from_slice(format!(r#"{{"instance":{who},"events":["#).as_bytes());
            body.extend_from_slice(&records.join(&b","[..]));
            body.extend_from_slice(b"]}");
            let body = Bytes::from(body);
            let mut post = self.client.post(format!("{}/callback/{who}", self.url));
            if let Some(journal) = &self.journal {
                journal.commit(who, newest.clone(), body.clone()).await?;
                let mut mac = Hmac::<Sha256>::new_from_slice(b"whsec_key").context("a key of any length")?;
                mac.update(&body);
                let signature: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                post = post.header("webhook-signature", signature);
            }
            post.header("content-type", "application/json").body(body).send().await?.error_for_status()?;
            posts += 1;
        }
        Ok(posts)
    }
}

struct Entry {
    who: u64,
    newest: String,
    body: Bytes,
    done: oneshot::Sender<()>,
}

/// SQLite on a thread of its own that commits whatever waits in one transaction.
struct Journal(mpsc::Sender<Entry>);

impl Journal {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let mut database = rusqlite::Connection::open(directory.join("journal.sqlite"))?;
        database.execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             CREATE TABLE state (who INTEGER PRIMARY KEY, newest TEXT);
             CREATE TABLE event (number INTEGER PRIMARY KEY, who INTEGER, body BLOB);",
        )?;
        let (sender, entries) = mpsc::channel::<Entry>();
        std::thread::Builder::new().name("journal".into()).spawn(move || -> rusqlite::Result<()> {
            while let Ok(first) = entries.recv() {
                let batch: Vec<Entry> = std::iter::once(first).chain(entries.try_iter()).collect();
                let transaction = database.transaction()?;
                for entry in &batch {
                    let mut state = transaction.prepare_cached("INSERT OR REPLACE INTO state VALUES (?, ?)")?;
                    state.execute((entry.who as i64, &entry.newest))?;
                    if !entry.body.is_empty() {
                        let mut event = transaction.prepare_cached("INSERT INTO event (who, body) VALUES (?, ?)")?;
                        event.execute((entry.who as i64, &entry.body[..]))?;
                    }
                }
                transaction.commit()?;
                for entry in batch {
                    // Whoever waited may have given up.
                    let _ = entry.done.send(());
                }
            }
            Ok(())
        })?;
        Ok(Self(sender))
    }

    async fn commit(&self, who: u64, newest: String, body: Bytes) -> anyhow::Result<()> {
        let (done, committed) = oneshot::channel();
        self.0.send(Entry { who, newest, body, done }).ok().context("the journal ended")?;
        committed.await.context("the journal did not commit")
    }
}
