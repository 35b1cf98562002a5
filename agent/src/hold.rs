//! The hold that the host's own administrator puts on the agent: no command runs while it lasts.
//!
//! It is one small file in the data directory, written by `quell-agent hold` and read by the running agent whenever
//! it is about to act. So it works with the controller dead, with the network gone and across restarts of both. A
//! file that cannot be read or understood holds: doubt never lets an action through.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::watch::Watcher;

/// Name of the file in the data directory.
pub const FILE_NAME: &str = "hold.json";

/// A hold in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Why, in the administrator's words.
    pub reason: String,
    /// When it was put.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Timestamp,
}

/// Why the hold could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be written or synced.
    #[error("the hold could not be written to {path}; is the data directory writable for this user?")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be removed.
    #[error("the hold could not be lifted: {path} could not be removed; is the data directory writable for this user?")]
    Remove {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Where the hold is kept.
#[derive(Debug, Clone)]
pub struct HoldFile {
    path: PathBuf,
}

impl HoldFile {
    /// The hold of the agent with this data directory.
    pub fn new(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE_NAME) }
    }

    /// The file itself, to be watched.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The hold in force at `now`, if any. Reads one small file; a file that is damaged or unreadable is a hold
    /// without an end that says so.
    pub fn current(&self, now: Timestamp) -> Option<Hold> {
        let damaged = |why: &dyn std::fmt::Display| {
            Some(Hold {
                reason: format!(
                    "{} cannot be read ({why}); lift the hold with `quell-agent hold --lift` or remove the file",
                    self.path.display()
                ),
                // Always the same, so that looking twice is not a change.
                since: Timestamp::UNIX_EPOCH,
                until: Timestamp::MAX,
            })
        };
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return damaged(&error),
        };
        match serde_json::from_str::<Hold>(&text) {
            Ok(hold) if hold.until <= now => None,
            Ok(hold) => Some(hold),
            Err(error) => damaged(&error),
        }
    }

    /// Puts the hold durably: when this returns, a power cut does not lift it.
    ///
    /// # Errors
    /// The file could not be written; the hold before is then still in force.
    pub fn put(&self, hold: &Hold) -> Result<(), Error> {
        self.write(hold).map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    fn write(&self, hold: &Hold) -> io::Result<()> {
        let partial = self.path.with_extension("json.new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&partial)?;
        file.write_all(serde_json::to_string_pretty(hold)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, &self.path)?;
        self.sync_directory()
    }

    /// Lifts the hold; says whether there was one.
    ///
    /// # Errors
    /// The file is there and could not be removed.
    pub fn lift(&self) -> Result<bool, Error> {
        match fs::remove_file(&self.path).and_then(|()| self.sync_directory()) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::Remove { path: self.path.clone(), source }),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
    }
}

/// Follows the hold: the receiver has what is in force now, and is told when it is put, changed, lifted or has ended.
/// The task ends when nobody listens any more.
pub async fn follow(file: HoldFile, watcher: &Watcher) -> watch::Receiver<Option<Hold>> {
    let watched = watcher.file(file.path());
    let (sender, receiver) = watch::channel(read(&file).await);
    tokio::spawn(async move {
        loop {
            let until = sender.borrow().as_ref().map(|hold| hold.until);
            tokio::select! {
                () = sender.closed() => return,
                () = watched.changed() => {}
                () = end_of(until) => {}
            }
            let current = read(&file).await;
            sender.send_if_modified(|known| {
                let differs = *known != current;
                *known = current;
                differs
            });
        }
    });
    receiver
}

async fn read(file: &HoldFile) -> Option<Hold> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || file.current(Timestamp::now()));
    // The task cannot fail but by a panic, and does not panic.
    read.await.ok().flatten()
}

/// Returns soon after this moment of the wall clock, which may jump: it is looked at every minute.
async fn end_of(until: Option<Timestamp>) {
    const LOOK: Duration = Duration::from_secs(60);
    let Some(until) = until else { return std::future::pending().await };
    let left = Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(left.min(LOOK) + Duration::from_millis(5)).await;
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_hold_ends_by_itself_and_can_be_lifted() {
        let dir = tempfile::tempdir().unwrap();
        let file = HoldFile::new(dir.path());
        assert_eq!(file.current(at(100)), None);
        let hold = Hold { reason: "new disks".into(), since: at(100), until: at(100) + SignedDuration::from_hours(2) };
        file.put(&hold).unwrap();
        assert_eq!(HoldFile::new(dir.path()).current(at(100)), Some(hold.clone()));
        assert_eq!(file.current(hold.until), None);
        assert!(file.lift().unwrap());
        assert_eq!(file.current(at(100)), None);
        assert!(!file.lift().unwrap());
    }

    #[tokio::test]
    async fn changes_and_the_end_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = HoldFile::new(dir.path());
        let mut holds = follow(file.clone(), &Watcher::start().unwrap()).await;
        assert_eq!(*holds.borrow_and_update(), None);
        let since = Timestamp::now();
        let short = Hold { reason: "a".into(), since, until: since + SignedDuration::from_millis(400) };
        file.put(&short).unwrap();
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, holds.wait_for(Option::is_some)).await.unwrap().unwrap();
        tokio::time::timeout(limit, holds.wait_for(Option::is_none)).await.unwrap().unwrap();
        file.put(&Hold { until: since + SignedDuration::from_hours(1), ..short }).unwrap();
        tokio::time::timeout(limit, holds.wait_for(Option::is_some)).await.unwrap().unwrap();
        file.lift().unwrap();
        tokio::time::timeout(limit, holds.wait_for(Option::is_none)).await.unwrap().unwrap();
    }

    #[test]
    fn a_damaged_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        let file = HoldFile::new(dir.path());
        for damage in ["", "{", "{\"reason\":1}", "\0\0\0\0"] {
            fs::write(file.path(), damage).unwrap();
            let hold = file.current(at(100)).unwrap();
            assert!(hold.reason.contains("cannot be read"), "{damage:?}: {}", hold.reason);
        }
    }
}
