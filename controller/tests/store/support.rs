//! What the tests share.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use jiff::Timestamp;
use quell_controller::store::{Batch, DiskStore, Error, Fence, Options, Reader, Revision, Store};
use quell_engine::{Actor, Change, Write, state::Table};
use serde_json::{Value, json};

/// The second that a record is made at.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(crate) fn put(table: Table, key: &str, row: Value) -> Write {
    Write { table, key: key.to_owned(), row: Some(row) }
}

pub(crate) fn remove(table: Table, key: &str) -> Write {
    Write { table, key: key.to_owned(), row: None }
}

pub(crate) fn change(kind: &'static str, second: i64, writes: Vec<Write>) -> Change {
    Change {
        time: at(second),
        actor: Actor::Timer,
        kind,
        text: format!("{kind} happened"),
        ids: BTreeMap::from([("host", "planthost1".to_owned())]),
        data: json!({ "second": second }),
        writes,
    }
}

pub(crate) fn commit(store: &mut dyn Store, fence: Fence, changes: Vec<Change>) -> Result<Revision, Error> {
    store.commit(Batch { guards: vec![], changes, fence })
}

/// Small files, so that a test meets several of them.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 64 << 10, reserve_bytes: 16 << 10, ..Options::default() }
}

/// Commits so many records of about `size` bytes, each of which writes its own sequence number.
pub(crate) fn fill(store: &mut dyn Store, fence: Fence, count: u64, size: usize) {
    for _ in 0..count {
        let next = store.reader().head().sequence + 1;
        let row = json!({ "number": next, "padding": "x".repeat(size) });
        let key = format!("key-{:03}", next % 50);
        let second = i64::try_from(next).unwrap();
        commit(store, fence, vec![change("numbered", second, vec![put(Table::Onces, &key, row)])]).unwrap();
    }
}

/// Checks that the records from `from` on are all there, each linked to the one before, and that the rows of
/// [`fill`] are those that the records wrote.
pub(crate) fn check_whole(store: &dyn Store, from: u64) {
    let reader: Arc<dyn Reader> = store.reader();
    let records = reader.records(from, usize::MAX).unwrap();
    assert_eq!(records.first().map(|record| record.sequence), Some(from));
    assert_eq!(records.last().map(|record| record.sequence), Some(reader.head().sequence));
    assert_eq!(records.last().map(|record| record.hash), Some(reader.head().hash));
    for pair in records.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        assert_eq!(pair[1].previous, pair[0].hash);
    }
    for row in store.scan(Some(Table::Onces)).unwrap() {
        assert_eq!(row.value["number"], json!(row.revision.0));
    }
}

/// Rows and records, to compare two stores.
pub(crate) fn everything(store: &dyn Store) -> (Vec<(String, Value, u64)>, Vec<String>) {
    let rows = store.scan(None).unwrap();
    let rows = rows.into_iter().map(|row| (format!("{:?}/{}", row.table, row.key), row.value, row.revision.0));
    let records = store.reader().records(1, usize::MAX).unwrap();
    (rows.collect(), records.iter().map(|record| format!("{} {}", record.sequence, record.hash)).collect())
}

pub(crate) fn open(directory: &Path) -> Result<DiskStore, Error> {
    DiskStore::open(directory, small())
}
