//! Shows what the store survives and what it costs: the programs behind `tests/host/powercut.sh` and `fulldisk.sh`.
//!
//! ```text
//! durability write DIRECTORY ACKS     writes for ever, and notes in ACKS what was acknowledged
//! durability lie DIRECTORY ACKS       the same without syncing: a test that cannot see the loss sees nothing
//! durability check DIRECTORY ACKS     opens the store and compares it with ACKS
//! durability full DIRECTORY BALLAST   fills a small disk; then removes the file BALLAST, which makes room
//! durability measure DIRECTORY        the time of a commit, beside a bare write and fdatasync
//! ```
#![expect(clippy::print_stdout, reason = "it is a program for people")]

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use quell_controller::store::{Batch, DiskStore, Error, Fence, Options, Revision, Store};
use quell_engine::{Actor, Change, Write, state::Table};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(2).map(PathBuf::from).collect();
    match (env::args().nth(1).as_deref(), arguments.as_slice()) {
        (Some("write"), [directory, acks]) => write(directory, acks, small()),
        (Some("lie"), [directory, acks]) => write(directory, acks, Options { sync: |_| Ok(()), ..small() }),
        (Some("check"), [directory, acks]) => check(directory, acks),
        (Some("full"), [directory, ballast]) => full(directory, ballast),
        (Some("measure"), [directory]) => measure(directory),
        _ => bail!("usage: durability write|lie|check|full|measure DIRECTORY [FILE]"),
    }
}

/// Small segments and little history, so that a short run meets new segments, checkpoints and retention.
fn small() -> Options {
    Options { segment_bytes: 512 << 10, reserve_bytes: 256 << 10, keep_bytes: 4 << 20, ..Options::default() }
}

/// The record with this number: most are small, some have a row that is too large for the log, some remove a row.
fn change(number: u64) -> Change {
    let key = format!("key-{}", number % 97);
    let padding = if number.is_multiple_of(61) { 20_000 } else { 200 + number % 700 };
    let row = json!({ "number": number, "padding": "p".repeat(usize::try_from(padding).unwrap_or(0)) });
    Change {
        time: Timestamp::now(),
        actor: Actor::Timer,
        kind: "numbered",
        text: format!("record {number}"),
        ids: BTreeMap::new(),
        data: json!({ "number": number }),
        writes: vec![Write { table: Table::Onces, key, row: (!number.is_multiple_of(13)).then_some(row) }],
    }
}

fn commit(store: &mut DiskStore, fence: Fence, count: u64) -> Result<Revision, Error> {
    let head = store.reader().head().sequence;
    let changes = (1..=count).map(|offset| change(head + offset)).collect();
    store.commit(Batch { guards: vec![], changes, fence })
}

fn write(directory: &Path, acks: &Path, options: Options) -> anyhow::Result<()> {
    let mut store =
        if directory.exists() { DiskStore::open(directory, options)? } else { DiskStore::create(directory, options)? };
    let fence = store.lease("writer", Timestamp::now())?;
    let mut acks = OpenOptions::new().append(true).create(true).open(acks)?;
    for round in 0_u64.. {
        let revision = commit(&mut store, fence, 1 + round % 4)?;
        writeln!(acks, "{revision}")?;
    }
    Ok(())
}

fn check(directory: &Path, acks: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    File::open(acks)?.read_to_string(&mut text)?;
    let acknowledged: u64 = text.lines().last().context("nothing was acknowledged")?.parse()?;
    let store = DiskStore::open(directory, small())?;
    let head = store.reader().head().sequence;
    ensure!(head >= acknowledged, "record {acknowledged} was acknowledged, but the log ends with {head}");
    let records = store.reader().records(1, usize::MAX)?;
    let first = records.first().map_or(0, |record| record.sequence);
    let mut written = BTreeMap::new();
    for (record, sequence) in records.iter().zip(first..) {
        ensure!(record.sequence == sequence, "record {sequence} is missing");
        for write in &record.writes {
            written.insert(write.key.clone(), (sequence, write.row.is_some() || write.blob.is_some()));
        }
    }
    ensure!(records.last().map(|record| record.sequence) == Some(head), "the newest records cannot be read");
    let rows: BTreeMap<String, u64> = store
        .scan(Some(Table::Onces))?
        .into_iter()
        .map(|row| (row.value["number"] == json!(row.revision.0)).then_some((row.key, row.revision.0)))
        .collect::<Option<_>>()
        .context("a row is not what its record wrote")?;
    for (key, (sequence, is_row)) in written {
        ensure!(rows.get(&key).copied() == is_row.then_some(sequence), "row {key} is not that of record {sequence}");
    }
    println!("whole: records {first} to {head}, {acknowledged} acknowledged, {} rows", rows.len());
    Ok(())
}

/// On a disk of a few MiB.
fn full(directory: &Path, ballast: &Path) -> anyhow::Result<()> {
    let options = || Options { keep_bytes: 1 << 30, reserve_bytes: 1 << 20, ..small() };
    let mut store = DiskStore::create(directory, options())?;
    let fence = store.lease("filler", Timestamp::now())?;
    while !store.is_full() {
        commit(&mut store, fence, 1).context("the disk was full before the store said so")?;
    }
    let told = store.reader().head().sequence;
    let refused = loop {
        match commit(&mut store, fence, 1) {
            Ok(_) => {}
            Err(error @ Error::Full { .. }) => break error,
            Err(error) => return Err(error.into()),
        }
    };
    let last = store.reader().head().sequence;
    ensure!(last >= told + 50, "only {} records found room after the disk was full", last - told);
    println!("full after record {told}; {} more found room in the reserve; then: {refused}", last - told);
    drop(store);
    let mut store = DiskStore::open(directory, options()).context("opening on a full disk")?;
    ensure!(store.reader().head().sequence == last, "something acknowledged is lost");
    ensure!(store.is_full(), "the store forgot that the disk is full");
    fs::remove_file(ballast)?;
    store.recover_space();
    ensure!(!store.is_full(), "the store does not notice that there is room again");
    let fence = store.lease("filler", Timestamp::now())?;
    for _ in 0..100 {
        commit(&mut store, fence, 1)?;
    }
    println!("with room again it goes on: record {}", store.reader().head().sequence);
    Ok(())
}

/// How long each measurement takes.
const MEASURED: Duration = Duration::from_secs(5);

/// Takes turns with the bare limit, so that whatever else the machine does slows both down alike.
fn measure(directory: &Path) -> anyhow::Result<()> {
    let mut store = DiskStore::create(directory, Options::default())?;
    let fence = store.lease("measure", Timestamp::now())?;
    let path = directory.join("bare");
    let bare = File::create_new(&path)?;
    rustix::fs::fallocate(&bare, rustix::fs::FallocateFlags::empty(), 0, 256 << 20)?;
    println!("medians over {MEASURED:?}, in turns; records of about 800 bytes");
    for batch in [1, 100] {
        let bytes = vec![b'x'; 800 * usize::try_from(batch)?];
        let (mut floor, mut ours, mut offset) = (vec![], vec![], 0);
        let began = Instant::now();
        while began.elapsed() < MEASURED {
            let start = Instant::now();
            bare.write_all_at(&bytes, offset)?;
            bare.sync_data()?;
            floor.push(start.elapsed());
            offset = (offset + bytes.len() as u64) % (200 << 20);
            let start = Instant::now();
            // Small records only: a large row costs a file of its own.
            let numbers = (0..batch).map(|number| change(1 + number % 60));
            store.commit(Batch { guards: vec![], changes: numbers.collect(), fence })?;
            ours.push(start.elapsed());
        }
        let (floor, ours) = (median(floor), median(ours));
        println!(
            "{batch:>3} records a commit: bare write and fdatasync {floor:?}, commit {ours:?}, ratio {:.2}",
            ours.as_secs_f64() / floor.as_secs_f64()
        );
    }
    Ok(fs::remove_file(path)?)
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
