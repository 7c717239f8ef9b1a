//! Builds the copy in which every mutant has its switch. Mutants that do not compile are removed, one by one, as the
//! compiler reports them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::rewrite::{Number, Rewritten, Source, constants};
use super::{Mutant, PACKAGES};
use crate::planted::{copy_tree, root};

/// A test executable.
#[derive(Debug, Clone)]
pub struct Executable {
    /// Package and target: `domain/domain`, `tests/it`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The folder in which it runs.
    pub folder: PathBuf,
}

/// The result of a build.
#[derive(Debug)]
pub struct Built {
    /// The test executables, those of single crates first.
    pub executables: Vec<Executable>,
    /// Mutants for which no switch can be written.
    pub impossible: BTreeSet<Number>,
    /// Mutants that the compiler refuses.
    pub refused: BTreeSet<Number>,
}

/// The folder of the copy and of the results.
pub fn folder() -> PathBuf {
    root().join("target/mutants")
}

fn tree() -> PathBuf {
    folder().join("tree")
}

/// Copies the tree, adds the switches and builds the tests. The dependencies are shared with the source tree.
///
/// # Errors
/// An error of the compiler outside the mutants.
pub fn build(mutants: &[Mutant], say: &dyn Fn(&str)) -> Result<Built> {
    let sources = sources(mutants)?;
    let tree = tree();
    copy_tree(&tree)?;
    add_switches(&tree)?;
    let mut given_up: BTreeMap<String, BTreeSet<Number>> = BTreeMap::new();
    let mut steps: Vec<Vec<&str>> = PACKAGES.iter().map(|package| vec!["check", "--package", package]).collect();
    steps.push(
        [
            "test",
            "--no-run",
            "--package=domain",
            "--package=elements",
            "--package=flow",
            "--package=tests",
            "--lib",
            "--test=*",
        ]
        .to_vec(),
    );
    let mut messages = Vec::new();
    for step in steps {
        loop {
            let mut written = BTreeMap::new();
            for (file, source) in &sources {
                let rewritten = source.switched(given_up.entry(file.clone()).or_default());
                write(&tree.join(file), &rewritten.text)?;
                written.insert(file.clone(), rewritten);
            }
            let built;
            (built, messages) = cargo(&tree, &step)?;
            if built {
                break;
            }
            let before: usize = given_up.values().map(BTreeSet::len).sum();
            give_up(&messages, &written, &mut given_up);
            let count: usize = given_up.values().map(BTreeSet::len).sum();
            ensure!(count > before, "cargo {} fails, for no mutant's sake: {}", step.join(" "), errors(&messages));
            say(&format!("cargo {}: {} more do not compile, {count} in all", step[0], count - before));
        }
    }
    let impossible = sources.values().flat_map(|source| source.impossible.iter().copied()).collect();
    let mut refused: BTreeSet<Number> = given_up.into_values().flatten().collect();
    refused.retain(|number| *number <= mutants.len());
    refused.extend(sources.values().flat_map(|source| &source.refused));
    Ok(Built { executables: executables(&messages), impossible, refused })
}

fn sources(mutants: &[Mutant]) -> Result<BTreeMap<String, Source>> {
    let mut of_file: BTreeMap<&str, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        of_file.entry(&mutant.file).or_default().push(mutant);
    }
    let text = |file: &str| std::fs::read_to_string(root().join(file)).with_context(|| file.to_owned());
    let mut switched = Vec::new();
    for (file, mutants) in &of_file {
        switched.extend(constants(&text(file)?, mutants)?);
    }
    let mut sources = BTreeMap::new();
    for (file, mutants) in of_file {
        let package = &mutants[0].package;
        // A name with two definitions means the constant of the same file.
        let mut seen: Vec<_> = switched
            .iter()
            .filter(|it| it.file == file || it.package == PACKAGES[0] || it.package == *package)
            .cloned()
            .collect();
        seen.sort_by_key(|it| it.file == file);
        sources.insert(file.to_owned(), Source::read(&text(file)?, &mutants, package, &seen)?);
    }
    Ok(sources)
}

/// Writes the crate `mutant`, and the copy's manifests with it and without denied warnings.
fn add_switches(tree: &Path) -> Result<()> {
    let edit = |file: &str, edits: &[(&str, &str)]| -> Result<()> {
        let mut text = std::fs::read_to_string(root().join(file))?;
        for (from, to) in edits {
            ensure!(text.contains(from), "{file} has no {from:?}");
            text = text.replacen(from, to, 1);
        }
        write(&tree.join(file), &text)
    };
    let lints = "[workspace.lints.rust]\nwarnings = \"allow\"\narithmetic_overflow = \"allow\"\nunconditional_panic = \"allow\"\n";
    let speed = "[profile.dev.package]\nmutant = { opt-level = 3 }\ndomain = { opt-level = 1 }\nelements = { opt-level = 1 }\n\
                 flow = { opt-level = 1 }\nlocal = { opt-level = 1 }\n";
    edit("Cargo.toml", &[("[workspace.lints.rust]\n", lints), ("[profile.dev.package]\n", speed)])?;
    for package in PACKAGES {
        let with = "[dependencies]\nmutant = { path = \"../mutant\" }\n";
        edit(&format!("shared/{package}/Cargo.toml"), &[("[dependencies]\n", with)])?;
    }
    let manifest = "[package]\nname = \"mutant\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    write(&tree.join("shared/mutant/Cargo.toml"), manifest)?;
    write(&tree.join("shared/mutant/src/lib.rs"), include_str!("switch.txt"))
}

/// Writes a file unless it is the same already, so that cargo builds nothing without need.
fn write(path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("a file has a folder")?)?;
    Ok(std::fs::write(path, text)?)
}

/// Runs a build. Returns its success and its messages.
fn cargo(tree: &Path, arguments: &[&str]) -> Result<(bool, Vec<Value>)> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(tree).env("CARGO_TARGET_DIR", root().join("target"));
    cargo.args(arguments).args(["--offline", "--message-format=json", "--quiet"]);
    let output = cargo.output()?;
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let messages: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if !output.status.success() && errors(&messages).is_empty() {
        bail!("cargo {} fails: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok((output.status.success(), messages))
}

fn compiler_errors(messages: &[Value]) -> impl Iterator<Item = &Value> {
    messages.iter().map(|message| &message["message"]).filter(|message| message["level"] == "error")
}

fn errors(messages: &[Value]) -> String {
    compiler_errors(messages).filter_map(|error| error["rendered"].as_str()).collect()
}

/// Removes the mutants whose text the compiler's errors point at.
fn give_up(
    messages: &[Value],
    written: &BTreeMap<String, Rewritten>,
    given_up: &mut BTreeMap<String, BTreeSet<Number>>,
) {
    for error in compiler_errors(messages) {
        let spans = error["spans"].as_array().map(Vec::as_slice).unwrap_or_default();
        let owners = |primary: bool| {
            spans.iter().filter(move |span| span["is_primary"] == primary).find_map(|span| {
                let file = span["file_name"].as_str()?;
                let byte = usize::try_from(span["byte_start"].as_u64()?).ok()?;
                let owners = written.get(file)?.owners_at(byte);
                (!owners.is_empty()).then(|| (file.to_owned(), owners.to_vec()))
            })
        };
        if let Some((file, owners)) = owners(true).or_else(|| owners(false)) {
            given_up.entry(file).or_default().extend(owners);
        }
    }
}

fn executables(messages: &[Value]) -> Vec<Executable> {
    let test = |message: &&Value| message["profile"]["test"] == true;
    let executable = |message: &Value| {
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        let package = folder.file_name()?.to_string_lossy().into_owned();
        let name = format!("{package}/{}", message["target"]["name"].as_str()?);
        Some(Executable { name, path: message["executable"].as_str()?.into(), folder })
    };
    let mut all: Vec<_> = messages.iter().filter(test).filter_map(executable).collect();
    // The tests of this command do not reach the mutated code.
    all.retain(|executable| executable.name != "tests/tests");
    all.sort_by_key(|executable| (executable.name == "tests/it", executable.name.clone()));
    all
}
