//! The faulty phase of a simulated run: the events of the fault plan, and the actions of vendors' users and API users.

use std::sync::Arc;

use aws_lambda_events::eventbridge::EventBridgeEvent;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use serde_json::json;

use super::{API, DISPATCHER, SimulatedRun, TimedEvent, answered};
use crate::harness::id_of;
use crate::sim::network::network_conditions;
use crate::sim::oracle::Action;
use crate::sim::plan::EndpointBehavior;

impl SimulatedRun {
    /// Runs the faults of the plan.
    pub(super) fn run_faults(&mut self) {
        let (begins, minutes) = (self.sim.scheduler.now(), self.plan.minutes);
        self.sim.set_rates(self.plan.rates);
        self.http.set_conditions(network_conditions(&self.plan, begins));
        for element in self.records.keys() {
            self.sandbox.set_faults(element, self.plan.vendor.clone()).expect("a vendor");
        }
        self.schedule_events(begins, minutes);
        self.run_until(begins + TimeDelta::minutes(minutes as i64));
        self.calendar.clear();
        self.check_call_counts(begins);
    }

    /// Draws the times of the schedule, the changes, the API calls and the clock jumps.
    fn schedule_events(&mut self, begins: DateTime<Utc>, minutes: u64) {
        let first = begins.duration_trunc(TimeDelta::minutes(1)).unwrap_or(begins) + TimeDelta::minutes(1);
        for minute in 0..minutes as i64 {
            let due = first + TimeDelta::minutes(minute);
            if self.sim.scheduler.chance(self.plan.schedule_skips) {
                continue;
            }
            let late = self.sim.scheduler.draw(|rng| rng.below(4000)) as i64;
            self.at(due + TimeDelta::milliseconds(late), TimedEvent::Schedule(due));
            if self.sim.scheduler.chance(self.plan.schedule_repeats) {
                let late = self.sim.scheduler.draw(|rng| rng.below(150_000)) as i64;
                self.at(due + TimeDelta::milliseconds(late), TimedEvent::Schedule(due));
            }
        }
        let mut unscheduled = Vec::new();
        unscheduled.extend((0..self.plan.changes).map(|_| TimedEvent::VendorChange));
        if self.plan.api_users {
            unscheduled.extend((0..1 + minutes / 4).map(|_| TimedEvent::ApiCall));
        }
        if self.plan.clocks.is_some() {
            unscheduled.extend((0..1 + minutes / 4).map(|_| TimedEvent::ClockJump));
        }
        for event in unscheduled {
            let when = self.sim.scheduler.draw(|rng| rng.below(minutes * 60_000)) as i64;
            self.at(begins + TimeDelta::milliseconds(when), event);
        }
    }

    /// Checks that failing callbacks were not called too often.
    fn check_call_counts(&mut self, begins: DateTime<Utc>) {
        let pollers = self.plan.pollers as u64;
        let unclear = self.plan.rates.crash + self.plan.rates.twice + self.plan.rates.acknowledgement_lost;
        let unclear = unclear + self.plan.rates.store_busy + self.plan.rates.store_answer_lost;
        for (callback, behaviors) in self.plan.behaviors.clone().into_iter().enumerate() {
            for (from, until, behavior) in behaviors {
                let answers = matches!(
                    behavior,
                    EndpointBehavior::Accepts | EndpointBehavior::Slow(_) | EndpointBehavior::Varies
                );
                if answers || self.plan.api_users {
                    continue;
                }
                let lasts = until - from;
                let clear = 12 + 4 * pollers + lasts / 240;
                let most = if unclear > 0 { 4 * clear } else { clear };
                let at = |seconds: u64| begins + TimeDelta::seconds(seconds as i64);
                self.sim.oracle().check_call_count(callback, at(from), at(until), behavior, most);
            }
        }
    }

    /// Schedules an event.
    pub(super) fn at(&mut self, when: DateTime<Utc>, event: TimedEvent) {
        self.next += 1;
        self.calendar.insert((when, self.next), event);
    }

    /// Handles a timed event.
    pub(super) fn handle(&mut self, event: TimedEvent) {
        match event {
            TimedEvent::Schedule(due) => self.dispatch(due),
            TimedEvent::VendorChange => self.change_record(),
            TimedEvent::ApiCall => self.call_api(),
            TimedEvent::ClockJump => {
                let off = self.plan.clocks.unwrap_or_default();
                let (which, by) = self.sim.scheduler.draw(|rng| {
                    let far = if rng.below(4) == 0 { 40 } else { 1 };
                    (rng.below(self.machines.len() as u64), rng.below(2 * off as u64) as i64 * far - off * far)
                });
                self.sim.scheduler.note(format_args!("the clock of machine {which} is wrong by {by} ms"));
                self.machines[which as usize].set_clock_error(TimeDelta::milliseconds(by));
            }
        }
    }

    /// Starts the dispatcher for the schedule's minute `due`.
    fn dispatch(&mut self, due: DateTime<Utc>) {
        let event: EventBridgeEvent = serde_json::from_value(json!({
            "version": "0", "id": "1", "detail-type": "Scheduled Event", "source": "aws.events", "account": "1",
            "time": due, "region": "eu-west-1", "resources": [], "detail": {}
        }))
        .expect("the document EventBridge sends");
        let (service, sim) = (self.services[DISPATCHER].clone(), Arc::clone(&self.sim));
        self.start(format!("dispatcher at {}", due.format("%H:%M")), DISPATCHER, 50, async move {
            match dispatcher::handle(&service, event).await {
                Ok(report) => sim.scheduler.note(format_args!("dispatched: {report:?}")),
                Err(error) => sim.scheduler.note(format_args!("dispatch failed: {error:?}")),
            }
        });
    }

    /// Changes a record at a vendor.
    pub(super) fn change_record(&mut self) {
        let elements: Vec<&'static str> = self.records.keys().copied().collect();
        let element = self.sim.scheduler.draw(|rng| *rng.pick(&elements));
        let accounts = &self.plan.accounts;
        let subject = accounts.iter().find(|it| it.subject.element == element).expect("an account polls it").subject;
        self.version += 1;
        let version = self.version;
        let value = json!({ subject.member: format!("edit {version}") });
        let records = self.records.get_mut(element).expect("an account polls it");
        let (action, which) = self.sim.scheduler.draw(|rng| {
            let actions =
                [Action::Created, Action::Created, Action::Updated, Action::Updated, Action::Updated, Action::Deleted];
            let silent = subject.silent_edits_show && rng.below(8) == 0;
            let action = if silent { Action::Silent } else { *rng.pick(&actions) };
            (if records.is_empty() { Action::Created } else { action }, rng.below(records.len() as u64) as usize)
        });
        let collection = subject.collection;
        let record = match action {
            Action::Created => {
                let record = self.sandbox.create(element, collection, value).expect("a record");
                records.push(id_of(&record[subject.id]));
                records[records.len() - 1].clone()
            }
            Action::Updated => {
                self.sandbox.update(element, collection, &records[which], value).expect("it exists");
                records[which].clone()
            }
            Action::Silent => {
                self.sandbox.edit_silently(element, collection, &records[which], value).expect("it exists");
                records[which].clone()
            }
            Action::Deleted => {
                let record = records.swap_remove(which);
                self.sandbox.delete(element, collection, &record).expect("it exists");
                record
            }
        };
        self.sim.scheduler.note(format_args!("user: {action:?} {element} {record} as version {version}"));
        self.sim.oracle().record_change(subject, &record, action, version, self.sim.scheduler.now());
    }

    /// Starts a call of the API by a user.
    fn call_api(&mut self) {
        let (id, account) = self.sim.scheduler.draw(|rng| rng.pick(&self.instances).clone());
        let resource = account.subject.resource.replace('/', "%2F");
        let what = self.sim.scheduler.draw(|rng| rng.below(8));
        let (method, path, body) = match what {
            0 => ("DELETE", format!("/instances/{id}/enabled"), None),
            1 | 2 => ("PUT", format!("/instances/{id}/enabled"), None),
            3 => ("POST", format!("/instances/{id}/poll?resource={resource}&sweep=true"), None),
            4 | 5 => ("POST", format!("/instances/{id}/poll?resource={resource}"), None),
            6 => ("PUT", format!("/instances/{id}/deliveries"), None),
            _ => {
                let interval = self.sim.scheduler.draw(|rng| rng.between(1, 5));
                let path = format!("/instances/{id}/configuration/event.poller.refresh_interval");
                ("PATCH", path, Some(json!({ "propertyValue": interval.to_string() })))
            }
        };
        let request = self.request(method, &path, body);
        let (api, sim) = (self.api.clone(), Arc::clone(&self.sim));
        self.start(format!("API: {method} {path}"), API, 29, async move {
            let (status, answer) = answered(api, request).await;
            sim.scheduler.note(format_args!("API: {method} {path} was answered {status} {answer}"));
        });
    }
}
