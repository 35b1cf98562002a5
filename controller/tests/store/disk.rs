//! What only the store on disk promises.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use quell_controller::store::{DiskStore, Error, Options, Store as _};
use quell_engine::state::Table;
use serde_json::json;

use super::support::{at, change, check_whole, commit, everything, fill, open, put, small};

#[test]
fn everything_is_there_again_after_a_stop_and_after_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DiskStore::create(directory.path(), small()).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    fill(&mut store, fence, 500, 300);
    let before = everything(&store);
    drop(store);
    let store = open(directory.path()).unwrap();
    assert_eq!(everything(&store), before);
    Box::new(store).close().unwrap();
    let mut store = open(directory.path()).unwrap();
    assert_eq!(everything(&store), before);
    check_whole(&store, 1);
    let refused = commit(&mut store, fence, vec![]);
    assert!(refused.is_ok(), "the lease outlives the process until another one takes it: {refused:?}");
}

#[test]
fn a_second_controller_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let _store = DiskStore::create(directory.path(), small()).unwrap();
    assert!(matches!(open(directory.path()), Err(Error::Locked { .. })));
}

#[test]
fn a_store_is_made_once_and_only_when_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(open(directory.path()), Err(Error::Damaged { .. })));
    assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
    drop(DiskStore::create(directory.path(), small()).unwrap());
    assert!(matches!(DiskStore::create(directory.path(), small()), Err(Error::Archive(_))));
}

#[test]
fn a_directory_of_a_newer_version_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(DiskStore::create(directory.path(), small()).unwrap());
    fs::write(directory.path().join("format"), "quell data format 2\n").unwrap();
    let Err(error) = open(directory.path()) else { panic!("it was opened") };
    assert!(matches!(error, Error::Newer { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn files_are_for_their_owner_alone() {
    fn check(path: &Path) {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let is_view = path.components().any(|part| part.as_os_str() == "view");
        if path.is_dir() {
            // sled makes directories of its own inside the view's, which nobody else can enter.
            assert!(mode == 0o700 || is_view, "{}: {mode:o}", path.display());
            fs::read_dir(path).unwrap().for_each(|entry| check(&entry.unwrap().path()));
        } else {
            assert!(mode == 0o600 || is_view, "{}: {mode:o}", path.display());
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut store = DiskStore::create(&data, small()).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    fill(&mut store, fence, 300, 400);
    commit(&mut store, fence, vec![change("a", 1, vec![put(Table::Plans, "p", json!("x".repeat(20_000)))])]).unwrap();
    check(&data);
    assert_eq!(fs::metadata(data.join("view")).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_commit_that_is_too_large_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DiskStore::create(directory.path(), small()).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    let many = (0..200).map(|n| change("a", n, vec![put(Table::Hosts, "h", json!("x".repeat(1_000)))])).collect();
    assert!(matches!(commit(&mut store, fence, many), Err(Error::TooLarge { .. })));
    assert_eq!(store.reader().head().sequence, 1);
    fill(&mut store, fence, 10, 10);
    check_whole(&store, 1);
}

#[test]
fn retention_removes_whole_segments_behind_a_record_that_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { keep_bytes: 4 * (64 << 10), ..small() };
    let mut store = DiskStore::create(directory.path(), options.clone()).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    let large = json!("w".repeat(20_000));
    commit(&mut store, fence, vec![change("a", 1, vec![put(Table::Plans, "p", large)])]).unwrap();
    commit(&mut store, fence, vec![change("b", 2, vec![put(Table::Plans, "p", json!("small"))])]).unwrap();
    let blobs = || fs::read_dir(directory.path().join("blobs")).unwrap().count();
    assert_eq!(blobs(), 1);
    fill(&mut store, fence, 2_000, 300);
    let oldest = store.reader().records(1, 1).unwrap()[0].sequence;
    assert!(oldest > 100, "{oldest}");
    assert_eq!(blobs(), 0, "nothing names the large row any more");
    let logs = fs::read_dir(directory.path().join("log")).unwrap().count();
    assert!(logs <= 7, "{logs} files are kept");
    let said = store.reader().records(oldest, usize::MAX).unwrap();
    let said = said.iter().rfind(|record| record.kind == "logTrimmed").unwrap().data["through"].clone();
    assert_eq!(said, json!(oldest - 1));
    check_whole(&store, oldest);
    let before = store.scan(None).unwrap();
    drop(store);
    let store = DiskStore::open(directory.path(), options).unwrap();
    check_whole(&store, oldest);
    assert_eq!(store.scan(None).unwrap(), before);
}

#[test]
fn records_that_are_too_old_go_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { keep_for: std::time::Duration::from_secs(300), ..small() };
    let mut store = DiskStore::create(directory.path(), options).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    fill(&mut store, fence, 2_000, 300);
    let oldest = store.reader().records(1, 1).unwrap()[0].clone();
    assert!(oldest.sequence > 100 && oldest.sequence < 1_701, "{}", oldest.sequence);
    check_whole(&store, oldest.sequence);
}

#[test]
fn a_sync_that_failed_is_not_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    drop(DiskStore::create(directory.path(), small()).unwrap());
    let options = Options { sync: |_| Err(std::io::Error::other("the disk is gone")), ..small() };
    let mut store = DiskStore::open(directory.path(), options).unwrap();
    let failed = store.lease("test", at(0));
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert_eq!(store.reader().head().sequence, 0, "what may not be durable is not shown");
    let stopped = store.lease("test", at(1));
    assert!(matches!(stopped, Err(Error::Stopped { .. })), "{stopped:?}");
}

#[test]
fn an_end_that_was_never_acknowledged_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = DiskStore::create(directory.path(), small()).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    fill(&mut store, fence, 20, 100);
    drop(store);
    let log = directory.path().join("log/00000000000000000001.log");
    let mut bytes = fs::read(&log).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end + 1..end + 200].fill(0xee);
    fs::write(&log, &bytes).unwrap();
    let mut store = open(directory.path()).unwrap();
    assert_eq!(store.reader().head().sequence, 21);
    fill(&mut store, fence, 5, 100);
    drop(store);
    check_whole(&open(directory.path()).unwrap(), 1);
}
