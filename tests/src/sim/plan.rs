//! The fault plan of a simulation: what is polled, which faults occur, and when. The seed determines it.
//!
//! Each kind of fault occurs in some simulations only. If everything failed at once, little would happen that could go
//! wrong.

use chrono::{DateTime, TimeDelta, Utc};
use local::sandbox::Faults;

use super::scheduler::Rng;

/// A resource that the simulation polls.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The key of the element and of the sandbox vendor.
    pub element: &'static str,
    /// The vendor's collection of these records.
    pub collection: &'static str,
    /// Its name in the configuration.
    pub resource: &'static str,
    /// The member that holds the record's id.
    pub id: &'static str,
    /// The member that edits change.
    pub member: &'static str,
    /// An edit that changes no timestamp is found, at the latest by a complete listing.
    pub silent_edits_show: bool,
    /// Every poll sees deletions. Elsewhere only a complete listing does.
    pub deletions_show_at_once: bool,
    /// Pages are read by offset: a row that is added or removed meanwhile can hide another row until the next poll.
    pub pages_by_offset: bool,
}

/// One resource for each way to find changes: watermark, sync token, watermark by offset, full comparison.
pub const SUBJECTS: [Subject; 4] = [
    Subject {
        element: "square",
        collection: "timecards",
        resource: "timesheets",
        id: "id",
        member: "team_member_id",
        silent_edits_show: false,
        deletions_show_at_once: false,
        pages_by_offset: true,
    },
    Subject {
        element: "googlesuite",
        collection: "events",
        resource: "calendars/primary/changed-events",
        id: "id",
        member: "summary",
        silent_edits_show: false,
        deletions_show_at_once: true,
        pages_by_offset: false,
    },
    Subject {
        element: "revel",
        collection: "TimeSheetEntry",
        resource: "timesheets",
        id: "id",
        member: "role_name",
        silent_edits_show: true,
        deletions_show_at_once: false,
        pages_by_offset: true,
    },
    Subject {
        element: "icontact",
        collection: "contacts",
        resource: "contacts",
        id: "contactId",
        member: "firstName",
        silent_edits_show: true,
        deletions_show_at_once: false,
        pages_by_offset: true,
    },
];

/// The behavior of a callback endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointBehavior {
    /// Answers 200.
    Accepts,
    /// Refuses the connection.
    Refuses,
    /// Answers this status, with `Retry-After` in seconds.
    Answers(u16, Option<u32>),
    /// Accepts the notification and does not answer in time.
    AcceptsAndHangs,
    /// Neither accepts the notification nor answers in time.
    Hangs,
    /// Answers 200 after this number of seconds.
    Slow(u64),
    /// Draws another behavior for each request.
    Varies,
}

/// The rates of faults at the ports, in cases of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct FaultRates {
    /// An activity is killed at a gate.
    pub crash: u32,
    /// The store does nothing and answers that it is busy.
    pub store_busy: u32,
    /// The store does the work and answers that it is busy.
    pub store_answer_lost: u32,
    /// An eventually consistent read returns an older item.
    pub stale: u32,
    /// A query returns a short page.
    pub short_pages: u32,
    /// The queue refuses a message.
    pub queue_refuses: u32,
    /// The queue takes a message and answers that it did not.
    pub queue_answer_lost: u32,
    /// A message is delivered twice.
    pub twice: u32,
    /// A message is delivered minutes late.
    pub late: u32,
    /// A message is never delivered.
    pub lost: u32,
    /// A message was processed, and its acknowledgement is lost.
    pub acknowledgement_lost: u32,
    /// A vendor cannot be reached.
    pub unreachable: u32,
    /// The vendor did the work, and its answer is lost.
    pub answer_lost: u32,
    /// The vendor answers after seconds, or never.
    pub hangs: u32,
    /// A record changes at the vendor right after a page was read there.
    pub meanwhile: u32,
}

/// A vendor account that is polled.
#[derive(Debug, Clone)]
pub struct Account {
    /// The resource.
    pub subject: Subject,
    /// The polling interval in minutes.
    pub interval: u16,
    /// The number of records of a page.
    pub page_size: u64,
    /// The number of the callback.
    pub callback: usize,
}

/// Everything that the seed determines before a simulation starts.
#[derive(Debug, Clone)]
pub struct FaultPlan {
    /// The accounts that are polled.
    pub accounts: Vec<Account>,
    /// The rates of random faults.
    pub rates: FaultRates,
    /// The faults of the sandbox vendors.
    pub vendor: Faults,
    /// The longest delay until lists show a change.
    pub lateness: TimeDelta,
    /// The first and the last minute of an outage of all vendors.
    pub vendor_down: Option<(u64, u64)>,
    /// By callback: first second, last second and behavior of each period.
    pub behaviors: Vec<Vec<(u64, u64, EndpointBehavior)>>,
    /// The number of pollers.
    pub pollers: usize,
    /// The queue claims to be durable. It loses messages all the same.
    pub trusted_queue: bool,
    /// The schedule does not fire, in cases of a thousand.
    pub schedule_skips: u32,
    /// The schedule fires twice, in cases of a thousand.
    pub schedule_repeats: u32,
    /// The machines' clocks jump. The largest error in milliseconds.
    pub clocks: Option<i64>,
    /// Users call the API during the faults.
    pub api_users: bool,
    /// The duration of the faults in minutes.
    pub minutes: u64,
    /// The number of changes at the vendors.
    pub changes: u64,
    /// The time at which the simulation starts.
    pub begins: DateTime<Utc>,
}

impl FaultPlan {
    /// Draws the plan of a seed.
    pub fn of(seed: u64) -> Self {
        // A generator of its own: a draw that is added here does not change the run's draws.
        let rng = &mut Rng::new(seed ^ 0x706c_616e);
        let often = |rng: &mut Rng, of_a_hundred: u64| rng.below(100) < of_a_hundred;
        let rate = |rng: &mut Rng, of_a_hundred: u64, most: u64| {
            if rng.below(100) < of_a_hundred { rng.between(1, most) as u32 } else { 0 }
        };
        let subject = *rng.pick(&SUBJECTS);
        let mut accounts = Vec::new();
        for _ in 0..rng.between(1, 2) {
            let subject = if often(rng, 70) { subject } else { *rng.pick(&SUBJECTS) };
            let account = Account {
                subject,
                interval: *rng.pick(&[1, 1, 2, 5]),
                page_size: rng.between(1, 12),
                callback: rng.below(2) as usize,
            };
            accounts.push(account);
        }
        let rates = FaultRates {
            crash: rate(rng, 50, 12),
            store_busy: rate(rng, 40, 30),
            store_answer_lost: rate(rng, 40, 30),
            stale: rate(rng, 50, 300),
            short_pages: rate(rng, 40, 500),
            queue_refuses: rate(rng, 30, 200),
            queue_answer_lost: rate(rng, 30, 200),
            twice: rate(rng, 40, 300),
            late: rate(rng, 40, 300),
            lost: rate(rng, 30, 200),
            acknowledgement_lost: rate(rng, 40, 100),
            unreachable: rate(rng, 30, 60),
            answer_lost: rate(rng, 30, 60),
            hangs: rate(rng, 25, 30),
            meanwhile: rate(rng, 40, 200),
        };
        let every =
            |rng: &mut Rng, of_a_hundred: u64| (rng.below(100) < of_a_hundred).then(|| rng.between(3, 30) as u32);
        let lateness = if often(rng, 40) { rng.between(1, 400) } else { 0 };
        let vendor = Faults {
            seed,
            late_indexing: (lateness > 0).then_some((0, lateness as u32)),
            page_shift: if often(rng, 15) { rng.between(0, 4) as i32 - 2 } else { 0 },
            rate_limit_every: every(rng, 25),
            cut_connection_every: every(rng, 25),
            expire_tokens_every: every(rng, 25),
            error_200: every(rng, 20),
            duplicate_rows: every(rng, 20),
            clock_skew_s: if often(rng, 20) { rng.between(0, 240) as i64 - 120 } else { 0 },
            status_5xx_every: every(rng, 25),
            retry_after: often(rng, 40).then(|| rng.between(1, 300) as u32),
            rotate_refresh: often(rng, 50),
            empty_pages: often(rng, 20),
            ..Faults::default()
        };
        let minutes = rng.between(8, 30);
        let vendor_down = often(rng, 15).then(|| {
            let from = rng.below(minutes);
            (from, rng.between(from, minutes))
        });
        let behaviors = (0..2).map(|_| if often(rng, 60) { behaviors(rng, minutes) } else { Vec::new() }).collect();
        Self {
            accounts,
            rates,
            vendor,
            lateness: TimeDelta::seconds(lateness as i64),
            vendor_down,
            behaviors,
            pollers: rng.between(1, 4) as usize,
            schedule_skips: rate(rng, 40, 400),
            schedule_repeats: rate(rng, 40, 400),
            clocks: often(rng, 20).then(|| rng.between(200, 4000) as i64),
            api_users: often(rng, 35),
            minutes,
            changes: rng.between(4, 40),
            begins: DateTime::from_timestamp(1_767_603_600 + rng.below(40_000_000) as i64, 0).unwrap_or_default(),
            trusted_queue: often(rng, 70),
        }
    }
}

fn behaviors(rng: &mut Rng, minutes: u64) -> Vec<(u64, u64, EndpointBehavior)> {
    let (mut at, end) = (rng.below(minutes * 30), minutes * 60);
    let mut behaviors = Vec::new();
    while at < end {
        let until = at + rng.between(5, minutes * 60);
        let retry_after = (rng.below(2) == 0).then(|| rng.between(1, 7200) as u32);
        let behavior = match rng.below(9) {
            0 | 1 => EndpointBehavior::Refuses,
            2 => EndpointBehavior::Answers(500, None),
            3 => EndpointBehavior::Answers(503, retry_after),
            4 => EndpointBehavior::Answers(429, retry_after),
            5 => *rng.pick(&[
                EndpointBehavior::Answers(410, None),
                EndpointBehavior::Answers(302, None),
                EndpointBehavior::Answers(404, None),
            ]),
            6 => EndpointBehavior::AcceptsAndHangs,
            7 if retry_after.is_some() => EndpointBehavior::Hangs,
            7 => EndpointBehavior::Slow(rng.below(14)),
            _ => EndpointBehavior::Varies,
        };
        behaviors.push((at, until, behavior));
        at = until + rng.below(300);
    }
    behaviors
}
