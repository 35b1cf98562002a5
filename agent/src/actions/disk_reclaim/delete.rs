//! Deleting what is listed, file by file, and saying what became of each.
//!
//! A file is first moved aside to a name that only its identity gives, looked at there, and only then removed: a program
//! that renames files in the same moment cannot put another one under the knife. After a crash a file may stand under
//! either name, and nothing else needs to be known.

use std::{ffi::OsString, path::Path};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::{Kept, Listed, named};
use crate::{
    actions::{Change, Failure, held},
    files::{Directory, Error, open},
    legal_hold::LegalHoldFile,
};

/// What deleting needs, besides the list.
pub(super) struct Knife {
    pub(super) directory: Directory,
    pub(super) legal_holds: LegalHoldFile,
    pub(super) deadline: Instant,
    pub(super) cancel: CancellationToken,
    /// It was begun before a crash.
    pub(super) resumed: bool,
}

/// What became of the list.
#[derive(Debug, Default)]
struct Tally {
    deleted: Vec<Listed>,
    /// Somebody else was faster.
    gone: Vec<Kept>,
    kept: Vec<Kept>,
    stopped: Option<&'static str>,
}

/// Where a listed file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Under its own name.
    There,
    /// Moved aside by an agent that died.
    Aside,
    /// Nowhere.
    Gone,
    /// Under its name stands another one, or it was changed.
    Other,
}

impl Knife {
    /// Deletes each file of the list that still may go.
    pub(super) fn delete(&self, files: &[Listed]) -> Result<Change, Failure> {
        let mut tally = Tally::default();
        for file in files {
            if self.cancel.is_cancelled() || Instant::now() >= self.deadline {
                let why = if self.cancel.is_cancelled() { "it was called off" } else { "its time was over" };
                tally.stopped = Some(why);
                tally.kept.push(Kept { name: file.name.clone(), why: why.to_owned() });
                continue;
            }
            match self.one(file) {
                Ok(Place::Gone) if !self.resumed => {
                    tally.gone.push(Kept { name: file.name.clone(), why: "gone already".to_owned() });
                }
                Ok(_) => tally.deleted.push(file.clone()),
                Err(why) => tally.kept.push(Kept { name: file.name.clone(), why }),
            }
        }
        let synced = self.directory.sync();
        let change = tally.change(self.directory.path(), &Self::still_open(&tally));
        match synced {
            Err(error) => Err(tally.failed(change, &format!("and it is not known to be durable: {error}"))),
            Ok(()) if tally.stopped.is_some() => {
                let why = tally.stopped.unwrap_or_default();
                Err(tally.failed(change, &format!("{why} before the rest")))
            }
            Ok(()) if tally.deleted.is_empty() && !tally.kept.is_empty() => {
                Err(tally.failed(change, "nothing was deleted"))
            }
            Ok(()) => Ok(change),
        }
    }

    /// Deletes one file, or says why it stays.
    fn one(&self, file: &Listed) -> Result<Place, String> {
        let path = self.directory.path_of(file.name.as_ref());
        let holds = self.legal_holds.read().map_err(|error| error.to_string())?;
        if let Some(hold) = holds.of(&path) {
            return Err(held(hold));
        }
        let holders = open::holders([file.found]).map_err(|error| unseen(&error))?;
        if let Some(pid) = holders.of(file.found).map_err(|hidden| hidden.to_string())? {
            return Err(opened(pid));
        }
        let handler = self.directory.handler();
        let removed = handler.run(|| remove(&self.directory, file));
        removed.map_err(|error| error.to_string())?.map_err(|error| match error {
            Error::Exchanged(_) => "it is not the file of the list any more, or was changed".to_owned(),
            error => error.to_string(),
        })
    }

    /// The files that were deleted while somebody had them open: their blocks come free later.
    fn still_open(tally: &Tally) -> Vec<Listed> {
        let Ok(holders) = open::holders_of_deleted(tally.deleted.iter().map(|file| file.found)) else {
            return Vec::new();
        };
        tally.deleted.iter().filter(|file| holders.seen(file.found).is_some()).cloned().collect()
    }
}

/// What is said of a file that somebody has open.
pub(super) fn opened(pid: u32) -> String {
    format!("process {pid} has it open")
}

/// What is said when nobody can tell.
pub(super) fn unseen(error: &std::io::Error) -> String {
    format!("which files are open cannot be told: {error}")
}

/// The name that a file has while it is looked at for the last time.
pub(super) fn aside(file: &Listed) -> OsString {
    OsString::from(format!(".quell-reclaim-{:x}-{}", file.found.device, file.found.inode))
}

/// Where a listed file stands; with the rights of the directory's handler.
pub(super) fn place(directory: &Directory, file: &Listed) -> Result<Place, Error> {
    if directory.look(&aside(file)).is_ok_and(|entry| file.is(&entry)) {
        return Ok(Place::Aside);
    }
    match directory.look(file.name.as_ref()) {
        Ok(entry) if file.is(&entry) => Ok(Place::There),
        Err(Error::Missing(_)) => Ok(Place::Gone),
        Ok(_) | Err(Error::NotRegular(_) | Error::ManyNames { .. }) => Ok(Place::Other),
        Err(error) => Err(error),
    }
}

/// Removes a file that is still the one of the list; with the rights of the directory's handler.
fn remove(directory: &Directory, file: &Listed) -> Result<Place, Error> {
    let (name, aside) = (file.name.as_ref(), aside(file));
    let place = place(directory, file)?;
    match place {
        Place::Gone => return Ok(place),
        Place::Other => return Err(Error::Exchanged(directory.path_of(name))),
        Place::Aside => {}
        Place::There => {
            directory.rename(name, &aside)?;
            if !directory.look(&aside).is_ok_and(|entry| file.is(&entry)) {
                // Another one came under the name in between: it gets its name back.
                directory.rename(&aside, name)?;
                return Err(Error::Exchanged(directory.path_of(name)));
            }
        }
    }
    directory.remove(&aside, file.found).map(|()| place)
}

impl Tally {
    fn change(&self, directory: &Path, still_open: &[Listed]) -> Change {
        let sum = |files: &[Listed]| files.iter().map(|file| file.disk).sum::<u64>();
        let freed = sum(&self.deleted) - sum(still_open);
        let listed = self.deleted.len() + self.kept.len() + self.gone.len();
        let mut summary = format!(
            "{} of {listed} listed files of {} were deleted, {freed} bytes came free",
            self.deleted.len(),
            directory.display()
        );
        for (what, files) in [("kept", &self.kept), ("not there", &self.gone)] {
            if !files.is_empty() {
                summary.push_str(&format!("; {what}: {}", named(files)));
            }
        }
        if !still_open.is_empty() {
            let names: Vec<&str> = still_open.iter().map(|file| file.name.as_str()).collect();
            summary.push_str(&format!("; opened meanwhile, so that their bytes are not free: {}", names.join(", ")));
        }
        let mut change = Change::new(summary)
            .with("bytes_freed", freed)
            .with("files_deleted", self.deleted.len() as u64)
            .with("files_kept", self.kept.len() as u64);
        let deleted = self.deleted.iter().map(|file| format!("deleted {}\n", file.name));
        let kept = self.kept.iter().chain(&self.gone).map(|file| format!("left {}: {}\n", file.name, file.why));
        change.output = deleted.chain(kept).collect();
        change
    }

    fn failed(&self, change: Change, why: &str) -> Failure {
        Failure { reason: format!("{why}: {}", change.summary), change, in_doubt: false }
    }
}
