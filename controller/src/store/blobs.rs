//! Rows and data too large for the log: files named by the SHA-256 of what is in them.
//!
//! A file is durable before the record that names it, and goes when neither a record of the log nor a row names it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use quell_model::digest::Digest;

use super::{Error, checkpoint::Known, error::RESTORE, files, rows::Content};

/// What is longer than this many bytes as JSON goes into a file.
pub(crate) const INLINE: usize = 16 << 10;

/// The directory of the files.
#[derive(Debug, Clone)]
pub(crate) struct Blobs(pub(crate) PathBuf);

impl Blobs {
    /// Keeps something; durable when it returns.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.path(digest);
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            // A file is put in place only after its data was synced, but its name may not have been.
            files::sync_directory(&self.0)?;
            return Ok(digest);
        }
        files::replace(&path, bytes)?;
        Ok(digest)
    }

    /// Reads something back.
    pub(crate) fn get(&self, digest: Digest) -> Result<serde_json::Value, Error> {
        let path = self.path(digest);
        let bytes = std::fs::read(&path).ok().filter(|bytes| Digest::of(bytes) == digest);
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| missing(&path, "what it held"))
    }

    pub(crate) fn path(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.to_string())
    }

    /// Checks every file that is named by a record or a row, says which rows a loss concerns, and removes files that
    /// nothing names: what a crash left before the record was written.
    pub(crate) fn check(&self, known: &Known) -> Result<(), Error> {
        for ((table, key), held) in &known.rows.0 {
            if let Content::Blob(digest) = held.content
                && self.get(digest).is_err()
            {
                return Err(missing(&self.path(digest), &format!("row {key:?} of table {table:?}")));
            }
        }
        for (digest, last) in &known.blobs {
            if self.get(*digest).is_err() {
                return Err(missing(&self.path(*digest), &format!("data of record {last}, and perhaps earlier ones")));
            }
        }
        self.sweep(known, 0)
    }

    /// Removes the files that neither a row nor a record from `oldest` on names.
    pub(crate) fn sweep(&self, known: &Known, oldest: u64) -> Result<(), Error> {
        let rows = known.rows.0.values().filter_map(|held| match held.content {
            Content::Blob(digest) => Some(digest),
            Content::Inline(_) => None,
        });
        let records = known.blobs.iter().filter(|(_, last)| **last >= oldest).map(|(digest, _)| *digest);
        let named: BTreeSet<String> = rows.chain(records).map(|digest| digest.to_string()).collect();
        for name in files::names(&self.0)? {
            if !named.contains(&name) {
                files::remove(&self.0.join(name))?;
            }
        }
        Ok(())
    }
}

fn missing(path: &Path, lost: &str) -> Error {
    Error::Damaged { what: format!("{} is missing or damaged", path.display()), lost: lost.to_owned(), remedy: RESTORE }
}
