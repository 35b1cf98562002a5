//! The bare limits: a thread that waits on a process's descriptor and starts the process again, at once or after it has
//! written down, durably and twice, that it will.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, pidfd_open},
};

use super::{comes_back, sleeper, spawn};

/// What is written down by a watcher that writes: about as much as a decision at the controller, and as an intent at
/// the agent, in bytes.
const NOTES: [usize; 2] = [8 * 1024, 1024];

/// Runs for which there is room in the files.
const MOST_RUNS: usize = 1024;

/// A process and its watcher.
pub(super) struct Bare {
    pid_file: PathBuf,
    pid: u64,
    stop: Arc<AtomicBool>,
    watcher: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Bare {
    /// A watcher that only watches.
    pub(super) fn start(scratch: &Path) -> anyhow::Result<Self> {
        Self::with(scratch.join("bare.pid"), Vec::new())
    }

    /// A watcher that writes down first what it will do.
    pub(super) fn writing(scratch: &Path) -> anyhow::Result<Self> {
        let notes = NOTES.iter().map(|bytes| Notes::create(&scratch.join(format!("notes-{bytes}")), *bytes));
        Self::with(scratch.join("writing.pid"), notes.collect::<std::io::Result<_>>()?)
    }

    fn with(pid_file: PathBuf, notes: Vec<Notes>) -> anyhow::Result<Self> {
        let command = sleeper(&pid_file);
        let child = spawn(&command)?;
        let pid = comes_back(&pid_file, 0)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let watcher = Some(std::thread::spawn(move || watch(child, &command, notes, &stopped)));
        Ok(Self { pid_file, pid, stop, watcher })
    }

    /// Kills the process and waits until it is back.
    pub(super) fn kill(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        end(self.pid)?;
        self.pid = comes_back(&self.pid_file, self.pid)?;
        Ok(started.elapsed())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Where the watcher has failed, there may be no process any more.
        if end(self.pid).is_ok() {
            drop(self.watcher.take().map(JoinHandle::join));
        }
    }
}

fn end(pid: u64) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?)
}

/// Starts the process again each time that it ends, until told to stop.
fn watch(mut child: Child, command: &[String], mut notes: Vec<Notes>, stopped: &AtomicBool) -> anyhow::Result<()> {
    loop {
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id())?).context("a process has a number")?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None)?;
        child.wait()?;
        if stopped.load(Ordering::Acquire) {
            return Ok(());
        }
        notes.iter_mut().try_for_each(Notes::write)?;
        child = spawn(command)?;
    }
}

/// A file that is written to over zeros and synced, as a journal is.
struct Notes {
    file: File,
    end: u64,
    bytes: Vec<u8>,
}

impl Notes {
    fn create(path: &Path, bytes: usize) -> std::io::Result<Self> {
        let file = File::create_new(path)?;
        file.write_all_at(&vec![0; bytes * MOST_RUNS], 0)?;
        file.sync_all()?;
        Ok(Self { file, end: 0, bytes: vec![b'x'; bytes] })
    }

    fn write(&mut self) -> std::io::Result<()> {
        self.file.write_all_at(&self.bytes, self.end)?;
        self.end += self.bytes.len() as u64;
        self.file.sync_data()
    }
}
