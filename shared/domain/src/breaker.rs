//! One callback of one organization while something is wrong with it: who may be sent, who waits, who asks
//! whether it is back, and in which order the rest follow.
//!
//! Pure: each step takes the stored state and what happened, and leaves the state to be stored. No state at all is
//! what a healthy callback has. The rules:
//!
//! - A delivery that failed is *in flight* until it is settled. A newer one that shares a record with it waits
//!   for it; others pass.
//! - After [`OPENS_AFTER`] failed attempts with no success between them the breaker opens: one delivery, the probe,
//!   is sent at a slowing pace, and every other joins the line. A success at any time closes it and counts from
//!   zero, so a callback that fails four times and works once, over and over, is never cut off.
//! - When a probe fails, the next in line is the next probe, so that a delivery which the receiver cannot stomach
//!   does not stand for a receiver that is back.
//! - When it closes, the line drains in the order in which it was committed, [`DRAIN_WIDTH`] at a time, and newcomers
//!   join its end until it is empty. Those that had climbed their ladder are woken and drain with it: what waits for
//!   tomorrow because the callback was down need not when it is back.
//! - A delivery whose record has an older one under way keeps its place in the line until that has arrived.
//!   If the whole head of the line waits for one that climbs its ladder, that one is the next probe.
//! - With nobody in line there is no probe: those that failed climb their own ladder, and a newcomer is a probe.
//! - A callback that asked for no more, or that failed for as long as a whole ladder can be, is disabled: all join the line and
//!   stay until somebody resumes it.
//!
//! So the order within a record is kept from the first failure on. *Not* promised: the order of two deliveries
//! that are both tried for the first time at the same moment, and that of more than [`MOST_TRACKED`] at once.
//! The `sequence` of an event tells then.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::configuration::FailurePolicy;
use crate::ladder::{LADDER, spread};

/// Consecutive failed attempts after which the rest wait.
pub const OPENS_AFTER: u32 = 5;

/// How many of the line are under way at once while it drains: enough to keep a slow receiver busy, few enough
/// not to fell one that has just got up.
pub const DRAIN_WIDTH: usize = 4;

/// At most so many unsettled deliveries are remembered for the sake of order; keeps the state below 20 KB.
pub const MOST_TRACKED: usize = 64;

/// Seconds between probes, the last for all that follow. A callback that is back is noticed within 15 minutes.
const PACE: [i64; 6] = [30, 60, 120, 240, 480, 900];

/// How much later than what it waits for a delivery is looked at again, if nothing wakes it sooner.
const BEHIND: TimeDelta = TimeDelta::minutes(1);

/// What names a delivery here: commit time, delivery and instance, so that tickets sort in order of commit.
pub type Ticket = String;

/// What is wrong with a callback, and who is affected.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallbackState {
    /// Failed attempts since the last success.
    pub failures: u32,
    /// When the first of them was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<DateTime<Utc>>,
    /// Set while one probes and the rest wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Open>,
    /// Set until somebody resumes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
    /// Unsettled deliveries that are filed for a time of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flight: Vec<Flight>,
    /// How many stand in the line.
    pub waiting: u32,
}

/// The breaker is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// Since when.
    pub since: DateTime<Utc>,
    /// How many probes have failed.
    pub probes: u32,
    /// Who is sent next. None: whoever comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Ticket>,
    /// Not before this instant.
    pub next_probe: DateTime<Utc>,
}

/// The callback is switched off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Disabled {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why, for people.
    pub reason: String,
}

/// An unsettled delivery with a time of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flight {
    /// Which.
    pub ticket: Ticket,
    /// Names of the records inside.
    pub records: Vec<u64>,
    /// When it is tried again.
    pub due: DateTime<Utc>,
    /// It came out of the line and has not been tried since.
    #[serde(default)]
    pub released: bool,
    /// It need not wait until it is due: it goes with the line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub woken: bool,
}

impl Flight {
    fn shares(&self, records: &[u64]) -> bool {
        self.records.iter().any(|record| records.contains(record))
    }
}

/// What a delivery that wants to be sent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Be sent now.
    Send,
    /// Come back at this instant: it is the next probe, or an older one of its records is on its way.
    ComeBack(DateTime<Utc>),
    /// Stand in line.
    JoinLine,
}

/// What follows for a delivery that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another attempt at this instant.
    RetryAt(DateTime<Utc>),
    /// Into the line.
    JoinLine,
    /// Nothing by itself.
    Queue,
}

/// What becomes of a delivery that must wait at a callback which wants only the newest state of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Coalesced {
    /// A newer one tells of all its records: it need not be sent, and was taken out.
    Overtaken,
    /// It tells of all the records of these older ones that wait, which were taken out.
    Overtakes {
        /// Which.
        older: Vec<Ticket>,
        /// When the last of them would have been tried; it takes that time if it does not have to wait for others.
        at: Option<DateTime<Utc>>,
    },
}

/// Who is to be sent ahead of what was filed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// By its place among the heads of the line that were offered; it leaves the line.
    Head(usize),
    /// One that is filed for a later time; that filing may stay.
    Flight(Ticket),
}

/// Who comes out of the line, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Which delivery.
    pub whom: Whom,
    /// When it is to be sent; not later than now means at once.
    pub at: DateTime<Utc>,
}

impl CallbackState {
    /// Nothing is wrong and nobody waits: the state need not be kept.
    pub fn is_healthy(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the delivery is filed for a time of its own.
    pub fn is_in_flight(&self, ticket: &str) -> bool {
        self.flight.iter().any(|flight| flight.ticket == ticket)
    }

    /// The time for which a delivery is filed, if it is tracked. It may have been moved up since its row was written.
    pub fn due_of(&self, ticket: &str) -> Option<DateTime<Utc>> {
        self.flight.iter().find(|flight| flight.ticket == ticket).map(|flight| flight.due)
    }

    /// A delivery wants to be sent.
    pub fn admit(&mut self, ticket: &str, records: &[u64], now: DateTime<Utc>) -> Admission {
        if self.disabled.is_some() {
            return self.join_line(ticket);
        }
        let blocked = self.blocked_until(ticket, records);
        let is_in_flight = self.is_in_flight(ticket);
        if let Some(open) = &mut self.open {
            match &open.probe {
                Some(probe) if probe != ticket => return self.join_line(ticket),
                Some(_) => {}
                None if blocked.is_some() => return self.join_or_follow(ticket, records, blocked, now),
                None => open.probe = Some(ticket.to_owned()),
            }
            let next_probe = open.next_probe;
            self.track(ticket, records, next_probe.max(now), false);
            return if now >= next_probe { Admission::Send } else { Admission::ComeBack(next_probe) };
        }
        if self.waiting > 0 && !is_in_flight {
            return self.join_line(ticket);
        }
        match blocked {
            Some(_) => self.join_or_follow(ticket, records, blocked, now),
            None => Admission::Send,
        }
    }

    fn join_or_follow(
        &mut self,
        ticket: &str,
        records: &[u64],
        blocked: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Admission {
        match blocked {
            Some(until) => {
                // The older one may be late itself.
                let at = until.max(now) + BEHIND;
                self.track(ticket, records, at, false);
                Admission::ComeBack(at)
            }
            None => self.join_line(ticket),
        }
    }

    fn join_line(&mut self, ticket: &str) -> Admission {
        self.leave(ticket);
        self.waiting += 1;
        Admission::JoinLine
    }

    /// The older deliveries in flight that share a record.
    fn blockers(&self, ticket: &str, records: &[u64]) -> impl Iterator<Item = &Flight> {
        self.flight.iter().filter(move |flight| flight.ticket.as_str() < ticket && flight.shares(records))
    }

    /// Until when an older delivery that shares a record is in flight.
    fn blocked_until(&self, ticket: &str, records: &[u64]) -> Option<DateTime<Utc>> {
        self.blockers(ticket, records).map(|flight| flight.due).max()
    }

    fn track(&mut self, ticket: &str, records: &[u64], due: DateTime<Utc>, released: bool) {
        let has_room = self.flight.len() < MOST_TRACKED;
        match self.flight.iter_mut().find(|flight| flight.ticket == ticket) {
            Some(flight) => (flight.due, flight.released, flight.woken) = (due, released, false),
            // What comes out of the line drives the line and is always tracked; there are few of them.
            None if released || has_room => self.flight.push(Flight {
                ticket: ticket.to_owned(),
                records: records.to_vec(),
                due,
                released,
                woken: false,
            }),
            None => {}
        }
    }

    fn leave(&mut self, ticket: &str) {
        self.flight.retain(|flight| flight.ticket != ticket);
        if let Some(open) = &mut self.open
            && open.probe.as_deref() == Some(ticket)
        {
            open.probe = None;
        }
    }

    /// The receiver has it: whatever was wrong is over. Those that followed it go now, and all that wait for their
    /// rung if the breaker was open.
    pub fn succeeded(&mut self, ticket: &str, now: DateTime<Utc>) {
        let followed = self.flight.iter().find(|flight| flight.ticket == ticket).map(|flight| flight.records.clone());
        let was_open = self.open.is_some();
        self.leave(ticket);
        (self.failures, self.failing_since, self.open) = (0, None, None);
        self.wake(now, |flight| was_open || followed.as_ref().is_some_and(|records| flight.shares(records)));
    }

    fn wake(&mut self, now: DateTime<Utc>, which: impl Fn(&Flight) -> bool) {
        // What is due already is on its way.
        for flight in self.flight.iter_mut().filter(|flight| !flight.released && flight.due > now) {
            flight.woken |= which(flight);
        }
    }

    /// It will not be sent, for reasons that say nothing of the callback: its instance is gone, or it is settled.
    pub fn withdrawn(&mut self, ticket: &str) {
        self.leave(ticket);
    }

    /// An attempt failed. `due` is what the ladder says; None: it has ended.
    pub fn failed(
        &mut self,
        ticket: &str,
        records: &[u64],
        due: Option<DateTime<Utc>>,
        policy: FailurePolicy,
        now: DateTime<Utc>,
        jitter: u64,
    ) -> Next {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        if self.disabled.is_some() {
            self.join_line(ticket);
            return Next::JoinLine;
        }
        let opens = self.open.is_none() && self.failures >= OPENS_AFTER;
        if opens {
            self.open = Some(Open { since: now, probes: 0, probe: Some(ticket.to_owned()), next_probe: now });
        }
        // Jitter makes a ladder up to a fifth shorter or longer. Without a success for the shortest, the end of one
        // delivery's ladder says enough; without one for the longest, nothing more need be said.
        let ladder = TimeDelta::seconds(LADDER.iter().sum());
        let for_long = now - since >= if due.is_none() { ladder * 4 / 5 } else { ladder * 6 / 5 };
        match &mut self.open {
            Some(_) if policy == FailurePolicy::Queue => {
                self.disable("it failed, and its failure policy is to queue", now);
                self.join_line(ticket);
                Next::JoinLine
            }
            Some(open) if open.probe.as_deref() == Some(ticket) || open.probe.is_none() => {
                let pace = PACE[(open.probes as usize).min(PACE.len() - 1)];
                open.probes = open.probes.saturating_add(1);
                open.next_probe = now + spread(TimeDelta::seconds(pace), jitter);
                if for_long {
                    self.disable("it failed for as long as the whole ladder of retries", now);
                    self.join_line(ticket);
                    return Next::JoinLine;
                }
                // Whoever waits is next; with nobody waiting, whoever comes.
                open.probe = None;
                self.retry_or_line(ticket, records, due)
            }
            Some(_) => self.retry_or_line(ticket, records, due),
            None => match due {
                Some(_) => self.retry_or_line(ticket, records, due),
                None => {
                    self.leave(ticket);
                    Next::Queue
                }
            },
        }
    }

    fn retry_or_line(&mut self, ticket: &str, records: &[u64], due: Option<DateTime<Utc>>) -> Next {
        match due {
            Some(due) => {
                self.track(ticket, records, due, false);
                Next::RetryAt(due)
            }
            None => {
                self.join_line(ticket);
                Next::JoinLine
            }
        }
    }

    /// Switches the callback off. Whoever comes joins the line.
    pub fn disable(&mut self, reason: &str, now: DateTime<Utc>) {
        self.open = None;
        self.disabled.get_or_insert(Disabled { since: now, reason: reason.to_owned() });
    }

    /// The receiver said that it wants no more; the delivery it said so to joins the line.
    pub fn refused(&mut self, ticket: &str, reason: &str, now: DateTime<Utc>) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.disable(reason, now);
        self.join_line(ticket);
    }

    /// Somebody says that it works again: the line drains, and nobody waits for a rung.
    pub fn resume(&mut self, now: DateTime<Utc>) {
        (self.failures, self.failing_since, self.open, self.disabled) = (0, None, None, None);
        self.wake(now, |_| true);
    }

    /// How many should come out of the line or be moved up.
    pub fn wants(&self) -> usize {
        let count = |which: fn(&Flight) -> bool| self.flight.iter().filter(|flight| which(flight)).count();
        let waiting = self.waiting as usize;
        match &self.open {
            _ if self.disabled.is_some() => 0,
            Some(open) => usize::from(open.probe.is_none()).min(waiting),
            None => {
                let room = DRAIN_WIDTH.saturating_sub(count(|flight| flight.released));
                room.min(waiting + count(|flight| flight.woken))
            }
        }
    }

    /// Takes out of the line as many as it wants and can have. `heads` are the first in line, in order, each with its
    /// records.
    pub fn release(&mut self, heads: &[(Ticket, Vec<u64>)], now: DateTime<Utc>) -> Vec<Release> {
        if self.wants() == 0 {
            return Vec::new();
        }
        match &self.open {
            Some(open) => {
                let at = open.next_probe.max(now);
                self.release_probe(heads, at).into_iter().collect()
            }
            None => self.release_all(heads, now),
        }
    }

    fn release_probe(&mut self, heads: &[(Ticket, Vec<u64>)], at: DateTime<Utc>) -> Option<Release> {
        let (first, _) = heads.first()?;
        let mut stay = Vec::new();
        let free = heads.iter().position(|(ticket, records)| {
            let stays =
                records.iter().any(|record| stay.contains(record)) || self.blocked_until(ticket, records).is_some();
            stay.extend_from_slice(records);
            !stays
        });
        let (whom, ticket, records) = match free {
            Some(head) => {
                self.waiting = self.waiting.saturating_sub(1);
                (Whom::Head(head), heads[head].0.clone(), heads[head].1.clone())
            }
            None => {
                let older = self.flight.iter().filter(|flight| !flight.released && flight.ticket < *first);
                let oldest = older.min_by(|a, b| a.ticket.cmp(&b.ticket))?.clone();
                (Whom::Flight(oldest.ticket.clone()), oldest.ticket, oldest.records)
            }
        };
        self.track(&ticket, &records, at, true);
        self.open.iter_mut().for_each(|open| open.probe = Some(ticket.clone()));
        Some(Release { whom, at })
    }

    /// One that must follow a delivery on its ladder comes out to wait elsewhere, so as not to hold up those behind
    /// it; one that must follow a delivery which is under way stays, for that is soon over.
    fn release_all(&mut self, heads: &[(Ticket, Vec<u64>)], now: DateTime<Utc>) -> Vec<Release> {
        let woken = self.flight.iter().filter(|flight| flight.woken);
        let mut order: Vec<(Option<usize>, Ticket, Vec<u64>)> =
            woken.map(|flight| (None, flight.ticket.clone(), flight.records.clone())).collect();
        order.extend(heads.iter().cloned().enumerate().map(|(head, (ticket, records))| (Some(head), ticket, records)));
        order.sort_by(|a, b| a.1.cmp(&b.1));
        let (mut releases, mut stay) = (Vec::new(), Vec::<u64>::new());
        for (head, ticket, records) in order {
            if self.wants() == 0 {
                break;
            }
            let soon = |flight: &Flight| flight.released || flight.woken || flight.due <= now;
            let until = self.blocked_until(&ticket, &records);
            if records.iter().any(|record| stay.contains(record)) || self.blockers(&ticket, &records).any(soon) {
                stay.extend(records);
                continue;
            }
            let (at, released) = match (head, until) {
                (_, None) => (now, true),
                (Some(_), Some(until)) => (until.max(now) + BEHIND, false),
                // It is filed behind what it follows, which will wake it.
                (None, Some(_)) => {
                    self.flight
                        .iter_mut()
                        .filter(|flight| flight.ticket == ticket)
                        .for_each(|flight| flight.woken = false);
                    continue;
                }
            };
            self.waiting = self.waiting.saturating_sub(u32::from(head.is_some()));
            self.track(&ticket, &records, at, released);
            releases.push(Release { whom: head.map_or(Whom::Flight(ticket), Whom::Head), at });
        }
        releases
    }

    /// A delivery of a callback that wants only the newest has been filed for a time of its own or joined the line.
    /// Compares it with those in flight that are not being sent at this moment, at most `most` of them.
    pub fn coalesce(&mut self, ticket: &str, records: &[u64], most: usize, now: DateTime<Utc>) -> Coalesced {
        let within = |inner: &[u64], outer: &[u64]| inner.iter().all(|record| outer.contains(record));
        if self.flight.iter().any(|flight| flight.ticket.as_str() > ticket && within(records, &flight.records)) {
            self.overtaken(ticket);
            return Coalesced::Overtaken;
        }
        let older: Vec<Flight> = self
            .flight
            .iter()
            .filter(|flight| flight.ticket.as_str() < ticket && within(&flight.records, records))
            .filter(|flight| !flight.released && flight.due > now)
            .take(most)
            .cloned()
            .collect();
        older.iter().for_each(|flight| self.leave(&flight.ticket));
        let free = self.open.is_none() && self.is_in_flight(ticket) && self.blocked_until(ticket, records).is_none();
        let at = older.iter().map(|flight| flight.due).max().filter(|_| free);
        if let Some(at) = at {
            self.track(ticket, records, at, false);
        }
        Coalesced::Overtakes { older: older.into_iter().map(|flight| flight.ticket).collect(), at }
    }

    /// A delivery that waits need not be sent: a newer one tells of its records.
    pub fn overtaken(&mut self, ticket: &str) {
        // It is either filed for a time of its own or stands in line.
        if self.is_in_flight(ticket) {
            self.leave(ticket);
        } else {
            self.waiting = self.waiting.saturating_sub(1);
        }
    }

    /// The line was found empty, its entries having expired; `joining` are about to join it.
    pub fn line_is_empty(&mut self, joining: u32) {
        self.waiting = joining;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_603_600 + seconds, 0).unwrap_or_default()
    }

    /// Without jitter.
    const EVEN: u64 = 200;

    fn fail(state: &mut CallbackState, ticket: &str, record: u64, seconds: i64) -> Next {
        state.failed(ticket, &[record], Some(at(seconds + 300)), FailurePolicy::Retry, at(seconds), EVEN)
    }

    /// The places in line of those that were released, and the tickets of those moved up.
    fn places(released: &[Release]) -> Vec<usize> {
        let place = |one: &Release| match &one.whom {
            Whom::Head(head) => *head,
            Whom::Flight(ticket) => panic!("{ticket} was not in line"),
        };
        released.iter().map(place).collect()
    }

    fn opened() -> CallbackState {
        let mut state = CallbackState::default();
        for n in 1..=5 {
            fail(&mut state, &n.to_string(), n, n as i64);
        }
        state
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_four_never_do() {
        let mut state = CallbackState::default();
        for round in 0..10 {
            for n in 0..4 {
                assert_eq!(fail(&mut state, "b", n, round), Next::RetryAt(at(round + 300)));
            }
            assert!(state.open.is_none());
            state.succeeded("a", at(0));
        }
        state.succeeded("b", at(0));
        assert!(state.is_healthy());
        assert!(opened().open.is_some());
    }

    #[test]
    fn while_open_one_probes_and_the_rest_stand_in_line() {
        let mut state = opened();
        let next = at(5 + 30);
        assert_eq!(state.admit("6", &[6], at(6)), Admission::ComeBack(next), "the first to come is the probe");
        assert_eq!(state.admit("7", &[7], at(6)), Admission::JoinLine);
        assert_eq!(state.admit("1", &[1], at(20)), Admission::JoinLine, "a failed one whose time has come waits, too");
        assert_eq!(state.waiting, 2);
        assert_eq!(state.admit("6", &[6], at(10)), Admission::ComeBack(next));
        assert_eq!(state.admit("6", &[6], next), Admission::Send);
        // The probe fails: the first in line is the next one, a minute later.
        assert_eq!(fail(&mut state, "6", 6, 35), Next::RetryAt(at(335)));
        assert_eq!(state.wants(), 1);
        let heads = [("1".to_owned(), vec![1]), ("7".to_owned(), vec![7])];
        assert_eq!(state.release(&heads, at(35)), [Release { whom: Whom::Head(0), at: at(35 + 60) }]);
        assert_eq!(state.admit("6", &[6], at(335)), Admission::JoinLine);
        assert_eq!(state.admit("1", &[1], at(95)), Admission::Send);
        assert_eq!(fail(&mut state, "1", 1, 95), Next::RetryAt(at(395)));
        assert_eq!(state.open.as_ref().map(|open| open.next_probe), Some(at(95 + 120)));
    }

    #[test]
    fn the_pace_of_probes_slows_down_to_a_quarter_of_an_hour() {
        let mut state = opened();
        let paces: Vec<i64> = (0..7)
            .map(|_| {
                let now = state.open.as_ref().map_or(at(0), |open| open.next_probe);
                assert_eq!(state.admit("9", &[9], now), Admission::Send, "with nobody waiting, whoever comes probes");
                let due = now + TimeDelta::hours(24);
                let next = state.failed("9", &[9], Some(due), FailurePolicy::Retry, now, EVEN);
                assert_eq!(next, Next::RetryAt(due), "its own ladder is not touched");
                state.open.as_ref().map_or(0, |open| (open.next_probe - now).num_seconds())
            })
            .collect();
        assert_eq!(paces, [60, 120, 240, 480, 900, 900, 900]);
    }

    #[test]
    fn when_it_closes_the_line_drains_in_order_and_newcomers_join_its_end() {
        let mut state = opened();
        assert_eq!(state.admit("05", &[5], at(6)), Admission::ComeBack(at(35)));
        for n in 6..=12 {
            assert_eq!(state.admit(&format!("{n:02}"), &[n], at(6)), Admission::JoinLine);
        }
        // What climbed its ladder is not in this story.
        state.flight.retain(|flight| flight.ticket == "05");
        state.succeeded("05", at(40));
        assert!(state.open.is_none());
        assert_eq!(state.admit("13", &[13], at(40)), Admission::JoinLine);
        let heads: Vec<(Ticket, Vec<u64>)> = (6..=13).map(|n| (format!("{n:02}"), vec![n])).collect();
        let released = state.release(&heads, at(40));
        assert_eq!(places(&released), [0, 1, 2, 3]);
        assert_eq!(state.admit("06", &[6], at(41)), Admission::Send);
        state.succeeded("06", at(0));
        assert_eq!(state.release(&heads[4..], at(42)).len(), 1);
        assert_eq!(state.waiting, 3);
    }

    #[test]
    fn a_newer_delivery_of_a_failed_record_follows_it_and_others_pass() {
        let mut state = CallbackState::default();
        assert_eq!(fail(&mut state, "1", 77, 0), Next::RetryAt(at(300)));
        assert_eq!(state.admit("2", &[78], at(1)), Admission::Send);
        assert_eq!(state.admit("3", &[5, 77], at(1)), Admission::ComeBack(at(360)));
        assert_eq!(state.admit("4", &[5], at(1)), Admission::ComeBack(at(420)), "behind the one that is behind");
        assert_eq!(state.admit("1", &[77], at(300)), Admission::Send);
        state.succeeded("1", at(0));
        assert_eq!(state.admit("3", &[5, 77], at(301)), Admission::Send);
    }

    #[test]
    fn when_it_closes_those_on_their_ladder_go_first_and_none_overtakes_within_its_record() {
        let mut state = opened();
        assert_eq!(state.admit("6", &[6], at(6)), Admission::ComeBack(at(35)));
        for (ticket, record) in [("7", 1), ("8", 1), ("9", 2)] {
            assert_eq!(state.admit(ticket, &[record], at(6)), Admission::JoinLine);
        }
        state.succeeded("6", at(40));
        let mut line = vec![("7".to_owned(), vec![1]), ("8".to_owned(), vec![1]), ("9".to_owned(), vec![2])];
        let go = |state: &mut CallbackState, line: &mut Vec<(Ticket, Vec<u64>)>| -> Vec<Ticket> {
            let mut gone = Vec::new();
            for one in state.release(&line.clone(), at(40)) {
                assert_eq!(one.at, at(40), "at once");
                gone.push(match one.whom {
                    Whom::Flight(ticket) => ticket,
                    Whom::Head(head) => line[head].0.clone(),
                });
            }
            line.retain(|(ticket, _)| !gone.contains(ticket));
            gone
        };
        assert_eq!(go(&mut state, &mut line), ["1", "2", "3", "4"]);
        assert_eq!(state.admit("1", &[1], at(40)), Admission::Send, "ahead of the time it was filed for");
        state.succeeded("3", at(41));
        assert_eq!(go(&mut state, &mut line), ["5"]);
        state.succeeded("4", at(41));
        assert_eq!(go(&mut state, &mut line), [""; 0], "all in line wait for one that is under way");
        state.succeeded("1", at(42));
        assert_eq!(go(&mut state, &mut line), ["7"]);
        state.succeeded("2", at(43));
        assert_eq!(go(&mut state, &mut line), ["9"]);
        state.succeeded("7", at(44));
        assert_eq!(go(&mut state, &mut line), ["8"]);
        ["5", "8", "9"].iter().for_each(|ticket| state.succeeded(ticket, at(45)));
        assert!(state.is_healthy(), "{state:?}");
    }

    #[test]
    fn if_all_wait_for_one_on_its_ladder_that_one_probes() {
        let mut state = CallbackState::default();
        for second in 0..5 {
            let due = Some(at(7200));
            assert_eq!(state.failed("1", &[1], due, FailurePolicy::Retry, at(second), EVEN), Next::RetryAt(at(7200)));
        }
        state.open.iter_mut().for_each(|open| open.probe = Some("2".into()));
        assert_eq!(state.admit("3", &[1], at(6)), Admission::JoinLine);
        state.withdrawn("2");
        let released = state.release(&[("3".to_owned(), vec![1])], at(6));
        assert_eq!(released, [Release { whom: Whom::Flight("1".into()), at: at(4 + 30) }]);
        assert_eq!((state.due_of("1"), state.waiting, state.wants()), (Some(at(34)), 1, 0));
        assert_eq!(state.admit("1", &[1], at(34)), Admission::Send);
        state.succeeded("1", at(35));
        assert_eq!(places(&state.release(&[("3".to_owned(), vec![1])], at(35))), [0]);
    }

    #[test]
    fn one_in_line_that_must_follow_does_not_hold_up_the_line() {
        let mut state = CallbackState { waiting: 2, ..CallbackState::default() };
        fail(&mut state, "0", 77, 0);
        let heads = [("1".to_owned(), vec![77]), ("2".to_owned(), vec![78])];
        let released = state.release(&heads, at(10));
        assert_eq!(
            released,
            [Release { whom: Whom::Head(0), at: at(360) }, Release { whom: Whom::Head(1), at: at(10) }]
        );
        assert_eq!(state.waiting, 0);
    }

    #[test]
    fn of_those_that_wait_the_newest_takes_the_place_of_the_older() {
        let mut state = CallbackState::default();
        fail(&mut state, "1", 7, 0);
        assert_eq!(state.admit("2", &[7], at(1)), Admission::ComeBack(at(360)));
        let older =
            |older: &[&str], at| Coalesced::Overtakes { older: older.iter().map(|one| one.to_string()).collect(), at };
        assert_eq!(state.coalesce("2", &[7], 9, at(1)), older(&["1"], Some(at(300))));
        assert_eq!(state.due_of("2"), Some(at(300)));
        // One that tells of less takes nobody's place and waits behind the others.
        assert_eq!(state.admit("3", &[7, 8], at(2)), Admission::ComeBack(at(360)));
        assert_eq!(state.coalesce("3", &[7, 8], 9, at(2)), older(&["2"], Some(at(300))));
        assert_eq!(state.admit("4", &[8], at(3)), Admission::ComeBack(at(360)));
        assert_eq!(state.coalesce("4", &[8], 9, at(3)), older(&[], None));
        // What is being sent is let be, and an old one that comes back finds that it is overtaken.
        assert_eq!(state.coalesce("5", &[7, 8], 9, at(301)), older(&["4"], None));
        fail(&mut state, "3", 8, 302);
        state.track("5", &[7, 8], at(900), false);
        assert_eq!(state.coalesce("3", &[7, 8], 9, at(302)), Coalesced::Overtaken);
        assert_eq!(state.flight.len(), 1);
    }

    fn flight(ticket: &str, record: u64, due: i64) -> Flight {
        Flight { ticket: ticket.into(), records: vec![record], due: at(due), released: false, woken: false }
    }

    fn flying(flight: &[Flight], waiting: u32) -> CallbackState {
        CallbackState { flight: flight.to_vec(), waiting, ..CallbackState::default() }
    }

    fn woken(state: &CallbackState) -> Vec<&str> {
        state.flight.iter().filter(|flight| flight.woken).map(|flight| flight.ticket.as_str()).collect()
    }

    #[test]
    fn so_many_are_tracked_and_what_comes_out_of_the_line() {
        let mut state = CallbackState::default();
        for n in 0..100 {
            fail(&mut state, &format!("{n:03}"), n, 0);
        }
        assert_eq!(state.flight.len(), MOST_TRACKED);
        state.resume(at(1000));
        state.waiting = 1;
        assert_eq!(places(&state.release(&[("999".to_owned(), vec![999])], at(1000))), [0]);
        assert_eq!(state.flight.len(), MOST_TRACKED + 1);
    }

    #[test]
    fn a_success_wakes_those_that_follow_it_and_what_is_due_needs_no_waking() {
        let mut state =
            flying(&[flight("0", 5, 300), flight("1", 77, 300), flight("2", 77, 360), flight("3", 5, 360)], 0);
        state.succeeded("1", at(1));
        assert_eq!(woken(&state), ["2"]);
        let mut state = flying(&[flight("1", 1, 99), flight("2", 2, 100), flight("3", 3, 101)], 0);
        state.resume(at(100));
        assert_eq!(woken(&state), ["3"]);
    }

    #[test]
    fn how_long_is_long_depends_on_whether_a_ladder_ended() {
        let ladder: i64 = LADDER.iter().sum();
        let after = |seconds: i64, due: Option<i64>| {
            let mut state = opened();
            // The first failure was in second 1.
            let now = at(1 + seconds);
            let next = state.failed("5", &[5], due.map(at), FailurePolicy::Retry, now, EVEN);
            (next, state.disabled.is_some())
        };
        assert_eq!(after(ladder * 4 / 5 - 1, None), (Next::JoinLine, false));
        assert_eq!(after(ladder * 4 / 5, None), (Next::JoinLine, true));
        assert_eq!(after(ladder * 6 / 5 - 1, Some(9)), (Next::RetryAt(at(9)), false));
        assert_eq!(after(ladder * 6 / 5, Some(9)), (Next::JoinLine, true));
    }

    #[test]
    fn another_that_fails_does_not_slow_the_probe() {
        let mut state = opened();
        assert_eq!(state.admit("6", &[6], at(6)), Admission::ComeBack(at(35)));
        let before = state.open.clone();
        assert_eq!(fail(&mut state, "1", 1, 7), Next::RetryAt(at(307)));
        assert_eq!(state.open, before);
    }

    #[test]
    fn if_all_wait_the_oldest_that_is_not_under_way_probes() {
        let mut state = flying(&[Flight { released: true, ..flight("1", 1, 300) }, flight("2", 1, 300)], 1);
        state.open = Some(Open { since: at(0), probes: 0, probe: None, next_probe: at(30) });
        let released = state.release(&[("3".to_owned(), vec![1])], at(6));
        assert_eq!(released, [Release { whom: Whom::Flight("2".into()), at: at(30) }]);
    }

    #[test]
    fn behind_what_goes_soon_one_stays_in_line() {
        let head = [("2".to_owned(), vec![1])];
        for soon in [
            Flight { released: true, ..flight("1", 1, 300) },
            Flight { woken: true, ..flight("1", 1, 300) },
            flight("1", 1, 10),
        ] {
            // Room for one: what is woken takes it.
            let mut state = flying(std::slice::from_ref(&soon), 1);
            let released = state.release(&head, at(10));
            assert!(released.iter().all(|one| one.whom == Whom::Flight("1".into())), "{soon:?}: {released:?}");
            assert_eq!(state.waiting, 1, "{soon:?}");
        }
        let mut state = flying(&[flight("1", 1, 300)], 1);
        assert_eq!(state.release(&head, at(10)), [Release { whom: Whom::Head(0), at: at(360) }]);
    }

    #[test]
    fn one_that_follows_another_on_its_ladder_is_not_woken_before_it() {
        let mut state =
            flying(&[flight("1", 1, 300), Flight { woken: true, ..flight("2", 1, 360) }, flight("3", 9, 360)], 0);
        assert_eq!(state.release(&[], at(10)), []);
        assert!(woken(&state).is_empty());
        assert_eq!(state.due_of("2"), Some(at(360)));
    }

    #[test]
    fn the_newest_takes_a_time_only_where_it_may_be_sent() {
        let due = |state: &mut CallbackState, now| match state.coalesce("2", &[7], 9, at(now)) {
            Coalesced::Overtakes { older, at } => (older.len(), at),
            Coalesced::Overtaken => panic!("there is none newer"),
        };
        let both = [flight("1", 7, 300), flight("2", 7, 360)];
        assert_eq!(due(&mut flying(&both, 0), 299), (1, Some(at(300))));
        assert_eq!(due(&mut flying(&both, 0), 300), (0, None), "it is being sent");
        let mut in_line = flying(&both[..1], 1);
        assert_eq!(due(&mut in_line, 1), (1, None));
        assert!(!in_line.is_in_flight("2"));
        let open = Some(Open { since: at(0), probes: 0, probe: None, next_probe: at(30) });
        assert_eq!(due(&mut CallbackState { open, ..flying(&both, 0) }, 1), (1, None));
        let follows = [flight("0", 7, 300), flight("1", 7, 320), flight("2", 7, 360)];
        let mut state = flying(&follows, 0);
        state.flight[0].records.push(8);
        assert_eq!(due(&mut state, 1), (1, None), "it follows one that it does not replace");
    }

    #[test]
    fn a_line_that_expired_is_empty_but_for_those_who_join_it() {
        let mut state = flying(&[], 3);
        state.line_is_empty(1);
        assert_eq!(state.waiting, 1);
    }

    #[test]
    fn gone_means_gone_until_resumed() {
        let mut state = CallbackState::default();
        state.refused("1", "410", at(0));
        assert_eq!(state.admit("2", &[2], at(1)), Admission::JoinLine);
        assert_eq!((state.wants(), state.waiting), (0, 2));
        state.resume(at(3));
        assert_eq!((state.wants(), state.failures), (2, 0));
        // A second attempt that was already under way changes nothing of that.
        assert_eq!(fail(&mut state, "3", 3, 5), Next::RetryAt(at(305)));
    }

    #[test]
    fn after_a_whole_ladder_of_failures_it_is_disabled() {
        let mut state = opened();
        let late = 91 * 3600;
        assert_eq!(fail(&mut state, "5", 5, late), Next::JoinLine);
        assert!(state.disabled.is_some());
        assert_eq!(state.waiting, 1);
    }

    #[test]
    fn a_single_delivery_at_its_end_is_queued_and_the_queue_policy_does_not_probe() {
        let mut state = CallbackState::default();
        let mut end = |ticket: &str, policy| state.failed(ticket, &[1], None, policy, at(0), EVEN);
        assert_eq!(end("1", FailurePolicy::Retry), Next::Queue);
        for n in 2..5 {
            assert_eq!(end(&n.to_string(), FailurePolicy::Queue), Next::Queue);
        }
        assert_eq!(end("5", FailurePolicy::Queue), Next::JoinLine);
        assert!(state.disabled.is_some() && state.flight.is_empty());
    }
}
