//! Vendors and callbacks of a simulated world. The vendors are the sandbox's own engine; what the network does to a
//! request is decided by the dice.

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
use super::plan::Mood;

/// Where callbacks are: the number of the callback follows.
pub const CALLBACK: &str = "http://callback.test/";
/// What their notifications are signed with.
pub const SIGNATURE_KEY: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A mood from one instant to another.
pub type Spell = (DateTime<Utc>, DateTime<Utc>, Mood);

/// What is up at the other ends.
#[derive(Debug, Clone, Default)]
pub struct Weather {
    /// By callback: moods from one instant to another.
    pub moods: Vec<Vec<Spell>>,
    /// No vendor can be reached.
    pub vendors_down: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// The outside world.
pub struct SimHttp {
    sim: Arc<Sim>,
    vendors: Router,
    weather: Mutex<Weather>,
    read: AtomicBool,
}

impl SimHttp {
    /// In good weather.
    pub fn new(sim: &Arc<Sim>, vendors: Router) -> Arc<Self> {
        Arc::new(Self { sim: Arc::clone(sim), vendors, weather: Mutex::default(), read: AtomicBool::new(false) })
    }

    /// From now on.
    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Whether something was read at a vendor since this was asked last.
    pub fn was_read(&self) -> bool {
        self.read.swap(false, Ordering::Relaxed)
    }

    fn mood(&self, callback: usize) -> Mood {
        let (weather, now) = (self.weather.lock().unwrap_or_else(PoisonError::into_inner), self.sim.works.now());
        let moods = weather.moods.get(callback).map(Vec::as_slice).unwrap_or_default();
        moods.iter().find(|(from, until, _)| *from <= now && now < *until).map_or(Mood::Fine, |(.., mood)| *mood)
    }

    async fn wait(&self, least_ms: u64, most_ms: u64) {
        let time = self.sim.works.roll(|dice| dice.between(least_ms, most_ms));
        self.sim.works.sleep(Duration::from_millis(time)).await;
    }

    async fn vendor(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        let (works, rates) = (&self.sim.works, self.sim.rates());
        let down = self.weather.lock().unwrap_or_else(PoisonError::into_inner).vendors_down;
        let down = down.is_some_and(|(from, until)| from <= works.now() && works.now() < until);
        if down || works.chance(rates.unreachable) {
            works.note(format_args!("vendor: out of reach for {}", request.uri()));
            return Err(HttpError::Connect("simulated".into()));
        }
        self.wait(2, 60).await;
        let hangs = works.chance(rates.hangs);
        if hangs && works.chance(500) {
            let time = works.roll(|dice| Duration::from_millis(dice.between(500, 20_000)));
            works.note(format_args!("vendor: takes {} ms for {}", time.as_millis(), request.uri()));
            works.sleep(time.min(bounds.deadline)).await;
        } else if hangs {
            works.note(format_args!("vendor: hangs on {}", request.uri()));
            works.sleep(bounds.deadline).await;
            return Err(HttpError::Deadline(bounds.deadline));
        }
        let asked = format!("{} {}", request.method(), request.uri());
        let response = self.vendors.clone().oneshot(request.map(Body::from)).await.expect("routers answer");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        works.note(format_args!(
            "vendor: {} to {asked}: {}",
            parts.status,
            body.as_ref().map_or("breaks off".into(), |body| format!("{} bytes", body.len()))
        ));
        // A body that breaks off is the sandbox's way to cut the connection.
        let body = body.map_err(|error| HttpError::Broken(error.to_string()))?;
        self.read.store(true, Ordering::Relaxed);
        self.wait(1, 20).await;
        if works.chance(rates.answer_lost) {
            works.note(format_args!("vendor: the answer is lost"));
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
        let works = &self.sim.works;
        let mut mood = self.mood(number);
        if mood == Mood::Fickle {
            let moods =
                [Mood::Fine, Mood::Gone, Mood::Says(500, None), Mood::TakesAndHangs, Mood::Slow(3), Mood::Hangs];
            mood = works.roll(|dice| *dice.pick(&moods));
        }
        let delivery = request.headers().get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or("?").to_owned();
        works.note(format_args!("callback {number}: {mood:?} to {delivery}"));
        self.sim.ledger().attempted(number, &delivery, works.now());
        if mood == Mood::Gone {
            return Err(HttpError::Connect("simulated".into()));
        }
        self.wait(1, 40).await;
        let takes_and_hangs = mood == Mood::TakesAndHangs;
        let (status, wish) = match mood {
            Mood::Hangs => (0, None),
            Mood::Says(status, wish) => (status, wish),
            _ => (200, None),
        };
        if let Mood::Slow(seconds) = mood {
            works.sleep(Duration::from_secs(seconds).min(bounds.deadline)).await;
        }
        if status > 0 {
            let signature = request.headers().get("elements-webhook-signature").and_then(|it| it.to_str().ok());
            let right = elements_signature(&Secret::new(SIGNATURE_KEY), request.body());
            let signed = signature == Some(right.as_str());
            let accepted = (200..300).contains(&status) && !takes_and_hangs;
            self.sim.ledger().received(number, &delivery, request.body(), signed, accepted);
        }
        if takes_and_hangs || status == 0 {
            works.sleep(bounds.deadline).await;
            return Err(HttpError::Deadline(bounds.deadline));
        }
        self.wait(1, 20).await;
        works.gate().await;
        let mut response = http::Response::builder().status(status);
        if let Some(wish) = wish {
            response = response.header("retry-after", wish.to_string());
        }
        let response = response.body(Bytes::new()).expect("a response");
        Ok(Exchange { response, truncated: false, elapsed: Duration::ZERO })
    }
}

#[async_trait]
impl Http for SimHttp {
    async fn send(&self, request: http::Request<Bytes>, bounds: Bounds) -> Result<Exchange, HttpError> {
        self.sim.works.gate().await;
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

/// The weather of a plan that begins at an instant.
pub fn weather(plan: &super::plan::Plan, begins: DateTime<Utc>) -> Weather {
    let at = |seconds: u64| begins + TimeDelta::seconds(seconds as i64);
    Weather {
        moods: plan
            .moods
            .iter()
            .map(|moods| moods.iter().map(|(from, until, mood)| (at(*from), at(*until), *mood)).collect())
            .collect(),
        vendors_down: plan.vendor_down.map(|(from, until)| (at(from * 60), at(until * 60))),
    }
}
