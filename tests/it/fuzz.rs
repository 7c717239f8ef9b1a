//! A bounded, repeatable run of the fuzz targets in `tests/src/fuzz`. `--bin fuzz` runs longer.

use serde_json::json;
use tests::fuzz::{Length, explore, targets};

/// The seed. The same seed gives the same run.
const SEED: u64 = 20_260_105;

#[test]
fn nothing_that_strangers_send_breaks_a_promise() {
    let mut reports = Vec::new();
    for target in &mut targets() {
        let length = Length::Inputs(target.usual);
        match explore(target, SEED, length) {
            Ok(report) => reports.push(report),
            Err(broken) => panic!("{broken}"),
        }
    }
    for report in &reports {
        assert!(report.inputs >= 200 && report.outcomes >= 3, "it tries nothing: {report}");
    }
    assert!(reports.len() >= 10, "{reports:?}");
    let inputs: u64 = reports.iter().map(|report| report.inputs).sum();
    let outcomes: usize = reports.iter().map(|report| report.outcomes).sum();
    let figures = json!({ "cases": inputs, "failed": 0, "targets": reports.len(), "distinctOutcomes": outcomes });
    tests::reliability::record("fuzz", &figures);
}
