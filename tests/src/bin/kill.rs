//! Kills a real `pollux serve` at random moments under load and compares the vendors with the inbox:
//! `cargo run -p tests --bin kill -- --times 100` (build `pollux` first).

use serde_json::json;
use tests::kill::{Figures, kill};
use tests::program::binary;
use tests::reliability::record;

#[allow(clippy::print_stdout)] // Its figures are what it is for.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1)?.parse().ok()
    };
    let (times, seed) = (number("--times").unwrap_or(100), number("--seed").unwrap_or(1));
    let began = std::time::Instant::now();
    let tell = |line: &str| println!("{:6.1} s  {line}", began.elapsed().as_secs_f64());
    let figures = kill(binary("pollux"), times, seed, tell).await?;
    tell(&format!("{figures:?}"));
    let Figures { kills, changes, events, repeated, acknowledged, cut_off } = figures;
    record(
        "kill",
        &json!({
            "cases": kills, "failed": 0, "changes": changes, "events": events, "repeated": repeated,
            "acknowledged": acknowledged, "cutOff": cut_off,
        }),
    );
    Ok(())
}
