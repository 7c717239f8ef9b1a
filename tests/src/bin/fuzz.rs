//! Runs the fuzz targets: `cargo run --release -p tests --bin fuzz -- [target…]`. `POLLUX_FUZZ_SECONDS` is the time for
//! each target (60 by default), `POLLUX_FUZZ_SEED` the seed (the clock by default).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use tests::fuzz::{Length, explore, targets};

#[allow(clippy::print_stdout)] // Its figures are what it is for.
fn main() -> anyhow::Result<()> {
    let number =
        |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>()).transpose().context(name.to_owned());
    let seconds = number("POLLUX_FUZZ_SECONDS")?.unwrap_or(60);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = number("POLLUX_FUZZ_SEED")?.unwrap_or(clock);
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut all = targets();
    let names: Vec<&str> = all.iter().map(|target| target.name).collect();
    ensure!(wanted.iter().all(|name| names.contains(&name.as_str())), "the targets are {}", names.join(", "));
    for target in all.iter_mut().filter(|target| wanted.is_empty() || wanted.iter().any(|name| name == target.name)) {
        println!("{}", explore(target, seed, Length::Time(Duration::from_secs(seconds)))?);
    }
    Ok(())
}
