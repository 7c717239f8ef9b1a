//! A small share of the kills, power cuts and full disks; the commands of this package try as many as one likes.

use std::path::Path;

use durability::kill::kill;
#[cfg(target_os = "linux")]
use durability::power::{Disk, cut};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_durability"))
}

#[tokio::test]
async fn a_killed_process_has_what_it_acknowledged() {
    let figures = kill(program(), 10, 1).await.expect("nothing is lost");
    assert!(figures.kills == 10 && figures.acknowledged > 10, "{figures:?}");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let figures = cut(program(), 20, 1, Disk::Honest).await.expect("nothing is lost");
    assert!(figures.cuts == 20 && figures.unsynced > 0 && figures.acknowledged > 0, "{figures:?}");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_disk_that_does_not_sync_is_noticed() {
    let lost = cut(program(), 50, 1, Disk::Lying).await.expect_err("something is lost").to_string();
    assert!(lost.contains("power cut"), "{lost}");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_full_disk_is_said_and_loses_nothing() {
    let acknowledged = durability::full::fill(program(), 3).await.expect("nothing is lost");
    assert!(acknowledged > 900, "{acknowledged} acknowledged");
}
