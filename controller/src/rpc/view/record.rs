//! Records of the log.

use quell_wire::v1::RecordView;

use super::time;
use crate::store::Record;

/// One record.
pub fn record(record: &Record) -> RecordView {
    RecordView {
        sequence: record.sequence,
        time: time(record.time),
        actor: record.actor.to_string(),
        kind: record.kind.clone(),
        text: record.text.clone(),
        ids: record.ids.clone().into_iter().collect(),
        data: if record.data.is_null() { String::new() } else { record.data.to_string() },
        previous: record.previous.to_string(),
        hash: record.hash.to_string(),
    }
}
