//! A process that writes transactions and says on its standard output which are acknowledged, and what must be in its
//! store afterwards.
//!
//! Each client has a partition and counts its transactions. Transaction `n` of a client
//! - puts the items `A` and `B`, both of version `n`,
//! - puts the item `X` where `n` is even and deletes it where it is odd,
//! - puts the item `LOG#<n>` and deletes `LOG#<n - 20>`, unless it is a multiple of four: so the database grows.
//!
//! So whatever the number, the partition's content follows from it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use sqlite::{Options, SqliteStore};
use store::port::{Condition, Item, Key, Range, Store, StoreError, Write};

use crate::rng::Rng;

/// Clients that write at once.
pub const CLIENTS: u64 = 6;
/// Log items that a client keeps, besides those that it never deletes.
const LOG: u64 = 20;

fn is_kept(n: u64) -> bool {
    n.is_multiple_of(4)
}
/// Said instead of a number while the disk is full.
pub const FULL: &str = "full";

/// Numbers of the last acknowledged transactions by client.
pub type Acknowledged = BTreeMap<u64, u64>;

fn partition(client: u64) -> String {
    format!("CLIENT#{client}")
}

/// The body of an item. Some bodies take several pages of the database.
fn item(client: u64, sk: &str, n: u64) -> Item {
    let mut rng = Rng::new(client << 32 | n);
    let largest = if rng.once_in(8) { 9_000 } else { 900 };
    let length = rng.below(largest) as usize;
    let body: Bytes = std::iter::repeat_with(|| rng.bits() as u8).take(length).collect();
    Item { key: Key::new(partition(client), sk), version: n, body, expires_at: None }
}

fn transaction(client: u64, n: u64) -> Vec<Write> {
    let before = if n == 1 { Condition::Absent } else { Condition::Version(n - 1) };
    let put = |sk: &str, condition| Write::Put { item: item(client, sk, n), condition };
    let mut writes = vec![put("A", before), put("B", before), put(&format!("LOG#{n:08}"), Condition::Absent)];
    writes.push(match n {
        _ if n.is_multiple_of(2) => put("X", Condition::Absent),
        _ if n == 1 => Write::Check { key: Key::new(partition(client), "X"), condition: Condition::Absent },
        _ => Write::Delete { key: Key::new(partition(client), "X"), condition: Condition::Version(n - 1) },
    });
    if n > LOG && !is_kept(n - LOG) {
        let key = Key::new(partition(client), format!("LOG#{:08}", n - LOG));
        writes.push(Write::Delete { key, condition: Condition::Version(n - LOG) });
    }
    writes
}

/// The items of a client's partition after its transaction `n`.
fn expected(client: u64, n: u64) -> Vec<Item> {
    let mut items = Vec::new();
    if n > 0 {
        items.extend(["A", "B"].map(|sk| item(client, sk, n)));
        let logged = (1..=n).filter(|number| number + LOG > n || is_kept(*number));
        items.extend(logged.map(|n| item(client, &format!("LOG#{n:08}"), n)));
        items.extend(n.is_multiple_of(2).then(|| item(client, "X", n)));
    }
    items
}

async fn content(store: &SqliteStore, client: u64) -> Result<Vec<Item>> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = store.query(&partition(client), &Range::all(), after.as_deref()).await?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

/// Copies the log into the database often, because that is when most can go wrong.
pub fn options() -> Options {
    Options { checkpoint_pages: 120, readers: 2, ..Options::default() }
}

/// Writes until the process is killed or its standard output is closed.
///
/// # Errors
/// The store does not open, or refuses a write for another reason than a full disk.
pub async fn write_for_ever(directory: &Path) -> Result<()> {
    let store = SqliteStore::open(directory, options())?;
    let clients: Vec<_> = (0..CLIENTS).map(|client| tokio::spawn(write(store.clone(), client))).collect();
    for client in clients {
        client.await??;
    }
    Ok(())
}

async fn write(store: SqliteStore, client: u64) -> Result<()> {
    let stored = store.get(&Key::new(partition(client), "A")).await?;
    let mut n = stored.map_or(0, |item| item.version);
    loop {
        n += 1;
        loop {
            let said = match store.transact(&transaction(client, n)).await {
                Ok(()) => n.to_string(),
                Err(StoreError::Full(_)) => FULL.to_owned(),
                Err(error) => return Err(error).context(format!("transaction {n} of client {client}")),
            };
            // One call of the operating system for a line, so that whoever reads never sees half of one.
            std::io::stdout().lock().write_all(format!("{client} {said}\n").as_bytes())?;
            if said != FULL {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Notes what a line of the process acknowledges. True where it says that the disk is full.
///
/// # Errors
/// It is no line of the process.
pub fn note(line: &str, acknowledged: &mut Acknowledged) -> Result<bool> {
    let (client, n) = line.split_once(' ').with_context(|| format!("{line:?} is no acknowledgement"))?;
    if n == FULL {
        return Ok(true);
    }
    acknowledged.insert(client.parse()?, n.parse()?);
    Ok(false)
}

/// Opens the store and looks whether all that was acknowledged is there and nothing by halves. Answers the numbers of
/// the transactions that are there.
///
/// # Errors
/// Something is missing, torn or damaged.
pub async fn verify(directory: &Path, acknowledged: &Acknowledged) -> Result<Acknowledged> {
    let store = SqliteStore::open(directory, options()).context("it does not open")?;
    let problems = store.check().await?;
    ensure!(problems.is_empty(), "the database is damaged: {problems:?}");
    let mut there = Acknowledged::new();
    for client in 0..CLIENTS {
        let items = content(&store, client).await?;
        let n = items.first().map_or(0, |item| item.version);
        let known = acknowledged.get(&client).copied().unwrap_or(0);
        // One transaction may have been under way.
        if !(known..=known + 1).contains(&n) {
            bail!("client {client}: {known} was acknowledged and {n} is there");
        }
        ensure!(items == expected(client, n), "client {client}: not what transaction {n} left");
        there.insert(client, n);
    }
    store.close().await;
    Ok(there)
}
