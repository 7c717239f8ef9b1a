//! The oracle: a model of the vendors, the commits and the received notifications, and the rules between the three.
//!
//! The oracle reads the changes from the vendors' users, the emitted events from the committed bodies, and the received
//! events from the posted bytes.
//!
//! It checks these guarantees:
//!
//! - A commit that moves coverage to `T`: for each record, the newest version that every list showed by `T` was emitted,
//!   or a newer one. Where pages are read by offset, a row that slips between two pages is emitted within the overlap of
//!   a quarter of an hour.
//! - Deletions, and edits that change no timestamp: emitted by the next complete listing (Google's feed: as any other
//!   change).
//! - At the end, a consumer that keeps the event with the highest sequence of each record has the vendor's state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use store::port::{Key, Write};

use super::plan::{EndpointBehavior, FaultPlan, Subject};

/// The time within which an offset listing finds a row that slipped between two of its pages.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);
/// The longest duration of an attempt.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(120);

/// A change of a record by a user of the vendor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The record was created.
    Created,
    /// The record was updated.
    Updated,
    /// The record was updated, and its timestamp was not.
    Silent,
    /// The record was deleted.
    Deleted,
}

#[derive(Debug, Clone)]
struct Change {
    at: DateTime<Utc>,
    version: u64,
    action: Action,
}

#[derive(Debug, Clone)]
struct EmittedEvent {
    sequence: u64,
    kind: String,
    version: u64,
}

/// The model of an instance.
#[derive(Debug)]
struct InstanceModel {
    subject: Subject,
    callback: usize,
    baseline: BTreeMap<String, u64>,
    emitted: BTreeMap<String, Vec<EmittedEvent>>,
    /// The state of a consumer: by record, the highest sequence and the version. `None`: the record is deleted.
    held: BTreeMap<String, (u64, Option<u64>)>,
    last_poll: Option<DateTime<Utc>>,
    covered: Option<DateTime<Utc>>,
}

/// The model of a delivery.
#[derive(Debug, Default)]
struct DeliveryModel {
    instance: u64,
    sk: String,
    records: BTreeSet<String>,
    status: String,
    failing_since: Option<DateTime<Utc>>,
    accepted: bool,
    body: Bytes,
}

/// The amounts of a simulation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes at the vendors.
    pub changes: u64,
    /// Committed events.
    pub events: u64,
    /// Delivery attempts.
    pub attempts: u64,
    /// Commits that moved coverage. Each was checked.
    pub commits: u64,
}

impl Counts {
    /// Adds the amounts of another simulation.
    pub fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.events += other.events;
        self.attempts += other.attempts;
        self.commits += other.commits;
    }
}

/// The oracle: see the module.
#[derive(Debug)]
pub struct Oracle {
    /// Coverage cannot be checked when clocks are wrong, nor the order when users send again.
    clocks_are_right: bool,
    api_users: bool,
    page_shift: bool,
    lateness: TimeDelta,
    changes: BTreeMap<(&'static str, String), Vec<Change>>,
    instances: BTreeMap<u64, InstanceModel>,
    ids: BTreeMap<String, (u64, String, u64)>,
    facts: BTreeMap<(u64, String, u64), String>,
    deliveries: BTreeMap<String, DeliveryModel>,
    attempts: Vec<(usize, DateTime<Utc>)>,
    counts: Counts,
    violations: Vec<String>,
}

impl Oracle {
    /// Makes an empty oracle for a simulation of this plan.
    pub fn new(plan: &FaultPlan) -> Self {
        Self {
            clocks_are_right: plan.clocks.is_none(),
            api_users: plan.api_users,
            page_shift: plan.vendor.page_shift != 0,
            lateness: plan.lateness,
            changes: BTreeMap::new(),
            instances: BTreeMap::new(),
            ids: BTreeMap::new(),
            facts: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            attempts: Vec::new(),
            counts: Counts::default(),
            violations: Vec::new(),
        }
    }

    /// Adds an instance, and the versions of the records that existed when it was made.
    pub fn add_instance(&mut self, instance: u64, subject: Subject, callback: usize, baseline: BTreeMap<String, u64>) {
        let held = baseline.iter().map(|(record, version)| (record.clone(), (0, Some(*version)))).collect();
        let (emitted, last_poll, covered) = (BTreeMap::new(), None, None);
        self.instances
            .insert(instance, InstanceModel { subject, callback, baseline, emitted, held, last_poll, covered });
    }

    /// Records a change at a vendor.
    pub fn record_change(&mut self, subject: Subject, record: &str, action: Action, version: u64, at: DateTime<Utc>) {
        self.counts.changes += 1;
        let changes = self.changes.entry((subject.element, record.to_owned())).or_default();
        changes.push(Change { at, version, action });
    }

    /// Adds a violation.
    pub fn add_violation(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// The violations.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// The amounts so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The time of the instance's last finished poll.
    pub fn last_poll(&self, instance: u64) -> Option<DateTime<Utc>> {
        self.instances.get(&instance)?.last_poll
    }

    // ------------------------------------------------------------ commits

    /// Checks writes that the store carried out together.
    pub fn observe_commit(&mut self, writes: &[Write], now: DateTime<Utc>) {
        let put = |write: &Write| match write {
            Write::Put { item, .. } => Some((item.key.clone(), item.body.clone())),
            _ => None,
        };
        let puts: Vec<_> = writes.iter().filter_map(put).collect();
        let of_instance = |pk: &str| pk.strip_prefix("INST#").and_then(|id| id.parse::<u64>().ok());
        for (key, body) in &puts {
            let Some(instance) = of_instance(&key.pk) else { continue };
            if let Some(delivery) = key.sk.strip_prefix("BODY#").and_then(|rest| rest.split('#').next()) {
                self.observe_body(instance, delivery, body);
            } else if key.sk.starts_with("DLV#") {
                self.observe_delivery(instance, &key.sk, body, now);
                self.observe_inline_body(instance, key, body);
            }
        }
        for (key, body) in &puts {
            if let (Some(instance), true) = (of_instance(&key.pk), key.sk.starts_with("RES#")) {
                self.observe_state(instance, body, now);
            }
        }
    }

    /// Reads a body that is stored in its delivery's item. No later write may change it.
    fn observe_inline_body(&mut self, instance: u64, key: &Key, item: &Bytes) {
        #[derive(serde::Deserialize)]
        struct Holder {
            id: String,
            body: Option<Box<serde_json::value::RawValue>>,
        }
        let Ok(Holder { id, body: Some(body) }) = serde_json::from_slice(item) else { return };
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        match self.deliveries.get(&id).map(|row| row.body.clone()).filter(|known| !known.is_empty()) {
            None => self.observe_body(instance, &id, &body),
            Some(known) if known != body => self.add_violation(format!("the body in {} was changed", key.sk)),
            Some(_) => {}
        }
    }

    fn observe_body(&mut self, instance: u64, delivery: &str, body: &Bytes) {
        let Some(subject) = self.instances.get(&instance).map(|model| model.subject) else { return };
        self.deliveries.entry(delivery.to_owned()).or_default().body = body.clone();
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        for (place, event) in events(&json).enumerate() {
            self.counts.events += 1;
            let (id, record, sequence) = (text(&event["id"]), text(&event["objectId"]), number(&event["sequence"]));
            let kind = text(&event["eventType"]);
            let version = version_in(&json, subject, place);
            let fact = (instance, record.clone(), sequence);
            if let Some(other) = self.ids.insert(id.clone(), fact.clone()) {
                self.add_violation(format!("the id {id} was committed twice: for {other:?} and for {fact:?}"));
            }
            if let Some(other) = self.facts.insert(fact.clone(), id.clone()) {
                self.add_violation(format!("{fact:?} was committed under two ids: {other} and {id}"));
            }
            self.check_event(instance, subject, &record, EmittedEvent { sequence, kind, version });
        }
    }

    /// Checks an event against the earlier events of its record and the changes of the record.
    fn check_event(&mut self, instance: u64, subject: Subject, record: &str, event: EmittedEvent) {
        let changes = self.changes.get(&(subject.element, record.to_owned()));
        let deleted = changes.is_some_and(|changes| changes.iter().any(|change| change.action == Action::Deleted));
        let model = self.instances.get_mut(&instance).expect("only instances in the model emit");
        let baseline = model.baseline.get(record).copied();
        let emitted = model.emitted.entry(record.to_owned()).or_default();
        let name = format!("{} {record} of {}", event.kind, subject.resource);
        let mut wrong = Vec::new();
        if let Some(last) = emitted.last() {
            if event.sequence <= last.sequence {
                wrong.push(format!("{name}: sequence {} after {}", event.sequence, last.sequence));
            }
            if last.kind == "DELETED" {
                wrong.push(format!("{name} after a DELETED event"));
            }
        }
        let known = emitted.last().map(|last| last.version).or(baseline);
        match event.kind.as_str() {
            "DELETED" if !deleted => wrong.push(format!("{name}, and nobody deleted it")),
            "DELETED" => {}
            kind => {
                if known.is_some_and(|known| event.version <= known) {
                    wrong.push(format!("{name}: version {} after version {known:?}", event.version));
                }
                if (kind == "CREATED") != known.is_none() {
                    wrong.push(format!("{name}, though version {known:?} was known"));
                }
            }
        }
        let version = if event.kind == "DELETED" { known.unwrap_or(0) } else { event.version };
        emitted.push(EmittedEvent { version, ..event });
        self.violations.append(&mut wrong);
    }

    fn observe_delivery(&mut self, instance: u64, sk: &str, body: &Bytes, now: DateTime<Utc>) {
        if !self.instances.contains_key(&instance) {
            return;
        }
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let row = self.deliveries.entry(text(&json["id"])).or_default();
        (row.instance, row.sk, row.status) = (instance, sk.to_owned(), text(&json["status"]));
        if row.records.is_empty() {
            row.records = json["events"].as_array().into_iter().flatten().map(|it| text(&it["objectId"])).collect();
        }
        let failing = number(&json["attemptsMade"]) > 0 && matches!(row.status.as_str(), "retry" | "waiting");
        row.failing_since = if failing { row.failing_since.or(Some(now)) } else { None };
    }

    /// Checks a resource state: what it covers must have been emitted.
    fn observe_state(&mut self, instance: u64, body: &Bytes, now: DateTime<Utc>) {
        let Some(model) = self.instances.get_mut(&instance) else { return };
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let last = json["last"]["at"].as_str().and_then(|at| at.parse().ok());
        model.last_poll = model.last_poll.max(last);
        let instant = |value: &Value| value.as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok());
        let mut wrong = Vec::new();
        let mut before = None;
        for stretch in json["coverage"].as_array().into_iter().flatten() {
            let (from, to) = (instant(&stretch["from"]), instant(&stretch["to"]));
            if from > to || before.is_some_and(|before| from < before) {
                wrong.push(format!("coverage is out of order: {}", json["coverage"]));
            }
            before = Some(to);
        }
        let Some(until) = before.flatten() else { return };
        if model.covered.is_some_and(|covered| until < covered) {
            wrong.push(format!("coverage went back from {:?} to {until}", model.covered));
        }
        if self.clocks_are_right && until > now {
            wrong.push(format!("coverage up to {until} is ahead of the clock at {now}"));
        }
        if model.covered != Some(until) {
            self.counts.commits += 1;
            model.covered = Some(until);
            if self.clocks_are_right {
                wrong.extend(missing_events(model, &self.changes, until, self.lateness, self.page_shift));
            }
        }
        self.violations.append(&mut wrong);
    }

    // ------------------------------------------------------------ deliveries

    /// Checks the start of a delivery attempt.
    pub fn observe_attempt(&mut self, callback: usize, delivery: &str, now: DateTime<Utc>) {
        self.attempts.push((callback, now));
        self.counts.attempts += 1;
        if self.api_users || !self.clocks_are_right {
            return;
        }
        let Some(row) = self.deliveries.get(delivery) else { return };
        let older = self.deliveries.iter().find(|(_, other)| {
            other.instance == row.instance
                && other.sk < row.sk
                && !other.accepted
                && other.failing_since.is_some_and(|since| since + UNDER_WAY < now)
                && other.records.iter().any(|record| row.records.contains(record))
        });
        if let Some((older, _)) = older {
            let wrong =
                format!("{delivery} goes ahead of {older}, which has an event of the same record and has failed");
            self.add_violation(wrong);
        }
    }

    /// Checks a notification that arrived. `accepted`: the callback will answer with success.
    pub fn observe_receipt(&mut self, callback: usize, delivery: &str, body: &Bytes, signed: bool, accepted: bool) {
        if !signed {
            self.add_violation(format!("{delivery} is not signed with the callback's key"));
        }
        let Some(row) = self.deliveries.get_mut(delivery) else {
            self.add_violation(format!("{delivery} arrived and was never committed"));
            return;
        };
        row.accepted |= accepted;
        if row.body != *body {
            self.add_violation(format!("{delivery} arrived with other bytes than were committed"));
            return;
        }
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(model) = self.instances.get_mut(&number(&json["message"]["instanceId"])) else { return };
        if model.callback != callback {
            self.violations.push(format!("{delivery} arrived at callback {callback}, which is another's"));
            return;
        }
        if !accepted {
            return;
        }
        for (place, event) in events(&json).enumerate() {
            let (record, sequence) = (text(&event["objectId"]), number(&event["sequence"]));
            let held = model.held.entry(record.clone()).or_insert((0, None));
            if sequence >= held.0 {
                let gone = event["eventType"] == "DELETED";
                *held = (sequence, (!gone).then(|| version_in(&json, model.subject, place)));
            }
        }
    }

    // ------------------------------------------------------------ end of the simulation

    /// Checks that a consumer has the vendor's state, and that no delivery is left. `live`: the vendor's records and their
    /// versions.
    pub fn check_convergence(&mut self, instance: u64, live: &BTreeMap<String, u64>) {
        let Some(model) = self.instances.get(&instance) else { return };
        let held: BTreeMap<String, u64> = model
            .held
            .iter()
            .filter_map(|(record, (_, version))| version.map(|version| (record.clone(), version)))
            .collect();
        let mut wrong = Vec::new();
        for record in held.keys().chain(live.keys()).collect::<BTreeSet<_>>() {
            let (held, live) = (held.get(record), live.get(record));
            if held != live {
                wrong.push(format!(
                    "{record} of {} is {live:?} at the vendor and {held:?} for a consumer of every event",
                    model.subject.resource
                ));
            }
        }
        for (id, row) in &self.deliveries {
            if row.instance == instance && row.status != "delivered" {
                wrong.push(format!("the delivery {id} is still {:?}", row.status));
            }
        }
        self.violations.append(&mut wrong);
    }

    /// Checks that a failing callback is called at most `most` times: until the circuit breaker opens, then by probes.
    pub fn check_call_count(
        &mut self,
        callback: usize,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        behavior: EndpointBehavior,
        most: u64,
    ) {
        let count =
            self.attempts.iter().filter(|(to, at)| *to == callback && from <= *at && *at < until).count() as u64;
        if count > most {
            self.add_violation(format!(
                "callback {callback} was {behavior:?} for {} s and was called {count} times, {most} at most",
                (until - from).num_seconds()
            ));
        }
    }
}

/// Finds the changes that lists showed by `until` and that were not emitted.
fn missing_events(
    model: &InstanceModel,
    changes: &BTreeMap<(&'static str, String), Vec<Change>>,
    until: DateTime<Utc>,
    lateness: TimeDelta,
    page_shift: bool,
) -> Vec<String> {
    let subject = model.subject;
    if subject.pages_by_offset && page_shift {
        return Vec::new();
    }
    let grace = if subject.pages_by_offset { OVERLAP } else { TimeDelta::zero() };
    let mut wrong = Vec::new();
    for ((_, record), changes) in changes.iter().filter(|((element, _), _)| *element == subject.element) {
        // Google's feed shows a record once its newest change has reached the feed, and not before.
        if subject.deletions_show_at_once && changes.iter().any(|change| change.at + lateness > until) {
            continue;
        }
        let emitted = model.emitted.get(record).and_then(|emitted| emitted.last());
        let known = emitted.map(|emitted| emitted.version).or(model.baseline.get(record).copied());
        if let Some(deletion) = changes.iter().find(|change| change.action == Action::Deleted) {
            let shown = subject.deletions_show_at_once && deletion.at + lateness <= until;
            if shown && known.is_some() && emitted.is_none_or(|emitted| emitted.kind != "DELETED") {
                wrong.push(format!("covered up to {until}, but {record} was deleted at {}", deletion.at));
            }
            continue;
        }
        let shown = changes.iter().rfind(|it| it.action != Action::Silent && it.at + lateness + grace <= until);
        if let Some(shown) = shown.filter(|shown| known.is_none_or(|known| known < shown.version)) {
            wrong.push(format!(
                "covered up to {until}, but version {} of {record}, made at {}, was not emitted: {known:?} was",
                shown.version, shown.at
            ));
        }
    }
    wrong
}

fn events(body: &Value) -> impl Iterator<Item = &Value> {
    body["message"]["events"].as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

/// The version of a record in the sandbox.
pub fn version_of(record: &Value, subject: Subject) -> u64 {
    let word = record[subject.member].as_str().unwrap_or_default();
    word.strip_prefix("edit ").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The version of the record of an event in a notification. The records have the order of the events: a record with two
/// events appears twice.
pub fn version_in(body: &Value, subject: Subject, event: usize) -> u64 {
    let raws = body["message"]["raw"].as_object().into_iter().flat_map(|raw| raw.values());
    let record = raws.flat_map(|value| value.as_array().into_iter().flatten()).nth(event);
    record.map_or(0, |raw| version_of(raw, subject))
}
