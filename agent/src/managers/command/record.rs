//! What is remembered of a service between two agents: one small file each, replaced whole.
//!
//! It need not survive a power cut: the processes do not either.

use std::{
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::process::Process;

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The process that was started or found last.
    pub(super) process: Option<Process>,
    /// How often it was started.
    pub(super) starts: u64,
    /// Whether a person wants it to be down.
    pub(super) stopped_by_person: bool,
}

/// Where the record of one service lies.
#[derive(Debug, Clone)]
pub(super) struct Records {
    directory: PathBuf,
    name: String,
}

impl Records {
    pub(super) fn new(data_directory: &Path, service: &str) -> Self {
        // The grammar of names allows neither '/' nor a leading '.'.
        Self { directory: data_directory.join("services"), name: format!("{service}.json") }
    }

    /// Nothing is remembered of a service that is new. A damaged record is replaced by the next one: what runs is
    /// found by its mark.
    pub(super) fn read(&self) -> io::Result<Record> {
        let path = self.directory.join(&self.name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), %error, "the record of a service is damaged and starts anew");
                Record::default()
            })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))),
        }
    }

    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        let next = self.directory.join(format!(".{}.next", self.name));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        std::fs::rename(&next, self.directory.join(&self.name))
    }
}
