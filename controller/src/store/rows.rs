//! Rows as the log left them, in memory: what the memory store is, and what a checkpoint holds.

use std::collections::BTreeMap;

use quell_engine::state::Table;
use quell_model::digest::Digest;

use super::{Revision, record::Record};

/// What a row holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// The row itself.
    Inline(serde_json::Value),
    /// The file that holds it.
    Blob(Digest),
}

/// A row and the record that wrote it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// The record.
    pub(crate) revision: Revision,
    /// The row.
    pub(crate) content: Content,
}

/// All rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rows(pub(crate) BTreeMap<(Table, String), Held>);

impl Rows {
    pub(crate) fn get(&self, table: Table, key: &str) -> Option<&Held> {
        self.0.get(&(table, key.to_owned()))
    }

    /// Makes the writes of a record, in their order.
    pub(crate) fn apply(&mut self, record: &Record) {
        for write in &record.writes {
            let at = (write.table, write.key.clone());
            match content(write) {
                Some(content) => self.0.insert(at, Held { revision: Revision(record.sequence), content }),
                None => self.0.remove(&at),
            };
        }
    }
}

/// What a write leaves behind; `None`: nothing, it is a removal.
pub(crate) fn content(write: &super::RecordWrite) -> Option<Content> {
    match (&write.row, write.blob) {
        (_, Some(digest)) => Some(Content::Blob(digest)),
        (Some(row), None) => Some(Content::Inline(row.clone())),
        (None, None) => None,
    }
}
