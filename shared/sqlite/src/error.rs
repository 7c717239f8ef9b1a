//! Errors of opening and copying a database, and the port's errors for SQLite's.

use std::path::PathBuf;

use rusqlite::ErrorCode;
use store::port::StoreError;

/// Extended code of SQLite for a write that the operating system refused for another reason than a full disk, such as
/// a quota or a limit on the size of files.
const WRITE_REFUSED: i32 = 778;

/// A store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made, entered or locked.
    #[error("cannot use the data directory {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process has the directory open.
    #[error("another process is using the data directory {}", .0.display())]
    InUse(PathBuf),
    /// The directory was written by a release that kept its table in another form.
    #[error(
        "the data directory {} holds {former}, the table of an earlier release, which this release cannot read; \
         choose another directory, or move that file away to start with nothing",
        .path.display()
    )]
    FormerEngine {
        /// The directory.
        path: PathBuf,
        /// Name of the file that shows it.
        former: &'static str,
    },
    /// The file is a database of something else.
    #[error("{} is not a database of this service", .0.display())]
    Foreign(PathBuf),
    /// The file was written by a newer release.
    #[error("{} has version {version} of the table, and this release knows {known}", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The newest version that this release knows.
        known: i64,
    },
    /// SQLite refused: the file is damaged, or the disk is full, or it is no database.
    #[error("cannot open the database {}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: rusqlite::Error,
    },
    /// The operating system gave no thread.
    #[error("cannot start a thread for the database")]
    Thread(#[source] std::io::Error),
}

/// A database cannot be copied or checked.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The target holds a database already; it is left as it is.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The target directory or file cannot be made.
    #[error("cannot write the copy to {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// SQLite could not read the database or write the copy.
    #[error("cannot copy or check the database")]
    Database(#[from] rusqlite::Error),
    /// The thread that did the work is gone.
    #[error("the work on the database ended early")]
    Ended,
}

/// A statement failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// A stored body cannot be read.
    Damaged {
        /// Partition key of the item.
        pk: String,
        /// Sort key of the item.
        sk: String,
    },
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Sqlite(error) => store_error(&error),
            Failure::Damaged { pk, sk } => StoreError::Refused(format!("the body of {pk:?} {sk:?} is damaged")),
        }
    }
}

/// The port's error for one of SQLite's.
pub(crate) fn store_error(error: &rusqlite::Error) -> StoreError {
    let rusqlite::Error::SqliteFailure(failure, _) = error else {
        return StoreError::Refused(error.to_string());
    };
    match failure.code {
        ErrorCode::DiskFull => StoreError::Full(error.to_string()),
        ErrorCode::SystemIoFailure if failure.extended_code == WRITE_REFUSED => {
            StoreError::Full(format!("the disk takes no more: {error}"))
        }
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            StoreError::Refused(format!("the database is damaged and needs its backup: {error}"))
        }
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::SystemIoFailure
        | ErrorCode::OutOfMemory
        | ErrorCode::OperationInterrupted
        | ErrorCode::FileLockingProtocolFailed => StoreError::Busy(error.to_string()),
        _ => StoreError::Refused(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_sqlite_mean_full_busy_or_refused() {
        let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        let cases = [
            (rusqlite::ffi::SQLITE_FULL, "full"),
            (WRITE_REFUSED, "full"),
            (rusqlite::ffi::SQLITE_BUSY, "busy"),
            (rusqlite::ffi::SQLITE_IOERR_FSYNC, "busy"),
            (rusqlite::ffi::SQLITE_CORRUPT, "refused"),
            (rusqlite::ffi::SQLITE_READONLY, "refused"),
        ];
        for (code, expected) in cases {
            let is = match store_error(&failure(code)) {
                StoreError::Full(_) => "full",
                StoreError::Busy(_) => "busy",
                StoreError::Refused(_) => "refused",
                StoreError::Conflict { .. } => "conflict",
            };
            assert_eq!(is, expected, "{code}");
        }
    }
}
