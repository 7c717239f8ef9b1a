//! The store over a real directory: the same answers as the table in memory, a full disk, expiry, copies, and what
//! happens to a directory that is in use.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlite::directory::FILE;
use sqlite::{BackupError, Expiry, OpenError, Options, SqliteStore};
use store::memory::MemoryStore;
use store::port::{Condition, Item, Key, QueryPage, Range, Store, StoreError, Write};
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn open(directory: &Path, options: Options) -> SqliteStore {
    SqliteStore::open(directory, options).expect("it opens")
}

fn fresh(options: Options) -> (TempDir, SqliteStore) {
    let folder = tempfile::tempdir().expect("a directory");
    let store = open(folder.path(), options);
    (folder, store)
}

fn item(pk: &str, sk: &str, version: u64, body: impl Into<Bytes>) -> Item {
    Item { key: Key::new(pk, sk), version, body: body.into(), expires_at: None }
}

fn put(item: &Item, condition: Condition) -> Write {
    Write::Put { item: item.clone(), condition }
}

/// Bytes that do not pack.
fn noise(length: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

async fn whole(store: &dyn Store, pk: &str, range: &Range) -> Result<Vec<Item>, StoreError> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let page = store.query(pk, range, after.as_deref()).await?;
        items.extend(page.items);
        after = page.next;
        if after.is_none() {
            return Ok(items);
        }
    }
}

// ---------------------------------------------------------------- The same answers as the table in memory

/// A request of a random history.
#[derive(Debug, Clone)]
enum Request {
    Transact(Vec<Write>),
    WriteEach(Vec<Write>),
    Get(Key),
    GetMany(Vec<Key>),
    Query(String, Range),
    Page(String, Range, Option<String>),
}

const PARTITIONS: [&str; 2] = ["INST#1", "é"];
const SORT_KEYS: [&str; 8] = ["META", "META#A", "RES#1", "RES#10", "RES#9", "RES#é", "\u{ffff}", "😀"];

fn any_key() -> impl Strategy<Value = Key> {
    let sk = prop_oneof![30 => proptest::sample::select(&SORT_KEYS[..]), 1 => Just("")];
    (proptest::sample::select(&PARTITIONS[..]), sk).prop_map(|(pk, sk)| Key::new(pk, sk))
}

fn any_condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        2 => Just(Condition::Unconditional),
        2 => Just(Condition::Absent),
        1 => Just(Condition::Present),
        3 => prop_oneof![1..4_u64, Just(u64::MAX)].prop_map(Condition::Version),
    ]
}

fn any_write() -> impl Strategy<Value = Write> {
    let body = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from),
        (0..3000_usize).prop_map(|length| Bytes::from("{\"a\":\"b\"},".repeat(length / 10))),
        (1000..3000_usize).prop_map(|length| noise(length, length as u64)),
    ];
    let expires_at = proptest::option::of((0..4_000_000_000_000_i64).prop_map(DateTime::from_timestamp_millis));
    let version = prop_oneof![1..4_u64, Just(u64::MAX)];
    let stored = (any_key(), version, body, expires_at.prop_map(Option::flatten))
        .prop_map(|(key, version, body, expires_at)| Item { key, version, body, expires_at });
    prop_oneof![
        5 => (stored, any_condition()).prop_map(|(item, condition)| Write::Put { item, condition }),
        2 => (any_key(), any_condition()).prop_map(|(key, condition)| Write::Delete { key, condition }),
        1 => (any_key(), any_condition()).prop_map(|(key, condition)| Write::Check { key, condition }),
    ]
}

fn any_range() -> impl Strategy<Value = Range> {
    let bound = || prop_oneof![proptest::sample::select(&SORT_KEYS[..]), Just("RES"), Just(" "), Just("\u{10ffff}")];
    (bound(), bound(), any::<bool>(), proptest::option::of(0..4_usize))
        .prop_map(|(from, to, descending, limit)| Range { descending, limit, ..Range::between(from, to) })
}

fn any_request() -> impl Strategy<Value = Request> {
    let partition = || proptest::sample::select(&PARTITIONS[..]).prop_map(str::to_owned);
    let after = proptest::option::of(proptest::sample::select(&SORT_KEYS[..]).prop_map(str::to_owned));
    let writes = |most| proptest::collection::vec(any_write(), 0..most);
    let alone = writes(5).prop_map(|writes| {
        let unconditional = writes.into_iter().enumerate().map(|(place, write)| match write {
            Write::Put { item, .. } if place != 3 => Write::Put { item, condition: Condition::Unconditional },
            Write::Delete { key, .. } => Write::Delete { key, condition: Condition::Unconditional },
            other => other,
        });
        unconditional.collect()
    });
    prop_oneof![
        4 => writes(2).prop_map(Request::Transact),
        3 => writes(6).prop_map(Request::Transact),
        1 => alone.prop_map(Request::WriteEach),
        1 => any_key().prop_map(Request::Get),
        1 => proptest::collection::vec(any_key(), 0..6).prop_map(Request::GetMany),
        2 => (partition(), any_range()).prop_map(|(pk, range)| Request::Query(pk, range)),
        1 => (partition(), any_range(), after).prop_map(|(pk, range, after)| Request::Page(pk, range, after)),
    ]
}

/// An error by its kind: the words differ.
fn kind<T>(outcome: Result<T, StoreError>) -> Result<T, String> {
    outcome.map_err(|error| match error {
        StoreError::Conflict { index } => format!("conflict on {index}"),
        StoreError::Busy(_) => "busy".into(),
        StoreError::Full(_) => "full".into(),
        StoreError::Refused(_) => "refused".into(),
    })
}

/// The request in partitions of one history's own.
fn moved(request: &Request, history: u64) -> Request {
    let partition = |pk: &str| format!("{history}#{pk}");
    let key = |key: &Key| Key { pk: partition(&key.pk), sk: key.sk.clone() };
    let write = |write: &Write| match write {
        Write::Put { item, condition } => {
            Write::Put { item: Item { key: key(&item.key), ..item.clone() }, condition: *condition }
        }
        Write::Delete { key: at, condition } => Write::Delete { key: key(at), condition: *condition },
        Write::Check { key: at, condition } => Write::Check { key: key(at), condition: *condition },
    };
    match request {
        Request::Transact(writes) => Request::Transact(writes.iter().map(write).collect()),
        Request::WriteEach(writes) => Request::WriteEach(writes.iter().map(write).collect()),
        Request::Get(at) => Request::Get(key(at)),
        Request::GetMany(keys) => Request::GetMany(keys.iter().map(key).collect()),
        Request::Query(pk, range) => Request::Query(partition(pk), range.clone()),
        Request::Page(pk, range, after) => Request::Page(partition(pk), range.clone(), after.clone()),
    }
}

/// A store's answer, as text.
async fn answer(store: &dyn Store, request: &Request) -> String {
    match request {
        Request::Transact(writes) => format!("{:?}", kind(store.transact(writes).await)),
        Request::WriteEach(writes) => {
            let outcomes = store.write_each(writes).await;
            format!("{:?}", outcomes.into_iter().map(kind).collect::<Vec<_>>())
        }
        Request::Get(key) => format!("{:?}", kind(store.get(key).await)),
        Request::GetMany(keys) => {
            let mut items = kind(store.get_many(keys).await);
            items.iter_mut().for_each(|items| items.sort_by(|one, other| one.key.cmp(&other.key)));
            format!("{items:?}")
        }
        Request::Query(pk, range) => format!("{:?}", kind(whole(store, pk, range).await)),
        Request::Page(pk, range, after) => {
            format!("{:?}", kind(store.query(pk, range, after.as_deref()).await))
        }
    }
}

#[test]
fn any_history_has_the_same_answers_as_in_memory() {
    let (_folder, store) = fresh(Options { checkpoint_pages: 50, ..Options::default() });
    let histories = AtomicU64::new(0);
    let runtime = Runtime::new().expect("a runtime");
    let history = proptest::collection::vec(any_request(), 1..40);
    let mut runner = TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&history, |requests| {
        let (memory, number) = (MemoryStore::default(), histories.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(async {
            for request in &requests {
                let request = moved(request, number);
                let (expected, found) = (answer(&memory, &request).await, answer(&store, &request).await);
                prop_assert_eq!(found, expected, "{:?}", request);
            }
            Ok(())
        })
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
}

// ---------------------------------------------------------------- Many at once

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_condition_fails_its_request_alone() {
    let (_folder, store) = fresh(Options::default());
    let write = |n: u64| {
        let store = store.clone();
        async move {
            // All of these wait together; every third one fails after its first write.
            let check = Write::Check { key: Key::new("P", "nobody"), condition: Condition::Present };
            let mut writes = vec![put(&item("P", &format!("{n:03}"), n, "{}"), Condition::Absent)];
            writes.extend(n.is_multiple_of(3).then_some(check));
            writes.push(put(&item("Q", &format!("{n:03}"), n, "{}"), Condition::Absent));
            (n, store.transact(&writes).await)
        }
    };
    let writers: Vec<_> = (0..300).map(|n| tokio::spawn(write(n))).collect();
    for writer in writers {
        let (n, outcome) = writer.await.expect("no panic");
        assert_eq!(outcome, if n.is_multiple_of(3) { Err(StoreError::Conflict { index: 1 }) } else { Ok(()) }, "{n}");
    }
    for partition in ["P", "Q"] {
        let stored = whole(&store, partition, &Range::all()).await.expect("read");
        let versions: Vec<u64> = stored.iter().map(|item| item.version).collect();
        assert_eq!(versions, (0..300).filter(|n: &u64| !n.is_multiple_of(3)).collect::<Vec<_>>(), "{partition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_wait_for_room_and_none_is_turned_away() {
    // Room for about ten of them at a time.
    let (_folder, store) = fresh(Options { waiting_bytes: 0, readers: 1, ..Options::default() });
    let write = |n: u64| {
        let store = store.clone();
        async move { store.transact(&[put(&item("P", &n.to_string(), 1, noise(390_000, n)), Condition::Absent)]).await }
    };
    let writers: Vec<_> = (0..60).map(|n| tokio::spawn(write(n))).collect();
    for writer in writers {
        assert_eq!(writer.await.expect("no panic"), Ok(()));
    }
    assert_eq!(whole(&store, "P", &Range::all()).await.expect("read").len(), 60);
}

#[tokio::test]
async fn callers_that_go_away_leave_the_store_in_order() {
    let (_folder, store) = fresh(Options::default());
    for n in 0..50_u64 {
        let one = put(&item("P", &n.to_string(), 1, "{}"), Condition::Absent);
        let other = put(&item("Q", &n.to_string(), 1, "{}"), Condition::Absent);
        let writes = [one, other];
        // Dropped before it is queued, while it waits, or when it is done.
        let _ = tokio::time::timeout(Duration::from_micros(n * 20), store.transact(&writes)).await;
        let _ = tokio::time::timeout(Duration::from_micros(n * 5), store.get(writes[0].key())).await;
    }
    let done = put(&item("P", "done", 1, "{}"), Condition::Absent);
    assert_eq!(store.transact(&[done]).await, Ok(()));
    let keys = async |pk| {
        let items = whole(&store, pk, &Range::all()).await.expect("read");
        items.into_iter().map(|item| item.key.sk).filter(|sk| sk != "done").collect::<Vec<_>>()
    };
    assert_eq!(keys("P").await, keys("Q").await, "both or neither");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_small_while_it_is_read_without_a_pause() {
    let (folder, store) = fresh(Options { readers: 3, ..Options::default() });
    let stop = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while stop.load(Ordering::Relaxed) == 0 {
                    store.query("P", &Range::all().limit(50), None).await.expect("read");
                }
            })
        })
        .collect();
    // 60 MB, seven times what is written between two copies of the log.
    for n in 0..150 {
        let large = |part: u64| put(&item("P", &format!("{part}"), n, noise(380_000, n)), Condition::Unconditional);
        store.transact(&[large(n % 4)]).await.expect("written");
    }
    stop.store(1, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("no panic");
    }
    let log = std::fs::metadata(folder.path().join(format!("{FILE}-wal"))).expect("the log").len();
    assert!(log < 30_000_000, "the log has {log} bytes");
}

// ---------------------------------------------------------------- A full disk

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_room() {
    let (folder, store) = fresh(Options { largest_pages: Some(300), checkpoint_pages: 20, ..Options::default() });
    let mut kept = Vec::new();
    let full = loop {
        let next = item("P", &format!("{:04}", kept.len()), 1, noise(9_000, kept.len() as u64));
        match store.transact(&[put(&next, Condition::Absent)]).await {
            Ok(()) => kept.push(next),
            Err(error) => break error,
        }
        assert!(kept.len() < 300, "it is never full");
    };
    assert!(matches!(full, StoreError::Full(_)), "{full:?}");
    assert!(full.to_string().contains("full"), "{full}");
    assert!(kept.len() > 50, "{} items", kept.len());
    // Several at once, of which none can be written whole.
    let both = [0, 1].map(|n| put(&item("R", &n.to_string(), 1, noise(100_000, n)), Condition::Unconditional));
    let (one, other) = tokio::join!(store.transact(&both), store.write_each(&both));
    assert!(matches!(one, Err(StoreError::Full(_))), "{one:?}");
    assert!(other.iter().all(|outcome| matches!(outcome, Err(StoreError::Full(_)))), "{other:?}");
    assert_eq!(whole(&store, "P", &Range::all()).await.as_ref(), Ok(&kept));
    assert_eq!(whole(&store, "R", &Range::all()).await, Ok(Vec::new()));
    // What is deleted makes room.
    let removed: Vec<Write> =
        kept.drain(..20).map(|item| Write::Delete { key: item.key, condition: Condition::Version(1) }).collect();
    assert_eq!(store.transact(&removed).await, Ok(()));
    let after = item("P", "after", 1, noise(20_000, 9));
    assert_eq!(store.transact(&[put(&after, Condition::Absent)]).await, Ok(()));
    kept.push(after);
    assert_eq!(store.check().await.expect("checked"), Vec::<String>::new());
    store.close().await;
    let store = open(folder.path(), Options::default());
    assert_eq!(whole(&store, "P", &Range::all()).await, Ok(kept));
}

// ---------------------------------------------------------------- Expiry

#[tokio::test]
async fn what_has_expired_goes_and_nothing_else() {
    let start: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().expect("an instant");
    let clock = Arc::new(Mutex::new(start));
    let shown = Arc::clone(&clock);
    let expiry = Expiry {
        now: Arc::new(move || *shown.lock().expect("no panic")),
        settle: Duration::ZERO,
        every: Duration::from_millis(5),
    };
    let (_folder, store) = fresh(Options { expiry, ..Options::default() });
    let expiring =
        |sk: String, minutes| Item { expires_at: Some(start + TimeDelta::minutes(minutes)), ..item("P", &sk, 1, "{}") };
    // More than are deleted at once.
    let writes: Vec<Write> = (0..500)
        .map(|n| put(&expiring(format!("soon{n:03}"), 1), Condition::Absent))
        .chain([
            put(&expiring("later".into(), 10), Condition::Absent),
            put(&item("P", "never", 1, "{}"), Condition::Absent),
        ])
        .chain([put(&expiring("kept longer".into(), 1), Condition::Absent)])
        .collect();
    for some in writes.chunks(100) {
        store.transact(some).await.expect("written");
    }
    let renewed = Item { version: 2, ..expiring("kept longer".into(), 20) };
    store.transact(&[put(&renewed, Condition::Version(1))]).await.expect("written");
    let count = async || whole(&store, "P", &Range::all()).await.expect("read").len();
    assert_eq!(count().await, 503);
    *clock.lock().expect("no panic") = start + TimeDelta::minutes(5);
    let until = Instant::now() + Duration::from_secs(20);
    while count().await > 3 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = whole(&store, "P", &Range::all()).await.expect("read");
    let left: Vec<&str> = left.iter().map(|item| item.key.sk.as_str()).collect();
    assert_eq!(left, ["kept longer", "later", "never"]);
}

// ---------------------------------------------------------------- Copies

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_it_serves_holds_whole_transactions() {
    let (folder, store) = fresh(Options { checkpoint_pages: 50, ..Options::default() });
    for n in 0..50 {
        let large = put(&item("BEFORE", &format!("{n:03}"), 1, noise(30_000, n)), Condition::Absent);
        store.transact(&[large]).await.expect("written");
    }
    let (writing, stop) = (store.clone(), Arc::new(AtomicU64::new(0)));
    let stopped = Arc::clone(&stop);
    let pair = ["A", "B"].map(|sk| put(&item("PAIR", sk, 0, "0"), Condition::Absent));
    store.transact(&pair).await.expect("written");
    let writer = tokio::spawn(async move {
        let mut written = 0_u64;
        while stopped.load(Ordering::Relaxed) == 0 {
            written += 1;
            let pair =
                ["A", "B"].map(|sk| put(&item("PAIR", sk, written, written.to_string()), Condition::Unconditional));
            writing.transact(&pair).await.expect("written");
        }
        written
    });
    let copies = folder.path().join("copies");
    let mut last = 0;
    for number in 0..3 {
        let to = copies.join(number.to_string());
        store.backup(&to).await.expect("copied");
        let again = store.backup(&to).await;
        assert!(matches!(again, Err(BackupError::Exists(_))), "{again:?}");
        let copy = open(&to, Options::default());
        assert_eq!(copy.check().await.expect("checked"), Vec::<String>::new());
        assert_eq!(whole(&copy, "BEFORE", &Range::all()).await.expect("read").len(), 50);
        let pair = whole(&copy, "PAIR", &Range::all()).await.expect("read");
        let versions: Vec<u64> = pair.iter().map(|item| item.version).collect();
        assert!(versions.len() == 2 && versions[0] == versions[1] && versions[0] >= last, "{versions:?} after {last}");
        last = versions[0];
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!((mode(&to), mode(&to.join(FILE))), (0o700, 0o600));
        }
    }
    stop.store(1, Ordering::Relaxed);
    assert!(writer.await.expect("no panic") >= last);
}

// ---------------------------------------------------------------- Opening and closing

#[tokio::test]
async fn a_directory_in_use_is_refused_and_free_after_closing() {
    let (folder, store) = fresh(Options::default());
    let one = item("P", "1", 1, "{}");
    store.transact(&[put(&one, Condition::Absent)]).await.expect("written");
    let second = SqliteStore::open(folder.path(), Options::default()).err();
    assert!(matches!(second, Some(OpenError::InUse(_))), "{second:?}");
    store.close().await;
    let closed = [store.transact(&[put(&one, Condition::Absent)]).await, store.get(&one.key).await.map(drop)];
    assert!(closed.iter().all(|outcome| matches!(outcome, Err(StoreError::Busy(_)))), "{closed:?}");
    assert!(!folder.path().join(format!("{FILE}-wal")).exists(), "the log is in the database");
    let store = open(folder.path(), Options::default());
    assert_eq!(store.get(&one.key).await, Ok(Some(one)));
}

#[tokio::test]
#[cfg(unix)]
async fn all_files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = fresh(Options::default());
    store.transact(&[put(&item("P", "1", 1, "{}"), Condition::Absent)]).await.expect("written");
    let files: Vec<_> = std::fs::read_dir(folder.path()).expect("its files").flatten().collect();
    assert_eq!(files.len(), 4, "database, log, index of the log, lock");
    for file in files {
        let mode = file.metadata().expect("it is there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[test]
fn files_that_are_none_of_ours_are_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join(FILE);
    let refused = || SqliteStore::open(folder.path(), Options::default()).err().expect("it is refused");
    std::fs::write(&file, "by no means a database, though long enough to be looked at".repeat(20)).expect("written");
    assert!(matches!(refused(), OpenError::Database { .. }), "{:?}", refused());
    for (sql, foreign) in [("CREATE TABLE other (a)", true), ("PRAGMA user_version = 9", false)] {
        std::fs::remove_file(&file).expect("removed");
        let database = rusqlite::Connection::open(&file).expect("made");
        if !foreign {
            database.pragma_update(None, "application_id", 0x504c_5558).expect("made");
        }
        database.execute_batch(sql).expect("made");
        drop(database);
        let error = refused();
        assert!(
            matches!((&error, foreign), (OpenError::Foreign(_), true) | (OpenError::Newer { .. }, false)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_stretch_that_holds_nothing_is_one_empty_page() {
    let (_folder, store) = fresh(Options::default());
    assert_eq!(store.query("P", &Range::between("b", "a"), None).await, Ok(QueryPage::default()));
    assert_eq!(store.query("P", &Range::between("a", "b"), Some("c")).await, Ok(QueryPage::default()));
}
