//! What a seed decides before anything happens: which faults there are at all, and when.
//!
//! Every kind of fault is on in some worlds only: where everything fails at once, little happens that could go wrong.

use chrono::{DateTime, TimeDelta, Utc};
use local::sandbox::Faults;

use super::clockwork::Dice;

/// A resource whose history is told.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// The element, and the sandbox's vendor.
    pub element: &'static str,
    /// Where the vendor keeps the records.
    pub collection: &'static str,
    /// What it is called in the configuration.
    pub resource: &'static str,
    /// Member that names the record.
    pub id: &'static str,
    /// Member that edits change.
    pub member: &'static str,
    /// A change that no stamp tells of is found, by a complete listing at the latest.
    pub silent_edits_show: bool,
    /// Every poll sees what was deleted; elsewhere a complete listing does.
    pub deletions_show_at_once: bool,
    /// Pages go by offset: a row that comes or goes meanwhile can hide another one until the next poll.
    pub pages_by_offset: bool,
}

/// One for each way of finding changes: watermark, sync token, watermark by offset, comparison of everything.
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

/// How a callback answers for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// With 200.
    Fine,
    /// Not at all: nobody listens there.
    Gone,
    /// With this status, and so many seconds of `Retry-After`.
    Says(u16, Option<u32>),
    /// It takes the notification and does not answer in time.
    TakesAndHangs,
    /// It takes nothing and does not answer in time.
    Hangs,
    /// With 200, after so many seconds.
    Slow(u64),
    /// Now this, now that.
    Fickle,
}

/// What goes wrong with calls of the ports, in cases of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Whoever stands at a gate dies there.
    pub crash: u32,
    /// The store is busy and does nothing.
    pub store_busy: u32,
    /// The store does it and says that it was busy.
    pub store_answer_lost: u32,
    /// Reads that need not be consistent are not.
    pub stale: u32,
    /// Answers of queries are short.
    pub short_pages: u32,
    /// The queue does not take a message.
    pub queue_refuses: u32,
    /// It takes it and says that it did not.
    pub queue_answer_lost: u32,
    /// A message comes twice.
    pub twice: u32,
    /// A message comes minutes late.
    pub late: u32,
    /// A message never comes.
    pub lost: u32,
    /// The work of a batch is done, and the queue does not learn of it.
    pub acknowledgement_lost: u32,
    /// No connection to a vendor.
    pub unreachable: u32,
    /// The vendor did it, and the answer broke off.
    pub answer_lost: u32,
    /// The vendor takes its time: seconds, or for ever.
    pub hangs: u32,
    /// Somebody works at a vendor right after a page was read there.
    pub meanwhile: u32,
}

/// One account that is polled.
#[derive(Debug, Clone)]
pub struct Account {
    /// What.
    pub subject: Subject,
    /// How often, in minutes.
    pub interval: u16,
    /// Records a page.
    pub page_size: u64,
    /// Which callback.
    pub callback: usize,
}

/// Everything that a seed decides beforehand.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is polled.
    pub accounts: Vec<Account>,
    /// What goes wrong at random.
    pub rates: Rates,
    /// What goes wrong with vendors, by their own engine.
    pub vendor: Faults,
    /// How late a change shows in lists, at most.
    pub lateness: TimeDelta,
    /// Vendors are out of reach from one minute to another.
    pub vendor_down: Option<(u64, u64)>,
    /// By callback: from one second to another it has this mood.
    pub moods: Vec<Vec<(u64, u64, Mood)>>,
    /// Pollers at once.
    pub pollers: usize,
    /// The queue says that it outlives everything, and loses messages all the same.
    pub trusted_queue: bool,
    /// The schedule does not fire, or fires twice, in cases of a thousand.
    pub schedule_skips: u32,
    /// See above.
    pub schedule_repeats: u32,
    /// Machines' clocks are off by so many milliseconds, and jump.
    pub clocks: Option<i64>,
    /// People use the API meanwhile.
    pub people: bool,
    /// How long everything goes wrong, in minutes.
    pub minutes: u64,
    /// Changes at the vendors.
    pub changes: u64,
    /// When the world begins.
    pub begins: DateTime<Utc>,
}

impl Plan {
    /// The plan of a seed.
    pub fn of(seed: u64) -> Self {
        // Other dice than those of the run: what is added to one does not change the other.
        let dice = &mut Dice::new(seed ^ 0x706c_616e);
        let often = |dice: &mut Dice, of_a_hundred: u64| dice.below(100) < of_a_hundred;
        let rate = |dice: &mut Dice, of_a_hundred: u64, most: u64| {
            if dice.below(100) < of_a_hundred { dice.between(1, most) as u32 } else { 0 }
        };
        let subject = *dice.pick(&SUBJECTS);
        let mut accounts = Vec::new();
        for _ in 0..dice.between(1, 2) {
            let subject = if often(dice, 70) { subject } else { *dice.pick(&SUBJECTS) };
            let account = Account {
                subject,
                interval: *dice.pick(&[1, 1, 2, 5]),
                page_size: dice.between(1, 12),
                callback: dice.below(2) as usize,
            };
            accounts.push(account);
        }
        let rates = Rates {
            crash: rate(dice, 50, 12),
            store_busy: rate(dice, 40, 30),
            store_answer_lost: rate(dice, 40, 30),
            stale: rate(dice, 50, 300),
            short_pages: rate(dice, 40, 500),
            queue_refuses: rate(dice, 30, 200),
            queue_answer_lost: rate(dice, 30, 200),
            twice: rate(dice, 40, 300),
            late: rate(dice, 40, 300),
            lost: rate(dice, 30, 200),
            acknowledgement_lost: rate(dice, 40, 100),
            unreachable: rate(dice, 30, 60),
            answer_lost: rate(dice, 30, 60),
            hangs: rate(dice, 25, 30),
            meanwhile: rate(dice, 40, 200),
        };
        let every =
            |dice: &mut Dice, of_a_hundred: u64| (dice.below(100) < of_a_hundred).then(|| dice.between(3, 30) as u32);
        let lateness = if often(dice, 40) { dice.between(1, 400) } else { 0 };
        let vendor = Faults {
            seed,
            late_indexing: (lateness > 0).then_some((0, lateness as u32)),
            page_shift: if often(dice, 15) { dice.between(0, 4) as i32 - 2 } else { 0 },
            rate_limit_every: every(dice, 25),
            cut_connection_every: every(dice, 25),
            expire_tokens_every: every(dice, 25),
            error_200: every(dice, 20),
            duplicate_rows: every(dice, 20),
            clock_skew_s: if often(dice, 20) { dice.between(0, 240) as i64 - 120 } else { 0 },
            status_5xx_every: every(dice, 25),
            retry_after: often(dice, 40).then(|| dice.between(1, 300) as u32),
            rotate_refresh: often(dice, 50),
            empty_pages: often(dice, 20),
            ..Faults::default()
        };
        let minutes = dice.between(8, 30);
        let vendor_down = often(dice, 15).then(|| {
            let from = dice.below(minutes);
            (from, dice.between(from, minutes))
        });
        let moods = (0..2).map(|_| if often(dice, 60) { moods(dice, minutes) } else { Vec::new() }).collect();
        Self {
            accounts,
            rates,
            vendor,
            lateness: TimeDelta::seconds(lateness as i64),
            vendor_down,
            moods,
            pollers: dice.between(1, 4) as usize,
            schedule_skips: rate(dice, 40, 400),
            schedule_repeats: rate(dice, 40, 400),
            clocks: often(dice, 20).then(|| dice.between(200, 4000) as i64),
            people: often(dice, 35),
            minutes,
            changes: dice.between(4, 40),
            begins: DateTime::from_timestamp(1_767_603_600 + dice.below(40_000_000) as i64, 0).unwrap_or_default(),
            trusted_queue: often(dice, 70),
        }
    }
}

fn moods(dice: &mut Dice, minutes: u64) -> Vec<(u64, u64, Mood)> {
    let (mut at, end) = (dice.below(minutes * 30), minutes * 60);
    let mut moods = Vec::new();
    while at < end {
        let until = at + dice.between(5, minutes * 60);
        let wish = (dice.below(2) == 0).then(|| dice.between(1, 7200) as u32);
        let mood = match dice.below(9) {
            0 | 1 => Mood::Gone,
            2 => Mood::Says(500, None),
            3 => Mood::Says(503, wish),
            4 => Mood::Says(429, wish),
            5 => *dice.pick(&[Mood::Says(410, None), Mood::Says(302, None), Mood::Says(404, None)]),
            6 => Mood::TakesAndHangs,
            7 if wish.is_some() => Mood::Hangs,
            7 => Mood::Slow(dice.below(14)),
            _ => Mood::Fickle,
        };
        moods.push((at, until, mood));
        at = until + dice.below(300);
    }
    moods
}
