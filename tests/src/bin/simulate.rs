//! Runs simulations: `cargo run -p tests --bin simulate -- --seed 1 --seeds 1000`, or one of them with its log: `--seed 17
//! --trace`. Exits with 1 if a simulation had a violation.

use std::process::ExitCode;
use std::time::Instant;

use tests::sim::{campaign, simulate};

#[allow(clippy::print_stdout)] // A command prints its result.
fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut first, mut count, mut trace) = (1, 1, false);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok());
        match argument.as_str() {
            "--seed" => first = number().unwrap_or(first),
            "--seeds" => count = number().unwrap_or(count),
            "--trace" => trace = true,
            other => {
                println!("{other}: --seed N, --seeds COUNT or --trace is expected");
                return ExitCode::from(2);
            }
        }
    }
    let began = Instant::now();
    if trace {
        let outcome = simulate(first, true);
        outcome.trace.iter().for_each(|line| println!("{line}"));
        println!("{:#?}", tests::sim::FaultPlan::of(first));
    }
    let campaign = campaign(first, count);
    for failed in &campaign.failed {
        println!("{failed}");
    }
    if count > 1 {
        campaign.record("simulator");
    }
    println!("{} in {:.1} s", campaign.summary(), began.elapsed().as_secs_f64());
    if campaign.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
