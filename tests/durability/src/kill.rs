//! Kills the writing process at random moments, again and again over one directory.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::rng::Rng;
use crate::write::{Acknowledged, note, verify};

/// The result of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Kills.
    pub kills: u64,
    /// Transactions that were acknowledged and found afterwards.
    pub acknowledged: u64,
}

/// The process that writes into a directory; `program` is this package's binary.
pub fn start(program: &Path, directory: &Path, environment: &[(&str, &Path)]) -> Result<Child> {
    let mut command = Command::new(program);
    command.arg("write").arg(directory).envs(environment.iter().copied()).stdout(Stdio::piped());
    command.spawn().with_context(|| format!("cannot start {}", program.display()))
}

/// Something that has not happened by now does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kills the process by SIGKILL after a while, and not before it has said so many lines; answers what it acknowledged
/// until then.
///
/// # Errors
/// It ended by itself, or said something else.
pub fn kill_after(mut child: Child, life: Duration, lines: u64) -> Result<Acknowledged> {
    let output = child.stdout.take().context("its output is read")?;
    let said = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&said);
    let reading = std::thread::spawn(move || -> Result<Acknowledged> {
        let mut acknowledged = Acknowledged::new();
        for line in BufReader::new(output).lines() {
            note(&line?, &mut acknowledged)?;
            counted.fetch_add(1, Ordering::Relaxed);
        }
        Ok(acknowledged)
    });
    std::thread::sleep(life);
    let until = Instant::now() + PATIENCE;
    while said.load(Ordering::Relaxed) < lines && child.try_wait()?.is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ended = child.try_wait()?;
    child.kill()?;
    child.wait()?;
    anyhow::ensure!(ended.is_none(), "it ended by itself: {ended:?}");
    reading.join().map_err(|_| anyhow::anyhow!("reading panicked"))?
}

/// Kills it so many times, and looks each time whether what it acknowledged is there.
///
/// # Errors
/// Something is missing, torn or damaged.
pub async fn kill(program: &Path, times: u64, seed: u64) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let directory = folder.path().join("data");
    let mut rng = Rng::new(seed);
    let (mut known, mut figures) = (Acknowledged::new(), Figures::default());
    for time in 1..=times {
        let longest = if rng.once_in(4) { 30 } else { 400 };
        let life = Duration::from_millis(5 + rng.below(longest));
        let child = start(program, &directory, &[])?;
        for (client, n) in kill_after(child, life, 0)? {
            let before = known.insert(client, n).unwrap_or(0);
            figures.acknowledged += n - before;
        }
        known = verify(&directory, &known).await.with_context(|| format!("after kill {time} of seed {seed}"))?;
        figures.kills += 1;
    }
    Ok(figures)
}
