//! How changes become records: the parts of a commit that every store does alike.

use jiff::Timestamp;
use quell_engine::{Actor, Change};
use quell_model::digest::Digest;

use super::{
    Error, Fence, Guard, Head, Reader, Revision,
    record::{Record, RecordWrite},
};

/// The kind of the record by which a controller takes the right to write.
pub const LEASE_TAKEN: &str = "leaseTaken";

/// The kind of the record that ends a restored log: what comes after it is a new epoch.
pub const RESTORED: &str = "restored";

/// A record and the bytes that are stored, hashed and synced.
pub(crate) struct Encoded {
    pub(crate) record: Record,
    pub(crate) bytes: Vec<u8>,
}

/// Where the JSON of something too large for the log goes.
pub(crate) type Spill<'a> = &'a mut dyn FnMut(&[u8]) -> Result<Digest, Error>;

/// Continues the chain at `head`. Rows and data whose JSON is longer than `inline` bytes are given to `spill` and
/// replaced by their digest.
pub(crate) fn extend(head: Head, changes: Vec<Change>, inline: usize, spill: Spill<'_>) -> Result<Vec<Encoded>, Error> {
    let mut head = head;
    let mut encoded = Vec::with_capacity(changes.len());
    for change in changes {
        let next = encode(head, change, inline, spill)?;
        head = Head { sequence: next.record.sequence, hash: next.record.hash };
        encoded.push(next);
    }
    Ok(encoded)
}

fn encode(head: Head, change: Change, inline: usize, spill: Spill<'_>) -> Result<Encoded, Error> {
    let mut record = Record {
        sequence: head.sequence + 1,
        time: change.time,
        previous: head.hash,
        actor: change.actor,
        kind: change.kind.to_owned(),
        text: change.text,
        ids: change.ids.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        data: change.data,
        data_blob: None,
        writes: change
            .writes
            .into_iter()
            .map(|write| RecordWrite {
                table: write.table,
                key: write.key,
                // A row that is null cannot be told from none.
                row: write.row.filter(|row| !row.is_null()),
                blob: None,
            })
            .collect(),
        hash: Digest::default(),
    };
    let mut bytes = to_json(&record);
    if bytes.len() > inline && spill_large_parts(&mut record, inline, spill)? {
        bytes = to_json(&record);
    }
    record.hash = Digest::of(&bytes);
    Ok(Encoded { record, bytes })
}

/// Says whether there was a large part.
fn spill_large_parts(record: &mut Record, inline: usize, spill: Spill<'_>) -> Result<bool, Error> {
    let mut spilled = false;
    let data = to_json(&record.data);
    if data.len() > inline {
        record.data_blob = Some(spill(&data)?);
        record.data = serde_json::Value::Null;
        spilled = true;
    }
    for write in &mut record.writes {
        let Some(row) = &write.row else { continue };
        let row = to_json(row);
        if row.len() > inline {
            write.blob = Some(spill(&row)?);
            write.row = None;
            spilled = true;
        }
    }
    Ok(spilled)
}

/// The JSON of something whose keys are strings and whose numbers are finite by their types.
pub(crate) fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with string keys has a JSON form")
}

/// Asks the guards and the fence.
pub(crate) fn admit(
    guards: &[Guard],
    given: Fence,
    current: Fence,
    head: Head,
    mut revision_of: impl FnMut(quell_engine::state::Table, &str) -> Result<Revision, Error>,
) -> Result<(), Error> {
    if given != current || current == Fence::default() {
        return Err(Error::Fenced { given, current });
    }
    for guard in guards {
        let (what, expected, found) = match guard {
            Guard::Head(revision) => ("the head of the log".to_owned(), *revision, Revision(head.sequence)),
            Guard::Row { table, key, revision } => {
                (format!("row {key:?} of table {table:?}"), *revision, revision_of(*table, key)?)
            }
        };
        if expected != found {
            return Err(Error::Conflict { what, expected, found });
        }
    }
    Ok(())
}

/// The change by which a lease is taken.
pub(crate) fn lease_taken(holder: &str, time: Timestamp) -> Change {
    Change {
        time,
        actor: Actor::Controller,
        kind: LEASE_TAKEN,
        text: format!("{holder} took the right to write"),
        ids: std::collections::BTreeMap::new(),
        data: serde_json::json!({ "holder": holder }),
        writes: Vec::new(),
    }
}

/// Whether nothing but taking the lease has happened since the data directory was restored from a backup.
///
/// # Errors
/// The newest records cannot be read.
pub fn starts_after_restore(reader: &dyn Reader) -> Result<bool, Error> {
    for sequence in (1..=reader.head().sequence).rev() {
        match reader.records(sequence, 1)?.first() {
            Some(record) if record.kind == LEASE_TAKEN => {}
            Some(record) => return Ok(record.kind == RESTORED),
            None => break,
        }
    }
    Ok(false)
}
