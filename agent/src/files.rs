//! File operations that are safe for root in directories that others may write to.
//!
//! Paths are walked from an allowed directory by descriptor, beneath it and without following a link (openat2(2)).
//! Only regular files with a single name are opened, and what was opened is what is judged and changed. A directory
//! that belongs to another user is handled with that user's rights, so nothing there can gain what its owner does not
//! have; one that several may write to is refused.

mod directory;
pub mod open;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, fchown, fstat, openat2},
    process::{Gid, Uid},
};

pub use directory::{Directory, Entry, Found, Handler};

/// Every open stays beneath its directory and follows no link, not even those of `/proc`.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

/// Why a file was not touched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{0} does not exist")]
    Missing(PathBuf),
    /// A link stands somewhere on the way.
    #[error("{0} is, or passes through, a symbolic link, which is never followed; name the real path")]
    Link(PathBuf),
    /// It is a directory, a fifo, a socket or a device.
    #[error("{0} is not a regular file")]
    NotRegular(PathBuf),
    /// The file has further names that nobody was asked about.
    #[error("{path} has {count} names (hard links); only a file with one name is touched")]
    ManyNames {
        /// The file.
        path: PathBuf,
        /// How many.
        count: u64,
    },
    /// Others could interfere.
    #[error("{path} {reason}; run: {remedy}")]
    Unsafe {
        /// The directory or file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// A command that would mend it.
        remedy: String,
    },
    /// The name belongs to another file by now.
    #[error("{0} was exchanged for another file while it was worked on; it was left alone")]
    Exchanged(PathBuf),
    /// The copy would not fit.
    #[error(
        "no space for the copy: about {needed} bytes are needed in {path} and {free} are free; nothing was lost. Free some space first, or rotate by rename with compress: none, which needs none"
    )]
    NoSpace {
        /// The directory.
        path: PathBuf,
        /// Bytes that the copy takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The copy is not what was copied.
    #[error("the copy {0} does not read back as it was written; the original was kept")]
    Corrupt(PathBuf),
    /// Work was to stop.
    #[error("stopped before {0} was finished; nothing was lost")]
    Stopped(PathBuf),
    /// The system's answer.
    #[error("cannot {what} {path}: {source}")]
    System {
        /// "open", "rename", ….
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl Error {
    /// Wraps the system's answer, and names the two that mean more than a failed call.
    pub fn system(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::LOOP) => Self::Link(path),
            Some(rustix::io::Errno::NOENT) => Self::Missing(path),
            _ => Self::System { what, path, source },
        }
    }
}

/// Opens a file that a service's output is appended to, and makes it when it is missing; no link on the way is
/// followed. A new file belongs to `owner` (user, group).
///
/// # Errors
/// When something else than a regular file with one name stands there, or the system says no.
pub fn open_for_append(path: &Path, owner: Option<(u32, u32)>) -> io::Result<File> {
    let wrong = |error: Error| io::Error::other(error.to_string());
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let system = || Error::system("open", path);
    let descriptor = match openat2(CWD, path, flags, Mode::empty(), resolve) {
        Ok(descriptor) => descriptor,
        Err(rustix::io::Errno::NOENT) => {
            let mode = Mode::RUSR | Mode::WUSR;
            let created = openat2(CWD, path, flags | OFlags::CREATE | OFlags::EXCL, mode, resolve)
                .map_err(|error| wrong(system()(error.into())))?;
            if let Some((uid, gid)) = owner {
                fchown(&created, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
            }
            created
        }
        Err(error) => return Err(wrong(system()(error.into()))),
    };
    let stat = fstat(&descriptor)?;
    directory::regular_with_one_name(path, &stat).map_err(wrong)?;
    Ok(File::from(descriptor))
}
