//! The simulated network: outbound HTTP to the sandbox vendors and to callback endpoints. The fault plan and the random
//! numbers decide what happens to a request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::secret::Secret;
use domain::signature::elements_signature;
use flow::ports::{Audience, Bounds, Exchange, Http, HttpError};
use tower::ServiceExt;

use super::cloud::Sim;
use super::plan::{EndpointBehavior, FaultPlan};

/// The prefix of callback URLs. The number of the callback follows.
pub const CALLBACK: &str = "http://callback.test/";
/// The key that signs the notifications.
pub const SIGNATURE_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// The start, the end and the behavior of a period.
pub type BehaviorPeriod = (DateTime<Utc>, DateTime<Utc>, EndpointBehavior);

/// The state of the endpoints and of the network over time.
#[derive(Debug, Clone, Default)]
pub struct NetworkConditions {
    /// By callback: the periods with a behavior.
    pub behaviors: Vec<Vec<BehaviorPeriod>>,
    /// The start and the end of an outage of all vendors.
    pub vendors_down: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Outbound HTTP of the simulation.
pub struct SimHttp {
    sim: Arc<Sim>,
    vendors: Router,
    conditions: Mutex<NetworkConditions>,
    read: AtomicBool,
}

impl SimHttp {
    /// Makes a network without faults.
    pub fn new(sim: &Arc<Sim>, vendors: Router) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), vendors, conditions: Mutex::default(), read: AtomicBool::new(false) })
    }

    /// Sets the conditions from now on.
    pub fn set_conditions(&self, conditions: NetworkConditions) {
        *self.conditions.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
    }

    /// Answers true if something was read at a vendor since the last call.
    pub fn was_read(&self) -> bool {
        self.read.swap(false, Ordering::Relaxed)
    }

    fn behavior(&self, callback: usize) -> EndpointBehavior {
        let (conditions, now) =
            (self.conditions.lock().unwrap_or_else(PoisonError::into_inner), self.sim.scheduler.now());
        let behaviors = conditions.behaviors.get(callback).map(Vec::as_slice).unwrap_or_default();
        behaviors
            .iter()
            .find(|(from, until, _)| *from <= now && now < *until)
            .map_or(EndpointBehavior::Accepts, |(.., behavior)| *behavior)
    }

    async fn wait(&self, least_ms: u64, most_ms: u64) {
        let time = self.sim.scheduler.draw(|rng| rng.between(least_ms, most_ms));
        self.sim.scheduler.sleep(Duration::from_millis(time)).await;
    }

    async fn vendor(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        let (scheduler, rates) = (&self.sim.scheduler, self.sim.rates());
        let down = self.conditions.lock().unwrap_or_else(PoisonError::into_inner).vendors_down;
        let down = down.is_some_and(|(from, until)| from <= scheduler.now() && scheduler.now() < until);
        if down || scheduler.chance(rates.unreachable) {
            scheduler.note(format_args!("vendor: unreachable for {}", request.uri()));
            return Err(HttpError::Connect("simulated".into()));
        }
        self.wait(2, 60).await;
        let hangs = scheduler.chance(rates.hangs);
        if hangs && scheduler.chance(500) {
            let time = scheduler.draw(|rng| Duration::from_millis(rng.between(500, 20_000)));
            scheduler.note(format_args!("vendor: takes {} ms for {}", time.as_millis(), request.uri()));
            scheduler.sleep(time.min(bounds.deadline)).await;
        } else if hangs {
            scheduler.note(format_args!("vendor: hangs on {}", request.uri()));
            scheduler.sleep(bounds.deadline).await;
            return Err(HttpError::Deadline(bounds.deadline));
        }
        let asked = format!("{} {}", request.method(), request.uri());
        let response = self.vendors.clone().oneshot(request.map(Body::from)).await.expect("routers answer");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        scheduler.note(format_args!(
            "vendor: {} to {asked}: {}",
            parts.status,
            body.as_ref().map_or("breaks off".into(), |body| format!("{} bytes", body.len()))
        ));
        // The sandbox cuts a connection by a body that breaks off.
        let body = body.map_err(|error| HttpError::Broken(error.to_string()))?;
        self.read.store(true, Ordering::Relaxed);
        self.wait(1, 20).await;
        if scheduler.chance(rates.answer_lost) {
            scheduler.note(format_args!("vendor: the answer is lost"));
            return Err(HttpError::Broken("simulated".into()));
        }
        let truncated = body.len() > bounds.largest_body;
        let body = body.slice(..body.len().min(bounds.largest_body));
        Ok(Exchange { response: http::Response::from_parts(parts, body), truncated, elapsed: Duration::ZERO })
    }

    async fn callback(
        &self,
        number: usize,
        request: http::Request<Bytes>,
        bounds: Bounds,
    ) -> Result<Exchange, HttpError> {
        let scheduler = &self.sim.scheduler;
        let mut behavior = self.behavior(number);
        if behavior == EndpointBehavior::Varies {
            let behaviors = [
                EndpointBehavior::Accepts,
                EndpointBehavior::Refuses,
                EndpointBehavior::Answers(500, None),
                EndpointBehavior::AcceptsAndHangs,
                EndpointBehavior::Slow(3),
                EndpointBehavior::Hangs,
            ];
            behavior = scheduler.draw(|rng| *rng.pick(&behaviors));
        }
        let delivery = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or("?").to_owned();
        scheduler.note(format_args!("callback {number}: {behavior:?} to {delivery}"));
        self.sim.oracle().observe_attempt(number, &delivery, scheduler.now());
        if behavior == EndpointBehavior::Refuses {
            return Err(HttpError::Connect("simulated".into()));
        }
        self.wait(1, 40).await;
        let takes_and_hangs = behavior == EndpointBehavior::AcceptsAndHangs;
        let (status, retry_after) = match behavior {
            EndpointBehavior::Hangs => (0, None),
            EndpointBehavior::Answers(status, retry_after) => (status, retry_after),
            _ => (200, None),
        };
        if let EndpointBehavior::Slow(seconds) = behavior {
            scheduler.sleep(Duration::from_secs(seconds).min(bounds.deadline)).await;
        }
        if status > 0 {
            let signature = request.headers().get("elements-webhook-signature").and_then(|it| it.to_str().ok());
            let right = elements_signature(&Secret::new(SIGNATURE_KEY), request.body());
            let signed = signature == Some(right.as_str());
            let accepted = (200..300).contains(&status) && !takes_and_hangs;
            self.sim.oracle().observe_receipt(number, &delivery, request.body(), signed, accepted);
        }
        if takes_and_hangs || status == 0 {
            scheduler.sleep(bounds.deadline).await;
            return Err(HttpError::Deadline(bounds.deadline));
        }
        self.wait(1, 20).await;
        scheduler.gate().await;
        let mut response = http::Response::builder().status(status);
        if let Some(retry_after) = retry_after {
            response = response.header("retry-after", retry_after.to_string());
        }
        let response = response.body(Bytes::new()).expect("a response");
        Ok(Exchange { response, truncated: false, elapsed: Duration::ZERO })
    }
}

#[async_trait]
impl Http for SimHttp {
    async fn send(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        self.sim.scheduler.gate().await;
        match bounds.audience {
            Audience::Vendor => self.vendor(request, bounds).await,
            Audience::Callback => {
                let uri = request.uri().to_string();
                let number = uri.strip_prefix(CALLBACK).and_then(|number| number.parse().ok());
                self.callback(number.expect("callbacks are numbered"), request, bounds).await
            }
        }
    }
}

/// The conditions of a plan whose faults start at `begins`.
pub fn network_conditions(plan: &FaultPlan, begins: DateTime<Utc>) -> NetworkConditions {
    let at = |seconds: u64| begins + TimeDelta::seconds(seconds as i64);
    NetworkConditions {
        behaviors: plan
            .behaviors
            .iter()
            .map(|behaviors| {
                behaviors.iter().map(|(from, until, behavior)| (at(*from), at(*until), *behavior)).collect()
            })
            .collect(),
        vendors_down: plan.vendor_down.map(|(from, until)| (at(from * 60), at(until * 60))),
    }
}
