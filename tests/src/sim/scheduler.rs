//! The clock, the random numbers and the order of execution of a simulation. One seed determines all three.
//!
//! Everything that the system waits for passes through here. A *gate* stands before and after every effect. An activity
//! that reaches a gate waits until the simulator opens it. So any two effects can happen in any order, and an activity
//! can be killed at a gate. A *timer* ends when the clock reaches its time. The clock moves only when every activity
//! waits for it.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A SplitMix64 generator. The same seed gives the same numbers.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Makes a generator from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Draws 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Draws a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end.max(1)
    }

    /// Draws a number from `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// Answers true in `permille` cases of a thousand. Draws nothing when `permille` is 0.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// Draws one element of a list.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The scheduler: it holds the clock, the random numbers, the waiting activities and the log.
pub struct Scheduler(Mutex<State>);

struct State {
    now: DateTime<Utc>,
    rng: Rng,
    next: u64,
    running: u64,
    gates: BTreeMap<u64, (u64, Waker)>,
    timers: BTreeMap<(DateTime<Utc>, u64), Waker>,
    log: Log,
}

/// The log of a simulation: a hash of its lines, and the lines themselves when a trace was asked for.
struct Log {
    hash: u64,
    lines: u64,
    trace: Option<Vec<String>>,
}

impl fmt::Write for Log {
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

impl Scheduler {
    /// Makes a scheduler whose clock stands at `now`. It keeps the lines of its log when `trace` is set.
    pub fn new(now: DateTime<Utc>, seed: u64, trace: bool) -> Arc<Self> {
        let log = Log { hash: 0xcbf2_9ce4_8422_2325, lines: 0, trace: trace.then(Vec::new) };
        Arc::new(Self(Mutex::new(State {
            now,
            rng: Rng::new(seed),
            next: 1,
            running: 0,
            gates: BTreeMap::new(),
            timers: BTreeMap::new(),
            log,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The true time. The clocks of the machines may differ from it.
    pub fn now(&self) -> DateTime<Utc> {
        self.state().now
    }

    /// Draws from the generator.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Rng) -> T) -> T {
        draw(&mut self.state().rng)
    }

    /// Answers true in `permille` cases of a thousand.
    pub fn chance(&self, permille: u32) -> bool {
        permille > 0 && self.draw(|rng| rng.chance(permille))
    }

    /// Writes a line to the log.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let mut state = self.state();
        let now = state.now;
        state.log.lines += 1;
        if let Some(trace) = &mut state.log.trace {
            trace.push(String::new());
        }
        let log: &mut dyn fmt::Write = &mut state.log;
        // Writing to a hash and a text does not fail.
        let _ = log.write_fmt(format_args!("{:>10} ", now.timestamp_millis() % 100_000_000));
        let _ = log.write_fmt(what);
    }

    /// The hash of the log and its number of lines.
    pub fn hash(&self) -> (u64, u64) {
        let state = self.state();
        (state.log.hash, state.log.lines)
    }

    /// Takes the lines of the log, if they were kept.
    pub fn take_trace(&self) -> Vec<String> {
        self.state().log.trace.take().unwrap_or_default()
    }

    /// Waits until the simulator opens the gate.
    pub fn gate(self: &Arc<Self>) -> Gate {
        Gate { scheduler: Arc::clone(self), number: None }
    }

    /// Waits until `time` has passed.
    pub fn sleep(self: &Arc<Self>, time: Duration) -> Timer {
        let end = self.now() + TimeDelta::from_std(time).unwrap_or(TimeDelta::days(365));
        Timer { scheduler: Arc::clone(self), key: None, end }
    }

    /// Sets the activity that runs now: the gates that are reached from here on belong to it.
    pub fn run(&self, activity: u64) {
        self.state().running = activity;
    }

    /// Draws one of the gates at which an activity waits. Returns the gate and the activity.
    pub fn pick_gate(&self) -> Option<(u64, u64)> {
        let state = &mut *self.state();
        let count = state.gates.len() as u64;
        let place = if count > 1 { state.rng.below(count) } else { 0 };
        state.gates.iter().nth(place as usize).map(|(gate, (activity, _))| (*gate, *activity))
    }

    /// Opens a gate.
    pub fn open(&self, gate: u64) {
        let waiting = self.state().gates.remove(&gate);
        if let Some((_, waker)) = waiting {
            waker.wake();
        }
    }

    /// The time at which the next timer ends.
    pub fn next_timer(&self) -> Option<DateTime<Utc>> {
        self.state().timers.first_key_value().map(|((end, _), _)| *end)
    }

    /// Moves the clock forward and ends the timers that it passes. The clock never moves back.
    pub fn advance_to(&self, to: DateTime<Utc>) {
        let mut ended = Vec::new();
        {
            let state = &mut *self.state();
            state.now = state.now.max(to);
            while let Some(timer) = state.timers.first_entry()
                && timer.key().0 <= state.now
            {
                ended.push(timer.remove());
            }
        }
        ended.into_iter().for_each(Waker::wake);
    }
}

/// A wait at a gate: see [`Scheduler::gate`].
pub struct Gate {
    scheduler: Arc<Scheduler>,
    number: Option<u64>,
}

impl Future for Gate {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let state = &mut *this.scheduler.state();
        match this.number {
            None => {
                state.next += 1;
                this.number = Some(state.next);
                state.gates.insert(state.next, (state.running, context.waker().clone()));
                Poll::Pending
            }
            Some(number) => match state.gates.get_mut(&number) {
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
            self.scheduler.state().gates.remove(&number);
        }
    }
}

/// A wait for the clock: see [`Scheduler::sleep`].
pub struct Timer {
    scheduler: Arc<Scheduler>,
    key: Option<(DateTime<Utc>, u64)>,
    end: DateTime<Utc>,
}

impl Future for Timer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let state = &mut *this.scheduler.state();
        if state.now >= this.end {
            return Poll::Ready(());
        }
        let key = *this.key.get_or_insert_with(|| {
            state.next += 1;
            (this.end, state.next)
        });
        state.timers.insert(key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.scheduler.state().timers.remove(&key);
        }
    }
}
