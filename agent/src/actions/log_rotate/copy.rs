//! Copying a log, compressed or not, so that the original may go afterwards: complete, read back, durable.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek as _, SeekFrom, Write},
};

use quell_model::{action::Compression, digest::Digest};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::archives;
use crate::files::{Directory, Entry, Error, Found};

/// Bytes that are handled at a time; between two of them a cancellation is seen.
const BLOCK: usize = 128 * 1024;

/// Parts of a log that are tried in order to guess how small it gets.
const SAMPLES: u64 = 4;

/// Room that is asked for besides the guess, in bytes.
const MARGIN: u64 = 64 * 1024;

/// A finished copy, which can be made longer.
pub(super) struct Copy {
    /// Bytes of the original that it holds.
    pub(super) length: u64,
    /// The copy's own file.
    pub(super) file: File,
    /// Which file that is.
    pub(super) found: Found,
    compression: Compression,
}

impl Copy {
    /// Adds what the original has beyond the copy's end, up to `length`. Read back and durable when this answers.
    pub(super) fn extend(&mut self, source: &File, length: u64, cancel: &CancellationToken) -> io::Result<()> {
        // Both formats, and plain text, may be put one behind the other.
        let place = self.file.seek(SeekFrom::End(0))?;
        let file = self.file.try_clone()?;
        let (digest, added) = fill(source, self.length..length, file, self.compression, cancel)?;
        if unpacked_from(self.compression, &self.file, place)? != (digest, added) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the copy does not read back as it was written"));
        }
        self.length += added;
        Ok(())
    }
}

enum Encoder {
    Gzip(flate2::write::GzEncoder<File>),
    Zstd(zstd::stream::write::Encoder<'static, File>),
    Plain(File),
}

impl Encoder {
    fn new(compression: Compression, file: File) -> io::Result<Self> {
        Ok(match compression {
            Compression::Gzip => Self::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::new(6))),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(file, 3)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Compression::None => Self::Plain(file),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Plain(file) => file.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<File> {
        match self {
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Plain(file) => Ok(file),
        }
    }
}

/// Hashes what a copy holds once it is unpacked, from this place of the copy on, and says how long that is.
fn unpacked_from(compression: Compression, file: &File, place: u64) -> io::Result<(Digest, u64)> {
    let mut file = file.try_clone()?;
    file.seek(SeekFrom::Start(place))?;
    match compression {
        Compression::Gzip => hash(flate2::read::MultiGzDecoder::new(file), u64::MAX),
        Compression::Zstd => hash(zstd::stream::read::Decoder::new(file)?, u64::MAX),
        Compression::None => hash(file, u64::MAX),
    }
}

/// Hashes all that a copy holds once it is unpacked, and says how long that is.
pub(super) fn unpacked(compression: Compression, file: &File) -> io::Result<(Digest, u64)> {
    unpacked_from(compression, file, 0)
}

/// Hashes at most so many bytes.
pub(super) fn hash(source: impl Read, limit: u64) -> io::Result<(Digest, u64)> {
    let mut source = source.take(limit);
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut length = 0;
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok((Digest(hasher.finalize().into()), length)),
            count => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

/// About how many bytes a copy takes, guessed from parts of the log.
pub(super) fn estimate(file: &File, size: u64, compression: Compression) -> io::Result<u64> {
    if compression == Compression::None {
        return Ok(size + MARGIN);
    }
    let mut file = file.try_clone()?;
    let (mut read, mut packed) = (0_u64, 0_u64);
    let mut buffer = vec![0; BLOCK / 2];
    for sample in 0..SAMPLES {
        file.seek(SeekFrom::Start(size / SAMPLES * sample))?;
        let count = file.read(&mut buffer)?;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&buffer[..count])?;
        read += count as u64;
        packed += encoder.finish()?.len() as u64;
    }
    // A quarter more than the parts say; never less than a hundredth.
    let share = u128::from(size) * u128::from(packed) * 5 / 4 / u128::from(read.max(1));
    Ok(u64::try_from(share).unwrap_or(u64::MAX).max(size / 100) + MARGIN)
}

/// Copies the first `length` bytes of a file into a new one of the directory, under the name of an unfinished copy.
/// The copy is complete, was read back and is durable when this answers; after an error nothing of it is left.
pub(super) fn copy(
    directory: &Directory,
    source: &File,
    length: u64,
    archive: &OsStr,
    compression: Compression,
    cancel: &CancellationToken,
) -> Result<Copy, Error> {
    let partial = archives::partial(archive);
    let file = directory.create(&partial)?;
    let found = Entry::of_file(&file).map_err(Error::system("inspect", directory.path_of(&partial)))?.found;
    let mut copy = Copy { length: 0, file, found, compression };
    let made = copy.extend(source, length, cancel).map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => Error::Stopped(directory.path_of(archive)),
        io::ErrorKind::InvalidData => Error::Corrupt(directory.path_of(archive)),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::NoSpace {
            path: directory.path().to_owned(),
            needed: length,
            free: directory.free_bytes().unwrap_or_default(),
        },
        _ => Error::system("copy to", directory.path_of(&partial))(error),
    });
    if let Err(error) = made {
        if let Err(error) = directory.remove(&partial, found) {
            let path = directory.path_of(&partial);
            tracing::warn!(path = %path.display(), %error, "an unfinished copy could not be removed");
        }
        return Err(error);
    }
    Ok(copy)
}

/// Writes a part of the source behind what the file holds already.
fn fill(
    source: &File,
    part: std::ops::Range<u64>,
    file: File,
    compression: Compression,
    cancel: &CancellationToken,
) -> io::Result<(Digest, u64)> {
    let mut source = source.try_clone()?;
    source.seek(SeekFrom::Start(part.start))?;
    let mut encoder = Encoder::new(compression, file)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut left = part.end.saturating_sub(part.start);
    let length = left;
    while left > 0 {
        if cancel.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "called off"));
        }
        let want = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let count = source.read(&mut buffer[..want])?;
        if count == 0 {
            let text = "the log became shorter while it was copied";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        hasher.update(&buffer[..count]);
        encoder.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    encoder.finish()?.sync_all()?;
    Ok((Digest(hasher.finalize().into()), length))
}
