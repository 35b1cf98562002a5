//! Backups while the store is written, and their return.

use std::{fs, path::Path, sync::mpsc};

use quell_controller::{
    backup::{LIST, backup, restore},
    store::{DiskStore, Error, Options, RESTORED, Store as _, starts_after_restore},
};
use quell_engine::state::Table;
use serde_json::json;

use super::support::{at, change, check_whole, commit, everything, fill, put, small};

/// A data directory with several segments, a large row and a file of somebody else's.
fn prepare(directory: &Path) -> DiskStore {
    let mut store = DiskStore::create(directory, small()).unwrap();
    fs::create_dir(directory.join("authority")).unwrap();
    fs::write(directory.join("authority/key.pem"), "secret").unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    commit(&mut store, fence, vec![change("a", 1, vec![put(Table::Plans, "p", json!("x".repeat(30_000)))])]).unwrap();
    fill(&mut store, fence, 600, 300);
    store
}

#[test]
fn a_backup_comes_back_as_a_new_epoch() {
    let directory = tempfile::tempdir().unwrap();
    let (data, archive, back) = (directory.path().join("d"), directory.path().join("a"), directory.path().join("b"));
    let store = prepare(&data);
    let before = everything(&store);
    let summary = backup(&data, &archive).unwrap();
    assert_eq!(summary.sequence, store.reader().head().sequence);
    assert_eq!(restore(&archive, &back).unwrap(), summary);
    let restored = DiskStore::open(&back, Options::default()).unwrap();
    let (rows, records) = everything(&restored);
    assert_eq!(rows, before.0);
    assert_eq!(records[..before.1.len()], before.1[..]);
    assert_eq!(records.len(), before.1.len() + 2, "the lease and the restore");
    let last = restored.reader().records(restored.reader().head().sequence, 1).unwrap();
    assert_eq!(last[0].kind, RESTORED);
    assert!(starts_after_restore(&*restored.reader()).unwrap());
    assert_eq!(fs::read_to_string(back.join("authority/key.pem")).unwrap(), "secret");
}

#[test]
fn a_backup_is_made_while_the_store_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("d");
    let mut store = prepare(&data);
    let (stop, stopped) = mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let fence = store.lease("writer", at(0)).unwrap();
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            fill(&mut store, fence, 20, 300);
        }
        store.reader().head().sequence
    });
    let mut last = 0;
    for round in 0..5 {
        let archive = directory.path().join(format!("a{round}"));
        let summary = backup(&data, &archive).unwrap();
        assert!(summary.sequence >= last);
        last = summary.sequence;
        let back = directory.path().join(format!("b{round}"));
        restore(&archive, &back).unwrap();
        let restored = DiskStore::open(&back, Options::default()).unwrap();
        assert_eq!(restored.reader().head().sequence, summary.sequence + 2);
        check_whole(&restored, 1);
    }
    stop.send(()).unwrap();
    assert!(writer.join().unwrap() > last, "it was written meanwhile");
}

#[test]
fn a_damaged_backup_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (data, archive, back) = (directory.path().join("d"), directory.path().join("a"), directory.path().join("b"));
    drop(prepare(&data));
    let summary = backup(&data, &archive).unwrap();
    for path in summary.files.keys() {
        let file = archive.join(path);
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&flipped[..], &whole[..whole.len() - 1]] {
            fs::write(&file, damaged).unwrap();
            let Err(error) = restore(&archive, &back) else { panic!("{path} was taken") };
            assert!(error.to_string().contains(path), "{error}");
            assert!(!back.exists());
        }
        fs::write(&file, &whole).unwrap();
    }
    fs::write(archive.join(LIST), "{").unwrap();
    assert!(matches!(restore(&archive, &back), Err(Error::Archive(_))));
    fs::remove_file(archive.join(LIST)).unwrap();
    assert!(matches!(restore(&archive, &back), Err(Error::Archive(_))), "it was not finished");
}

#[test]
fn neither_overwrites_anything() {
    let directory = tempfile::tempdir().unwrap();
    let (data, archive) = (directory.path().join("d"), directory.path().join("a"));
    drop(prepare(&data));
    backup(&data, &archive).unwrap();
    assert!(matches!(backup(&data, &archive), Err(Error::Archive(_))));
    assert!(matches!(restore(&archive, &data), Err(Error::Archive(_))));
}

#[test]
fn a_list_that_leads_outside_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (data, archive) = (directory.path().join("d"), directory.path().join("a"));
    drop(prepare(&data));
    backup(&data, &archive).unwrap();
    let list = fs::read_to_string(archive.join(LIST)).unwrap().replace("authority/key.pem", "../outside");
    fs::write(archive.join(LIST), list).unwrap();
    let refused = restore(&archive, &directory.path().join("b"));
    assert!(matches!(refused, Err(Error::Archive(_))), "{refused:?}");
}
