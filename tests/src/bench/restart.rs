//! From the kill of a supervised process to its running again.
//!
//! The bare limit is a watcher that waits on the process's descriptor and starts it again, deciding and recording
//! nothing. Quell's figure includes the agent's report, the controller's decision, its durable commit, the command, the
//! agent's journal (intent synced before the act) and the start.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, pidfd_open},
};

use super::Spread;
use crate::{
    fleet::{Fleet, Host, wait_for},
    shop::files,
};

/// How long one healing may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// The policy: a process that ended is started again, at once and always.
const POLICY: &str = r#"
apiVersion: quell/v1
kind: Contact
metadata: { namespace: bench, name: nobody }
spec:
  via: [log]
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: bench, name: sleeper-down }
spec:
  description: The sleeper does not run.
  mode: enforce
  hosts: { matchLabels: { role: bench } }
  probes:
    sleeper: { service: { name: sleeper }, every: 5s }
  signals:
    down: '!probe.sleeper.ok'
  trigger: { when: signal.down, for: 0s }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: sleeper }, timeout: 10s }]
      verify: { that: '!signal.down', stable: 0s, within: 10s }
      rollout: { settle: 0s }
  guards:
    cooldown: 0s
    budget: { perTarget: 100000, perPolicy: 100000, within: 24h }
    disturb: { hosts: 100000, percent: 100, over: 1s }
  escalate: { to: nobody, after: 15m }
"#;

/// Measures both and reports.
///
/// # Errors
/// A process does not come back.
pub fn measure(runs: usize) -> anyhow::Result<String> {
    let scratch = tempfile::tempdir()?;
    let bare = Spread::of(bare(scratch.path(), runs)?).context("no runs were asked for")?;
    let quell = Spread::of(quell(scratch.path(), runs)?).context("no runs were asked for")?;
    let ratio = quell.median.as_secs_f64() / bare.median.as_secs_f64();
    Ok(format!(
        "restart after a kill, {runs} runs each\n  bare pidfd watcher  {bare}\n  quell               {quell}\n  \
         ratio of the medians {ratio:.2}"
    ))
}

/// A process that says its number and sleeps.
fn sleeper(pid_file: &Path) -> Vec<String> {
    let script = format!("echo $$ > '{}'; exec sleep 1000000", pid_file.display());
    ["/bin/sh", "-c", &script].map(str::to_owned).to_vec()
}

fn spawn(command: &[String]) -> anyhow::Result<Child> {
    let (program, arguments) = command.split_first().context("a command has a program")?;
    let mut command = Command::new(program);
    Ok(command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

/// Waits for another process than this one to say its number.
fn comes_back(pid_file: &Path, old: u64) -> anyhow::Result<u64> {
    let started = Instant::now();
    loop {
        let pid = files::number(pid_file);
        if pid != 0 && pid != old && files::is_running(pid) {
            return Ok(pid);
        }
        ensure!(started.elapsed() < PATIENCE, "the process did not come back within {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn end(pid: u64) -> anyhow::Result<()> {
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGKILL)?)
}

fn bare(scratch: &Path, runs: usize) -> anyhow::Result<Vec<Duration>> {
    let pid_file = scratch.join("bare.pid");
    let command = sleeper(&pid_file);
    let child = spawn(&command)?;
    let mut pid = comes_back(&pid_file, 0)?;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || watch(child, &command, &stopped));
    let mut times = Vec::with_capacity(runs);
    for _ in 0..runs {
        let started = Instant::now();
        end(pid)?;
        pid = comes_back(&pid_file, pid)?;
        times.push(started.elapsed());
    }
    drop(stop);
    end(pid)?;
    watcher.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))??;
    Ok(times)
}

/// Starts the process again each time that it ends, until told to stop.
fn watch(mut child: Child, command: &[String], stopped: &std::sync::mpsc::Receiver<()>) -> anyhow::Result<()> {
    loop {
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id())?).context("a process has a number")?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
        poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None)?;
        child.wait()?;
        if matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
            return Ok(());
        }
        child = spawn(command)?;
    }
}

fn quell(scratch: &Path, runs: usize) -> anyhow::Result<Vec<Duration>> {
    let pid_file = scratch.join("quell.pid");
    let command = sleeper(&pid_file);
    let mut fleet = Fleet::start(&scratch.join("fleet"))?;
    fleet.enrol(&Host {
        name: "benchhost".to_owned(),
        labels: vec![("role".to_owned(), "bench".to_owned())],
        agent_toml: format!(
            "[allow]\nactions = [\"service.restart\"]\nservices = [\"sleeper\"]\n\n[[service]]\nname = \"sleeper\"\n\
             manager = \"command\"\nstart = {command:?}\npid_file = {pid_file:?}\n"
        ),
    })?;
    let _guard = EndAtLast(pid_file.clone());
    spawn(&command)?;
    let mut pid = comes_back(&pid_file, 0)?;
    let manifest = scratch.join("bench.yaml");
    std::fs::write(&manifest, POLICY)?;
    fleet.apply(&manifest, &[])?;
    let mut times = Vec::with_capacity(runs);
    for run in 0..runs {
        settled(&fleet, run)?;
        let started = Instant::now();
        end(pid)?;
        pid = comes_back(&pid_file, pid)?;
        times.push(started.elapsed());
    }
    Ok(times)
}

/// Waits until the last healing is verified and the service is seen to run.
fn settled(fleet: &Fleet, healed: usize) -> anyhow::Result<()> {
    wait_for(
        PATIENCE,
        || format!("incident {healed} was not resolved: {:?}", fleet.quell(&["get", "incidents", "--all"])),
        || {
            let resolved = fleet.items("incidents", &["--all"]).ok()?;
            let resolved = resolved.iter().filter(|incident| incident["state"] == "resolved").count();
            let seen = fleet.quell(&["why", "sleeper-down", "benchhost", "-o", "json"]).ok()?;
            (resolved >= healed && seen.contains("notFiring")).then_some(())
        },
    )
}

/// Ends the process that the agent started, which is nobody's child here.
struct EndAtLast(PathBuf);

impl Drop for EndAtLast {
    fn drop(&mut self) {
        crate::fleet::process::end_by_pid_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use quell_model::manifest;

    #[test]
    fn the_policy_is_one() {
        let file = manifest::File { name: "bench.yaml".to_owned(), text: super::POLICY.to_owned() };
        let parsed = manifest::parse(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(parsed.len(), 2);
    }
}
