//! The journal: what was begun here and how it ended, durable before and after each effect.
//!
//! One file of lines, each with its checksum: intent (synced) → effect → outcome (synced). Each line is enough by
//! itself, so a torn tail loses at most what was not promised yet. The file is written over zeros that were synced
//! before, which keeps a sync to one write of data. It is made anew at each start and whenever it has grown: what is
//! not acknowledged is kept whole, of the rest the newest keys with their outcomes, so that a late duplicate is still
//! answered and not done.
//!
//! A sync that failed once is not tried again: the journal says so and takes nothing more, and so nothing more is done.

mod line;

use std::{
    collections::{BTreeMap, HashMap},
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::outcome::Stored;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "journal";

/// The file grows by this many zeros at a time, in bytes.
const STEP: u64 = 256 * 1024;

/// It is made anew when it has grown by this much, in bytes.
const COMPACT_AFTER: u64 = 1024 * 1024;

/// Room that is made durable with each intent, so that its outcome finds a place on a full disk, in bytes. An outcome
/// holds 8 KiB of output at most, which may take six times as much when it is written as JSON.
const OUTCOME_ROOM: u64 = 64 * 1024;

/// How long another agent is given to end,
const LOCK_LIMIT: Duration = Duration::from_secs(1);

/// and how often it is looked.
const LOCK_EVERY: Duration = Duration::from_millis(20);

/// Keys of ended and acknowledged orders that are remembered.
const REMEMBERED: usize = 1024;

/// Orders that may wait for their acknowledgement before new ones are refused.
pub(crate) const UNACKNOWLEDGED_LIMIT: usize = 1024;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be opened, read or made anew.
    #[error("the agent's journal {path} cannot be {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// "read", "written", "locked".
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Another agent has it.
    #[error("another agent already runs with the data directory {0}; stop it first")]
    Taken(PathBuf),
    /// A sync failed earlier: what is on the disk is not known.
    #[error(
        "the agent's journal could not be made durable ({0}), so nothing is done any more; repair the disk and restart the agent"
    )]
    Broken(String),
}

/// An order that was begun.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Under which key it is found.
    pub key: String,
    /// "cmd-17".
    pub command_id: String,
    /// The action.
    pub action: String,
    /// Its parameters.
    pub parameters: Json,
    /// The fence of the order.
    pub fence: u64,
    /// The plan that it is a step of, by its hash; absent in journals of agents that verified none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Digest>,
    /// Its number there.
    #[serde(default)]
    pub step: u32,
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
    /// When it was begun, Unix time in milliseconds.
    pub begun_unix_ms: i64,
    /// What it holds.
    pub resources: Vec<String>,
    /// What the action needs to undo it, or to understand it after a crash.
    pub prepared: Json,
    /// The key of the order that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<String>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// An order begins.
    Intent(Intent),
    /// An order has ended, or was not begun.
    Outcome(Stored),
    /// The controller has the outcome.
    Acknowledged(String),
    /// The highest fence seen.
    Fence(u64),
}

/// What is known of one key.
#[derive(Debug, Clone, Default)]
pub struct Record {
    order: u64,
    /// That it began.
    pub intent: Option<Intent>,
    /// How it ended.
    pub outcome: Option<Stored>,
    /// Whether the controller has the outcome.
    pub acknowledged: bool,
}

/// What the lines amount to.
#[derive(Debug, Default)]
struct Index {
    records: HashMap<String, Record>,
    next: u64,
    fence: u64,
    unacknowledged: usize,
}

impl Index {
    fn apply(&mut self, line: &Line) {
        match line {
            Line::Intent(intent) => {
                self.fence = self.fence.max(intent.fence);
                self.record(&intent.key).intent = Some(intent.clone());
            }
            Line::Outcome(stored) => {
                self.fence = self.fence.max(stored.fence);
                self.record(&stored.key).outcome = Some(stored.clone());
            }
            Line::Acknowledged(key) => {
                if let Some(record) = self.records.get_mut(key)
                    && record.outcome.is_some()
                    && !record.acknowledged
                {
                    record.acknowledged = true;
                    // The controller has it; what is kept is what a late duplicate is answered with.
                    if let Some(stored) = &mut record.outcome {
                        stored.output = String::new();
                    }
                    self.unacknowledged -= 1;
                }
            }
            Line::Fence(fence) => self.fence = self.fence.max(*fence),
        }
    }

    /// Orders that were begun and have not ended.
    fn begun(&self) -> u64 {
        self.records.values().filter(|record| record.intent.is_some() && record.outcome.is_none()).count() as u64
    }

    fn record(&mut self, key: &str) -> &mut Record {
        if !self.records.contains_key(key) {
            self.next += 1;
            self.unacknowledged += 1;
            self.records.insert(key.to_owned(), Record { order: self.next, ..Record::default() });
        }
        self.records.entry(key.to_owned()).or_default()
    }

    /// Forgets the oldest of those that are over for both sides.
    fn forget(&mut self) {
        let excess = (self.records.len() - self.unacknowledged).saturating_sub(REMEMBERED);
        if excess == 0 {
            return;
        }
        let over: BTreeMap<u64, String> = self
            .records
            .iter()
            .filter(|(_, record)| record.acknowledged)
            .map(|(key, record)| (record.order, key.clone()))
            .collect();
        for key in over.values().take(excess) {
            self.records.remove(key);
        }
    }

    /// The lines that say all of it, in the order in which it happened.
    fn lines(&self) -> Vec<Line> {
        let ordered: BTreeMap<u64, (&String, &Record)> =
            self.records.iter().map(|(key, record)| (record.order, (key, record))).collect();
        let mut lines = vec![Line::Fence(self.fence)];
        for (key, record) in ordered.into_values() {
            lines.extend(record.intent.clone().map(Line::Intent));
            lines.extend(record.outcome.clone().map(Line::Outcome));
            if record.acknowledged {
                lines.push(Line::Acknowledged(key.clone()));
            }
        }
        lines
    }
}

/// The open file.
struct Writer {
    file: File,
    path: PathBuf,
    /// Where the next line goes.
    end: u64,
    /// Up to where zeros are durable.
    allocated: u64,
    /// It is made anew when it has grown past this.
    compact_at: u64,
    broken: Option<String>,
}

/// The journal; cheap to clone.
#[derive(Clone)]
pub struct Journal {
    index: Arc<Mutex<Index>>,
    writer: Arc<Mutex<Writer>>,
    /// Held for as long as the agent runs.
    _lock: Arc<File>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    /// Opens the journal of a data directory, or makes it. Blocks.
    ///
    /// # Errors
    /// When another agent has it, or the disk says no. Damaged lines are no error: the file is kept aside and what it
    /// still says is taken over, loudly.
    pub fn open(data_directory: &Path) -> Result<Self, Error> {
        let path = data_directory.join(FILE_NAME);
        let failed = |what| {
            let path = path.clone();
            move |source| Error::File { path, what, source }
        };
        let lock =
            lock(data_directory).map_err(failed("locked"))?.ok_or_else(|| Error::Taken(data_directory.into()))?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed("read")(error)),
        };
        let read = line::read(&bytes);
        if read.damaged > 0 {
            let aside = data_directory.join(format!("{FILE_NAME}.damaged"));
            std::fs::copy(&path, &aside).map_err(failed("kept aside"))?;
            tracing::error!(
                path = %path.display(), aside = %aside.display(), lines = read.damaged,
                "lines of the journal are damaged; orders that they spoke of may be reported as unknown"
            );
        }
        let mut index = Index::default();
        read.lines.iter().for_each(|line| index.apply(line));
        index.forget();
        let writer = Writer::make(&path, &index.lines()).map_err(failed("written"))?;
        Ok(Self { index: Arc::new(Mutex::new(index)), writer: Arc::new(Mutex::new(writer)), _lock: Arc::new(lock) })
    }

    /// Appends lines; with `sync` they are durable when this answers. Never blocks the runtime.
    ///
    /// # Errors
    /// When they could not be written or made durable: then what they announce must not be done.
    pub async fn append(&self, lines: Vec<Line>, sync: bool) -> Result<(), Error> {
        let journal = self.clone();
        let written = tokio::task::spawn_blocking(move || journal.append_now(&lines, sync)).await;
        written.unwrap_or_else(|error| Err(Error::Broken(error.to_string())))
    }

    /// The same, on this thread. Blocks.
    ///
    /// # Errors
    /// As [`Journal::append`].
    pub fn append_now(&self, lines: &[Line], sync: bool) -> Result<(), Error> {
        let mut writer = locked(&self.writer);
        let intents = lines.iter().filter(|line| matches!(line, Line::Intent(_))).count() as u64;
        let begun = if intents > 0 { locked(&self.index).begun() + intents } else { 0 };
        writer.append(lines, sync, begun * OUTCOME_ROOM)?;
        let mut index = locked(&self.index);
        lines.iter().for_each(|line| index.apply(line));
        if writer.end > writer.compact_at {
            index.forget();
            let live = index.lines();
            drop(index);
            let path = writer.path.clone();
            match Writer::make(&path, &live) {
                Ok(made) => *writer = made,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "the journal could not be made anew and grows");
                    writer.compact_at = writer.end + COMPACT_AFTER;
                }
            }
        }
        Ok(())
    }

    /// What is known of a key.
    pub fn find(&self, key: &str) -> Option<Record> {
        locked(&self.index).records.get(key).cloned()
    }

    /// The highest fence that was seen.
    pub fn fence(&self) -> u64 {
        locked(&self.index).fence
    }

    /// Whether as many orders wait for their acknowledgement as may.
    pub fn is_full(&self) -> bool {
        locked(&self.index).unacknowledged >= UNACKNOWLEDGED_LIMIT
    }

    /// What is begun or not acknowledged, oldest first.
    pub fn open_records(&self) -> Vec<Record> {
        let index = locked(&self.index);
        let open = index.records.values().filter(|record| !record.acknowledged);
        let ordered: BTreeMap<u64, Record> = open.map(|record| (record.order, record.clone())).collect();
        ordered.into_values().collect()
    }

    /// For tests: every sync fails from now on.
    #[cfg(test)]
    pub(crate) fn break_for_test(&self) {
        locked(&self.writer).broken = Some("the test says so".to_owned());
    }
}

impl Writer {
    /// Writes a whole new file and puts it in the place of the old one.
    fn make(path: &Path, lines: &[Line]) -> io::Result<Self> {
        let next = path.with_extension("next");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| line::write(line, &mut bytes));
        let end = u64::try_from(bytes.len()).map_err(io::Error::other)?;
        let allocated = (end / STEP + 1) * STEP;
        bytes.resize(usize::try_from(allocated).map_err(io::Error::other)?, 0);
        file.write_all(&bytes)?;
        file.sync_all()?;
        std::fs::rename(&next, path)?;
        // From here on the new file is the journal, so a failure may not lead back to the old one.
        let directory = File::open(path.parent().unwrap_or_else(|| Path::new(".")));
        let broken = directory.and_then(|directory| directory.sync_all()).err().map(|error| error.to_string());
        Ok(Self { file, path: path.to_owned(), end, allocated, compact_at: end + COMPACT_AFTER, broken })
    }

    /// Appends lines, and sees that as many bytes after them have their place on the disk.
    fn append(&mut self, lines: &[Line], sync: bool, room: u64) -> Result<(), Error> {
        if let Some(reason) = &self.broken {
            return Err(Error::Broken(reason.clone()));
        }
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| line::write(line, &mut bytes));
        let end = self.end + bytes.len() as u64;
        self.reserve(end + room)?;
        // What was half written does not end in a checksum that fits; the next line is written over it.
        self.file.write_all_at(&bytes, self.end).map_err(|source| self.unwritten(source))?;
        if sync {
            self.file.sync_data().map_err(|error| self.breaks(&error))?;
        }
        self.end = end;
        Ok(())
    }

    /// Puts zeros ahead, so that a line needs no change of the file's length to become durable.
    fn reserve(&mut self, end: u64) -> Result<(), Error> {
        let step = usize::try_from(STEP).map_err(|error| self.unwritten(io::Error::other(error)))?;
        while end >= self.allocated {
            self.file.write_all_at(&vec![0; step], self.allocated).map_err(|source| self.unwritten(source))?;
            self.file.sync_all().map_err(|error| self.breaks(&error))?;
            self.allocated += STEP;
        }
        Ok(())
    }

    fn unwritten(&self, source: io::Error) -> Error {
        Error::File { path: self.path.clone(), what: "written", source }
    }

    /// A sync failed: the kernel may have dropped what was to be written, and says so once.
    fn breaks(&mut self, error: &io::Error) -> Error {
        self.broken = Some(error.to_string());
        Error::Broken(error.to_string())
    }
}

/// One agent for each data directory; absent when another one has it. An agent that is just ending, or a program that
/// it was just starting, is given a moment.
fn lock(data_directory: &Path) -> io::Result<Option<File>> {
    let path = data_directory.join("journal.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let patience = std::time::Instant::now() + LOCK_LIMIT;
    loop {
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Some(file)),
            Err(rustix::io::Errno::WOULDBLOCK) if std::time::Instant::now() < patience => {
                std::thread::sleep(LOCK_EVERY);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
