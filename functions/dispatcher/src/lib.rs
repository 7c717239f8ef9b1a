//! The dispatcher function: once a minute, what is due goes onto the queues.
//!
//! EventBridge calls it; the poller acts next. It takes the time from the event and never from a clock, so that an
//! event that comes late or twice means the minute it was sent for. It decides nothing; that is a step of `flow`.

use aws::metrics::{self, Metrics};
use aws_lambda_events::eventbridge::EventBridgeEvent;
use flow::schedule::DispatchReport;
use flow::service::{FlowError, Service};

/// The reason why the minute was not dispatched, or not wholly. The next call catches up.
#[derive(Debug, thiserror::Error)]
pub enum DispatchError {
    /// The event does not say when it was due: it is not from a rule's schedule.
    #[error("the scheduled event has no time")]
    NoTime,
    /// Our own trouble.
    #[error("dispatching failed")]
    Flow(#[from] FlowError),
}

/// Dispatches the minute that the scheduled event is for.
pub async fn handle(service: &Service, event: EventBridgeEvent) -> Result<DispatchReport, DispatchError> {
    let now = event.time.ok_or(DispatchError::NoTime)?;
    let before = service.ports.store.capacity();
    let report = flow::schedule::dispatch(service, now).await?;
    let mut metrics = Metrics::default();
    metrics.charged(before, service.ports.store.capacity());
    metrics.count(metrics::POLLS_QUEUED, report.polls as u64);
    metrics.count(metrics::RETRIES_QUEUED, report.retries as u64);
    metrics.count(metrics::MINUTES_MISSED, report.missed_minutes.unsigned_abs());
    metrics.write(service.ports.now());
    if report.polls + report.retries > 0 || report.missed_minutes > 0 {
        tracing::info!(
            minute = report.minute,
            missed_minutes = report.missed_minutes,
            polls = report.polls,
            retries = report.retries,
            "minute dispatched"
        );
    } else {
        tracing::debug!(minute = report.minute, already = report.already_dispatched, "nothing is due");
    }
    Ok(report)
}
