//! Fills the disk of the writing process for a while: its files do not grow, as the operating system says when there is no
//! room. The process must say so, lose nothing, and go on when there is room.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::kill::start;
use crate::record::Recorder;
use crate::write::{Acknowledged, note, verify};

/// Something that has not happened by now does not happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// Lines that are read between two changes of the disk.
const LINES: usize = 300;

/// Fills the disk and makes room so many times, kills the process and looks whether all is there. Answers how many
/// transactions were acknowledged.
///
/// # Errors
/// Something is missing, or the process ended, or never noticed.
pub async fn fill(program: &Path, times: u64) -> Result<u64> {
    let recorder = Recorder::new()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path().canonicalize()?;
    let (directory, full) = (folder.join("data"), folder.join("full"));
    let library = recorder.library();
    let environment = [("LD_PRELOAD", &*library), ("RECORD_DIRECTORY", &*directory), ("RECORD_FULL", &*full)];
    let mut child = start(program, &directory, &environment)?;
    let mut lines = BufReader::new(child.stdout.take().context("its output is read")?).lines();
    let mut acknowledged = Acknowledged::new();
    let mut watch = || -> Result<()> {
        for _ in 0..times {
            for _ in 0..LINES {
                note(&lines.next().context("it ended")??, &mut acknowledged)?;
            }
            std::fs::write(&full, "")?;
            let until = Instant::now() + PATIENCE;
            let mut said = 0;
            while said < 20 {
                let is_full = note(&lines.next().context("it ended for want of room")??, &mut acknowledged)?;
                said += u32::from(is_full);
                ensure!(Instant::now() < until, "it never says that the disk is full");
            }
            std::fs::remove_file(&full)?;
            let until = Instant::now() + PATIENCE;
            while note(&lines.next().context("it ended")??, &mut acknowledged)? {
                ensure!(Instant::now() < until, "it never recovers");
            }
        }
        Ok(())
    };
    let watched = watch();
    child.kill()?;
    child.wait()?;
    watched?;
    for line in lines {
        note(&line?, &mut acknowledged)?;
    }
    verify(&directory, &acknowledged).await?;
    Ok(acknowledged.values().sum())
}
