//! Plants each bug of `tests/planted` in a copy of the tree and runs the test that must notice:
//! `cargo run -p tests --bin planted`, or with names for some of them. Takes a minute or so for each, and the first time as
//! long as all dependencies take to build.

use std::process::ExitCode;

use serde_json::json;
use tests::planted::{all, copy_tree, root};
use tests::reliability::record;

#[allow(clippy::print_stdout)] // What it found is what it is for.
fn main() -> anyhow::Result<ExitCode> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut planted = all()?;
    planted.retain(|bug| wanted.is_empty() || wanted.contains(&bug.name));
    // Cargo takes packages of two copies of a workspace for the same: in one folder each would run the other's code.
    let (tree, target) = (root().join("target/planted"), root().join("target/planted/target"));
    copy_tree(&tree)?;
    let mut caught = serde_json::Map::new();
    for bug in &planted {
        match bug.is_caught(&tree, &target) {
            Ok(how) => {
                println!("caught     {}: {how}", bug.name);
                caught.insert(bug.name.clone(), json!(how));
            }
            Err(error) => println!("NOT CAUGHT {}: {error:#}", bug.name),
        }
    }
    println!("{} of {} are caught", caught.len(), planted.len());
    if wanted.is_empty() {
        record(
            "planted",
            &json!({ "cases": planted.len(), "failed": planted.len() - caught.len(), "caughtBy": caught }),
        );
    }
    Ok(if caught.len() == planted.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
