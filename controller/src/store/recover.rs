//! Opening a data directory: what is true is made from the newest checkpoint and the log, and everything is checked.
//!
//! Nothing that was acknowledged goes missing in silence. What can be made anew (the view, a checkpoint, the marker) is,
//! with a warning; what cannot is an error that names the file and what it held, and nothing is changed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};

use super::{
    Error, Fence, Head, Record,
    blobs::Blobs,
    chain::{self, to_json},
    checkpoint::{self, Known},
    disk::{Options, TRIMMED},
    error::RESTORE,
    files,
    segment::{self, Scanned},
    view::View,
};

/// Where things are in a data directory.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) root: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) checkpoints: PathBuf,
    pub(crate) blobs: Blobs,
    pub(crate) view: PathBuf,
    /// Where a view that cannot be used is moved.
    pub(crate) old_view: PathBuf,
    pub(crate) reserve: PathBuf,
    pub(crate) format: PathBuf,
    /// Names the newest segment and checkpoint, so that their loss is noticed.
    pub(crate) newest: PathBuf,
    /// Signed heads of the log.
    pub(crate) heads: PathBuf,
}

impl Places {
    pub(crate) fn new(root: &Path) -> Self {
        let log = root.join("log");
        Self {
            root: root.to_owned(),
            checkpoints: root.join("checkpoints"),
            blobs: Blobs(root.join("blobs")),
            view: root.join("view"),
            old_view: root.join("view.damaged"),
            reserve: root.join("reserve"),
            format: root.join("format"),
            newest: log.join("newest"),
            heads: root.join("heads"),
            log,
        }
    }
}

/// The newest segment (by its first record) and checkpoint; 0: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Newest {
    pub(crate) segment: u64,
    pub(crate) checkpoint: u64,
}

impl Newest {
    pub(crate) fn write(self, places: &Places) -> Result<(), Error> {
        let mut bytes = to_json(&self);
        let digest = Digest::of(&bytes);
        bytes.extend(format!("\n{digest}\n").into_bytes());
        files::replace(&places.newest, &bytes)
    }

    pub(crate) fn read(places: &Places) -> Option<Self> {
        let text = std::fs::read_to_string(&places.newest).ok()?;
        let (line, digest) = text.split_once('\n')?;
        let is_whole = digest == format!("{}\n", Digest::of(line.as_bytes()));
        serde_json::from_str(line).ok().filter(|_| is_whole)
    }
}

/// What a data directory holds.
pub(crate) struct Recovered {
    pub(crate) known: Known,
    /// Where the log goes on: the path of the newest segment and where its last frame ends.
    pub(crate) tail: (PathBuf, u64),
    /// Whether something unacknowledged stands behind it.
    pub(crate) has_remains: bool,
    /// The segments by their first record.
    pub(crate) segments: BTreeMap<u64, Vec<(u64, u64)>>,
    pub(crate) newest: Newest,
    /// Something had to be made anew; a new checkpoint is due.
    pub(crate) is_mended: bool,
    /// Segments that retention was about to remove.
    pub(crate) leftover: Vec<u64>,
    /// Segments that were too many to be checked while starting.
    pub(crate) unchecked: Vec<u64>,
}

impl Known {
    /// Takes in what a record says besides its rows.
    pub(crate) fn note(&mut self, record: &Record) {
        self.head = Head { sequence: record.sequence, hash: record.hash };
        self.time = self.time.max(record.time);
        if record.kind == chain::LEASE_TAKEN {
            self.fence = Fence(record.sequence);
        }
        if record.kind == TRIMMED
            && let Some(through) = record.data.get("through").and_then(serde_json::Value::as_u64)
        {
            self.trimmed = self.trimmed.max(through);
        }
        for digest in record.blobs() {
            self.blobs.insert(digest, record.sequence);
        }
    }
}

/// Refuses a directory of a newer version; says whether the file that names it is missing or damaged.
pub(crate) fn check_format_strictly(places: &Places) -> Result<bool, Error> {
    let text = std::fs::read_to_string(&places.format).unwrap_or_default();
    match text.strip_prefix("quell data format ").and_then(|rest| rest.strip_suffix('\n')?.parse::<u32>().ok()) {
        Some(found) if found > segment::FORMAT => {
            Err(Error::Newer { path: places.format.clone(), found, known: segment::FORMAT })
        }
        found => Ok(found.is_none()),
    }
}

/// Refuses a directory of a newer version, and makes the file that names it anew when it is missing or damaged: every
/// segment names its format as well, so nothing depends on it.
pub(crate) fn check_format(places: &Places) -> Result<(), Error> {
    if check_format_strictly(places)? {
        tracing::warn!(path = %places.format.display(), "the format file is missing or damaged and is made anew");
        write_format(places)?;
    }
    Ok(())
}

pub(crate) fn write_format(places: &Places) -> Result<(), Error> {
    files::replace(&places.format, format!("quell data format {}\n", segment::FORMAT).as_bytes())
}

/// Reads and checks what is there.
pub(crate) fn recover(places: &Places, options: &Options) -> Result<Recovered, Error> {
    let newest = Newest::read(places);
    if newest.is_none() {
        tracing::warn!(path = %places.newest.display(), "the log's marker is missing or damaged and is made anew");
    }
    let firsts = segments(places, newest)?;
    let (base, mut is_mended) = base(places, newest, &firsts)?;
    is_mended |= newest.is_none();
    let mut recovered = replay(places, base, &firsts)?;
    recovered.is_mended = is_mended;
    let trimmed = recovered.known.trimmed;
    // A checkpoint may be older than the last removal of records.
    recovered.known.blobs.retain(|_, last| *last > trimmed);
    let (leftover, firsts) = split_trimmed(&firsts, trimmed);
    recovered.leftover = leftover;
    let oldest = firsts.first().copied().unwrap_or(1);
    if oldest > recovered.known.trimmed + 1 {
        return Err(Error::Damaged {
            what: format!("{} is missing", places.log.join(segment::name(recovered.known.trimmed + 1)).display()),
            lost: format!("the text of records {} to {}", recovered.known.trimmed + 1, oldest - 1),
            remedy: RESTORE,
        });
    }
    recovered.segments.retain(|first, _| firsts.contains(first));
    recovered.unchecked = check_older(places, &firsts, recovered.segments.keys().next().copied(), options)?;
    for first in firsts {
        recovered.segments.entry(first).or_default();
    }
    places.blobs.check(&recovered.known)?;
    Ok(recovered)
}

/// The first records of all segments. One that was being created when the power went is removed.
fn segments(places: &Places, newest: Option<Newest>) -> Result<Vec<u64>, Error> {
    let names = files::names(&places.log)?;
    let mut firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    let Some(Newest { segment: named, .. }) = newest else {
        return if firsts.is_empty() { Err(missing_segment(places, 1)) } else { Ok(firsts) };
    };
    if !firsts.contains(&named) {
        return Err(missing_segment(places, named));
    }
    if let Some(last) = firsts.last().copied().filter(|last| *last > named) {
        let path = places.log.join(segment::name(last));
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        // Nothing is written to a segment before it is named, so its first frame tells whether it was in use.
        if segment::Header::decode(&bytes, &path)?.is_none() {
            tracing::warn!(path = %path.display(), "a segment that was being created is removed");
            files::remove(&path)?;
            firsts.pop();
        }
    }
    Ok(firsts)
}

fn missing_segment(places: &Places, first: u64) -> Error {
    Error::Damaged {
        what: format!("{} is missing", places.log.join(segment::name(first)).display()),
        lost: format!("the records from {first} on"),
        remedy: RESTORE,
    }
}

/// What to begin the replay with, and whether something was wrong with what should have served.
fn base(places: &Places, newest: Option<Newest>, firsts: &[u64]) -> Result<(Known, bool), Error> {
    let listed = checkpoint::list(&places.checkpoints)?;
    let named = newest.map_or(0, |newest| newest.checkpoint);
    let mut is_damaged = named != 0 && !listed.contains(&named);
    if is_damaged {
        tracing::warn!(checkpoint = named, "the newest checkpoint is missing; going back to the one before");
    }
    let mut base = None;
    for sequence in listed {
        match checkpoint::read(&places.checkpoints, sequence) {
            Some(known) => base = base.or(Some(known)),
            None => {
                tracing::warn!(checkpoint = sequence, "a checkpoint is damaged and is made anew");
                is_damaged = true;
            }
        }
    }
    if let Some(known) = base {
        return Ok((known, is_damaged));
    }
    if firsts.first() == Some(&1) {
        return Ok((Known::default(), is_damaged));
    }
    tracing::warn!("no checkpoint can be read; the view is the only one to know the oldest rows");
    let (head, rows) = View::open(&places.view).and_then(|view| view.contents()).map_err(|error| Error::Damaged {
        what: format!("neither a checkpoint in {} nor the view can be read ({error})", places.checkpoints.display()),
        lost: format!("what the records before {} left", firsts.first().copied().unwrap_or(1)),
        remedy: RESTORE,
    })?;
    let trimmed = firsts.first().map_or(0, |first| first - 1);
    Ok((Known { head, rows, trimmed, ..Known::default() }, true))
}

/// Reads the log from the base on.
fn replay(places: &Places, base: Known, firsts: &[u64]) -> Result<Recovered, Error> {
    let rows_at = base.head;
    // The view as a base knows nothing but rows: all records are asked for the rest.
    let is_view = base.fence == Fence(0) && rows_at.sequence > 0;
    let start = if is_view { 0 } else { firsts.partition_point(|first| *first <= rows_at.sequence + 1).max(1) - 1 };
    if let Some(first) = firsts.get(start).filter(|first| **first > rows_at.sequence + 1) {
        return Err(Error::Damaged {
            what: format!("{} begins with record {first}", places.log.display()),
            lost: format!("records {} to {}", rows_at.sequence + 1, first - 1),
            remedy: RESTORE,
        });
    }
    let mut known = base;
    let mut segments = BTreeMap::new();
    let mut log: Option<(PathBuf, Scanned)> = None;
    for first in &firsts[start..] {
        let path = places.log.join(segment::name(*first));
        let mut scanned = segment::scan(&path)?;
        if let Some((before, before_scan)) = &log {
            must_continue(before, before_scan, &path, &scanned)?;
        }
        let before = Head { sequence: scanned.header.first - 1, hash: scanned.header.previous };
        if before.sequence == rows_at.sequence && before != rows_at {
            return Err(foreign(&path, rows_at.sequence));
        }
        if scanned.has_damaged_slot {
            tracing::warn!(path = %path.display(), "a marker in the log is damaged and is made anew");
        }
        for record in std::mem::take(&mut scanned.records) {
            if record.sequence == rows_at.sequence && record.hash != rows_at.hash {
                return Err(foreign(&path, rows_at.sequence));
            }
            let is_new = record.sequence > rows_at.sequence;
            if is_new || is_view {
                known.note(&record);
            }
            if is_new {
                known.rows.apply(&record);
            }
        }
        segments.insert(*first, std::mem::take(&mut scanned.index));
        log = Some((path, scanned));
    }
    let Some((path, scanned)) = log else { return Err(missing_segment(places, 1)) };
    if scanned.head.sequence < rows_at.sequence {
        return Err(Error::Damaged {
            what: format!("{} ends with record {}", path.display(), scanned.head.sequence),
            lost: format!("records {} to {}, at least", scanned.head.sequence + 1, rows_at.sequence),
            remedy: RESTORE,
        });
    }
    known.head = scanned.head;
    if scanned.has_remains {
        tracing::warn!(path = %path.display(), at = scanned.end, "an unacknowledged end of the log is cut off");
    }
    let newest = Newest { segment: scanned.header.first, checkpoint: 0 };
    Ok(Recovered {
        known,
        tail: (path, scanned.end),
        has_remains: scanned.has_remains,
        segments,
        newest,
        is_mended: false,
        leftover: vec![],
        unchecked: vec![],
    })
}

/// The segments that the log says were removed, and those that count.
fn split_trimmed(firsts: &[u64], trimmed: u64) -> (Vec<u64>, Vec<u64>) {
    let going = firsts.windows(2).take_while(|pair| pair[1] <= trimmed + 1).count();
    let kept = firsts[going..].to_vec();
    (firsts[..going].to_vec(), kept)
}

fn foreign(path: &Path, sequence: u64) -> Error {
    Error::Damaged {
        what: format!("record {sequence} in {} is not the one that the checkpoint was made after", path.display()),
        lost: "nothing yet, but log and checkpoint are not of the same installation, or one was put back alone"
            .to_owned(),
        remedy: RESTORE,
    }
}

/// A segment must end where the next one begins.
fn must_continue(before: &Path, scanned: &Scanned, next: &Path, next_scanned: &Scanned) -> Result<(), Error> {
    let begins = Head { sequence: next_scanned.header.first - 1, hash: next_scanned.header.previous };
    if scanned.head == begins {
        return Ok(());
    }
    let between = before.with_file_name(segment::name(scanned.head.sequence + 1));
    Err(Error::Damaged {
        what: format!(
            "{} is missing, or {} is cut off: {} does not follow",
            between.display(),
            before.display(),
            next.display()
        ),
        lost: format!("records {} to {}, or some of them", scanned.head.sequence + 1, begins.sequence),
        remedy: RESTORE,
    })
}

/// Checks segments that the state does not depend on, newest first, up to a limit. The rest is returned.
fn check_older(places: &Places, firsts: &[u64], start: Option<u64>, options: &Options) -> Result<Vec<u64>, Error> {
    let Some(position) = start.and_then(|start| firsts.iter().position(|first| *first == start)) else {
        return Ok(vec![]);
    };
    let mut left = options.check_bytes;
    for place in (0..position).rev() {
        let path = places.log.join(segment::name(firsts[place]));
        let bytes = std::fs::metadata(&path).map_err(Error::io("read", &path))?.len();
        let Some(rest) = left.checked_sub(bytes) else { return Ok(firsts[..=place + 1].to_vec()) };
        left = rest;
        check_pair(places, firsts[place], firsts[place + 1])?;
    }
    Ok(vec![])
}

/// Checks a segment, and that it leads to the next one.
pub(crate) fn check_pair(places: &Places, first: u64, next: u64) -> Result<(), Error> {
    let path = places.log.join(segment::name(first));
    let next_path = places.log.join(segment::name(next));
    must_continue(&path, &segment::scan(&path)?, &next_path, &segment::scan(&next_path)?)
}
