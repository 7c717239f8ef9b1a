//! The whole table at tiny sizes: checks that every measurement still works.

use std::process::Command;

#[test]
fn every_row_can_be_measured() {
    let output = Command::new(env!("CARGO_BIN_EXE_benches")).args(["table", "--quick"]).output().expect("it starts");
    let (table, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}\n{log}");
    for row in ["small poll, one event: whole", "burst", "full scan", "dispatch", "deliveries", "at rest", "idle polls"]
    {
        assert!(table.lines().any(|line| line.contains(row)), "{row} is not in\n{table}");
    }
}

#[test]
fn every_piece_that_is_counted_can_be_done() {
    for piece in benches::core::PIECES {
        benches::core::run(piece).unwrap_or_else(|error| panic!("{piece}: {error:#}"));
    }
}
