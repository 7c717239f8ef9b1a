//! Time, chance and order of a simulated world: one seed decides all three.
//!
//! Whatever the system waits for passes through here. A *gate* stands before and after every effect: whoever comes to
//! one stands still until the simulator lets it through, so that any two effects can happen in any order and whoever
//! stands at a gate can die there. A *timer* ends when the clock gets there, and the clock moves only when everybody
//! waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// SplitMix64: well spread, and the same for the same seed.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end.max(1)
    }

    /// A number from the first to the last.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True in so many cases of a thousand. A chance of none rolls no dice.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// Who waits where, what time it is, and what happened so far.
pub struct Clockwork(Mutex<Works>);

struct Works {
    now: DateTime<Utc>,
    dice: Dice,
    next: u64,
    running: u64,
    gates: BTreeMap<u64, (u64, Waker)>,
    timers: BTreeMap<(DateTime<Utc>, u64), Waker>,
    told: Told,
}

/// What happened, as a hash and, when somebody wants to read it, in words.
struct Told {
    hash: u64,
    lines: u64,
    trace: Option<Vec<String>>,
}

impl fmt::Write for Told {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // FNV-1a
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(line) = self.trace.as_mut().and_then(|trace| trace.last_mut()) {
            line.push_str(text);
        }
        Ok(())
    }
}

impl Clockwork {
    /// At an instant, with dice. `trace`: what happens is kept in words.
    pub fn new(now: DateTime<Utc>, seed: u64, trace: bool) -> Arc<Self> {
        let told = Told { hash: 0xcbf2_9ce4_8422_2325, lines: 0, trace: trace.then(Vec::new) };
        Arc::new(Self(Mutex::new(Works {
            now,
            dice: Dice::new(seed),
            next: 1,
            running: 0,
            gates: BTreeMap::new(),
            timers: BTreeMap::new(),
            told,
        })))
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What time it is in truth. Machines may believe otherwise.
    pub fn now(&self) -> DateTime<Utc> {
        self.works().now
    }

    /// Rolls the dice.
    pub fn roll<T>(&self, roll: impl FnOnce(&mut Dice) -> T) -> T {
        roll(&mut self.works().dice)
    }

    /// True in so many cases of a thousand.
    pub fn chance(&self, permille: u32) -> bool {
        permille > 0 && self.roll(|dice| dice.chance(permille))
    }

    /// Notes what happens: part of the hash, and of the trace.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut works = self.works();
        let now = works.now;
        works.told.lines += 1;
        if let Some(trace) = &mut works.told.trace {
            trace.push(String::new());
        }
        let told: &mut dyn fmt::Write = &mut works.told;
        // Writing to a hash and a text does not fail.
        let _ = told.write_fmt(format_args!("{:>10} ", now.timestamp_millis() % 100_000_000));
        let _ = told.write_fmt(what);
    }

    /// A hash of all notes, and how many there were.
    pub fn hash(&self) -> (u64, u64) {
        let works = self.works();
        (works.told.hash, works.told.lines)
    }

    /// The notes, if they were kept.
    pub fn take_trace(&self) -> Vec<String> {
        self.works().told.trace.take().unwrap_or_default()
    }

    /// Stands still until the simulator lets it through.
    pub fn gate(self: &Arc<Self>) -> Gate {
        Gate { works: Arc::clone(self), number: None }
    }

    /// Ends when so much time has passed.
    pub fn sleep(self: &Arc<Self>, time: Duration) -> Timer {
        let end = self.now() + TimeDelta::from_std(time).unwrap_or(TimeDelta::days(365));
        Timer { works: Arc::clone(self), key: None, end }
    }

    /// From here on it is this activity that comes to gates.
    pub fn run(&self, activity: u64) {
        self.works().running = activity;
    }

    /// One of those who stand at gates: its place among them, and which activity it belongs to.
    pub fn somebody_at_a_gate(&self) -> Option<(u64, u64)> {
        let works = &mut *self.works();
        let count = works.gates.len() as u64;
        let place = if count > 1 { works.dice.below(count) } else { 0 };
        works.gates.iter().nth(place as usize).map(|(gate, (activity, _))| (*gate, *activity))
    }

    /// Lets one through.
    pub fn open(&self, gate: u64) {
        let waiting = self.works().gates.remove(&gate);
        if let Some((_, waker)) = waiting {
            waker.wake();
        }
    }

    /// When the next timer ends.
    pub fn next_timer(&self) -> Option<DateTime<Utc>> {
        self.works().timers.first_key_value().map(|((end, _), _)| *end)
    }

    /// Moves the clock on, never back, and ends the timers it passes.
    pub fn advance_to(&self, to: DateTime<Utc>) {
        let mut ended = Vec::new();
        {
            let works = &mut *self.works();
            works.now = works.now.max(to);
            while let Some(timer) = works.timers.first_entry()
                && timer.key().0 <= works.now
            {
                ended.push(timer.remove());
            }
        }
        ended.into_iter().for_each(Waker::wake);
    }
}

/// See [`Clockwork::gate`].
pub struct Gate {
    works: Arc<Clockwork>,
    number: Option<u64>,
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let works = &mut *this.works.works();
        match this.number {
            None => {
                works.next += 1;
                this.number = Some(works.next);
                works.gates.insert(works.next, (works.running, context.waker().clone()));
                Poll::Pending
            }
            Some(number) => match works.gates.get_mut(&number) {
                Some((_, waker)) => {
                    waker.clone_from(context.waker());
                    Poll::Pending
                }
                None => Poll::Ready(()),
            },
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.works.works().gates.remove(&number);
        }
    }
}

/// See [`Clockwork::sleep`].
pub struct Timer {
    works: Arc<Clockwork>,
    key: Option<(DateTime<Utc>, u64)>,
    end: DateTime<Utc>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let works = &mut *this.works.works();
        if works.now >= this.end {
            return Poll::Ready(());
        }
        let key = *this.key.get_or_insert_with(|| {
            works.next += 1;
            (this.end, works.next)
        });
        works.timers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.works.works().timers.remove(&key);
        }
    }
}
