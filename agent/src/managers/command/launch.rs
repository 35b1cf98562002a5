//! Starting a service so that it outlives the agent, and finding it again.

use std::{
    fs::File,
    io,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use super::record::Record;
use crate::{
    config::Service,
    files,
    process::{self, Process, run},
};

/// The variable that marks the processes of a service.
const MARK: &str = "QUELL_SERVICE";

/// A pid file is written by a process that runs already; clocks and file systems round.
const PID_FILE_SLACK: Duration = Duration::from_secs(2);

/// What marks the processes of a service of this agent.
pub(super) fn mark(data_directory: &Path, service: &str) -> String {
    let directory = std::path::absolute(data_directory).unwrap_or_else(|_| data_directory.to_owned());
    format!("{}:{service}", directory.display())
}

/// The process of a service that an earlier agent, or somebody else, has started.
pub(super) fn find(service: &Service, mark: &str, record: &Record) -> Option<Process> {
    let recorded = record.process.clone().filter(Process::runs);
    recorded.or_else(|| match service.pid_file.as_deref() {
        Some(file) => read_pid_file(file).ok(),
        None => find_marked(mark),
    })
}

/// Starts the service in the foreground of a process group of its own and answers its number. It is a child of this
/// process and must be reaped.
pub(super) fn launch(service: &Service, mark: &str) -> io::Result<u32> {
    let ids = service.user.as_deref().map(run::user_ids).transpose()?;
    let mut command = Command::new(&service.start[0]);
    command
        .args(&service.start[1..])
        .env_clear()
        .env("PATH", run::DEFAULT_PATH)
        .envs(&service.environment)
        .env(MARK, mark)
        .current_dir(service.directory.as_deref().unwrap_or_else(|| Path::new("/")))
        .stdin(Stdio::null())
        .process_group(0);
    let (stdout, stderr) = match service.log.as_deref() {
        None => (Stdio::null(), Stdio::null()),
        Some(log) => {
            let file: File = files::open_for_append(log, ids)?;
            (Stdio::from(file.try_clone()?), Stdio::from(file))
        }
    };
    command.stdout(stdout).stderr(stderr);
    if let Some((uid, gid)) = ids {
        command.uid(uid).gid(gid);
    }
    Ok(command.spawn()?.id())
}

/// The process that leads its group and bears the mark: started by an agent that died before it could record it.
fn find_marked(mark: &str) -> Option<Process> {
    let wanted = format!("{MARK}={mark}");
    let bears = |pid: u32| {
        let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| process::leads_its_group(*pid) && bears(*pid))
        .find_map(|pid| Process::of(pid).ok())
}

/// The process that a pid file names, unless the file is older than the process (the number was given away again) or
/// its writer could be pointing at somebody else's process.
pub(super) fn read_pid_file(path: &Path) -> io::Result<Process> {
    let text = std::fs::read_to_string(path)?;
    let strange = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let pid: u32 = text.trim().parse().map_err(|_| strange("it does not hold the number of a process"))?;
    let process = Process::of(pid)?;
    let metadata = std::fs::metadata(path)?;
    let own = rustix::process::geteuid().as_raw();
    if pid <= 1 || (![0, own].contains(&metadata.uid()) && process::owner(pid)? != metadata.uid()) {
        return Err(strange("it names a process that does not belong to the file's owner"));
    }
    if started_at(&process)? > metadata.modified()? + PID_FILE_SLACK {
        return Err(strange("it is older than the process that has the number now"));
    }
    Ok(process)
}

/// When a process started, by the wall clock.
fn started_at(process: &Process) -> io::Result<SystemTime> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "/proc/uptime is not understood");
    let uptime = std::fs::read_to_string("/proc/uptime")?;
    let uptime: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).ok_or_else(strange)?;
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.ok_or_else(strange)?;
    #[expect(clippy::cast_precision_loss, reason = "ticks since the boot fit a double for millions of years")]
    let started = process.started as f64 / ticks as f64;
    let age = Duration::try_from_secs_f64((uptime - started).max(0.0)).map_err(|_| strange())?;
    SystemTime::now().checked_sub(age).ok_or_else(strange)
}
