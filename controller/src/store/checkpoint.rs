//! Checkpoints: all rows as they were after some record, so that a rebuild need not begin with the first one.
//!
//! A file of lines: what it is, one line a row, one line a file that records name, and the SHA-256 of all that as the
//! last one. It is put in place whole. The newest two are kept.

use std::{collections::BTreeMap, path::Path};

use quell_engine::state::Table;
use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{
    Error, Fence, Head, Revision,
    chain::to_json,
    files,
    rows::{Content, Held, Rows},
};

const SUFFIX: &str = ".checkpoint";

/// How many are kept: if the newest is damaged, the one before and the log make the same state.
const KEPT: usize = 2;

/// What follows from the log up to a record.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Known {
    pub(crate) head: Head,
    pub(crate) fence: Fence,
    /// The last record that retention has removed.
    pub(crate) trimmed: u64,
    /// The time of the last record, for the store's own records.
    pub(crate) time: jiff::Timestamp,
    pub(crate) rows: Rows,
    /// The files that records name, and the last record that names each.
    pub(crate) blobs: BTreeMap<Digest, u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    sequence: u64,
    hash: Digest,
    fence: u64,
    trimmed: u64,
    time: jiff::Timestamp,
    rows: usize,
    blobs: usize,
}

#[derive(Serialize, Deserialize)]
struct RowLine {
    table: Table,
    key: String,
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    row: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob: Option<Digest>,
}

/// The sequence numbers of the checkpoints in a directory, newest first.
pub(crate) fn list(directory: &Path) -> Result<Vec<u64>, Error> {
    let names = files::names(directory)?;
    let mut found: Vec<u64> = names.iter().filter_map(|name| sequence_of(name)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    Ok(found)
}

/// The record after which a checkpoint of this name was made.
pub(crate) fn sequence_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX).filter(|digits| digits.len() == 20)?.parse().ok()
}

/// The name of the checkpoint after a record.
pub(crate) fn name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

/// Writes a checkpoint; durable when it returns.
pub(crate) fn write(directory: &Path, known: &Known) -> Result<(), Error> {
    let about = About {
        sequence: known.head.sequence,
        hash: known.head.hash,
        fence: known.fence.0,
        trimmed: known.trimmed,
        time: known.time,
        rows: known.rows.0.len(),
        blobs: known.blobs.len(),
    };
    let mut bytes = to_json(&about);
    bytes.push(b'\n');
    for ((table, key), held) in &known.rows.0 {
        let (row, blob) = match &held.content {
            Content::Inline(row) => (Some(row.clone()), None),
            Content::Blob(digest) => (None, Some(*digest)),
        };
        bytes.extend(to_json(&RowLine { table: *table, key: key.clone(), revision: held.revision.0, row, blob }));
        bytes.push(b'\n');
    }
    for blob in &known.blobs {
        bytes.extend(to_json(&blob));
        bytes.push(b'\n');
    }
    let digest = Digest::of(&bytes);
    bytes.extend(digest.to_string().into_bytes());
    files::replace(&directory.join(name(known.head.sequence)), &bytes)
}

/// Removes all but the newest ones.
pub(crate) fn prune(directory: &Path) -> Result<(), Error> {
    for sequence in list(directory)?.into_iter().skip(KEPT) {
        files::remove(&directory.join(name(sequence)))?;
    }
    Ok(())
}

/// Removes those that cannot be read.
pub(crate) fn remove_damaged(directory: &Path) -> Result<(), Error> {
    for sequence in list(directory)? {
        if read(directory, sequence).is_none() {
            files::remove(&directory.join(name(sequence)))?;
        }
    }
    Ok(())
}

/// Reads a checkpoint; `None`: it is damaged or missing.
pub(crate) fn read(directory: &Path, sequence: u64) -> Option<Known> {
    let bytes = std::fs::read(directory.join(name(sequence))).ok()?;
    let body = bytes.len().checked_sub(64)?;
    let (body, digest) = bytes.split_at(body);
    if Digest::of(body).to_string().as_bytes() != digest {
        return None;
    }
    let mut lines = body.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
    let about: About = serde_json::from_slice(lines.next()?).ok()?;
    let mut known = Known {
        head: Head { sequence: about.sequence, hash: about.hash },
        fence: Fence(about.fence),
        trimmed: about.trimmed,
        time: about.time,
        ..Known::default()
    };
    for line in lines.by_ref().take(about.rows) {
        let row: RowLine = serde_json::from_slice(line).ok()?;
        let content = match (row.row, row.blob) {
            (_, Some(digest)) => Content::Blob(digest),
            (Some(row), None) => Content::Inline(row),
            (None, None) => return None,
        };
        known.rows.0.insert((row.table, row.key), Held { revision: Revision(row.revision), content });
    }
    for line in lines {
        let (digest, last): (Digest, u64) = serde_json::from_slice(line).ok()?;
        known.blobs.insert(digest, last);
    }
    (known.rows.0.len() == about.rows && known.blobs.len() == about.blobs && about.sequence == sequence)
        .then_some(known)
}
