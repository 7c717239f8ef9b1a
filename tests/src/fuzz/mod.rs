//! Fuzzing: targets that check promises for any input, and a runner that makes inputs.
//!
//! The seed determines a run: the same seed makes the same inputs. A target names the outcome of each input. An input with
//! a new outcome becomes a parent of further inputs; this guides a run without instrumentation, on a stable compiler. An
//! input that breaks a promise is written to the target's corpus, and every later run starts with it.

mod targets;

use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flow::testing::FixedAmbient;
use store::ambient::Ambient;

pub use targets::targets;

/// The longest input in bytes.
const LONGEST: usize = 4096;
/// The most inputs that are kept as parents.
const MOST_PARENTS: usize = 4000;

/// A function that reads untrusted bytes.
pub struct Target {
    /// Its name, and the name of the folder with its corpus.
    pub name: &'static str,
    /// The number of inputs of a bounded run: some two seconds without optimization.
    pub usual: u64,
    /// The words from which inputs are made.
    pub words: &'static [&'static str],
    /// Inputs from elsewhere in the repository.
    pub seeds: Vec<Vec<u8>>,
    /// Panics when a promise is broken. Otherwise returns a word for the outcome.
    pub run: Run,
}

/// Runs a target on an input. Returns the outcome.
pub type Run = Box<dyn FnMut(&[u8]) -> String>;

/// The length of a run.
#[derive(Debug, Clone, Copy)]
pub enum Length {
    /// A number of inputs beside the corpus, the same every time.
    Inputs(u64),
    /// As many inputs as fit into a time.
    Time(Duration),
}

/// The result of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// The target's name.
    pub target: &'static str,
    /// The number of inputs, with the corpus.
    pub inputs: u64,
    /// The number of different outcomes.
    pub outcomes: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>16}: {:>8} inputs, {:>5} outcomes", self.target, self.inputs, self.outcomes)
    }
}

/// A broken promise.
#[derive(Debug, thiserror::Error)]
#[error("{target}, seed {seed}: {why}\ninput: {shown}\nkept as {}", kept.display())]
pub struct Broken {
    target: &'static str,
    seed: u64,
    why: String,
    shown: String,
    kept: PathBuf,
}

/// The folder of a target's corpus.
pub fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(target)
}

/// The corpus of a target in the order of its names, and its seeds. Panics when there is none.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = corpus_folder(target.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let read = |file: &PathBuf| std::fs::read(file).expect("a file of the corpus");
    files.iter().map(read).chain(target.seeds.iter().cloned()).collect()
}

/// Tries the corpus, then inputs made from it.
///
/// # Errors
/// The first input that breaks a promise, after it was written to the corpus.
pub fn explore(target: &mut Target, seed: u64, length: Length) -> Result<Report, Broken> {
    let rng = Rng(FixedAmbient::at("2026-01-05T09:00:00Z").seeded(seed));
    let began = Instant::now();
    let mut parents = corpus(target);
    let (mut seen, mut inputs) = (BTreeSet::new(), 0);
    for input in parents.clone() {
        seen.insert(try_one(target, seed, &input)?);
        inputs += 1;
    }
    loop {
        let over = match length {
            Length::Inputs(most) => inputs >= most,
            Length::Time(most) => began.elapsed() >= most,
        };
        if over {
            return Ok(Report { target: target.name, inputs, outcomes: seen.len() });
        }
        let input = rng.child(&parents, target.words);
        if seen.insert(try_one(target, seed, &input)?) && parents.len() < MOST_PARENTS {
            parents.push(input);
        }
        inputs += 1;
    }
}

fn try_one(target: &mut Target, seed: u64, input: &[u8]) -> Result<String, Broken> {
    let run = &mut target.run;
    catch_unwind(AssertUnwindSafe(|| run(input))).map_err(|panic| {
        let why =
            panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).into()));
        let kept = corpus_folder(target.name).join(format!("broke-{seed}-{:08x}", hash(input)));
        // If it cannot be written, it is printed.
        let _ = std::fs::write(&kept, input);
        let shown = input.escape_ascii().to_string();
        Broken { target: target.name, seed, why: why.unwrap_or_else(|| "it panicked".into()), shown, kept }
    })
}

fn hash(input: &[u8]) -> u32 {
    input.iter().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Repeatable random numbers.
struct Rng(FixedAmbient);

impl Rng {
    fn below(&self, end: usize) -> usize {
        usize::try_from(self.0.random() % end.max(1) as u64).unwrap_or_default()
    }

    /// Makes an input: a parent that is changed in a few places.
    fn child(&self, parents: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut child = parents[self.below(parents.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(child.len() + 1);
            let to = (at + 1 + self.below(16)).min(child.len());
            match self.below(10) {
                0 if at < child.len() => child[at] ^= 1 << self.below(8),
                1 if at < child.len() => {
                    child[at] = *[0, b'"', b'\\', b'\n', b'{', 0x7f, 0x80, 0xff].get(self.below(8)).unwrap_or(&0)
                }
                2 => drop(child.drain(at..to)),
                3 => {
                    let part = child[at..to].to_vec();
                    let again = self.below(4) + 1;
                    (0..again).for_each(|_| drop(child.splice(at..at, part.iter().copied())));
                }
                4 => child.truncate(at),
                5 => {
                    let other = &parents[self.below(parents.len())];
                    let from = self.below(other.len() + 1);
                    let until = (from + 1 + self.below(64)).min(other.len());
                    drop(child.splice(at..to, other[from..until].iter().copied()));
                }
                6 => {
                    const NUMBERS: [&str; 10] = [
                        "0",
                        "-1",
                        "1e400",
                        "9007199254740993",
                        "18446744073709551616",
                        "0.1",
                        "00",
                        "2147483648",
                        "-0",
                        "1e-400",
                    ];
                    drop(child.splice(at..to.min(at + self.below(4)), NUMBERS[self.below(10)].bytes()));
                }
                7 => {
                    const TEXTS: [&str; 8] = ["é", "\u{1f600}", "\u{202e}", "\\u0000", "%00", "%2f", "\u{fffd}", "ı"];
                    drop(child.splice(at..at, TEXTS[self.below(8)].bytes()));
                }
                _ if !words.is_empty() => {
                    let end = if self.below(2) == 0 { at } else { to };
                    drop(child.splice(at..end, words[self.below(words.len())].bytes()));
                }
                _ => {}
            }
        }
        child.truncate(LONGEST);
        child
    }
}
