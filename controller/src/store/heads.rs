//! Signed heads: lines in a file beside the log, each of which fixes the log up to one record.
//!
//! A head is signed at each checkpoint, when the store closes, and every few minutes while there are new records. On a
//! full disk none is signed; the room is for records, and the next head covers them.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use quell_link::{audit::Keys, authority::Authority};
use quell_model::audit::SignedHead;

use super::{Error, Head, error::RESTORE, files};

/// Signs heads of the log.
pub trait Signer: Send + Sync {
    /// One line that says that this is the head of the log, in this epoch, at this time.
    ///
    /// # Errors
    /// Why it cannot be signed.
    fn sign(&self, head: Head, epoch: u64, time: Timestamp) -> Result<SignedHead, String>;

    /// The record whose head a line is; `None`: nobody signed it.
    fn sequence_of(&self, line: &str) -> Option<u64>;
}

impl Signer for Authority {
    fn sign(&self, head: Head, epoch: u64, time: Timestamp) -> Result<SignedHead, String> {
        self.sign_head(epoch, head.sequence, head.hash, time).map_err(|error| error.to_string())
    }

    fn sequence_of(&self, line: &str) -> Option<u64> {
        let keys = Keys::new(self.installation(), &self.roots()).ok()?;
        keys.check(line).ok().map(|head| head.sequence)
    }
}

/// The file of heads.
pub(crate) struct Heads {
    path: PathBuf,
    signer: Option<Arc<dyn Signer>>,
    /// The newest record whose head was signed.
    newest: u64,
    /// When a head was signed, or tried to be, the last time.
    tried: Instant,
    every: Duration,
}

/// So many of the newest lines are looked at for a genuine head when the file is opened.
const LOOK: usize = 16;

impl Heads {
    /// Signs nothing yet.
    pub(crate) fn new(path: &Path, every: Duration) -> Self {
        Self { path: path.to_owned(), signer: None, newest: 0, tried: Instant::now(), every }
    }

    /// From now on heads are signed. An end of the file that a power cut left half-written is cut off.
    ///
    /// # Errors
    /// A head was signed of a record that the log, which ends with `head`, does not hold any more; or the file cannot be
    /// read.
    pub(crate) fn sign_with(&mut self, signer: Arc<dyn Signer>, head: Head) -> Result<(), Error> {
        let path = &self.path;
        let text = read(path)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            tracing::warn!(path = %path.display(), "a head that was being written is cut off");
            let file = File::options().write(true).open(path).map_err(Error::io("open", path))?;
            file.set_len(whole as u64).and_then(|()| file.sync_all()).map_err(Error::io("cut", path))?;
        }
        for line in text[..whole].lines().rev().take(LOOK) {
            if let Some(sequence) = signer.sequence_of(line) {
                self.newest = sequence;
                break;
            }
            tracing::warn!(path = %path.display(), "a signed head is damaged: verify the audit log");
        }
        if self.newest > head.sequence {
            return Err(Error::Damaged {
                what: format!(
                    "the log ends with record {}, but {} holds the signed head of record {}",
                    head.sequence,
                    path.display(),
                    self.newest
                ),
                lost: format!("records {} to {}, at least", head.sequence + 1, self.newest),
                remedy: RESTORE,
            });
        }
        self.signer = Some(signer);
        Ok(())
    }

    /// Whether a head is to be signed because of the time that has passed.
    pub(crate) fn is_due(&self, head: Head) -> bool {
        self.signer.is_some() && head.sequence > self.newest && self.tried.elapsed() >= self.every
    }

    /// Signs the head, unless it was signed already. Durable when it returns.
    pub(crate) fn sign(&mut self, head: Head, epoch: u64) -> Result<(), Error> {
        let Some(signer) = self.signer.clone().filter(|_| head.sequence > self.newest) else { return Ok(()) };
        self.tried = Instant::now();
        let signed = match signer.sign(head, epoch, Timestamp::now()) {
            Ok(signed) => signed,
            Err(reason) => {
                tracing::error!(reason, sequence = head.sequence, "the head of the log cannot be signed");
                return Ok(());
            }
        };
        let is_new = !self.path.exists();
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(Error::io("open", &self.path))?;
        let before = file.metadata().map_err(Error::io("read", &self.path))?.len();
        if let Err(error) = file.write_all(format!("{signed}\n").as_bytes()) {
            // Half a line must not stand before the next one.
            file.set_len(before).map_err(Error::io("cut", &self.path))?;
            return Err(Error::io("write to", &self.path)(error));
        }
        file.sync_data().map_err(Error::io("sync", &self.path))?;
        if is_new {
            files::sync_directory(files::directory_of(&self.path))?;
        }
        self.newest = head.sequence;
        Ok(())
    }

    /// Drops the heads of records before this one, which retention has removed.
    pub(crate) fn forget_before(&self, sequence: u64) -> Result<(), Error> {
        let text = read(&self.path)?;
        let is_wanted = |line: &&str| match line.parse::<SignedHead>() {
            Ok(signed) => signed.head.sequence >= sequence,
            // What is damaged stays to be seen.
            Err(_) => true,
        };
        let kept: String = text.lines().filter(is_wanted).map(|line| format!("{line}\n")).collect();
        if kept.len() == text.len() { Ok(()) } else { files::replace(&self.path, kept.as_bytes()) }
    }
}

/// The file's text; what is not UTF-8 in it makes lines that are no heads. Empty when it is not there.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// The whole lines of the file.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>, Error> {
    let text = read(path)?;
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    Ok(text[..whole].lines().map(str::to_owned).collect())
}
