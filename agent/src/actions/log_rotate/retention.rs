//! What is done with archives once a log is set aside: compressing those that nobody writes to any more, and removing
//! those that are over their retention.

use std::{ffi::OsStr, path::Path};

use quell_model::action::Compression;
use tokio_util::sync::CancellationToken;

use super::{
    Log,
    archives::{self, Archive},
    copy,
    rotate::{Freed, has_room, put_in_place, signed},
};
use crate::files::{Entry, Error, Found, open};

/// Compresses what is not in use any more, and removes what is over its retention.
pub(super) fn finish(log: &Log, mut freed: Freed, cancel: &CancellationToken) -> Result<Freed, Error> {
    for archive in to_compress(log)? {
        if cancel.is_cancelled() {
            return Err(Error::Stopped(log.directory.path_of(&archive.name)));
        }
        match compress(log, &archive.name, cancel) {
            Ok(bytes) => freed.bytes += bytes,
            Err(Skipped::InUse(pid)) => {
                freed
                    .notes
                    .push(format!("{} stays uncompressed while process {pid} has it open", shown(&archive.name)));
            }
            Err(Skipped::Changed) => {
                freed.notes.push(format!("{} stays uncompressed while it is written to", shown(&archive.name)));
            }
            Err(Skipped::Error(error)) => return Err(error),
        }
    }
    for archive in beyond_retention(log, 0, jiff::Timestamp::now())? {
        if let Some(why) = log.held(&archive.name) {
            freed.notes.push(format!("{} is kept: {why}", shown(&archive.name)));
            continue;
        }
        let entry = log.directory.look(&archive.name)?;
        if let Some(pid) = open_elsewhere(entry.found) {
            freed.notes.push(format!("{} is kept while process {pid} has it open", shown(&archive.name)));
            continue;
        }
        log.directory.remove(&archive.name, entry.found)?;
        freed.bytes += signed(entry.disk);
        freed.removed += 1;
    }
    log.directory.sync()?;
    Ok(freed)
}

fn shown(name: &OsStr) -> std::path::Display<'_> {
    Path::new(name).display()
}

enum Skipped {
    InUse(u32),
    Changed,
    Error(Error),
}

impl From<Error> for Skipped {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Replaces an archive by its compressed copy; answers the bytes of disk that came free.
fn compress(log: &Log, name: &OsStr, cancel: &CancellationToken) -> Result<i64, Skipped> {
    let directory = &log.directory;
    let (file, entry) = directory.open_file(name, false)?;
    if let Some(pid) = open_elsewhere(entry.found) {
        return Err(Skipped::InUse(pid));
    }
    has_room(log, &file, entry.size)?;
    let mut packed_name = name.to_owned();
    packed_name.push(archives::suffix(log.rule.compress));
    let copy = copy::copy(directory, &file, entry.size, &packed_name, log.rule.compress, cancel)?;
    let now = Entry::of_file(&file).map_err(Error::system("inspect", directory.path_of(name)))?;
    if now.size != copy.length || now.modified_ns != entry.modified_ns || open_elsewhere(entry.found).is_some() {
        directory.remove(&archives::partial(&packed_name), copy.found)?;
        return Err(Skipped::Changed);
    }
    let disk = put_in_place(directory, &copy, &packed_name, &entry)?;
    directory.remove(name, entry.found)?;
    Ok(signed(entry.disk) - signed(disk))
}

/// The log's archives, oldest first.
pub(super) fn archives_of(log: &Log) -> Result<Vec<Archive>, Error> {
    let mut archives: Vec<Archive> =
        log.directory.names()?.iter().filter_map(|name| archives::parse(&log.name, name)).collect();
    archives.sort();
    Ok(archives)
}

pub(super) fn to_compress(log: &Log) -> Result<Vec<Archive>, Error> {
    if log.rule.compress == Compression::None {
        return Ok(Vec::new());
    }
    let archives = archives_of(log)?;
    // Anything but a regular file with one name is not of our making.
    let ours = |it: &Archive| !it.compressed && log.directory.look(&it.name).is_ok();
    // What is held stays as it is, byte for byte.
    Ok(archives.into_iter().filter(|it| ours(it) && log.held(&it.name).is_none()).collect())
}

/// Archives that go.
pub(super) fn over_retention(log: &Log, coming: usize, now: jiff::Timestamp) -> Result<Vec<Archive>, Error> {
    let mut over = beyond_retention(log, coming, now)?;
    over.retain(|archive| log.held(&archive.name).is_none());
    Ok(over)
}

/// Archives beyond `keep` (of which `coming` are about to be made) or older than `maxAge`.
fn beyond_retention(log: &Log, coming: usize, now: jiff::Timestamp) -> Result<Vec<Archive>, Error> {
    let archives: Vec<Archive> =
        archives_of(log)?.into_iter().filter(|archive| log.directory.look(&archive.name).is_ok()).collect();
    let excess = log.rule.keep.map_or(0, |keep| (archives.len() + coming).saturating_sub(keep as usize));
    let is_old = |archive: &Archive| {
        let age = now.duration_since(archive.made).unsigned_abs();
        log.rule.max_age.is_some_and(|max_age| archive.made < now && age > max_age)
    };
    let over = archives.iter().enumerate().filter(|(index, archive)| *index < excess || is_old(archive));
    Ok(over.map(|(_, archive)| archive.clone()).collect())
}

/// A process that has an archive open which is to be compressed.
pub(super) fn holder(log: &Log) -> Result<Option<u32>, Error> {
    let open = |archive: &Archive| open_elsewhere(log.directory.look(&archive.name).ok()?.found);
    Ok(to_compress(log)?.iter().find_map(open))
}

/// Another process that has a file open, as far as this one may see.
fn open_elsewhere(found: Found) -> Option<u32> {
    open::other_holders(found).ok()?.seen(found)
}
