//! `quell-controller audit verify`: whether the log of a data directory, or of a copy of one, is whole.
//!
//! It reads the files themselves and believes nothing else of the directory but the authority's certificate, whose
//! fingerprint stands in every join string and can be given. Every line is hashed again, every link, frame and file that
//! a record names is checked, and every signed head must be met. A controller may be serving the directory meanwhile.

use std::path::{Path, PathBuf};

use quell_link::{
    audit::{self, Keys},
    authority::{self, Authority},
};
use quell_model::{
    audit::{Fault, Summary, Taken, Verifier},
    digest::Digest,
};

use crate::{
    init::AUTHORITY,
    store::{
        self, checkpoint, files, heads,
        recover::{Newest, Places},
        segment::{self, FRAME_HEADER, FRAMES, FrameHeader, Mark},
    },
};

#[cfg(test)]
mod tests;

/// What is verified.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory, or a backup of one.
    pub data_dir: PathBuf,
    /// A file of signed heads that was kept elsewhere, which the log must continue.
    pub since: Option<PathBuf>,
    /// The authority's fingerprint, as in join strings; absent: the directory's own certificate is believed.
    pub fingerprint: Option<Digest>,
}

/// Why a log is not whole, or that it could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record is not the one that it should be.
    #[error("{fault} ({}, at byte {offset})", path.display())]
    At {
        /// What is wrong.
        fault: Fault,
        /// The segment.
        path: PathBuf,
        /// Where the record stands in it.
        offset: u64,
    },
    /// The log as a whole.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A frame cannot be read.
    #[error("{} is damaged at byte {offset}, after record {after}: {reason}", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The last record before.
        after: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A file is missing, or is not what it should be.
    #[error("{} {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A signed head is none.
    #[error("line {line} of {}: {source}", path.display())]
    Head {
        /// The file.
        path: PathBuf,
        /// Which line.
        line: usize,
        /// Why.
        source: audit::Error,
    },
    /// The authority's certificate cannot be used.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// Another authority's.
    #[error("the authority in {} is not the one with the fingerprint {expected}", path.display())]
    Foreign {
        /// Its directory.
        path: PathBuf,
        /// The one that was given.
        expected: Digest,
    },
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] audit::Error),
    /// A file cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Verifies the log. `progress` is told the number of each record in turn, and of the newest one that is signed.
///
/// # Errors
/// What is wrong first, and where.
pub fn verify(options: &Options, progress: &mut dyn FnMut(u64)) -> Result<Summary, Error> {
    let places = Places::new(&options.data_dir);
    let keys = keys(options)?;
    // Before the log: a head that is signed meanwhile is of a record that is read as well.
    let signed = heads_in(&places.heads, &keys)?;
    if signed.is_empty() {
        let reason = "holds no signed head, and every controller signs one when it is made: it was removed";
        return Err(Error::File { path: places.heads, reason: reason.to_owned() });
    }
    let mut verifier = Verifier::new(1, signed)?;
    if let Some(since) = &options.since {
        let kept = heads_in(since, &keys)?;
        if kept.is_empty() {
            return Err(Error::File { path: since.clone(), reason: "holds no signed head".to_owned() });
        }
        kept.iter().try_for_each(|head| verifier.must_continue(head))?;
    }
    let mut walk = Walk { places: &places, verifier, progress };
    walk.segments()?;
    walk.must_reach_what_others_name()?;
    Ok(walk.verifier.finish()?)
}

fn keys(options: &Options) -> Result<Keys, Error> {
    let path = options.data_dir.join(AUTHORITY);
    let keys = Authority::public(&path).map_err(Error::from).and_then(|(name, roots)| Ok(Keys::new(&name, &roots)?))?;
    match options.fingerprint {
        Some(expected) if !keys.has(expected) => Err(Error::Foreign { path, expected }),
        _ => Ok(keys),
    }
}

/// The heads in a file, each of them checked.
fn heads_in(path: &Path, keys: &Keys) -> Result<Vec<quell_model::audit::Head>, Error> {
    let lines = heads::lines(path)?;
    let heads = lines.iter().enumerate().map(|(index, line)| {
        keys.check(line).map_err(|source| Error::Head { path: path.to_owned(), line: index + 1, source })
    });
    heads.collect()
}

struct Walk<'a> {
    places: &'a Places,
    verifier: Verifier,
    progress: &'a mut dyn FnMut(u64),
}

/// A segment in memory.
struct Open {
    path: PathBuf,
    bytes: Vec<u8>,
    /// How far it was acknowledged.
    mark: Option<Mark>,
    is_last: bool,
}

impl Walk<'_> {
    fn segments(&mut self) -> Result<(), Error> {
        let names = files::names(&self.places.log)?;
        let firsts: Vec<u64> = names.iter().filter_map(|name| segment::first_of(name)).collect();
        for (place, first) in firsts.iter().enumerate() {
            let path = self.places.log.join(segment::name(*first));
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                // Retention has just removed it.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.verifier.last().is_none() => {
                    continue;
                }
                Err(error) => return Err(store::Error::io("read", &path)(error).into()),
            };
            let mark = segment::read_mark(&bytes).0;
            self.segment(*first, &Open { path, bytes, mark, is_last: place + 1 == firsts.len() })?;
        }
        Ok(())
    }

    fn segment(&mut self, first: u64, open: &Open) -> Result<(), Error> {
        let header = segment::Header::decode(&open.bytes, &open.path)?;
        let Some(header) = header.filter(|header| header.first == first) else {
            return Err(self.damaged(open, 0, "its header is not that of a segment of this name"));
        };
        if let Some(last) = self.verifier.last() {
            let sequence = last.sequence + 1;
            if header.first != sequence {
                return Err(at(open, 0, Fault::OutOfOrder { expected: sequence, found: header.first }));
            }
            if header.previous != last.hash {
                return Err(at(open, 0, Fault::Broken { sequence }));
            }
        }
        let mut offset = FRAMES;
        while let Some(length) = self.frame(open, offset)? {
            if offset == FRAMES
                && let Some(last) = self.verifier.last()
                && last.sequence < header.first
            {
                return Err(self.damaged(open, offset, "its first record is not the one that its name says"));
            }
            offset += length;
        }
        self.must_reach_mark(open, offset)
    }

    /// Takes the records of the frame at an offset; `None`: the log ends here.
    fn frame(&mut self, open: &Open, offset: u64) -> Result<Option<u64>, Error> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = open.bytes.get(from..).unwrap_or_default();
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let length = rest
            .first_chunk::<FRAME_HEADER>()
            .and_then(FrameHeader::read)
            .and_then(|header| header.payload.checked_add(FRAME_HEADER));
        let frame = length.and_then(|length| rest.get(..length));
        let Some((_, lines)) = frame.and_then(segment::lines) else {
            // What a power cut leaves behind the last commit was acknowledged to nobody.
            let is_torn = open.is_last && open.mark.is_some_and(|mark| offset >= mark.end);
            return if is_torn {
                Ok(None)
            } else {
                Err(self.damaged(open, offset, "a commit is cut off or was changed"))
            };
        };
        let mut place = offset + FRAME_HEADER as u64;
        for line in lines {
            let taken = self.verifier.take(line).map_err(|fault| at(open, place, fault))?;
            (self.progress)(taken.sequence);
            self.must_have_files(&taken)?;
            place += line.len() as u64 + 1;
        }
        Ok(Some(place - offset))
    }

    /// The files that a record names, because they were too large for the log.
    fn must_have_files(&self, taken: &Taken) -> Result<(), Error> {
        for digest in &taken.blobs {
            let path = self.places.blobs.path(*digest);
            let reason = match std::fs::read(&path) {
                Ok(bytes) if Digest::of(&bytes) == *digest => continue,
                Ok(_) => format!("was changed, and record {} names it", taken.sequence),
                Err(error) => format!("cannot be read, and record {} names it: {error}", taken.sequence),
            };
            return Err(Error::File { path, reason });
        }
        Ok(())
    }

    /// What was acknowledged must be there.
    fn must_reach_mark(&self, open: &Open, offset: u64) -> Result<(), Error> {
        let Some(mark) = open.mark else { return Ok(()) };
        match self.verifier.last() {
            Some(last) if last.sequence > mark.head.sequence => Ok(()),
            Some(last) if last.sequence == mark.head.sequence && last.hash == mark.head.hash => Ok(()),
            // An empty segment is marked with the record before it.
            None if mark.end == FRAMES => Ok(()),
            _ => Err(self.damaged(open, offset, "records that were acknowledged do not follow")),
        }
    }

    /// The other files of the directory name records as well.
    fn must_reach_what_others_name(&self) -> Result<(), Error> {
        let last = self.verifier.last().map_or(0, |last| last.sequence);
        let newest = Newest::read(self.places).map_or(0, |newest| newest.segment.saturating_sub(1));
        let checkpoint = checkpoint::list(&self.places.checkpoints).unwrap_or_default().first().copied().unwrap_or(0);
        let named = newest.max(checkpoint);
        if named > last {
            let reason = format!("ends with record {last}, and other files name record {named}: its end was cut off");
            return Err(Error::File { path: self.places.log.clone(), reason });
        }
        Ok(())
    }

    fn damaged(&self, open: &Open, offset: u64, reason: &'static str) -> Error {
        let after = self.verifier.last().map_or(0, |last| last.sequence);
        Error::Damaged { path: open.path.clone(), offset, after, reason }
    }
}

fn at(open: &Open, offset: u64, fault: Fault) -> Error {
    Error::At { fault, path: open.path.clone(), offset }
}
