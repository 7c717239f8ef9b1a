//! Tries mutants: learns once which tests reach which mutants, then runs those tests, cheapest first, until one fails.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::Mutant;
use super::build::{Executable, folder};

/// Tests that start programs, emulators or Python, or read the repository: they are slow and do not reach the mutants.
const LEFT_OUT: [&str; 12] = [
    "cloud_adapters::",
    "contract::",
    "delivery_verify::",
    "analytics::",
    "lambda::",
    "local::",
    "openapi::",
    "template::",
    "architecture_rules::",
    "upgrade::",
    "simulator::every_",
    "words::",
];

/// The simulator runs last, with this number of simulations.
const SIMULATOR: &str = "simulator::whatever_goes_wrong_nothing_is_lost_repeated_or_stuck";
const WORLDS: &str = "40";

/// The memory limit of a process in KiB: a mutant that never stops collecting must not exhaust the machine.
const MEMORY: u32 = 6 << 20;

/// The time limit of a process, beyond three times its usual time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A test, its duration, and the mutants that it reaches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Test {
    /// The executable's name.
    pub executable: String,
    /// The test's name.
    pub name: String,
    /// Its duration when it runs alone.
    pub seconds: f64,
    /// The mutants that it reaches, by key; none when the test fails even so.
    pub reaches: Option<BTreeSet<String>>,
}

/// The result of a mutant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A test failed.
    Caught,
    /// A test did not end.
    Endless,
    /// Every test that reaches it passed.
    Survived,
    /// No test reaches it.
    Unreached,
    /// The compiler refuses it.
    Refused,
    /// No switch can express it.
    Impossible,
}

impl Outcome {
    /// Answers true if a test or a reason is missing.
    pub fn is_survivor(self) -> bool {
        matches!(self, Self::Survived | Self::Unreached)
    }
}

/// A line of `results.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tried {
    /// The mutant's key.
    pub key: String,
    /// Its package.
    pub package: String,
    /// The result.
    pub outcome: Outcome,
    /// The test that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The duration.
    pub seconds: f64,
}

enum Ended {
    Passed,
    Failed(String),
    Endless(String),
}

impl Executable {
    fn command(&self) -> Command {
        // A shell sets the limit: the standard library has no way to without unsafe code.
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")]).arg(&self.path);
        command.current_dir(&self.folder);
        command.env("POLLUX_WORLDS", WORLDS).env("INSTA_UPDATE", "no").env("RUST_BACKTRACE", "0");
        command.env("CARGO_MANIFEST_DIR", &self.folder).env("PROPTEST_FAILURE_PERSISTENCE", "off");
        command.stdin(Stdio::null()).stderr(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// Its tests.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn tests(&self) -> Result<Vec<String>> {
        let output = self.command().args(["--list", "--format=terse"]).output()?;
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = listed.lines().filter_map(|line| line.strip_suffix(": test"));
        let left_out = |name: &&str| self.name == "tests/it" && LEFT_OUT.iter().any(|prefix| name.starts_with(prefix));
        Ok(names.filter(|name| !left_out(name)).map(str::to_owned).collect())
    }

    /// Runs tests one after another, and ends at the first that fails or takes too long.
    fn run(&self, tests: &[&str], environment: &[(&str, &str)], limit: Duration) -> Result<Ended> {
        let mut command = self.command();
        command.args(["--exact", "--test-threads=1"]).args(tests).envs(environment.iter().copied());
        let mut child = command.spawn().with_context(|| self.path.display().to_string())?;
        let stdout = child.stdout.take().context("its output is piped")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            // Reads to the blank after a name, too, so that the running test is known.
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let deadline = Instant::now() + limit;
        let mut passed = 0;
        let ended = loop {
            match receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let name = line.strip_prefix("test ").and_then(|line| line.split(' ').next());
                    if let Some(name) =
                        name.filter(|_| line.trim_end().ends_with("FAILED") && !line.starts_with("test result"))
                    {
                        break Ended::Failed(name.to_owned());
                    }
                    passed += usize::from(line.starts_with("test ") && line.trim_end().ends_with("ok"));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    break Ended::Endless(tests.get(passed.min(tests.len() - 1)).unwrap_or(&"").to_string());
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    let status = child.wait()?;
                    // The shell's message for a program that it cannot run.
                    ensure!(!matches!(status.code(), Some(126 | 127)), "{} cannot be run", self.path.display());
                    return Ok(if status.success() { Ended::Passed } else { Ended::Failed(format!("{status}")) });
                }
            }
        };
        end(&mut child);
        Ok(ended)
    }
}

fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Runs `job` for each of `items`, `jobs` at a time.
fn each<T: Sync>(items: &[T], jobs: usize, job: &(dyn Fn(&T) -> Result<()> + Sync)) -> Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                job(item)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })
}

/// Reads a file of JSON lines.
fn kept<T: for<'de> Deserialize<'de>>(file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(folder().join(file)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn appending(file: &str) -> Result<Mutex<std::fs::File>> {
    std::fs::create_dir_all(folder())?;
    Ok(Mutex::new(std::fs::File::options().append(true).create(true).open(folder().join(file))?))
}

fn append(to: &Mutex<std::fs::File>, value: &impl Serialize) -> Result<()> {
    let line = format!("{}\n", serde_json::to_string(value)?);
    Ok(to.lock().expect("nobody panics with it").write_all(line.as_bytes())?)
}

/// Learns the mutants that each test reaches. Each test runs alone; a system test only if it did not run before.
///
/// # Errors
/// An executable cannot be run.
pub fn record(
    executables: &[Executable],
    mutants: &[Mutant],
    jobs: usize,
    say: &(dyn Fn(&str) + Sync),
) -> Result<Vec<Test>> {
    // The crates' own tests take seconds, and get new assertions most often.
    let mut known: Vec<Test> = kept("reached.jsonl");
    known.retain(|test| test.executable == "tests/it");
    let is_known: BTreeSet<(&str, &str)> =
        known.iter().map(|test| (test.executable.as_str(), test.name.as_str())).collect();
    let mut new = Vec::new();
    let mut all = BTreeSet::new();
    for executable in executables {
        for test in executable.tests()? {
            all.insert((executable.name.clone(), test.clone()));
            if !is_known.contains(&(executable.name.as_str(), test.as_str())) {
                new.push((executable, test));
            }
        }
    }
    let keys: BTreeMap<usize, &str> = mutants.iter().map(|mutant| (mutant.number, mutant.key.as_str())).collect();
    let (file, count) = (appending("reached.jsonl")?, AtomicUsize::new(0));
    each(&new, jobs, &|(executable, name)| {
        let own = count.fetch_add(1, Ordering::Relaxed);
        let reached = folder().join(format!("reached-{own}"));
        let _ = std::fs::remove_file(&reached);
        let began = Instant::now();
        let path = reached.to_string_lossy();
        let ended = executable.run(&[name], &[("POLLUX_REACHED", &path)], Duration::from_secs(300))?;
        let numbers = std::fs::read_to_string(&reached).unwrap_or_default();
        let _ = std::fs::remove_file(&reached);
        let passed = matches!(ended, Ended::Passed);
        if !passed {
            say(&format!("left out, as it fails with no mutant on: {} {name}", executable.name));
        }
        let keys = numbers.lines().filter_map(|line| keys.get(&line.parse().ok()?)).map(ToString::to_string);
        let test = Test {
            executable: executable.name.clone(),
            name: name.clone(),
            seconds: began.elapsed().as_secs_f64(),
            reaches: passed.then(|| keys.collect()),
        };
        append(&file, &test)?;
        if own % 50 == 0 {
            say(&format!("{own} of {} tests: which mutants they reach", new.len()));
        }
        Ok(())
    })?;
    let latest =
        kept::<Test>("reached.jsonl").into_iter().map(|test| ((test.executable.clone(), test.name.clone()), test));
    let latest: BTreeMap<_, _> = latest.filter(|(name, _)| all.contains(name)).collect();
    Ok(latest.into_values().collect())
}

/// The earlier results, the last one of each mutant.
pub fn results() -> BTreeMap<String, Tried> {
    kept::<Tried>("results.jsonl").into_iter().map(|tried| (tried.key.clone(), tried)).collect()
}

/// Records the mutants that need no run.
///
/// # Errors
/// The results cannot be written.
pub fn note(mutants: &[&Mutant], outcome: Outcome) -> Result<()> {
    let file = appending("results.jsonl")?;
    mutants.iter().try_for_each(|mutant| append(&file, &tried(mutant, outcome, None, Instant::now())))
}

fn tried(mutant: &Mutant, outcome: Outcome, by: Option<String>, began: Instant) -> Tried {
    let seconds = began.elapsed().as_secs_f64();
    Tried { key: mutant.key.clone(), package: mutant.package.clone(), outcome, by, seconds }
}

/// Tries mutants, `jobs` at a time, each with at most `bound` of tests and then the simulator.
///
/// # Errors
/// An executable cannot be run, or the results cannot be written.
pub fn try_all(
    mutants: &[&Mutant],
    executables: &[Executable],
    tests: &[Test],
    (jobs, bound): (usize, Duration),
    say: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    let (file, done, began) = (appending("results.jsonl")?, AtomicUsize::new(0), Instant::now());
    let survivors = AtomicUsize::new(0);
    // A test that caught one mutant of a file is likely to catch the next.
    let noticed: Mutex<BTreeMap<String, BTreeMap<String, usize>>> = Mutex::default();
    let note = |result: &Tried| {
        let Some((file, by)) = result.key.split_once(": ").map(|(file, _)| file.to_owned()).zip(result.by.clone())
        else {
            return;
        };
        let mut noticed = noticed.lock().unwrap_or_else(PoisonError::into_inner);
        *noticed.entry(file).or_default().entry(by).or_default() += 1;
    };
    results().values().for_each(note);
    each(mutants, jobs, &|mutant| {
        let before =
            noticed.lock().unwrap_or_else(PoisonError::into_inner).get(&mutant.file).cloned().unwrap_or_default();
        let result = try_one(mutant, executables, tests, bound, &before)?;
        note(&result);
        append(&file, &result)?;
        let survivors = survivors.fetch_add(usize::from(result.outcome.is_survivor()), Ordering::Relaxed);
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if result.outcome.is_survivor() {
            say(&format!("{:?} {}", result.outcome, mutant.name));
        }
        if done % 25 == 0 {
            let left = began.elapsed().as_secs_f64() / done as f64 * (mutants.len() - done) as f64 / 60.0;
            say(&format!("{done} of {}, {survivors} survive, {left:.0} minutes left", mutants.len()));
        }
        Ok(())
    })
}

fn try_one(
    mutant: &Mutant,
    executables: &[Executable],
    tests: &[Test],
    bound: Duration,
    noticed: &BTreeMap<String, usize>,
) -> Result<Tried> {
    let began = Instant::now();
    let number = mutant.number.to_string();
    let reaching = |test: &&Test| test.reaches.as_ref().is_some_and(|reaches| reaches.contains(&mutant.key));
    let reaching: Vec<&Test> = tests.iter().filter(reaching).collect();
    if reaching.is_empty() {
        return Ok(tried(mutant, Outcome::Unreached, None, began));
    }
    for (executable, batch) in batches(executables, &reaching, bound, noticed) {
        let seconds: f64 = batch.iter().map(|test| test.seconds).sum();
        let limit = PATIENCE + Duration::from_secs_f64(seconds * 3.0);
        let names: Vec<&str> = batch.iter().map(|test| test.name.as_str()).collect();
        let (outcome, by) = match executable.run(&names, &[("POLLUX_MUTANT", &number)], limit)? {
            Ended::Passed => continue,
            Ended::Failed(by) => (Outcome::Caught, by),
            Ended::Endless(by) => (Outcome::Endless, by),
        };
        return Ok(tried(mutant, outcome, Some(format!("{} {by}", executable.name)), began));
    }
    Ok(tried(mutant, Outcome::Survived, None, began))
}

/// The batches, one process each: the tests of a crate alone, then system tests in growing batches up to the bound, first
/// those that are cheap or caught others of the file, then the simulator.
fn batches<'a>(
    executables: &'a [Executable],
    reaching: &[&'a Test],
    bound: Duration,
    noticed: &BTreeMap<String, usize>,
) -> Vec<(&'a Executable, Vec<&'a Test>)> {
    let mut batches: Vec<(&Executable, Vec<&Test>)> = Vec::new();
    let mut spent = 0.0;
    for executable in executables {
        let mut own: Vec<&Test> = reaching.iter().copied().filter(|test| test.executable == executable.name).collect();
        let worth =
            |test: &Test| noticed.get(&format!("{} {}", test.executable, test.name)).map_or(0.0, |count| *count as f64);
        // Seconds for each mutant of the file that it caught before.
        let price = |test: &Test| test.seconds / (1.0 + 4.0 * worth(test));
        own.sort_by(|a, b| (a.name == SIMULATOR).cmp(&(b.name == SIMULATOR)).then(price(a).total_cmp(&price(b))));
        let (mut size, mut batch, mut taken) = (2.0, Vec::new(), 0.0);
        for test in own {
            let last = test.name == SIMULATOR;
            if !last && spent + test.seconds > bound.as_secs_f64() {
                continue;
            }
            if last || taken > size {
                batches.push((executable, std::mem::take(&mut batch)));
                (size, taken) = (size * 2.0, 0.0);
            }
            spent += test.seconds;
            taken += test.seconds;
            batch.push(test);
        }
        batches.push((executable, batch));
    }
    batches.retain(|(_, batch)| !batch.is_empty());
    batches
}
