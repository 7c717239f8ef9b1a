//! An account of any size, generated page by page, and the cost of polling it: bytes of index, writes, memory.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};

use crate::harness::{SystemHarness, answer, seed};
use crate::program::memory_kb;

/// The number of records of a page.
const PAGE: u64 = 200;

/// The cost of a first pass over an account and of one change after it.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Records of the account.
    pub records: u64,
    /// Bytes of the stored index, keys included, per 1,000 records.
    pub index_bytes_per_thousand: u64,
    /// Write units of the index and the state for one changed record: each is up to 1 KB, twice in a transaction.
    pub index_write_units: u64,
    /// Write units of the whole commit, the event's rows included.
    pub commit_write_units: u64,
    /// The peak memory of the process, with table and vendor; 0 where the system does not report it.
    pub peak_mb: u64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9} records: {} index bytes per 1,000 records, {} write units of index and state and {} of the whole \
             commit per changed record, {} MB at most",
            self.records, self.index_bytes_per_thousand, self.index_write_units, self.commit_write_units, self.peak_mb
        )
    }
}

/// Polls an account with `records` timecards for the first time, then changes one and polls again.
pub async fn poll_account(records: u64) -> Figures {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let changes = Arc::new(AtomicU64::new(0));
    let (clock, changed) = (Arc::clone(&world.ambient), Arc::clone(&changes));
    world.intercept(move |request| {
        if !request.uri().path().ends_with("/timecards/search") {
            return None;
        }
        // A page takes the vendor a moment, so that a large account takes several invocations.
        clock.advance(Duration::from_millis(40));
        let asked: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let from = asked["cursor"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        Some(page(records, from, changed.load(Ordering::Relaxed)))
    });
    let instance = world.create(seed("square")).await;
    let mut rounds = 0;
    let state = format!("INST#{instance} RES#timesheets");
    while world.stored()[&state]["based"] != true {
        world.drain().await;
        rounds += 1;
        assert!(rounds < 1000, "the first pass never ends");
    }
    let partition = format!("INST#{instance}");
    let of_index = |items: &BTreeMap<(String, String), Bytes>| -> u64 {
        let index = items.iter().filter(|((_, sk), _)| sk.starts_with("IDX#"));
        index.map(|((pk, sk), body)| (pk.len() + sk.len() + body.len()) as u64).sum()
    };
    let before = stored(&world);
    // The first poll after a first pass reads the records near the cursor once more.
    world.poll(instance, "timesheets", false).await;
    let settled = stored(&world);
    changes.fetch_add(1, Ordering::Relaxed);
    let report = world.poll(instance, "timesheets", false).await;
    assert_eq!((&report["updated"], &report["outcome"]), (&json!(1), &json!("committed")), "{report:#}");
    let (mut index_write_units, mut commit_write_units) = (0, 0);
    for ((pk, sk), body) in stored(&world) {
        if settled.get(&(pk.clone(), sk.clone())) != Some(&body) {
            let units = 2 * ((pk.len() + sk.len() + body.len()) as u64).div_ceil(1024);
            commit_write_units += units;
            if pk == partition && (sk.starts_with("IDX#") || sk.starts_with("RES#")) {
                index_write_units += units;
            }
        }
    }
    world.stop_intercepting();
    world.drain().await;
    Figures {
        records,
        index_bytes_per_thousand: of_index(&before) * 1000 / records,
        index_write_units,
        commit_write_units,
        peak_mb: peak_mb(),
    }
}

fn stored(world: &SystemHarness) -> BTreeMap<(String, String), Bytes> {
    world.store.items().into_iter().map(|item| ((item.key.pk, item.key.sk), item.body)).collect()
}

/// One page, the newest first. A change takes the oldest record to the top.
fn page(records: u64, from: u64, changes: u64) -> http::Response<Bytes> {
    let to = (from + PAGE).min(records);
    let cards: Vec<Value> = (from..to)
        .map(|place| {
            let changed = place < changes;
            let number = if changed { place } else { records - 1 - place + changes };
            let start = DateTime::from_timestamp(1_600_000_000, 0).expect("an instant");
            let made = start + TimeDelta::seconds(number as i64);
            let updated = if changed { "2026-01-05T08:59:59Z".to_owned() } else { made.format("%FT%TZ").to_string() };
            json!({
                "id": format!("{:013X}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12),
                "created_at": made.format("%FT%TZ").to_string(),
                "updated_at": updated,
                "version": if changed { 2 } else { 1 },
                "team_member_id": "TM1",
                "location_id": "LOC1",
                "status": "CLOSED",
            })
        })
        .collect();
    let cursor = if to < records { json!(to.to_string()) } else { Value::Null };
    answer(200, &json!({ "timecards": cards, "cursor": cursor }))
}

fn peak_mb() -> u64 {
    memory_kb("self", "VmHWM:").unwrap_or(0) / 1024
}
