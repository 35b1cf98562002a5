//! Where an agent keeps what must outlive it.
//!
//! One directory, readable by its owner alone, used by one agent at a time: a lock says so for as long as the process
//! lives, however it ends.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// An agent's data directory.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be made or opened.
    #[error("the data directory {path} cannot be used; create it for this user or give another with --data-dir")]
    Unusable {
        /// The directory or a file in it.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another agent runs on it.
    #[error("another quell-agent already runs on {0}; stop it first, or give this one a --data-dir of its own")]
    Locked(PathBuf),
}

/// Holds the directory for one process; released when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

impl DataDir {
    /// The directory at this path; nothing is touched yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes the directory, for its owner alone, where it is missing.
    ///
    /// # Errors
    /// It is not a directory or cannot be made.
    pub fn create(&self) -> Result<(), Error> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|source| Error::Unusable { path: self.root.clone(), source })
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// Another process has it, or it cannot be used.
    pub fn lock(&self) -> Result<Lock, Error> {
        let path = self.root.join("lock");
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|source| Error::Unusable { path, source })?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| Error::Locked(self.root.clone()))?;
        Ok(Lock { _file: file })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the host's administrator allows: `agent.toml`.
    pub fn config(&self) -> PathBuf {
        self.root.join("agent.toml")
    }

    /// Key, certificates and what was granted at the join.
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Samples that wait for the controller.
    pub fn spool(&self) -> PathBuf {
        self.root.join("spool")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().join("new/agent"));
        data.create().unwrap();
        let lock = data.lock().unwrap();
        assert!(matches!(data.lock(), Err(Error::Locked(_))));
        drop(lock);
        // A child that another test is just starting may hold a copy of the descriptor until it runs its program.
        let start = std::time::Instant::now();
        while data.lock().is_err() {
            assert!(start.elapsed() < std::time::Duration::from_secs(10), "the lock is not free");
            std::thread::yield_now();
        }
    }
}
