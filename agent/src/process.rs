//! Processes of this host: told apart for good, watched by descriptor, signalled without hitting a stranger.
//!
//! A number alone says nothing: it is given away again. So a process is its number, its start and the boot, and every
//! signal goes through a pidfd that was opened first and compared afterwards.

pub mod run;

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

/// A process, told from a later one that was given the same number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub started: u64,
    /// The boot in which it started.
    pub boot: String,
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// When there is none, or it is a zombie that only waits to be reaped.
    pub fn of(pid: u32) -> io::Result<Self> {
        let Stat { state, started, .. } = Stat::of(pid)?;
        if matches!(state, 'Z' | 'X') {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("process {pid} has ended")));
        }
        Ok(Self { pid, started, boot: boot_id()? })
    }

    /// Whether it still runs.
    pub fn runs(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }
}

/// What `/proc/<pid>/stat` says of a process (proc(5), fields 3, 5 and 22).
struct Stat {
    /// One letter: `Z` and `X` have ended.
    state: char,
    /// Number of its process group; 0 for those of the kernel.
    group: u32,
    /// When it started, in clock ticks since the boot.
    started: u64,
}

impl Stat {
    /// The name in field 2 may hold anything, so counting begins after its last parenthesis.
    fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let read = || {
            let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let state = fields.next()?.chars().next()?;
            let group = fields.nth(1)?.parse().ok()?;
            let started = fields.nth(16)?.parse().ok()?;
            Some(Self { state, group, started })
        };
        read().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat is not understood")))
    }
}

/// Whether a process leads its process group.
pub fn leads_its_group(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.group == pid)
}

/// Random at each boot of the host.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The user that a process runs as.
///
/// # Errors
/// When it is gone.
pub fn owner(pid: u32) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata(Path::new("/proc").join(pid.to_string()))?.uid())
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// Killed by this signal.
    Signal(i32),
    /// It was not a child of this agent's process, so nobody told.
    Untold,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exited with status {status}"),
            Self::Signal(signal) => write!(f, "was killed by signal {signal}"),
            Self::Untold => f.write_str("ended"),
        }
    }
}

/// A process that is watched through its pidfd.
#[derive(Debug)]
pub struct Watched {
    /// Which.
    pub process: Process,
    descriptor: AsyncFd<OwnedFd>,
}

impl Watched {
    /// Begins to watch a process.
    ///
    /// # Errors
    /// When it is gone, or its number belongs to another process by now.
    pub fn open(process: Process) -> io::Result<Self> {
        let pid = pid_of(process.pid)?;
        let descriptor = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?;
        // The descriptor is bound to whoever has the number now; the comparison afterwards says whether it is him.
        if Process::of(process.pid)? != process {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("process {} has ended", process.pid)));
        }
        Ok(Self { process, descriptor: readable(descriptor)? })
    }

    /// Begins to watch a child that was not reaped yet, even when it has ended already.
    ///
    /// # Errors
    /// When it is not a child of this process.
    pub fn open_child(pid: u32) -> io::Result<Self> {
        let descriptor = rustix::process::pidfd_open(pid_of(pid)?, PidfdFlags::NONBLOCK)?;
        let started = Stat::of(pid)?.started;
        let process = Process { pid, started, boot: boot_id()? };
        Ok(Self { process, descriptor: readable(descriptor)? })
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn ended(&self) -> io::Result<()> {
        self.descriptor.readable().await.map(|_ready| ())
    }

    /// Takes an ended child out of the process table; what its process group left behind is killed first, while the
    /// number of the group cannot belong to anybody else.
    pub fn reap(&self) -> Exit {
        use std::os::fd::AsFd as _;
        let id = WaitId::PidFd(self.descriptor.get_ref().as_fd());
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Only of a child that waits to be reaped is the number still its own.
        if matches!(rustix::process::waitid(id, look), Ok(Some(_))) {
            self.signal_group(Signal::KILL);
        }
        self.reap_alone()
    }

    /// Takes an ended child out of the process table, and leaves its process group alone.
    pub fn reap_alone(&self) -> Exit {
        use std::os::fd::AsFd as _;
        let id = WaitId::PidFd(self.descriptor.get_ref().as_fd());
        match rustix::process::waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
                (Some(status), _) => Exit::Status(status),
                (_, Some(signal)) => Exit::Signal(signal),
                _ => Exit::Untold,
            },
            // Not a child of this process: somebody else reaps it.
            _ => Exit::Untold,
        }
    }

    /// Sends it a signal; a process that is gone is not an error.
    ///
    /// # Errors
    /// When the agent may not.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(self.descriptor.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends its process group a signal, when it leads one; call it only while the process is not reaped.
    pub fn signal_group(&self, signal: Signal) {
        let Ok(pid) = pid_of(self.process.pid) else { return };
        if leads_its_group(self.process.pid) {
            // Nobody left is the usual case.
            let _gone = rustix::process::kill_process_group(pid, signal);
        }
    }
}

#[expect(deprecated, reason = "its successor is unsafe; an OwnedFd keeps the same descriptor open as long as it lives")]
fn readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

/// Sends a signal to a process, unless its number belongs to another one by now.
///
/// # Errors
/// When it is gone, or the agent may not.
pub fn signal(process: &Process, signal: Signal) -> io::Result<()> {
    let descriptor = rustix::process::pidfd_open(pid_of(process.pid)?, PidfdFlags::empty())?;
    if !process.runs() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("process {} has ended", process.pid)));
    }
    Ok(rustix::process::pidfd_send_signal(descriptor, signal)?)
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{pid} is not the number of a process")))
}

#[cfg(test)]
mod tests {
    use super::{Exit, Process, Watched};
    use std::{os::unix::process::CommandExt as _, process::Command};

    #[expect(clippy::zombie_processes, reason = "that the watcher reaps it is what is tested")]
    #[tokio::test]
    async fn a_child_is_told_from_its_successor_and_leaves_no_zombie() {
        let child = Command::new("/bin/sh").args(["-c", "exit 7"]).process_group(0).spawn().unwrap();
        let watched = Watched::open_child(child.id()).unwrap();
        watched.ended().await.unwrap();
        assert!(!watched.process.runs(), "a zombie does not run");
        assert_eq!(watched.reap(), Exit::Status(7));
        assert!(!std::path::Path::new(&format!("/proc/{}", child.id())).exists(), "it was reaped");
        assert!(Watched::open(watched.process.clone()).is_err());

        let mut other = Process::of(std::process::id()).unwrap();
        assert!(other.runs());
        other.started += 1;
        assert!(!other.runs() && Watched::open(other).is_err(), "the same number is not the same process");
    }
}
