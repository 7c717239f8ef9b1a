//! The transition of a delivery: what an attempt, a refusal, a stale job or a removal does to it and to its callback.
//!
//! A [`Transition`] is so complete that committing it needs no further choice. It is made in up to three steps, because
//! two of them read what the first one alone knows to be needed: [`transition`] decides; [`Transition::coalesce`]
//! compares with those that wait, where a callback wants only the newest; [`Transition::release`] lets others go.

use chrono::{DateTime, Utc};

use crate::backlog::{Neighbors, Release, Waiting};
use crate::callback::{Admission, AfterFailure, CallbackState, Coalesced};
use crate::configuration::FailurePolicy;
use crate::delivery::{Delivery, DeliveryKey, Status};
use crate::retry_schedule::{AttemptOutcome, Verdict, judge};

/// As many of those in flight as one transition supersedes. It supersedes no more of the backlog than it has records,
/// which are ten. Each is two writes of a transaction, which has room for a hundred.
const MOST_SUPERSEDED: usize = 10;

/// Something that happened to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// It wants to be sent.
    Ready,
    /// An attempt ended so.
    Attempted(AttemptOutcome<'a>, FailurePolicy),
    /// A job came that is not its present one: another will bring it.
    Stale,
    /// A job came although it was settled before.
    Settled,
    /// It is not to be sent until somebody asks: its instance is disabled or has no callback, or a person set it aside.
    SetAside,
    /// Its row or its instance is gone.
    Removed,
}

/// Where a delivery goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// To the receiver: the attempt may begin. It stays filed as it is, and gets an entry if it has none.
    Send,
    /// To be tried at this instant.
    At(DateTime<Utc>),
    /// Into the backlog of its callback.
    Backlog,
    /// Nowhere: it is settled.
    Settled,
    /// Nowhere: it stays where it is, and the entry of the stale job goes unless it is the live one.
    Unchanged,
}

/// What is to be written of a delivery, its callback and those that it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// The delivery after it.
    pub delivery: Delivery,
    /// The callback after it.
    pub callback: CallbackState,
    /// Where the delivery goes.
    pub disposition: Disposition,
    /// When the next attempt was due before deliveries were compared, as the attempt remembers it.
    pub next_attempt: Option<DateTime<Utc>>,
    /// The older deliveries whose place it takes.
    pub superseded: Vec<DeliveryKey>,
    /// Those of them that leave the backlog.
    pub leave_backlog: Vec<DeliveryKey>,
    /// The records of which it is the newest in the backlog.
    pub newest_of: Vec<u64>,
    /// Those that are let go ahead of what was filed for them.
    pub released: Vec<Release>,
}

/// Decides what follows from an event. `jitter` is 64 random bits.
pub fn transition(
    delivery: &Delivery,
    callback: &CallbackState,
    event: Event<'_>,
    now: DateTime<Utc>,
    jitter: u64,
) -> Transition {
    let mut next = Transition {
        delivery: delivery.clone(),
        callback: callback.clone(),
        disposition: Disposition::Unchanged,
        next_attempt: None,
        superseded: Vec::new(),
        leave_backlog: Vec::new(),
        newest_of: Vec::new(),
        released: Vec::new(),
    };
    match event {
        Event::Ready => next.admit(now),
        Event::Attempted(outcome, policy) => next.attempted(outcome, policy, now, jitter),
        Event::Stale => {}
        Event::Settled => {
            next.callback.withdraw(&delivery.key);
        }
        Event::SetAside => {
            next.callback.withdraw(&delivery.key);
            next.goes(Status::Queued, Disposition::Settled);
        }
        Event::Removed => {
            next.callback.withdraw(&delivery.key);
            next.disposition = Disposition::Settled;
        }
    }
    next
}

impl Transition {
    fn goes(&mut self, status: Status, disposition: Disposition) {
        (self.delivery.status, self.disposition) = (status, disposition);
        self.next_attempt = if let Disposition::At(at) = disposition { Some(at) } else { None };
    }

    fn joins_backlog(&mut self) {
        let status = if self.callback.is_disabled() { Status::Queued } else { Status::Waiting };
        self.goes(status, Disposition::Backlog);
    }

    fn admit(&mut self, now: DateTime<Utc>) {
        match self.callback.admit(&self.delivery.key, &self.delivery.records, now) {
            Admission::Send => self.disposition = Disposition::Send,
            Admission::ComeBack(at) => self.goes(Status::Waiting, Disposition::At(at)),
            Admission::JoinBacklog => self.joins_backlog(),
        }
    }

    fn attempted(&mut self, outcome: AttemptOutcome<'_>, policy: FailurePolicy, now: DateTime<Utc>, jitter: u64) {
        let Delivery { key, records, progress, .. } = &mut self.delivery;
        match judge(outcome, progress.steps + 1, now, jitter, policy) {
            Verdict::Delivered => {
                self.callback.succeeded(key, now);
                self.goes(Status::Delivered, Disposition::Settled);
            }
            Verdict::Disable(reason) => {
                self.callback.refused(key, reason, now);
                self.joins_backlog();
            }
            verdict @ (Verdict::RetryAt(_) | Verdict::Exhausted) => {
                let due = progress.advance(&verdict, now);
                match self.callback.failed((&*key, records.as_slice()), due, policy, now, jitter) {
                    AfterFailure::RetryAt(at) => self.goes(Status::Retry, Disposition::At(at)),
                    AfterFailure::Queue => self.goes(Status::Queued, Disposition::Settled),
                    AfterFailure::JoinBacklog => self.joins_backlog(),
                }
            }
        }
    }

    /// Whether the delivery has to wait, so that newer and older ones may take each other's place.
    pub fn waits(&self) -> bool {
        matches!(self.disposition, Disposition::At(_) | Disposition::Backlog)
    }

    /// Compares the delivery with those that wait, at a callback that wants only the newest state of each record.
    /// `neighbors` are those in the backlog, if that is where it goes.
    pub fn coalesce(&mut self, neighbors: &Neighbors, now: DateTime<Utc>) {
        if !self.waits() {
            return;
        }
        let Delivery { key, records, .. } = &self.delivery;
        match self.callback.coalesce(key, records, MOST_SUPERSEDED, now) {
            Coalesced::Superseded => return self.goes(Status::Superseded, Disposition::Settled),
            Coalesced::Supersedes { older, at } => {
                self.superseded = older;
                self.disposition = at.map_or(self.disposition, Disposition::At);
            }
        }
        if self.disposition != Disposition::Backlog {
            return;
        }
        let compared = neighbors.compare(key, records);
        if compared.superseded {
            self.callback.superseded(key);
            return self.goes(Status::Superseded, Disposition::Settled);
        }
        compared.older.iter().for_each(|older| self.callback.superseded(older));
        self.superseded.extend_from_slice(&compared.older);
        (self.leave_backlog, self.newest_of) = (compared.older, compared.newest_of);
    }

    /// Lets as many go as the callback wants. `front` are the first in the backlog, in order, as they were before.
    pub fn release(&mut self, front: &[Waiting], now: DateTime<Utc>) {
        if self.callback.wants() == 0 {
            return;
        }
        let joins = self.disposition == Disposition::Backlog;
        if front.is_empty() {
            self.callback.backlog_is_empty(u32::from(joins));
        }
        // What leaves or joins the backlog by this very transition may still be among those that were read.
        let moves = |one: &&Waiting| self.leave_backlog.contains(&one.key) || joins && one.key == self.delivery.key;
        let front: Vec<Waiting> = front.iter().filter(|one| !moves(one)).cloned().collect();
        self.released = self.callback.release(&front, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::OPENS_AFTER;
    use crate::retry_schedule::{Progress, STEPS};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_767_603_600 + seconds, 0).unwrap_or_default()
    }

    /// Without jitter.
    const EVEN: u64 = 200;

    fn delivery(key: &str, record: u64) -> Delivery {
        let (key, progress) = (DeliveryKey::new(key), Progress::default());
        Delivery { key, records: vec![record], status: Status::Created, progress }
    }

    fn answered(status: u16) -> Event<'static> {
        Event::Attempted(AttemptOutcome::Answered { status, retry_after: None }, FailurePolicy::Retry)
    }

    /// Applies an event at a second.
    fn after(delivery: &Delivery, callback: &CallbackState, event: Event<'_>, second: i64) -> Transition {
        transition(delivery, callback, event, at(second), EVEN)
    }

    #[test]
    fn each_event_has_its_status_and_disposition() {
        let healthy = CallbackState::default();
        let one = delivery("1", 1);
        for (event, status, disposition) in [
            (Event::Ready, Status::Created, Disposition::Send),
            (answered(200), Status::Delivered, Disposition::Settled),
            (answered(500), Status::Retry, Disposition::At(at(STEPS[0]))),
            (answered(410), Status::Queued, Disposition::Backlog),
            (Event::Stale, Status::Created, Disposition::Unchanged),
            (Event::Settled, Status::Created, Disposition::Unchanged),
            (Event::SetAside, Status::Queued, Disposition::Settled),
            (Event::Removed, Status::Created, Disposition::Settled),
        ] {
            let next = after(&one, &healthy, event, 0);
            assert_eq!((next.delivery.status, next.disposition), (status, disposition), "{event:?}");
            let due = if let Disposition::At(due) = disposition { Some(due) } else { None };
            assert_eq!(next.next_attempt, due, "{event:?}");
        }
    }

    #[test]
    fn what_does_not_go_on_by_itself_leaves_the_callback_but_for_a_stale_job() {
        let failed = after(&delivery("1", 1), &CallbackState::default(), answered(500), 0);
        for event in [Event::Settled, Event::SetAside, Event::Removed] {
            let next = after(&failed.delivery, &failed.callback, event, 1);
            assert!(next.callback.backlog.in_flight.is_empty(), "{event:?}");
        }
        let next = after(&failed.delivery, &failed.callback, Event::Stale, 1);
        assert_eq!(next.callback, failed.callback);
    }

    #[test]
    fn while_the_circuit_is_open_a_newcomer_waits_and_while_it_is_disabled_it_is_queued() {
        let mut callback = CallbackState::default();
        for n in 0..OPENS_AFTER {
            callback = after(&delivery(&n.to_string(), n.into()), &callback, answered(503), 0).callback;
        }
        let probe = after(&delivery("6", 6), &callback, Event::Ready, 1);
        assert_eq!((probe.delivery.status, probe.disposition), (Status::Waiting, Disposition::At(at(30))));
        let waits = after(&delivery("7", 7), &probe.callback, Event::Ready, 1);
        assert_eq!((waits.delivery.status, waits.disposition), (Status::Waiting, Disposition::Backlog));
        let gone = after(&probe.delivery, &waits.callback, answered(410), 30);
        let queued = after(&delivery("8", 8), &gone.callback, Event::Ready, 31);
        assert_eq!((queued.delivery.status, queued.disposition), (Status::Queued, Disposition::Backlog));
    }

    #[test]
    fn a_success_releases_the_front_without_what_joins_or_leaves_at_once() {
        let mut callback = CallbackState::default();
        callback.backlog.waiting = 3;
        let front: Vec<Waiting> = ["1", "2", "3"]
            .iter()
            .zip([1, 2, 3])
            .map(|(key, record)| Waiting { key: DeliveryKey::new(*key), records: vec![record] })
            .collect();
        let mut next = after(&delivery("0", 9), &callback, answered(200), 0);
        next.leave_backlog = vec![front[1].key.clone()];
        next.release(&front, at(0));
        let released: Vec<&str> = next.released.iter().map(|release| release.key.as_str()).collect();
        assert_eq!(released, ["1", "3"]);
        let mut joins = after(&delivery("2", 2), &callback, Event::Ready, 0);
        assert_eq!(joins.disposition, Disposition::Backlog);
        joins.release(&front, at(0));
        assert!(joins.released.iter().all(|release| release.key.as_str() != "2"), "{joins:?}");
    }
}
