//! Connections to the database, their settings, and the one table.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, named_params, params};

use bytes::Bytes;
use chrono::DateTime;
use store::port::{Item, Key, QueryPage, Range};

use crate::body::{item_size, unpack};
use crate::error::{Failure, OpenError};
use crate::limits::{Change, ChangeKind};

/// Marks a database file as ours: "PLUX".
const APPLICATION: i64 = 0x504c_5558;
/// Version of the table; a release that changes the table raises it and converts older ones.
const VERSION: i64 = 1;
/// Statements that a connection keeps prepared; there are fewer.
const STATEMENTS: usize = 32;
/// Somebody else may hold a lock for a moment: a copy that begins, an administrator with SQLite's own shell.
pub(crate) const LONGEST_LOCK: Duration = Duration::from_secs(5);
/// A page of a query ends after so many bytes, as in the cloud.
const LARGEST_PAGE: usize = 1024 * 1024;
/// The log's file is cut to this many bytes when it was longer.
const LARGEST_LOG_AT_REST: i64 = 64 * 1024 * 1024;

/// A table of rows with an index over the keys, and not one ordered by its keys: measured on 3,000 instances with their
/// deliveries, an update of a state writes 1.2 pages instead of 3.4, a get takes half as long and the file is a fifth
/// smaller, because rows of a kilobyte leave too few to a page of an ordered table. Long stretches of small items, which
/// only the dispatcher reads, take four times as long, 3 µs an item.
///
/// A version above 2^63 is stored as its negative complement, which only equality ever sees.
const TABLE: &str = "
    CREATE TABLE item (
        pk TEXT NOT NULL,
        sk TEXT NOT NULL,
        version INTEGER NOT NULL,
        expires_at INTEGER,
        body BLOB NOT NULL,
        UNIQUE (pk, sk)
    );
    CREATE INDEX item_expiry ON item (expires_at) WHERE expires_at IS NOT NULL;";

/// The one connection that writes. Makes the table where there is none.
pub(crate) fn open_writer(file: &Path, largest_pages: Option<u32>) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Database { path: file.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(file, flags).map_err(failed)?;
    set_up(&connection).map_err(failed)?;
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (number("application_id").map_err(failed)?, number("user_version").map_err(failed)?);
    // A power cut while it was made leaves a database with nothing in it.
    let tables = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(tables, [], |row| row.get(0)).map_err(failed)?;
    if application != APPLICATION && (application != 0 || tables > 0) {
        return Err(OpenError::Foreign(file.to_owned()));
    }
    if version > VERSION {
        return Err(OpenError::Newer { path: file.to_owned(), version, known: VERSION });
    }
    let configure = || -> rusqlite::Result<()> {
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Where the system's sync does not reach the disk's own cache, on macOS, there is another one that does.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // The writer thread copies the log into the database after it has answered, not within a commit.
        connection.pragma_update_and_check(None, "wal_autocheckpoint", 0, |_| Ok(()))?;
        connection.pragma_update_and_check(None, "journal_size_limit", LARGEST_LOG_AT_REST, |_| Ok(()))?;
        if let Some(pages) = largest_pages {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        Ok(())
    };
    configure().map_err(failed)?;
    if version == 0 {
        let mut create = || -> rusqlite::Result<()> {
            let transaction = connection.transaction()?;
            transaction.execute_batch(TABLE)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()
        };
        create().map_err(failed)?;
    }
    Ok(connection)
}

/// A connection that only reads, and so never copies the log into the database.
pub(crate) fn open_reader(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(LONGEST_LOCK)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")
}

// ---------------------------------------------------------------- Reads

/// Reads one item.
pub(crate) fn get(connection: &Connection, key: &Key) -> Result<Option<Item>, Failure> {
    let mut statement =
        connection.prepare_cached("SELECT version, expires_at, body FROM item WHERE pk = ?1 AND sk = ?2")?;
    let mut rows = statement.query(params![key.pk, key.sk])?;
    match rows.next()? {
        Some(row) => Ok(Some(item(key.clone(), row, 0)?)),
        None => Ok(None),
    }
}

/// Reads many items of one snapshot.
pub(crate) fn get_many(connection: &Connection, keys: &[Key]) -> Result<Vec<Item>, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let mut items = Vec::with_capacity(keys.len());
    for key in keys {
        items.extend(get(&snapshot, key)?);
    }
    Ok(items)
}

/// Reads one page of a stretch of a partition.
pub(crate) fn query(
    connection: &Connection,
    pk: &str,
    range: &Range,
    after: Option<&str>,
) -> Result<QueryPage, Failure> {
    let sql = match (range.descending, after.is_some()) {
        (false, false) => {
            "SELECT sk, version, expires_at, body FROM item WHERE pk = ?1 AND sk >= ?2 AND sk <= ?3 ORDER BY sk"
        }
        (false, true) => {
            "SELECT sk, version, expires_at, body FROM item WHERE pk = ?1 AND sk > ?2 AND sk <= ?3 ORDER BY sk"
        }
        (true, false) => {
            "SELECT sk, version, expires_at, body FROM item WHERE pk = ?1 AND sk >= ?2 AND sk <= ?3 ORDER BY sk DESC"
        }
        (true, true) => {
            "SELECT sk, version, expires_at, body FROM item WHERE pk = ?1 AND sk >= ?2 AND sk < ?3 ORDER BY sk DESC"
        }
    };
    let (from, to) = match after {
        Some(after) if range.descending => (range.from.as_str(), after),
        Some(after) => (after, range.to.as_str()),
        None => (range.from.as_str(), range.to.as_str()),
    };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![pk, from, to])?;
    let (mut page, mut bytes) = (QueryPage::default(), 0);
    while let Some(row) = rows.next()? {
        let key = Key::new(pk, row.get::<_, String>(0)?);
        bytes += item_size(&key, stored_length(row, 3)?);
        page.items.push(item(key, row, 1)?);
        if bytes > LARGEST_PAGE || Some(page.items.len()) == range.limit {
            page.next = page.items.last().map(|item| item.key.sk.clone());
            break;
        }
    }
    Ok(page)
}

fn stored_length(row: &Row<'_>, column: usize) -> rusqlite::Result<usize> {
    Ok(row.get_ref(column)?.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len))
}

/// The item whose version, expiry and body stand in a row from a column on.
fn item(key: Key, row: &Row<'_>, column: usize) -> Result<Item, Failure> {
    let version = row.get::<_, i64>(column)?.cast_unsigned();
    let expires_at: Option<i64> = row.get(column + 1)?;
    let body: Option<Bytes> = unpack(row.get_ref(column + 2)?);
    let expires_at = expires_at.map(|seconds| DateTime::from_timestamp(seconds, 0));
    match (body, expires_at) {
        (None, _) | (_, Some(None)) => Err(Failure::Damaged { pk: key.pk, sk: key.sk }),
        (Some(body), expires_at) => Ok(Item { key, version, body, expires_at: expires_at.flatten() }),
    }
}

// ---------------------------------------------------------------- Writes

/// Carries out one change where its condition holds; answers whether it held.
pub(crate) fn carry_out(connection: &Connection, change: &Change) -> rusqlite::Result<bool> {
    use store::port::Condition::{Absent, Present, Unconditional, Version};
    let Key { pk, sk } = &change.key;
    match (&change.kind, change.condition) {
        (ChangeKind::Put { version, expires_at, body }, condition) => {
            let sql = match condition {
                Unconditional => {
                    "INSERT INTO item (pk, sk, version, expires_at, body) VALUES (:pk, :sk, :new, :expires, :body)
                     ON CONFLICT (pk, sk) DO UPDATE
                     SET version = excluded.version, expires_at = excluded.expires_at, body = excluded.body"
                }
                Absent => {
                    "INSERT INTO item (pk, sk, version, expires_at, body) VALUES (:pk, :sk, :new, :expires, :body)
                     ON CONFLICT (pk, sk) DO NOTHING"
                }
                Present => {
                    "UPDATE item SET version = :new, expires_at = :expires, body = :body WHERE pk = :pk AND sk = :sk"
                }
                Version(_) => {
                    "UPDATE item SET version = :new, expires_at = :expires, body = :body
                     WHERE pk = :pk AND sk = :sk AND version = :old"
                }
            };
            let new = version.cast_signed();
            let mut statement = connection.prepare_cached(sql)?;
            let changed = match condition {
                Version(old) => statement.execute(named_params! {
                    ":pk": pk, ":sk": sk, ":new": new, ":expires": expires_at, ":body": body, ":old": old.cast_signed(),
                })?,
                _ => statement.execute(named_params! {
                    ":pk": pk, ":sk": sk, ":new": new, ":expires": expires_at, ":body": body,
                })?,
            };
            Ok(changed > 0)
        }
        (ChangeKind::Delete, Unconditional | Present) => {
            let mut statement = connection.prepare_cached("DELETE FROM item WHERE pk = ?1 AND sk = ?2")?;
            Ok(statement.execute(params![pk, sk])? > 0 || change.condition == Unconditional)
        }
        (ChangeKind::Delete, Version(old)) => {
            let mut statement =
                connection.prepare_cached("DELETE FROM item WHERE pk = ?1 AND sk = ?2 AND version = ?3")?;
            Ok(statement.execute(params![pk, sk, old.cast_signed()])? > 0)
        }
        (ChangeKind::Delete, Absent) | (ChangeKind::Check, _) => {
            let mut statement = connection.prepare_cached("SELECT version FROM item WHERE pk = ?1 AND sk = ?2")?;
            let stored = statement.query_row(params![pk, sk], |row| row.get::<_, i64>(0)).optional()?;
            Ok(match change.condition {
                Unconditional => true,
                Absent => stored.is_none(),
                Present => stored.is_some(),
                Version(version) => stored == Some(version.cast_signed()),
            })
        }
    }
}

/// Deletes up to `limit` items that expired before an instant, in seconds since 1970, the longest expired first;
/// answers how many.
pub(crate) fn delete_expired(connection: &Connection, before: i64, limit: usize) -> rusqlite::Result<usize> {
    let mut statement = connection.prepare_cached(
        "DELETE FROM item WHERE rowid IN
         (SELECT rowid FROM item WHERE expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
    )?;
    statement.execute(params![before, limit as i64])
}
