//! One simulated run: its parts, its start, and the loop that executes it step by step.

mod faults;
mod recovery;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use axum::Router;
use axum::body::Body;
use chrono::{DateTime, TimeDelta, Utc};
use elements::Bases;
use flow::accounts::{NewOrganization, create_organization};
use flow::ports::{Message, Ports, QueueName};
use flow::service::Service;
use flow::testing::{TransparentVault, catalog};
use http::StatusCode;
use instances::ApiState;
use local::sandbox::{self, Faults, Sandbox};
use poller::Poller;
use serde_json::{Value, json};
use store::ambient::Ambient;
use store::port::Store;
use tower::ServiceExt;

use super::cloud::{Machine, Sim, SimQueue, SimStore};
use super::network::{CALLBACK, SIGNATURE_KEY, SimHttp};
use super::oracle::{Counts, Oracle, version_of};
use super::plan::{Account, FaultPlan, Subject};
use super::scheduler::Scheduler;
use crate::harness::{id_of, seed};

/// The result of a simulation.
#[derive(Debug, Clone)]
pub struct SimulationReport {
    /// The seed.
    pub seed: u64,
    /// The hash of the log. The same seed gives the same hash.
    pub hash: u64,
    /// The violations that the oracle found.
    pub violations: Vec<String>,
    /// The lines of the log, if a trace was asked for.
    pub trace: Vec<String>,
    /// The amounts of changes, commits, events and attempts.
    pub counts: Counts,
    /// The number of activities that were killed.
    pub crashes: u64,
    /// The simulated duration.
    pub lasted: Duration,
}

/// Runs the simulation of a seed. Keeps the lines of the log when `trace` is set.
pub fn simulate(seed: u64, trace: bool) -> SimulationReport {
    let plan = FaultPlan::of(seed);
    let mut run = SimulatedRun::new(seed, plan, trace);
    run.run();
    let (hash, _) = run.sim.scheduler.hash();
    let lasted = (run.sim.scheduler.now() - run.plan.begins).to_std().unwrap_or_default();
    let (violations, counts) = {
        let oracle = run.sim.oracle();
        (oracle.violations().to_vec(), oracle.counts())
    };
    SimulationReport {
        seed,
        hash,
        violations,
        trace: run.sim.scheduler.take_trace(),
        counts,
        crashes: run.crashes,
        lasted,
    }
}

/// One invocation of a function.
struct Activity {
    number: u64,
    what: String,
    future: Pin<Box<dyn Future<Output = ()>>>,
    ready: Arc<Ready>,
    /// The time at which the platform ends it.
    deadline: DateTime<Utc>,
    machine: usize,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// An event with a time of its own.
#[derive(Debug, Clone)]
enum TimedEvent {
    /// The schedule fires for this instant.
    Schedule(DateTime<Utc>),
    /// A record changes at a vendor.
    VendorChange,
    /// A user calls the API.
    ApiCall,
    /// The clock of a machine jumps.
    ClockJump,
}

const DISPATCHER: usize = 0;
const API: usize = 1;
const POLLERS: usize = 2;

/// The state of a simulated run.
struct SimulatedRun {
    plan: FaultPlan,
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
    calendar: BTreeMap<(DateTime<Utc>, u64), TimedEvent>,
    next: u64,
    version: u64,
    instances: Vec<(u64, Account)>,
    /// By element, the ids of the records that exist.
    records: BTreeMap<&'static str, Vec<String>>,
    crashes: u64,
}

impl SimulatedRun {
    fn new(seed: u64, plan: FaultPlan, trace: bool) -> Self {
        let scheduler = Scheduler::new(plan.begins, seed, trace);
        let sim = Sim::new(Arc::clone(&scheduler), Oracle::new(&plan));
        let (store, queue) = (SimStore::new(&sim), SimQueue::new(&sim, plan.trusted_queue));
        let clock = Arc::clone(&scheduler);
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

    fn run(&mut self) {
        self.set_up();
        if !self.is_broken() {
            self.run_faults();
        }
        if !self.is_broken() {
            self.recover();
        }
    }

    fn is_broken(&self) -> bool {
        !self.sim.oracle().violations().is_empty()
    }

    // ------------------------------------------------------------ start

    /// Makes the organization, the first records at the vendors, and the instances.
    fn set_up(&mut self) {
        let ports = self.services[API].ports.clone();
        let made = self.run_to_completion(async move {
            create_organization(&ports, "Acme").await.expect("an empty table takes it")
        });
        self.organization = Some(made);
        for account in self.plan.accounts.clone() {
            let subject = account.subject;
            if !self.records.contains_key(subject.element) {
                self.records.insert(subject.element, Vec::new());
                self.sandbox.set_faults(subject.element, self.vendor_behavior()).expect("a vendor");
                for _ in 0..self.sim.scheduler.draw(|rng| rng.below(5)) {
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
                self.sim.oracle().add_violation(format!("an instance could not be made: {status} {answer}"));
                return;
            };
            let baseline = self.vendors_records(subject);
            self.sim.oracle().add_instance(id, subject, account.callback, baseline);
            self.sim.scheduler.note(format_args!("instance {id} of {account:?}"));
            self.instances.push((id, account));
        }
    }

    /// The behavior of the vendors without faults. Their clock errors stay.
    fn vendor_behavior(&self) -> Faults {
        Faults { clock_skew_s: self.plan.vendor.clock_skew_s, ..Faults::default() }
    }

    fn vendors_records(&self, subject: Subject) -> BTreeMap<String, u64> {
        let records = self.sandbox.list(subject.element, subject.collection).expect("a collection");
        records.iter().map(|record| (id_of(&record[subject.id]), version_of(record, subject))).collect()
    }

    // ------------------------------------------------------------ execution

    /// Executes steps until a time, or until the oracle finds a violation.
    fn run_until(&mut self, until: DateTime<Utc>) {
        while !self.is_broken() && self.step(until) {}
    }

    /// Executes steps until `work` is done. Other activities run meanwhile.
    fn run_to_completion<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let there = Rc::clone(&done);
        self.start("caller".to_owned(), API, 3600, async move {
            let outcome = work.await;
            *there.borrow_mut() = Some(outcome);
        });
        let until = self.sim.scheduler.now() + TimeDelta::hours(1);
        while done.borrow().is_none() {
            let goes_on = self.step(until);
            assert!(goes_on || done.borrow().is_some(), "a call is never answered");
        }
        done.take().expect("it is there")
    }

    fn call(&mut self, method: &str, path: String, body: Option<Value>) -> (StatusCode, Value) {
        let request = self.request(method, &path, body);
        let api = self.api.clone();
        self.run_to_completion(answered(api, request))
    }

    fn request(&self, method: &str, path: &str, body: Option<Value>) -> http::Request<Body> {
        let organization = self.organization.as_ref().expect("set_up made it");
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
        self.sim.scheduler.note(format_args!("#{} {what}", self.next));
        self.activities.push(Activity {
            number: self.next,
            what,
            future: Box::pin(work),
            ready: Arc::new(Ready(AtomicBool::new(true))),
            deadline: self.sim.scheduler.now() + TimeDelta::seconds(seconds),
            machine,
        });
    }

    /// Executes one step. Answers false if nothing more happens until `until`.
    fn step(&mut self, until: DateTime<Utc>) -> bool {
        if let Some(place) = self.activities.iter().position(|it| it.ready.0.swap(false, Ordering::Relaxed)) {
            let activity = &mut self.activities[place];
            self.sim.scheduler.run(activity.number);
            let waker = Waker::from(Arc::clone(&activity.ready));
            if let Poll::Ready(()) = activity.future.as_mut().poll(&mut Context::from_waker(&waker)) {
                self.activities.remove(place);
            }
            if self.http.was_read() && self.sim.scheduler.chance(self.sim.rates().meanwhile) {
                self.change_record();
            }
            return true;
        }
        let now = self.sim.scheduler.now();
        if let Some(event) = self.calendar.first_entry()
            && event.key().0 <= now
        {
            let event = event.remove();
            self.handle(event);
            return true;
        }
        if let Some(place) = self.activities.iter().position(|activity| activity.deadline <= now) {
            self.kill(place, "times out");
            return true;
        }
        if let Some(machine) = self.free_poller()
            && let Some((queue, batch)) = self.queue.receive()
        {
            self.start_poller(machine, queue, batch);
            return true;
        }
        if let Some((gate, number)) = self.sim.scheduler.pick_gate() {
            if self.sim.scheduler.chance(self.sim.rates().crash)
                && let Some(place) = self.activities.iter().position(|activity| activity.number == number)
            {
                self.kill(place, "crashes");
                return true;
            }
            let took = self.sim.scheduler.draw(|rng| rng.below(8)) as i64;
            self.sim.scheduler.advance_to(now + TimeDelta::milliseconds(took));
            self.sim.scheduler.open(gate);
            return true;
        }
        let visible = self.free_poller().and_then(|_| self.queue.next_visible());
        let deadline = self.activities.iter().map(|activity| activity.deadline).min();
        let event = self.calendar.first_key_value().map(|((at, _), _)| *at);
        let next = [self.sim.scheduler.next_timer(), visible, deadline, event].into_iter().flatten().min();
        self.sim.scheduler.advance_to(next.unwrap_or(until).min(until));
        next.is_some_and(|next| next <= until)
    }

    fn kill(&mut self, place: usize, how: &str) {
        let activity = self.activities.remove(place);
        self.crashes += 1;
        self.sim.scheduler.note(format_args!("#{} {how}", activity.number));
    }

    fn free_poller(&self) -> Option<usize> {
        let busy = |machine: usize| self.activities.iter().any(|activity| activity.machine == machine);
        (POLLERS..self.machines.len()).find(|machine| !busy(*machine))
    }

    fn start_poller(&mut self, machine: usize, queue: QueueName, batch: Vec<(u64, Message)>) {
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
                    sim.scheduler.note(format_args!("failed, and is delivered again: {}", message.body));
                    continue;
                }
                sim.scheduler.gate().await;
                if sim.scheduler.chance(sim.rates().acknowledgement_lost) {
                    sim.scheduler.note(format_args!("queue: acknowledgement lost: {}", message.body));
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
