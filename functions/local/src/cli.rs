//! The command line: a contract that scripts rely on.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aws::telemetry::{self, Lines};
use clap::{Args, Parser, Subcommand};

use crate::data::DEFAULT_DIRECTORY;
use crate::options::{VendorOverride, duration};
use crate::{admin, demo, serve};

/// Polls the APIs of software services and posts what changed, signed, to your callback.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "pollux", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`, the default command.
    #[command(flatten)]
    pub serve: ServeArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, the console, the schedule and the sandbox on this machine (the default)
    Serve(ServeArguments),
    /// Show the whole story in the terminal: records change, signed events arrive
    Demo(DemoArguments),
    /// Organizations and users, their secrets and limits, and who changed what
    ///
    /// Works on the embedded table in the data directory, also while it is being served. When POLLUX_TABLE is set in
    /// the environment, with the other settings of the functions, it works on that table in the cloud.
    Admin(admin::AdminArguments),
}

/// The options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    /// Directory that keeps everything over a restart
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DIRECTORY)]
    pub data: PathBuf,
    /// Address of an element's API and login, in place of the sandbox; may be repeated
    #[arg(long = "vendor", value_name = "KEY=URL")]
    pub vendors: Vec<VendorOverride>,
    /// Directory with more elements, each in a folder with an element.toml [default: POLLUX_ELEMENTS_DIR, if set]
    #[arg(long, value_name = "DIR")]
    pub elements: Option<PathBuf>,
    /// Length of a minute of the schedule, such as 1s or 500ms, to see things sooner
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub minute: Duration,
    /// Let callbacks and vendors be on this machine and in private networks (the default here)
    #[arg(long, conflicts_with = "deny_private")]
    pub allow_private: bool,
    /// Refuse callbacks and vendors on private addresses, as the cloud does; the sandbox is then out of reach
    #[arg(long)]
    pub deny_private: bool,
    /// Serve no sandbox: elements are called where they really are
    #[arg(long)]
    pub no_sandbox: bool,
}

/// The options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// Element whose sandbox vendor plays along
    #[arg(long, value_name = "KEY", default_value = "square")]
    pub element: String,
    /// Length of a minute of the schedule
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub minute: Duration,
}

/// Carries out the command line. Failures go to stderr.
pub async fn run(cli: Cli) -> ExitCode {
    let quiet = !matches!(cli.command, None | Some(Command::Serve(_)));
    // Lines go to stderr, so that stdout holds what the command has to say.
    // The engine warns of every refused condition, which is how races end and no news.
    let usual = if quiet { "error" } else { "info,dynoxide=error" };
    let filter = std::env::var("POLLUX_LOG").unwrap_or_else(|_| usual.into());
    let outcome = async {
        telemetry::init(Lines::Compact, &filter)?;
        match cli.command {
            Some(Command::Serve(arguments)) => serve::run(arguments).await,
            Some(Command::Demo(arguments)) => demo::run(arguments).await,
            Some(Command::Admin(arguments)) => admin::run(arguments).await,
            None => serve::run(cli.serve).await,
        }
    };
    match outcome.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With its causes on one line. There is no other place for it when stderr is closed.
            let _ = writeln!(std::io::stderr(), "pollux: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
        let read = |line: &str| Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string());
        let served = read("pollux --addr 127.0.0.1:0 --vendor square=http://127.0.0.1:1 --vendor revel=https://x/y");
        let served = served.unwrap();
        assert!(served.command.is_none());
        assert_eq!(served.serve.vendors[1].element, "revel");
        assert_eq!(served.serve.data, PathBuf::from(".pollux"));
        assert!(matches!(read("pollux serve --minute 1s").unwrap().command, Some(Command::Serve(_))));
        assert!(read("pollux --allow-private --deny-private").is_err());
        assert!(read("pollux --vendor square").unwrap_err().contains("KEY=URL"));
        assert!(read("pollux --vendor square=ftp://x").unwrap_err().contains("not an http"));
    }
}
