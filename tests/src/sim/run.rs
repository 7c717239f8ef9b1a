//! One simulated world from its beginning to its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use axum::Router;
use axum::body::Body;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use elements::Bases;
use flow::ports::{Ambient, Item, Message, Ports, QueueName, Store};
use flow::principal::{NewOrganization, create_organization};
use flow::service::Service;
use flow::testing::{TransparentVault, catalog};
use http::StatusCode;
use instances::ApiState;
use local::sandbox::{self, Faults, Sandbox};
use poller::Poller;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::clockwork::Clockwork;
use super::cloud::{Machine, Sim, SimQueue, SimStore};
use super::ledger::{Counts, Deed, Ledger, version_of};
use super::outside::{CALLBACK, SIGNATURE_KEY, SimHttp, Weather, weather};
use super::plan::{Account, Mood, Plan, Rates, Subject};
use crate::world::{id_of, seed};

/// What a world came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Which one.
    pub seed: u64,
    /// Of all that happened: the same seed has the same.
    pub hash: u64,
    /// What did not hold; nothing in a good world.
    pub violations: Vec<String>,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
    /// How much happened.
    pub counts: Counts,
    /// Handlers that died at a gate.
    pub crashes: u64,
    /// Simulated time.
    pub lasted: Duration,
}

/// Simulates the world of a seed. With `trace`, what happened is told.
pub fn simulate(seed: u64, trace: bool) -> Outcome {
    let plan = Plan::of(seed);
    let mut world = World::new(seed, plan, trace);
    world.live();
    let (hash, _) = world.sim.works.hash();
    let lasted = (world.sim.works.now() - world.plan.begins).to_std().unwrap_or_default();
    let (violations, counts) = {
        let ledger = world.sim.ledger();
        (ledger.violations().to_vec(), ledger.counts())
    };
    Outcome { seed, hash, violations, trace: world.sim.works.take_trace(), counts, crashes: world.crashes, lasted }
}

/// Something that runs: one invocation of a function.
struct Activity {
    number: u64,
    what: String,
    future: Pin<Box<dyn Future<Output = ()>>>,
    ready: Arc<Ready>,
    /// It is ended from outside then.
    deadline: DateTime<Utc>,
    machine: usize,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What happens at a time of its own.
#[derive(Debug, Clone)]
enum Event {
    /// The schedule fires for this instant.
    Schedule(DateTime<Utc>),
    /// Somebody works at a vendor.
    Change,
    /// Somebody uses the API.
    Person,
    /// A machine's clock jumps.
    Jump,
}

const DISPATCHER: usize = 0;
const API: usize = 1;
const POLLERS: usize = 2;

struct World {
    plan: Plan,
    sim: Arc<Sim>,
    store: Arc<SimStore>,
    queue: Arc<SimQueue>,
    http: Arc<SimHttp>,
    machines: Vec<Arc<Machine>>,
    services: Vec<Service>,
    pollers: Vec<Rc<Poller>>,
    api: Router,
    organization: Option<NewOrganization>,
    sandbox: Sandbox,
    activities: Vec<Activity>,
    calendar: BTreeMap<(DateTime<Utc>, u64), Event>,
    next: u64,
    version: u64,
    instances: Vec<(u64, Account)>,
    /// Of each subject, the records that were not deleted.
    records: BTreeMap<&'static str, Vec<String>>,
    crashes: u64,
}

impl World {
    fn new(seed: u64, plan: Plan, trace: bool) -> Self {
        let works = Clockwork::new(plan.begins, seed, trace);
        let sim = Sim::new(Arc::clone(&works), Ledger::new(&plan));
        let (store, queue) = (SimStore::new(&sim), SimQueue::new(&sim, plan.trusted_queue));
        let clock = Arc::clone(&works);
        let sandbox = Sandbox::new(Arc::new(move || clock.now()), seed);
        let http = SimHttp::new(&sim, sandbox::router(sandbox.clone()));
        let machines: Vec<_> = (0..POLLERS + plan.pollers).map(|_| Machine::new(&sim)).collect();
        let catalog = catalog();
        let mut bases = Bases::default();
        for element in catalog.iter() {
            let base = format!("http://vendor.test/sandbox/{}", element.key);
            bases.overrides.insert(element.key.clone(), base.parse().expect("a URL"));
        }
        let bases = Arc::new(bases);
        let service = |machine: &Arc<Machine>| {
            let ports = Ports {
                store: store.clone() as Arc<dyn Store>,
                queue: queue.clone(),
                http: http.clone(),
                vault: Arc::new(TransparentVault),
                ambient: machine.clone(),
            };
            Service::new(ports, Arc::clone(&catalog), Arc::clone(&bases))
        };
        let services: Vec<Service> = machines.iter().map(service).collect();
        let pollers = services[POLLERS..].iter().map(|service| Rc::new(Poller::new(service.clone()))).collect();
        let api = instances::router(ApiState { service: services[API].clone() });
        Self {
            plan,
            sim,
            store,
            queue,
            http,
            machines,
            services,
            pollers,
            api,
            organization: None,
            sandbox,
            activities: Vec::new(),
            calendar: BTreeMap::new(),
            next: 0,
            version: 0,
            instances: Vec::new(),
            records: BTreeMap::new(),
            crashes: 0,
        }
    }

    fn live(&mut self) {
        self.begin();
        if !self.is_broken() {
            self.suffer();
        }
        if !self.is_broken() {
            self.recover();
        }
    }

    fn is_broken(&self) -> bool {
        !self.sim.ledger().violations().is_empty()
    }

    // ------------------------------------------------------------ the beginning

    /// Records that are there already, and the instances that watch them.
    fn begin(&mut self) {
        let ports = self.services[API].ports.clone();
        let made =
            self.alone(async move { create_organization(&ports, "Acme").await.expect("an empty table takes it") });
        self.organization = Some(made);
        for account in self.plan.accounts.clone() {
            let subject = account.subject;
            if !self.records.contains_key(subject.element) {
                self.records.insert(subject.element, Vec::new());
                self.sandbox.set_faults(subject.element, self.manners()).expect("a vendor");
                for _ in 0..self.sim.works.roll(|dice| dice.below(5)) {
                    let record = self.sandbox.create(subject.element, subject.collection, json!({})).expect("a record");
                    let records = self.records.entry(subject.element).or_default();
                    records.push(id_of(&record[subject.id]));
                }
            }
            let mut body = seed(subject.element);
            let configuration = &mut body["configuration"];
            configuration["event.notification.callback.url"] = json!(format!("{CALLBACK}{}", account.callback));
            configuration["event.notification.signature.key"] = json!(SIGNATURE_KEY);
            configuration["event.poller.refresh_interval"] = json!(account.interval.to_string());
            let polled = &mut configuration["event.poller.configuration"];
            let resource = polled.get(subject.resource).filter(|it| it.is_object()).cloned();
            let mut resource = resource.unwrap_or_else(|| json!({}));
            resource["pageSize"] = json!(account.page_size);
            *polled = json!({ subject.resource: resource });
            let (status, answer) = self.call("POST", "/instances".to_owned(), Some(body));
            let Some(id) = answer["id"].as_u64().filter(|_| status == StatusCode::OK) else {
                self.sim.ledger().violated(format!("an instance could not be made: {status} {answer}"));
                return;
            };
            let baseline = self.vendors_records(subject);
            self.sim.ledger().watch(id, subject, account.callback, baseline);
            self.sim.works.note(format_args!("instance {id} of {account:?}"));
            self.instances.push((id, account));
        }
    }

    /// How vendors are in peace, too.
    fn manners(&self) -> Faults {
        Faults { clock_skew_s: self.plan.vendor.clock_skew_s, ..Faults::default() }
    }

    fn vendors_records(&self, subject: Subject) -> BTreeMap<String, u64> {
        let records = self.sandbox.list(subject.element, subject.collection).expect("a collection");
        records.iter().map(|record| (id_of(&record[subject.id]), version_of(record, subject))).collect()
    }

    // ------------------------------------------------------------ the middle

    /// Everything that the plan has.
    fn suffer(&mut self) {
        let (begins, minutes) = (self.sim.works.now(), self.plan.minutes);
        self.sim.set_rates(self.plan.rates);
        self.http.set_weather(weather(&self.plan, begins));
        for element in self.records.keys() {
            self.sandbox.set_faults(element, self.plan.vendor.clone()).expect("a vendor");
        }
        let first = begins.duration_trunc(TimeDelta::minutes(1)).unwrap_or(begins) + TimeDelta::minutes(1);
        for minute in 0..minutes as i64 {
            let due = first + TimeDelta::minutes(minute);
            if self.sim.works.chance(self.plan.schedule_skips) {
                continue;
            }
            let late = self.sim.works.roll(|dice| dice.below(4000)) as i64;
            self.at(due + TimeDelta::milliseconds(late), Event::Schedule(due));
            if self.sim.works.chance(self.plan.schedule_repeats) {
                let late = self.sim.works.roll(|dice| dice.below(150_000)) as i64;
                self.at(due + TimeDelta::milliseconds(late), Event::Schedule(due));
            }
        }
        let mut sometimes = Vec::new();
        sometimes.extend((0..self.plan.changes).map(|_| Event::Change));
        if self.plan.people {
            sometimes.extend((0..1 + minutes / 4).map(|_| Event::Person));
        }
        if self.plan.clocks.is_some() {
            sometimes.extend((0..1 + minutes / 4).map(|_| Event::Jump));
        }
        for event in sometimes {
            let when = self.sim.works.roll(|dice| dice.below(minutes * 60_000)) as i64;
            self.at(begins + TimeDelta::milliseconds(when), event);
        }
        self.run_until(begins + TimeDelta::minutes(minutes as i64));
        self.calendar.clear();
        let pollers = self.plan.pollers as u64;
        let unclear = self.plan.rates.crash + self.plan.rates.twice + self.plan.rates.acknowledgement_lost;
        let unclear = unclear + self.plan.rates.store_busy + self.plan.rates.store_answer_lost;
        for (callback, moods) in self.plan.moods.clone().into_iter().enumerate() {
            for (from, until, mood) in moods {
                if matches!(mood, Mood::Fine | Mood::Slow(_) | Mood::Fickle) || self.plan.people {
                    continue;
                }
                let lasts = until - from;
                let clear = 12 + 4 * pollers + lasts / 240;
                let most = if unclear > 0 { 4 * clear } else { clear };
                let at = |seconds: u64| begins + TimeDelta::seconds(seconds as i64);
                self.sim.ledger().judge_calls(callback, at(from), at(until), mood, most);
            }
        }
    }

    fn at(&mut self, when: DateTime<Utc>, event: Event) {
        self.next += 1;
        self.calendar.insert((when, self.next), event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Schedule(due) => self.fire(due),
            Event::Change => self.change(),
            Event::Person => self.person(),
            Event::Jump => {
                let off = self.plan.clocks.unwrap_or_default();
                let (which, by) = self.sim.works.roll(|dice| {
                    let far = if dice.below(4) == 0 { 40 } else { 1 };
                    (dice.below(self.machines.len() as u64), dice.below(2 * off as u64) as i64 * far - off * far)
                });
                self.sim.works.note(format_args!("the clock of machine {which} is off by {by} ms"));
                self.machines[which as usize].set_off(TimeDelta::milliseconds(by));
            }
        }
    }

    fn fire(&mut self, due: DateTime<Utc>) {
        let event: EventBridgeEvent = serde_json::from_value(json!({
            "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "account": "1",
            "time": due, "region": "eu-west-1", "resources": [], "detail": {}
        }))
        .expect("the document EventBridge sends");
        let (service, sim) = (self.services[DISPATCHER].clone(), Arc::clone(&self.sim));
        self.start(format!("dispatcher at {}", due.format("%H:%M")), DISPATCHER, 50, async move {
            match dispatcher::handle(&service, event).await {
                Ok(report) => sim.works.note(format_args!("dispatched: {report:?}")),
                Err(error) => sim.works.note(format_args!("dispatch failed: {error:?}")),
            }
        });
    }

    fn change(&mut self) {
        let elements: Vec<&'static str> = self.records.keys().copied().collect();
        let element = self.sim.works.roll(|dice| *dice.pick(&elements));
        let accounts = &self.plan.accounts;
        let subject = accounts.iter().find(|it| it.subject.element == element).expect("it is watched").subject;
        self.version += 1;
        let version = self.version;
        let value = json!({ subject.member: format!("edit {version}") });
        let records = self.records.get_mut(element).expect("it is watched");
        let (deed, which) = self.sim.works.roll(|dice| {
            let deeds = [Deed::Created, Deed::Created, Deed::Updated, Deed::Updated, Deed::Updated, Deed::Deleted];
            let silent = subject.silent_edits_show && dice.below(8) == 0;
            let deed = if silent { Deed::Silent } else { *dice.pick(&deeds) };
            (if records.is_empty() { Deed::Created } else { deed }, dice.below(records.len() as u64) as usize)
        });
        let collection = subject.collection;
        let record = match deed {
            Deed::Created => {
                let record = self.sandbox.create(element, collection, value).expect("a record");
                records.push(id_of(&record[subject.id]));
                records[records.len() - 1].clone()
            }
            Deed::Updated => {
                self.sandbox.update(element, collection, &records[which], value).expect("it is there");
                records[which].clone()
            }
            Deed::Silent => {
                self.sandbox.edit_silently(element, collection, &records[which], value).expect("it is there");
                records[which].clone()
            }
            Deed::Deleted => {
                let record = records.swap_remove(which);
                self.sandbox.delete(element, collection, &record).expect("it is there");
                record
            }
        };
        self.sim.works.note(format_args!("user: {deed:?} {element} {record} as version {version}"));
        self.sim.ledger().changed(subject, &record, deed, version, self.sim.works.now());
    }

    fn person(&mut self) {
        let (id, account) = self.sim.works.roll(|dice| dice.pick(&self.instances).clone());
        let resource = account.subject.resource.replace('/', "%2F");
        let what = self.sim.works.roll(|dice| dice.below(8));
        let (method, path, body) = match what {
            0 => ("DELETE", format!("/instances/{id}/enabled"), None),
            1 | 2 => ("PUT", format!("/instances/{id}/enabled"), None),
            3 => ("POST", format!("/instances/{id}/poll?resource={resource}&sweep=true"), None),
            4 | 5 => ("POST", format!("/instances/{id}/poll?resource={resource}"), None),
            6 => ("PUT", format!("/instances/{id}/deliveries"), None),
            _ => {
                let interval = self.sim.works.roll(|dice| dice.between(1, 5));
                let path = format!("/instances/{id}/configuration/event.poller.refresh_interval");
                ("PATCH", path, Some(json!({ "propertyValue": interval.to_string() })))
            }
        };
        let request = self.request(method, &path, body);
        let (api, sim) = (self.api.clone(), Arc::clone(&self.sim));
        self.start(format!("person: {method} {path}"), API, 29, async move {
            let (status, answer) = answered(api, request).await;
            sim.works.note(format_args!("person: {method} {path} was answered {status} {answer}"));
        });
    }

    // ------------------------------------------------------------ the end

    /// Nothing goes wrong any more, whatever was switched off is switched on, and time goes on until it is quiet.
    fn recover(&mut self) {
        self.sim.works.note(format_args!("from here on nothing goes wrong"));
        self.sim.set_rates(Rates::default());
        self.http.set_weather(Weather::default());
        for element in self.records.keys() {
            self.sandbox.set_faults(element, self.manners()).expect("a vendor");
        }
        self.machines.iter().for_each(|machine| machine.set_off(TimeDelta::zero()));
        let calm = self.sim.works.now();
        // What was under way ends, or is ended by its deadline.
        self.run_until(calm + TimeDelta::seconds(90) + self.plan.lateness);
        for (id, _) in self.instances.clone() {
            if self.plan.people {
                let (status, answer) = self.call("PUT", format!("/instances/{id}/enabled"), None);
                if !status.is_success() {
                    self.sim.ledger().violated(format!("the instance cannot be enabled: {status} {answer}"));
                }
            }
        }
        if !self.quieten(calm) {
            return;
        }
        for (id, account) in self.instances.clone() {
            if self.needs_login(id) {
                continue;
            }
            let resource = account.subject.resource.replace('/', "%2F");
            let path = format!("/instances/{id}/poll?resource={resource}&sweep=true");
            let (mut status, mut answer) = self.call("POST", path.clone(), None);
            if answer["resources"][0]["held"].as_u64() > Some(0) {
                // Many are gone at once: somebody says that this is right.
                let held = format!("/instances/{id}/resources/{resource}/held");
                let (decided, said) = self.call("POST", held, Some(json!({ "decision": "approve" })));
                if !decided.is_success() {
                    self.sim.ledger().violated(format!("held deletions cannot be approved: {decided} {said}"));
                }
                (status, answer) = self.call("POST", path, None);
            }
            if status != StatusCode::OK || answer["outcome"] != "committed" {
                self.sim.ledger().violated(format!("the last poll of {id} came to {status} {answer}"));
            }
        }
        let swept = self.sim.works.now();
        if !self.quieten(swept) {
            return;
        }
        for (id, account) in self.instances.clone() {
            if !self.needs_login(id) {
                let live = self.vendors_records(account.subject);
                self.sim.ledger().conclude(id, &live);
            }
        }
    }

    /// The vendor took the login away, or nobody could keep what the vendor gave for it: that is said, and no more
    /// can be done. Where the vendor's faults do not include it, it is wrong.
    fn needs_login(&mut self, instance: u64) -> bool {
        let stored = self.store.table().items();
        let meta = stored.iter().find(|item| item.key.pk == format!("INST#{instance}") && item.key.sk == "META");
        let meta: Value = meta.and_then(|item| serde_json::from_slice(&item.body).ok()).unwrap_or_default();
        let needed = meta["reconnect"].is_object();
        let expires = self.plan.vendor.expire_tokens_every.is_some() || self.plan.vendor.rotate_refresh;
        if needed && !expires {
            self.sim.ledger().violated(format!("{instance} wants a new login without a reason: {}", meta["reconnect"]));
        }
        needed
    }

    /// Time goes on until there is nothing to do and everything was polled since. False: that never came.
    fn quieten(&mut self, since: DateTime<Utc>) -> bool {
        let minutes = [1, 1, 1, 1, 1, 2, 2, 5, 5, 10, 10, 20, 20, 30, 30].into_iter().chain([60; 96]);
        for minutes in minutes {
            for (id, _) in self.instances.clone() {
                // People see that a callback was disabled, or that deliveries are held, and say that it works again.
                if self.has_held_back(id) {
                    let (status, answer) = self.call("PUT", format!("/instances/{id}/deliveries"), None);
                    if !status.is_success() {
                        self.sim.ledger().violated(format!("deliveries cannot be resumed: {status} {answer}"));
                    }
                }
            }
            let now = self.sim.works.now();
            let due = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now) + TimeDelta::minutes(minutes);
            self.at(due, Event::Schedule(due));
            self.run_until(due + TimeDelta::seconds(55));
            if self.is_broken() {
                return false;
            }
            if self.is_quiet(since) {
                return true;
            }
        }
        let left = self.left(since);
        self.sim.ledger().violated(format!("it never gets quiet: {left}"));
        false
    }

    fn has_held_back(&self, instance: u64) -> bool {
        let items = self.store.table().items();
        let read = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap_or_default();
        items.iter().any(|item| {
            let row = item.key.pk == format!("INST#{instance}") && item.key.sk.starts_with("DLV#");
            let state = item.key.pk.starts_with("CALLBACK#") && item.key.sk == "STATE";
            (row && read(&item.body)["status"] == "queued") || (state && read(&item.body)["disabled"].is_object())
        })
    }

    fn is_quiet(&mut self, since: DateTime<Utc>) -> bool {
        self.left(since).is_empty()
    }

    /// What is still to be done, in words.
    fn left(&mut self, since: DateTime<Utc>) -> String {
        let mut left = Vec::new();
        left.extend(self.activities.iter().map(|activity| activity.what.clone()));
        if !self.queue.is_empty() {
            left.push(format!("a message until {:?}", self.queue.next_visible()));
        }
        let items = self.store.table().items();
        let waits =
            items.iter().filter(|item| item.key.pk.starts_with("RETRY#") || item.key.pk.starts_with("CALLBACK#"));
        left.extend(
            waits.map(|item| format!("{} {}: {}", item.key.pk, item.key.sk, String::from_utf8_lossy(&item.body))),
        );
        // What a resource's state names and nobody attempted. A name may stay for as long as the resource is not polled.
        let of = |item: &Item| serde_json::from_slice::<Value>(&item.body).unwrap_or_default();
        let named = |row: &Item| {
            let state = |item: &&Item| item.key.pk == row.key.pk && item.key.sk.starts_with("RES#");
            let names =
                |item: &Item| of(item)["handedOver"].as_array().is_some_and(|rows| rows.contains(&json!(row.key.sk)));
            items.iter().filter(state).any(names)
        };
        let rows = items.iter().filter(|item| item.key.sk.starts_with("DLV#"));
        left.extend(
            rows.filter(|row| of(row)["status"] == "created" && named(row))
                .map(|row| format!("{} is not sent", row.key.sk)),
        );
        for (id, _) in self.instances.clone() {
            let polled = self.sim.ledger().last_poll(id);
            if !self.needs_login(id) && polled.is_none_or(|polled| polled < since) {
                left.push(format!("instance {id} was polled at {polled:?} last"));
            }
        }
        left.join("; ")
    }

    // ------------------------------------------------------------ running

    /// Runs everything until an instant, or until something does not hold.
    fn run_until(&mut self, until: DateTime<Utc>) {
        while !self.is_broken() && self.turn(until) {}
    }

    /// Runs one thing to its end, and whatever else there is to do meanwhile.
    fn alone<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let there = Rc::clone(&done);
        self.start("caller".to_owned(), API, 3600, async move {
            let outcome = work.await;
            *there.borrow_mut() = Some(outcome);
        });
        let until = self.sim.works.now() + TimeDelta::hours(1);
        while done.borrow().is_none() {
            let goes_on = self.turn(until);
            assert!(goes_on || done.borrow().is_some(), "a call is never answered");
        }
        done.take().expect("it is there")
    }

    fn call(&mut self, method: &str, path: String, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.request(method, &path, body);
        let api = self.api.clone();
        self.alone(answered(api, request))
    }

    fn request(&self, method: &str, path: &str, body: Option<Value>) -> http::Request<Body> {
        let organization = self.organization.as_ref().expect("it was made first");
        let (user, secret) = (organization.user_secret.expose(), organization.organization_secret.expose());
        http::Request::builder()
            .method(method)
            .uri(format!("http://pollux.test/elements/api-v2{path}"))
            .header("authorization", format!("User {user}, Organization {secret}"))
            .header("content-type", "application/json")
            .body(body.map_or_else(Body::empty, |body| Body::from(body.to_string())))
            .expect("a request")
    }

    fn start(&mut self, what: String, machine: usize, seconds: i64, work: impl Future<Output = ()> + 'static) {
        self.next += 1;
        self.sim.works.note(format_args!("#{} {what}", self.next));
        self.activities.push(Activity {
            number: self.next,
            what,
            future: Box::pin(work),
            ready: Arc::new(Ready(AtomicBool::new(true))),
            deadline: self.sim.works.now() + TimeDelta::seconds(seconds),
            machine,
        });
    }

    /// One step of the world. False: nothing more happens until then.
    fn turn(&mut self, until: DateTime<Utc>) -> bool {
        if let Some(place) = self.activities.iter().position(|it| it.ready.0.swap(false, Ordering::Relaxed)) {
            let activity = &mut self.activities[place];
            self.sim.works.run(activity.number);
            let waker = Waker::from(Arc::clone(&activity.ready));
            if let Poll::Ready(()) = activity.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.activities.remove(place);
            }
            if self.http.was_read() && self.sim.works.chance(self.sim.rates().meanwhile) {
                self.change();
            }
            return true;
        }
        let now = self.sim.works.now();
        if let Some(event) = self.calendar.first_entry()
            && event.key().0 <= now
        {
            let event = event.remove();
            self.happen(event);
            return true;
        }
        if let Some(place) = self.activities.iter().position(|activity| activity.deadline <= now) {
            self.kill(place, "is out of time");
            return true;
        }
        if let Some(machine) = self.free_poller()
            && let Some((queue, batch)) = self.queue.receive()
        {
            self.poll(machine, queue, batch);
            return true;
        }
        if let Some((gate, number)) = self.sim.works.somebody_at_a_gate() {
            if self.sim.works.chance(self.sim.rates().crash)
                && let Some(place) = self.activities.iter().position(|activity| activity.number == number)
            {
                self.kill(place, "dies");
                return true;
            }
            let took = self.sim.works.roll(|dice| dice.below(8)) as i64;
            self.sim.works.advance_to(now + TimeDelta::milliseconds(took));
            self.sim.works.open(gate);
            return true;
        }
        let visible = self.free_poller().and_then(|_| self.queue.next_visible());
        let deadline = self.activities.iter().map(|activity| activity.deadline).min();
        let event = self.calendar.first_key_value().map(|((at, _), _)| *at);
        let next = [self.sim.works.next_timer(), visible, deadline, event].into_iter().flatten().min();
        self.sim.works.advance_to(next.unwrap_or(until).min(until));
        next.is_some_and(|next| next <= until)
    }

    fn kill(&mut self, place: usize, how: &str) {
        let activity = self.activities.remove(place);
        self.crashes += 1;
        self.sim.works.note(format_args!("#{} {how}", activity.number));
    }

    fn free_poller(&self) -> Option<usize> {
        let busy = |machine: usize| self.activities.iter().any(|activity| activity.machine == machine);
        (POLLERS..self.machines.len()).find(|machine| !busy(*machine))
    }

    fn poll(&mut self, machine: usize, queue: QueueName, batch: Vec<(u64, Message)>) {
        let mut event = SqsEvent::default();
        for (receipt, message) in &batch {
            let mut sent = SqsMessage::default();
            sent.message_id = Some(receipt.to_string());
            sent.body = Some(message.body.clone());
            event.records.push(sent);
        }
        let (poller, sim, held) =
            (Rc::clone(&self.pollers[machine - POLLERS]), Arc::clone(&self.sim), Arc::clone(&self.queue));
        let until = self.machines[machine].now() + TimeDelta::seconds(60);
        self.start(format!("poller {machine}: {} of {queue:?}", batch.len()), machine, 60, async move {
            let answer = poller.handle(event, until).await.expect("every message has an id");
            for (receipt, message) in batch {
                if answer.batch_item_failures.iter().any(|failed| failed.item_identifier == receipt.to_string()) {
                    sim.works.note(format_args!("failed, and comes again: {}", message.body));
                    continue;
                }
                sim.works.gate().await;
                if sim.works.chance(sim.rates().acknowledgement_lost) {
                    sim.works.note(format_args!("queue: does not learn that it is done: {}", message.body));
                    continue;
                }
                held.acknowledge(receipt);
            }
        });
    }
}

async fn answered(api: Router, request: http::Request<Body>) -> (StatusCode, Value) {
    let response = api.oneshot(request).await.expect("routers answer");
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    (parts.status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}
