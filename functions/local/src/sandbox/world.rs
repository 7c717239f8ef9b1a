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
use serde_json::{Map, Value, json};

use super::collection::{self, Collection, Deletion, Revision, table};
use super::faults::{Faults, mix};
use super::journal::Journal;
use super::{Expire, SandboxError, Vendor};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// One record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Serial of its creation: the order in which lists show records by default.
    pub(crate) born: u64,
    /// Serial of its last change.
    pub(crate) change: u64,
    /// What it is now; none once it is deleted.
    pub(crate) value: Option<Value>,
    /// What a change feed tells about it once it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stub: Option<Value>,
    /// What lists show, each from an instant on; empty when they show `value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shown: Vec<(DateTime<Utc>, Option<Value>)>,
}

impl Record {
    /// What a list shows of it at `now`.
    pub(crate) fn listed(&self, now: DateTime<Utc>) -> Option<&Value> {
        if self.shown.is_empty() {
            return self.value.as_ref();
        }
        self.shown.iter().rev().find(|(from, _)| *from <= now).and_then(|(_, value)| value.as_ref())
    }

    /// Whether its last change has reached the lists.
    pub(crate) fn settled(&self, now: DateTime<Utc>) -> bool {
        self.shown.last().is_none_or(|(from, _)| *from <= now)
    }
}

/// Generations of what can be made to expire: a token of an older generation is refused.
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
    collections: BTreeMap<String, BTreeMap<String, Record>>,
    pub(crate) faults: Option<Faults>,
    pub(crate) generations: Generations,
    pub(crate) requests: u64,
    pub(crate) window: Option<(DateTime<Utc>, u32)>,
}

/// What a token or code is good for.
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
    /// When.
    pub at: DateTime<Utc>,
    /// Which vendor's routes.
    pub vendor: Vendor,
    /// Whose data; absent when the credentials named nobody.
    pub account: Option<String>,
    /// `GET`, `POST`…
    pub method: String,
    /// Path at the vendor.
    pub path: String,
    /// Query with secrets masked.
    pub query: String,
    /// Status answered.
    pub status: u16,
    /// The fault that struck, if one did.
    pub fault: Option<&'static str>,
}

/// How many requests the log keeps.
const LOG_LENGTH: usize = 2_000;

/// Everything, behind one lock.
pub(crate) struct World {
    clock: Clock,
    seed: u64,
    serial: u64,
    samples: bool,
    accounts: HashMap<(Vendor, String), Account>,
    grants: HashMap<String, Grant>,
    everywhere: HashMap<Vendor, Faults>,
    journal: Option<Journal>,
    pub(crate) log: VecDeque<Logged>,
    pub(crate) counters: BTreeMap<String, u64>,
}

impl World {
    pub(crate) fn new(clock: Clock, seed: u64) -> Self {
        Self {
            clock,
            seed,
            // Gmail's first history id; big enough to be compared wrongly by whoever compares texts (99999 → 100000).
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
        let mut world = Self::new(clock, seed);
        for entry in entries {
            world.replay(entry);
        }
        let now = (world.clock)();
        world.grants.retain(|_, grant| grant.expires.is_none_or(|at| at > now) && !grant.revoked);
        journal.compact(world.entries())?;
        world.journal = Some(journal);
        Ok(world)
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
        for ((vendor, account), state) in &self.accounts {
            entries.push(self.account_entry(*vendor, account));
            for (collection, records) in &state.collections {
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
        let state = self.accounts.get(&(vendor, account.to_owned()));
        Entry::Account {
            vendor,
            account: account.to_owned(),
            faults: state.and_then(|state| state.faults.clone()),
            generations: state.map(|state| state.generations).unwrap_or_default(),
        }
    }

    fn note(&mut self, entry: &Entry) {
        if let Some(journal) = &mut self.journal {
            journal.append(entry);
        }
    }

    // ------------------------------------------------------------ time and numbers

    /// The real time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.clock)()
    }

    /// What the vendor's own clock says.
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

    /// The account, made with what the vendor gives everybody if it is new.
    pub(crate) fn account(&mut self, vendor: Vendor, name: &str) -> &mut Account {
        let key = (vendor, name.to_owned());
        if !self.accounts.contains_key(&key) {
            self.accounts.insert(key.clone(), Account::default());
            self.note(&self.account_entry(vendor, name));
            for kind in vendor.collections() {
                let mut first: Vec<Map<String, Value>> = table(kind.skeleton);
                if self.samples {
                    first.extend(table::<Vec<Map<String, Value>>>(kind.samples));
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
        let own = self.accounts.get(&(vendor, account.to_owned())).and_then(|state| state.faults.as_ref());
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

    // ------------------------------------------------------------ records

    /// The collection of that name, without a partition (`events:team` → `events`).
    pub(crate) fn kind(vendor: Vendor, collection: &str) -> Result<&'static Collection, SandboxError> {
        let base = collection.split(':').next().unwrap_or_default();
        vendor.collections().iter().find(|kind| kind.name == base).ok_or_else(|| SandboxError::UnknownCollection {
            vendor,
            collection: collection.to_owned(),
            known: vendor.collections().iter().map(|kind| kind.name).collect::<Vec<_>>().join(", "),
        })
    }

    /// A new record: fields that are given stand, everything else is as the vendor would fill it.
    pub(crate) fn create(
        &mut self,
        vendor: Vendor,
        account: &str,
        collection: &str,
        fields: &Map<String, Value>,
    ) -> Result<Value, SandboxError> {
        let kind = Self::kind(vendor, collection)?;
        self.account(vendor, account);
        Ok(self.insert(vendor, account, kind, collection, fields, true))
    }

    fn insert(
        &mut self,
        vendor: Vendor,
        account: &str,
        kind: &'static Collection,
        collection: &str,
        fields: &Map<String, Value>,
        fresh: bool,
    ) -> Value {
        let serial = self.next_serial();
        let now = self.vendor_now(vendor, account);
        let faults = self.faults(vendor, account);
        let mut value: Map<String, Value> = table(kind.defaults);
        collection::merge(&mut value, fields);
        if !fields.contains_key(kind.id.field()) {
            let id = kind.id.mint(serial, &value);
            value.insert(kind.id.field().to_owned(), id);
        }
        for stamp in [&kind.created, &kind.updated].into_iter().flatten() {
            if collection::get(fields, stamp.0).is_none() {
                collection::set(&mut value, stamp.0, json!(stamp.1.write(now, serial, &faults)));
            }
        }
        revise(kind, &mut value, fields, now, serial);
        vendor.complete(kind.name, &mut value, now, serial, &faults);
        let value = Value::Object(value);
        let id = kind.id.of(&value);
        let lag = if fresh { faults.lateness(serial) } else { Duration::zero() };
        let shown = if lag.is_zero() { Vec::new() } else { vec![(self.now() + lag, Some(value.clone()))] };
        let record = Record { born: serial, change: serial, value: Some(value.clone()), stub: None, shown };
        self.put(vendor, account, collection, &id, record);
        vendor.changed(self, account, collection, None, Some(&value));
        value
    }

    /// Changes a record. `silently`: no date, version or feed tells of it.
    pub(crate) fn update(
        &mut self,
        vendor: Vendor,
        account: &str,
        collection: &str,
        id: &str,
        patch: &Map<String, Value>,
        silently: bool,
    ) -> Result<Value, SandboxError> {
        let kind = Self::kind(vendor, collection)?;
        let mut record = self.find(vendor, account, collection, id)?.clone();
        let before = record.value.clone();
        let Some(Value::Object(mut value)) = record.value.take() else {
            return Err(SandboxError::not_found(vendor, collection, id));
        };
        let now = self.vendor_now(vendor, account);
        let faults = self.faults(vendor, account);
        collection::merge(&mut value, patch);
        let serial = if silently { record.change } else { self.next_serial() };
        if !silently {
            if let Some(stamp) = &kind.updated
                && collection::get(patch, stamp.0).is_none()
            {
                collection::set(&mut value, stamp.0, json!(stamp.1.write(now, serial, &faults)));
            }
            revise(kind, &mut value, patch, now, serial);
            vendor.complete(kind.name, &mut value, now, serial, &faults);
        }
        let value = Value::Object(value);
        record.value = Some(value.clone());
        record.change = serial;
        self.show(&mut record, before.clone(), faults.lateness(serial));
        self.put(vendor, account, collection, id, record);
        if !silently {
            vendor.changed(self, account, collection, before.as_ref(), Some(&value));
        }
        Ok(value)
    }

    /// Deletes a record in the vendor's manner, or with `hard` so that nothing of it is left but a feed's stub.
    pub(crate) fn delete(
        &mut self,
        vendor: Vendor,
        account: &str,
        collection: &str,
        id: &str,
        hard: bool,
    ) -> Result<(), SandboxError> {
        let kind = Self::kind(vendor, collection)?;
        if let (Deletion::Flag(path, flag), false) = (&kind.deletion, hard) {
            let mut patch = Map::new();
            collection::set(&mut patch, path, table(flag));
            return self.update(vendor, account, collection, id, &patch, false).map(drop);
        }
        let mut record = self.find(vendor, account, collection, id)?.clone();
        let Some(before) = record.value.take() else { return Err(SandboxError::not_found(vendor, collection, id)) };
        let serial = self.next_serial();
        record.change = serial;
        if let Deletion::Stub(kept, rest) = &kind.deletion {
            let mut stub: Map<String, Value> = table(rest);
            for field in *kept {
                if let Some(value) = before.get(field) {
                    stub.insert((*field).to_owned(), value.clone());
                }
            }
            revise(kind, &mut stub, &Map::new(), self.vendor_now(vendor, account), serial);
            record.stub = Some(Value::Object(stub));
        }
        let lag = self.faults(vendor, account).lateness(serial);
        self.show(&mut record, Some(before.clone()), lag);
        let keep = record.stub.is_some() || !record.shown.is_empty();
        if keep {
            self.put(vendor, account, collection, id, record);
        } else {
            self.records_mut(vendor, account, collection).remove(id);
            self.note(&Entry::Record {
                vendor,
                account: account.to_owned(),
                collection: collection.to_owned(),
                id: id.to_owned(),
                record: None,
            });
            self.note(&Entry::Serial(serial));
        }
        vendor.changed(self, account, collection, Some(&before), None);
        Ok(())
    }

    /// Keeps showing `before` in lists until the lag is over.
    fn show(&self, record: &mut Record, before: Option<Value>, lag: Duration) {
        let now = self.now();
        if record.settled(now) {
            record.shown.clear();
        }
        if lag.is_zero() && record.shown.is_empty() {
            return;
        }
        if record.shown.is_empty() {
            record.shown.push((DateTime::<Utc>::MIN_UTC, before));
        }
        record.shown.push((now + lag, record.value.clone()));
    }

    fn put(&mut self, vendor: Vendor, account: &str, collection: &str, id: &str, record: Record) {
        if self.journal.is_some() {
            self.note(&Entry::Record {
                vendor,
                account: account.to_owned(),
                collection: collection.to_owned(),
                id: id.to_owned(),
                record: Some(record.clone()),
            });
        }
        self.records_mut(vendor, account, collection).insert(id.to_owned(), record);
    }

    /// Puts a row into a feed that is not a collection of its own (Gmail's history).
    pub(crate) fn append(&mut self, vendor: Vendor, account: &str, feed: &str, value: Value) {
        let serial = self.serial();
        let lag = self.faults(vendor, account).lateness(serial);
        let shown = if lag.is_zero() { Vec::new() } else { vec![(self.now() + lag, Some(value.clone()))] };
        let record = Record { born: serial, change: serial, value: Some(value), stub: None, shown };
        self.put(vendor, account, feed, &format!("{serial:020}"), record);
    }

    fn records_mut(&mut self, vendor: Vendor, account: &str, collection: &str) -> &mut BTreeMap<String, Record> {
        let state = self.accounts.entry((vendor, account.to_owned())).or_default();
        state.collections.entry(collection.to_owned()).or_default()
    }

    fn find(&mut self, vendor: Vendor, account: &str, collection: &str, id: &str) -> Result<&Record, SandboxError> {
        self.account(vendor, account);
        self.record(vendor, account, collection, id).ok_or_else(|| SandboxError::not_found(vendor, collection, id))
    }

    /// A record as it is stored, whether lists show it yet or not.
    pub(crate) fn record(&self, vendor: Vendor, account: &str, collection: &str, id: &str) -> Option<&Record> {
        self.accounts.get(&(vendor, account.to_owned()))?.collections.get(collection)?.get(id)
    }

    /// The value of a record by id, which is never late.
    pub(crate) fn value(&self, vendor: Vendor, account: &str, collection: &str, id: &str) -> Option<&Value> {
        self.record(vendor, account, collection, id)?.value.as_ref()
    }

    /// All records of a collection in the order of their creation.
    pub(crate) fn records(&self, vendor: Vendor, account: &str, collection: &str) -> Vec<&Record> {
        let state = self.accounts.get(&(vendor, account.to_owned()));
        let mut records: Vec<&Record> =
            state.and_then(|state| state.collections.get(collection)).into_iter().flat_map(BTreeMap::values).collect();
        records.sort_by_key(|record| record.born);
        records
    }

    /// The serial up to which every change of a collection has reached its lists: as far as a feed may tell.
    pub(crate) fn settled_until(&self, vendor: Vendor, account: &str, collection: &str) -> u64 {
        let now = self.now();
        let behind = self.records(vendor, account, collection).into_iter().filter(|record| !record.settled(now));
        behind.map(|record| record.change - 1).min().unwrap_or(self.serial)
    }

    /// What a list shows now, in the order of creation.
    pub(crate) fn listed(&self, vendor: Vendor, account: &str, collection: &str) -> Vec<Value> {
        let now = self.now();
        self.records(vendor, account, collection).into_iter().filter_map(|record| record.listed(now)).cloned().collect()
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

fn revise(
    kind: &Collection,
    value: &mut Map<String, Value>,
    given: &Map<String, Value>,
    now: DateTime<Utc>,
    serial: u64,
) {
    let (field, next) = match &kind.revision {
        None => return,
        Some(Revision::Counter(field)) => {
            let last = value.get(*field).and_then(Value::as_u64).unwrap_or(0);
            (*field, json!(last + 1))
        }
        Some(Revision::Millis(field)) => (*field, json!(now.timestamp_millis())),
        Some(Revision::Opaque(field, pattern)) => (*field, json!(pattern.replace("{}", &serial.to_string()))),
    };
    if !given.contains_key(field) {
        value.insert(field.to_owned(), next);
    }
}

/// One page of rows.
#[derive(Debug)]
pub(crate) struct Page {
    /// The rows to show.
    pub(crate) rows: Vec<Value>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<usize>,
    /// How many rows there are in all.
    pub(crate) total: usize,
}

/// Cuts a page out of a list by offset, with the drift and the duplicates that the faults ask for.
pub(crate) fn page(rows: Vec<Value>, offset: usize, limit: usize, faults: &Faults) -> Page {
    // Rows that come or go ahead of a page count, too.
    let total = rows.len().saturating_add_signed(if offset == 0 { 0 } else { faults.page_shift as isize });
    let start = if offset == 0 { 0 } else { offset.saturating_add_signed(-(faults.page_shift as isize)) };
    let mut shown = Vec::new();
    for (index, row) in rows.into_iter().skip(start).take(limit).enumerate() {
        let twice = faults.duplicate_rows.is_some_and(|every| (index as u64 + 1).is_multiple_of(u64::from(every)));
        if twice {
            shown.push(row.clone());
        }
        shown.push(row);
    }
    let next = offset.saturating_add(limit);
    Page { rows: shown, next: (next < total && limit > 0).then_some(next), total }
}
