//! A consistent copy of a database in use, and the check of its structure. Both read one snapshot, on a thread of
//! their own; the log grows while they run.

use std::path::Path;

use rusqlite::Connection;

use crate::database::open_reader;
use crate::directory::{FILE, make_private, private, sync_directory};
use crate::error::BackupError;

/// Copies the database `file` into the directory `to`, whole or not at all. The copy has no free pages and is on the
/// disk when this returns.
pub(crate) fn copy(file: &Path, to: &Path) -> Result<(), BackupError> {
    let target = to.join(FILE);
    let partial = to.join(format!("{FILE}.partial"));
    let cannot = |source| BackupError::Directory { path: to.to_owned(), source };
    make_private(to).map_err(cannot)?;
    if target.exists() {
        return Err(BackupError::Exists(target));
    }
    // SQLite writes into an empty file that is there, and keeps its permissions.
    private().write(true).create(true).truncate(true).open(&partial).map_err(cannot)?;
    let place = partial.to_str().ok_or_else(|| cannot(std::io::ErrorKind::InvalidFilename.into()))?;
    open_reader(file)?.execute("VACUUM INTO ?1", [place])?;
    let finish = || {
        std::fs::OpenOptions::new().write(true).open(&partial)?.sync_all()?;
        std::fs::rename(&partial, &target)?;
        sync_directory(to)
    };
    finish().map_err(cannot)
}

/// Reads the whole database and answers the faults of its structure; none where it is sound.
pub(crate) fn check(file: &Path) -> Result<Vec<String>, BackupError> {
    let connection: Connection = open_reader(file)?;
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let found = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(found.into_iter().filter(|line| line != "ok").collect())
}
