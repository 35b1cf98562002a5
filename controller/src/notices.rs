//! Notices: what other programs did to the data directory while a controller serves it, or while none does, left there
//! for the controller to record. Only the controller writes the log.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use quell_engine::{Actor, Change};
use quell_model::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::store::{Error, chain::to_json, files};

/// The directory of notices inside the data directory.
pub(crate) const NOTICES: &str = "notices";

/// Largest notice, bytes.
const LARGEST: u64 = 4 << 10;

/// A backup was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackupMade {
    pub(crate) made_at: Timestamp,
    pub(crate) sequence: u64,
    pub(crate) hash: Digest,
    /// Where to, as the program was told.
    pub(crate) to: String,
}

/// Leaves a notice; it belongs to whoever owns the data directory, so that a backup made as root is recorded as well.
pub(crate) fn leave(data_dir: &Path, made: &BackupMade) -> Result<(), Error> {
    let directory = data_dir.join(NOTICES);
    files::make_directory(&directory)?;
    let path = directory.join(format!("backup-{}.json", made.made_at.as_nanosecond()));
    files::replace(&path, &to_json(made))?;
    let owner = fs::metadata(data_dir).map_err(Error::io("read", data_dir))?;
    for path in [&directory, &path] {
        if fs::metadata(path).is_ok_and(|found| found.uid() != owner.uid()) {
            chown(path, Some(owner.uid()), Some(owner.gid())).map_err(Error::io("give away", path))?;
        }
    }
    Ok(())
}

/// The notices that wait. One that cannot be read is passed over, with a warning.
pub(crate) fn waiting(data_dir: &Path) -> Vec<(PathBuf, Change)> {
    let directory = data_dir.join(NOTICES);
    // There is no directory before the first notice.
    let names = if directory.exists() { files::names(&directory).unwrap_or_default() } else { Vec::new() };
    let read = |path: &Path| -> Result<Change, String> {
        let length = fs::symlink_metadata(path).map_err(|error| error.to_string())?.len();
        if length > LARGEST {
            return Err(format!("it has {length} bytes"));
        }
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map(|made| change(&made)).map_err(|error| error.to_string())
    };
    let mut found = Vec::new();
    for path in names.into_iter().map(|name| directory.join(name)) {
        match read(&path) {
            Ok(change) => found.push((path, change)),
            Err(reason) => tracing::warn!(path = %path.display(), reason, "a notice cannot be read"),
        }
    }
    found
}

fn change(made: &BackupMade) -> Change {
    Change {
        time: made.made_at,
        actor: Actor::Controller,
        kind: "backupMade",
        text: format!("a backup up to record {} was made at {:.0}", made.sequence, made.made_at),
        ids: BTreeMap::new(),
        data: serde_json::json!(made),
        writes: Vec::new(),
    }
}
