//! The lease of a poll that takes long, so that short polls do not supersede it again and again.
//!
//! A lease decides nothing about correctness: the version of the state does. A short poll writes none.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use store::records::resource::{ResourceRecord, Resume};

use crate::job::PollJob;

/// A poll that runs this long, or for a quarter of the schedule's minute, takes a lease.
const LEASE_AFTER: Duration = Duration::from_secs(2);
/// The length of a lease as a multiple of that time: one minute where a minute lasts one. If the poll dies, the
/// resource is free again after it.
const LEASE_FACTOR: u32 = 30;
/// A suspended pass belongs to the job that saved it last for this long; then the job counts as lost and any other job
/// goes on with the pass.
const RESUME_OWNERSHIP: TimeDelta = TimeDelta::minutes(5);

/// The lease of one poll.
pub(super) struct Lease {
    began: DateTime<Utc>,
    after: Duration,
}

impl Lease {
    /// No lease yet, for a poll that began at this instant in a schedule of such minutes.
    pub(super) fn new(began: DateTime<Utc>, minute: Duration) -> Self {
        Self { began, after: LEASE_AFTER.min(minute / 4) }
    }

    /// The new end of the lease, when it is time to take it or to renew it.
    pub(super) fn due(&self, leased_until: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let is_long = (now - self.began).to_std().is_ok_and(|ran| ran >= self.after);
        let length = TimeDelta::from_std(self.after * LEASE_FACTOR).expect("a minute at most");
        let is_fresh = leased_until.is_some_and(|until| until > now + length / 2);
        (is_long && !is_fresh).then(|| now + length)
    }
}

/// True if another poll works on the resource: it holds a lease, or it suspended a pass that another job goes on with.
pub(super) fn is_held(state: &ResourceRecord, job: &PollJob, now: DateTime<Utc>) -> bool {
    let of_other_job = |resume: &Resume| resume.minute != job.minute && now < resume.saved + RESUME_OWNERSHIP;
    state.leased_until.is_some_and(|until| until > now) || state.resume.as_ref().is_some_and(of_other_job)
}
