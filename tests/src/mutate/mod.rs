//! Mutation testing with one build. The code contains every mutant that `cargo mutants` lists, each behind a switch that
//! an environment variable sets. So trying one takes a run of the tests that reach it, and no compilation.

pub mod build;
pub mod reasons;
pub mod rewrite;
pub mod run;

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::planted::root;

/// The packages whose code is changed.
pub const PACKAGES: [&str; 3] = ["domain", "store", "flow"];

/// A place in a file, counted from one, as `cargo mutants` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

#[derive(Debug, Clone, Deserialize)]
struct Span {
    start: Place,
}

/// One change to the code.
#[derive(Debug, Clone, Deserialize)]
pub struct Mutant {
    /// The file, from the repository's root.
    pub file: String,
    /// `domain` or `flow`.
    pub package: String,
    /// The kind of change: `BinaryOperator`, `FnValue`, …
    pub genre: String,
    /// As listed, with line and column.
    pub name: String,
    /// The replacement.
    pub replacement: String,
    span: Span,
    /// Its number, which switches it on.
    #[serde(skip)]
    pub number: usize,
    /// The name without line and column, which does not change when lines move. The second mutant of a name ends with ` #2`.
    #[serde(skip)]
    pub key: String,
}

impl Mutant {
    /// The start of the change.
    pub fn place(&self) -> Place {
        self.span.start
    }
}

/// All mutants, as `cargo mutants` lists them.
///
/// # Errors
/// The tool is missing or does not list them.
pub fn catalogue() -> Result<Vec<Mutant>> {
    let mut list = Command::new("cargo");
    list.current_dir(root()).args(["mutants", "--list", "--json"]);
    for package in PACKAGES {
        list.args(["--package", package]);
    }
    let output = list.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo mutants does not list (cargo install cargo-mutants --locked): {said}");
    numbered(serde_json::from_slice(&output.stdout).context("the list of cargo mutants")?)
}

/// Assigns numbers, from one, and keys.
///
/// # Errors
/// A name of another form.
pub fn numbered(mut mutants: Vec<Mutant>) -> Result<Vec<Mutant>> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, mutant) in mutants.iter_mut().enumerate() {
        let (_, what) = mutant.name.split_once(": ").context("a mutant's name begins with its place")?;
        let name = format!("{}: {what}", mutant.file);
        let count = seen.entry(name.clone()).or_default();
        *count += 1;
        mutant.key = if *count == 1 { name } else { format!("{name} #{count}") };
        mutant.number = index + 1;
    }
    Ok(mutants)
}
