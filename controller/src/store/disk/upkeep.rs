//! What a store on disk does beside its writes: new segments, checkpoints, retention, room for when the disk is full.

use std::{collections::BTreeMap, fs::File};

use jiff::SignedDuration;
use quell_engine::{Actor, Change};

use super::super::{Error, Reader as _, checkpoint, error::RESTORE, files, recover, rows::Rows, segment};
use super::{DiskStore, Segment, recover::Places, segment::FRAMES};

/// The kind of the record that says that retention removed the oldest records.
pub(crate) const TRIMMED: &str = "logTrimmed";

/// A segment that is made on a full disk is at least this long.
const SMALLEST_SEGMENT: u64 = 256 << 10;

impl DiskStore {
    /// The last part of opening.
    pub(super) fn finish_start(&mut self, rows: Rows, is_mended: bool, unchecked: Vec<u64>) -> Result<(), Error> {
        if is_mended && self.known.head.sequence > 0 {
            checkpoint::write(&self.places.checkpoints, &self.snapshot(rows))?;
            checkpoint::remove_damaged(&self.places.checkpoints)?;
        }
        self.newest.checkpoint = checkpoint::list(&self.places.checkpoints)?.first().copied().unwrap_or(0);
        self.newest.write(&self.places)?;
        if !self.places.reserve.exists() {
            self.renew_reserve();
        }
        if unchecked.len() > 1 {
            let places = self.places.clone();
            let check = move || check_in_background(&places, &unchecked);
            let started = std::thread::Builder::new().name("check-log".to_owned()).spawn(check);
            started.map_err(Error::io("start a thread to check", &self.places.log))?;
        }
        Ok(())
    }

    /// Goes on in a new segment with room for a frame.
    pub(super) fn roll(&mut self, frame: usize) -> Result<(), Error> {
        let head = self.known.head;
        (self.options.sync)(&self.segment.file)
            .map_err(Error::io("sync", &self.segment.path))
            .map_err(|error| self.break_off(error))?;
        let segment = match Segment::create(&self.places.log, head, self.options.segment_bytes) {
            Err(Error::Full { .. }) => self.small_segment(frame)?,
            result => result?,
        };
        self.newest.segment = head.sequence + 1;
        self.newest.write(&self.places)?;
        self.segment = segment;
        self.history.begin_segment(head.sequence + 1);
        Ok(())
    }

    /// On a full disk: the reserve is given up for a segment that is as long as there is room.
    fn small_segment(&mut self, frame: usize) -> Result<Segment, Error> {
        self.release_reserve();
        let smallest = SMALLEST_SEGMENT.max(FRAMES + frame as u64);
        let mut length = (self.options.reserve_bytes / 2).max(smallest);
        loop {
            match Segment::create(&self.places.log, self.known.head, length) {
                Err(Error::Full { .. }) if length > smallest => length = (length / 2).max(smallest),
                result => return result,
            }
        }
    }

    /// Says whether there was one.
    pub(super) fn release_reserve(&mut self) -> bool {
        if !self.is_full {
            tracing::error!(path = %self.places.root.display(), "the disk is full; the reserve is used");
            // What room is left is for records, not for the view.
            self.shelf.rest(&self.places);
        }
        self.is_full = true;
        self.places.reserve.exists() && files::remove(&self.places.reserve).is_ok()
    }

    /// Makes the reserve again if there is room for it and for the next segment.
    pub(super) fn renew_reserve(&mut self) {
        let wanted = self.options.reserve_bytes + self.options.segment_bytes;
        if files::free_bytes(&self.places.root).is_ok_and(|free| free < wanted) {
            self.is_full = true;
            return;
        }
        let reserve = &self.places.reserve;
        let made = files::remove(reserve)
            .and_then(|()| files::create(reserve))
            .and_then(|file| files::allocate(&file, reserve, self.options.reserve_bytes));
        if let Err(error) = &made {
            tracing::warn!(error = error as &dyn std::error::Error, "there is no room for a reserve");
        }
        self.is_full = made.is_err();
    }

    /// After a new segment was begun: a checkpoint, and the oldest segments go.
    pub(super) fn look_after_log(&mut self) -> Result<(), Error> {
        match self.write_checkpoint() {
            // The log is enough; the next segment brings another chance.
            Err(error @ (Error::Full { .. } | Error::View(_))) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no checkpoint was made");
                return Ok(());
            }
            result => result?,
        }
        self.sign_now()?;
        self.trim()
    }

    fn write_checkpoint(&mut self) -> Result<(), Error> {
        self.shelf.make_sure(&self.places);
        let rows = self.shelf.rows()?;
        checkpoint::write(&self.places.checkpoints, &self.snapshot(rows))?;
        self.newest.checkpoint = self.known.head.sequence;
        self.newest.write(&self.places)?;
        self.shelf.sync()?;
        tracing::info!(sequence = self.known.head.sequence, "checkpoint");
        Ok(())
    }

    /// Removes whole segments from the old end, behind a record that says so, unless a backup is being made.
    fn trim(&mut self) -> Result<(), Error> {
        let log = File::open(&self.places.log).map_err(Error::io("open", &self.places.log))?;
        if log.try_lock().is_err() {
            return Ok(());
        }
        checkpoint::prune(&self.places.checkpoints)?;
        let segments = self.history.segments();
        let going = self.outdated(&segments)?;
        let Some(through) = going.checked_sub(1).map(|last| segments[last + 1] - 1) else { return Ok(()) };
        self.append(vec![self.trimmed(through)])?;
        self.remove_segments(&segments[..going])?;
        self.history.forget_before(through + 1);
        // The oldest record that is left names the one before it, so that the head of that one still counts.
        self.heads.forget_before(through)?;
        let rows = self.shelf.rows()?;
        self.places.blobs.sweep(&self.snapshot(rows), through + 1)?;
        self.known.blobs.retain(|_, last| *last > through);
        tracing::info!(through, "the oldest records were removed");
        Ok(())
    }

    pub(super) fn remove_segments(&self, firsts: &[u64]) -> Result<(), Error> {
        if firsts.is_empty() {
            return Ok(());
        }
        for first in firsts {
            files::remove(&self.places.log.join(segment::name(*first)))?;
        }
        files::sync_directory(&self.places.log)
    }

    /// How many of the oldest segments are too old, or too much, and not needed by a checkpoint that is kept.
    fn outdated(&self, segments: &[u64]) -> Result<usize, Error> {
        // A single checkpoint may be damaged one day; then everything before it is wanted.
        let checkpoints = checkpoint::list(&self.places.checkpoints)?;
        let needed = checkpoints.last().copied().filter(|_| checkpoints.len() > 1).unwrap_or(0);
        let mut lengths = BTreeMap::new();
        for first in segments {
            let path = self.places.log.join(segment::name(*first));
            lengths.insert(*first, std::fs::metadata(&path).map_err(Error::io("read", &path))?.len());
        }
        let mut total: u64 = lengths.values().sum();
        let keep_for = SignedDuration::try_from(self.options.keep_for).unwrap_or(SignedDuration::MAX);
        let mut going = 0;
        for pair in segments.windows(2) {
            let next = self.history.records(pair[1], 1)?;
            let age = next.first().map(|record| self.known.time.duration_since(record.time));
            let is_old = age.is_some_and(|age| age > keep_for);
            if pair[1] > needed || (total <= self.options.keep_bytes && !is_old) {
                break;
            }
            total -= lengths[&pair[0]];
            going += 1;
        }
        Ok(going)
    }

    fn trimmed(&self, through: u64) -> Change {
        Change {
            time: self.known.time,
            actor: Actor::Controller,
            kind: TRIMMED,
            text: format!("retention removes the records up to {through}"),
            ids: BTreeMap::new(),
            data: serde_json::json!({ "through": through }),
            writes: vec![],
        }
    }
}

/// What was too much to be checked before the start. The state does not depend on it; the audit does.
fn check_in_background(places: &Places, unchecked: &[u64]) {
    for pair in unchecked.windows(2) {
        let is_there = || places.log.join(segment::name(pair[0])).exists();
        if let Err(error) = recover::check_pair(places, pair[0], pair[1])
            && is_there()
        {
            tracing::error!(error = &error as &dyn std::error::Error, remedy = RESTORE, "old records are damaged");
        }
    }
}
