//! A directory held by descriptor, and what may be done in it.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::ffi::OsStrExt as _,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, fstat, fstatvfs, fsync, openat2,
        renameat_with, statat, unlinkat,
    },
    io::Errno,
    process::{Gid, Uid},
};

use super::{BENEATH, Error};

const OTHERS_WRITE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// With whose rights files of a directory are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handler {
    /// The agent's own: nobody else can write to the directory.
    Agent,
    /// Those of the directory's owner.
    User {
        /// The owner.
        uid: u32,
        /// The directory's group.
        gid: u32,
    },
}

impl Handler {
    /// Does some work with these rights. Another user's rights are taken by a thread of its own that ends with the
    /// work: only its file access changes (setfsuid(2)), so the user cannot signal or trace the agent by it.
    ///
    /// # Errors
    /// When the rights could not be taken; the work was not begun.
    pub fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let Self::User { uid, gid } = self else { return Ok(work()) };
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                rustix::thread::set_thread_groups(&[Gid::from_raw(gid)])?;
                take_rights(uid, gid)?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the work on another user's files panicked")))
        })
    }

    /// The user that new files belong to.
    pub fn uid(self) -> u32 {
        match self {
            Self::Agent => rustix::process::geteuid().as_raw(),
            Self::User { uid, .. } => uid,
        }
    }
}

/// setfsuid(2) answers the last identity and no error, so the second call asks whether the first one worked.
fn take_rights(uid: u32, gid: u32) -> io::Result<()> {
    use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
    setfsgid(Gid::from_raw(gid));
    setfsuid(Uid::from_raw(uid));
    let gid_now = setfsgid(Gid::from_raw(u32::MAX)).as_raw();
    let uid_now = setfsuid(Uid::from_raw(u32::MAX)).as_raw();
    if (uid_now, gid_now) == (uid, gid) {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the rights of user {uid} could not be taken")))
    }
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Found {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub inode: u64,
}

/// What is known of a file of a directory, without opening it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which file.
    pub found: Found,
    /// Length in bytes.
    pub size: u64,
    /// Bytes that it takes on the disk.
    pub disk: u64,
    /// Last change of its content, nanoseconds since 1970.
    pub modified_ns: i64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions, without the bits that would run it as somebody else.
    pub mode: u32,
}

impl Entry {
    fn of(stat: &Stat) -> Self {
        Self {
            found: Found { device: stat.st_dev, inode: stat.st_ino },
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            disk: u64::try_from(stat.st_blocks).unwrap_or_default() * 512,
            modified_ns: nanoseconds(stat),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o777,
        }
    }

    /// Looks at an open file again.
    ///
    /// # Errors
    /// When the system says no.
    pub fn of_file(file: &File) -> io::Result<Self> {
        Ok(Self::of(&fstat(file)?))
    }
}

/// What a time of another century comes to is of no account.
fn nanoseconds(stat: &Stat) -> i64 {
    #[allow(clippy::useless_conversion, reason = "the types of st_mtime and its fraction differ between architectures")]
    let (seconds, fraction) = (i64::from(stat.st_mtime), i64::try_from(stat.st_mtime_nsec).unwrap_or_default());
    seconds.saturating_mul(1_000_000_000).saturating_add(fraction)
}

pub(super) fn regular_with_one_name(path: &Path, stat: &Stat) -> Result<(), Error> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::NotRegular(path.to_owned()));
    }
    #[allow(clippy::useless_conversion, reason = "the type of st_nlink differs between architectures")]
    let count = u64::from(stat.st_nlink);
    if count == 1 { Ok(()) } else { Err(Error::ManyNames { path: path.to_owned(), count }) }
}

/// A directory beneath an allowed one.
#[derive(Debug)]
pub struct Directory {
    descriptor: OwnedFd,
    path: PathBuf,
    handler: Handler,
}

impl Directory {
    /// Opens a directory that is `root` or lies beneath it, and finds out with whose rights it is to be handled.
    ///
    /// # Errors
    /// When a link stands on the way, or somebody who is neither root, nor the agent, nor the directory's owner could
    /// interfere.
    pub fn open(root: &Path, path: &Path) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let from_root = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut descriptor = openat2(CWD, root, flags, Mode::empty(), from_root)
            .map_err(|error| Error::system("open", root)(error.into()))?;
        let mut walked = root.to_owned();
        let mut above = Vec::new();
        let rest = path.strip_prefix(root).map_err(|_| Error::Missing(path.to_owned()))?;
        for component in rest.components() {
            let Component::Normal(name) = component else { return Err(Error::Link(path.to_owned())) };
            above.push((walked.clone(), stat_of(&descriptor, &walked)?));
            walked.push(name);
            descriptor = openat2(&descriptor, name, flags, Mode::empty(), BENEATH)
                .map_err(|error| Error::system("open", &walked)(error.into()))?;
        }
        let handler = handler_of(&walked, &stat_of(&descriptor, &walked)?)?;
        for (path, stat) in &above {
            check_above(path, stat, handler)?;
        }
        Ok(Self { descriptor, path: walked, handler })
    }

    /// With whose rights everything here is to be done; see [`Handler::run`].
    pub fn handler(&self) -> Handler {
        self.handler
    }

    /// The full path of a name here, for messages.
    pub fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// The directory's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file with one name for reading, or for reading and writing.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn open_file(&self, name: &OsStr, write: bool) -> Result<(File, Entry), Error> {
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        // A fifo must not block the open, a terminal must not become the agent's.
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let path = self.path_of(name);
        let descriptor =
            openat2(&self.descriptor, name, flags, Mode::empty(), BENEATH).map_err(|error| match error {
                Errno::ISDIR | Errno::NXIO => Error::NotRegular(path.clone()),
                error => Error::system("open", &path)(error.into()),
            })?;
        let stat = fstat(&descriptor).map_err(|error| Error::system("inspect", &path)(error.into()))?;
        regular_with_one_name(&path, &stat)?;
        Ok((File::from(descriptor), Entry::of(&stat)))
    }

    /// Looks at a name without opening it; a file of another kind, or with further names, is an error.
    ///
    /// # Errors
    /// When it is missing or not a regular file with one name.
    pub fn look(&self, name: &OsStr) -> Result<Entry, Error> {
        let path = self.path_of(name);
        let stat = statat(&self.descriptor, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::system("inspect", &path)(error.into()))?;
        regular_with_one_name(&path, &stat)?;
        Ok(Entry::of(&stat))
    }

    /// Makes a file that did not exist, readable by its owner only.
    ///
    /// # Errors
    /// When the name exists already, whatever it is.
    pub fn create(&self, name: &OsStr) -> Result<File, Error> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(&self.descriptor, name, flags, Mode::RUSR | Mode::WUSR, BENEATH)
            .map(File::from)
            .map_err(|error| Error::system("create", self.path_of(name))(error.into()))
    }

    /// Gives a new file the owner, group and permissions of another; ownership first, so that at no moment the wrong
    /// user may read it.
    ///
    /// # Errors
    /// When the system says no.
    pub fn give(&self, file: &File, name: &OsStr, like: &Entry) -> Result<(), Error> {
        let system = |error: Errno| Error::system("set the owner of", self.path_of(name))(error.into());
        let now = Entry::of(&fstat(file).map_err(system)?);
        if (now.uid, now.gid) != (like.uid, like.gid) {
            let (uid, gid) = (Uid::from_raw(like.uid), Gid::from_raw(like.gid));
            rustix::fs::fchown(file, Some(uid), Some(gid)).map_err(system)?;
        }
        rustix::fs::fchmod(file.as_fd(), Mode::from_raw_mode(like.mode)).map_err(system)
    }

    /// Renames, never over something else.
    ///
    /// # Errors
    /// When the new name exists or the old one does not.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), Error> {
        renameat_with(&self.descriptor, from, &self.descriptor, to, RenameFlags::NOREPLACE)
            .map_err(|error| Error::system("rename", self.path_of(from))(error.into()))
    }

    /// Removes a name, if it still is that file.
    ///
    /// # Errors
    /// When it is another one by now.
    pub fn remove(&self, name: &OsStr, expected: Found) -> Result<(), Error> {
        if self.look(name)?.found != expected {
            return Err(Error::Exchanged(self.path_of(name)));
        }
        unlinkat(&self.descriptor, name, AtFlags::empty())
            .map_err(|error| Error::system("remove", self.path_of(name))(error.into()))
    }

    /// The names here, in no order.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn names(&self) -> Result<Vec<std::ffi::OsString>, Error> {
        let system = |error: Errno| Error::system("list", &self.path)(error.into());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let own = openat2(&self.descriptor, ".", flags, Mode::empty(), BENEATH).map_err(system)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(own).map_err(system)? {
            let entry = entry.map_err(system)?;
            names.push(OsStr::from_bytes(entry.file_name().to_bytes()).to_owned());
        }
        Ok(names)
    }

    /// Makes names durable that were made, changed or removed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn sync(&self) -> Result<(), Error> {
        fsync(&self.descriptor).map_err(|error| Error::system("sync", &self.path)(error.into()))
    }

    /// Bytes that are free here for anybody but root, whose reserve is left alone.
    ///
    /// # Errors
    /// When the system says no.
    pub fn free_bytes(&self) -> Result<u64, Error> {
        let system = |error: Errno| Error::system("measure", &self.path)(error.into());
        let volume = fstatvfs(&self.descriptor).map_err(system)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }
}

fn stat_of(descriptor: &OwnedFd, path: &Path) -> Result<Stat, Error> {
    fstat(descriptor).map_err(|error| Error::system("inspect", path)(error.into()))
}

/// With whose rights a directory is handled, or why it is not.
fn handler_of(path: &Path, stat: &Stat) -> Result<Handler, Error> {
    let own = rustix::process::geteuid().as_raw();
    let shown = path.display();
    if stat.st_mode & OTHERS_WRITE != 0 {
        return Err(Error::Unsafe {
            path: path.to_owned(),
            reason: "can be written to by others than its owner".to_owned(),
            remedy: format!("chmod go-w {shown}"),
        });
    }
    match stat.st_uid {
        uid if uid == own => Ok(Handler::Agent),
        uid if own == 0 => Ok(Handler::User { uid, gid: stat.st_gid }),
        uid => Err(Error::Unsafe {
            path: path.to_owned(),
            reason: format!("belongs to user {uid}, and the agent runs as user {own}"),
            remedy: format!("chown {own} {shown}, or run the agent as root"),
        }),
    }
}

/// Whoever can rename a directory above could put another one in its place.
fn check_above(path: &Path, stat: &Stat, handler: Handler) -> Result<(), Error> {
    let trusted = [0, rustix::process::geteuid().as_raw(), handler.uid()];
    if !trusted.contains(&stat.st_uid) {
        return Err(Error::Unsafe {
            path: path.to_owned(),
            reason: format!("belongs to user {}, who could exchange what lies beneath it", stat.st_uid),
            remedy: format!("chown root {}", path.display()),
        });
    }
    if stat.st_mode & OTHERS_WRITE != 0 && stat.st_mode & STICKY == 0 {
        return Err(Error::Unsafe {
            path: path.to_owned(),
            reason: "can be written to by others, who could exchange what lies beneath it".to_owned(),
            remedy: format!("chmod go-w {}", path.display()),
        });
    }
    Ok(())
}
