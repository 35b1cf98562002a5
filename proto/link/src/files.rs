//! Private files: written whole or not at all, readable by their owner only.
//!
//! A file is written beside its place with mode 0600, synced, renamed over the old one, and the directory is synced:
//! after a power cut there is the old content or the new one.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system said no.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// "read", "write", "create".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is not what it should be.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A secret lies open.
    #[error("{path} can be read by others, and it holds a secret: run `chmod 600 {path}` and try again", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

impl Error {
    /// For `map_err`: the operating system's error with what was tried.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// Content that is not what it should be.
    pub fn damaged(path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.to_string() }
    }

    /// Whether the file was not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Creates a directory with mode 0700, with its parents; one that exists is left as it is.
///
/// # Errors
/// The operating system's.
pub fn create_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create", path))
}

/// Replaces a file's content in one step; mode 0600, synced before it takes its place.
///
/// # Errors
/// The operating system's; the old content is then still there.
pub fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    // The parent of a bare name is empty, and means here.
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    let beside = directory.join(name);
    let written = write_new(&beside, content).and_then(|()| std::fs::rename(&beside, path));
    if let Err(source) = written {
        // Nothing more can be done about the copy that failed: the error that matters is the first one.
        let _ = std::fs::remove_file(&beside);
        return Err(Error::Io { action: "write", path: path.to_owned(), source });
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(Error::io("sync", directory))
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match open() {
        // Left over from a process with this identifier that died in the middle.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            std::fs::remove_file(path)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(content)?;
    file.sync_all()
}

/// A file's content.
///
/// # Errors
/// The operating system's.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::io("read", path))
}

/// A secret file's content.
///
/// # Errors
/// The operating system's, or [`Error::Exposed`] when group or others may read it.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, Error> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(Error::Exposed { path: path.to_owned() });
    }
    read(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::{Error, create_directory, read, read_secret, write};

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("a/b");
        create_directory(&directory).unwrap();
        let path = directory.join("key.pem");
        write(&path, b"first and longer").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap(), b"second");
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "no copy is left beside it");
    }

    #[test]
    fn a_failed_write_keeps_the_old_content_and_leaves_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("file");
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(write(&path, b"x"), Err(Error::Io { action: "write", .. })));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("key.pem");
        write(&path, b"secret").unwrap();
        assert_eq!(read_secret(&path).unwrap(), b"secret");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read_secret(&path), Err(Error::Exposed { .. })));
    }

    #[test]
    fn a_missing_file_is_told_from_other_errors() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(read(&scratch.path().join("none")).unwrap_err().is_missing());
        assert!(!read(scratch.path()).unwrap_err().is_missing());
    }
}
