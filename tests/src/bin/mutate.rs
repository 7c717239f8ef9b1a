//! Tries every mutant of `domain` and `flow` with one build, and lists those that survive without a reason:
//! `cargo run -p tests --bin mutate`. It continues an interrupted run. See `docs/reliability.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::json;
use tests::mutate::build::{build, folder};
use tests::mutate::reasons::Reasons;
use tests::mutate::run::{Outcome, Tried, note, record, results, try_all};
use tests::mutate::{Mutant, PACKAGES, catalogue};

/// Tries every mutant of `domain` and `flow` with one build.
#[derive(Parser)]
struct Options {
    /// Only mutants whose name contains one of these.
    names: Vec<String>,
    /// Only this package.
    #[arg(long)]
    package: Option<String>,
    /// Only files that contain this.
    #[arg(long)]
    file: Option<String>,
    /// Once more those that survived without a reason, after tests were added.
    #[arg(long)]
    survivors: bool,
    /// All once more, forgetting what was learned before. Needed when the mutated code changed.
    #[arg(long)]
    fresh: bool,
    /// Nothing is tried: what is known is reported.
    #[arg(long)]
    report: bool,
    /// So many processes at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// So many seconds of tests for one mutant, the simulator aside.
    #[arg(long, default_value_t = 60)]
    bound: u64,
}

#[allow(clippy::print_stdout)] // What it found is what it is for.
fn say(line: &str) {
    println!("{line}");
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let mutants = catalogue()?;
    if options.fresh {
        for file in ["reached.jsonl", "results.jsonl"] {
            let _ = std::fs::remove_file(folder().join(file));
        }
    }
    if !options.report {
        try_wanted(&options, &mutants)?;
    }
    report(&mutants)
}

fn try_wanted(options: &Options, mutants: &[Mutant]) -> anyhow::Result<()> {
    say(&format!("{} mutants", mutants.len()));
    let built = build(mutants, &say)?;
    let tests = record(&built.executables, mutants, options.jobs, &say)?;
    let (known, reasons) = (results(), Reasons::read()?);
    let wanted = |mutant: &&Mutant| {
        let again = |tried: &Tried| tried.outcome.is_survivor() && reasons.of(&mutant.key).is_none();
        let open = known.get(&mutant.key).is_none_or(|tried| options.survivors && again(tried));
        let named = options.names.is_empty() || options.names.iter().any(|name| mutant.name.contains(name));
        let package = options.package.as_ref().is_none_or(|package| mutant.package == *package);
        let file = options.file.as_ref().is_none_or(|file| mutant.file.contains(file));
        (open || !options.names.is_empty()) && named && package && file
    };
    let (without, wanted): (Vec<_>, Vec<_>) = mutants
        .iter()
        .filter(wanted)
        .partition(|mutant| built.refused.contains(&mutant.number) || built.impossible.contains(&mutant.number));
    let (impossible, refused): (Vec<_>, Vec<_>) =
        without.into_iter().partition(|mutant| built.impossible.contains(&mutant.number));
    note(&impossible, Outcome::Impossible)?;
    note(&refused, Outcome::Refused)?;
    let how = (options.jobs, Duration::from_secs(options.bound));
    try_all(&wanted, &built.executables, &tests, how, &say)
}

/// Says what all came to, what survives and why it may, what survives without a reason, and which reasons are needed by none.
fn report(mutants: &[Mutant]) -> anyhow::Result<ExitCode> {
    let (known, reasons) = (results(), Reasons::read()?);
    let of: BTreeMap<&str, &Tried> =
        mutants.iter().filter_map(|mutant| Some((mutant.key.as_str(), known.get(&mutant.key)?))).collect();
    let (mut unneeded, mut open): (BTreeSet<&str>, usize) = (reasons.names().collect(), 0);
    let mut excused: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for mutant in mutants {
        if of.get(mutant.key.as_str()).is_some_and(|tried| tried.outcome.is_survivor()) {
            match reasons.of(&mutant.key) {
                Some((name, reason)) => {
                    unneeded.remove(name);
                    excused.entry((name, reason)).or_default().push(&mutant.name);
                }
                None => {
                    say(&format!("survives without a reason: {} ({})", mutant.key, mutant.name));
                    open += 1;
                }
            }
        }
    }
    for ((_, reason), names) in &excused {
        names.iter().for_each(|name| say(&format!("survives: {name}")));
        say(&format!("    {reason}"));
    }
    for name in &unneeded {
        say(&format!("has a reason and does not survive: {name}"));
    }
    let count = |package: Option<&str>, outcomes: &[Outcome]| {
        let mine = |tried: &&&Tried| package.is_none_or(|package| tried.package == package);
        of.values().filter(mine).filter(|tried| outcomes.contains(&tried.outcome)).count()
    };
    let table: Vec<_> = [Some(PACKAGES[0]), Some(PACKAGES[1]), None].into_iter().map(|package| {
        let [caught, endless] = [Outcome::Caught, Outcome::Endless].map(|outcome| count(package, &[outcome]));
        let [survived, unreached] = [Outcome::Survived, Outcome::Unreached].map(|outcome| count(package, &[outcome]));
        let [refused, impossible] = [Outcome::Refused, Outcome::Impossible].map(|outcome| count(package, &[outcome]));
        (package, json!({
            "cases": caught + endless + survived + unreached, "caught": caught, "caughtByTime": endless, "survived": survived,
            "reachedByNoTest": unreached, "doNotCompile": refused, "haveNoSwitch": impossible,
        }))
    }).collect();
    for (package, figures) in &table {
        say(&format!("{}: {figures}", package.unwrap_or("both")));
    }
    if of.len() == mutants.len() {
        let mut figures = table[2].1.clone();
        figures["failed"] = json!(open);
        tests::reliability::record("mutants", &figures);
    } else {
        say(&format!("{} of {} are not tried yet", mutants.len() - of.len(), mutants.len()));
    }
    Ok(if open == 0 && unneeded.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
