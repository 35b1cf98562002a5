//! From the kill of a supervised process to its running again.
//!
//! The bare limit is a watcher that waits on the process's descriptor and starts it again, deciding and recording
//! nothing. Quell's figure includes the agent's report, the controller's decision, its durable commit, the command, the
//! agent's journal (intent synced before the act) and the start. A second bare limit writes and syncs as often as Quell
//! does before it starts the process. They take turns, so that the noise of the machine falls on all.
//!
//! Each run ends another service of one host, each with a policy of its own. One service that is killed again and again
//! would be a recurrence, and then flap, and Quell is made to leave both to people. All guards stand at their defaults
//! but one: `settle` is 0 s, because the runs follow each other on one host.

mod bare;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::Spread;
use crate::{
    fleet::{Fleet, Host, wait_for},
    shop::files,
};
use bare::Bare;

/// How long one healing may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the process runs again.
const LOOK: Duration = Duration::from_micros(100);

/// The host.
const HOST: &str = "benchhost";

/// Whom the policies name, and nobody is called.
const CONTACT: &str = "\
apiVersion: quell/v1
kind: Contact
metadata: { namespace: bench, name: nobody }
spec:
  via: [log]
";

/// The policy for one service: when it does not run it is started again, at once.
const POLICY: &str = "\
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: bench, name: SERVICE-down }
spec:
  description: SERVICE does not run.
  mode: enforce
  hosts: { matchLabels: { role: bench } }
  probes:
    process: { service: { name: SERVICE }, every: 1s }
  signals:
    down: '!probe.process.ok'
  trigger: { when: signal.down, for: 0s }
  ladder:
    - name: restart
      do: [{ action: service.restart, with: { service: SERVICE }, timeout: 10s }]
      verify: { that: '!signal.down', within: 10s }
      rollout: { settle: 0s }
  escalate: { to: nobody }
";

/// Measures all and reports.
///
/// # Errors
/// A process does not come back.
pub fn measure(runs: usize) -> anyhow::Result<String> {
    let scratch = tempfile::tempdir()?;
    let (mut bare, mut writing) = (Bare::start(scratch.path())?, Bare::writing(scratch.path())?);
    let mut supervised = Supervised::start(scratch.path(), runs)?;
    let [mut bare_times, mut writing_times, mut quell_times] = [const { Vec::new() }; 3];
    for run in 0..runs {
        supervised.is_calm(run)?;
        bare_times.push(bare.kill()?);
        writing_times.push(writing.kill()?);
        quell_times.push(supervised.kill(run)?);
    }
    let spread = |times| Spread::of(times).context("no runs were asked for");
    let (bare, writing, quell) = (spread(bare_times)?, spread(writing_times)?, spread(quell_times)?);
    let ratio = |limit: Spread| quell.median.as_secs_f64() / limit.median.as_secs_f64();
    Ok(format!(
        "restart after a kill, {runs} runs each, in turn\n  \
         bare pidfd watcher              {bare}\n  \
         a bare one that syncs two files {writing}\n  \
         quell                           {quell}\n  \
         ratio of the medians to the bare one {:.2}, to the one that syncs {:.2}",
        ratio(bare),
        ratio(writing)
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
        std::thread::sleep(LOOK);
    }
}

/// Services that Quell keeps up, one for each run.
struct Supervised {
    fleet: Fleet,
    services: Vec<Service>,
}

/// A service, not killed yet.
struct Service {
    name: String,
    pid_file: PathBuf,
    /// Its first process; the next one is the agent's child.
    first: Child,
}

impl Supervised {
    fn start(scratch: &Path, count: usize) -> anyhow::Result<Self> {
        let services = (0..count).map(|number| Service::start(scratch, number)).collect::<anyhow::Result<Vec<_>>>()?;
        let mut fleet = Fleet::start(&scratch.join("fleet"))?;
        fleet.enrol(&Host {
            name: HOST.to_owned(),
            labels: vec![("role".to_owned(), "bench".to_owned())],
            agent_toml: agent_toml(&services)?,
        })?;
        let manifest = scratch.join("bench.yaml");
        std::fs::write(&manifest, manifests(services.iter().map(|service| service.name.as_str())))?;
        fleet.apply(&manifest, &[])?;
        Ok(Self { fleet, services })
    }

    /// Kills the service of this run and waits until it is back.
    fn kill(&mut self, run: usize) -> anyhow::Result<Duration> {
        let service = self.services.get_mut(run).context("a service for each run")?;
        let started = Instant::now();
        service.first.kill()?;
        service.first.wait()?;
        comes_back(&service.pid_file, u64::from(service.first.id()))?;
        Ok(started.elapsed())
    }

    /// Waits until what was killed before is healed and verified, and the service of this run is seen to run.
    fn is_calm(&self, run: usize) -> anyhow::Result<()> {
        let service = self.services.get(run).context("a service for each run")?;
        let policy = format!("{}-down", service.name);
        let incidents = || self.fleet.items("incidents", &["--all"]);
        wait_for(
            PATIENCE,
            || format!("{run} incidents were not resolved: {:?}", incidents()),
            || {
                let resolved = incidents().ok()?.iter().filter(|incident| incident["state"] == "resolved").count();
                let seen = self.fleet.quell(&["why", &policy, HOST, "-o", "json"]).ok()?;
                (resolved >= run && seen.contains("notFiring")).then_some(())
            },
        )
    }
}

impl Service {
    fn start(scratch: &Path, number: usize) -> anyhow::Result<Self> {
        let name = format!("sleeper-{number}");
        let pid_file = scratch.join(format!("{name}.pid"));
        let first = spawn(&sleeper(&pid_file))?;
        comes_back(&pid_file, 0)?;
        Ok(Self { name, pid_file, first })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What runs now may be a process that the agent has started, which is nobody's child here.
        crate::fleet::process::end_by_pid_file(&self.pid_file);
        drop(self.first.wait());
    }
}

fn agent_toml(services: &[Service]) -> anyhow::Result<String> {
    let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let mut text = format!("[allow]\nactions = [\"service.restart\"]\nservices = {names:?}\n");
    for Service { name, pid_file, .. } in services {
        let start = sleeper(pid_file);
        write!(
            text,
            "\n[[service]]\nname = {name:?}\nmanager = \"command\"\nstart = {start:?}\npid_file = {pid_file:?}\n"
        )?;
    }
    Ok(text)
}

fn manifests<'a>(services: impl Iterator<Item = &'a str>) -> String {
    std::iter::once(CONTACT.to_owned()).chain(services.map(|name| POLICY.replace("SERVICE", name))).collect()
}

#[cfg(test)]
mod tests {
    use quell_model::manifest;

    #[test]
    fn the_policies_are_policies() {
        let text = super::manifests(["sleeper-0", "sleeper-1"].into_iter());
        let file = manifest::File { name: "bench.yaml".to_owned(), text };
        let parsed = manifest::parse(&[file]).unwrap_or_else(|errors| panic!("{errors:#?}"));
        assert_eq!(parsed.len(), 3);
    }
}
