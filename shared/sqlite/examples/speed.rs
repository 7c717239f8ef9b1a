//! Prints what writes and reads cost here, beside the table in memory and beside SQLite called directly with the same
//! settings: `cargo run --profile bench -p sqlite --example speed`.

#![allow(clippy::print_stdout)] // Its figures are what it is for.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, params};
use sqlite::{Options, SqliteStore};
use store::memory::MemoryStore;
use store::port::{Condition, Item, Key, Range, Store, Write};
use tokio::runtime::Runtime;

/// Instances of the table.
const INSTANCES: u64 = 500;
/// Operations of one measurement.
const OPERATIONS: u64 = 4000;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Processor time of all threads of this process so far.
fn processor_time() -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time in hundredths of a second.
    Ok(Duration::from_millis(10 * (fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)))
}

fn item(instance: u64, sk: &str, version: u64) -> Item {
    let mut body = format!(r#"{{"instance":{instance},"version":{version},"text":""#);
    (0..55).for_each(|n: u64| {
        body.push_str(&format!("{:016x}", (instance + version + n).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    });
    body.push_str("\"}");
    Item { key: Key::new(format!("INST#{instance}"), sk), version, body: Bytes::from(body), expires_at: None }
}

fn put(item: Item) -> Write {
    Write::Put { item, condition: Condition::Unconditional }
}

/// Operation `n` of a kind: a state is put; a state, a bucket and a new delivery are put together; or an instance with
/// its state is read.
async fn operate(store: &dyn Store, kind: &str, n: u64) {
    let instance = n * 7919 % INSTANCES;
    match kind {
        "put" => store.transact(&[put(item(instance, "RES#contacts", n))]).await.expect("written"),
        "transaction of 3" => {
            let delivery = format!("DLV#{n:013}");
            let writes = ["RES#contacts", "IDX#contacts#0", &delivery].map(|sk| put(item(instance, sk, n)));
            store.transact(&writes).await.expect("written");
        }
        _ => {
            let page = store.query(&format!("INST#{instance}"), &Range::between("META", "RES#contacts"), None).await;
            assert!(page.expect("read").items.len() >= 2);
        }
    }
}

fn report(who: &str, kind: &str, at_once: u64, work: impl FnOnce()) -> Result<()> {
    let (began, processor) = (Instant::now(), processor_time()?);
    work();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / OPERATIONS as f64;
    let (wall, processor) = (each(began.elapsed()), each(processor_time()? - processor));
    println!("{kind:>16}, {at_once:>2} at once, {who:>7}: {processor:7.1} µs of processor time, {wall:7.1} µs");
    Ok(())
}

async fn measure(store: Arc<dyn Store>, kind: &'static str, at_once: u64) {
    let workers: Vec<_> = (0..at_once)
        .map(|worker| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in (worker..OPERATIONS).step_by(at_once as usize) {
                    operate(&*store, kind, n).await;
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("no panic");
    }
}

/// SQLite on this thread, with as many operations in a commit as would wait for one.
fn floor(file: &Path, kind: &str, at_once: u64) -> rusqlite::Result<()> {
    let mut database = Connection::open(file)?;
    database.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
    for first in (0..OPERATIONS).step_by(at_once as usize) {
        let transaction = database.transaction()?;
        for n in first..OPERATIONS.min(first + at_once) {
            let instance = n * 7919 % INSTANCES;
            if kind == "query" {
                let sql = "SELECT sk, version, body FROM item WHERE pk = ?1 AND sk >= ?2 AND sk <= ?3 ORDER BY sk";
                let mut query = transaction.prepare_cached(sql)?;
                let mut rows = query.query(params![format!("INST#{instance}"), "META", "RES#contacts"])?;
                while let Some(row) = rows.next()? {
                    row.get::<_, String>(2)?;
                }
                continue;
            }
            let delivery = format!("DLV#{n:013}");
            let keys = ["RES#contacts", "IDX#contacts#0", &delivery];
            for sk in &keys[..if kind == "put" { 1 } else { 3 }] {
                let item = item(instance, sk, n);
                let sql = "INSERT INTO item (pk, sk, version, body) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (pk, sk)
                           DO UPDATE SET version = excluded.version, body = excluded.body";
                let text = String::from_utf8_lossy(&item.body);
                transaction.prepare_cached(sql)?.execute(params![item.key.pk, item.key.sk, n as i64, text])?;
            }
        }
        transaction.commit()?;
    }
    Ok(())
}

fn main() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let runtime = Runtime::new()?;
    let _inside = runtime.enter();
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let sqlite = SqliteStore::open(&folder.path().join("store"), Options::default())?;
    let raw = folder.path().join("raw.sqlite");
    Connection::open(&raw)?.execute_batch(
        "CREATE TABLE item (pk TEXT, sk TEXT, version INTEGER, expires_at INTEGER, body BLOB, UNIQUE (pk, sk))",
    )?;
    let metas: Vec<Write> = (0..INSTANCES).map(|instance| put(item(instance, "META", 1))).collect();
    for store in [&memory, &(Arc::new(sqlite.clone()) as Arc<dyn Store>)] {
        runtime.block_on(store.write_each(&metas)).into_iter().collect::<std::result::Result<Vec<_>, _>>()?;
        for kind in ["put", "transaction of 3"] {
            runtime.block_on(measure(Arc::clone(store), kind, 64));
        }
    }
    floor(&raw, "transaction of 3", 64)?;
    for kind in ["put", "transaction of 3", "query"] {
        for at_once in [1, 64] {
            let sqlite: Arc<dyn Store> = Arc::new(sqlite.clone());
            report("memory", kind, at_once, || runtime.block_on(measure(Arc::clone(&memory), kind, at_once)))?;
            report("floor", kind, at_once, || floor(&raw, kind, at_once).expect("the floor"))?;
            report("store", kind, at_once, || runtime.block_on(measure(sqlite, kind, at_once)))?;
        }
    }
    runtime.block_on(sqlite.close());
    Ok(())
}
