//! Replays what the writing process did to its disk up to a power cut.
//!
//! A disk keeps a file's bytes up to its last sync; of the writes since then any subset, each whole or torn at
//! sectors of 512 bytes; of the created, removed and renamed names those up to the last sync of the directory, and the first
//! few since then. What the process acknowledged before the cut must be there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::record::{Call, Recorder};
use crate::rng::Rng;
use crate::write::{Acknowledged, note, verify};

/// A disk writes whole sectors.
const SECTOR: usize = 512;
/// Calls between two cuts of one recording differ widely, so several recordings share the cuts.
const CUTS_OF_RECORDING: u64 = 50;
/// The time for which a recorded process writes.
const LIFE: Duration = Duration::from_millis(1200);

/// The result of a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Power cuts.
    pub cuts: u64,
    /// Writes that were under way at the cuts: lost, torn or kept.
    pub unsynced: u64,
    /// Transactions that had been acknowledged at the cuts.
    pub acknowledged: u64,
}

/// A disk that says that it has synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It has.
    Honest,
    /// It has not, but for the first syncs: to see that losses are found.
    Lying,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
struct File {
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Naming {
    Create(String, usize),
    Unlink(String),
    Rename(String, String),
}

/// The disk while the calls are replayed.
#[derive(Debug, Default)]
struct Replay {
    files: Vec<File>,
    /// Names as the process sees them.
    names: BTreeMap<String, usize>,
    /// Names that a power cut leaves.
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<Naming>,
    acknowledged: Acknowledged,
}

fn rename(names: &mut BTreeMap<String, usize>, naming: &Naming) {
    match naming {
        Naming::Create(name, file) => {
            names.insert(name.clone(), *file);
        }
        Naming::Unlink(name) => {
            names.remove(name);
        }
        Naming::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
    }
}

fn write_at(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if content.len() < offset + data.len() {
        content.resize(offset + data.len(), 0);
    }
    content[offset..offset + data.len()].copy_from_slice(data);
}

impl File {
    fn sync(&mut self) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, data } => write_at(&mut self.durable, offset, &data),
                Pending::Truncate(length) => self.durable.resize(length, 0),
            }
        }
    }

    /// The files that a power cut leaves.
    fn cut(&self, rng: &mut Rng) -> Vec<u8> {
        let mut content = self.durable.clone();
        // Mostly lost, mostly kept, or in between.
        let kept_in_ten = [1, 5, 9][rng.below(3) as usize];
        for pending in &self.pending {
            let fate = rng.below(10);
            match pending {
                Pending::Truncate(length) if fate < kept_in_ten => content.resize(*length, 0),
                Pending::Write { offset, data } if fate < kept_in_ten && !rng.once_in(3) => {
                    write_at(&mut content, *offset, data);
                }
                Pending::Write { offset, data } if fate < kept_in_ten => {
                    let mut at = 0;
                    while at < data.len() {
                        let end = data.len().min(at + SECTOR - (offset + at) % SECTOR);
                        if rng.once_in(2) {
                            write_at(&mut content, offset + at, &data[at..end]);
                        }
                        at = end;
                    }
                }
                _ => {}
            }
        }
        content
    }
}

impl Replay {
    fn file(&mut self, name: &str) -> Result<&mut File> {
        let file = *self.names.get(name).with_context(|| format!("{name} was never created"))?;
        Ok(&mut self.files[file])
    }

    fn name(&mut self, naming: Naming) {
        rename(&mut self.names, &naming);
        self.pending_names.push(naming);
    }

    fn call(&mut self, call: &Call, disk: Disk) -> Result<()> {
        match call {
            Call::Create(name) => {
                self.files.push(File::default());
                self.name(Naming::Create(name.clone(), self.files.len() - 1));
            }
            Call::Write { name, offset, data } => {
                let pending = Pending::Write { offset: usize::try_from(*offset)?, data: data.clone() };
                self.file(name)?.pending.push(pending);
            }
            Call::Truncate(name, length) => {
                let pending = Pending::Truncate(usize::try_from(*length)?);
                self.file(name)?.pending.push(pending);
            }
            Call::Sync(name) if name == "." => {
                for naming in std::mem::take(&mut self.pending_names) {
                    rename(&mut self.durable_names, &naming);
                }
            }
            Call::Sync(name) if disk == Disk::Honest || self.acknowledged.is_empty() => self.file(name)?.sync(),
            Call::Sync(_) => {}
            Call::Unlink(name) => self.name(Naming::Unlink(name.clone())),
            Call::Rename(from, to) => self.name(Naming::Rename(from.clone(), to.clone())),
            Call::Said(lines) => {
                for line in lines.lines() {
                    note(line, &mut self.acknowledged)?;
                }
            }
        }
        Ok(())
    }

    /// Puts what a power cut leaves into an empty directory.
    fn cut(&self, rng: &mut Rng, directory: &Path) -> Result<()> {
        let mut names = self.durable_names.clone();
        let kept = rng.below(self.pending_names.len() as u64 + 1) as usize;
        self.pending_names[..kept].iter().for_each(|naming| rename(&mut names, naming));
        std::fs::create_dir(directory)?;
        for (name, file) in names {
            std::fs::write(directory.join(name), self.files[file].cut(rng))?;
        }
        // The index of the log is never synced; nothing may depend on what is left of it.
        if rng.once_in(2) {
            let garbage: Vec<u8> = std::iter::repeat_with(|| rng.bits() as u8).take(32 * 1024).collect();
            std::fs::write(directory.join(format!("{}-shm", sqlite::directory::FILE)), garbage)?;
        }
        Ok(())
    }
}

/// Cuts the power so many times; answers after the first loss.
///
/// # Errors
/// Something that was acknowledged is missing, torn or damaged.
pub async fn cut(program: &Path, cuts: u64, seed: u64, disk: Disk) -> Result<Figures> {
    let recorder = Recorder::new()?;
    let mut rng = Rng::new(seed);
    let mut figures = Figures::default();
    while figures.cuts < cuts {
        let calls = recorder.record(program, LIFE)?;
        let said = calls.iter().filter(|call| matches!(call, Call::Said(_))).count();
        let syncs = calls.iter().filter(|call| matches!(call, Call::Sync(_))).count();
        ensure!(said > 0 && syncs > 3, "{said} acknowledgements and {syncs} syncs are too few to say anything");
        let some = CUTS_OF_RECORDING.min(cuts - figures.cuts);
        // Half of the first cuts are among the first calls, where the files are made.
        let early = calls.iter().position(|call| matches!(call, Call::Said(_))).unwrap_or(1).max(1) as u64;
        let mut places: Vec<usize> = (0..some)
            .map(|_| if rng.once_in(8) { rng.below(early) } else { rng.below(calls.len() as u64) } as usize)
            .collect();
        places.sort_unstable();
        let (mut replay, mut replayed) = (Replay::default(), 0);
        for place in places {
            // The call at the place is under way, and so is among those that may be lost.
            let end = if matches!(calls[place], Call::Write { .. } | Call::Truncate(..)) { place + 1 } else { place };
            for call in calls.get(replayed..end).unwrap_or_default() {
                replay.call(call, disk)?;
            }
            replayed = replayed.max(end);
            let folder = tempfile::tempdir()?;
            let directory = folder.path().join("data");
            replay.cut(&mut rng, &directory)?;
            let verified = verify(&directory, &replay.acknowledged).await;
            verified.with_context(|| format!("power cut at call {place} of {}, seed {seed}", calls.len()))?;
            figures.cuts += 1;
            figures.unsynced += replay.files.iter().map(|file| file.pending.len() as u64).sum::<u64>();
            figures.acknowledged += replay.acknowledged.values().sum::<u64>();
        }
    }
    Ok(figures)
}
