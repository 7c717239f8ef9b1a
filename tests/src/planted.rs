//! Planted bugs: each is a patch under `tests/planted` that says what it breaks and which test must fail. A test that
//! cannot fail proves nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};

/// A planted bug.
#[derive(Debug, Clone)]
pub struct Planted {
    /// The patch's name.
    pub name: String,
    /// The broken behavior.
    pub what: String,
    /// Arguments of `cargo test` that run the test which must fail.
    pub caught_by: Vec<String>,
    patch: PathBuf,
}

/// The folder of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository").to_owned()
}

/// All planted bugs, by name.
///
/// # Errors
/// A patch that cannot be read, or does not say what it breaks.
pub fn all() -> Result<Vec<Planted>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/planted"))? {
        let patch = entry?.path();
        let text = std::fs::read_to_string(&patch)?;
        let line = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.map(|text| text.trim().to_owned()).with_context(|| format!("{} has no {name}", patch.display()))
        };
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let caught_by = line("Caught by:")?.split_whitespace().map(str::to_owned).collect();
        all.push(Planted { name, what: line("What:")?, caught_by, patch });
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

impl Planted {
    /// Checks that the patch applies to the tree.
    ///
    /// # Errors
    /// It does not apply.
    pub fn applies(&self) -> Result<()> {
        self.git(&root(), &["--check"])
    }

    fn git(&self, tree: &Path, arguments: &[&str]) -> Result<()> {
        let mut git = Command::new("git");
        // A copy within the repository does not belong to the repository.
        git.current_dir(tree).env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
        let output = git.args(["apply", "-C1"]).args(arguments).arg(&self.patch).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{} does not apply: {said}", self.name);
        Ok(())
    }

    /// Applies the patch to a copy of the tree and runs the test that must fail. Returns the failed test.
    ///
    /// # Errors
    /// No test failed, or the copy does not compile.
    pub fn is_caught(&self, tree: &Path, target: &Path) -> Result<String> {
        self.git(tree, &[])?;
        let output = Command::new("cargo")
            .current_dir(tree)
            .env("CARGO_TARGET_DIR", target)
            .env("RUST_BACKTRACE", "0")
            .env("POLLUX_WORLDS", "150")
            .args(["test", "--locked", "--quiet"])
            .args(&self.caught_by)
            .output();
        self.git(tree, &["-R"])?;
        failure_in(&output?)
    }
}

fn failure_in(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        bail!("no test noticed it: {}", said.trim());
    }
    let mut failed: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("    ")).collect();
    failed.retain(|line| line.contains("::") && !line.contains(' '));
    failed.sort_unstable();
    failed.dedup();
    ensure!(!failed.is_empty(), "it does not compile: {}", String::from_utf8_lossy(&output.stderr));
    Ok(failed.join(", "))
}

/// Copies the files that git tracks. Unchanged files keep their age, so that a second copy to the same place builds
/// little.
///
/// # Errors
/// A file that cannot be read or written.
pub fn copy_tree(to: &Path) -> Result<()> {
    let listed = Command::new("git").current_dir(root()).args(["ls-files", "-z", "--cached"]).output()?;
    ensure!(listed.status.success(), "git does not list the files: {}", String::from_utf8_lossy(&listed.stderr));
    for name in String::from_utf8(listed.stdout)?.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (root().join(name), to.join(name));
        let Ok(content) = std::fs::read(&from) else { continue };
        if std::fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        std::fs::create_dir_all(to.parent().context("a file has a folder")?)?;
        std::fs::copy(&from, &to)?;
    }
    Ok(())
}
