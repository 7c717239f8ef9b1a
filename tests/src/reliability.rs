//! The figures of long runs for `docs/reliability.md`: one file for each run.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

/// The folder with the figures of the last runs.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/reliability")
}

/// Stores the figures of a run. A failed write does not fail the run.
pub fn record(run: &str, figures: &Value) {
    let folder = folder();
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(folder.join(format!("{run}.json")), format!("{figures:#}\n"));
}

/// The figures that a run stored last, if any.
pub fn last(run: &str) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(folder().join(format!("{run}.json"))).ok()?).ok()
}

/// Answers true if the name of a test or of a module of tests starts with `name`.
pub fn names_a_test(name: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in the repository");
    ["shared", "functions", "tests"].iter().any(|folder| holds(&root.join(folder), name))
}

fn holds(folder: &Path, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, name);
        }
        let rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_module = path.file_stem().is_some_and(|stem| stem == name);
        rust && (is_module || std::fs::read_to_string(&path).is_ok_and(|text| text.contains(&format!("fn {name}"))))
    })
}

/// A run whose figures are on the page.
struct Run {
    name: &'static str,
    what: &'static str,
    command: &'static str,
}

const RUNS: [Run; 8] = [
    Run { name: "simulator", what: "simulated worlds", command: "cargo run -p tests --bin simulate -- --seeds 3000" },
    Run { name: "planted", what: "planted bugs", command: "cargo run -p tests --bin planted" },
    Run { name: "mutants", what: "mutants", command: "cargo run -p tests --bin mutate" },
    Run { name: "kill", what: "kills of a real process", command: "cargo run -p tests --bin kill -- --times 100" },
    Run { name: "load", what: "calls past saturation", command: "cargo run -p tests --bin load" },
    Run { name: "fuzz", what: "hostile inputs", command: "cargo test -p tests --test it fuzz" },
    Run { name: "contracts", what: "cases of the ports' contracts", command: "cargo test -p tests --test it contract" },
    Run { name: "soak", what: "simulated days", command: "cargo test -p tests --test it simulator::after_weeks" },
];

const BEGIN: &str = "<!-- figures: written by `cargo run -p tests --bin reliability` -->\n";
const END: &str = "<!-- end of figures -->";

/// The page.
pub fn page() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/reliability.md")
}

/// Writes the stored figures into the page. Runs without new figures keep their lines.
///
/// # Errors
/// The page cannot be read or written, or has no place for figures.
pub fn write() -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page())?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no place for figures")?;
    let (old, after) = rest.split_once(END).context("the place for figures does not end")?;
    let mut table =
        String::from("| Run | Cases | Failed | What happened in them | Command |\n| --- | --- | --- | --- | --- |\n");
    for run in RUNS {
        let kept = old.lines().find(|line| line.starts_with(&format!("| {} |", run.what)));
        match figures_of(run.name)? {
            Some(figures) => table.push_str(&line_of(&run, &figures)),
            None => table.extend(kept.map(|line| format!("{line}\n"))),
        }
    }
    Ok(std::fs::write(page(), format!("{before}{BEGIN}{table}{END}{after}"))?)
}

/// The figures of a run. If it was recorded in parts, such as `contracts-store`, the sums.
fn figures_of(name: &str) -> anyhow::Result<Option<Value>> {
    if let Some(figures) = last(name) {
        return Ok(Some(figures));
    }
    let mut sums = serde_json::Map::new();
    for entry in std::fs::read_dir(folder()).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{name}-")) {
            let part: serde_json::Map<String, Value> = serde_json::from_slice(&std::fs::read(entry.path())?)?;
            for (figure, value) in part {
                let sum = sums.get(&figure).and_then(Value::as_u64).unwrap_or(0) + value.as_u64().unwrap_or(0);
                sums.insert(figure, sum.into());
            }
        }
    }
    Ok((!sums.is_empty()).then(|| sums.into()))
}

fn line_of(run: &Run, figures: &Value) -> String {
    let number = |value: &Value| value.as_u64().map_or_else(|| value.to_string(), |number| number.to_string());
    let others = figures.as_object().into_iter().flatten();
    let others = others.filter(|(name, value)| !["cases", "failed"].contains(&name.as_str()) && value.is_number());
    let others: Vec<String> = others.map(|(name, value)| format!("{} {}", number(value), words(name))).collect();
    let (cases, failed) = (number(&figures["cases"]), number(&figures["failed"]));
    format!("| {} | {cases} | {failed} | {} | `{}` |\n", run.what, others.join(", "), run.command)
}

/// `simulatedHours` as words.
fn words(name: &str) -> String {
    let spaced = name.chars().flat_map(|letter| {
        let space = letter.is_uppercase().then_some(' ');
        space.into_iter().chain(letter.to_lowercase())
    });
    spaced.collect()
}

/// The names of tests on the page that do not exist.
///
/// # Errors
/// The page cannot be read.
pub fn unknown_tests() -> std::io::Result<Vec<String>> {
    let text = std::fs::read_to_string(page())?;
    let table = text.lines().filter(|line| line.starts_with("| "));
    let quoted = table.flat_map(|line| line.split('`').skip(1).step_by(2));
    let names =
        quoted.filter(|name| name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter)));
    let test = |name: &&str| !names_a_test(name.rsplit("::").next().unwrap_or(name));
    Ok(names.filter(test).map(str::to_owned).collect())
}
