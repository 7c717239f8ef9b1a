//! One callback of one organization while something is wrong with it: its circuit breaker and the deliveries behind it.
//!
//! Pure: each step takes the stored state and what happened, and leaves the state to be stored. No state at all is what
//! a healthy callback has. [`crate::circuit`] and [`crate::backlog`] have the rules of the two parts; together:
//!
//! - While the circuit is open, every delivery but the probe joins the backlog.
//! - When it closes, the backlog drains, and newcomers join its end until it is empty.
//! - If the whole front of the backlog waits for one on its retry schedule, that one is the next probe.
//! - With an empty backlog there is no probe: those that failed follow their own schedule, and a newcomer is a probe.
//! - While it is disabled, all join the backlog and stay until somebody resumes it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::backlog::{Backlog, InFlight, Release, Waiting};
use crate::circuit::{Circuit, Disabled, Failures, Open};
use crate::configuration::FailurePolicy;
use crate::delivery::DeliveryKey;

/// The state of a callback and of the deliveries behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "StoredState", into = "StoredState")]
pub struct CallbackState {
    /// Whether deliveries are sent.
    pub circuit: Circuit,
    /// The deliveries behind it.
    pub backlog: Backlog,
}

/// The state as it is stored, in the words of the first release. Where a table holds both `open` and `disabled`, it is
/// disabled.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredState {
    failures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failing_since: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<Open>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disabled: Option<Disabled>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flight: Vec<InFlight>,
    waiting: u32,
}

impl From<StoredState> for CallbackState {
    fn from(stored: StoredState) -> Self {
        let failures = Failures { count: stored.failures, since: stored.failing_since };
        let circuit = match (stored.open, stored.disabled) {
            (_, Some(disabled)) => Circuit::Disabled(failures, disabled),
            (Some(open), None) => Circuit::Open(failures, open),
            (None, None) => Circuit::Closed(failures),
        };
        Self { circuit, backlog: Backlog { in_flight: stored.flight, waiting: stored.waiting } }
    }
}

impl From<CallbackState> for StoredState {
    fn from(state: CallbackState) -> Self {
        let Failures { count: failures, since: failing_since } = state.circuit.failures();
        let (open, disabled) = match state.circuit {
            Circuit::Closed(_) => (None, None),
            Circuit::Open(_, open) => (Some(open), None),
            Circuit::Disabled(_, disabled) => (None, Some(disabled)),
        };
        let Backlog { in_flight: flight, waiting } = state.backlog;
        Self { failures, failing_since, open, disabled, flight, waiting }
    }
}

/// What a delivery that wants to be sent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Be sent now.
    Send,
    /// Come back at this instant: it is the next probe, or an older one of its records is on its way.
    ComeBack(DateTime<Utc>),
    /// Wait in the backlog.
    JoinBacklog,
}

/// What follows for a delivery that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// Another attempt at this instant.
    RetryAt(DateTime<Utc>),
    /// It waits in the backlog.
    JoinBacklog,
    /// Nothing by itself.
    Queue,
}

/// What becomes of a delivery that must wait at a callback which wants only the newest state of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coalesced {
    /// A newer one tells of all its records: it need not be sent, and was taken out.
    Superseded,
    /// It tells of all the records of these older ones that wait, which were taken out.
    Supersedes {
        /// Their keys.
        older: Vec<DeliveryKey>,
        /// When the last of them would have been tried; it takes that time if it does not have to wait for others.
        at: Option<DateTime<Utc>>,
    },
}

impl CallbackState {
    /// Nothing is wrong and nothing waits: the state need not be kept.
    pub fn is_healthy(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is switched off.
    pub fn is_disabled(&self) -> bool {
        self.circuit.disabled().is_some()
    }

    /// A delivery wants to be sent.
    pub fn admit(&mut self, key: &DeliveryKey, records: &[u64], now: DateTime<Utc>) -> Admission {
        let blocked = self.backlog.blocked_until(key, records);
        match &mut self.circuit {
            Circuit::Disabled(..) => return self.join(key),
            Circuit::Open(_, open) => {
                match (&open.probe, blocked) {
                    (Some(probe), _) if probe != key => return self.join(key),
                    (Some(_), _) => {}
                    (None, Some(until)) => return Admission::ComeBack(self.backlog.follow(key, records, until, now)),
                    (None, None) => open.probe = Some(key.clone()),
                }
                let next_probe = open.next_probe;
                self.backlog.track(key, records, next_probe.max(now), false);
                return if now >= next_probe { Admission::Send } else { Admission::ComeBack(next_probe) };
            }
            Circuit::Closed(_) => {}
        }
        if self.backlog.waiting > 0 && !self.backlog.is_in_flight(key) {
            return self.join(key);
        }
        match blocked {
            Some(until) => Admission::ComeBack(self.backlog.follow(key, records, until, now)),
            None => Admission::Send,
        }
    }

    fn join(&mut self, key: &DeliveryKey) -> Admission {
        self.circuit.forget_probe(key);
        self.backlog.join(key);
        Admission::JoinBacklog
    }

    /// It will not be sent, for reasons that say nothing of the callback: its instance is gone, or it is settled.
    pub fn withdraw(&mut self, key: &DeliveryKey) -> Option<Vec<u64>> {
        self.circuit.forget_probe(key);
        self.backlog.leave(key)
    }

    /// The receiver has it: whatever was wrong is over. Those that followed it go now, and all that wait for their next
    /// step if the circuit was open.
    pub fn succeeded(&mut self, key: &DeliveryKey, now: DateTime<Utc>) {
        let was_open = self.circuit.open().is_some();
        let records = self.withdraw(key);
        self.circuit.record_success();
        match records {
            _ if was_open => self.backlog.let_go_early(now, |_| true),
            Some(records) => self.backlog.let_followers_go_early(&records, now),
            None => {}
        }
    }

    /// An attempt failed. `due` is what the retry schedule says; None: it has ended.
    pub fn failed(
        &mut self,
        (key, records): (&DeliveryKey, &[u64]),
        due: Option<DateTime<Utc>>,
        policy: FailurePolicy,
        now: DateTime<Utc>,
        jitter: u64,
    ) -> AfterFailure {
        self.circuit.record_failure(key, due.is_none(), policy, now, jitter);
        match (&self.circuit, due) {
            (Circuit::Closed(_) | Circuit::Open(..), Some(due)) => {
                self.backlog.track(key, records, due, false);
                AfterFailure::RetryAt(due)
            }
            (Circuit::Closed(_), None) => {
                self.withdraw(key);
                AfterFailure::Queue
            }
            (Circuit::Open(..), None) | (Circuit::Disabled(..), _) => {
                self.join(key);
                AfterFailure::JoinBacklog
            }
        }
    }

    /// The receiver said that it wants no more; the delivery it said so to joins the backlog.
    pub fn refused(&mut self, key: &DeliveryKey, reason: &str, now: DateTime<Utc>) {
        self.circuit.record_refusal(reason, now);
        self.join(key);
    }

    /// Somebody says that it works again: the backlog drains, and nobody waits for the next step.
    pub fn resume(&mut self, now: DateTime<Utc>) {
        self.circuit = Circuit::default();
        self.backlog.let_go_early(now, |_| true);
    }

    /// How many should come out of the backlog or be moved up.
    pub fn wants(&self) -> usize {
        match &self.circuit {
            Circuit::Disabled(..) => 0,
            Circuit::Open(_, open) => usize::from(open.probe.is_none()).min(self.backlog.waiting as usize),
            Circuit::Closed(_) => self.backlog.vacancies(),
        }
    }

    /// Takes out as many as it wants and can have. `front` are the first in the backlog, in order.
    pub fn release(&mut self, front: &[Waiting], now: DateTime<Utc>) -> Vec<Release> {
        if self.wants() == 0 {
            return Vec::new();
        }
        match &mut self.circuit {
            Circuit::Open(_, open) => {
                let release = self.backlog.release_probe(front, open.next_probe.max(now));
                open.probe = release.as_ref().map(|release| release.key.clone());
                release.into_iter().collect()
            }
            Circuit::Closed(_) | Circuit::Disabled(..) => self.backlog.release(front, now),
        }
    }

    /// A delivery of a callback that wants only the newest has been filed for a time of its own or joined the backlog.
    /// Compares it with those in flight that are not being sent at this moment, at most `most` of them.
    pub fn coalesce(&mut self, key: &DeliveryKey, records: &[u64], most: usize, now: DateTime<Utc>) -> Coalesced {
        if self.backlog.has_newer(key, records) {
            self.superseded(key);
            return Coalesced::Superseded;
        }
        let older = self.backlog.older_within(key, records, most, now);
        for one in &older {
            self.withdraw(&one.key);
        }
        let free = self.circuit.open().is_none()
            && self.backlog.is_in_flight(key)
            && self.backlog.blocked_until(key, records).is_none();
        let at = older.iter().map(|one| one.due).max().filter(|_| free);
        if let Some(at) = at {
            self.backlog.track(key, records, at, false);
        }
        Coalesced::Supersedes { older: older.into_iter().map(|one| one.key).collect(), at }
    }

    /// A delivery that waits need not be sent: a newer one tells of its records.
    pub fn superseded(&mut self, key: &DeliveryKey) {
        // It is either filed for a time of its own or waits in the backlog.
        if self.withdraw(key).is_none() {
            self.backlog.waiting = self.backlog.waiting.saturating_sub(1);
        }
    }

    /// The backlog was found empty, its entries having expired; `joining` are about to join it.
    pub fn backlog_is_empty(&mut self, joining: u32) {
        self.backlog.waiting = joining;
    }
}

#[cfg(test)]
mod tests;
