//! One file of the log: a header, two slots that mark how far it is durable, and frames.
//!
//! ```text
//! 0      header   magic, format, sequence of the first record, hash of the record before it, CRC
//! 512    slot A   sequence and hash of a durable record, where its frame ends, CRC
//! 1024   slot B   the same; the newer one counts
//! 4096   frames   length, number of records, first sequence, CRC; then one line of JSON a record
//! …      zeros up to the allocated length
//! ```
//!
//! A frame is one commit: it is there as a whole or not at all. Slots are written in turn, after the sync that made the
//! frame durable, and reach the disk with the next sync at the latest: a slot never names a record that was not durable,
//! so a log that ends before its slot has lost something that was acknowledged.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use quell_model::digest::Digest;

use super::{Error, Head, chain::Encoded, error::RESTORE, files, record::Record};

/// The format that this version writes, of the whole data directory.
pub(crate) const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"quelllog";
const HEADER_BYTES: usize = 56;
const SLOTS: [u64; 2] = [512, 1024];
const SLOT_BYTES: usize = 52;
/// Where frames begin.
pub(crate) const FRAMES: u64 = 4096;
/// What a frame has besides its records.
pub(crate) const FRAME_HEADER: usize = 20;

/// How far a segment is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) head: Head,
    pub(crate) end: u64,
}

/// A segment that is written to.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Where the next frame goes.
    pub(crate) end: u64,
    /// How long the file is.
    pub(crate) length: u64,
    /// Counts marks, so that the slots take turns.
    marks: usize,
}

/// What the first bytes of a segment say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Sequence number of its first record.
    pub(crate) first: u64,
    /// Hash of the record before.
    pub(crate) previous: Digest,
}

/// Name of the segment that begins with a record.
pub(crate) fn name(first: u64) -> String {
    format!("{first:020}.log")
}

/// The record that a segment of this name begins with.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 20)?.parse().ok()
}

impl Segment {
    /// Creates a segment whose room is allocated; durable when it returns.
    pub(crate) fn create(directory: &Path, head: Head, length: u64) -> Result<Self, Error> {
        let path = directory.join(name(head.sequence + 1));
        // A crash while it was created may have left it; nothing is in it, or recovery would have found that.
        files::remove(&path)?;
        let file = files::create(&path)?;
        let prepare = || {
            files::allocate(&file, &path, length)?;
            let header = Header { first: head.sequence + 1, previous: head.hash };
            file.write_all_at(&header.encode(), 0).map_err(Error::io("write", &path))?;
            file.sync_all().map_err(Error::io("sync", &path))?;
            files::sync_directory(directory)
        };
        if let Err(error) = prepare() {
            files::remove(&path)?;
            return Err(error);
        }
        Ok(Self { path, file, end: FRAMES, length, marks: 0 })
    }

    /// Opens a segment to go on at `end`; what stands behind is cut off. Its marks become the one given.
    pub(crate) fn resume(path: PathBuf, head: Head, end: u64, wanted: u64, has_remains: bool) -> Result<Self, Error> {
        let file = File::options().read(true).write(true).open(&path).map_err(Error::io("open", &path))?;
        let mut length = file.metadata().map_err(Error::io("read", &path))?.len();
        if has_remains {
            // Zeros must follow, or a later scan would meet the remains.
            file.set_len(end).map_err(Error::io("cut", &path))?;
            length = end;
        }
        if length < wanted {
            match files::allocate(&file, &path, wanted) {
                Ok(()) => length = wanted,
                Err(Error::Full { .. }) => tracing::warn!(path = %path.display(), "no room to go on in this segment"),
                Err(error) => return Err(error),
            }
        }
        let mut segment = Self { path, file, end, length, marks: 0 };
        segment.mark(head)?;
        segment.mark(head)?;
        segment.file.sync_all().map_err(Error::io("sync", &segment.path))?;
        Ok(segment)
    }

    /// Whether a frame of so many bytes fits.
    pub(crate) fn has_room(&self, frame: usize) -> bool {
        self.end + frame as u64 <= self.length
    }

    /// Writes a frame. It is not durable yet.
    pub(crate) fn write(&mut self, frame: &[u8]) -> Result<(), Error> {
        self.file.write_all_at(frame, self.end).map_err(Error::io("write to", &self.path))?;
        self.end += frame.len() as u64;
        Ok(())
    }

    /// Notes that everything up to here is durable. The note itself becomes so with the next sync.
    pub(crate) fn mark(&mut self, head: Head) -> Result<(), Error> {
        let slot = SLOTS[self.marks % SLOTS.len()];
        self.marks += 1;
        let mark = Mark { head, end: self.end };
        self.file.write_all_at(&mark.encode(), slot).map_err(Error::io("write to", &self.path))
    }
}

/// A frame that holds these records.
pub(crate) fn frame(encoded: &[Encoded]) -> Result<Vec<u8>, Error> {
    let payload: usize = encoded.iter().map(|next| next.bytes.len() + 1).sum();
    let first = encoded.first().map_or(0, |next| next.record.sequence);
    let too_large = |_| Error::TooLarge { bytes: payload, limit: u32::MAX as usize };
    let length = u32::try_from(payload).map_err(too_large)?;
    let count = u32::try_from(encoded.len()).map_err(too_large)?;
    let mut frame = Vec::with_capacity(FRAME_HEADER + payload);
    frame.extend(length.to_le_bytes());
    frame.extend(count.to_le_bytes());
    frame.extend(first.to_le_bytes());
    frame.extend([0; 4]);
    for next in encoded {
        frame.extend_from_slice(&next.bytes);
        frame.push(b'\n');
    }
    let checksum = frame_checksum(&frame);
    frame[16..FRAME_HEADER].copy_from_slice(&checksum.to_le_bytes());
    Ok(frame)
}

fn frame_checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..16]);
    hasher.update(&frame[FRAME_HEADER..]);
    hasher.finalize()
}

/// What the header of a frame says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHeader {
    pub(crate) payload: usize,
    pub(crate) count: u32,
    pub(crate) first: u64,
}

impl FrameHeader {
    /// `None`: these are zeros; no frame was written here.
    pub(crate) fn read(bytes: &[u8; FRAME_HEADER]) -> Option<Self> {
        let payload = u32_at(bytes, 0) as usize;
        let header = Self { payload, count: u32_at(bytes, 4), first: u64_at(bytes, 8) };
        (bytes.iter().any(|byte| *byte != 0)).then_some(header)
    }
}

/// The records of a whole frame; `None`: it is damaged or torn.
pub(crate) fn records(frame: &[u8]) -> Option<Vec<Record>> {
    let (_, lines) = lines(frame)?;
    lines.into_iter().map(Record::parse).collect::<Result<_, _>>().ok()
}

/// The number of the first record of a whole frame, and the bytes of each; `None`: it is damaged or torn.
pub(crate) fn lines(frame: &[u8]) -> Option<(u64, Vec<&[u8]>)> {
    let header: &[u8; FRAME_HEADER] = frame.first_chunk()?;
    let header_says = FrameHeader::read(header)?;
    if header_says.payload + FRAME_HEADER != frame.len() || frame_checksum(frame) != u32_at(frame, 16) {
        return None;
    }
    let lines: Vec<&[u8]> = frame[FRAME_HEADER..].strip_suffix(b"\n")?.split(|byte| *byte == b'\n').collect();
    (lines.len() == header_says.count as usize).then_some((header_says.first, lines))
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend(self.first.to_le_bytes());
        bytes.extend(self.previous.0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// `None`: it is damaged.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Option<Self>, Error> {
        let Some(bytes) = bytes.get(..HEADER_BYTES) else { return Ok(None) };
        if &bytes[..8] != MAGIC || crc32fast::hash(&bytes[..52]) != u32_at(bytes, 52) {
            return Ok(None);
        }
        let found = u32_at(bytes, 8);
        if found > FORMAT {
            return Err(Error::Newer { path: path.to_owned(), found, known: FORMAT });
        }
        Ok(Some(Self { first: u64_at(bytes, 12), previous: digest_at(bytes, 20) }))
    }
}

impl Mark {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend(self.head.sequence.to_le_bytes());
        bytes.extend(self.end.to_le_bytes());
        bytes.extend(self.head.hash.0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Slot {
        let Some(bytes) = bytes.get(..SLOT_BYTES) else { return Slot::Damaged };
        if bytes.iter().all(|byte| *byte == 0) {
            return Slot::Empty;
        }
        if crc32fast::hash(&bytes[..48]) != u32_at(bytes, 48) {
            return Slot::Damaged;
        }
        let head = Head { sequence: u64_at(bytes, 0), hash: digest_at(bytes, 16) };
        Slot::Marked(Self { head, end: u64_at(bytes, 8) })
    }
}

enum Slot {
    Empty,
    Damaged,
    Marked(Mark),
}

/// A segment that was read whole.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) header: Header,
    pub(crate) records: Vec<Record>,
    /// The last record, or the one before the segment.
    pub(crate) head: Head,
    /// Where the last frame ends.
    pub(crate) end: u64,
    /// How far it was marked durable.
    pub(crate) mark: Option<Mark>,
    /// A slot that cannot be read.
    pub(crate) has_damaged_slot: bool,
    /// Bytes that are neither frames nor zeros follow.
    pub(crate) has_remains: bool,
    /// Where each frame begins: its first record and its offset, one entry every so many bytes.
    pub(crate) index: Vec<(u64, u64)>,
}

/// A frame starts at least this far after the one before that is in an index.
pub(crate) const INDEX_EVERY: u64 = 256 << 10;

/// Reads and checks a whole segment: every checksum, every link of the chain.
///
/// # Errors
/// It cannot be read, its header is damaged, or it ends before what was acknowledged.
pub(crate) fn scan(path: &Path) -> Result<Scanned, Error> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let Some(header) = Header::decode(&bytes, path)? else {
        let first = path.file_name().and_then(|name| first_of(&name.to_string_lossy()));
        return Err(Error::Damaged {
            what: format!("the header of {} is damaged", path.display()),
            lost: format!("the records from {} on", first.unwrap_or(1)),
            remedy: RESTORE,
        });
    };
    let (mark, has_damaged_slot) = read_mark(&bytes);
    let head = Head { sequence: header.first - 1, hash: header.previous };
    let mut scanned = Scanned {
        header,
        records: vec![],
        head,
        end: FRAMES,
        mark,
        has_damaged_slot,
        has_remains: false,
        index: vec![],
    };
    while let Some(records) = next_frame(&bytes, &scanned) {
        let frame_end = scanned.end + frame_bytes(&bytes, scanned.end);
        let due = scanned.index.last().is_none_or(|(_, at)| scanned.end - at >= INDEX_EVERY);
        if let Some(first) = records.first().filter(|_| due) {
            scanned.index.push((first.sequence, scanned.end));
        }
        scanned.end = frame_end;
        if let Some(last) = records.last() {
            scanned.head = Head { sequence: last.sequence, hash: last.hash };
        }
        scanned.records.extend(records);
    }
    scanned.has_remains = bytes.get(at(scanned.end)..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0));
    scanned.check_against_mark(path)?;
    Ok(scanned)
}

impl Scanned {
    fn check_against_mark(&self, path: &Path) -> Result<(), Error> {
        let Some(mark) = self.mark else { return Ok(()) };
        let reaches = self.head.sequence >= mark.head.sequence && self.end >= mark.end;
        let agrees = self.head.sequence != mark.head.sequence || self.head.hash == mark.head.hash;
        if reaches && agrees {
            return Ok(());
        }
        let from = self.head.sequence + 1;
        Err(Error::Damaged {
            what: format!("{} is damaged or cut off at byte {}", path.display(), self.end),
            lost: format!("acknowledged records {from} to {}, at least", mark.head.sequence.max(from)),
            remedy: RESTORE,
        })
    }
}

/// How far a segment is durable, from its first bytes, and whether a slot could not be read.
pub(crate) fn read_mark(bytes: &[u8]) -> (Option<Mark>, bool) {
    let mut newest: Option<Mark> = None;
    let mut is_damaged = false;
    for slot in SLOTS {
        match Mark::decode(bytes.get(at(slot)..).unwrap_or_default()) {
            Slot::Empty => {}
            Slot::Damaged => is_damaged = true,
            Slot::Marked(mark) if newest.is_none_or(|newest| newest.head.sequence <= mark.head.sequence) => {
                newest = Some(mark);
            }
            Slot::Marked(_) => {}
        }
    }
    (newest, is_damaged)
}

/// The records of the frame at the end of what was scanned, if it is whole and continues the chain.
fn next_frame(bytes: &[u8], scanned: &Scanned) -> Option<Vec<Record>> {
    let from = at(scanned.end);
    let header = FrameHeader::read(bytes.get(from..)?.first_chunk()?)?;
    let frame = bytes.get(from..from.checked_add(FRAME_HEADER)?.checked_add(header.payload)?)?;
    let records = records(frame)?;
    follows(scanned.head, &records).then_some(records)
}

/// Whether records continue the chain.
pub(crate) fn follows(head: Head, records: &[Record]) -> bool {
    let mut head = head;
    records.iter().all(|record| {
        let fits = record.sequence == head.sequence + 1 && record.previous == head.hash;
        head = Head { sequence: record.sequence, hash: record.hash };
        fits
    })
}

/// How long the frame at an offset says that it is.
pub(crate) fn frame_bytes(bytes: &[u8], from: u64) -> u64 {
    FRAME_HEADER as u64 + u64::from(u32_at(bytes, at(from)))
}

/// Offsets come from files that are in memory, so they fit.
fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

fn digest_at(bytes: &[u8], at: usize) -> Digest {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(Digest::default(), |chunk| Digest(*chunk))
}
