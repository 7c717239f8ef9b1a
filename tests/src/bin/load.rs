//! Overloads a real `pollux serve` and waits until it has recovered:
//! `cargo run -p tests --bin load -- --seconds 40` (build `pollux` first).

use serde_json::json;
use tests::load::load;
use tests::program::binary;
use tests::reliability::record;

#[allow(clippy::print_stdout)] // Its figures are what it is for.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = match arguments.as_slice() {
        [] => 40,
        [name, seconds] if name == "--seconds" => seconds.parse()?,
        _ => anyhow::bail!("--seconds N is meant"),
    };
    let figures = load(binary("pollux"), seconds, |line| println!("{line}")).await?;
    let milliseconds = |ms: f64| (ms * 10.0).round() / 10.0;
    record(
        "load",
        &json!({
            "cases": figures.during.offered + figures.others.offered, "failed": 0,
            "done": figures.during.done(), "refused429": figures.during.of(429), "refused503": figures.during.of(503),
            "msP99Before": milliseconds(figures.p99.0), "msP99During": milliseconds(figures.during.latency(0.99)),
            "msP99OfAnotherCaller": milliseconds(figures.others.latency(0.99)), "msP99After": milliseconds(figures.p99.1),
            "polls": figures.polls, "latePolls": figures.late, "deliveries": figures.deliveries,
            "changes": figures.changes, "events": figures.events,
            "mbBefore": figures.memory.0, "mbAtMost": figures.memory.1, "mbAfter": figures.memory.2,
            "secondsUntilAllHadArrived": figures.recovered.1.as_secs(),
        }),
    );
    Ok(())
}
