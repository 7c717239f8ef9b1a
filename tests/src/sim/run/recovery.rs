//! The end of a simulated run: the faults end, the remaining work is done, and the oracle checks the result.

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};
use store::port::Item;

use super::{SimulatedRun, TimedEvent};
use crate::sim::network::NetworkConditions;
use crate::sim::plan::FaultRates;

impl SimulatedRun {
    /// Ends all faults, enables what was disabled, lets time pass until nothing is left to do, and checks the result.
    pub(super) fn recover(&mut self) {
        self.sim.scheduler.note(format_args!("the faults end"));
        self.sim.set_rates(FaultRates::default());
        self.http.set_conditions(NetworkConditions::default());
        for element in self.records.keys() {
            self.sandbox.set_faults(element, self.vendor_behavior()).expect("a vendor");
        }
        self.machines.iter().for_each(|machine| machine.set_clock_error(TimeDelta::zero()));
        let since = self.sim.scheduler.now();
        // Running activities end, at the latest at their deadlines.
        self.run_until(since + TimeDelta::seconds(90) + self.plan.lateness);
        for (id, _) in self.instances.clone() {
            if self.plan.api_users {
                let (status, answer) = self.call("PUT", format!("/instances/{id}/enabled"), None);
                if !status.is_success() {
                    self.sim.oracle().add_violation(format!("the instance cannot be enabled: {status} {answer}"));
                }
            }
        }
        if !self.drain(since) {
            return;
        }
        for (id, account) in self.instances.clone() {
            if self.needs_login(id) {
                continue;
            }
            let resource = account.subject.resource.replace('/', "%2F");
            let path = format!("/instances/{id}/poll?resource={resource}&sweep=true");
            let (mut status, mut answer) = self.call("POST", path.clone(), None);
            if answer["resources"][0]["held"].as_u64() > Some(0) {
                // Many records are missing at once: a user approves the deletions.
                let held = format!("/instances/{id}/resources/{resource}/held");
                let (decided, said) = self.call("POST", held, Some(json!({ "decision": "approve" })));
                if !decided.is_success() {
                    self.sim.oracle().add_violation(format!("held deletions cannot be approved: {decided} {said}"));
                }
                (status, answer) = self.call("POST", path, None);
            }
            if status != StatusCode::OK || answer["outcome"] != "committed" {
                self.sim.oracle().add_violation(format!("the last poll of {id} answered {status} {answer}"));
            }
        }
        let swept = self.sim.scheduler.now();
        if !self.drain(swept) {
            return;
        }
        for (id, account) in self.instances.clone() {
            if !self.needs_login(id) {
                let live = self.vendors_records(account.subject);
                self.sim.oracle().check_convergence(id, &live);
            }
        }
    }

    /// Answers true if the instance needs a new login, because the vendor revoked it or a rotated token was lost. This is a
    /// violation if the plan does not revoke tokens.
    fn needs_login(&mut self, instance: u64) -> bool {
        let stored = self.store.table().items();
        let meta = stored.iter().find(|item| item.key.pk == format!("INST#{instance}") && item.key.sk == "META");
        let meta: Value = meta.and_then(|item| serde_json::from_slice(&item.body).ok()).unwrap_or_default();
        let needed = meta["reconnect"].is_object();
        let expires = self.plan.vendor.expire_tokens_every.is_some() || self.plan.vendor.rotate_refresh;
        if needed && !expires {
            self.sim
                .oracle()
                .add_violation(format!("{instance} needs a new login without a reason: {}", meta["reconnect"]));
        }
        needed
    }

    /// Lets time pass until nothing is left to do and every instance was polled after `since`. Answers false if that does
    /// not happen.
    fn drain(&mut self, since: DateTime<Utc>) -> bool {
        let minutes = [1, 1, 1, 1, 1, 2, 2, 5, 5, 10, 10, 20, 20, 30, 30].into_iter().chain([60; 96]);
        for minutes in minutes {
            for (id, _) in self.instances.clone() {
                // Users see a disabled callback or queued deliveries, and resume the deliveries.
                if self.has_queued_deliveries(id) {
                    let (status, answer) = self.call("PUT", format!("/instances/{id}/deliveries"), None);
                    if !status.is_success() {
                        self.sim.oracle().add_violation(format!("deliveries cannot be resumed: {status} {answer}"));
                    }
                }
            }
            let now = self.sim.scheduler.now();
            let due = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now) + TimeDelta::minutes(minutes);
            self.at(due, TimedEvent::Schedule(due));
            self.run_until(due + TimeDelta::seconds(55));
            if self.is_broken() {
                return false;
            }
            if self.outstanding_work(since).is_empty() {
                return true;
            }
        }
        let left = self.outstanding_work(since);
        self.sim.oracle().add_violation(format!("work is left for ever: {left}"));
        false
    }

    /// Answers true if the instance has queued deliveries, or if a callback is disabled.
    fn has_queued_deliveries(&self, instance: u64) -> bool {
        let items = self.store.table().items();
        let read = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap_or_default();
        items.iter().any(|item| {
            let row = item.key.pk == format!("INST#{instance}") && item.key.sk.starts_with("DLV#");
            let state = item.key.pk.starts_with("CALLBACK#") && item.key.sk == "STATE";
            (row && read(&item.body)["status"] == "queued") || (state && read(&item.body)["disabled"].is_object())
        })
    }

    /// Describes the work that is left. Empty: nothing is left.
    fn outstanding_work(&mut self, since: DateTime<Utc>) -> String {
        let mut left = Vec::new();
        left.extend(self.activities.iter().map(|activity| activity.what.clone()));
        if !self.queue.is_empty() {
            left.push(format!("a message until {:?}", self.queue.next_visible()));
        }
        let items = self.store.table().items();
        let waits =
            items.iter().filter(|item| item.key.pk.starts_with("RETRY#") || item.key.pk.starts_with("CALLBACK#"));
        left.extend(
            waits.map(|item| format!("{} {}: {}", item.key.pk, item.key.sk, String::from_utf8_lossy(&item.body))),
        );
        // Deliveries that a resource state names and that were never attempted. A name may stay until the next poll.
        let of = |item: &Item| serde_json::from_slice::<Value>(&item.body).unwrap_or_default();
        let named = |row: &Item| {
            let state = |item: &&Item| item.key.pk == row.key.pk && item.key.sk.starts_with("RES#");
            let names =
                |item: &Item| of(item)["handedOver"].as_array().is_some_and(|rows| rows.contains(&json!(row.key.sk)));
            items.iter().filter(state).any(names)
        };
        let rows = items.iter().filter(|item| item.key.sk.starts_with("DLV#"));
        left.extend(
            rows.filter(|row| of(row)["status"] == "created" && named(row))
                .map(|row| format!("{} is not sent", row.key.sk)),
        );
        for (id, _) in self.instances.clone() {
            let polled = self.sim.oracle().last_poll(id);
            if !self.needs_login(id) && polled.is_none_or(|polled| polled < since) {
                left.push(format!("instance {id} was polled at {polled:?} last"));
            }
        }
        left.join("; ")
    }
}
