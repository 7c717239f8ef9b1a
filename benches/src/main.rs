//! `cargo run --profile bench -p benches` measures everything and prints the table; the other commands measure parts.

use std::path::{Path, PathBuf};

use benches::measure::{Case, Size, Who};
use benches::{core, cost, measure, table, vendor};
use clap::{Parser, Subcommand};

/// Measures the cost of polling and compares it with the least possible.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// All rows (the default): floor, Pollux, ratio and goal.
    Table(table::Options),
    /// Dollars per million idle polls and events, from measured units and list prices.
    Cost {
        /// A small fleet, to see that it works.
        #[arg(long)]
        quick: bool,
        /// Writes the table into docs/costs.md.
        #[arg(long)]
        write: bool,
    },
    /// Instructions of the pure core, compared with the committed baseline. Needs valgrind.
    Instructions {
        /// Makes what is counted the new baseline.
        #[arg(long)]
        rewrite: bool,
    },
    /// One measurement in this process, as JSON.
    #[command(hide = true)]
    Measure {
        who: Who,
        case: Case,
        #[command(flatten)]
        size: Size,
    },
    /// One piece of fixed work.
    #[command(hide = true)]
    Core { piece: String },
    /// The vendor's process.
    #[command(hide = true)]
    Vendor,
    /// The units of a fleet, measured under the environment of a function.
    #[command(hide = true)]
    Units {
        #[arg(long)]
        instances: u64,
        #[arg(long)]
        vendor: String,
        #[arg(long)]
        answer: PathBuf,
    },
    /// Makes instances in a data directory.
    #[command(hide = true)]
    Populate {
        #[arg(long)]
        count: u64,
        #[arg(long)]
        vendor: String,
        #[arg(long)]
        directory: PathBuf,
    },
}

#[allow(clippy::print_stdout)] // Its figures are what it is for.
#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    match Arguments::parse().command {
        None => table::run(&table::Options::default(), &root).await,
        Some(Command::Table(options)) => table::run(&options, &root).await,
        Some(Command::Cost { quick, write }) => {
            let text = cost::table(quick).await?.in_words();
            if write {
                table::replace_measured(&root.join("docs/costs.md"), &text)?;
            }
            println!("{text}");
            Ok(())
        }
        Some(Command::Instructions { rewrite }) => {
            println!("{}", core::compare(&root.join("benches/instructions.toml"), rewrite)?);
            Ok(())
        }
        Some(Command::Measure { who, case, size }) => {
            println!("{}", serde_json::to_string(&measure::measure(who, case, size).await?)?);
            Ok(())
        }
        Some(Command::Core { piece }) => core::run(&piece),
        Some(Command::Vendor) => vendor::serve().await,
        Some(Command::Units { instances, vendor, answer }) => cost::units(instances, &vendor, &answer).await,
        Some(Command::Populate { count, vendor, directory }) => measure::populate(count, &vendor, &directory).await,
    }
}
