//! The state behind all vendors: accounts, records with what lists show of them, tokens, and the journal of it all.
//!
//! One running number, the serial, orders every change of every account; ids, page positions, sync tokens and Gmail's
//! history ids come from it, so nothing is ever numbered twice.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::faults::{Faults, mix};
use super::journal::Journal;
use super::{Expire, Vendor};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// One record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Serial of its creation: the order in which lists show records by default.
    pub(crate) born: u64,
    /// Serial of its last change.
    pub(crate) change: u64,
    /// The current value; none once it is deleted.
    pub(crate) value: Option<Value>,
    /// The stub in a change feed once it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stub: Option<Value>,
    /// The values in lists, each from an instant on; empty when lists show `value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) shown: Vec<(DateTime<Utc>, Option<Value>)>,
}

impl Record {
    /// The value in lists at `now`.
    pub(crate) fn listed(&self, now: DateTime<Utc>) -> Option<&Value> {
        if self.shown.is_empty() {
            return self.value.as_ref();
        }
        self.shown.iter().rev().find(|(from, _)| *from <= now).and_then(|(_, value)| value.as_ref())
    }

    /// True if its last change has reached the lists.
    pub(crate) fn settled(&self, now: DateTime<Utc>) -> bool {
        self.shown.last().is_none_or(|(from, _)| *from <= now)
    }
}

/// Generations of tokens and feeds that can be made to expire: a token of an older generation is refused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generations {
    pub(crate) sync_tokens: u32,
    /// Serial before which Gmail has forgotten its history.
    pub(crate) history_from: u64,
    pub(crate) cursors: u32,
}

/// One data set of one vendor.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(super) collections: BTreeMap<String, BTreeMap<String, Record>>,
    pub(crate) faults: Option<Faults>,
    pub(crate) generations: Generations,
    pub(crate) requests: u64,
    pub(crate) window: Option<(DateTime<Utc>, u32)>,
}

/// The use of a token or code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum GrantKind {
    Code,
    Access,
    Refresh,
}

/// A token or code that was handed out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) vendor: Vendor,
    pub(crate) account: String,
    pub(crate) kind: GrantKind,
    pub(crate) expires: Option<DateTime<Utc>>,
    pub(crate) revoked: bool,
    /// Code: the address it must come back with. Access token: the refresh token it belongs to.
    pub(crate) bound_to: Option<String>,
    pub(crate) scope: String,
}

/// One line of the journal: the new state of one thing.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Entry {
    Record { vendor: Vendor, account: String, collection: String, id: String, record: Option<Record> },
    Grant { token: String, grant: Option<Grant> },
    Account { vendor: Vendor, account: String, faults: Option<Faults>, generations: Generations },
    Faults { vendor: Vendor, faults: Faults },
    Serial(u64),
}

/// A request that a vendor answered. Holds no secret.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logged {
    /// The time of the answer.
    pub at: DateTime<Utc>,
    /// The vendor.
    pub vendor: Vendor,
    /// The account; absent when the credentials named none.
    pub account: Option<String>,
    /// `GET`, `POST`…
    pub method: String,
    /// Path at the vendor.
    pub path: String,
    /// Query with secrets masked.
    pub query: String,
    /// Status answered.
    pub status: u16,
    /// The fault that hit the request, if one did.
    pub fault: Option<&'static str>,
}

/// The most requests that the log keeps.
const LOG_LENGTH: usize = 2_000;

/// The state of all vendors, behind one lock.
pub(crate) struct SandboxState {
    clock: Clock,
    seed: u64,
    pub(super) serial: u64,
    samples: bool,
    pub(super) accounts: HashMap<(Vendor, String), Account>,
    grants: HashMap<String, Grant>,
    everywhere: HashMap<Vendor, Faults>,
    pub(super) journal: Option<Journal>,
    pub(crate) log: VecDeque<Logged>,
    pub(crate) counters: BTreeMap<String, u64>,
}

impl SandboxState {
    pub(crate) fn new(clock: Clock, seed: u64) -> Self {
        Self {
            clock,
            seed,
            // Gmail's first history id; big enough to be compared wrongly as a text (99999 → 100000).
            serial: 90_000,
            samples: false,
            accounts: HashMap::new(),
            grants: HashMap::new(),
            everywhere: HashMap::new(),
            journal: None,
            log: VecDeque::new(),
            counters: BTreeMap::new(),
        }
    }

    /// Takes over what an earlier process left in `folder`, and keeps it up to date from now on.
    pub(crate) fn open(folder: &Path, clock: Clock, seed: u64) -> io::Result<Self> {
        let (mut journal, entries) = Journal::open(&folder.join("sandbox.jsonl"))?;
        let mut state = Self::new(clock, seed);
        for entry in entries {
            state.replay(entry);
        }
        let now = (state.clock)();
        state.grants.retain(|_, grant| grant.expires.is_none_or(|at| at > now) && !grant.revoked);
        journal.compact(state.entries())?;
        state.journal = Some(journal);
        Ok(state)
    }

    fn replay(&mut self, entry: Entry) {
        match entry {
            Entry::Record { vendor, account, collection, id, record } => {
                let records =
                    self.accounts.entry((vendor, account)).or_default().collections.entry(collection).or_default();
                match record {
                    Some(record) => {
                        self.serial = self.serial.max(record.change).max(record.born);
                        records.insert(id, record);
                    }
                    None => {
                        records.remove(&id);
                    }
                }
            }
            Entry::Grant { token, grant: Some(grant) } => {
                self.grants.insert(token, grant);
            }
            Entry::Grant { token, grant: None } => {
                self.grants.remove(&token);
            }
            Entry::Account { vendor, account, faults, generations } => {
                let known = self.accounts.entry((vendor, account)).or_default();
                (known.faults, known.generations) = (faults, generations);
            }
            Entry::Faults { vendor, faults } => {
                self.everywhere.insert(vendor, faults);
            }
            Entry::Serial(serial) => self.serial = self.serial.max(serial),
        }
    }

    fn entries(&self) -> Vec<Entry> {
        let mut entries = vec![Entry::Serial(self.serial)];
        entries.extend(
            self.everywhere.iter().map(|(vendor, faults)| Entry::Faults { vendor: *vendor, faults: faults.clone() }),
        );
        for (token, grant) in &self.grants {
            entries.push(Entry::Grant { token: token.clone(), grant: Some(grant.clone()) });
        }
        for ((vendor, account), data) in &self.accounts {
            entries.push(self.account_entry(*vendor, account));
            for (collection, records) in &data.collections {
                entries.extend(records.iter().map(|(id, record)| Entry::Record {
                    vendor: *vendor,
                    account: account.clone(),
                    collection: collection.clone(),
                    id: id.clone(),
                    record: Some(record.clone()),
                }));
            }
        }
        entries
    }

    fn account_entry(&self, vendor: Vendor, account: &str) -> Entry {
        let data = self.accounts.get(&(vendor, account.to_owned()));
        Entry::Account {
            vendor,
            account: account.to_owned(),
            faults: data.and_then(|data| data.faults.clone()),
            generations: data.map(|data| data.generations).unwrap_or_default(),
        }
    }

    pub(super) fn note(&mut self, entry: &Entry) {
        if let Some(journal) = &mut self.journal {
            journal.append(entry);
        }
    }

    // ------------------------------------------------------------ time and numbers

    /// The real time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// The time by the vendor's own clock.
    pub(crate) fn vendor_now(&self, vendor: Vendor, account: &str) -> DateTime<Utc> {
        self.now() + Duration::seconds(self.faults(vendor, account).clock_skew_s)
    }

    /// The next number.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The last number given out.
    pub(crate) fn serial(&self) -> u64 {
        self.serial
    }

    /// A text that cannot be guessed from outside, though it repeats with the seed.
    pub(crate) fn token(&mut self, prefix: &str) -> String {
        let serial = self.next_serial();
        self.note(&Entry::Serial(serial));
        format!("{prefix}{:016x}{:016x}", mix(self.seed, serial), mix(self.seed ^ 0x5eed, serial))
    }

    // ------------------------------------------------------------ accounts and faults

    /// Gives every account that appears from now on some records to look at, and the main accounts at once.
    pub(crate) fn with_samples(&mut self) {
        self.samples = true;
        for vendor in Vendor::ALL {
            self.account(vendor, "main");
        }
    }

    /// The account, made with the records that every account has, if it is new.
    pub(crate) fn account(&mut self, vendor: Vendor, name: &str) -> &mut Account {
        let key = (vendor, name.to_owned());
        if !self.accounts.contains_key(&key) {
            self.accounts.insert(key.clone(), Account::default());
            self.note(&self.account_entry(vendor, name));
            for kind in vendor.collections() {
                let contents = vendor.contents(kind);
                let mut first = contents.skeleton.clone();
                if self.samples {
                    first.extend(contents.samples.iter().cloned());
                }
                for fields in first {
                    self.insert(vendor, name, kind, kind.name, &fields, false);
                }
            }
        }
        self.accounts.entry(key).or_default()
    }

    /// The names of a vendor's accounts.
    pub(crate) fn account_names(&self, vendor: Vendor) -> Vec<String> {
        let mut names: Vec<String> =
            self.accounts.keys().filter(|(owner, _)| *owner == vendor).map(|(_, name)| name.clone()).collect();
        names.sort();
        names
    }

    /// The faults that hold for an account: its own, or else those of the whole vendor.
    pub(crate) fn faults(&self, vendor: Vendor, account: &str) -> Faults {
        let own = self.accounts.get(&(vendor, account.to_owned())).and_then(|data| data.faults.as_ref());
        own.or_else(|| self.everywhere.get(&vendor)).cloned().unwrap_or_default()
    }

    /// Sets the faults of one account, or with none named those of the whole vendor.
    pub(crate) fn set_faults(&mut self, vendor: Vendor, account: Option<&str>, faults: Faults) {
        match account {
            Some(name) => {
                self.account(vendor, name).faults = Some(faults);
                self.note(&self.account_entry(vendor, name));
            }
            None => {
                self.note(&Entry::Faults { vendor, faults: faults.clone() });
                self.everywhere.insert(vendor, faults);
            }
        }
    }

    /// Makes everything of a kind that was handed out to the account worthless.
    pub(crate) fn expire(&mut self, vendor: Vendor, account: &str, what: Expire) {
        let (now, serial) = (self.now(), self.next_serial());
        let generations = &mut self.account(vendor, account).generations;
        match what {
            Expire::SyncTokens => generations.sync_tokens += 1,
            Expire::Cursors => generations.cursors += 1,
            Expire::History => generations.history_from = serial,
            Expire::Tokens | Expire::Grants => {
                let tokens: Vec<String> = self.grants.keys().cloned().collect();
                for token in tokens {
                    self.change_grant(&token, |grant| {
                        if (grant.vendor, grant.account.as_str()) == (vendor, account) {
                            grant.revoked |= what == Expire::Grants;
                            if what == Expire::Tokens && grant.kind == GrantKind::Access {
                                grant.expires = Some(now);
                            }
                        }
                    });
                }
            }
        }
        self.note(&self.account_entry(vendor, account));
        self.note(&Entry::Serial(serial));
    }

    /// Counts a call in the account's fixed window of time; false when the window is full.
    pub(crate) fn within_window(&mut self, vendor: Vendor, account: &str, calls: u32, seconds: i64) -> bool {
        let now = self.now();
        let window = &mut self.account(vendor, account).window;
        match window {
            Some((since, count)) if now < *since + Duration::seconds(seconds) => {
                *count += 1;
                *count <= calls
            }
            _ => {
                *window = Some((now, 1));
                true
            }
        }
    }

    // ------------------------------------------------------------ grants

    pub(crate) fn grant(&self, token: &str) -> Option<&Grant> {
        self.grants.get(token)
    }

    pub(crate) fn put_grant(&mut self, token: &str, grant: Grant) {
        self.note(&Entry::Grant { token: token.to_owned(), grant: Some(grant.clone()) });
        self.grants.insert(token.to_owned(), grant);
    }

    pub(crate) fn drop_grant(&mut self, token: &str) {
        self.note(&Entry::Grant { token: token.to_owned(), grant: None });
        self.grants.remove(token);
    }

    pub(crate) fn change_grant(&mut self, token: &str, change: impl FnOnce(&mut Grant)) {
        if let Some(mut grant) = self.grants.get(token).cloned() {
            let before = (grant.expires, grant.revoked);
            change(&mut grant);
            if before != (grant.expires, grant.revoked) {
                self.put_grant(token, grant);
            }
        }
    }

    /// Forgets expired access tokens that belong to a refresh token which has just been used.
    pub(crate) fn forget_expired(&mut self, refresh: &str) {
        let now = self.now();
        let stale: Vec<String> = self
            .grants
            .iter()
            .filter(|(_, grant)| {
                grant.bound_to.as_deref() == Some(refresh)
                    && grant.expires.is_some_and(|at| at + Duration::hours(1) < now)
            })
            .map(|(token, _)| token.clone())
            .collect();
        for token in stale {
            self.drop_grant(&token);
        }
    }

    // ------------------------------------------------------------ log

    pub(crate) fn log(&mut self, line: Logged) {
        let key = line.vendor.key();
        for counter in [format!("{key}.requests"), format!("{key}.status.{}", line.status)] {
            *self.counters.entry(counter).or_default() += 1;
        }
        if let Some(fault) = line.fault {
            *self.counters.entry(format!("{key}.fault.{fault}")).or_default() += 1;
        }
        if self.log.len() == LOG_LENGTH {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }
}
