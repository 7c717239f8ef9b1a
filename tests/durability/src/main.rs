//! Proofs that what the store on one machine has acknowledged is there afterwards:
//! `cargo run -p durability -- kills --times 100`, `-- cuts --times 500`, `-- full --times 10`; each takes `--seed`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use durability::power::Disk;
use durability::{full, kill, power, write};

#[allow(clippy::print_stdout)] // Its figures are what it is for.
#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, otherwise: u64| match arguments.iter().position(|argument| argument == name) {
        Some(place) => arguments.get(place + 1).and_then(|value| value.parse().ok()).context("a number is missing"),
        None => Ok(otherwise),
    };
    let (program, seed) = (std::env::current_exe()?, number("--seed", 1)?);
    match arguments.first().map(String::as_str) {
        Some("write") => write::write_for_ever(Path::new(arguments.get(1).context("which directory?")?)).await?,
        Some("kills") => println!("{:?}", kill::kill(&program, number("--times", 100)?, seed).await?),
        Some("cuts") => println!("{:?}", power::cut(&program, number("--times", 500)?, seed, Disk::Honest).await?),
        Some("full") => println!("{} transactions, nothing lost", full::fill(&program, number("--times", 10)?).await?),
        _ => bail!("kills, cuts or full, each with --times N and --seed N"),
    }
    Ok(())
}
