//! The first polls of resources that are new or restarted, made before the answer: a change after it is an event.

use std::time::Duration;

use domain::configuration::keys::POLLER_CONFIGURATION;
use domain::problem::{Warning, below};
use futures::{StreamExt, stream};
use store::ambient::within;
use store::records::instance::InstanceRecord;

use crate::fields;
use crate::job::{PollJob, Queued};
use crate::poll::{self, Mode, PollReport};
use crate::ports::QueueName;
use crate::service::{FlowError, Service};

/// Longest time that the answer waits for the first polls. The queue takes what is not done by then.
const BUDGET: Duration = Duration::from_secs(5);

/// Time that a poll has for its commit once it stops reading.
const COMMIT_MARGIN: Duration = Duration::from_secs(1);

/// First polls under way at once: a vendor sees a handful of calls, not fifty.
const AT_ONCE: usize = 8;

/// Polls resources for the first time, as far as the budget goes, and leaves the rest to the queue. A failure is
/// a warning: the instance is there, and its next slot tries again.
pub(super) async fn first_polls(service: &Service, record: &InstanceRecord, resources: Vec<String>) -> Vec<Warning> {
    // A poll commits what it has shortly before its time is up and queues its rest; the deadline is for one that
    // hangs on a vendor.
    let until = service.ports.now() + BUDGET - COMMIT_MARGIN;
    let deadline = service.ports.now() + BUDGET;
    let minute = service.wheel.minute_of(service.ports.now());
    let (mut warnings, mut unfinished) = (Vec::new(), Vec::new());
    let mut polls = stream::iter(resources)
        .map(|resource| {
            let job = PollJob { organization: record.organization, instance: record.id, resource, minute };
            async move {
                let left = (deadline - service.ports.now()).to_std().unwrap_or_default();
                let polled = poll::poll(service, &job, Mode::Baseline, until);
                let outcome = within(&*service.ports.ambient, left, polled).await;
                (job, outcome)
            }
        })
        .buffer_unordered(AT_ONCE);
    while let Some((job, outcome)) = polls.next().await {
        let is_finished = matches!(outcome, Some(Ok(_)));
        warnings.extend(outcome.and_then(|outcome| warning_of(&job, outcome)));
        if !is_finished {
            unfinished.push(job);
        }
    }
    // A message that is not taken is no loss: the resource's slot comes round.
    let messages = unfinished.iter().map(|job| job.message(Duration::ZERO)).collect();
    service.ports.queue.send(QueueName::Polls, messages).await;
    warnings.sort_by(|a, b| a.field.cmp(&b.field));
    warnings
}

/// The warning about a poll that did not work.
fn warning_of(job: &PollJob, outcome: Result<PollReport, FlowError>) -> Option<Warning> {
    let message = match outcome {
        Ok(report) => format!("The first poll did not work and is tried again: {}", report.failure?),
        Err(error) => {
            tracing::warn!(
                { fields::INSTANCE } = %job.instance, { fields::RESOURCE } = job.resource,
                { fields::ERROR } = %error, "first poll failed"
            );
            "The first poll did not work on our side and is tried again.".to_owned()
        }
    };
    Some(Warning::new(below(&below("configuration", POLLER_CONFIGURATION), &job.resource), message))
}
