//! Simulates weeks with a change in every hour, in which nothing may accumulate. It needs a process of its own, because it
//! measures memory.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::port::{Condition, Item, Store, Write};

use crate::harness::{SystemHarness, id_of, seed};
use crate::program::memory_kb;

/// The day from which on as many deliveries expire as are made: they are kept for thirty days.
pub const SETTLED: usize = 33;

/// The result of the simulated days.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Soaked {
    /// Events that arrived, one for each hour.
    pub events: u64,
    /// Items in the table at the end of each day.
    pub items: Vec<usize>,
    /// Kilobytes of memory that the process had at the end of each day.
    pub kilobytes: Vec<u64>,
}

/// Simulates days with a poll and a change in each hour.
///
/// # Errors
/// An hour's change did not arrive, or the system does not say how much memory a process has.
pub async fn soak(days: usize) -> Result<Soaked> {
    let world = SystemHarness::new("2026-01-05T09:00:00Z").await;
    let mut body = seed("googlesuite");
    body["configuration"]["event.poller.refresh_interval"] = json!("60");
    body["configuration"]["event.poller.configuration"] = json!({ "calendars/primary/changed-events": {} });
    let new_event = || world.sandbox.create("googlesuite", "events", json!({}));
    let events = [new_event()?, new_event()?, new_event()?, new_event()?].map(|event| id_of(&event));
    world.create(body).await;
    // The dispatcher's first minute.
    world.tick().await;
    let mut soaked = Soaked::default();
    for day in 0..days {
        for hour in 0..24 {
            let edit = json!({ "summary": format!("edit {day} {hour}") });
            world.sandbox.update("googlesuite", "events", &events[hour % 4], edit)?;
            world.skip(Duration::from_secs(59 * 60)).await;
            let arrived = world.inbox.counters("main").events;
            ensure!(arrived == hour as u64 + 1, "day {day}, hour {hour}: {arrived} events arrived");
        }
        soaked.events += 24;
        // The receiver's memory does not count.
        world.inbox.clear("main");
        // The table does this by itself.
        let now = world.service.ports.now();
        let (items, expired): (Vec<_>, Vec<_>) =
            world.store.items().into_iter().partition(|item| item.expires_at.is_none_or(|at| at > now));
        let delete = |item: Item| Write::Delete { key: item.key, condition: Condition::Unconditional };
        let deletes: Vec<Write> = expired.into_iter().map(delete).collect();
        world.store.write_each(&deletes).await;
        soaked.items.push(items.len());
        let resident = memory_kb("self", "VmRSS:");
        soaked.kilobytes.push(resident.context("the system does not say how much memory a process has")?);
    }
    Ok(soaked)
}
