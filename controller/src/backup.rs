//! Backups of a data directory, made while a controller serves it, and their return.
//!
//! A backup is a directory: everything that the data directory holds but what can be made anew, the log up to one record
//! that was durable when the backup began, and a list of all files with their SHA-256, written last. It holds the private
//! keys of the certificate authority and is for its owner alone.
//!
//! A restored directory ends with a record that says so: the next start is a new epoch, and everything is only observed
//! until an operator says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use quell_engine::{Actor, Change};
use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::notices::{self, BackupMade, NOTICES};
use crate::store::{
    Batch, DiskStore, Error, Head, Options, RESTORED, Store as _,
    chain::to_json,
    checkpoint, files,
    recover::{self, Places},
    segment,
};

/// Name of the list of files in a backup.
pub const LIST: &str = "backup.json";

/// The format of the list that this version writes.
const FORMAT: u32 = 1;

/// Entries of a data directory that are not copied as they are.
const NOT_COPIED: [&str; 8] = ["log", "checkpoints", "blobs", "view", "view.damaged", "reserve", HEADS, NOTICES];

/// The signed heads; copied before the log, so that none of them is of a record that the copy does not hold.
const HEADS: &str = "heads";

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Of the list.
    format: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its newest record; everything up to it is in the backup, nothing after it.
    pub sequence: u64,
    /// The hash of that record.
    pub hash: Digest,
    /// Its files by their path, with length in bytes and SHA-256.
    pub files: BTreeMap<String, (u64, Digest)>,
}

impl Summary {
    /// The length of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|(bytes, _)| bytes).sum()
    }
}

/// Copies a data directory to `out`, which must not exist or be empty. A controller may be serving it meanwhile.
///
/// # Errors
/// The directory is not a controller's, or of a newer version; its log is damaged; something cannot be read or written.
/// A half-made backup is left for the operator to remove; it has no list and cannot be restored.
pub fn backup(data_directory: &Path, out: &Path) -> Result<Summary, Error> {
    let places = Places::new(data_directory);
    must_be_absent_or_empty(out)?;
    recover::check_format_strictly(&places)?;
    // Retention waits for the next segment while this is held.
    let held = File::open(&places.log).map_err(Error::io("open", &places.log))?;
    held.lock_shared().map_err(Error::io("lock", &places.log))?;
    let mut copy = Copy { from: data_directory, out, files: BTreeMap::new() };
    files::make_directory(out)?;
    if places.heads.exists() {
        copy.file(Path::new(HEADS), None)?;
    }
    let head = copy.log(&places)?;
    copy.checkpoints(&places, head)?;
    copy.tree(Path::new("blobs"))?;
    for name in files::names(data_directory)? {
        if !NOT_COPIED.contains(&name.as_str()) {
            copy.tree(Path::new(&name))?;
        }
    }
    copy.sync_directories()?;
    let summary = Summary {
        format: FORMAT,
        made_at: Timestamp::now(),
        sequence: head.sequence,
        hash: head.hash,
        files: copy.files,
    };
    files::replace(&out.join(LIST), &to_json(&summary))?;
    let to = out.display().to_string();
    let made = BackupMade { made_at: summary.made_at, sequence: summary.sequence, hash: summary.hash, to };
    if let Err(error) = notices::leave(data_directory, &made) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the backup is whole, but will not be on record");
    }
    Ok(summary)
}

/// Makes a data directory from a backup. `data_directory` must not exist or be empty; it is there as a whole afterwards,
/// or not at all.
///
/// # Errors
/// The backup is incomplete, damaged or of a newer version, or cannot be written.
pub fn restore(archive: &Path, data_directory: &Path) -> Result<Summary, Error> {
    let summary = read_list(archive)?;
    must_be_absent_or_empty(data_directory)?;
    let mut name = data_directory.as_os_str().to_owned();
    name.push(".restoring");
    let staging = PathBuf::from(name);
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(Error::io("remove", &staging))?;
    }
    if let Err(error) = fill(archive, &staging, &summary) {
        // It holds the authority's private key: nothing of it stays behind.
        fs::remove_dir_all(&staging).map_err(Error::io("remove", &staging))?;
        return Err(error);
    }
    if data_directory.exists() {
        fs::remove_dir(data_directory).map_err(Error::io("replace", data_directory))?;
    }
    fs::rename(&staging, data_directory).map_err(Error::io("put in place", data_directory))?;
    files::sync_directory(files::directory_of(data_directory))?;
    Ok(summary)
}

/// Copies every file of a backup and compares it with the list.
fn fill(archive: &Path, staging: &Path, summary: &Summary) -> Result<(), Error> {
    files::make_directory(staging)?;
    let mut copy = Copy { from: archive, out: staging, files: BTreeMap::new() };
    for (path, expected) in &summary.files {
        copy.file(Path::new(path), None)?;
        if copy.files.get(path) != Some(expected) {
            return Err(Error::Archive(format!(
                "{} is damaged: its length or SHA-256 is not the one in {LIST}; use another backup",
                archive.join(path).display()
            )));
        }
    }
    copy.sync_directories()?;
    begin_epoch(staging, summary)
}

/// Checks the whole log by opening it, and ends it with a record of the restore.
fn begin_epoch(directory: &Path, summary: &Summary) -> Result<(), Error> {
    let mut store = DiskStore::open(directory, Options::default())?;
    let head = store.reader().head();
    if head != (Head { sequence: summary.sequence, hash: summary.hash }) {
        return Err(Error::Archive(format!("the log ends with record {}, not {}", head.sequence, summary.sequence)));
    }
    let time = Timestamp::now();
    let fence = store.lease("restore", time)?;
    let change = Change {
        time,
        actor: Actor::Controller,
        kind: RESTORED,
        text: format!("restored from the backup made at {} (record {})", summary.made_at, summary.sequence),
        ids: BTreeMap::new(),
        data: serde_json::json!({ "sequence": summary.sequence, "madeAt": summary.made_at }),
        writes: vec![],
    };
    store.commit(Batch { guards: vec![], changes: vec![change], fence })?;
    Box::new(store).close()
}

fn read_list(archive: &Path) -> Result<Summary, Error> {
    let path = archive.join(LIST);
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => Error::Archive(format!(
            "{} is no whole backup: it has no {LIST}; name a directory that `quell-controller backup` made to its end",
            archive.display()
        )),
        _ => Error::io("read the list of the backup", &path)(source),
    })?;
    let summary: Summary = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Archive(format!("{} is not the list of a backup: {error}", path.display())))?;
    if summary.format > FORMAT {
        return Err(Error::Newer { path, found: summary.format, known: FORMAT });
    }
    let leaves = |path: &str| Path::new(path).components().any(|part| !matches!(part, std::path::Component::Normal(_)));
    match summary.files.keys().find(|path| leaves(path)) {
        Some(outside) => Err(Error::Archive(format!("{} names {outside:?}, which is outside of it", path.display()))),
        None => Ok(summary),
    }
}

fn must_be_absent_or_empty(path: &Path) -> Result<(), Error> {
    match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(false) => {
            Err(Error::Archive(format!("{} is not empty; name a directory that does not exist", path.display())))
        }
        Err(error) => Err(Error::io("list", path)(error)),
    }
}

/// Copies files and notes what they are.
struct Copy<'a> {
    from: &'a Path,
    out: &'a Path,
    files: BTreeMap<String, (u64, Digest)>,
}

impl Copy<'_> {
    /// The segments, the newest one up to what is durable now.
    fn log(&mut self, places: &Places) -> Result<Head, Error> {
        let names = files::names(&places.log)?;
        let segments: Vec<&String> = names.iter().filter(|name| segment::first_of(name).is_some()).collect();
        let Some((newest, sealed)) = segments.split_last() else {
            return Err(Error::Archive(format!("there is no log in {}", places.log.display())));
        };
        let start = durable(&places.log.join(newest))?;
        for name in sealed {
            self.file(&Path::new("log").join(name), None)?;
        }
        self.file(&Path::new("log").join(newest), Some(&start))?;
        Ok(start.head)
    }

    fn checkpoints(&mut self, places: &Places, head: Head) -> Result<(), Error> {
        for name in files::names(&places.checkpoints)? {
            if checkpoint::sequence_of(&name).is_some_and(|sequence| sequence <= head.sequence) {
                self.file(&Path::new("checkpoints").join(name), None)?;
            }
        }
        Ok(())
    }

    /// Regular files only; a link or a socket is not what a controller keeps.
    fn tree(&mut self, path: &Path) -> Result<(), Error> {
        let source = self.from.join(path);
        let kind = fs::symlink_metadata(&source).map_err(Error::io("read", &source))?.file_type();
        if kind.is_file() {
            return self.file(path, None);
        }
        if kind.is_dir() {
            for name in files::names(&source)? {
                self.tree(&path.join(name))?;
            }
        }
        Ok(())
    }

    /// Copies one file, or the durable part of a segment, and syncs it.
    fn file(&mut self, path: &Path, start: Option<&Start>) -> Result<(), Error> {
        let (source, target) = (self.from.join(path), self.out.join(path));
        files::make_directory(files::directory_of(&target))?;
        let mut file = File::open(&source).map_err(Error::io("open", &source))?;
        let (header, end) = start.map_or((&[][..], u64::MAX), |start| (&start.bytes[..], start.end));
        file.seek(io::SeekFrom::Start(header.len() as u64)).map_err(Error::io("read", &source))?;
        let mut from = header.chain(file.take(end - header.len() as u64));
        let mut to = files::create(&target)?;
        let (mut hasher, mut bytes, mut buffer) = (sha2::Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            let count = from.read(&mut buffer).map_err(Error::io("read", &source))?;
            if count == 0 {
                break;
            }
            to.write_all(&buffer[..count]).map_err(Error::io("write", &target))?;
            hasher.update(&buffer[..count]);
            bytes += count as u64;
        }
        to.sync_all().map_err(Error::io("sync", &target))?;
        self.files.insert(path.to_string_lossy().into_owned(), (bytes, Digest(hasher.finalize().into())));
        Ok(())
    }

    fn sync_directories(&self) -> Result<(), Error> {
        let directories: BTreeSet<PathBuf> =
            self.files.keys().map(|path| files::directory_of(&self.out.join(path)).to_owned()).collect();
        directories.iter().try_for_each(|directory| files::sync_directory(directory))
    }
}

/// The durable part of the newest segment.
struct Start {
    /// What stands before its frames, as it was when this was found out: the marker goes on with the controller.
    bytes: Vec<u8>,
    head: Head,
    end: u64,
}

/// How far the newest segment is durable. A marker may be caught half-written, as the controller goes on; the other one
/// is whole then.
fn durable(path: &Path) -> Result<Start, Error> {
    let mut bytes = vec![0; usize::try_from(segment::FRAMES).unwrap_or(0)];
    let file = File::open(path).map_err(Error::io("open", path))?;
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0).map_err(Error::io("read", path))?;
    let header = segment::Header::decode(&bytes, path)?
        .ok_or_else(|| Error::Archive(format!("the header of {} is damaged", path.display())))?;
    let before = Head { sequence: header.first - 1, hash: header.previous };
    let (head, end) = segment::read_mark(&bytes).0.map_or((before, segment::FRAMES), |mark| (mark.head, mark.end));
    Ok(Start { bytes, head, end })
}
