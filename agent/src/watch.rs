//! Being told by the kernel instead of asking: files through inotify, processes through pidfds.
//!
//! One inotify instance serves the whole agent. A file is watched through itself and through its directory, so that a
//! file that is created, replaced, rotated away or removed is noticed as well as one that grows. A file that cannot
//! be watched (its directory is missing) is not an error: probes look at their interval anyway and try again.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

/// `IN_MASK_ADD` of inotify(7): flags are added to those of an existing watch. The `nix` crate has no name for it.
const IN_MASK_ADD: u32 = 0x2000_0000;

/// Watches files for everybody in the process.
#[derive(Debug, Clone)]
pub struct Watcher {
    shared: Arc<Mutex<Shared>>,
}

/// A file that is watched, until dropped.
#[derive(Debug)]
pub struct Watched {
    file: Arc<File>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    directory: PathBuf,
    name: OsString,
    changed: Notify,
}

#[derive(Debug)]
struct Shared {
    inotify: Arc<Instance>,
    /// Who wants to know of events of a watch; several files can share a directory, several subscribers a file.
    watches: BTreeMap<i32, (WatchDescriptor, Vec<Interested>)>,
}

#[derive(Debug)]
struct Interested {
    file: Weak<File>,
    /// The watch is that of the file's directory: only events that name the file count.
    by_directory: bool,
}

#[derive(Debug)]
struct Instance(Inotify);

impl AsRawFd for Instance {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Instance {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Watcher {
    /// Starts watching; the task ends with the runtime.
    ///
    /// # Errors
    /// The kernel has no inotify instance left for this user (`fs.inotify.max_user_instances`).
    pub fn start() -> io::Result<Self> {
        let inotify = Arc::new(Instance(Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?));
        let shared = Arc::new(Mutex::new(Shared { inotify: Arc::clone(&inotify), watches: BTreeMap::new() }));
        let descriptor = readable(inotify)?;
        tokio::spawn(dispatch(descriptor, Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// Watches a file, which need not exist. The path must have a directory and a name.
    pub fn file(&self, path: &Path) -> Watched {
        let file = Arc::new(File {
            path: path.to_owned(),
            directory: path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).into(),
            name: path.file_name().unwrap_or_default().to_owned(),
            changed: Notify::new(),
        });
        let watched = Watched { file, shared: Arc::clone(&self.shared) };
        watched.arm();
        watched
    }
}

impl Watched {
    /// Returns when the file has changed since the last call: content, replacement, creation or removal. Changes in
    /// quick succession are one.
    pub async fn changed(&self) {
        self.file.changed.notified().await;
    }

    /// Tries to watch again what could not be watched before. Cheap; probes call it whenever they look.
    pub fn arm(&self) {
        lock(&self.shared).arm(&self.file);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let gone = Arc::as_ptr(&self.file);
        lock(&self.shared).forget(|file| std::ptr::eq(file.as_ptr(), gone));
    }
}

impl Shared {
    fn arm(&mut self, file: &Arc<File>) {
        let in_directory = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        self.add(&file.directory, in_directory, file, true);
        self.add(&file.path, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB, file, false);
    }

    fn add(&mut self, path: &Path, flags: AddWatchFlags, file: &Arc<File>, by_directory: bool) {
        // Two files can share a watch (a file that is also somebody's directory): flags are added, never replaced.
        let Ok(watch) = self.inotify.0.add_watch(path, flags | AddWatchFlags::from_bits_retain(IN_MASK_ADD)) else {
            return;
        };
        let (_, interested) = self.watches.entry(watch.as_raw()).or_insert_with(|| (watch, Vec::new()));
        let known = |other: &Interested| {
            other.by_directory == by_directory && std::ptr::eq(other.file.as_ptr(), Arc::as_ptr(file))
        };
        if !interested.iter().any(known) {
            interested.push(Interested { file: Arc::downgrade(file), by_directory });
        }
    }

    fn forget(&mut self, gone: impl Fn(&Weak<File>) -> bool) {
        let inotify = Arc::clone(&self.inotify);
        self.watches.retain(|_, (watch, interested)| {
            interested.retain(|one| !gone(&one.file));
            // The kernel may have removed the watch by itself, with its file: then there is nothing to remove.
            let keep = !interested.is_empty();
            if !keep {
                let _ = inotify.0.rm_watch(*watch);
            }
            keep
        });
    }

    fn handle(&mut self, event: &InotifyEvent) {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Events were lost: everybody looks again.
            let files: Vec<_> =
                self.watches.values().flat_map(|(_, all)| all).filter_map(|one| one.file.upgrade()).collect();
            files.iter().for_each(|file| file.changed.notify_one());
            return;
        }
        let Some((_, interested)) = self.watches.get(&event.wd.as_raw()) else { return };
        let mut replaced = Vec::new();
        for one in interested {
            let Some(file) = one.file.upgrade() else { continue };
            if one.by_directory {
                if event.name.as_ref() != Some(&file.name) {
                    continue;
                }
                file.changed.notify_one();
                replaced.push(file);
            } else {
                file.changed.notify_one();
            }
        }
        if event.mask.contains(AddWatchFlags::IN_IGNORED) {
            self.watches.remove(&event.wd.as_raw());
        }
        // The name stands for another file now: watch that one.
        replaced.iter().for_each(|file| self.arm(file));
    }
}

async fn dispatch(descriptor: AsyncFd<Arc<Instance>>, shared: Weak<Mutex<Shared>>) {
    loop {
        let Ok(mut ready) = descriptor.readable().await else { return };
        let Some(shared) = shared.upgrade() else { return };
        match descriptor.get_ref().0.read_events() {
            Ok(events) => {
                let mut shared = lock(&shared);
                events.iter().for_each(|event| shared.handle(event));
            }
            Err(nix::errno::Errno::EAGAIN) => ready.clear_ready(),
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => {
                tracing::error!(%error, "inotify failed: files are looked at at their interval only");
                return;
            }
        }
    }
}

/// A descriptor that the runtime waits for until it can be read.
#[expect(
    deprecated,
    reason = "its successor is unsafe to call, which is forbidden here; what it asks for, that the descriptor stays \
              open and the same for as long as it is registered, holds for the owned descriptors of this module"
)]
fn readable<T: AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns when a process has exited.
#[derive(Debug)]
pub struct Exit {
    descriptor: AsyncFd<OwnedFd>,
}

impl Exit {
    /// Watches a process by its number.
    ///
    /// # Errors
    /// There is no such process, or no descriptor is left.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid =
            i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
        let descriptor = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK)?;
        Ok(Self { descriptor: readable(descriptor)? })
    }

    /// Returns when the process has exited, at once if it has.
    pub async fn exited(&self) {
        if self.descriptor.readable().await.is_err() {
            // Only at the runtime's end.
            std::future::pending::<()>().await;
        }
    }
}

impl Exit {
    /// The same for those who watch many: ready when the process has exited.
    pub fn poll_exited(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.descriptor.poll_read_ready(cx).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;

    async fn soon(watched: &Watched, what: &str) {
        tokio::time::timeout(Duration::from_secs(5), watched.changed()).await.unwrap_or_else(|_| panic!("{what}"));
    }

    #[tokio::test]
    async fn a_file_is_followed_through_creation_growth_rotation_and_removal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.log");
        let watcher = Watcher::start().unwrap();
        let watched = watcher.file(&path);
        fs::write(&path, "1").unwrap();
        soon(&watched, "creation").await;
        fs::write(&path, "12").unwrap();
        soon(&watched, "growth").await;
        fs::rename(&path, dir.path().join("app.log.1")).unwrap();
        soon(&watched, "rotation").await;
        fs::write(&path, "3").unwrap();
        soon(&watched, "new file").await;
        tokio::time::timeout(Duration::from_millis(50), watched.changed()).await.ok();
        fs::write(&path, "34").unwrap();
        soon(&watched, "growth of the new file").await;
        fs::remove_file(&path).unwrap();
        soon(&watched, "removal").await;
    }

    #[tokio::test]
    async fn a_dropped_watch_is_given_back() {
        let dir = tempfile::tempdir().unwrap();
        let watcher = Watcher::start().unwrap();
        let first = watcher.file(&dir.path().join("a"));
        let second = watcher.file(&dir.path().join("b"));
        assert_eq!(lock(&watcher.shared).watches.len(), 1);
        drop(first);
        assert_eq!(lock(&watcher.shared).watches.len(), 1);
        drop(second);
        assert!(lock(&watcher.shared).watches.is_empty());
    }

    #[tokio::test]
    async fn the_exit_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let exit = Exit::of(child.id()).unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), exit.exited()).await.is_err());
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(5), exit.exited()).await.unwrap();
        child.wait().unwrap();
        assert!(Exit::of(0).is_err());
    }
}
