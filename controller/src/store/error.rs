//! What can go wrong with a store.

use std::path::{Path, PathBuf};

use super::{Fence, Revision};

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data directory open.
    #[error(
        "the data directory {path} is in use by another controller; stop that one first, or use another --data-dir"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The data directory was written by a newer version.
    #[error(
        "{path} was written in format {found}, and this version knows formats up to {known}; \
         run the version that wrote it, or restore a backup that was made before the upgrade"
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// Something that was acknowledged cannot be read any more.
    #[error("{what}; lost: {lost}. {remedy}")]
    Damaged {
        /// What is damaged or missing.
        what: String,
        /// What it held.
        lost: String,
        /// What to do next.
        remedy: &'static str,
    },
    /// The operating system said no.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// An earlier failure left it open what is durable.
    #[error("the store has stopped: {reason}; start the controller again to find out what is durable")]
    Stopped {
        /// The earlier failure.
        reason: String,
    },
    /// There is no room.
    #[error("no space left for {path}; free some space, then go on: nothing that was acknowledged is lost")]
    Full {
        /// The file that found no room.
        path: PathBuf,
    },
    /// A guard does not hold.
    #[error("{what} is at revision {found}, not {expected}: somebody else changed it")]
    Conflict {
        /// The row, or the head.
        what: String,
        /// The revision that the guard names.
        expected: Revision,
        /// The revision that it has.
        found: Revision,
    },
    /// Another writer has taken the lease.
    #[error("another controller has taken over (its fence is {}, ours {})", current.0, given.0)]
    Fenced {
        /// The writer's.
        given: Fence,
        /// The newest.
        current: Fence,
    },
    /// A batch is too large to be written at once.
    #[error("{bytes} bytes in one change are more than the {limit} that can be committed at once")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A row is not one that this version knows.
    #[error(transparent)]
    Unreadable(#[from] quell_engine::state::Unreadable),
    /// The view over the log cannot be used; it is rebuilt from the log.
    #[error("the view of the log cannot be used: {0}")]
    View(String),
    /// The archive is not one that can be restored, or the place is not one that it can be restored to.
    #[error("{0}")]
    Archive(String),
}

/// What to do about damage that the log itself cannot repair.
pub(crate) const RESTORE: &str =
    "Nothing was changed. Restore the newest backup (`quell-controller restore`), or put the file back from a copy";

impl Error {
    /// Whether nothing was changed and the store goes on.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::Fenced { .. } | Self::TooLarge { .. } | Self::Full { .. })
    }

    /// An I/O error with its context; a full disk is told apart.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::Full { path },
            _ => Self::Io { doing, path, source },
        }
    }
}
