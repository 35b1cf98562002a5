//! Every kind of damage, by somebody who knows the format and makes all checksums right again: verification says no.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use quell_engine::{Actor, Change, Write, state::Table};
use quell_link::authority::Authority;
use quell_model::{audit::Fault, digest::Digest};
use serde_json::json;

use super::{Error, Options, Summary, segment, verify};
use crate::{
    backup,
    init::AUTHORITY,
    store::{
        self, Batch, DiskStore, Fence, Head, Record, Store as _,
        chain::Encoded,
        checkpoint,
        recover::{Newest, Places},
    },
};

/// What is tested here is reading: a directory that costs no disk where the system has one.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn change(number: u64, padding: usize) -> Change {
    let row = json!({ "number": number, "padding": "x".repeat(padding) });
    Change {
        time: Timestamp::from_second(1_700_000_000).unwrap(),
        actor: Actor::Timer,
        kind: "numbered",
        text: format!("record {number}"),
        ids: BTreeMap::new(),
        data: json!({ "number": number }),
        writes: vec![Write { table: Table::Onces, key: format!("key-{}", number % 7), row: Some(row) }],
    }
}

fn small() -> store::Options {
    store::Options { segment_bytes: 64 << 10, reserve_bytes: 16 << 10, ..store::Options::default() }
}

fn create(data: &Path) -> (DiskStore, Fence) {
    let authority = Authority::create(&data.join(AUTHORITY), "installation-1", Timestamp::now()).unwrap();
    let mut store = DiskStore::create(data, small()).unwrap();
    store.sign_with(Arc::new(authority)).unwrap();
    let fence = store.lease("test", Timestamp::UNIX_EPOCH).unwrap();
    (store, fence)
}

fn reopen(data: &Path, options: store::Options) -> (DiskStore, Fence) {
    let mut store = DiskStore::open(data, options).unwrap();
    store.sign_with(Arc::new(Authority::load(&data.join(AUTHORITY)).unwrap())).unwrap();
    let fence = store.lease("test", Timestamp::UNIX_EPOCH).unwrap();
    (store, fence)
}

/// Commits of one record each, 2 KiB long, the third of which names a file.
fn fill(store: &mut DiskStore, fence: Fence, count: u64) {
    for _ in 0..count {
        let next = store.reader().head().sequence + 1;
        let padding = if next == 3 { 20_000 } else { 2_000 };
        store.commit(Batch { guards: vec![], changes: vec![change(next, padding)], fence }).unwrap();
    }
}

/// Some segments, some checkpoints, a large row, and a clean stop.
fn prepare(data: &Path) {
    let (mut store, fence) = create(data);
    fill(&mut store, fence, 80);
    Box::new(store).close().unwrap();
}

fn options(data: &Path) -> Options {
    Options { data_dir: data.to_owned(), since: None, fingerprint: None }
}

fn check(data: &Path) -> Result<Summary, Error> {
    verify(&options(data), &mut |_| {})
}

/// A log as somebody holds it who rewrites it: the lines of each segment, by its first record.
type Lines = Vec<(u64, Vec<Vec<u8>>)>;

fn read(data: &Path) -> Lines {
    let places = Places::new(data);
    let names = store::files::names(&places.log).unwrap();
    let firsts = names.iter().filter_map(|name| segment::first_of(name));
    firsts
        .map(|first| {
            let bytes = fs::read(places.log.join(segment::name(first))).unwrap();
            let mut offset = usize::try_from(segment::FRAMES).unwrap();
            let mut lines = Vec::new();
            loop {
                let length = usize::try_from(segment::frame_bytes(&bytes, offset as u64)).unwrap();
                let Some((_, found)) = bytes.get(offset..offset + length).and_then(segment::lines) else { break };
                lines.extend(found.into_iter().map(<[u8]>::to_vec));
                offset += length;
            }
            (first, lines)
        })
        .collect()
}

/// Writes segments with every header, checksum and marker as it should be, and removes whatever names more.
fn write(data: &Path, log: &Lines) {
    let places = Places::new(data);
    fs::remove_dir_all(&places.log).unwrap();
    fs::create_dir(&places.log).unwrap();
    let mut previous = Digest::default();
    let mut last = 0;
    for (first, lines) in log {
        let mut bytes = segment::Header { first: *first, previous }.encode();
        bytes.resize(usize::try_from(segment::FRAMES).unwrap(), 0);
        for (sequence, line) in (*first..).zip(lines) {
            let record = Record { sequence, ..Record::parse(br#"{"sequence":1,"time":"2026-11-22T10:00:00Z","previous":"0000000000000000000000000000000000000000000000000000000000000000","actor":{"kind":"timer"},"kind":"","text":""}"#).unwrap() };
            bytes.extend(segment::frame(&[Encoded { record, bytes: line.clone() }]).unwrap());
            previous = Digest::of(line);
            last = sequence;
        }
        let mark = segment::Mark { head: Head { sequence: last, hash: previous }, end: bytes.len() as u64 }.encode();
        for slot in [512, 1024] {
            bytes[slot..slot + mark.len()].copy_from_slice(&mark);
        }
        fs::write(places.log.join(segment::name(*first)), bytes).unwrap();
    }
    for sequence in checkpoint::list(&places.checkpoints).unwrap() {
        if sequence > last {
            fs::remove_file(places.checkpoints.join(checkpoint::name(sequence))).unwrap();
        }
    }
    Newest { segment: log.last().unwrap().0, checkpoint: 0 }.write(&places).unwrap();
}

/// Every later record follows from the changed one again.
fn chain_anew(log: &mut Lines) {
    let mut previous = Digest::default();
    for line in log.iter_mut().flat_map(|(_, lines)| lines) {
        let mut record: serde_json::Value = serde_json::from_slice(line).unwrap();
        record["previous"] = json!(previous);
        *line = serde_json::to_vec(&record).unwrap();
        previous = Digest::of(line);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Where each record is: the segment's place and the line's.
fn places(log: &Lines) -> Vec<(usize, usize)> {
    log.iter().enumerate().flat_map(|(segment, (_, lines))| (0..lines.len()).map(move |line| (segment, line))).collect()
}

#[test]
fn a_whole_log_is_whole_and_so_is_one_that_was_written_again_as_it_was() {
    let scratch = scratch();
    prepare(scratch.path());
    let summary = check(scratch.path()).unwrap();
    assert_eq!((summary.first, summary.last, summary.newest_head), (1, 81, 81));
    assert!(summary.heads >= 3, "a head at each checkpoint and at the stop: {summary:?}");
    let log = read(scratch.path());
    assert!(log.len() >= 3, "{} segments", log.len());
    write(scratch.path(), &log);
    assert_eq!(check(scratch.path()).unwrap(), summary, "the forger's tools are at fault, not the damage");
}

/// What is done to a log at one record.
type Damage = fn(&mut Lines, (usize, usize));

fn flip(log: &mut Lines, (segment, line): (usize, usize)) {
    let line = &mut log[segment].1[line];
    // Inside a string, so that it is a record still.
    let at = line.windows(8).position(|text| text == b"numbered" || text == b"leaseTak").unwrap();
    line[at] ^= 1;
}

fn remove(log: &mut Lines, (segment, line): (usize, usize)) {
    log[segment].1.remove(line);
}

fn swap(log: &mut Lines, (segment, line): (usize, usize)) {
    // With the one before, in another segment perhaps; the first one with the second.
    let (segment, line) = if (segment, line) == (0, 0) { (0, 1) } else { (segment, line) };
    let before = if line == 0 { (segment - 1, log[segment - 1].1.len() - 1) } else { (segment, line - 1) };
    let moved = log[segment].1[line].clone();
    log[segment].1[line] = std::mem::replace(&mut log[before.0].1[before.1], moved);
}

fn cut(log: &mut Lines, (segment, line): (usize, usize)) {
    log.truncate(segment + 1);
    log[segment].1.truncate(line);
}

fn edit_and_chain_anew(log: &mut Lines, at: (usize, usize)) {
    flip(log, at);
    chain_anew(log);
}

fn repeat(log: &mut Lines, (segment, line): (usize, usize)) {
    let again = log[segment].1[line].clone();
    log[segment].1.insert(line, again);
}

#[test]
fn no_record_can_be_edited_removed_repeated_moved_or_cut_off() {
    let whole = scratch();
    prepare(whole.path());
    let log = read(whole.path());
    let damages: [(&str, Damage); 6] = [
        ("flip", flip),
        ("remove", remove),
        ("swap", swap),
        ("cut", cut),
        ("edit and chain anew", edit_and_chain_anew),
        ("repeat", repeat),
    ];
    let scratch = scratch();
    let data = scratch.path().join("data");
    copy(whole.path(), &data);
    for place in places(&log) {
        for (name, damage) in damages {
            let mut damaged = log.clone();
            damage(&mut damaged, place);
            write(&data, &damaged);
            let error = check(&data).err().unwrap_or_else(|| panic!("{name} at {place:?} was not found"));
            let text = error.to_string();
            assert!(text.contains("record"), "{name} at {place:?}: {text}");
        }
    }
}

#[test]
fn no_byte_of_a_segment_that_counts_can_be_flipped_and_none_is_missing_unnoticed() {
    let whole = scratch();
    prepare(whole.path());
    let log = Places::new(whole.path()).log;
    let (mut flipped, mut cut) = (0, 0);
    for name in store::files::names(&log).unwrap().iter().filter(|name| segment::first_of(name).is_some()) {
        let path = log.join(name);
        let bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let frames = usize::try_from(segment::FRAMES).unwrap();
        for at in (0..segment::FRAME_HEADER).map(|at| frames + at).chain((frames..used).step_by(997)) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x04;
            fs::write(&path, damaged).unwrap();
            let text = check(whole.path()).expect_err("a flipped byte was not found").to_string();
            assert!(text.contains(name.as_str()) && text.contains("byte"), "{text}");
            flipped += 1;
        }
        for length in (frames..used).step_by(1_013) {
            fs::write(&path, &bytes[..length]).unwrap();
            check(whole.path()).expect_err("a cut in the middle of a record was not found");
            cut += 1;
        }
        fs::remove_file(&path).unwrap();
        check(whole.path()).expect_err("a removed segment was not found");
        fs::write(&path, &bytes).unwrap();
    }
    check(whole.path()).unwrap();
    assert!(flipped > 200 && cut > 100, "{flipped} flipped, {cut} cut");
}

#[test]
fn an_older_copy_of_a_segment_is_found() {
    let scratch = scratch();
    let (mut store, fence) = create(scratch.path());
    fill(&mut store, fence, 40);
    let log = Places::new(scratch.path()).log;
    let newest = |log: &Path| {
        let names = store::files::names(log).unwrap();
        log.join(names.iter().rfind(|name| segment::first_of(name).is_some()).unwrap())
    };
    let path = newest(&log);
    let older = fs::read(&path).unwrap();
    fill(&mut store, fence, 5);
    assert_eq!(newest(&log), path, "the segment went on");
    Box::new(store).close().unwrap();
    let newer = fs::read(&path).unwrap();
    fs::write(&path, &older).unwrap();
    let error = check(scratch.path()).unwrap_err();
    assert!(matches!(error, Error::Fault(Fault::Cut { last: 41, signed: 46 })), "{error}");
    // And once others follow it.
    fs::write(&path, &newer).unwrap();
    let (mut store, fence) = reopen(scratch.path(), small());
    fill(&mut store, fence, 40);
    assert_ne!(newest(&log), path);
    Box::new(store).close().unwrap();
    check(scratch.path()).unwrap();
    fs::write(&path, &older).unwrap();
    check(scratch.path()).unwrap_err();
}

#[test]
fn heads_cannot_be_forged_and_one_that_is_kept_elsewhere_finds_what_the_directory_cannot_show() {
    let scratch = scratch();
    let data = scratch.path().join("data");
    fs::create_dir(&data).unwrap();
    prepare(&data);
    let (log, heads) = (read(&data), Places::new(&data).heads);
    let signed = fs::read_to_string(&heads).unwrap();
    let newest = signed.lines().last().unwrap();
    let refused = |text: &str| {
        fs::write(&heads, text).unwrap();
        let error = check(&data).expect_err("a forged head was not found").to_string();
        fs::write(&heads, &signed).unwrap();
        error
    };
    for at in (0..newest.len()).step_by(7) {
        let mut bytes = newest.as_bytes().to_vec();
        bytes[at] ^= 0x01;
        let text = signed.replace(newest, &String::from_utf8(bytes).unwrap());
        let error = refused(&text);
        assert!(error.contains(&format!("line {} of", signed.lines().count())), "{error}");
    }
    let other = Authority::create(&scratch.path().join("other"), "installation-1", Timestamp::now()).unwrap();
    let theirs = other.sign_head(0, 81, Digest::of(b"theirs"), Timestamp::now()).unwrap();
    assert!(refused(&format!("{signed}{theirs}\n")).contains("forged"));
    assert!(refused("").contains("was removed"));
    fs::remove_file(&heads).unwrap();
    check(&data).unwrap_err();

    // Whoever removes the newest heads as well as the records leaves a directory that is whole in itself …
    let (segment, line) = places(&log)[59];
    let mut shorter = log.clone();
    cut(&mut shorter, (segment, line));
    write(&data, &shorter);
    let of = |line: &&str| line.split(' ').nth(3).unwrap().parse::<u64>().unwrap() < 60;
    let kept: String = signed.lines().filter(of).map(|line| format!("{line}\n")).collect();
    fs::write(&heads, kept).unwrap();
    assert_eq!(check(&data).unwrap().last, 59);
    // … and does not continue the head that somebody kept.
    let elsewhere = scratch.path().join("kept");
    fs::write(&elsewhere, format!("{newest}\n")).unwrap();
    let error = verify(&Options { since: Some(elsewhere.clone()), ..options(&data) }, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Fault(Fault::Cut { last: 59, signed: 81 })), "{error}");
    write(&data, &log);
    fs::write(&heads, &signed).unwrap();
    verify(&Options { since: Some(elsewhere), ..options(&data) }, &mut |_| {}).unwrap();
    let fingerprint = Some(other.fingerprint());
    assert!(matches!(verify(&Options { fingerprint, ..options(&data) }, &mut |_| {}), Err(Error::Foreign { .. })));
}

#[test]
fn large_rows_and_data_are_part_of_the_log() {
    let scratch = scratch();
    prepare(scratch.path());
    let blobs = scratch.path().join("blobs");
    let blob: Vec<PathBuf> = fs::read_dir(&blobs).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [blob] = &blob[..] else { panic!("{blob:?}") };
    let bytes = fs::read(blob).unwrap();
    fs::write(blob, &bytes[1..]).unwrap();
    assert!(check(scratch.path()).unwrap_err().to_string().contains("record 3 names it"));
    fs::remove_file(blob).unwrap();
    check(scratch.path()).unwrap_err();
}

#[test]
fn what_retention_removed_is_said_and_nothing_more_may_be_missing() {
    let scratch = scratch();
    prepare(scratch.path());
    let (mut store, fence) = reopen(scratch.path(), store::Options { keep_bytes: 4 * (64 << 10), ..small() });
    fill(&mut store, fence, 300);
    Box::new(store).close().unwrap();
    let summary = check(scratch.path()).unwrap();
    assert!(summary.first > 100 && summary.removed == summary.first - 1, "{summary:?}");
    let heads = fs::read_to_string(scratch.path().join("heads")).unwrap();
    assert!(heads.lines().count() <= summary.heads + 1, "heads of removed records go as well");
    let log = read(scratch.path());
    fs::remove_file(scratch.path().join("log").join(segment::name(log[0].0))).unwrap();
    let error = check(scratch.path()).unwrap_err();
    assert!(matches!(error, Error::Fault(Fault::BeginsLate { .. })), "{error}");
}

#[test]
fn a_backup_and_what_is_restored_from_it_are_whole_and_a_head_signed_later_says_what_the_restore_lost() {
    let scratch = scratch();
    let [data, archive, back] = ["data", "archive", "back"].map(|name| scratch.path().join(name));
    fs::create_dir(&data).unwrap();
    prepare(&data);
    backup::backup(&data, &archive).unwrap();
    assert_eq!(check(&archive).unwrap().last, 81);
    let (mut store, fence) = reopen(&data, small());
    fill(&mut store, fence, 5);
    Box::new(store).close().unwrap();
    let newest = fs::read_to_string(data.join("heads")).unwrap().lines().last().unwrap().to_owned();
    let kept = scratch.path().join("kept");
    fs::write(&kept, format!("{newest}\n")).unwrap();
    backup::restore(&archive, &back).unwrap();
    assert_eq!(check(&back).unwrap().last, 83);
    let since = |data: &Path| verify(&Options { since: Some(kept.clone()), ..options(data) }, &mut |_| {});
    since(&data).unwrap();
    assert!(matches!(since(&back), Err(Error::Fault(Fault::Cut { .. }))));
    let (mut store, fence) = reopen(&back, small());
    fill(&mut store, fence, 5);
    Box::new(store).close().unwrap();
    assert!(matches!(since(&back), Err(Error::At { fault: Fault::OtherHead { .. }, .. })));
}

#[test]
fn a_head_is_signed_when_its_time_has_come_and_only_of_something_new() {
    let scratch = scratch();
    let (store, _) = create(scratch.path());
    drop(store);
    let (mut store, fence) =
        reopen(scratch.path(), store::Options { sign_every: std::time::Duration::ZERO, ..small() });
    let heads = || store::heads::lines(&scratch.path().join("heads")).unwrap().len();
    store.sign_head().unwrap();
    let before = heads();
    store.sign_head().unwrap();
    assert_eq!(heads(), before, "nothing new was recorded");
    fill(&mut store, fence, 1);
    store.sign_head().unwrap();
    assert_eq!(heads(), before + 1);
    drop(store);
    let (mut store, fence) = reopen(scratch.path(), small());
    fill(&mut store, fence, 1);
    store.sign_head().unwrap();
    assert_eq!(heads(), before + 1, "it is not time yet");
}

#[test]
fn a_store_does_not_open_behind_its_own_signed_head() {
    let scratch = scratch();
    prepare(scratch.path());
    let mut log = read(scratch.path());
    let place = places(&log)[70];
    cut(&mut log, place);
    write(scratch.path(), &log);
    let mut store = DiskStore::open(scratch.path(), small()).unwrap();
    let authority = Arc::new(Authority::load(&scratch.path().join(AUTHORITY)).unwrap());
    let error = store.sign_with(authority.clone()).unwrap_err().to_string();
    assert!(error.contains("heads") && error.contains("lost: records 71 to 81"), "{error}");
    drop(store);
    // A line that nobody signed says nothing; half a line is cut off.
    let heads = scratch.path().join("heads");
    fs::write(&heads, "quell-head-1 this is none\nquell-he").unwrap();
    let mut store = DiskStore::open(scratch.path(), small()).unwrap();
    store.sign_with(authority).unwrap();
    assert_eq!(fs::read_to_string(&heads).unwrap(), "quell-head-1 this is none\n");
}
