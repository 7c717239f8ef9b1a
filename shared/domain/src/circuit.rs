//! The circuit breaker of one callback of one organization.
//!
//! ```text
//!             OPENS_AFTER failures in a row               failing as long as a whole schedule,
//!            ┌──────────────────────────────► Open ──────── or failure policy `queue` ───────┐
//!   Closed ──┤                                 │                                             ▼
//!      ▲     └──────── 410, or removal ────────┼────────────────────────────────────────► Disabled
//!      └──────────────── success ──────────────┴──────────────── somebody resumes ───────────┘
//! ```
//!
//! While it is open one delivery, the probe, is sent at a slowing pace. A success at any time closes it and counts from
//! zero, so a callback that fails four times and works once, over and over, is never cut off. When a probe fails, the
//! next in the backlog is the next probe, so that one payload which the receiver always rejects does not keep it open.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::configuration::FailurePolicy;
use crate::delivery::DeliveryKey;
use crate::retry_schedule::{STEPS, spread};

/// Consecutive failed attempts after which the rest wait.
pub const OPENS_AFTER: u32 = 5;

/// Seconds between probes, the last for all that follow. A callback that is back is noticed within 15 minutes.
const PROBE_PACE: [i64; 6] = [30, 60, 120, 240, 480, 900];

/// Failed attempts since the last success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Failures {
    /// How many.
    pub count: u32,
    /// When the first of them was.
    pub since: Option<DateTime<Utc>>,
}

impl Failures {
    fn add(&mut self, now: DateTime<Utc>) {
        self.count = self.count.saturating_add(1);
        self.since.get_or_insert(now);
    }
}

/// The state of a circuit breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Circuit {
    /// Deliveries are sent.
    Closed(Failures),
    /// One delivery probes, the rest wait.
    Open(Failures, Open),
    /// Nothing is sent until somebody resumes it.
    Disabled(Failures, Disabled),
}

/// The probes of an open circuit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// Since when it is open.
    pub since: DateTime<Utc>,
    /// The number of probes that failed.
    pub probes: u32,
    /// The delivery that is sent next. None: the next that comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<DeliveryKey>,
    /// The probe is not sent before this instant.
    pub next_probe: DateTime<Utc>,
}

/// Why a callback is switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disabled {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The reason, for people.
    pub reason: String,
}

impl Default for Circuit {
    fn default() -> Self {
        Self::Closed(Failures::default())
    }
}

impl Circuit {
    /// The failed attempts since the last success.
    pub fn failures(&self) -> Failures {
        match self {
            Self::Closed(failures) | Self::Open(failures, _) | Self::Disabled(failures, _) => *failures,
        }
    }

    /// The probes, while it is open.
    pub fn open(&self) -> Option<&Open> {
        if let Self::Open(_, open) = self { Some(open) } else { None }
    }

    /// The probes, while it is open.
    pub fn open_mut(&mut self) -> Option<&mut Open> {
        if let Self::Open(_, open) = self { Some(open) } else { None }
    }

    /// Why it is disabled, while it is.
    pub fn disabled(&self) -> Option<&Disabled> {
        if let Self::Disabled(_, disabled) = self { Some(disabled) } else { None }
    }

    /// A delivery goes: it is the probe no longer, if it was.
    pub fn forget_probe(&mut self, key: &DeliveryKey) {
        if let Some(open) = self.open_mut()
            && open.probe.as_ref() == Some(key)
        {
            open.probe = None;
        }
    }

    /// An attempt succeeded. One that is disabled stays so until somebody resumes it.
    pub fn record_success(&mut self) {
        match self {
            Self::Disabled(failures, _) => *failures = Failures::default(),
            Self::Closed(_) | Self::Open(..) => *self = Self::default(),
        }
    }

    /// An attempt failed. `ended`: the retry schedule of this delivery has no further step.
    pub fn record_failure(
        &mut self,
        key: &DeliveryKey,
        ended: bool,
        policy: FailurePolicy,
        now: DateTime<Utc>,
        jitter: u64,
    ) {
        if let Self::Closed(failures) = self {
            failures.add(now);
            if failures.count < OPENS_AFTER {
                return;
            }
            let open = Open { since: now, probes: 0, probe: Some(key.clone()), next_probe: now };
            *self = Self::Open(*failures, open);
        } else if let Self::Open(failures, _) | Self::Disabled(failures, _) = self {
            failures.add(now);
        }
        let Self::Open(failures, open) = self else { return };
        if policy == FailurePolicy::Queue {
            return self.disable("it failed, and its failure policy is to queue", now);
        }
        if open.probe.as_ref().is_some_and(|probe| probe != key) {
            return;
        }
        let pace = PROBE_PACE[(open.probes as usize).min(PROBE_PACE.len() - 1)];
        open.probes = open.probes.saturating_add(1);
        open.next_probe = now + spread(TimeDelta::seconds(pace), jitter);
        // The next in the backlog is the next probe; with none there, the next that comes.
        open.probe = None;
        // Jitter makes a schedule up to a fifth shorter or longer. Without a success for the shortest, the end of one
        // delivery's schedule says enough; without one for the longest, nothing more need be said.
        let schedule = TimeDelta::seconds(STEPS.iter().sum());
        let failing = now - failures.since.unwrap_or(now);
        if failing >= if ended { schedule * 4 / 5 } else { schedule * 6 / 5 } {
            self.disable("it failed for as long as the whole ladder of retries", now);
        }
    }

    /// The receiver said that it wants no more.
    pub fn record_refusal(&mut self, reason: &str, now: DateTime<Utc>) {
        match self {
            Self::Closed(failures) | Self::Open(failures, _) | Self::Disabled(failures, _) => failures.add(now),
        }
        self.disable(reason, now);
    }

    /// Switches the callback off, unless it is off already.
    fn disable(&mut self, reason: &str, now: DateTime<Utc>) {
        if let Self::Closed(failures) | Self::Open(failures, _) = self {
            *self = Self::Disabled(*failures, Disabled { since: now, reason: reason.to_owned() });
        }
    }
}
