//! What happened at the vendors, what was committed of it, what arrived; and what must hold between the three.
//!
//! The ledger believes nobody: it reads the changes from those who make them, what was told from the bodies that were
//! committed, and what arrived from the bytes that were posted.
//!
//! What is guaranteed of a change, and therefore checked:
//!
//! - At every commit that moves coverage to `T`: of each record, the newest version that every list showed by `T` is
//!   told, or a newer one is. Where pages go by offset, a row that slips between two pages is told within the overlap of
//!   a quarter of an hour.
//! - Deletions and edits that no stamp tells of: by the next complete listing (Google's feed: as any other change).
//! - In the end, a consumer that keeps the event of the highest sequence of each record holds the vendor's state.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use flow::ports::{Key, Write};
use serde_json::Value;

use super::plan::{Mood, Plan, Subject};

/// Within so long an offset listing is sure to have found what slipped between two of its pages.
const OVERLAP: TimeDelta = TimeDelta::minutes(15);
/// An attempt may be under way for so long after it was admitted.
const UNDER_WAY: TimeDelta = TimeDelta::seconds(120);

/// What a user of a vendor did to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Made it.
    Created,
    /// Changed it.
    Updated,
    /// Changed it so that no stamp tells.
    Silent,
    /// Deleted it.
    Deleted,
}

#[derive(Debug, Clone)]
struct Change {
    at: DateTime<Utc>,
    version: u64,
    deed: Deed,
}

#[derive(Debug, Clone)]
struct ToldEvent {
    sequence: u64,
    kind: String,
    version: u64,
}

/// An instance as the ledger knows it.
#[derive(Debug)]
struct Watched {
    subject: Subject,
    callback: usize,
    baseline: BTreeMap<String, u64>,
    told: BTreeMap<String, Vec<ToldEvent>>,
    /// What a consumer holds: record to the highest sequence, and the version or that it is gone.
    held: BTreeMap<String, (u64, Option<u64>)>,
    last_poll: Option<DateTime<Utc>>,
    covered: Option<DateTime<Utc>>,
}

#[derive(Debug, Default)]
struct Row {
    instance: u64,
    sk: String,
    records: BTreeSet<String>,
    status: String,
    failing_since: Option<DateTime<Utc>>,
    accepted: bool,
    body: Bytes,
}

/// How much happened: for whoever wants to know what was tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes at vendors.
    pub changes: u64,
    /// Events committed.
    pub events: u64,
    /// Attempts at callbacks.
    pub attempts: u64,
    /// Commits that moved coverage, each checked.
    pub commits: u64,
}

impl Counts {
    /// Adds another world's.
    pub fn add(&mut self, other: Self) {
        self.changes += other.changes;
        self.events += other.events;
        self.attempts += other.attempts;
        self.commits += other.commits;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Ledger {
    /// The right coverage cannot be told when clocks are wrong, nor the order when people send again.
    clocks_are_right: bool,
    people: bool,
    page_shift: bool,
    lateness: TimeDelta,
    changes: BTreeMap<(&'static str, String), Vec<Change>>,
    instances: BTreeMap<u64, Watched>,
    ids: BTreeMap<String, (u64, String, u64)>,
    facts: BTreeMap<(u64, String, u64), String>,
    rows: BTreeMap<String, Row>,
    attempts: Vec<(usize, DateTime<Utc>)>,
    counts: Counts,
    violations: Vec<String>,
}

impl Ledger {
    /// An empty one, for a world of this plan.
    pub fn new(plan: &Plan) -> Self {
        Self {
            clocks_are_right: plan.clocks.is_none(),
            people: plan.people,
            page_shift: plan.vendor.page_shift != 0,
            lateness: plan.lateness,
            changes: BTreeMap::new(),
            instances: BTreeMap::new(),
            ids: BTreeMap::new(),
            facts: BTreeMap::new(),
            rows: BTreeMap::new(),
            attempts: Vec::new(),
            counts: Counts::default(),
            violations: Vec::new(),
        }
    }

    /// An instance was made, while these versions of records existed.
    pub fn watch(&mut self, instance: u64, subject: Subject, callback: usize, baseline: BTreeMap<String, u64>) {
        let held = baseline.iter().map(|(record, version)| (record.clone(), (0, Some(*version)))).collect();
        let (told, last_poll, covered) = (BTreeMap::new(), None, None);
        self.instances.insert(instance, Watched { subject, callback, baseline, told, held, last_poll, covered });
    }

    /// Somebody did something at a vendor.
    pub fn changed(&mut self, subject: Subject, record: &str, deed: Deed, version: u64, at: DateTime<Utc>) {
        self.counts.changes += 1;
        let changes = self.changes.entry((subject.element, record.to_owned())).or_default();
        changes.push(Change { at, version, deed });
    }

    /// Something does not hold.
    pub fn violated(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    /// What does not hold.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// How much happened.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When the instance was last polled to the end.
    pub fn last_poll(&self, instance: u64) -> Option<DateTime<Utc>> {
        self.instances.get(&instance)?.last_poll
    }

    // ------------------------------------------------------------ what is committed

    /// The store carried these writes out, together.
    pub fn committed(&mut self, writes: &[Write], now: DateTime<Utc>) {
        let put = |write: &Write| match write {
            Write::Put { item, .. } => Some((item.key.clone(), item.body.clone())),
            _ => None,
        };
        let puts: Vec<_> = writes.iter().filter_map(put).collect();
        let of_instance = |pk: &str| pk.strip_prefix("INST#").and_then(|id| id.parse::<u64>().ok());
        for (key, body) in &puts {
            let Some(instance) = of_instance(&key.pk) else { continue };
            if let Some(delivery) = key.sk.strip_prefix("BODY#").and_then(|rest| rest.split('#').next()) {
                self.told(instance, delivery, body);
            } else if key.sk.starts_with("DLV#") {
                self.row(instance, &key.sk, body, now);
                self.inline(instance, key, body);
            }
        }
        for (key, body) in &puts {
            if let (Some(instance), true) = (of_instance(&key.pk), key.sk.starts_with("RES#")) {
                self.state(instance, body, now);
            }
        }
    }

    /// A row that holds its body, which no later write of it may change.
    fn inline(&mut self, instance: u64, key: &Key, row: &Bytes) {
        #[derive(serde::Deserialize)]
        struct Holder {
            id: String,
            body: Option<Box<serde_json::value::RawValue>>,
        }
        let Ok(Holder { id, body: Some(body) }) = serde_json::from_slice(row) else { return };
        let body = Bytes::copy_from_slice(body.get().as_bytes());
        match self.rows.get(&id).map(|row| row.body.clone()).filter(|known| !known.is_empty()) {
            None => self.told(instance, &id, &body),
            Some(known) if known != body => self.violated(format!("the body in {} was changed", key.sk)),
            Some(_) => {}
        }
    }

    fn told(&mut self, instance: u64, delivery: &str, body: &Bytes) {
        let Some(subject) = self.instances.get(&instance).map(|watched| watched.subject) else { return };
        self.rows.entry(delivery.to_owned()).or_default().body = body.clone();
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        for (place, event) in events(&json).enumerate() {
            self.counts.events += 1;
            let (id, record, sequence) = (text(&event["id"]), text(&event["objectId"]), number(&event["sequence"]));
            let kind = text(&event["eventType"]);
            let version = version_in(&json, subject, place);
            let fact = (instance, record.clone(), sequence);
            if let Some(other) = self.ids.insert(id.clone(), fact.clone()) {
                self.violated(format!("the id {id} was committed twice: for {other:?} and for {fact:?}"));
            }
            if let Some(other) = self.facts.insert(fact.clone(), id.clone()) {
                self.violated(format!("{fact:?} was committed under two ids: {other} and {id}"));
            }
            self.judge(instance, subject, &record, ToldEvent { sequence, kind, version });
        }
    }

    /// An event must follow from what was told of its record before and from what happened to it.
    fn judge(&mut self, instance: u64, subject: Subject, record: &str, event: ToldEvent) {
        let changes = self.changes.get(&(subject.element, record.to_owned()));
        let deleted = changes.is_some_and(|changes| changes.iter().any(|change| change.deed == Deed::Deleted));
        let watched = self.instances.get_mut(&instance).expect("only of instances that are watched");
        let baseline = watched.baseline.get(record).copied();
        let told = watched.told.entry(record.to_owned()).or_default();
        let name = format!("{} {record} of {}", event.kind, subject.resource);
        let mut wrong = Vec::new();
        if let Some(last) = told.last() {
            if event.sequence <= last.sequence {
                wrong.push(format!("{name}: sequence {} after {}", event.sequence, last.sequence));
            }
            if last.kind == "DELETED" {
                wrong.push(format!("{name} after it was told to be deleted"));
            }
        }
        let known = told.last().map(|last| last.version).or(baseline);
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
        told.push(ToldEvent { version, ..event });
        self.violations.append(&mut wrong);
    }

    fn row(&mut self, instance: u64, sk: &str, body: &Bytes, now: DateTime<Utc>) {
        if !self.instances.contains_key(&instance) {
            return;
        }
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let row = self.rows.entry(text(&json["id"])).or_default();
        (row.instance, row.sk, row.status) = (instance, sk.to_owned(), text(&json["status"]));
        if row.records.is_empty() {
            row.records = json["events"].as_array().into_iter().flatten().map(|it| text(&it["objectId"])).collect();
        }
        let failing = number(&json["attemptsMade"]) > 0 && matches!(row.status.as_str(), "retry" | "waiting");
        row.failing_since = if failing { row.failing_since.or(Some(now)) } else { None };
    }

    /// A state was committed: what it says to be covered must be told.
    fn state(&mut self, instance: u64, body: &Bytes, now: DateTime<Utc>) {
        let Some(watched) = self.instances.get_mut(&instance) else { return };
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let last = json["last"]["at"].as_str().and_then(|at| at.parse().ok());
        watched.last_poll = watched.last_poll.max(last);
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
        if watched.covered.is_some_and(|covered| until < covered) {
            wrong.push(format!("coverage went back from {:?} to {until}", watched.covered));
        }
        if self.clocks_are_right && until > now {
            wrong.push(format!("coverage up to {until} is ahead of the clock at {now}"));
        }
        if watched.covered != Some(until) {
            self.counts.commits += 1;
            watched.covered = Some(until);
            if self.clocks_are_right {
                wrong.extend(untold(watched, &self.changes, until, self.lateness, self.page_shift));
            }
        }
        self.violations.append(&mut wrong);
    }

    // ------------------------------------------------------------ what arrives

    /// A notification is on its way to a callback.
    pub fn attempted(&mut self, callback: usize, delivery: &str, now: DateTime<Utc>) {
        self.attempts.push((callback, now));
        self.counts.attempts += 1;
        if self.people || !self.clocks_are_right {
            return;
        }
        let Some(row) = self.rows.get(delivery) else { return };
        let overtaken = self.rows.iter().find(|(_, other)| {
            other.instance == row.instance
                && other.sk < row.sk
                && !other.accepted
                && other.failing_since.is_some_and(|since| since + UNDER_WAY < now)
                && other.records.iter().any(|record| row.records.contains(record))
        });
        if let Some((older, _)) = overtaken {
            let wrong = format!("{delivery} goes ahead of {older}, which tells of the same record and has failed");
            self.violated(wrong);
        }
    }

    /// A notification arrived, and the callback will say that it has it, or will not.
    pub fn received(&mut self, callback: usize, delivery: &str, body: &Bytes, signed: bool, accepted: bool) {
        if !signed {
            self.violated(format!("{delivery} is not signed with the callback's key"));
        }
        let Some(row) = self.rows.get_mut(delivery) else {
            self.violated(format!("{delivery} arrived and was never committed"));
            return;
        };
        row.accepted |= accepted;
        if row.body != *body {
            self.violated(format!("{delivery} arrived with other bytes than were committed"));
            return;
        }
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(watched) = self.instances.get_mut(&number(&json["message"]["instanceId"])) else { return };
        if watched.callback != callback {
            self.violations.push(format!("{delivery} arrived at callback {callback}, which is another's"));
            return;
        }
        if !accepted {
            return;
        }
        for (place, event) in events(&json).enumerate() {
            let (record, sequence) = (text(&event["objectId"]), number(&event["sequence"]));
            let held = watched.held.entry(record.clone()).or_insert((0, None));
            if sequence >= held.0 {
                let gone = event["eventType"] == "DELETED";
                *held = (sequence, (!gone).then(|| version_in(&json, watched.subject, place)));
            }
        }
    }

    // ------------------------------------------------------------ the end

    /// Everything is quiet: what must hold now. `live`: the vendors' records, by element and collection.
    pub fn conclude(&mut self, instance: u64, live: &BTreeMap<String, u64>) {
        let Some(watched) = self.instances.get(&instance) else { return };
        let held: BTreeMap<String, u64> = watched
            .held
            .iter()
            .filter_map(|(record, (_, version))| version.map(|version| (record.clone(), version)))
            .collect();
        let mut wrong = Vec::new();
        for record in held.keys().chain(live.keys()).collect::<BTreeSet<_>>() {
            let (held, live) = (held.get(record), live.get(record));
            if held != live {
                wrong.push(format!(
                    "{record} of {} is {live:?} at the vendor and {held:?} for whoever kept every event",
                    watched.subject.resource
                ));
            }
        }
        for (id, row) in &self.rows {
            if row.instance == instance && row.status != "delivered" {
                wrong.push(format!("the delivery {id} is still {:?}", row.status));
            }
        }
        self.violations.append(&mut wrong);
    }

    /// A callback that is dead for a while may be asked so often: a few times until that is clear, and then by probes.
    pub fn judge_calls(&mut self, callback: usize, from: DateTime<Utc>, until: DateTime<Utc>, mood: Mood, most: u64) {
        let count =
            self.attempts.iter().filter(|(to, at)| *to == callback && from <= *at && *at < until).count() as u64;
        if count > most {
            self.violated(format!(
                "callback {callback} was {mood:?} for {} s and was asked {count} times, {most} at most",
                (until - from).num_seconds()
            ));
        }
    }
}

/// Records of which a listed change up to then is not told.
fn untold(
    watched: &Watched,
    changes: &BTreeMap<(&'static str, String), Vec<Change>>,
    until: DateTime<Utc>,
    lateness: TimeDelta,
    page_shift: bool,
) -> Vec<String> {
    let subject = watched.subject;
    if subject.pages_by_offset && page_shift {
        return Vec::new();
    }
    let grace = if subject.pages_by_offset { OVERLAP } else { TimeDelta::zero() };
    let mut wrong = Vec::new();
    for ((_, record), changes) in changes.iter().filter(|((element, _), _)| *element == subject.element) {
        // Google's feed tells of a record when its newest change has reached it, and of nothing before.
        if subject.deletions_show_at_once && changes.iter().any(|change| change.at + lateness > until) {
            continue;
        }
        let told = watched.told.get(record).and_then(|told| told.last());
        let known = told.map(|told| told.version).or(watched.baseline.get(record).copied());
        if let Some(deletion) = changes.iter().find(|change| change.deed == Deed::Deleted) {
            let shown = subject.deletions_show_at_once && deletion.at + lateness <= until;
            if shown && known.is_some() && told.is_none_or(|told| told.kind != "DELETED") {
                wrong.push(format!("covered up to {until}, but {record} was deleted at {}", deletion.at));
            }
            continue;
        }
        let shown = changes.iter().rfind(|it| it.deed != Deed::Silent && it.at + lateness + grace <= until);
        if let Some(shown) = shown.filter(|shown| known.is_none_or(|known| known < shown.version)) {
            wrong.push(format!(
                "covered up to {until}, but version {} of {record}, made at {}, is not told: {known:?} is",
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

/// The version of a record as the sandbox shows it.
pub fn version_of(record: &Value, subject: Subject) -> u64 {
    let word = record[subject.member].as_str().unwrap_or_default();
    word.strip_prefix("edit ").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The version of a record as an event of a notification tells of it. Records stand there in the order of the events: a
/// record of which two events tell stands there twice.
pub fn version_in(body: &Value, subject: Subject, event: usize) -> u64 {
    let raws = body["message"]["raw"].as_object().into_iter().flat_map(|raw| raw.values());
    let record = raws.flat_map(|value| value.as_array().into_iter().flatten()).nth(event);
    record.map_or(0, |raw| version_of(raw, subject))
}
