//! The records of the sandbox: made, changed, deleted and listed as each vendor does.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde_json::{Map, Value, json};

use super::collection::{self, Collection, Deletion, Revision, table};
use super::faults::Faults;
use super::state::{Entry, Record, SandboxState};
use super::{SandboxError, Vendor};

impl SandboxState {
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

    pub(super) fn insert(
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
        let mut value = vendor.contents(kind).defaults.clone();
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

    /// Changes a record. `silently`: no date, version or feed shows it.
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

    /// Deletes a record as the vendor does, or with `hard` so that nothing of it is left but a feed's stub.
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
        let data = self.accounts.entry((vendor, account.to_owned())).or_default();
        data.collections.entry(collection.to_owned()).or_default()
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
        let data = self.accounts.get(&(vendor, account.to_owned()));
        let mut records: Vec<&Record> =
            data.and_then(|data| data.collections.get(collection)).into_iter().flat_map(BTreeMap::values).collect();
        records.sort_by_key(|record| record.born);
        records
    }

    /// The serial up to which every change of a collection has reached its lists: as far as a feed may go.
    pub(crate) fn settled_until(&self, vendor: Vendor, account: &str, collection: &str) -> u64 {
        let now = self.now();
        let behind = self.records(vendor, account, collection).into_iter().filter(|record| !record.settled(now));
        behind.map(|record| record.change - 1).min().unwrap_or(self.serial)
    }

    /// The values in lists now, in the order of creation.
    pub(crate) fn listed(&self, vendor: Vendor, account: &str, collection: &str) -> Vec<Value> {
        let now = self.now();
        self.records(vendor, account, collection).into_iter().filter_map(|record| record.listed(now)).cloned().collect()
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
    /// The offset of the next page, if there is one.
    pub(crate) next: Option<usize>,
    /// The number of rows in all.
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
