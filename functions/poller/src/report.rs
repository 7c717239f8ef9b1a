//! What a step's report says to the log and to the metrics. A step that did nothing whispers at debug.

use std::sync::{Mutex, PoisonError};

use aws::metrics::{self, Metrics};
use chrono::{DateTime, TimeDelta, Utc};
use flow::deliver::{self as delivery, DeliveryReport};
use flow::fields;
use flow::poll::{Outcome, PollReport};

/// One line with these fields, loud or as a whisper.
macro_rules! said {
    ($loud:expr, $($fields:tt)*) => {
        if $loud { tracing::info!($($fields)*) } else { tracing::debug!($($fields)*) }
    };
}

fn milliseconds(time: TimeDelta) -> f64 {
    time.num_milliseconds().max(0) as f64
}

/// Counts and logs a poll that was due at this instant.
pub(crate) fn polled(report: &PollReport, due: DateTime<Utc>, metrics: &Mutex<Metrics>) {
    let failed = report.outcome == Outcome::Failed;
    // A vendor was asked, or was to be.
    let ran = failed || matches!(report.outcome, Outcome::Committed | Outcome::Suspended | Outcome::OutrunByAnother);
    let late = milliseconds(report.began - due);
    {
        let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.count(if ran { metrics::POLLS } else { metrics::POLLS_SKIPPED }, 1);
        metrics.count(metrics::POLLS_FAILED, failed.into());
        if ran {
            metrics.add(metrics::POLL_TIME, report.duration_ms as f64);
            metrics.add(metrics::VENDOR_TIME, report.vendor_ms as f64);
            metrics.add(metrics::POLL_LATE, late);
        }
        if let (Outcome::Committed, Some(overdue)) = (report.outcome, report.overdue_ms) {
            metrics.add(metrics::OVERDUE, overdue as f64);
        }
        for (metric, count) in [
            (metrics::PAGES, report.pages),
            (metrics::RECORDS, report.records),
            (metrics::HELD, report.held),
            (metrics::PROBLEMS, report.problem_count),
        ] {
            metrics.count(metric, count);
        }
        // The poll that won a race counts the changes that the losing poll found too.
        if report.outcome != Outcome::OutrunByAnother {
            metrics.count(metrics::CREATED, report.created);
            metrics.count(metrics::UPDATED, report.updated);
            metrics.count(metrics::DELETED, report.deleted);
        }
    }
    said!(
        failed || report.changes() + report.problem_count + report.held > 0,
        { fields::OUTCOME } = ?report.outcome,
        { fields::PAGES } = report.pages,
        { fields::RECORDS } = report.records,
        { fields::EVENTS } = report.changes(),
        { fields::PROBLEMS } = report.problem_count,
        { fields::LATE_MS } = late,
        { fields::DURATION_MS } = report.duration_ms,
        { fields::VENDOR_MS } = report.vendor_ms,
        "poll ended"
    );
}

/// Counts and logs a delivery job.
pub(crate) fn tried(report: &DeliveryReport, metrics: &Mutex<Metrics>) {
    let Some((attempt, since)) = report.attempt.as_ref().zip(report.since) else {
        return tracing::debug!({ fields::OUTCOME } = ?report.outcome, "delivery job ended without an attempt");
    };
    let delivered = report.outcome == delivery::Outcome::Delivered;
    let late = since.due.map(|due| milliseconds(attempt.at - due));
    {
        let mut metrics = metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.count(metrics::ATTEMPTS, 1);
        metrics.count(if delivered { metrics::DELIVERED } else { metrics::ATTEMPTS_FAILED }, 1);
        if delivered {
            let latency = milliseconds(attempt.at - since.committed) + attempt.duration_ms as f64;
            metrics.add(metrics::DELIVERY_LATENCY, latency);
        }
        if let Some(late) = late {
            metrics.add(metrics::ATTEMPT_LATE, late);
        }
    }
    tracing::info!(
        { fields::OUTCOME } = ?report.outcome,
        { fields::ATTEMPT } = attempt.number,
        { fields::STATUS } = attempt.status,
        { fields::LATE_MS } = late,
        { fields::DURATION_MS } = attempt.duration_ms,
        "attempt made"
    );
}

/// A step of ours failed; the queue brings the message again.
pub(crate) fn job_failed(metrics: &Mutex<Metrics>) {
    metrics.lock().unwrap_or_else(PoisonError::into_inner).count(metrics::JOBS_FAILED, 1);
}
