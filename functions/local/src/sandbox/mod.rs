//! Sandbox vendors: imitations of the five vendors' HTTP APIs with the true shapes and behavior, and faults on request.
//!
//! One [`Sandbox`] holds the data of all vendors. [`router`] serves each vendor's routes under `/sandbox/{key}` and a JSON
//! control API under `/sandbox/control`; tests and the local service change the data through the same handle.
//! Every token belongs to an account, and an account is a data set of its own, so thousands of instances can share one
//! sandbox without seeing each other.
//!
//! Getting in without a browser: the code `sandbox-code-<account>` is always good and never used up, and the bearer token
//! `sandbox-token-<account>` never expires by itself. For vendors with static credentials the user name (iContact) or
//! the key (Revel) names the account; the secret `wrong` is refused. Without a name it is the account `main`.
//!
//! What this does *not* imitate: anything that a poller never calls, such as writing through the vendor's own API.

mod collection;
mod control;
mod faults;
mod google;
mod http;
mod icontact;
pub(crate) mod journal;
mod maximizer;
mod oauth;
mod records;
mod revel;
mod square;
mod state;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use axum::Router;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use collection::{Collection, Contents};
use http::{Call, Reply};
use state::SandboxState;

pub use faults::Faults;
pub use state::{Clock, Logged};

/// A vendor that the sandbox imitates; serialized as the element's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// `square`
    Square,
    /// `maximizer`
    Maximizer,
    /// `googlesuite`
    GoogleSuite,
    /// `revel`
    Revel,
    /// `icontact`
    IContact,
}

impl Vendor {
    /// All of them.
    pub const ALL: [Vendor; 5] =
        [Vendor::Square, Vendor::Maximizer, Vendor::GoogleSuite, Vendor::Revel, Vendor::IContact];

    /// The element's key, also the path segment.
    pub fn key(self) -> &'static str {
        self.behavior().key
    }

    /// The vendor with that key.
    pub fn named(key: &str) -> Result<Self, SandboxError> {
        Self::ALL.into_iter().find(|vendor| vendor.key() == key).ok_or_else(|| SandboxError::UnknownVendor {
            key: key.to_owned(),
            known: Self::ALL.map(Vendor::key).join(", "),
        })
    }

    fn behavior(self) -> &'static VendorBehavior {
        match self {
            Vendor::Square => &square::BEHAVIOR,
            Vendor::Maximizer => &maximizer::BEHAVIOR,
            Vendor::GoogleSuite => &google::BEHAVIOR,
            Vendor::Revel => &revel::BEHAVIOR,
            Vendor::IContact => &icontact::BEHAVIOR,
        }
    }

    fn collections(self) -> &'static [Collection] {
        self.behavior().collections
    }

    fn contents(self, collection: &Collection) -> &'static Contents {
        &self.behavior().contents[collection.name]
    }

    fn complete(self, kind: &str, value: &mut Map<String, Value>, now: DateTime<Utc>, serial: u64, faults: &Faults) {
        (self.behavior().complete)(kind, value, now, serial, faults);
    }

    fn changed(
        self,
        state: &mut SandboxState,
        account: &str,
        collection: &str,
        before: Option<&Value>,
        after: Option<&Value>,
    ) {
        (self.behavior().changed)(state, account, collection, before, after);
    }
}

/// The behavior of one vendor: data where the shapes allow, functions where they do not.
struct VendorBehavior {
    key: &'static str,
    /// The name that people know.
    title: &'static str,
    collections: &'static [Collection],
    /// The contents of the collections by name, from `collections.json`.
    contents: LazyLock<BTreeMap<String, Contents>>,
    oauth: Option<oauth::Style>,
    /// Fills the fields that the vendor derives from others.
    complete: fn(&str, &mut Map<String, Value>, DateTime<Utc>, u64, &Faults),
    /// Takes note of a change, for feeds.
    changed: fn(&mut SandboxState, &str, &str, Option<&Value>, Option<&Value>),
    /// Finds the account of the request, or answers a request that names no account or needs none.
    identify: fn(&mut SandboxState, &Call) -> Result<String, Reply>,
    /// Answers a request of a known account.
    answer: fn(&mut SandboxState, &str, &Call) -> Reply,
    /// Answers with a fault, in the vendor's way.
    refusal: fn(faults::Fault, u64, &Call) -> Reply,
}

/// The kinds of tokens and feeds that can be made to expire on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expire {
    /// Access tokens; a refresh helps.
    Tokens,
    /// Access and refresh tokens: the user has disconnected the application.
    Grants,
    /// Google's sync tokens (calendar: 410 `fullSyncRequired`, contact groups: 400 `EXPIRED_SYNC_TOKEN`).
    SyncTokens,
    /// Gmail's history (404 for every id handed out so far).
    History,
    /// Page cursors and page tokens.
    Cursors,
}

/// The reason why a call of the sandbox failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SandboxError {
    /// No such vendor.
    #[error("no vendor {key:?}; there are {known}")]
    UnknownVendor {
        /// The name or id in the call.
        key: String,
        /// The right ones.
        known: String,
    },
    /// The vendor has no such collection.
    #[error("{} has no collection {collection:?}; it has {known}", vendor.key())]
    UnknownCollection {
        /// The vendor.
        vendor: Vendor,
        /// The name or id in the call.
        collection: String,
        /// The right ones.
        known: String,
    },
    /// No such record, or it is deleted.
    #[error("{} {collection} has no record {id:?}", vendor.key())]
    NotFound {
        /// The vendor.
        vendor: Vendor,
        /// The collection.
        collection: String,
        /// The name or id in the call.
        id: String,
    },
    /// Fields must come as a JSON object.
    #[error("fields must be a JSON object")]
    NotAnObject,
}

impl SandboxError {
    fn not_found(vendor: Vendor, collection: &str, id: &str) -> Self {
        Self::NotFound { vendor, collection: collection.to_owned(), id: id.to_owned() }
    }
}

/// A handle on the sandbox; clones share the data. It looks at one account, `main` unless [`Sandbox::of`] said otherwise.
#[derive(Clone)]
pub struct Sandbox {
    state: Arc<Mutex<SandboxState>>,
    account: Arc<str>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Default for Sandbox {
    /// In memory, on the system's clock.
    fn default() -> Self {
        Self::new(Arc::new(Utc::now), 0)
    }
}

impl Sandbox {
    /// In memory, with this clock; the seed decides what tokens look like.
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self::around(SandboxState::new(clock, seed))
    }

    /// Keeps its data in `folder/sandbox.jsonl`, across restarts and kills.
    pub fn open(folder: &Path, clock: Clock, seed: u64) -> std::io::Result<Self> {
        SandboxState::open(folder, clock, seed).map(Self::around)
    }

    fn around(state: SandboxState) -> Self {
        Self { state: Arc::new(Mutex::new(state)), account: "main".into() }
    }

    /// Gives the main accounts, and every account that appears later, a handful of believable records.
    /// Accounts that exist already stay as they are.
    pub fn with_samples(self) -> Self {
        self.state().with_samples();
        self
    }

    /// The same sandbox, looking at another account.
    pub fn of(&self, account: &str) -> Self {
        Self { state: Arc::clone(&self.state), account: account.into() }
    }

    // A panic while the lock was held has already failed its own request; the data is whole after every step.
    fn state(&self) -> MutexGuard<'_, SandboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a record and returns it as the vendor shows it. Fields given here stand (dates and ids too); the vendor
    /// fills in the rest.
    pub fn create(&self, vendor: &str, collection: &str, fields: Value) -> Result<Value, SandboxError> {
        self.state().create(Vendor::named(vendor)?, &self.account, collection, object(&fields)?)
    }

    /// Changes the given fields, and with them date, version or etag.
    pub fn update(&self, vendor: &str, collection: &str, id: &str, patch: Value) -> Result<Value, SandboxError> {
        self.state().update(Vendor::named(vendor)?, &self.account, collection, id, object(&patch)?, false)
    }

    /// Changes the given fields and nothing else: no date, version or feed shows it.
    pub fn edit_silently(&self, vendor: &str, collection: &str, id: &str, patch: Value) -> Result<Value, SandboxError> {
        self.state().update(Vendor::named(vendor)?, &self.account, collection, id, object(&patch)?, true)
    }

    /// Deletes as the vendor does: the record vanishes, is flagged, or leaves a stub in the feed.
    pub fn delete(&self, vendor: &str, collection: &str, id: &str) -> Result<(), SandboxError> {
        self.state().delete(Vendor::named(vendor)?, &self.account, collection, id, false)
    }

    /// Makes the record vanish even where the vendor would only flag it.
    pub fn destroy(&self, vendor: &str, collection: &str, id: &str) -> Result<(), SandboxError> {
        self.state().delete(Vendor::named(vendor)?, &self.account, collection, id, true)
    }

    /// One record, as a read by id shows it.
    pub fn get(&self, vendor: &str, collection: &str, id: &str) -> Result<Value, SandboxError> {
        let vendor = Vendor::named(vendor)?;
        SandboxState::kind(vendor, collection)?;
        let mut state = self.state();
        state.account(vendor, &self.account);
        state
            .value(vendor, &self.account, collection, id)
            .cloned()
            .ok_or_else(|| SandboxError::not_found(vendor, collection, id))
    }

    /// All records that are not deleted, in the order of their creation, indexed or not.
    pub fn list(&self, vendor: &str, collection: &str) -> Result<Vec<Value>, SandboxError> {
        let vendor = Vendor::named(vendor)?;
        SandboxState::kind(vendor, collection)?;
        let mut state = self.state();
        state.account(vendor, &self.account);
        let records = state.records(vendor, &self.account, collection);
        Ok(records.into_iter().filter_map(|record| record.value.clone()).collect())
    }

    /// Sets what goes wrong for this account.
    pub fn set_faults(&self, vendor: &str, faults: Faults) -> Result<(), SandboxError> {
        self.state().set_faults(Vendor::named(vendor)?, Some(&self.account), faults);
        Ok(())
    }

    /// Sets what goes wrong for every account that has no faults of its own.
    pub fn set_faults_everywhere(&self, vendor: &str, faults: Faults) -> Result<(), SandboxError> {
        self.state().set_faults(Vendor::named(vendor)?, None, faults);
        Ok(())
    }

    /// Makes what was handed out to this account worthless.
    pub fn expire(&self, vendor: &str, what: Expire) -> Result<(), SandboxError> {
        self.state().expire(Vendor::named(vendor)?, &self.account, what);
        Ok(())
    }

    /// The last requests that vendors answered, oldest first, for every account.
    pub fn requests(&self) -> Vec<Logged> {
        self.state().log.iter().cloned().collect()
    }

    /// The number of requests that a vendor has answered since the start, with logins and token calls.
    pub fn request_count(&self, vendor: &str) -> Result<u64, SandboxError> {
        let key = Vendor::named(vendor)?.key();
        Ok(self.state().counters.get(&format!("{key}.requests")).copied().unwrap_or(0))
    }

    /// Serves the routes until the listener fails; abort the task to stop.
    pub async fn serve(self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        axum::serve(listener, router(self)).await
    }
}

fn object(value: &Value) -> Result<&Map<String, Value>, SandboxError> {
    value.as_object().ok_or(SandboxError::NotAnObject)
}

/// Routes of all vendors and of the control API, with their full paths: merge it, do not nest it.
pub fn router(sandbox: Sandbox) -> Router {
    control::router().merge(http::router()).with_state(sandbox)
}

#[cfg(test)]
mod testing;

#[cfg(test)]
mod tests;
