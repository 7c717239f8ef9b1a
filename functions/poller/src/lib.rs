//! The poller function: a batch of queue messages, each one poll or one delivery.
//!
//! The dispatcher, a commit or a person wrote the messages. Whatever this function does not report as failed, the
//! queue forgets; what it does report comes again after the visibility timeout, and after the queue's receive limit
//! lands among the dead letters, where it raises an alarm. Not promised: any order among the messages of a batch.
//!
//! It decides nothing about polling or delivery; those are steps of `flow`. What it knows is how a batch fails in
//! parts.

mod report;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws::metrics::Metrics;
use aws_lambda_events::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use chrono::{DateTime, Utc};
use flow::deliver::{self as delivery, CallbackLimits, DeliveryError};
use flow::fields::{self, Chain};
use flow::job::{DeliveryJob, PollJob};
use flow::poll::{self, Mode};
use flow::service::{FlowError, Service};
use futures::{FutureExt, StreamExt, stream};
use serde::Deserialize;
use store::ambient::{Ambient, within};
use thiserror::Error;
use tracing::Instrument;
use tracing::field::Empty;

/// Messages worked on at once. A whole batch, so that no message waits for a slow vendor's and is given back unread;
/// a larger batch than the template asks for must wait its turn.
const CONCURRENCY: usize = 20;

/// Kept back from the invocation's time, for the answer and for what a step does after its own deadline:
/// an invocation that runs out of time fails as a whole, and everything in it would be done again.
const RESERVE: Duration = Duration::from_secs(3);

/// A message is not started with less time than this before the reserve.
const SHORTEST_START: Duration = Duration::from_secs(2);

/// A record of the batch has no message id, so its failure could not be reported. To invent one, or to leave it out,
/// would lose the message in silence; the whole invocation fails instead and the batch comes again.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("record {place} of the batch has no message id")]
pub struct NoMessageId {
    /// Its place in the batch, counted from 0.
    pub place: usize,
}

/// The job that a message contains.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "job")]
pub enum Job {
    /// One poll.
    #[serde(rename = "poll.v1")]
    Poll(PollJob),
    /// One attempt of a delivery.
    #[serde(rename = "delivery.v1")]
    Delivery(DeliveryJob),
}

/// A step of ours failed; the message comes again. Vendors' and callbacks' failures are no errors here.
#[derive(Debug, Error)]
enum JobError {
    #[error("polling")]
    Poll(#[from] FlowError),
    #[error("delivering")]
    Delivery(#[from] DeliveryError),
}

/// The state that a running function keeps between its invocations.
pub struct Poller {
    service: Service,
    limits: CallbackLimits,
}

impl Poller {
    /// With no callback's limit in use.
    pub fn new(service: Service) -> Self {
        Self { service, limits: CallbackLimits::default() }
    }

    /// Works on a batch until shortly before `until`, when the invocation is ended from outside.
    ///
    /// A message that is no job we know is poison: it is logged once and reported as failed, so that the queue moves
    /// it to the dead letters, where a person finds it. To acknowledge it would lose it, and it may well be from a
    /// newer version of ourselves that is just being deployed, and be understood next time. Poison, a failing step
    /// and a panicking one all fail alone.
    pub async fn handle(&self, event: SqsEvent, until: DateTime<Utc>) -> Result<SqsBatchResponse, NoMessageId> {
        let messages = identified(event)?;
        let left = || (until - self.service.ports.now()).to_std().unwrap_or_default().saturating_sub(RESERVE);
        let (store, metrics) = (&self.service.ports.store, Mutex::default());
        let before = store.capacity();
        let ambient = &*self.service.ports.ambient;
        let response = settle(ambient, messages, left, |job| self.run(job, until - RESERVE, &metrics)).await;
        let mut metrics = metrics.into_inner().unwrap_or_else(PoisonError::into_inner);
        metrics.charged(before, store.capacity());
        metrics.write(self.service.ports.now());
        Ok(response)
    }

    /// One job in a span of its own, from its report to the log and the metrics.
    async fn run(&self, job: Job, until: DateTime<Utc>, metrics: &Mutex<Metrics>) -> Result<(), JobError> {
        let ports = &self.service.ports;
        match job {
            Job::Poll(job) => {
                let span = tracing::info_span!(
                    "poll", { fields::ORGANIZATION } = %job.organization, { fields::INSTANCE } = %job.instance,
                    { fields::RESOURCE } = job.resource, { fields::TRACE } = Empty
                );
                let polled = poll::poll(&self.service, &job, Mode::Scheduled, until).instrument(span.clone()).await;
                let report = polled.inspect_err(|_| report::job_failed(metrics))?;
                span.in_scope(|| report::polled(&report, self.service.wheel.start_of(job.minute), metrics));
            }
            Job::Delivery(job) => {
                let span = tracing::info_span!(
                    "delivery", { fields::ORGANIZATION } = %job.organization, { fields::INSTANCE } = %job.instance,
                    { fields::DELIVERY } = job.delivery.0, { fields::TRACE } = Empty
                );
                let tried = delivery::deliver(ports, &self.limits, &job).instrument(span.clone()).await;
                let report = tried.inspect_err(|_| report::job_failed(metrics))?;
                span.in_scope(|| report::tried(&report, metrics));
            }
        }
        Ok(())
    }
}

fn identified(event: SqsEvent) -> Result<Vec<(String, SqsMessage)>, NoMessageId> {
    let with_id = |(place, mut message): (usize, SqsMessage)| match message.message_id.take() {
        Some(id) if !id.is_empty() => Ok((id, message)),
        _ => Err(NoMessageId { place }),
    };
    event.records.into_iter().enumerate().map(with_id).collect()
}

/// Runs `work` on every message's job and reports the messages whose job failed, panicked, is none, or was not
/// started or done in the time that is `left`.
async fn settle<Work, Done>(
    ambient: &dyn Ambient,
    messages: Vec<(String, SqsMessage)>,
    left: impl Fn() -> Duration,
    work: Work,
) -> SqsBatchResponse
where
    Work: Fn(Job) -> Done,
    Done: Future<Output = Result<(), JobError>>,
{
    let (left, work) = (&left, &work);
    let settled = stream::iter(messages).map(|(id, message)| async move {
        let done = match left() {
            left if left >= SHORTEST_START => settle_one(ambient, &id, &message, left, work).await,
            _ => {
                tracing::info!(message.id = id, "message given back: the invocation's time is up");
                false
            }
        };
        (id, done)
    });
    let settled: Vec<(String, bool)> = settled.buffer_unordered(CONCURRENCY).collect().await;
    let mut response = SqsBatchResponse::default();
    settled.into_iter().filter(|(_, done)| !done).for_each(|(id, _)| response.add_failure(id));
    response
}

async fn settle_one<Work, Done>(
    ambient: &dyn Ambient,
    id: &str,
    message: &SqsMessage,
    left: Duration,
    work: &Work,
) -> bool
where
    Work: Fn(Job) -> Done,
    Done: Future<Output = Result<(), JobError>>,
{
    let job = match serde_json::from_str(message.body.as_deref().unwrap_or_default()) {
        Ok(job) => job,
        Err(error) => {
            // It comes again a few times; to say it once is enough.
            if receive_count(message) <= 1 {
                tracing::error!(message.id = id, %error, "message is no job");
            }
            return false;
        }
    };
    let guarded = AssertUnwindSafe(within(ambient, left, async { work(job).await })).catch_unwind();
    match guarded.await {
        Ok(Some(Ok(()))) => true,
        Ok(Some(Err(error))) => {
            tracing::warn!(message.id = id, error = %Chain(&error), "job failed");
            false
        }
        Ok(None) => {
            tracing::warn!(message.id = id, "job broken off: the invocation's time is up");
            false
        }
        Err(_panic) => {
            tracing::error!(message.id = id, "job panicked");
            false
        }
    }
}

fn receive_count(message: &SqsMessage) -> u32 {
    message.attributes.get("ApproximateReceiveCount").and_then(|count| count.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use domain::id::{DeliveryId, InstanceId, OrganizationId};
    use domain::retry_minute::RetryMinute;
    use flow::testing::FixedAmbient;
    use serde_json::json;
    use store::port::StoreError;

    use super::*;

    const POLL: &str = r#"{"job":"poll.v1","organization":1,"instance":7,"resource":"timesheets","minute":3}"#;

    fn ambient() -> FixedAmbient {
        FixedAmbient::at("2026-01-05T09:00:00Z")
    }

    fn batch(bodies: &[&str]) -> SqsEvent {
        let records: Vec<_> = bodies
            .iter()
            .enumerate()
            .map(|(place, body)| json!({"messageId": format!("m{place}"), "body": body, "attributes": {}}))
            .collect();
        serde_json::from_value(json!({ "Records": records })).unwrap()
    }

    fn poll_of(resource: &str) -> String {
        let job =
            PollJob { organization: OrganizationId(1), instance: InstanceId(7), resource: resource.into(), minute: 3 };
        serde_json::to_string(&job).unwrap()
    }

    /// The ids that failed, in order, when each poll does what its resource is called.
    async fn failed(bodies: &[&str], left: Duration) -> Vec<String> {
        let work = async |job: Job| {
            let Job::Poll(job) = job else { return Ok(()) };
            match job.resource.as_str() {
                "fails" => Err(FlowError::store("a test")(StoreError::Busy("as planned".into())).into()),
                "panics" => panic!("as planned"),
                _ => Ok(()),
            }
        };
        let response = settle(&ambient(), identified(batch(bodies)).unwrap(), || left, work).await;
        let mut failed: Vec<_> = response.batch_item_failures.into_iter().map(|item| item.item_identifier).collect();
        failed.sort();
        failed
    }

    #[test]
    fn jobs_are_read_as_they_are_written() {
        let read = |text: &str| serde_json::from_str::<Job>(text);
        let Ok(Job::Poll(job)) = read(&poll_of("timesheets")) else { panic!("a poll") };
        assert_eq!(job.resource, "timesheets");
        assert_eq!(read(POLL).unwrap(), Job::Poll(job));
        let job = DeliveryJob {
            organization: OrganizationId(1),
            instance: InstanceId(7),
            row: "DLV#1#x".into(),
            delivery: DeliveryId("x".into()),
            retry_minute: Some(RetryMinute::at(DateTime::UNIX_EPOCH)),
        };
        assert_eq!(read(&serde_json::to_string(&job).unwrap()).unwrap(), Job::Delivery(job));
        let unknown = read(r#"{"job":"poll.v2"}"#).unwrap_err().to_string();
        assert!(unknown.contains("poll.v2") && unknown.contains("poll.v1"), "{unknown}");
    }

    #[tokio::test]
    async fn whatever_goes_wrong_goes_wrong_alone() {
        let (fails, panics) = (poll_of("fails"), poll_of("panics"));
        let bodies = [POLL, "not JSON", &fails, "{\"job\":\"poll.v9\"}", &panics, "", POLL];
        assert_eq!(failed(&bodies, Duration::from_secs(60)).await, ["m1", "m2", "m3", "m4", "m5"]);
        assert_eq!(failed(&[POLL], Duration::from_secs(60)).await, [""; 0]);
    }

    #[tokio::test]
    async fn what_hangs_is_given_up_when_its_time_is_up() {
        let message = batch(&[POLL]).records.remove(0);
        let hangs = |_| std::future::pending();
        assert!(!settle_one(&ambient(), "m0", &message, Duration::from_millis(1), &hangs).await);
    }

    #[tokio::test]
    async fn nothing_is_started_that_cannot_be_finished() {
        let started = Mutex::new(0);
        let clock = Mutex::new(Duration::from_secs(5));
        let work = async |_| {
            *started.lock().unwrap() += 1;
            *clock.lock().unwrap() -= Duration::from_secs(1);
            Ok(())
        };
        let bodies = [POLL; 2 * CONCURRENCY];
        let left = || *clock.lock().unwrap();
        let response = settle(&ambient(), identified(batch(&bodies)).unwrap(), left, work).await;
        assert_eq!(*started.lock().unwrap(), 4, "at 5, 4, 3 and 2 seconds");
        assert_eq!(response.batch_item_failures.len(), bodies.len() - 4);
    }

    #[test]
    fn a_record_that_cannot_be_reported_fails_the_invocation() {
        let event = serde_json::from_value(json!({"Records": [{"messageId": "m0"}, {"body": POLL}]})).unwrap();
        assert_eq!(identified(event).unwrap_err(), NoMessageId { place: 1 });
        let event = serde_json::from_value(json!({"Records": [{"messageId": "", "body": POLL}]})).unwrap();
        assert_eq!(identified(event).unwrap_err(), NoMessageId { place: 0 });
    }
}
