//! Metrics in CloudWatch's embedded format: an invocation writes one log line, and the cloud reads the numbers from it.
//!
//! No call is made for a metric and none can fail. The local service writes the same line to its own log at debug level:
//! `POLLUX_LOG=info,metrics=debug` shows it. Metrics are sums and samples over all customers; what concerns one of them
//! is in the log lines.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use store::port::Capacity;

/// The metrics' namespace.
pub const NAMESPACE: &str = "Pollux";
/// Target of the lines, for log filters.
pub const TARGET: &str = "metrics";
/// The format takes so many values of one metric in a line; of more, an even choice is written.
const LARGEST_SAMPLE: usize = 100;

/// The unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things; those of one invocation are added up.
    Count,
    /// A time; each is a sample of its own, so that percentiles can be had.
    Milliseconds,
}

/// A metric. All there are stand in [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name in CloudWatch.
    pub name: &'static str,
    /// Its unit.
    pub unit: Unit,
    /// Its meaning, for people.
    pub about: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $unit:ident, $about:literal;)*) => {
        $(#[doc = $about] pub const $constant: Metric = Metric { name: $name, unit: Unit::$unit, about: $about };)*
        /// Every metric, in the order of the operations guide.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    POLLS = "Polls", Count, "Polls that asked a vendor.";
    POLLS_FAILED = "PollsFailed", Count, "Polls that a vendor, or the way to it, did not let happen.";
    POLLS_SKIPPED = "PollsSkipped", Count, "Poll messages that found nothing to do: covered, backing off, disabled, gone.";
    PAGES = "Pages", Count, "Pages read from vendors.";
    RECORDS = "Records", Count, "Records read from vendors.";
    CREATED = "Created", Count, "Changes told as CREATED.";
    UPDATED = "Updated", Count, "Changes told as UPDATED.";
    DELETED = "Deleted", Count, "Changes told as DELETED.";
    HELD = "Held", Count, "Missing records that wait for an approval.";
    PROBLEMS = "Problems", Count, "Records that could not be read and the like.";
    POLL_TIME = "PollTime", Milliseconds, "How long a poll took.";
    VENDOR_TIME = "VendorTime", Milliseconds, "How long a vendor took to answer the calls of a poll.";
    POLL_LATE = "PollLate", Milliseconds, "From the minute a poll was due in to its beginning.";
    OVERDUE = "Overdue", Milliseconds, "How long beyond its interval a resource had not been covered when a poll of it succeeded.";
    ATTEMPTS = "Attempts", Count, "Attempts at deliveries.";
    ATTEMPTS_FAILED = "AttemptsFailed", Count, "Attempts that the callback did not accept.";
    DELIVERED = "Delivered", Count, "Deliveries that the callback has.";
    DELIVERY_LATENCY = "DeliveryLatency", Milliseconds, "From a delivery's commit to its acceptance.";
    ATTEMPT_LATE = "AttemptLate", Milliseconds, "From when an attempt was due to when it was made.";
    JOBS_FAILED = "JobsFailed", Count, "Queue messages given back because a step of ours failed.";
    POLLS_QUEUED = "PollsQueued", Count, "Polls that the dispatcher put on the queue.";
    RETRIES_QUEUED = "RetriesQueued", Count, "Deliveries that the dispatcher put on the queue again.";
    MINUTES_MISSED = "MinutesMissed", Count, "Minutes that the dispatcher had to catch up with.";
    READ_UNITS = "ReadUnits", Count, "Read units that the table charged.";
    WRITE_UNITS = "WriteUnits", Count, "Write units that the table charged.";
}

/// The numbers of one invocation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metrics(BTreeMap<&'static str, (Unit, Vec<f64>)>);

impl Metrics {
    /// Adds to a count, or a sample to a time.
    pub fn add(&mut self, metric: Metric, value: f64) {
        let (_, values) = self.0.entry(metric.name).or_insert((metric.unit, Vec::new()));
        match (metric.unit, values.last_mut()) {
            (Unit::Count, Some(sum)) => *sum += value,
            _ => values.push(value),
        }
    }

    /// Adds a count, if it is one.
    pub fn count(&mut self, metric: Metric, count: u64) {
        if count > 0 {
            self.add(metric, count as f64);
        }
    }

    /// Adds the capacity that the table charged between two readings.
    pub fn charged(&mut self, before: Capacity, after: Capacity) {
        self.add(READ_UNITS, after.reads - before.reads);
        self.add(WRITE_UNITS, after.writes - before.writes);
    }

    /// A metric's sum or samples.
    pub fn values(&self, metric: Metric) -> &[f64] {
        self.0.get(metric.name).map_or(&[], |(_, values)| values)
    }

    /// The line, as CloudWatch's embedded metric format specifies it; `service` is its one dimension.
    pub fn line(&self, service: &str, at: DateTime<Utc>) -> Value {
        let unit = |unit| if unit == Unit::Count { "Count" } else { "Milliseconds" };
        let metrics: Vec<_> = self.0.iter().map(|(name, (of, _))| json!({"Name": name, "Unit": unit(*of)})).collect();
        let mut line = json!({
            "_aws": {
                "Timestamp": at.timestamp_millis(),
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": metrics}],
            },
            "FunctionName": service,
        });
        for (name, (_, values)) in &self.0 {
            let every = values.len().div_ceil(LARGEST_SAMPLE).max(1);
            line[*name] = match &values[..] {
                [value] => json!(value),
                values => values.iter().step_by(every).copied().collect(),
            };
        }
        line
    }

    /// Writes the line, if there is a number to write.
    pub fn write(&self, at: DateTime<Utc>) {
        /// Lambda says which function of which stack this is; on one machine it is all of them.
        static FUNCTION: LazyLock<String> =
            LazyLock::new(|| std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_else(|_| "pollux".into()));
        if !self.0.is_empty() {
            tracing::debug!(target: TARGET, "{}", self.line(&FUNCTION, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_cloudwatch_reads() {
        let mut metrics = Metrics::default();
        metrics.count(POLLS, 2);
        metrics.count(POLLS, 3);
        metrics.count(PAGES, 0);
        metrics.add(POLL_TIME, 12.0);
        metrics.add(POLL_TIME, 7.5);
        (0..250).for_each(|n| metrics.add(POLL_LATE, f64::from(n)));
        metrics.charged(Capacity { reads: 1.0, ..Capacity::default() }, Capacity { reads: 1.5, writes: 2.0, calls: 9 });
        let line = metrics.line("stack-Poller", "2026-01-05T09:00:00Z".parse().unwrap());
        assert_eq!((&line["Polls"], &line["PollTime"]), (&json!(5.0), &json!([12.0, 7.5])));
        assert_eq!((&line["ReadUnits"], &line["WriteUnits"]), (&json!(0.5), &json!(2.0)));
        let late = line["PollLate"].as_array().unwrap();
        assert!(late.len() <= LARGEST_SAMPLE && late.len() > LARGEST_SAMPLE / 2, "{}", late.len());
        assert_eq!(line["_aws"]["Timestamp"], 1_767_603_600_000_u64);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!((&directive["Namespace"], &directive["Dimensions"]), (&json!("Pollux"), &json!([["FunctionName"]])));
        assert_eq!(line["FunctionName"], "stack-Poller");
        // Each name that is announced is a member of the line, and each member announced.
        let announced: Vec<_> = directive["Metrics"].as_array().unwrap().iter().collect();
        assert_eq!(announced.len(), 5);
        for metric in announced {
            assert!(!line[metric["Name"].as_str().unwrap()].is_null(), "{metric}");
            assert_eq!(
                metric["Unit"] == "Milliseconds",
                metric["Name"].as_str().unwrap().starts_with("Poll") && metric["Name"] != "Polls"
            );
        }
    }
}
