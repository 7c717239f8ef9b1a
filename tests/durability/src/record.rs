//! Watches the writing process from within its calls of the operating system: `record.c`, compiled when it is needed and
//! loaded before the C library. Linux only; it takes the C compiler that built SQLite.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::kill::{kill_after, start};

/// Lines that a recorded process says at least.
const LINES: u64 = 50;
const SOURCE: &str = include_str!("record.c");

/// A call of the process on a file of its directory, or a line of its output.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// A file was created.
    Create(String),
    /// Bytes were written from an offset on.
    Write {
        /// The file.
        name: String,
        /// Offset of the first byte.
        offset: u64,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A file was cut or extended to so many bytes.
    Truncate(String, u64),
    /// A file was synced, or the directory itself, which is named `.`.
    Sync(String),
    /// A file was removed.
    Unlink(String),
    /// A file got another name.
    Rename(String, String),
    /// The process wrote to its standard output.
    Said(String),
}

/// The compiled recorder and the folder that it lies in.
#[derive(Debug)]
pub struct Recorder {
    folder: tempfile::TempDir,
}

impl Recorder {
    /// Compiles it.
    ///
    /// # Errors
    /// There is no C compiler.
    pub fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let source = folder.path().join("record.c");
        std::fs::write(&source, SOURCE)?;
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(folder.path().join("record.so")).arg(source);
        let output = compiler.args(["-ldl", "-lpthread"]).output().context("cannot run cc")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(Self { folder })
    }

    /// The environment with which a process loads it.
    pub fn library(&self) -> PathBuf {
        self.folder.path().join("record.so")
    }

    /// Lets the process write for a while, kills it, and answers what it did.
    ///
    /// # Errors
    /// It ended by itself, or nothing was recorded.
    pub fn record(&self, program: &Path, life: Duration) -> Result<Vec<Call>> {
        let run = tempfile::tempdir_in(self.folder.path())?;
        // As the system names it, in case a part of the path is a link.
        let run = run.path().canonicalize()?;
        let (directory, log) = (run.join("data"), run.join("log"));
        let environment =
            [("LD_PRELOAD", self.library()), ("RECORD_DIRECTORY", directory.clone()), ("RECORD_LOG", log.clone())];
        let environment: Vec<(&str, &Path)> = environment.iter().map(|(name, path)| (*name, path.as_path())).collect();
        kill_after(start(program, &directory, &environment)?, life, LINES)?;
        parse(&std::fs::read(&log).context("nothing was recorded")?)
    }
}

fn parse(mut log: &[u8]) -> Result<Vec<Call>> {
    let mut calls = Vec::new();
    while let Some((head, rest)) = log.split_at_checked(14) {
        let name_length = usize::from(head[1]);
        let length = u32::from_le_bytes(head[2..6].try_into()?) as usize;
        let offset = u64::from_le_bytes(head[6..14].try_into()?);
        // Killed while it wrote the record down.
        let Some((name, rest)) = rest.split_at_checked(name_length) else { break };
        let Some((data, rest)) = rest.split_at_checked(length) else { break };
        log = rest;
        let (name, data) = (String::from_utf8(name.to_vec())?, data.to_vec());
        calls.push(match head[0] {
            b'C' => Call::Create(name),
            b'W' => Call::Write { name, offset, data },
            b'T' => Call::Truncate(name, offset),
            b'S' => Call::Sync(name),
            b'U' => Call::Unlink(name),
            b'R' => Call::Rename(name, String::from_utf8(data)?),
            b'A' => Call::Said(String::from_utf8(data)?),
            kind => anyhow::bail!("a record of kind {kind}"),
        });
    }
    Ok(calls)
}
