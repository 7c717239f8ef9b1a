//! Applies each bug of `tests/planted` to a copy of the tree and runs the test that must fail:
//! `cargo run -p tests --bin planted`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use serde_json::{Map, Value, json};
use tests::planted::{all, copy_tree, root};
use tests::reliability::{last, record};

/// Plants each bug of `tests/planted` in a copy of the tree and runs the test that must notice. Takes a minute or so for each,
/// and the first time as long as all dependencies take to build.
#[derive(Parser)]
struct Options {
    /// Only these, by the names of their patches.
    names: Vec<String>,
}

#[allow(clippy::print_stdout)] // What it found is what it is for.
fn main() -> anyhow::Result<ExitCode> {
    let wanted = Options::parse().names;
    let mut planted = all()?;
    let names: Vec<String> = planted.iter().map(|bug| bug.name.clone()).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(name)) {
        bail!("no patch is called {unknown}; there are {}", names.join(", "));
    }
    planted.retain(|bug| wanted.is_empty() || wanted.contains(&bug.name));
    // Cargo takes packages of two copies of a workspace for the same: in one folder each would run the other's code.
    let (tree, target) = (root().join("target/planted"), root().join("target/planted/target"));
    copy_tree(&tree)?;
    // What was not run now keeps what came of it last.
    let known = last("planted").and_then(|figures| figures["caughtBy"].as_object().cloned()).unwrap_or_default();
    let mut caught_by: Map<String, Value> = known.into_iter().filter(|(name, _)| names.contains(name)).collect();
    let mut caught = 0;
    for bug in &planted {
        caught_by.remove(&bug.name);
        match bug.is_caught(&tree, &target) {
            Ok(how) => {
                println!("caught     {}: {how}", bug.name);
                caught_by.insert(bug.name.clone(), json!(how));
                caught += 1;
            }
            Err(error) => println!("NOT CAUGHT {}: {error:#}", bug.name),
        }
    }
    println!("{caught} of {} are caught", planted.len());
    let (cases, failed) = (names.len(), names.len() - caught_by.len());
    record("planted", &json!({ "cases": cases, "failed": failed, "caughtBy": caught_by }));
    Ok(if caught == planted.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
