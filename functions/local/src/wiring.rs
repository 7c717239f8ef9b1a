//! What stands between the functions in the cloud: the schedule that calls the dispatcher and the mappings that feed
//! the queues to the poller. Here they build the documents that Lambda would deliver and call the same handlers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_lambda_events::sqs::SqsEvent;
use chrono::{DateTime, SecondsFormat, Utc};
use domain::retry_minute::RetryMinute;
use flow::fields::Chain;
use flow::job::Queued;
use flow::ports::{LONGEST_QUEUE_DELAY, Ports, QueueName};
use flow::service::Service;
use poller::Poller;
use serde_json::{Value, json};
use store::StoreError;
use store::records::delivery::due_instants;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::queue::{LocalQueue, Received};

/// Messages of one call of the poller: as many as SQS hands out at once, and the template asks for with deliveries.
const BATCH: usize = 10;

/// Calls of the poller at once for each queue. More would only wait for the one engine.
const BATCHES_AT_ONCE: usize = 8;

/// The longest time of one call of the poller, as in the template.
const INVOCATION: Duration = Duration::from_secs(60);

/// The clock is looked at this often at least: sleeping is measured by a clock that stands still while the machine
/// is suspended.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// A delivery on the queue is filed under a minute no later than this: the longest delay, and some grace.
const FILED_WITHIN: Duration = Duration::from_secs(LONGEST_QUEUE_DELAY.as_secs() + 5 * 60);

/// Calls the dispatcher at once and then at the start of every wheel minute, until told to stop. A call that fails
/// or was slept through is made good by the next, which catches up.
pub(crate) async fn schedule(service: Service, mut stop: watch::Receiver<bool>) {
    loop {
        let minute = service.wheel.minute_of(service.ports.now());
        let event = scheduled_event(service.wheel.start_of(minute));
        match serde_json::from_value(event) {
            Ok(event) => {
                if let Err(error) = dispatcher::handle(&service, event).await {
                    tracing::error!(error = %Chain(&error), "minute not dispatched");
                }
            }
            Err(error) => tracing::error!(%error, "scheduled event cannot be read"),
        }
        let next = service.wheel.start_of(minute + 1);
        while let Ok(left) = (next - service.ports.now()).to_std()
            && !left.is_zero()
        {
            // Rounded up: waking a little early would mean a second round for the rest.
            let nap = (left + Duration::from_millis(1)).min(LONGEST_NAP);
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(nap) => {}
            }
        }
        if *stop.borrow() {
            return;
        }
    }
}

/// Puts back on the queue what a stop or a crash took from it, with the delays that were left. Only deliveries: a lost
/// poll has its next slot, while a delivery would wait for the minute that it is filed under. To be done before
/// anything else works: what is being delivered already would be delivered twice. The table stays as it is.
pub(crate) async fn repair(ports: &Ports) -> Result<(), StoreError> {
    let now = ports.now();
    let (first, last) = (RetryMinute::at(now), RetryMinute::at(now + FILED_WITHIN));
    let mut messages = Vec::new();
    for minute in first.through(last) {
        for (job, due) in due_instants(&*ports.store, minute).await? {
            let delay = (due.unwrap_or(now) - now).to_std().unwrap_or_default();
            if delay <= LONGEST_QUEUE_DELAY {
                // Rounded up: a job that comes early is sent away.
                let delay = Duration::from_secs(delay.as_secs() + u64::from(delay.subsec_nanos() > 0));
                messages.push(job.message(delay));
            }
        }
    }
    let found = messages.len();
    ports.queue.send(QueueName::Deliveries, messages).await;
    if found > 0 {
        tracing::info!(deliveries = found, "deliveries found again that the last run left in the queue");
    }
    Ok(())
}

/// Feeds a queue to the poller until told to stop, and then waits for the calls under way.
pub(crate) async fn consume(
    poller: Arc<Poller>,
    queue: Arc<LocalQueue>,
    name: QueueName,
    mut stop: watch::Receiver<bool>,
) {
    let free = Arc::new(Semaphore::new(BATCHES_AT_ONCE));
    let mut calls = JoinSet::new();
    loop {
        while calls.try_join_next().is_some() {}
        // Asked before a message is taken: what is taken is worked on.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { break };
        let batch = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            batch = queue.receive(name, BATCH) => batch,
        };
        let (poller, queue) = (Arc::clone(&poller), Arc::clone(&queue));
        calls.spawn(async move {
            call_poller(&poller, &queue, name, batch).await;
            drop(permit);
        });
    }
    calls.join_all().await;
}

async fn call_poller(poller: &Poller, queue: &LocalQueue, name: QueueName, batch: Vec<Received>) {
    let until = Utc::now() + INVOCATION;
    let event: SqsEvent = match serde_json::from_value(queue_event(name, &batch)) {
        Ok(event) => event,
        Err(error) => return tracing::error!(%error, "batch cannot be read"),
    };
    let failed: HashSet<String> = match poller.handle(event, until).await {
        Ok(response) => response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect(),
        Err(error) => return tracing::error!(error = %Chain(&error), "batch failed"),
    };
    for message in batch.iter().filter(|message| !failed.contains(&message.id.to_string())) {
        queue.delete(message.receipt);
    }
}

/// The event that EventBridge sends for a rule with a schedule.
pub fn scheduled_event(at: DateTime<Utc>) -> Value {
    json!({
        "version": "0",
        "id": format!("minute-{}", at.timestamp_millis()),
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": at.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        "region": "local",
        "resources": ["arn:aws:events:local:000000000000:rule/every-minute"],
        "detail": {},
    })
}

/// The event that Lambda sends for a batch of a queue.
fn queue_event(name: QueueName, batch: &[Received]) -> Value {
    let source = match name {
        QueueName::Polls => "polls",
        QueueName::Deliveries => "deliveries",
    };
    let record = |message: &Received| {
        json!({
            "messageId": message.id.to_string(),
            "receiptHandle": message.id.to_string(),
            "body": message.body,
            "attributes": {
                "ApproximateReceiveCount": message.receive_count.to_string(),
                "MessageGroupId": message.group,
            },
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:local:000000000000:{source}"),
            "awsRegion": "local",
        })
    };
    json!({ "Records": batch.iter().map(record).collect::<Vec<_>>() })
}
