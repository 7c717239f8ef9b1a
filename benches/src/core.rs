//! Fixed work of the pure core, counted in instructions: `valgrind --tool=callgrind` runs each piece alone, and the counts
//! are compared with a committed baseline. The comparison reports and never fails. The counts repeat to a fraction of a
//! percent on one machine with one compiler.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::configuration::keys::{API_KEY, API_SECRET};
use domain::configuration::{CreatedRule, InitialPoll, NotificationFormat};
use domain::detect::{self, Pass};
use domain::envelope::{self, LARGEST_RECORD, Sender};
use domain::event::event_id;
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::index::{Bucket, Entry, hash_of, key_of};
use domain::record::{Change, ChangeKind, ListedAs, Record};
use domain::secret::Secret;
use domain::signature::{elements_signature, standard_webhooks};
use elements::call::CallContext;
use elements::listing::{Cursor, Listing, ScanMode};
use elements::{Bases, Catalog, Connection, Plan, Tokens};
use serde_json::{Map, Value, json};

use crate::vendor::record;

/// Another share than this of the baseline is pointed out.
const NOTABLE: f64 = 0.02;

/// The pieces, by the names of the baseline.
pub const PIECES: [&str; 6] = ["plan", "page", "judge", "index", "envelope", "sign"];

/// Records that a piece works on.
const RECORDS: u64 = 1000;

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().expect("a literal instant")
}

/// A pass over an account that was polled before.
pub fn pass() -> Pass {
    Pass {
        instance: InstanceId(7),
        resource: "orders".into(),
        baseline: false,
        began: instant("2026-01-03T00:00:00Z"),
        emitted_until: None,
        reshaped: false,
        index_is_complete: true,
        covered_since: Some(instant("2026-01-02T00:00:00Z")),
        first_revision: 0,
        created_rule: CreatedRule::default(),
        created_tolerance: chrono::TimeDelta::zero(),
        initial_poll: InitialPoll::default(),
        not_after: None,
    }
}

/// The records of this many numbers as the elements' reader would give them.
pub fn records(count: u64, revision: u64) -> Vec<Record> {
    let one = |number: u64| {
        let raw = record(number, revision);
        Record {
            id: format!("ord-{number:010}"),
            partition: String::new(),
            updated: Some(instant(if revision == 0 { "2026-01-01T00:00:00Z" } else { "2026-01-02T00:00:01Z" })),
            created: Some(instant("2026-01-01T00:00:00Z")),
            fingerprint: hash_of(&raw),
            listed_as: ListedAs::State,
            raw: Bytes::from(raw),
        }
    };
    (0..count).map(one).collect()
}

/// The index entries of those records, in order of their keys.
pub fn known(records: &[Record]) -> Vec<(String, Entry)> {
    let pass = Pass { baseline: true, ..pass() };
    let entry = |record: &Record| {
        let entry = detect::judge(record, None, &pass).entry.expect("a baseline remembers");
        (key_of(&record.partition, &record.id), entry)
    };
    records.iter().map(entry).collect()
}

fn changes() -> Vec<Change> {
    let pass = pass();
    let change = |(record, (_, entry)): (&Record, &(String, Entry))| {
        let entry = Entry { revision: entry.revision + 1, ..*entry };
        detect::change_of(record, ChangeKind::Updated, entry, &pass)
    };
    let records = records(10, 1);
    records.iter().zip(&known(&records)).map(change).collect()
}

fn configuration() -> (Map<String, Value>, domain::configuration::ResourceConfiguration) {
    let Value::Object(account) = json!({API_KEY: "key", API_SECRET: "secret"}) else { unreachable!() };
    let entry = serde_json::from_value(json!({
        "url": "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'",
        "idField": "id",
        "datesConfiguration": {
            "updatedDateField": "updated_at", "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
            "createdDateField": "created_at", "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
        },
    }));
    (account, entry.expect("a configuration"))
}

/// Prepares a piece and does it, inside a function that the counter knows by its name.
pub fn run(piece: &str) -> anyhow::Result<()> {
    match piece {
        "plan" => {
            let catalog = Catalog::embedded();
            let element = catalog.get("square").context("an element")?;
            let (account, entry) = configuration();
            counted(|| {
                for _ in 0..100 {
                    black_box(Plan::resolve(element, "timesheets", &entry, &account).is_ok());
                }
            });
        }
        "page" => {
            let catalog = Catalog::embedded();
            let element = catalog.get("square").context("an element")?;
            let (account, entry) = configuration();
            let problems = |problems| anyhow::anyhow!("{problems:?}");
            let (plan, _) = Plan::resolve(element, "timesheets", &entry, &account).map_err(problems)?;
            let (connection, _) = Connection::resolve(element, &account, &Map::new()).map_err(problems)?;
            let (bases, tokens) = (Bases::default(), None::<Tokens>);
            let caller = CallContext { element, connection: &connection, bases: &bases, tokens: tokens.as_ref() };
            let all: Vec<String> = (0..RECORDS).map(|number| record(number, 0)).collect();
            let body = Bytes::from(format!(r#"{{"timecards":[{}]}}"#, all.join(",")));
            let response = http::Response::builder().header("content-type", "application/json").body(body)?;
            let began = instant("2026-01-03T00:00:00Z");
            let mut listing = Listing::start(&plan, ScanMode::Complete, &Cursor::Start, None, "", began);
            counted(|| {
                let page = listing.read(&plan, &caller, &response);
                assert_eq!(page.map(|page| page.records.len()), Ok(RECORDS as usize));
            });
        }
        "judge" => {
            let (pass, before, now) = (pass(), known(&records(RECORDS, 0)), records(RECORDS, 1));
            counted(|| {
                for (record, (_, entry)) in now.iter().zip(&before) {
                    black_box(detect::judge(record, Some(*entry), &pass));
                }
            });
        }
        "index" => {
            let entries = known(&records(RECORDS, 0));
            counted(|| {
                let (bucket, _) = Bucket::default().with(entries.clone());
                let bucket = Bucket::unpack(bucket.packed()).expect("what was packed unpacks");
                for (key, _) in entries.iter().step_by(10) {
                    black_box((hash_of(key), bucket.get(key)));
                }
            });
        }
        "envelope" => {
            let changes = changes();
            let sender = sender();
            let at = instant("2026-01-03T00:00:00Z");
            counted(|| {
                for _ in 0..10 {
                    let format = NotificationFormat::default();
                    black_box(envelope::notifications(&sender, format, "orders", &changes, at, at, LARGEST_RECORD));
                }
            });
        }
        "sign" => {
            let (key, body) = (Secret::new("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"), record(1, 1).repeat(10));
            counted(|| {
                for number in 0..10 {
                    black_box(elements_signature(&key, body.as_bytes()));
                    black_box(standard_webhooks(std::slice::from_ref(&key), "id", number, body.as_bytes()));
                    black_box(event_id(InstanceId(7), "orders", "", "ord-1", number as u32));
                }
            });
        }
        other => anyhow::bail!("there is no piece {other}"),
    }
    Ok(())
}

fn sender() -> Sender<'static> {
    Sender {
        instance: InstanceId(7),
        organization: OrganizationId(1),
        user: UserId(2),
        name: "bench",
        tags: &[],
        element: "square",
        hub: "employee",
    }
}

/// The counter starts and stops here.
#[inline(never)]
fn counted(work: impl FnOnce()) {
    work();
    // Something after the call, lest the compiler make a jump of it and this function vanish.
    black_box(());
}

fn count(piece: &str) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*benches*core*counted*"])
        .args(["--callgrind-out-file=/dev/null", "--"])
        .arg(std::env::current_exe()?)
        .args(["core", piece])
        .stdin(Stdio::null())
        .output()
        .context("valgrind does not start; it is needed to count instructions")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.split_once("Collected :")).map(|(_, count)| count.trim());
    line.and_then(|count| count.parse().ok()).with_context(|| format!("callgrind counted nothing: {said}"))
}

/// Counts every piece and compares it with the baseline in `file`, which `rewrite` replaces.
///
/// # Errors
/// Valgrind is not there, or the file cannot be used. A difference is no error.
pub fn compare(file: &Path, rewrite: bool) -> anyhow::Result<String> {
    let baseline: std::collections::BTreeMap<String, u64> = match std::fs::read_to_string(file) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{} is no baseline", file.display()))?,
        Err(_) => Default::default(),
    };
    let mut table =
        String::from("| piece | instructions | baseline | difference | |\n| --- | --- | --- | --- | --- |\n");
    let mut counted = std::collections::BTreeMap::new();
    for piece in PIECES {
        let now = count(piece)?;
        counted.insert(piece.to_owned(), now);
        let _ = match baseline.get(piece) {
            Some(before) => {
                let share = now as f64 / *before as f64 - 1.0;
                let mark = if share.abs() > NOTABLE { if share > 0.0 { "more" } else { "less" } } else { "" };
                writeln!(table, "| {piece} | {now} | {before} | {:+.1} % | {mark} |", share * 100.0)
            }
            None => writeln!(table, "| {piece} | {now} | | | new |"),
        };
    }
    if rewrite {
        let text = "# Instructions of each piece of fixed work, as `benches instructions --rewrite` counted them.\n";
        std::fs::write(file, format!("{text}{}", toml::to_string(&counted)?))?;
    }
    Ok(table)
}
