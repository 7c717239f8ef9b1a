//! Kills a real `pollux serve` at random moments under load and reconciles the vendors with the inbox:
//! `cargo run -p tests --bin kill -- --times 100` (build `pollux` first).

use serde_json::json;
use tests::kill::kill;
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
    let figures = kill(binary("pollux"), times, seed).await?;
    println!("{figures:?}");
    let (kills, changes, events, repeated) = (figures.kills, figures.changes, figures.events, figures.repeated);
    record("kill", &json!({ "cases": kills, "failed": 0, "changes": changes, "events": events, "repeated": repeated }));
    Ok(())
}
