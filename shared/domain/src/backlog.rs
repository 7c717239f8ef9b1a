//! The deliveries behind a callback: those in flight, each with a time of its own, and those that wait in the backlog.
//!
//! - A delivery that failed is *in flight* until it is settled. A newer one that shares a record with it waits for it;
//!   others pass.
//! - The backlog drains in the order in which it was committed, [`DRAIN_WIDTH`] at a time. Those in flight that may go
//!   early drain with it: what waits for tomorrow because the callback was down need not when it is back.
//! - A delivery whose record has an older one under way keeps its place in the backlog until that has arrived.
//!
//! So the order within a record is kept from the first failure on. *Not* promised: the order of two deliveries that are
//! both tried for the first time at the same moment, and that of more than [`MOST_TRACKED`] at once. The `sequence` of an
//! event tells then.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::delivery::DeliveryKey;

/// How many of the backlog are under way at once while it drains: enough to keep a slow receiver busy, few enough not to
/// overload one that has just come back.
pub const DRAIN_WIDTH: usize = 4;

/// At most so many unsettled deliveries are remembered for the sake of order; keeps the state below 20 KB.
pub const MOST_TRACKED: usize = 64;

/// How much later than what it waits for a delivery is looked at again, if nothing releases it sooner.
const BEHIND: TimeDelta = TimeDelta::minutes(1);

/// The unsettled deliveries behind a callback.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Those that are filed for a time of their own.
    pub in_flight: Vec<InFlight>,
    /// The number of those that wait.
    pub waiting: u32,
}

/// An unsettled delivery with a time of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InFlight {
    /// Its key.
    #[serde(rename = "ticket")]
    pub key: DeliveryKey,
    /// Names of the records inside.
    pub records: Vec<u64>,
    /// When it is tried again.
    pub due: DateTime<Utc>,
    /// It came out of the backlog and has not been tried since.
    #[serde(default)]
    pub released: bool,
    /// It need not wait until it is due: it is released with the backlog.
    #[serde(default, rename = "woken", skip_serializing_if = "std::ops::Not::not")]
    pub release_early: bool,
}

impl InFlight {
    fn shares(&self, records: &[u64]) -> bool {
        self.records.iter().any(|record| records.contains(record))
    }
}

/// A delivery that waits in the backlog, as its entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its key.
    pub key: DeliveryKey,
    /// Names of the records inside.
    pub records: Vec<u64>,
}

/// A delivery that is to be sent ahead of what was filed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Its key.
    pub key: DeliveryKey,
    /// Where it comes from.
    pub from: ReleasedFrom,
    /// When it is to be sent; not later than now means at once.
    pub at: DateTime<Utc>,
}

/// Where a released delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleasedFrom {
    /// The backlog, which it leaves.
    Backlog,
    /// Its own later time; that filing may stay.
    Flight,
}

impl Backlog {
    /// Whether the delivery is filed for a time of its own.
    pub fn is_in_flight(&self, key: &DeliveryKey) -> bool {
        self.in_flight.iter().any(|one| one.key == *key)
    }

    /// The time for which a delivery is filed, if it is tracked. It may have been moved up since its row was written.
    pub fn due_of(&self, key: &DeliveryKey) -> Option<DateTime<Utc>> {
        self.in_flight.iter().find(|one| one.key == *key).map(|one| one.due)
    }

    /// The older deliveries in flight that share a record.
    fn blockers(&self, key: &DeliveryKey, records: &[u64]) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().filter(move |one| one.key < *key && one.shares(records))
    }

    /// Until when an older delivery that shares a record is in flight.
    pub(crate) fn blocked_until(&self, key: &DeliveryKey, records: &[u64]) -> Option<DateTime<Utc>> {
        self.blockers(key, records).map(|one| one.due).max()
    }

    /// Files a delivery behind the one that it waits for, which may be late itself.
    pub(crate) fn follow(
        &mut self,
        key: &DeliveryKey,
        records: &[u64],
        until: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let at = until.max(now) + BEHIND;
        self.track(key, records, at, false);
        at
    }

    /// Remembers for when a delivery is filed.
    pub(crate) fn track(&mut self, key: &DeliveryKey, records: &[u64], due: DateTime<Utc>, released: bool) {
        let has_room = self.in_flight.len() < MOST_TRACKED;
        match self.in_flight.iter_mut().find(|one| one.key == *key) {
            Some(one) => (one.due, one.released, one.release_early) = (due, released, false),
            // What comes out of the backlog draws the rest of it and is always tracked; there are few of them.
            None if released || has_room => self.in_flight.push(InFlight {
                key: key.clone(),
                records: records.to_vec(),
                due,
                released,
                release_early: false,
            }),
            None => {}
        }
    }

    /// Forgets a delivery in flight. Answers the records inside, if it was tracked.
    pub(crate) fn leave(&mut self, key: &DeliveryKey) -> Option<Vec<u64>> {
        let place = self.in_flight.iter().position(|one| one.key == *key)?;
        Some(self.in_flight.remove(place).records)
    }

    /// A delivery joins those that wait.
    pub(crate) fn join(&mut self, key: &DeliveryKey) {
        self.leave(key);
        self.waiting += 1;
    }

    /// Lets those in flight go early that are not due yet; what is due is on its way.
    pub(crate) fn let_go_early(&mut self, now: DateTime<Utc>, which: impl Fn(&InFlight) -> bool) {
        for one in self.in_flight.iter_mut().filter(|one| !one.released && one.due > now) {
            one.release_early |= which(one);
        }
    }

    /// The same, of those that share one of the records.
    pub(crate) fn let_followers_go_early(&mut self, records: &[u64], now: DateTime<Utc>) {
        self.let_go_early(now, |one| one.shares(records));
    }

    /// How many more may come out of the backlog or go early while it drains.
    pub(crate) fn vacancies(&self) -> usize {
        let count = |which: fn(&InFlight) -> bool| self.in_flight.iter().filter(|one| which(one)).count();
        let free = DRAIN_WIDTH.saturating_sub(count(|one| one.released));
        free.min(self.waiting as usize + count(|one| one.release_early))
    }

    /// Chooses the next probe among the first that wait, in order. If each of them follows one in flight, the oldest in
    /// flight that is not under way probes.
    pub(crate) fn release_probe(&mut self, front: &[Waiting], at: DateTime<Utc>) -> Option<Release> {
        let first = front.first()?;
        let mut stay = Vec::new();
        let free = front.iter().find(|waiting| {
            let records = &waiting.records;
            let stays = records.iter().any(|record| stay.contains(record))
                || self.blocked_until(&waiting.key, records).is_some();
            stay.extend_from_slice(records);
            !stays
        });
        let (from, key, records) = match free {
            Some(free) => {
                self.waiting = self.waiting.saturating_sub(1);
                (ReleasedFrom::Backlog, free.key.clone(), free.records.clone())
            }
            None => {
                let older = self.in_flight.iter().filter(|one| !one.released && one.key < first.key);
                let oldest = older.min_by(|a, b| a.key.cmp(&b.key))?.clone();
                (ReleasedFrom::Flight, oldest.key, oldest.records)
            }
        };
        self.track(&key, &records, at, true);
        Some(Release { key, from, at })
    }

    /// Takes out as many as there are vacancies for. One that must follow a delivery on its retry schedule comes out to
    /// wait elsewhere, so as not to hold up those behind it; one that must follow a delivery which is under way stays,
    /// for that is soon over.
    pub(crate) fn release(&mut self, front: &[Waiting], now: DateTime<Utc>) -> Vec<Release> {
        let early = self.in_flight.iter().filter(|one| one.release_early);
        let mut order: Vec<(ReleasedFrom, DeliveryKey, Vec<u64>)> =
            early.map(|one| (ReleasedFrom::Flight, one.key.clone(), one.records.clone())).collect();
        order.extend(front.iter().map(|one| (ReleasedFrom::Backlog, one.key.clone(), one.records.clone())));
        order.sort_by(|a, b| a.1.cmp(&b.1));
        let (mut releases, mut stay) = (Vec::new(), Vec::<u64>::new());
        for (from, key, records) in order {
            if self.vacancies() == 0 {
                break;
            }
            let soon = |one: &InFlight| one.released || one.release_early || one.due <= now;
            if records.iter().any(|record| stay.contains(record)) || self.blockers(&key, &records).any(soon) {
                stay.extend(records);
                continue;
            }
            let at = match (from, self.blocked_until(&key, &records)) {
                (_, None) => {
                    self.track(&key, &records, now, true);
                    now
                }
                (ReleasedFrom::Backlog, Some(until)) => self.follow(&key, &records, until, now),
                // It is filed behind what it follows, which will let it go.
                (ReleasedFrom::Flight, Some(_)) => {
                    self.in_flight.iter_mut().filter(|one| one.key == key).for_each(|one| one.release_early = false);
                    continue;
                }
            };
            self.waiting = self.waiting.saturating_sub(u32::from(from == ReleasedFrom::Backlog));
            releases.push(Release { key, from, at });
        }
        releases
    }

    /// Whether a newer delivery in flight tells of all the records.
    pub(crate) fn has_newer(&self, key: &DeliveryKey, records: &[u64]) -> bool {
        self.in_flight.iter().any(|one| one.key > *key && all_within(records, &one.records))
    }

    /// The older deliveries in flight that tell of none but the records and are not being sent at this moment, at most
    /// `most` of them.
    pub(crate) fn older_within(
        &self,
        key: &DeliveryKey,
        records: &[u64],
        most: usize,
        now: DateTime<Utc>,
    ) -> Vec<InFlight> {
        let older = self.in_flight.iter().filter(|one| one.key < *key && all_within(&one.records, records));
        older.filter(|one| !one.released && one.due > now).take(most).cloned().collect()
    }
}

fn all_within(inner: &[u64], outer: &[u64]) -> bool {
    inner.iter().all(|record| outer.contains(record))
}

/// The deliveries in the backlog that share records with one that joins it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbors {
    /// By record: the delivery that joined last.
    pub newest: BTreeMap<u64, DeliveryKey>,
    /// The records of each of these that still waits.
    pub waiting: BTreeMap<DeliveryKey, Vec<u64>>,
}

/// How a delivery that joins the backlog stands to its neighbors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Comparison {
    /// Each of its records has a newer one.
    pub(crate) superseded: bool,
    /// Those that it, with others, makes needless.
    pub(crate) older: Vec<DeliveryKey>,
    /// The records of which it is the newest.
    pub(crate) newest_of: Vec<u64>,
}

impl Neighbors {
    /// The records of the neighbors whose newest delivery is not known yet. An older one may tell of other records, too,
    /// which still newer ones tell of.
    pub fn unknown_records(&self) -> Vec<u64> {
        let records = self.waiting.values().flatten().copied();
        records.filter(|record| !self.newest.contains_key(record)).collect()
    }

    /// Whether each of the records has a newer delivery that still waits.
    pub fn supersede(&self, key: &DeliveryKey, records: &[u64]) -> bool {
        let newer = |newest: &DeliveryKey| newest > key && self.waiting.contains_key(newest);
        records.iter().all(|record| self.newest.get(record).is_some_and(newer))
    }

    pub(crate) fn compare(&self, key: &DeliveryKey, records: &[u64]) -> Comparison {
        if self.supersede(key, records) {
            return Comparison { superseded: true, ..Comparison::default() };
        }
        let is_newest = |record: &&u64| self.newest.get(record).is_none_or(|newest| newest <= key);
        let newest_of: Vec<u64> = records.iter().filter(is_newest).copied().collect();
        let newest = |record: &u64| if newest_of.contains(record) { Some(key) } else { self.newest.get(record) };
        let needless = |older: &DeliveryKey, of: &[u64]| {
            older < key && of.iter().all(|record| newest(record).is_some_and(|newest| newest > older))
        };
        let older = self.waiting.iter().filter(|(older, of)| needless(older, of)).map(|(older, _)| older.clone());
        Comparison { superseded: false, older: older.collect(), newest_of }
    }
}
