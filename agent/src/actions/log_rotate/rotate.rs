//! The steps of a rotation, each safe to repeat after a crash. All of them run with the rights that the log's
//! directory asks for, on names that are opened, compared and only then changed.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
};

use quell_model::action::{Compression, Method};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    Log, archives, copy,
    retention::{archives_of, over_retention, to_compress},
};
use crate::{
    actions::{Change, Item, Preview},
    files::{Directory, Entry, Error, Found, Handler},
};

/// How often lines that came while a log was copied are copied after it.
const CATCH_UP: u32 = 1000;

/// Archives with the time of one second.
const ATTEMPTS: u32 = 1000;

/// What the journal keeps of a rotation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Prepared {
    /// The archive's name, without the suffix of a compression.
    archive: String,
    /// Which file the log was.
    found: Option<Found>,
    /// How long it was, in bytes.
    size: u64,
}

/// What came of a rotation so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Freed {
    /// Bytes of disk that came free; a copy takes some first.
    pub(super) bytes: i64,
    /// Bytes of the log that were set aside.
    pub(super) rotated: u64,
    /// Archives removed.
    pub(super) removed: u64,
    /// The log was below its least size; only old archives were seen to.
    pub(super) nothing_set_aside: bool,
    /// What was left uncompressed, and why.
    pub(super) notes: Vec<String>,
}

impl Freed {
    pub(super) fn change(&self, path: &Path) -> Change {
        let bytes = u64::try_from(self.bytes).unwrap_or_default();
        let mut summary = if self.nothing_set_aside {
            format!("old archives of {} were seen to", path.display())
        } else {
            format!("{} was rotated: {} bytes set aside", path.display(), self.rotated)
        };
        summary.push_str(&format!(", {bytes} bytes came free, {} archives removed", self.removed));
        for note in &self.notes {
            summary.push_str("; ");
            summary.push_str(note);
        }
        Change::new(summary)
            .with("bytes_freed", bytes)
            .with("bytes_rotated", self.rotated)
            .with("archives_removed", self.removed)
    }
}

/// What a rotation would do.
pub(super) fn check(log: &Log) -> Result<Preview, Error> {
    let mut preview = Preview::default();
    let path = log.directory.path_of(&log.name).display().to_string();
    let due = match log.directory.open_file(&log.name, log.rule.method == Method::Copy) {
        Err(Error::Missing(_)) if !archives_of(log)?.is_empty() => {
            preview.note = format!("{path} does not exist");
            false
        }
        Err(error) => return Err(error),
        Ok((file, entry)) => {
            belongs_to_handler(log, &entry)?;
            let due = entry.size >= log.rule.min_size;
            if due {
                has_room(log, &file, entry.size)?;
                let detail = format!("{:?}, {:?}", log.rule.method, log.rule.compress).to_lowercase();
                preview.items.push(Item {
                    verb: "rotate",
                    object: path.clone(),
                    size: entry.size,
                    detail,
                    moving: true,
                });
            }
            if !due {
                let least = log.rule.min_size;
                preview.note = format!("{path} has {} bytes, less than the {least} to rotate at", entry.size);
            }
            due
        }
    };
    for archive in to_compress(log)? {
        let object = log.directory.path_of(&archive.name).display().to_string();
        let size = log.directory.look(&archive.name).map_or(0, |entry| entry.size);
        preview.items.push(Item { verb: "compress", object, size, detail: String::new(), moving: false });
    }
    for archive in over_retention(log, usize::from(due), jiff::Timestamp::now())? {
        let object = log.directory.path_of(&archive.name).display().to_string();
        let size = log.directory.look(&archive.name).map_or(0, |entry| entry.size);
        preview.items.push(Item {
            verb: "delete",
            object,
            size,
            detail: format!("archive of {}", archive.made),
            moving: false,
        });
    }
    Ok(preview)
}

/// A user's directory may hold files of others; with his rights they could not be handed on.
fn belongs_to_handler(log: &Log, entry: &Entry) -> Result<(), Error> {
    let handler = log.directory.handler();
    let all_powerful = handler == Handler::Agent && handler.uid() == 0;
    if all_powerful || entry.uid == handler.uid() {
        return Ok(());
    }
    let path = log.directory.path_of(&log.name);
    let remedy = format!("chown {} {}", handler.uid(), path.display());
    let reason = format!("belongs to user {} in a directory of user {}", entry.uid, handler.uid());
    Err(Error::Unsafe { path, reason, remedy })
}

/// Refuses a copy that would not fit, before anything is changed.
pub(super) fn has_room(log: &Log, file: &std::fs::File, size: u64) -> Result<(), Error> {
    if log.rule.method == Method::Rename && log.rule.compress == Compression::None {
        return Ok(());
    }
    let path = log.directory.path();
    let needed = copy::estimate(file, size, log.rule.compress).map_err(Error::system("read", path))?;
    let free = log.directory.free_bytes()?;
    if free >= needed { Ok(()) } else { Err(Error::NoSpace { path: path.to_owned(), needed, free }) }
}

/// Chooses a name that is free.
pub(super) fn prepare(log: &Log, now: jiff::Timestamp) -> Result<Prepared, Error> {
    let (found, size) = match log.directory.look(&log.name) {
        Ok(entry) => (Some(entry.found), entry.size),
        Err(Error::Missing(_)) => (None, 0),
        Err(error) => return Err(error),
    };
    let taken: Vec<OsString> = archives_of(log)?.into_iter().map(|archive| archive.name).collect();
    let is_free = |name: &OsString| {
        [Compression::None, Compression::Gzip, Compression::Zstd].iter().all(|compression| {
            let mut name = name.clone();
            name.push(archives::suffix(*compression));
            !taken.contains(&name)
        })
    };
    let free = (1..ATTEMPTS).map(|attempt| archives::name(&log.name, now, attempt)).find(is_free);
    let name = free.and_then(|name| name.into_string().ok());
    let archive = name.ok_or_else(|| Error::NotRegular(log.directory.path_of(&log.name)))?;
    Ok(Prepared { archive, found, size })
}

/// Sets the log aside: after this, nothing of it can be lost and new lines go to a new or an emptied file.
pub(super) fn set_aside(
    log: &Log,
    prepared: &Prepared,
    resumed: bool,
    cancel: &CancellationToken,
) -> Result<Freed, Error> {
    clear_partial(log, prepared)?;
    if resumed
        && log.rule.method == Method::Copy
        && let Some((archived, found)) = doubled(log, prepared)?
    {
        // It is made anew, with the lines that came since.
        log.directory.remove(&archived, found)?;
    }
    if resumed && archive_of(log, prepared).is_some() {
        make_successor(log, prepared)?;
        return Ok(Freed { rotated: prepared.size, ..Freed::default() });
    }
    if prepared.found.is_none() || prepared.size < log.rule.min_size {
        return Ok(Freed { nothing_set_aside: true, ..Freed::default() });
    }
    match log.rule.method {
        Method::Rename => rename(log, prepared),
        Method::Copy => copy_and_empty(log, prepared, cancel),
    }
}

fn rename(log: &Log, prepared: &Prepared) -> Result<Freed, Error> {
    let directory = &log.directory;
    let archive = OsStr::new(&prepared.archive);
    // Held open, so that the number of the file cannot be given to another one meanwhile.
    let (_held, entry) = directory.open_file(&log.name, false)?;
    belongs_to_handler(log, &entry)?;
    directory.rename(&log.name, archive)?;
    if directory.look(archive).map(|moved| moved.found).ok() != Some(entry.found) {
        // Somebody was faster: what was moved is not what was looked at, and goes back.
        directory.rename(archive, &log.name)?;
        return Err(Error::Exchanged(directory.path_of(&log.name)));
    }
    create_like(directory, &log.name, &entry)?;
    directory.sync()?;
    Ok(Freed { rotated: entry.size, ..Freed::default() })
}

/// Makes the log's successor; when the program that writes was faster, its file stays.
fn create_like(directory: &Directory, name: &OsStr, entry: &Entry) -> Result<(), Error> {
    match directory.create(name) {
        Ok(file) => directory.give(&file, name, entry),
        Err(Error::System { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// After a crash between the two: the log was renamed, and its successor may be missing.
fn make_successor(log: &Log, prepared: &Prepared) -> Result<(), Error> {
    match log.directory.look(OsStr::new(&prepared.archive)) {
        Ok(entry) if matches!(log.directory.look(&log.name), Err(Error::Missing(_))) => {
            create_like(&log.directory, &log.name, &entry)
        }
        _ => Ok(()),
    }
}

fn copy_and_empty(log: &Log, prepared: &Prepared, cancel: &CancellationToken) -> Result<Freed, Error> {
    let directory = &log.directory;
    let (file, entry) = directory.open_file(&log.name, true)?;
    belongs_to_handler(log, &entry)?;
    has_room(log, &file, entry.size)?;
    let archive = OsString::from(format!("{}{}", prepared.archive, archives::suffix(log.rule.compress)));
    let mut copy = copy::copy(directory, &file, entry.size, &archive, log.rule.compress, cancel)?;
    let disk = put_in_place(directory, &copy, &archive, &entry)?;
    if let Err(error) = empty(log, &file, &mut copy, cancel) {
        // The log has everything that is in the archive.
        directory.remove(&archive, copy.found)?;
        return Err(error);
    }
    Ok(Freed { bytes: signed(entry.disk) - signed(disk), rotated: copy.length, ..Freed::default() })
}

/// Empties the log as soon as all that it holds is in the copy. A line that is written between the last look and the
/// emptying, which follow each other at once, would be lost; programs that can be told to open their log again are
/// better served by renaming.
fn empty(log: &Log, file: &std::fs::File, copy: &mut copy::Copy, cancel: &CancellationToken) -> Result<(), Error> {
    let path = log.directory.path_of(&log.name);
    for _ in 0..CATCH_UP {
        let length = size_of(log, file)?;
        if length == copy.length {
            return file.set_len(0).and_then(|()| file.sync_all()).map_err(Error::system("empty", &path));
        }
        copy.extend(file, length, cancel).map_err(Error::system("copy", &path))?;
    }
    let text = "it is written to faster than it can be copied; use method: rename";
    Err(Error::system("empty", &path)(std::io::Error::other(text)))
}

fn size_of(log: &Log, file: &std::fs::File) -> Result<u64, Error> {
    let system = Error::system("inspect", log.directory.path_of(&log.name));
    Entry::of_file(file).map(|entry| entry.size).map_err(system)
}

/// The archive of a copy whose original still begins with all that is in it.
fn doubled(log: &Log, prepared: &Prepared) -> Result<Option<(OsString, Found)>, Error> {
    let Some(archived) = archive_of(log, prepared) else { return Ok(None) };
    let (packed, entry) = log.directory.open_file(&archived, false)?;
    // One that does not read back was being made longer, and so the log has it all.
    let Ok((digest, length)) = copy::unpacked(compression_of(&archived), &packed) else {
        return Ok(Some((archived, entry.found)));
    };
    let (file, live) = log.directory.open_file(&log.name, false)?;
    let path = log.directory.path_of(&log.name);
    let same = live.size >= length
        && length > 0
        && copy::hash(file, length).map_err(Error::system("read", path))? == (digest, length);
    Ok(same.then_some((archived, entry.found)))
}

/// The archive that a rotation has made, compressed or not.
fn archive_of(log: &Log, prepared: &Prepared) -> Option<OsString> {
    [Compression::Gzip, Compression::Zstd, Compression::None]
        .iter()
        .map(|compression| OsString::from(format!("{}{}", prepared.archive, archives::suffix(*compression))))
        .find(|name| log.directory.look(name).is_ok())
}

fn compression_of(archive: &OsStr) -> Compression {
    match Path::new(archive).extension().and_then(OsStr::to_str) {
        Some("gz") => Compression::Gzip,
        Some("zst") => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Gives a finished copy its owner and its name; answers the bytes that it takes on the disk.
pub(super) fn put_in_place(
    directory: &Directory,
    copy: &copy::Copy,
    archive: &OsStr,
    like: &Entry,
) -> Result<u64, Error> {
    let partial = archives::partial(archive);
    directory.give(&copy.file, &partial, like)?;
    copy.file.sync_all().map_err(Error::system("sync", directory.path_of(&partial)))?;
    directory.rename(&partial, archive)?;
    let placed = directory.look(archive)?;
    if placed.found != copy.found {
        return Err(Error::Exchanged(directory.path_of(archive)));
    }
    directory.sync()?;
    Ok(placed.disk)
}

/// What an agent that died has left of its copy.
fn clear_partial(log: &Log, prepared: &Prepared) -> Result<(), Error> {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None] {
        let archive = OsString::from(format!("{}{}", prepared.archive, archives::suffix(compression)));
        let partial = archives::partial(&archive);
        if let Ok(entry) = log.directory.look(&partial) {
            log.directory.remove(&partial, entry.found)?;
        }
    }
    Ok(())
}

/// Differences of sizes may be negative.
pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The archive is there, and under the log's name stands its successor.
pub(super) fn verify(log: &Log, prepared: &Prepared) -> Result<(), Error> {
    if prepared.found.is_none() || prepared.size < log.rule.min_size {
        return Ok(());
    }
    if archive_of(log, prepared).is_none() && log.rule.keep != Some(0) {
        return Err(Error::Missing(log.directory.path_of(OsStr::new(&prepared.archive))));
    }
    match log.directory.look(&log.name) {
        Ok(now) if log.rule.method == Method::Rename && Some(now.found) == prepared.found => {
            Err(Error::Exchanged(log.directory.path_of(&log.name)))
        }
        Ok(_) | Err(Error::Missing(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// After a crash: whether every step was done.
pub(super) fn is_done(log: &Log, prepared: &Prepared) -> Result<bool, Error> {
    let partial_left = log.directory.names()?.iter().any(|name| {
        let text = name.to_string_lossy();
        text.starts_with(&format!(".{}", prepared.archive)) && text.ends_with(".quell-part")
    });
    let doubled = log.rule.method == Method::Copy && doubled(log, prepared)?.is_some();
    let rotated = verify(log, prepared).is_ok() && !doubled;
    Ok(rotated
        && !partial_left
        && to_compress(log)?.is_empty()
        && over_retention(log, 0, jiff::Timestamp::now())?.is_empty())
}

/// Puts a log back that was only renamed; a log that was copied, or whose successor is in use, is left: nothing of it
/// is lost.
pub(super) fn undo(log: &Log, prepared: &Prepared) -> Result<bool, Error> {
    clear_partial(log, prepared)?;
    let archive = OsStr::new(&prepared.archive);
    let renamed = log.directory.look(archive).is_ok_and(|entry| Some(entry.found) == prepared.found);
    if !renamed || !matches!(log.directory.look(&log.name), Err(Error::Missing(_))) {
        return Ok(false);
    }
    log.directory.rename(archive, &log.name)?;
    log.directory.sync()?;
    Ok(true)
}
