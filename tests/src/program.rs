//! A program that runs beside a test and ends with it.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command};

/// A running child process, killed when dropped.
#[derive(Debug)]
pub struct Program(Child);

impl Program {
    /// Starts it. Panics when it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self(child.unwrap_or_else(|error| panic!("{} does not start: {error}", command.get_program().display())))
    }

    /// The process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One of the workspace's own binaries, as built with the tests. Panics when it is not there.
pub fn binary(name: impl AsRef<OsStr>) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    let folder = test.parent().expect("it lies in a folder");
    // Tests lie in a folder of their own beside the binaries.
    let folder = if folder.ends_with("deps") { folder.parent().expect("deps lie in a folder") } else { folder };
    let path = folder.join(name.as_ref()).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} is not built; `cargo test --workspace` builds it, or `cargo build --workspace`",
        path.display()
    );
    path
}
