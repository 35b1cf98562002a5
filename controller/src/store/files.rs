//! Files and directories whose existence survives a power cut: the few rules of POSIX that every part of the store needs.
//!
//! A file's data is durable after `fsync` of the file, its name after `fsync` of its directory. Files are for their owner
//! alone.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

use super::Error;

/// The end of the names of files that are being written; they mean nothing after a crash.
pub(crate) const UNFINISHED: &str = ".unfinished";

/// Makes a directory and those above it, for the owner alone, if it is not there.
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("create the directory", path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_directory(parent),
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(Error::io("sync the directory", path))
}

/// Creates a file that must not exist.
pub(crate) fn create(path: &Path) -> Result<File, Error> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(Error::io("create", path))
}

/// Puts a whole file in place, or leaves what was there.
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    remove(&unfinished)?;
    let mut file = create(&unfinished)?;
    let written = file.write_all(contents).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // The space is wanted back when the disk is full; the first error is the one to tell.
        drop(fs::remove_file(&unfinished));
        return Err(Error::io("write", path)(error));
    }
    fs::rename(&unfinished, path).map_err(Error::io("put in place", path))?;
    sync_directory(directory_of(path))
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Gives a file room on the disk, so that writing into it cannot find the disk full. Where the file system cannot do
/// that, the file is as long, and a full disk is found when it is written.
pub(crate) fn allocate(file: &File, path: &Path, bytes: u64) -> Result<(), Error> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
            file.set_len(bytes).map_err(Error::io("lengthen", path))
        }
        Err(error) => Err(Error::io("allocate", path)(error.into())),
    }
}

/// Bytes that an unprivileged process may still use on the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, Error> {
    let status = rustix::fs::statvfs(path).map_err(|error| Error::io("measure", path)(error.into()))?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

/// The names in a directory, sorted, without those of unfinished files.
pub(crate) fn names(directory: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let entry = entry.map_err(Error::io("list", directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(UNFINISHED) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes what a crash left half-written.
pub(crate) fn remove_unfinished(directory: &Path) -> Result<(), Error> {
    for entry in fs::read_dir(directory).map_err(Error::io("list", directory))? {
        let path = entry.map_err(Error::io("list", directory))?.path();
        if path.as_os_str().to_string_lossy().ends_with(UNFINISHED) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// The directory that a file is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
