//! The command line: a contract that scripts rely on.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use aws::telemetry::{self, Lines};
use clap::{Args, Parser, Subcommand};
use url::Url;

use crate::{admin, demo, serve};

/// Where data is kept unless told otherwise.
pub const DATA: &str = ".pollux";

/// Polls the APIs of software services and posts what changed, signed, to your callback.
///
/// Without a command it serves.
#[derive(Debug, Parser)]
#[command(name = "pollux", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve when nothing else is to be done.
    #[command(flatten)]
    pub serve: ServeArguments,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API, the console, the schedule and the sandbox on this machine (the default)
    Serve(ServeArguments),
    /// Tell the whole story in the terminal: records change, signed events arrive
    Demo(DemoArguments),
    /// Organizations and users, their secrets and limits, and who changed what
    ///
    /// Works on the embedded table in the data directory, also while it is being served. When POLLUX_TABLE is set in
    /// the environment, with the other settings of the functions, it works on that table in the cloud.
    Admin(admin::AdminArguments),
}

/// How to serve.
#[derive(Debug, Clone, Args)]
pub struct ServeArguments {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub addr: SocketAddr,
    /// Directory that keeps everything over a restart
    #[arg(long, value_name = "DIR", default_value = DATA)]
    pub data: PathBuf,
    /// Where an element's API and login are, in place of the sandbox; may be repeated
    #[arg(long = "vendor", value_name = "KEY=URL")]
    pub vendors: Vec<VendorAt>,
    /// Directory with more elements, each in a folder with an element.toml [default: POLLUX_ELEMENTS_DIR, if set]
    #[arg(long, value_name = "DIR")]
    pub elements: Option<PathBuf>,
    /// How long a minute of the schedule lasts, such as 1s or 500ms, to see things sooner
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

/// What the demo shows.
#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// Element whose sandbox vendor plays along
    #[arg(long, value_name = "KEY", default_value = "square")]
    pub element: String,
    /// How long a minute of the schedule lasts
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub minute: Duration,
}

/// An element and where to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorAt {
    /// The element's key.
    pub element: String,
    /// What stands in place of scheme and host of every URL of the element.
    pub base: Url,
}

impl FromStr for VendorAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (element, base) =
            text.split_once('=').ok_or("it is written KEY=URL, such as square=http://127.0.0.1:9000")?;
        let base: Url = base.parse().map_err(|error| format!("{base:?} is not a URL: {error}"))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(format!("{base} is not an http or https URL"));
        }
        Ok(Self { element: element.trim().to_owned(), base })
    }
}

/// The shortest schedule minute: the engine needs some milliseconds for each.
const SHORTEST_MINUTE: Duration = Duration::from_millis(50);

/// A duration such as `1m`, `90s`, `500ms` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "it is written as a number and a unit: 500ms, 1s, 1m or 1h";
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(wanted)?;
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wanted)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wanted.into()),
    };
    let duration = number.checked_mul(milliseconds).map(Duration::from_millis).ok_or("it is too long")?;
    if duration < SHORTEST_MINUTE {
        return Err(format!("it lasts at least {} ms", SHORTEST_MINUTE.as_millis()));
    }
    Ok(duration)
}

/// Does what the command line says. Failures go to stderr.
pub async fn run(cli: Cli) -> ExitCode {
    let quiet = !matches!(cli.command, None | Some(Command::Serve(_)));
    // Lines go to stderr, so that stdout holds what the command has to say.
    // The engine warns of every refused condition, which is how races end and no news to anybody.
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
            // With its causes on one line. Nobody is left to tell when stderr is closed.
            let _ = writeln!(std::io::stderr(), "pollux: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to stdout. A reader that has gone away, as `head` does, is no reason to fail.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
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

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, milliseconds) in [("500ms", 500), ("1s", 1000), ("2m", 120_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "1", "s", "1.5s", "-1s", "1d", "0s", "10ms", "99999999999999999999s", "18446744073709551615h"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
