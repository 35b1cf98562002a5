//! Reading the log while it is written: what `quell events --follow` and the audit see.
//!
//! The newest records are kept in memory, so that followers cost no disk; older ones are read from the segments. Only
//! what is durable is ever shown.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{
    Error, Head, Reader, Record,
    blobs::Blobs,
    error::RESTORE,
    heads,
    recover::Places,
    segment::{self, FRAME_HEADER, FRAMES, FrameHeader, INDEX_EVERY},
};

/// How many records are kept in memory.
const RECENT: usize = 1_024;

/// Places of frames in a segment: the first record and the offset, in steps.
type Index = Vec<(u64, u64)>;

/// The log, to be read.
#[derive(Debug)]
pub(crate) struct History {
    directory: PathBuf,
    heads: PathBuf,
    blobs: Blobs,
    /// By the first record of the segment.
    segments: Mutex<BTreeMap<u64, Index>>,
    recent: Mutex<VecDeque<Arc<Record>>>,
    head: watch::Sender<Head>,
}

impl History {
    pub(crate) fn new(places: &Places, segments: BTreeMap<u64, Index>, head: Head) -> Self {
        Self {
            directory: places.log.clone(),
            heads: places.heads.clone(),
            blobs: places.blobs.clone(),
            segments: Mutex::new(segments),
            recent: Mutex::new(VecDeque::with_capacity(RECENT)),
            head: watch::Sender::new(head),
        }
    }

    /// A frame has become durable, at this offset of the newest segment.
    pub(crate) fn add(&self, records: Vec<Record>, offset: u64) {
        let Some((first, last)) = records.first().zip(records.last()) else { return };
        let head = Head { sequence: last.sequence, hash: last.hash };
        if let Some(mut newest) = locked(&self.segments).last_entry() {
            note(newest.get_mut(), first.sequence, offset);
        }
        let mut recent = locked(&self.recent);
        for record in records {
            if recent.len() == RECENT {
                recent.pop_front();
            }
            // What was too large for the log is read back from its file when it is asked for.
            if record.data_blob.is_some() {
                recent.clear();
            } else {
                recent.push_back(Arc::new(record));
            }
        }
        drop(recent);
        self.head.send_replace(head);
    }

    /// A new segment begins with this record.
    pub(crate) fn begin_segment(&self, first: u64) {
        locked(&self.segments).insert(first, Index::new());
    }

    /// The segments that begin before this record are gone.
    pub(crate) fn forget_before(&self, first: u64) {
        let mut segments = locked(&self.segments);
        let kept = segments.split_off(&first);
        *segments = kept;
    }

    /// The first records of all segments.
    pub(crate) fn segments(&self) -> Vec<u64> {
        locked(&self.segments).keys().copied().collect()
    }

    /// The segment that holds a record (or the oldest one), where to begin in it, and which one follows.
    fn find(&self, sequence: u64) -> Option<(u64, u64, Option<u64>)> {
        let segments = locked(&self.segments);
        let (first, index) = segments.range(..=sequence).next_back().or_else(|| segments.first_key_value())?;
        let place = index.partition_point(|(at, _)| *at <= sequence);
        let offset = place.checked_sub(1).map_or(FRAMES, |place| index[place].1);
        let next = segments.range(first + 1..).next().map(|(next, _)| *next);
        Some((*first, offset, next))
    }

    /// Reads from the segments what `decode` makes of a frame: its items, numbered.
    fn read_from_disk<T>(&self, from: u64, limit: usize, decode: Decode<T>) -> Result<Vec<T>, Error> {
        let head = self.head().sequence;
        let mut found: Vec<T> = Vec::new();
        let mut wanted = from.max(1);
        while found.len() < limit && wanted <= head {
            let Some((first, offset, next)) = self.find(wanted) else { break };
            wanted = wanted.max(first);
            let path = self.directory.join(segment::name(first));
            let mut pass = Pass { wanted, last: next.map_or(head, |next| next - 1), left: limit - found.len() };
            match self.read_segment((&path, first, offset), &mut pass, decode, &mut found) {
                // Retention has just removed it: the next one is the oldest now.
                Err(error) if error.kind() == io::ErrorKind::NotFound && found.is_empty() && next.is_some() => {
                    wanted = next.unwrap_or(head + 1);
                    continue;
                }
                result => result.map_err(Error::io("read", &path))?,
            }
            if pass.left > 0 && pass.wanted <= pass.last {
                return Err(lost(&path, pass.wanted, pass.last));
            }
            wanted = pass.wanted;
        }
        Ok(found)
    }

    /// Reads frames from an offset on, and notes where they are.
    fn read_segment<T>(
        &self,
        (path, first, mut offset): (&Path, u64, u64),
        pass: &mut Pass,
        decode: Decode<T>,
        found: &mut Vec<T>,
    ) -> io::Result<()> {
        let mut file = BufReader::new(File::open(path)?);
        file.seek(SeekFrom::Start(offset))?;
        while pass.left > 0 && pass.wanted <= pass.last {
            let mut header = [0; FRAME_HEADER];
            let Some(frame) = read_exact(&mut file, &mut header)?.then(|| FrameHeader::read(&header)).flatten() else {
                break;
            };
            if let Some(index) = locked(&self.segments).get_mut(&first) {
                note(index, frame.first, offset);
            }
            if frame.first + u64::from(frame.count) <= pass.wanted {
                file.seek_relative(i64::try_from(frame.payload).unwrap_or(i64::MAX))?;
            } else {
                let mut bytes = header.to_vec();
                file.by_ref().take(frame.payload as u64).read_to_end(&mut bytes)?;
                let Some(items) = decode(&bytes) else { break };
                pass.take(items, found);
            }
            offset += (FRAME_HEADER + frame.payload) as u64;
        }
        Ok(())
    }

    /// Puts back what was too large for the log.
    fn with_data(&self, record: Arc<Record>) -> Result<Arc<Record>, Error> {
        let Some(digest) = record.data_blob else { return Ok(record) };
        let data = self.blobs.get(digest)?;
        Ok(Arc::new(Record { data, ..Record::clone(&record) }))
    }
}

/// What is still wanted of a segment.
struct Pass {
    wanted: u64,
    last: u64,
    left: usize,
}

impl Pass {
    fn take<T>(&mut self, items: Vec<(u64, T)>, found: &mut Vec<T>) {
        for (sequence, item) in items {
            if sequence == self.wanted && self.left > 0 && self.wanted <= self.last {
                self.wanted += 1;
                self.left -= 1;
                found.push(item);
            }
        }
    }
}

/// Makes numbered items of a whole frame; `None`: it is damaged.
type Decode<T> = fn(&[u8]) -> Option<Vec<(u64, T)>>;

fn records(frame: &[u8]) -> Option<Vec<(u64, Arc<Record>)>> {
    Some(segment::records(frame)?.into_iter().map(|record| (record.sequence, Arc::new(record))).collect())
}

fn lines(frame: &[u8]) -> Option<Vec<(u64, Vec<u8>)>> {
    let (first, lines) = segment::lines(frame)?;
    Some((first..).zip(lines).map(|(sequence, line)| (sequence, line.to_vec())).collect())
}

/// Says whether there was as much.
fn read_exact(file: &mut BufReader<File>, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn note(index: &mut Index, first: u64, offset: u64) {
    if index.last().is_none_or(|(_, at)| offset >= at + INDEX_EVERY) {
        index.push((first, offset));
    }
}

fn lost(path: &Path, from: u64, to: u64) -> Error {
    Error::Damaged {
        what: format!("{} is damaged", path.display()),
        lost: format!("the text of records {from} to {to}, or some of them"),
        remedy: RESTORE,
    }
}

/// What is in these locks is whole after every statement.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader for History {
    fn head(&self) -> Head {
        *self.head.borrow()
    }

    fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    fn records(&self, from: u64, limit: usize) -> Result<Vec<Arc<Record>>, Error> {
        match self.recent(from, limit) {
            Some(records) => Ok(records),
            None => {
                let found = self.read_from_disk(from, limit, records)?;
                found.into_iter().map(|record| self.with_data(record)).collect()
            }
        }
    }

    fn lines(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, Error> {
        self.read_from_disk(from, limit, lines)
    }

    fn heads(&self) -> Result<Vec<String>, Error> {
        heads::lines(&self.heads)
    }

    fn recent(&self, from: u64, limit: usize) -> Option<Vec<Arc<Record>>> {
        if from > self.head().sequence || limit == 0 {
            return Some(Vec::new());
        }
        let recent = locked(&self.recent);
        let oldest = recent.front()?.sequence;
        let skip = usize::try_from(from.checked_sub(oldest)?).ok()?;
        Some(recent.iter().skip(skip).take(limit).cloned().collect())
    }
}
