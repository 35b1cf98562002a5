//! One suite, over every store.

use std::sync::Arc;

use quell_controller::store::{
    Batch, DiskStore, Error, Fence, Guard, LEASE_TAKEN, MemoryStore, RESTORED, Revision, Store, starts_after_restore,
};
use quell_engine::state::Table;
use serde_json::json;

use super::support::{at, change, commit, put, remove, small};

/// A store, and what must live as long as it.
type Made = (Box<dyn Store>, Option<tempfile::TempDir>);

type Make = fn() -> Made;

fn memory() -> Made {
    (Box::new(MemoryStore::new()), None)
}

fn disk() -> Made {
    let directory = tempfile::tempdir().unwrap();
    let store = DiskStore::create(&directory.path().join("data"), small()).unwrap();
    (Box::new(store), Some(directory))
}

/// Every store; a new one is one line.
const STORES: [(&str, Make); 2] = [("memory", memory), ("log and sled", disk)];

fn over_all(test: fn(&mut dyn Store)) {
    for (name, make) in STORES {
        let (mut store, _directory) = make();
        // A panic names its thread, and so the store that it is about.
        let named = std::thread::Builder::new().name(name.to_owned());
        let passed =
            std::thread::scope(|scope| named.spawn_scoped(scope, || test(store.as_mut())).unwrap().join().is_ok());
        assert!(passed, "{name} does not conform");
    }
}

#[test]
fn an_empty_store_has_no_rows_no_records_and_no_writer() {
    over_all(|store| {
        assert_eq!(store.reader().head().sequence, 0);
        assert!(store.scan(None).unwrap().is_empty());
        assert!(store.reader().records(0, 10).unwrap().is_empty());
        assert!(store.get(Table::Meta, "meta").unwrap().is_none());
        let refused = commit(store, Fence::default(), vec![change("a", 1, vec![])]);
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
    });
}

#[test]
fn a_batch_makes_records_in_order_and_their_writes() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        let batch = vec![
            change("a", 1, vec![put(Table::Hosts, "one", json!({"v": 1})), put(Table::Hosts, "two", json!({"v": 2}))]),
            change("b", 2, vec![put(Table::Hosts, "one", json!({"v": 3})), remove(Table::Hosts, "two")]),
            change("c", 3, vec![put(Table::Tokens, "one", json!([1, 2]))]),
        ];
        assert_eq!(commit(store, fence, batch).unwrap(), Revision(4));
        let row = store.get(Table::Hosts, "one").unwrap().unwrap();
        assert_eq!((row.value, row.revision), (json!({"v": 3}), Revision(3)));
        assert!(store.get(Table::Hosts, "two").unwrap().is_none());
        assert!(store.get(Table::Plans, "one").unwrap().is_none());
        let keys = |table| {
            let rows = store.scan(table).unwrap();
            rows.into_iter().map(|row| (row.table, row.key)).collect::<Vec<_>>()
        };
        assert_eq!(keys(Some(Table::Hosts)), [(Table::Hosts, "one".to_owned())]);
        assert_eq!(keys(None), [(Table::Hosts, "one".to_owned()), (Table::Tokens, "one".to_owned())]);
        let records = store.reader().records(1, 10).unwrap();
        let kinds: Vec<&str> = records.iter().map(|record| record.kind.as_str()).collect();
        assert_eq!(kinds, [LEASE_TAKEN, "a", "b", "c"]);
        assert_eq!(records[2].time, at(2));
        assert_eq!(records[2].data, json!({"second": 2}));
        assert_eq!(records[2].ids["host"], "planthost1");
        assert_eq!(records[1].writes.len(), 2);
    });
}

#[test]
fn records_are_chained_by_the_hash_of_the_bytes_that_are_stored() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        commit(store, fence, vec![change("a", 1, vec![]), change("b", 2, vec![])]).unwrap();
        commit(store, fence, vec![change("c", 3, vec![])]).unwrap();
        let records = store.reader().records(1, 10).unwrap();
        assert_eq!(records[0].previous, quell_model::digest::Digest::default());
        for pair in records.windows(2) {
            let bytes = serde_json::to_vec(&*pair[0]).unwrap();
            assert_eq!(pair[1].previous, quell_model::digest::Digest::of(&bytes));
            assert_eq!(pair[0].hash, pair[1].previous);
        }
        assert_eq!(store.reader().head().hash, records[3].hash);
    });
}

#[test]
fn a_guard_that_does_not_hold_stops_the_whole_batch() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        let row = |revision| Guard::Row { table: Table::Hosts, key: "one".to_owned(), revision: Revision(revision) };
        let mut with = |guards: Vec<Guard>| {
            let changes = vec![change("a", 1, vec![put(Table::Hosts, "one", json!(1))])];
            store.commit(Batch { guards, changes, fence })
        };
        assert_eq!(with(vec![row(0)]).unwrap(), Revision(2));
        for refused in [vec![row(0)], vec![row(1)], vec![row(2), Guard::Head(Revision(1))]] {
            let result = with(refused);
            assert!(matches!(result, Err(Error::Conflict { .. })), "{result:?}");
        }
        assert_eq!(with(vec![row(2), Guard::Head(Revision(2))]).unwrap(), Revision(3));
        assert_eq!(store.reader().records(1, 10).unwrap().len(), 3);
    });
}

#[test]
fn an_empty_batch_only_asks() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        let mut ask = |head| store.commit(Batch { guards: vec![Guard::Head(Revision(head))], changes: vec![], fence });
        assert_eq!(ask(1).unwrap(), Revision(1));
        assert!(ask(2).is_err());
        assert_eq!(store.reader().head().sequence, 1);
    });
}

#[test]
fn a_new_lease_ends_the_old_one() {
    over_all(|store| {
        let old = store.lease("first", at(0)).unwrap();
        commit(store, old, vec![change("a", 1, vec![])]).unwrap();
        let new = store.lease("second", at(2)).unwrap();
        assert!(new > old);
        let refused = commit(store, old, vec![change("b", 3, vec![put(Table::Hosts, "one", json!(1))])]);
        assert!(matches!(refused, Err(Error::Fenced { .. })), "{refused:?}");
        assert!(store.get(Table::Hosts, "one").unwrap().is_none());
        commit(store, new, vec![change("b", 3, vec![])]).unwrap();
    });
}

#[test]
fn records_are_read_from_anywhere_and_in_parts() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        super::support::fill(store, fence, 3_000, 20);
        let reader = store.reader();
        for (from, limit, first, count) in [(0, 5, 1, 5), (1, 5, 1, 5), (2_000, 7, 2_000, 7), (2_999, 50, 2_999, 3)] {
            let sequences: Vec<u64> =
                reader.records(from, limit).unwrap().iter().map(|record| record.sequence).collect();
            assert_eq!(sequences, (first..first + count).collect::<Vec<u64>>());
        }
        assert!(reader.records(3_002, 5).unwrap().is_empty());
        assert!(reader.records(1, 0).unwrap().is_empty());
        super::support::check_whole(store, 1);
    });
}

#[test]
fn a_follower_on_another_thread_misses_nothing() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        let reader = store.reader();
        let follower = std::thread::spawn(move || {
            let mut heads = reader.watch();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut seen: Vec<u64> = Vec::new();
            while seen.last() != Some(&2_001) {
                let next = seen.last().map_or(1, |last| last + 1);
                let found = reader.records(next, 100).unwrap();
                seen.extend(found.iter().map(|record| record.sequence));
                if found.is_empty() {
                    runtime.block_on(heads.wait_for(|head| head.sequence >= next)).unwrap();
                }
            }
            seen
        });
        super::support::fill(store, fence, 2_000, 10);
        assert_eq!(follower.join().unwrap(), (1..=2_001).collect::<Vec<u64>>());
    });
}

#[test]
fn something_large_comes_back_whole() {
    over_all(|store| {
        let fence = store.lease("test", at(0)).unwrap();
        let large = json!({ "text": "y".repeat(40_000) });
        let mut made = change("a", 1, vec![put(Table::Plans, "plan-1", large.clone())]);
        made.data = json!({ "preview": "z".repeat(50_000) });
        commit(store, fence, vec![made]).unwrap();
        assert_eq!(store.get(Table::Plans, "plan-1").unwrap().unwrap().value, large);
        assert_eq!(store.scan(Some(Table::Plans)).unwrap()[0].value, large);
        let records = store.reader().records(2, 1).unwrap();
        assert_eq!(records[0].data["preview"].as_str().unwrap().len(), 50_000);
    });
}

#[test]
fn a_restore_is_known_until_something_else_is_recorded() {
    over_all(|store| {
        let reader: Arc<_> = store.reader();
        assert!(!starts_after_restore(&*reader).unwrap());
        let fence = store.lease("test", at(0)).unwrap();
        commit(store, fence, vec![change(RESTORED, 1, vec![])]).unwrap();
        assert!(starts_after_restore(&*reader).unwrap());
        let fence = store.lease("controller", at(2)).unwrap();
        assert!(starts_after_restore(&*reader).unwrap());
        commit(store, fence, vec![change("started", 3, vec![])]).unwrap();
        assert!(!starts_after_restore(&*reader).unwrap());
    });
}
