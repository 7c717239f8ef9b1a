//! The contracts of stores and queues, run over each implementation. A fake may replace the real one only while both
//! pass.

mod queues;

use std::sync::Arc;
use std::time::{Duration, Instant};

use aws::store::DynamoStore;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta};
use flow::testing::MemoryStore;
use local::engine::Engine;
use sqlite::{Options, SqliteStore};
use store::port::{Condition, Item, Key, QueryPage, Range, Store, StoreError, Write};

pub use self::queues::{Consumer, RECEIVES, Taken, VISIBILITY, queue_contract, queue_contract_over_time};

// ---------------------------------------------------------------- Stores

#[tokio::test]
async fn the_store_in_memory_keeps_the_contract() {
    store_contract(Arc::new(MemoryStore::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_over_sqlite_keeps_the_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path(), Options::default()).expect("it opens");
    store_contract(Arc::new(store.clone())).await;
    assert_eq!(store.check().await.expect("checked"), Vec::<String>::new());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_over_an_engine_in_memory_keeps_the_contract() {
    let engine = Engine::memory().await.expect("the engine starts");
    store_contract(Arc::new(engine.store())).await;
    engine.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_over_a_file_keeps_the_contract_and_its_items() {
    let directory = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(directory.path()).await.expect("the engine starts");
    store_contract(Arc::new(engine.store())).await;
    let kept = item("KEPT", "1", 3, "over a restart");
    engine.store().transact(&[put(&kept, Condition::Absent)]).await.expect("written");
    // What the files hold while the engine still runs is what a killed process leaves behind.
    let killed = tempfile::tempdir().expect("a directory");
    for file in std::fs::read_dir(directory.path()).expect("its files") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), killed.path().join(file.file_name())).expect("copied");
    }
    engine.shutdown().await;
    for directory in [directory, killed] {
        let engine = Engine::open(directory.path()).await.expect("the engine starts again");
        assert_eq!(engine.store().get(&kept.key).await, Ok(Some(kept.clone())));
        engine.shutdown().await;
    }
}

fn item(pk: &str, sk: &str, version: u64, body: &str) -> Item {
    Item { key: Key::new(pk, sk), version, body: Bytes::from(body.to_owned()), expires_at: None }
}

fn put(item: &Item, condition: Condition) -> Write {
    Write::Put { item: item.clone(), condition }
}

fn delete(key: &Key, condition: Condition) -> Write {
    Write::Delete { key: key.clone(), condition }
}

/// Text that does not pack: the digits of a generator's numbers.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

async fn whole(store: &dyn Store, pk: &str, range: &Range) -> (Vec<Item>, usize) {
    let (mut items, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = store.query(pk, range, after.as_deref()).await.expect("a page");
        items.extend(page.items);
        pages += 1;
        after = page.next;
        if after.is_none() {
            return (items, pages);
        }
    }
}

fn sort_keys(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.key.sk.as_str()).collect()
}

/// A case of the contract that an emulator is known not to keep, and why.
pub type Exception = (&'static str, &'static str);

/// Everything the port promises, on a store of any make. Uses partitions of its own.
async fn store_contract(store: Arc<dyn Store>) {
    store_contract_but(store, &[]).await;
}

/// Leaves what was kept for the reliability page, under the name of the test that runs.
fn record(port: &str, cases: usize, left_out: usize) {
    let thread = std::thread::current();
    let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap_or_default().to_owned();
    let figures = serde_json::json!({ "cases": cases, "failed": 0, "leftOut": left_out, "suites": 1 });
    tests::reliability::record(&format!("contracts-{port}-{test}"), &figures);
}

/// The same, but for what an emulator is known not to keep.
pub async fn store_contract_but(store: Arc<dyn Store>, exceptions: &[Exception]) {
    let (mut kept, mut left_out) = (0, 0);
    macro_rules! cases {
        ($($case:ident($store:expr);)*) => {
            $(if exceptions.iter().any(|(name, _)| *name == stringify!($case)) {
                left_out += 1;
            } else {
                $case($store).await;
                kept += 1;
            })*
        };
    }
    cases! {
        items_come_back_as_they_were(&*store);
        single_writes_obey_their_condition(&*store);
        transactions_are_all_or_nothing(&*store);
        limits_are_refused(&*store);
        four_megabytes_are_too_much_at_once(&*store);
        many_are_read_at_once(&*store);
        stretches_are_read_in_order(&*store);
        long_stretches_come_in_pages(&*store);
        each_write_has_its_own_outcome(&*store);
        one_of_fifty_wins(store.clone());
    }
    assert_eq!(left_out, exceptions.len(), "an exception names no case");
    record("store", kept, left_out);
}

async fn items_come_back_as_they_were(store: &dyn Store) {
    let missing = Key::new("FORM", "missing");
    assert_eq!(store.get(&missing).await, Ok(None));
    let long = r#"{"name":"Ærøskøbing"},"#.repeat(5000);
    let bodies = [Bytes::new(), Bytes::from(r#"{"a":1}"#), Bytes::from(long), noise(390_000, 1)];
    for (n, body) in bodies.into_iter().enumerate() {
        let written = Item { body, ..item("FORM", &format!("£{n}"), u64::MAX - 1, "") };
        store.transact(&[put(&written, Condition::Absent)]).await.expect("written");
        assert!(store.get(&written.key).await == Ok(Some(written)), "body {n} did not come back as it was");
    }
    // The expiry is kept in whole seconds, and an item that expired is still there or gone, never altered.
    let at = DateTime::from_timestamp(4_000_000_000, 0).expect("a time");
    let precise = Item { expires_at: Some(at + TimeDelta::milliseconds(999)), ..item("FORM", "expiring", 1, "x") };
    store.transact(&[put(&precise, Condition::Unconditional)]).await.expect("written");
    assert_eq!(store.get(&precise.key).await, Ok(Some(Item { expires_at: Some(at), ..precise })));
}

async fn single_writes_obey_their_condition(store: &dyn Store) {
    use Condition::{Absent, Present, Unconditional, Version};
    let (first, second) = (item("ONE", "a", 1, "first"), item("ONE", "a", 2, "second"));
    let key = &first.key;
    let check = |condition| Write::Check { key: key.clone(), condition };
    let conflict = Err(StoreError::Conflict { index: 0 });
    let steps = [
        (put(&first, Version(1)), conflict.clone(), None),
        (put(&first, Present), conflict.clone(), None),
        (delete(key, Present), conflict.clone(), None),
        (delete(key, Unconditional), Ok(()), None),
        (delete(key, Absent), Ok(()), None),
        (check(Absent), Ok(()), None),
        (check(Present), conflict.clone(), None),
        (put(&first, Absent), Ok(()), Some(&first)),
        (put(&second, Absent), conflict.clone(), Some(&first)),
        (put(&second, Version(2)), conflict.clone(), Some(&first)),
        (put(&second, Version(1)), Ok(()), Some(&second)),
        (check(Version(1)), conflict.clone(), Some(&second)),
        (check(Version(2)), Ok(()), Some(&second)),
        (put(&first, Present), Ok(()), Some(&first)),
        (put(&second, Unconditional), Ok(()), Some(&second)),
        (delete(key, Absent), conflict.clone(), Some(&second)),
        (delete(key, Version(1)), conflict, Some(&second)),
        (delete(key, Version(2)), Ok(()), None),
    ];
    for (write, outcome, then) in steps {
        assert_eq!(store.transact(std::slice::from_ref(&write)).await, outcome, "{write:?}");
        assert_eq!(store.get(key).await.expect("read").as_ref(), then, "after {write:?}");
    }
    assert_eq!(store.transact(&[]).await, Ok(()));
}

async fn transactions_are_all_or_nothing(store: &dyn Store) {
    let hundred: Vec<Item> = (0..100).map(|n| item("ALL", &format!("{n:03}"), 1, "x")).collect();
    let all: Vec<Write> = hundred.iter().map(|item| put(item, Condition::Absent)).collect();
    store.transact(&all).await.expect("a hundred writes");
    assert_eq!(whole(store, "ALL", &Range::prefix("")).await.0, hundred);

    let next = Item { version: 2, body: Bytes::from("y"), ..hundred[0].clone() };
    let writes = |version| {
        [
            put(&next, Condition::Version(1)),
            delete(&hundred[1].key, Condition::Unconditional),
            Write::Check { key: hundred[2].key.clone(), condition: Condition::Version(version) },
            Write::Check { key: hundred[3].key.clone(), condition: Condition::Version(version) },
            Write::Check { key: Key::new("ALL", "no"), condition: Condition::Unconditional },
        ]
    };
    assert_eq!(store.transact(&writes(9)).await, Err(StoreError::Conflict { index: 2 }));
    assert_eq!(whole(store, "ALL", &Range::prefix("")).await.0, hundred);
    assert_eq!(store.transact(&writes(1)).await, Ok(()));
    assert_eq!(store.get(&next.key).await, Ok(Some(next)));
    assert_eq!(store.get(&hundred[1].key).await, Ok(None));
}

async fn limits_are_refused(store: &dyn Store) {
    let small = |n: usize| put(&item("LIMIT", &n.to_string(), 1, "x"), Condition::Unconditional);
    let large = Item { body: noise(411_000, 2), ..item("LIMIT", "large", 1, "") };
    let cases = [
        ("101 writes", (0..101).map(small).collect()),
        ("a key twice", vec![small(1), small(2), small(1)]),
        ("an item over 400 KB", vec![put(&large, Condition::Unconditional)]),
        ("an item over 400 KB in company", vec![small(1), put(&large, Condition::Unconditional)]),
        ("an empty key", vec![put(&item("LIMIT", "", 1, "x"), Condition::Unconditional)]),
    ];
    for (what, writes) in cases {
        let outcome = store.transact(&writes).await;
        assert!(matches!(outcome, Err(StoreError::Refused(_))), "{what}: {outcome:?}");
    }
    assert_eq!(store.query("LIMIT", &Range::prefix(""), None).await, Ok(QueryPage::default()));
}

async fn four_megabytes_are_too_much_at_once(store: &dyn Store) {
    let heavy = |n: usize| Item { body: noise(380_000, 3), ..item("HEAVY", &n.to_string(), 1, "") };
    let writes: Vec<Write> = (0..12).map(|n| put(&heavy(n), Condition::Unconditional)).collect();
    let outcome = store.transact(&writes).await;
    assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}");
    assert_eq!(store.transact(&writes[..7]).await, Ok(()));
    assert_eq!(store.get(&heavy(9).key).await, Ok(None));
}

async fn many_are_read_at_once(store: &dyn Store) {
    let items: Vec<Item> = (0..230).map(|n| item(&format!("MANY{}", n % 7), &n.to_string(), n, "x")).collect();
    let writes: Vec<Write> = items.iter().map(|item| put(item, Condition::Unconditional)).collect();
    assert_eq!(store.write_each(&writes).await, vec![Ok(()); 230]);
    let mut keys: Vec<Key> = items.iter().map(|item| item.key.clone()).collect();
    keys.push(Key::new("MANY0", "missing"));
    keys.push(keys[0].clone());
    let mut read = store.get_many(&keys).await.expect("read");
    read.sort_by_key(|item| item.version);
    assert_eq!(read, items);
    assert_eq!(store.get_many(&[]).await, Ok(Vec::new()));
    assert_eq!(store.get_many(&[Key::new("MANY0", "missing")]).await, Ok(Vec::new()));
}

async fn stretches_are_read_in_order(store: &dyn Store) {
    // By bytes: upper case before lower, "10" before "9", beyond the basic plane after everything else.
    let order = ["A#1", "A#10", "A#9", "A#a", "A#é", "A#\u{ffff}", "A#😀", "B#1"];
    let writes: Vec<Write> = order.iter().rev().map(|sk| put(&item("ORDER", sk, 1, "x"), Condition::Absent)).collect();
    store.transact(&writes).await.expect("written");
    let reversed: Vec<&str> = order[..7].iter().rev().copied().collect();
    let cases = [
        (Range::prefix("A#"), order[..7].to_vec()),
        (Range::prefix("A#1"), vec!["A#1", "A#10"]),
        (Range::prefix("C#"), vec![]),
        (Range::prefix("A#").descending(), reversed),
        (Range::between("A#10", "A#a"), vec!["A#10", "A#9", "A#a"]),
        (Range::between("A#b", "A#a"), vec![]),
        (Range::between("", "A#1"), vec!["A#1"]),
        (Range::between("", ""), vec![]),
        (Range { consistent: false, ..Range::between("B#1", "B#1") }, vec!["B#1"]),
    ];
    for (range, expected) in cases {
        assert_eq!(sort_keys(&whole(store, "ORDER", &range).await.0), expected, "{range:?}");
        let (items, pages) = whole(store, "ORDER", &range.clone().limit(2)).await;
        assert_eq!(sort_keys(&items), expected, "{range:?} by twos");
        assert!(pages >= expected.len().div_ceil(2), "{range:?}: {pages} pages by twos");
    }
    assert_eq!(store.query("NOBODY", &Range::prefix(""), None).await, Ok(QueryPage::default()));
    let page = store.query("ORDER", &Range::prefix("A#").descending().limit(3), None).await.expect("a page");
    assert_eq!(sort_keys(&page.items), ["A#😀", "A#\u{ffff}", "A#é"]);
    assert_eq!(page.next.as_deref(), Some("A#é"));
}

async fn long_stretches_come_in_pages(store: &dyn Store) {
    let items: Vec<Item> =
        (0..9).map(|n| Item { body: noise(300_000, n), ..item("LONG", &n.to_string(), n, "") }).collect();
    for outcome in
        store.write_each(&items.iter().map(|item| put(item, Condition::Unconditional)).collect::<Vec<_>>()).await
    {
        outcome.expect("written");
    }
    for range in [Range::prefix(""), Range::prefix("").descending()] {
        let (mut read, pages) = whole(store, "LONG", &range).await;
        if range.descending {
            read.reverse();
        }
        assert!(read == items, "2.7 MB did not come back in order");
        assert!(pages >= 3, "{pages} pages");
    }
    let keys: Vec<Key> = items.iter().map(|item| item.key.clone()).collect();
    assert_eq!(store.get_many(&keys).await.map(|items| items.len()), Ok(9));
}

async fn each_write_has_its_own_outcome(store: &dyn Store) {
    let writes: Vec<Write> = (0..60)
        .map(|n| match n {
            7 => put(&item("EACH", "", 1, "x"), Condition::Unconditional),
            8 => put(&Item { body: noise(411_000, 3), ..item("EACH", "large", 1, "") }, Condition::Unconditional),
            9 => put(&item("EACH", "conditional", 1, "x"), Condition::Absent),
            10 => delete(&Key::new("EACH", "missing"), Condition::Unconditional),
            _ => put(&item("EACH", &format!("{n:02}"), 1, "x"), Condition::Unconditional),
        })
        .collect();
    let failed = |outcomes: Vec<Result<(), StoreError>>| -> Vec<usize> {
        let refused = |outcome: &Result<(), StoreError>| matches!(outcome, Err(StoreError::Refused(_)));
        let failed: Vec<usize> = (0..outcomes.len()).filter(|n| outcomes[*n].is_err()).collect();
        assert!(failed.iter().all(|n| refused(&outcomes[*n])), "{outcomes:?}");
        failed
    };
    assert_eq!(failed(store.write_each(&writes).await), [7, 8, 9]);
    assert_eq!(whole(store, "EACH", &Range::prefix("")).await.0.len(), 56);
    let deletes: Vec<Write> =
        (0..60).map(|n| delete(&Key::new("EACH", format!("{n:02}")), Condition::Unconditional)).collect();
    assert_eq!(failed(store.write_each(&deletes).await), [0; 0]);
    assert_eq!(whole(store, "EACH", &Range::prefix("")).await.0, []);
    assert_eq!(store.write_each(&[]).await, []);
    // A key twice: the later one stands.
    let twice = [
        put(&item("EACH", "twice", 1, "x"), Condition::Unconditional),
        put(&item("EACH", "twice", 2, "y"), Condition::Unconditional),
    ];
    assert_eq!(failed(store.write_each(&twice).await), [0; 0]);
    assert_eq!(store.get(twice[0].key()).await, Ok(Some(item("EACH", "twice", 2, "y"))));
}

/// Fifty who read the same version race: one writes, alone and in company, and each of the others knows that it
/// did not.
async fn one_of_fifty_wins(store: Arc<dyn Store>) {
    for company in [false, true] {
        let before = item("RACE", &company.to_string(), 1, "before");
        store.transact(&[put(&before, Condition::Absent)]).await.expect("written");
        let race = |n: u64| {
            let (store, before) = (store.clone(), before.clone());
            async move {
                let mine = Item { version: 2, body: Bytes::from(n.to_string()), ..before };
                let mut writes = vec![put(&mine, Condition::Version(1))];
                if company {
                    writes.push(put(&item("RACE", &format!("trace{n}"), 1, "x"), Condition::Absent));
                }
                (n, store.transact(&writes).await)
            }
        };
        let racers: Vec<_> = (0..50).map(|n| tokio::spawn(race(n))).collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.expect("no panic") {
                (n, Ok(())) => winners.push(n),
                (_, Err(StoreError::Conflict { index: 0 } | StoreError::Busy(_))) => {}
                (n, other) => panic!("racer {n}: {other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "{winners:?}");
        let after = store.get(&before.key).await.expect("read").expect("there");
        assert_eq!(after.body, winners[0].to_string());
        if company {
            let traces = whole(&*store, "RACE", &Range::prefix("trace")).await.0;
            assert_eq!(sort_keys(&traces), [format!("trace{}", winners[0])]);
        }
    }
}

// ---------------------------------------------------------------- What the table costs

#[tokio::test(flavor = "multi_thread")]
async fn the_meter_shows_what_the_table_charged() {
    let engine = Engine::memory().await.expect("the engine starts");
    let store: DynamoStore = engine.store();
    let small = item("COST", "a", 1, "x");
    store.transact(&[put(&small, Condition::Absent)]).await.expect("written");
    assert_eq!(store.capacity().writes, 1.0);
    store
        .transact(&[put(&small, Condition::Present), put(&item("COST", "b", 1, "x"), Condition::Absent)])
        .await
        .expect("written");
    assert_eq!(store.capacity().writes, 5.0);
    store.get(&small.key).await.expect("read");
    assert_eq!(store.capacity().reads, 1.0);
    let range = Range { consistent: false, ..Range::prefix("") };
    store.query("COST", &range, None).await.expect("read");
    assert_eq!(store.capacity().reads, 1.5);
    // A body of 4 KB that packs to less than 1 KB is written for one unit.
    let wordy = item("COST", "c", 1, &"the same again, ".repeat(256));
    store.transact(&[put(&wordy, Condition::Absent)]).await.expect("written");
    assert_eq!(store.capacity().writes, 6.0);
    assert_eq!(store.capacity().calls, 5);
    engine.shutdown().await;
}

/// Prints what a read and a write take here; run with `--nocapture` to see it. It fails only when the engine is
/// so slow that something is broken, such as a wait of 40 ms in the sockets.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "the figures are for whoever asks for them")]
async fn the_engine_answers_quickly() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, engine) in [("memory", Engine::memory().await), ("file", Engine::open(directory.path()).await)] {
        let engine = engine.expect("the engine starts");
        let store = engine.store();
        let mut medians = Vec::new();
        for kind in ["put", "get", "transact 5", "query"] {
            let mut took = Vec::new();
            for n in 0..60 {
                let write = |part: u32| put(&item("FAST", &format!("{kind}{n}-{part}"), 1, "{}"), Condition::Absent);
                let start = Instant::now();
                match kind {
                    "put" => store.transact(&[write(0)]).await.expect("written"),
                    "get" => drop(store.get(&Key::new("FAST", format!("put{n}-0"))).await.expect("read")),
                    "query" => drop(store.query("FAST", &Range::prefix("put1"), None).await.expect("read")),
                    _ => store.transact(&(0..5).map(write).collect::<Vec<_>>()).await.expect("written"),
                }
                took.push(start.elapsed());
            }
            took.sort();
            medians.push((kind, took[30]));
        }
        println!("{name}: {medians:?}");
        assert!(medians.iter().all(|(_, took)| *took < Duration::from_millis(40)), "{name}: {medians:?}");
        engine.shutdown().await;
    }
}
