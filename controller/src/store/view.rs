//! The rows in sled: what is read, and never what is true.
//!
//! sled's own flush does not survive a power cut, and a damaged file can make it panic. So everything here may fail, every
//! call is fenced against panics, and whoever uses it compares it with the log and builds it anew when it differs.

use std::{
    fs::File,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    time::Duration,
};

use quell_engine::state::Table;
use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{
    Error, Head, Revision, files,
    record::Record,
    rows::{Content, Held, Rows, content},
};

/// Holds the head of the log that the rows belong to. Keys of rows begin with the name of a table.
const HEAD: &[u8] = b"\0head";

/// What sled says of a directory whose lock somebody holds.
const LOCKED: &str = "could not acquire lock";
/// So often a lock is waited for,
const MOST_WAITS: u32 = 200;
/// and so long each time.
const WAIT: Duration = Duration::from_millis(10);

/// Memory that sled may use for its pages.
const CACHE_BYTES: u64 = 16 << 20;

/// An open view.
#[derive(Debug)]
pub(crate) struct View {
    db: sled::Db,
    directory: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct StoredHead(u64, Digest);

/// A row's JSON, or the file that holds it, with its revision.
#[derive(Serialize, Deserialize)]
struct StoredRow(u64, Option<serde_json::Value>, Option<Digest>);

impl View {
    /// Opens the view in a directory, or makes an empty one.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        files::make_directory(directory)?;
        let config = sled::Config::new().path(directory).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        let db = patiently(|| guarded(|| config.open()))?;
        Ok(Self { db, directory: directory.to_owned() })
    }

    /// Everything in it, and the head of the log that it belongs to.
    pub(crate) fn contents(&self) -> Result<(Head, Rows), Error> {
        guarded(|| {
            let mut head = Head::default();
            let mut rows = Rows::default();
            for entry in self.db.iter() {
                let (key, value) = entry?;
                if key == HEAD {
                    let StoredHead(sequence, hash) = serde_json::from_slice(&value).map_err(unreadable)?;
                    head = Head { sequence, hash };
                } else {
                    rows.0.insert(decode_key(&key)?, decode_row(&value)?);
                }
            }
            Ok((head, rows))
        })
    }

    /// One row.
    pub(crate) fn get(&self, table: Table, key: &str) -> Result<Option<Held>, Error> {
        guarded(|| self.db.get(encode_key(table, key))?.map(|value| decode_row(&value)).transpose())
    }

    /// Makes the writes of records, all or none.
    pub(crate) fn apply<'a>(&self, records: impl Iterator<Item = &'a Record>, head: Head) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for record in records {
            for write in &record.writes {
                let key = encode_key(write.table, &write.key);
                match content(write) {
                    Some(content) => batch.insert(key, encode_row(Revision(record.sequence), &content)),
                    None => batch.remove(key),
                }
            }
        }
        batch.insert(HEAD, super::chain::to_json(&StoredHead(head.sequence, head.hash)));
        guarded(|| self.db.apply_batch(batch))
    }

    /// Makes the rows those of `to`, all or none; it holds those of `from`.
    pub(crate) fn catch_up(&self, from: &Rows, to: &Rows, head: Head) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        for (table, key) in from.0.keys().filter(|at| !to.0.contains_key(*at)) {
            batch.remove(encode_key(*table, key));
        }
        for (at, held) in to.0.iter().filter(|(at, held)| from.0.get(*at) != Some(*held)) {
            batch.insert(encode_key(at.0, &at.1), encode_row(held.revision, &held.content));
        }
        batch.insert(HEAD, super::chain::to_json(&StoredHead(head.sequence, head.hash)));
        guarded(|| self.db.apply_batch(batch))?;
        self.sync()
    }

    /// Writes everything to the disk, and syncs the files ourselves: sled does not.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        guarded(|| self.db.flush())?;
        for name in files::names(&self.directory)? {
            let path = self.directory.join(name);
            if path.is_file() {
                File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("sync", &path))?;
            }
        }
        files::sync_directory(&self.directory)
    }
}

/// Opens what this process may have closed a moment ago: sled lets go of its lock on threads of its own, some time after the
/// last handle is gone. Nobody else can hold it, as the data directory is locked by ourselves.
fn patiently<T>(mut open: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    for _ in 0..MOST_WAITS {
        match open() {
            Err(Error::View(why)) if why.contains(LOCKED) => std::thread::sleep(WAIT),
            opened => return opened,
        }
    }
    open()
}

/// Runs something of sled's; an error or a panic in it says that the view cannot be used.
fn guarded<T>(work: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, Error> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| Error::View(error.to_string())),
        Err(_) => Err(Error::View("sled panicked".to_owned())),
    }
}

fn encode_key(table: Table, key: &str) -> Vec<u8> {
    let mut bytes = super::chain::to_json(&table);
    bytes.push(0);
    bytes.extend(key.as_bytes());
    bytes
}

fn decode_key(bytes: &[u8]) -> Result<(Table, String), sled::Error> {
    let split = bytes.iter().position(|byte| *byte == 0).ok_or_else(|| unreadable("a key without a table"))?;
    let table = serde_json::from_slice(&bytes[..split]).map_err(unreadable)?;
    let key = std::str::from_utf8(&bytes[split + 1..]).map_err(unreadable)?;
    Ok((table, key.to_owned()))
}

fn encode_row(revision: Revision, content: &Content) -> Vec<u8> {
    super::chain::to_json(&match content {
        Content::Inline(row) => StoredRow(revision.0, Some(row.clone()), None),
        Content::Blob(digest) => StoredRow(revision.0, None, Some(*digest)),
    })
}

fn decode_row(bytes: &[u8]) -> Result<Held, sled::Error> {
    let StoredRow(revision, row, blob) = serde_json::from_slice(bytes).map_err(unreadable)?;
    let content = match (row, blob) {
        (_, Some(digest)) => Content::Blob(digest),
        (Some(row), None) => Content::Inline(row),
        (None, None) => return Err(unreadable("a row without content")),
    };
    Ok(Held { revision: Revision(revision), content })
}

fn unreadable(reason: impl std::fmt::Display) -> sled::Error {
    sled::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_let_go_late_is_waited_for_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let held = View::open(directory.path()).unwrap();
        let config = sled::Config::new().path(directory.path());
        let why = guarded(|| config.open()).unwrap_err().to_string();
        assert!(why.contains(LOCKED), "sled says it in other words: {why}");
        let (mut held, mut asked) = (Some(held), 0);
        patiently(|| {
            asked += 1;
            held = held.take().filter(|_| asked < 3);
            guarded(|| config.open())
        })
        .unwrap();
        assert!(asked >= 3, "it was asked {asked} times");
        let mut asked = 0;
        let refused = patiently::<()>(|| {
            asked += 1;
            Err(Error::View("damaged".to_owned()))
        });
        assert!(refused.is_err() && asked == 1, "{refused:?} after {asked}");
    }
}
