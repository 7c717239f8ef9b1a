//! The output of the commands on stdout.

use std::io::Write;

/// Writes a line to stdout. A reader that has gone away, as `head` does, is no reason to fail.
pub(crate) fn say(line: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}
