//! The `pollux` binary: reads the command line and runs what it says.

use std::process::ExitCode;

use clap::Parser;
use local::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    local::cli::run(Cli::parse()).await
}
