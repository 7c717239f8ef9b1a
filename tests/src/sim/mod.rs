//! A deterministic simulator: the real handlers of the three functions over a simulated clock, table, queues, vendors and
//! callbacks. One seed determines the faults, their times and the order of all steps. The same seed gives the same run,
//! to the byte.
//!
//! ```text
//! cargo run -p tests --bin simulate -- --seed 17 --trace
//! ```
//!
//! A run starts without faults, continues for some minutes with the faults of its plan (`plan`), and then continues
//! without faults until no work is left. The rules that must hold meanwhile and at the end are in `oracle`.

mod cloud;
mod network;
mod oracle;
mod plan;
mod run;
mod scheduler;

pub use oracle::{Counts, version_in, version_of};
pub use plan::{FaultPlan, SUBJECTS, Subject};
pub use run::{SimulationReport, simulate};
pub use scheduler::Rng;

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::reliability;

/// The number of last log lines that a failure shows.
const LINES_SHOWN: usize = 60;

/// The result of many simulations.
#[derive(Debug, Default)]
pub struct Campaign {
    /// The number of simulations.
    pub simulations: u64,
    /// The amounts of all simulations together.
    pub counts: Counts,
    /// The number of activities that were killed.
    pub crashes: u64,
    /// The simulated time in hours.
    pub hours: u64,
    /// The simulations with violations.
    pub failed: Vec<Failure>,
}

/// A simulation with violations.
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
    /// Stores the figures for the reliability page.
    pub fn record(&self, run: &str) {
        let Counts { changes, events, attempts, commits } = self.counts;
        let figures = json!({
            "cases": self.simulations, "failed": self.failed.len(), "changes": changes, "commits": commits, "events": events,
            "attempts": attempts, "crashes": self.crashes, "simulatedHours": self.hours
        });
        reliability::record(run, &figures);
    }

    /// Formats the result as one line.
    pub fn summary(&self) -> String {
        let Counts { changes, events, attempts, commits } = self.counts;
        format!(
            "{} simulations, {} failed; {changes} changes, {commits} commits, {events} events, {attempts} attempts, {} crashes, {} simulated hours",
            self.simulations,
            self.failed.len(),
            self.crashes,
            self.hours
        )
    }
}

/// Runs `count` simulations from the seed `first` on, one thread for each processor.
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
                    let mut all = all.lock().expect("no simulation panicked");
                    all.simulations += 1;
                    all.counts.add(outcome.counts);
                    all.crashes += outcome.crashes;
                    all.hours += outcome.lasted.as_secs() / 3600;
                    all.failed.extend(failure);
                }
            });
        }
    });
    let mut all = all.into_inner().expect("no simulation panicked");
    all.failed.sort_by_key(|failure| failure.seed);
    all
}

/// Repeats a failed simulation and keeps the last lines of its log.
fn explain(seed: u64) -> Failure {
    let mut outcome = simulate(seed, true);
    let surplus = outcome.trace.len().saturating_sub(LINES_SHOWN);
    Failure { seed, violations: outcome.violations, trace: outcome.trace.split_off(surplus) }
}
