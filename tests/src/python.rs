//! Packages from PyPI, each in a virtual environment of its own under `target/tools`. The first test that uses one makes
//! the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

/// The interpreter of an environment that has this package, such as `moto[server]==5.2.1`. Panics when it cannot be
/// installed.
pub fn with(package: &str) -> PathBuf {
    static MADE: LazyLock<Mutex<BTreeMap<String, PathBuf>>> = LazyLock::new(Mutex::default);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(package.to_owned()).or_insert_with(|| make(package)).clone()
}

fn make(package: &str) -> PathBuf {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools").join(package.replace(['[', ']', '='], "-"));
    // Written last: a folder without it belongs to an interrupted run.
    let complete = folder.join("complete");
    if !complete.exists() {
        let run = |command: &mut Command| {
            let output = command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
        run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", package]));
        std::fs::write(&complete, package).unwrap_or_else(|error| panic!("{}: {error}", complete.display()));
    }
    folder.join("bin/python")
}
