//! Records: what the log holds, the audit shows and `quell events` prints.
//!
//! A record is stored as one line of JSON, and those exact bytes are what is hashed: one representation for the log, the
//! audit's export and the command line, readable without this program. Fields are only ever added.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_engine::{Actor, state::Table};
use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};

/// A change in its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its number: 1, 2, 3 … without gaps.
    pub sequence: u64,
    /// When, by the engine's time. It never goes back from one record to the next.
    pub time: Timestamp,
    /// The SHA-256 of the bytes of the record before; all zeros in the first one.
    pub previous: Digest,
    /// Who.
    pub actor: Actor,
    /// What happened: `incidentOpened`, `planMade`, ….
    pub kind: String,
    /// One sentence for people.
    pub text: String,
    /// The names by which it is found again: `incident`, `plan`, `command`, `host`, `policy`, ….
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ids: BTreeMap<String, String>,
    /// The change's own data.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub data: serde_json::Value,
    /// Where the data is when it is too large for the log: the file of this SHA-256. A reader puts it back into `data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_blob: Option<Digest>,
    /// The writes that it caused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writes: Vec<RecordWrite>,
    /// The SHA-256 of its stored bytes: the next record's `previous`. Not stored in the record itself.
    #[serde(skip)]
    pub hash: Digest,
}

/// A write as the log holds it: a row, a row that is too large for the log, or (neither) a removal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordWrite {
    /// The table.
    pub table: Table,
    /// The row's key.
    pub key: String,
    /// The row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<serde_json::Value>,
    /// The file that holds the row, by its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Digest>,
}

impl Record {
    /// Reads a record back from its stored bytes.
    ///
    /// # Errors
    /// It is not the JSON of a record.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let mut record: Self = serde_json::from_slice(bytes)?;
        record.hash = Digest::of(bytes);
        Ok(record)
    }

    /// The files that it names.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.data_blob.into_iter().chain(self.writes.iter().filter_map(|write| write.blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        let record = Record {
            sequence: 7,
            time: Timestamp::UNIX_EPOCH,
            previous: Digest::of(b"x"),
            actor: Actor::Person("mira".to_owned()),
            kind: "planMade".to_owned(),
            text: "a plan was made".to_owned(),
            ids: BTreeMap::from([("plan".to_owned(), "plan-1".to_owned())]),
            data: serde_json::json!({"a": 1}),
            data_blob: None,
            writes: vec![RecordWrite { table: Table::Plans, key: "plan-1".to_owned(), row: None, blob: None }],
            hash: Digest::default(),
        };
        let bytes = serde_json::to_vec(&record).unwrap();
        let back = Record::parse(&bytes).unwrap();
        assert_eq!(back.hash, Digest::of(&bytes));
        assert_eq!(Record { hash: Digest::default(), ..back }, record);
    }
}
