//! The data directory: its owner's alone, used by one process at a time, and not one of an earlier release.
//!
//! The database must not be opened and closed by anything else in this process while it is in use: closing any handle
//! of a file gives up the locks that SQLite holds on it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use crate::error::OpenError;

/// Name of the database in the data directory. SQLite puts its log and its index of the log beside it.
pub const FILE: &str = "store.sqlite";
/// Name of the file that the process locks that has the directory open.
const LOCK: &str = "store.lock";
/// Name of the table's file in releases that kept it in an engine of the cloud's protocol.
const FORMER: &str = "table.sqlite";

/// A directory that this process has locked. Given up when it is dropped or when the process dies.
pub(crate) struct Directory {
    /// The database.
    pub(crate) file: PathBuf,
    _lock: File,
}

impl Directory {
    /// Makes the directory and an empty database where there are none, both for their owner alone, and locks it.
    pub(crate) fn claim(path: &Path) -> std::result::Result<Self, OpenError> {
        let cannot = |source| OpenError::Directory { path: path.to_owned(), source };
        make_private(path).map_err(cannot)?;
        if path.join(FORMER).exists() {
            return Err(OpenError::FormerEngine { path: path.to_owned(), former: FORMER });
        }
        let lock = private().read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
        let lock = lock.map_err(cannot)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(cannot(source)),
        }
        let file = path.join(FILE);
        create_file(&file).map_err(cannot)?;
        Ok(Self { file, _lock: lock })
    }
}

/// Makes a directory with all above it, for its owner alone, such that it outlives a power cut. One that is there
/// keeps its permissions.
pub(crate) fn make_private(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_private(parent)?;
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        outcome => outcome.and_then(|()| sync_directory(parent)),
    }
}

/// Creates an empty file for its owner alone, or takes the others' permissions away from one that is there, and from
/// SQLite's files beside it. SQLite gives new ones the permissions of the database.
fn create_file(file: &Path) -> Result<()> {
    match private().write(true).create_new(true).open(file) {
        Ok(_) => sync_directory(file.parent().ok_or(Error::from(ErrorKind::InvalidFilename))?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            for suffix in ["", "-wal", "-shm"] {
                let mut beside = file.as_os_str().to_owned();
                beside.push(suffix);
                make_file_private(Path::new(&beside))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn make_file_private(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(not(unix))]
fn make_file_private(_: &Path) -> Result<()> {
    Ok(())
}

/// Options that create a file for its owner alone.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a directory's entries to the disk, so that a new file in it outlives a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(path)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_user_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er");
        let ours = Directory::claim(&path).unwrap();
        assert!(matches!(Directory::claim(&path), Err(OpenError::InUse(_))));
        drop(ours);
        Directory::claim(&path).unwrap();
    }

    #[test]
    fn a_directory_of_the_former_engine_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FORMER), "SQLite format 3").unwrap();
        let refused = Directory::claim(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("table.sqlite") && refused.contains("choose another directory"), "{refused}");
        assert!(!folder.path().join(FILE).exists(), "nothing was made in it");
    }

    #[test]
    #[cfg(unix)]
    fn directory_and_files_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        drop(Directory::claim(&path).unwrap());
        assert_eq!((mode(&path), mode(&path.join(FILE)), mode(&path.join(LOCK))), (0o700, 0o600, 0o600));
        let wal = path.join("store.sqlite-wal");
        std::fs::write(&wal, "").unwrap();
        for file in [&path.join(FILE), &wal] {
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        drop(Directory::claim(&path).unwrap());
        assert_eq!((mode(&path.join(FILE)), mode(&wal)), (0o600, 0o600));
    }
}
