//! Every file of a data directory, flipped, cut and removed: the store comes back whole, or says what is lost.

use std::{
    fs,
    path::{Path, PathBuf},
};

use quell_controller::store::{DiskStore, Error, Options, Store as _};
use quell_engine::state::Table;
use serde_json::json;

use super::support::{at, change, commit, everything, fill, open, put, small};

/// A directory that costs no disk where the system has one: what is tested here is reading, not syncing.
fn memory_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What is done to a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// One bit, at so many thousandths of what is not zeros at the end.
    Flip(usize),
    /// Cut, at so many thousandths of the same.
    Cut(usize),
    Remove,
}

const DAMAGES: [Damage; 9] = [
    Damage::Flip(0),
    Damage::Flip(150),
    Damage::Flip(500),
    Damage::Flip(999),
    Damage::Cut(0),
    Damage::Cut(500),
    Damage::Cut(990),
    Damage::Cut(999),
    Damage::Remove,
];

impl Damage {
    fn apply(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        match self {
            Self::Flip(place) => {
                let Some(byte) = bytes.get_mut(used * place / 1000) else { return };
                *byte ^= 0x10;
                fs::write(path, bytes).unwrap();
            }
            Self::Cut(place) => fs::write(path, &bytes[..used * place / 1000]).unwrap(),
            Self::Remove => fs::remove_file(path).unwrap(),
        }
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(&file, &target).unwrap();
    }
}

/// Several segments, two checkpoints, large rows and large data, and a clean stop.
fn prepare(directory: &Path, options: Options) -> DiskStore {
    let mut store = DiskStore::create(directory, options).unwrap();
    let fence = store.lease("test", at(0)).unwrap();
    let mut large = change("a", 1, vec![put(Table::Plans, "p", json!("x".repeat(20_000)))]);
    large.data = json!("y".repeat(20_000));
    commit(&mut store, fence, vec![large]).unwrap();
    fill(&mut store, fence, 450, 300);
    store
}

/// Damages one file after the other, each in a fresh copy.
fn damage_each(whole: &Path, options: &Options, only: fn(&Path) -> bool) -> (usize, usize) {
    let mut before = None;
    let (mut mended, mut told) = (0, 0);
    for file in files(whole).into_iter().filter(|file| only(file)) {
        let name = file.strip_prefix(whole).unwrap();
        for damage in DAMAGES {
            let scratch = memory_directory();
            let data = scratch.path().join("data");
            copy(whole, &data);
            let expected = before.get_or_insert_with(|| {
                let scratch = memory_directory();
                copy(whole, scratch.path());
                everything(&DiskStore::open(scratch.path(), options.clone()).unwrap())
            });
            damage.apply(&data.join(name));
            match DiskStore::open(&data, options.clone()) {
                Ok(store) => {
                    assert!(everything(&store) == *expected, "{damage:?} of {} changed something", name.display());
                    drop(store);
                    let again = DiskStore::open(&data, options.clone()).unwrap();
                    assert!(everything(&again) == *expected, "{damage:?} of {} was not mended", name.display());
                    mended += 1;
                }
                Err(error @ Error::Damaged { .. }) => {
                    let text = error.to_string();
                    let file_name = name.file_name().unwrap().to_string_lossy().into_owned();
                    assert!(text.contains(&file_name) && text.contains("lost: "), "{damage:?}: {text}");
                    told += 1;
                }
                Err(error) => panic!("{damage:?} of {}: {error}", name.display()),
            }
        }
    }
    (mended, told)
}

#[test]
fn damage_to_any_one_file_is_mended_or_told() {
    let directory = memory_directory();
    let store = prepare(directory.path(), small());
    Box::new(store).close().unwrap();
    let (mended, told) = damage_each(directory.path(), &small(), |_| true);
    assert!(mended > 40 && told > 20, "{mended} mended, {told} told");
}

#[test]
fn damage_after_a_kill_is_mended_or_told() {
    let directory = memory_directory();
    let store = prepare(directory.path(), small());
    let killed = memory_directory();
    // What a kill leaves: the files as they are while the store is open.
    copy(directory.path(), killed.path());
    drop(store);
    let (mended, told) = damage_each(killed.path(), &small(), |file| {
        let name = file.to_string_lossy();
        name.contains("/view/") || name.contains("/log/")
    });
    assert!(mended > 10 && told > 10, "{mended} mended, {told} told");
}

#[test]
fn a_view_that_cannot_be_used_is_moved_aside_and_made_anew() {
    let directory = memory_directory();
    let store = prepare(directory.path(), small());
    let before = everything(&store);
    Box::new(store).close().unwrap();
    files(&directory.path().join("view")).iter().for_each(|file| fs::write(file, "this is not sled").unwrap());
    let store = open(directory.path()).unwrap();
    assert!(everything(&store) == before);
    assert_eq!(fs::read_to_string(directory.path().join("view.damaged/db")).unwrap(), "this is not sled");
}

#[test]
fn a_view_of_other_rows_is_not_believed() {
    let (one, other) = (memory_directory(), memory_directory());
    let store = prepare(one.path(), small());
    let before = everything(&store);
    Box::new(store).close().unwrap();
    let mut store = prepare(other.path(), small());
    let fence = store.lease("test", at(9)).unwrap();
    fill(&mut store, fence, 30, 10);
    Box::new(store).close().unwrap();
    fs::remove_dir_all(one.path().join("view")).unwrap();
    copy(&other.path().join("view"), &one.path().join("view"));
    assert!(everything(&open(one.path()).unwrap()) == before);
}

#[test]
fn without_checkpoints_and_the_oldest_records_the_view_serves_and_without_it_the_loss_is_told() {
    let directory = memory_directory();
    let options = Options { keep_bytes: 3 * (64 << 10), ..small() };
    let mut store = prepare(directory.path(), options.clone());
    let fence = store.lease("test", at(2)).unwrap();
    fill(&mut store, fence, 1_000, 300);
    let before = store.scan(None).unwrap();
    Box::new(store).close().unwrap();
    let remove_checkpoints = || {
        fs::remove_dir_all(directory.path().join("checkpoints")).unwrap();
    };
    remove_checkpoints();
    let store = DiskStore::open(directory.path(), options.clone()).unwrap();
    assert_eq!(store.scan(None).unwrap(), before);
    Box::new(store).close().unwrap();
    remove_checkpoints();
    fs::remove_dir_all(directory.path().join("view")).unwrap();
    let Err(error) = DiskStore::open(directory.path(), options) else { panic!("it was opened") };
    assert!(matches!(error, Error::Damaged { .. }), "{error}");
}
