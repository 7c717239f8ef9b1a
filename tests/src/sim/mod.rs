//! A simulator of everything around the three functions: the real handlers over simulated time, table, queues, vendors
//! and callbacks. One seed decides what goes wrong, when, and in which order everything happens; the same seed does the
//! same again, to the byte.
//!
//! ```text
//! cargo run -p tests --bin simulate -- --seed 17 --trace
//! ```
//!
//! A world begins quietly, lives some minutes in which everything may fail (`plan`), and is then left in peace until it
//! is quiet. What must hold all the time and at the end is in `ledger`.

mod clockwork;
mod cloud;
mod ledger;
mod outside;
mod plan;
mod run;

pub use clockwork::Dice;
pub use ledger::{Counts, version_in, version_of};
pub use plan::{Plan, SUBJECTS, Subject};
pub use run::{Outcome, simulate};

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::reliability;

/// How many lines of a trace tell enough of a failure.
const LINES_SHOWN: usize = 60;

/// Many worlds.
#[derive(Debug, Default)]
pub struct Campaign {
    /// How many.
    pub worlds: u64,
    /// In all of them together.
    pub counts: Counts,
    /// Handlers that died.
    pub crashes: u64,
    /// Simulated time, in hours.
    pub hours: u64,
    /// Those in which something did not hold.
    pub failed: Vec<Failure>,
}

/// A world in which something did not hold.
#[derive(Debug)]
pub struct Failure {
    seed: u64,
    violations: Vec<String>,
    trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}:", self.seed)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        self.violations.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "  again: cargo run -p tests --bin simulate -- --seed {} --trace", self.seed)
    }
}

impl Campaign {
    /// Leaves the figures for the reliability page.
    pub fn record(&self, run: &str) {
        let Counts { changes, events, attempts, commits } = self.counts;
        let figures = json!({
            "cases": self.worlds, "failed": self.failed.len(), "changes": changes, "commits": commits, "events": events,
            "attempts": attempts, "crashes": self.crashes, "simulatedHours": self.hours
        });
        reliability::record(run, &figures);
    }

    /// In a line.
    pub fn summary(&self) -> String {
        let Counts { changes, events, attempts, commits } = self.counts;
        format!(
            "{} worlds, {} failed; {changes} changes, {commits} commits, {events} events, {attempts} attempts, {} crashes, {} simulated hours",
            self.worlds,
            self.failed.len(),
            self.crashes,
            self.hours
        )
    }
}

/// Simulates so many worlds, on as many threads as there are processors.
pub fn campaign(first: u64, count: u64) -> Campaign {
    let (next, all) = (AtomicU64::new(first), Mutex::new(Campaign::default()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let outcome = simulate(seed, false);
                    let failure = (!outcome.violations.is_empty()).then(|| explain(seed));
                    let mut all = all.lock().expect("no world panicked");
                    all.worlds += 1;
                    all.counts.add(outcome.counts);
                    all.crashes += outcome.crashes;
                    all.hours += outcome.lasted.as_secs() / 3600;
                    all.failed.extend(failure);
                }
            });
        }
    });
    let mut all = all.into_inner().expect("no world panicked");
    all.failed.sort_by_key(|failure| failure.seed);
    all
}

/// The same again, with the end of what happened.
fn explain(seed: u64) -> Failure {
    let mut outcome = simulate(seed, true);
    let surplus = outcome.trace.len().saturating_sub(LINES_SHOWN);
    Failure { seed, violations: outcome.violations, trace: outcome.trace.split_off(surplus) }
}
