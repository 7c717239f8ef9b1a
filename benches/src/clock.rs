//! The cost of some work in this process: CPU time, wall time and memory.

use std::time::Instant;

use serde::{Deserialize, Serialize};

/// One measurement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// CPU seconds of all threads of the process, user and system.
    pub cpu_s: f64,
    /// Seconds that passed.
    pub wall_s: f64,
    /// Most resident memory during the measured work, in MB; 0 where the system does not tell.
    pub peak_mb: f64,
    /// Polls, messages or deliveries that the work consisted of.
    pub count: u64,
    /// Callbacks that were posted.
    pub posts: u64,
}

/// The readings of the clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    cpu_s: f64,
    wall: Instant,
}

impl Start {
    /// Now, with the peak of memory forgotten.
    pub fn now() -> Self {
        // Linux forgets the peak when asked so. Elsewhere there is no such file and no peak either.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        Self { cpu_s: cpu_seconds(), wall: Instant::now() }
    }

    /// The wall time and CPU time since the reading.
    pub fn reading(self, count: u64, posts: u64) -> Reading {
        let (wall_s, cpu_s) = (self.wall.elapsed().as_secs_f64(), cpu_seconds() - self.cpu_s);
        Reading { cpu_s, wall_s, peak_mb: memory_mb("VmHWM:"), count, posts }
    }
}

/// CPU seconds of this process so far.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A line of `/proc/self/status` in MB; 0 where there is none.
pub fn memory_mb(line: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// The middle one; the mean of the middle two of an even number. 0 of none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}
