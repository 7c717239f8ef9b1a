//! A file of JSON lines to which entries are only ever added: what was written before a kill is there after it.
//!
//! The owner of the state writes an entry for every change and replays all of them at the next start, then rewrites
//! the file with what still counts. Not promised: survival of a power cut (nothing is synced to the disk).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens `path`, creating it and its folder where missing, and returns every whole entry in it, oldest first.
    /// A torn or unreadable line is skipped: it is what a kill in the middle of a write leaves behind.
    pub(crate) fn open<T: DeserializeOwned>(path: &Path) -> io::Result<(Self, Vec<T>)> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let entries =
            text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect::<Vec<T>>();
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        if text.last().is_some_and(|byte| *byte != b'\n') {
            // Else the next entry would be glued to the torn one and lost with it.
            file.write_all(b"\n")?;
        }
        Ok((Self { path: path.to_owned(), file }, entries))
    }

    /// Adds one entry in a single write. A failure is logged, not returned: the state in memory has changed already.
    pub(crate) fn append<T: Serialize>(&mut self, entry: &T) {
        let written = line(entry).and_then(|bytes| self.file.write_all(&bytes));
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), %error, "journal entry lost");
        }
    }

    /// Replaces the whole content. The new file is complete before it takes the old one's name.
    pub(crate) fn compact<T: Serialize>(&mut self, entries: impl IntoIterator<Item = T>) -> io::Result<()> {
        let fresh = self.path.with_extension("jsonl.new");
        let mut writer = io::BufWriter::new(File::create(&fresh)?);
        for entry in entries {
            writer.write_all(&line(&entry)?)?;
        }
        writer.into_inner().map_err(io::IntoInnerError::into_error)?;
        fs::rename(&fresh, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        Ok(())
    }
}

fn line<T: Serialize>(entry: &T) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(entry)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_line_is_skipped_and_does_not_swallow_the_next_entry() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/j.jsonl");
        let (mut journal, entries) = Journal::open::<u32>(&path).unwrap();
        assert!(entries.is_empty());
        journal.append(&1);
        journal.append(&2);
        drop(journal);
        let mut torn = OpenOptions::new().append(true).open(&path).unwrap();
        torn.write_all(b"{\"half\":").unwrap();
        let (mut journal, entries) = Journal::open::<u32>(&path).unwrap();
        assert_eq!(entries, [1, 2]);
        journal.append(&3);
        let (mut journal, entries) = Journal::open::<u32>(&path).unwrap();
        assert_eq!(entries, [1, 2, 3]);
        journal.compact([7, 8]).unwrap();
        journal.append(&9);
        assert_eq!(Journal::open::<u32>(&path).unwrap().1, [7, 8, 9]);
    }
}
