//! A fleet of real processes: one controller and its agents, over mutual TLS on loopback.
//!
//! The programs are those that were built beside the one that runs: nothing here reaches into them. Everything lives
//! below one directory, ports are free ones, and dropping the fleet ends what it started.

pub mod process;

use std::{
    collections::BTreeMap,
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use quell_link::free_port;
use serde_json::Value;

pub use process::Process;
use process::{Programs, run};

/// How long a process may take to be ready, or to stop.
const READY: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(25);
/// Records that may wait for their reader before the reading of the CLI's output pauses.
const EVENTS: usize = 4096;

/// Waits for a condition.
///
/// # Errors
/// It did not come about in time; the message is what `describe` says.
pub fn wait_for<T>(
    limit: Duration,
    describe: impl Fn() -> String,
    mut condition: impl FnMut() -> Option<T>,
) -> anyhow::Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = condition() {
            return Ok(found);
        }
        ensure!(started.elapsed() < limit, "waited {limit:?} in vain: {}", describe());
        std::thread::sleep(LOOK);
    }
}

/// A port that nobody uses at the moment, and that no outgoing connection is given.
///
/// # Errors
/// There is none.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(free_port::listener(Ipv4Addr::LOCALHOST.into())?.local_addr()?.port())
}

/// A host to enrol.
#[derive(Debug, Clone)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Labels that its token grants.
    pub labels: Vec<(String, String)>,
    /// Its `agent.toml`.
    pub agent_toml: String,
}

impl Host {
    /// A host of this role that lets one program be run.
    pub fn running(name: &str, role: &str, program: &str) -> Self {
        Self {
            name: name.to_owned(),
            labels: vec![("role".to_owned(), role.to_owned())],
            agent_toml: format!("[allow]\nactions = [\"exec\"]\nprograms = [\"{program}\"]\n"),
        }
    }
}

/// A controller, its agents, and a profile to talk to them.
#[derive(Debug)]
pub struct Fleet {
    root: PathBuf,
    programs: Programs,
    /// What `RUST_LOG` says to controller and agents.
    talk: Option<String>,
    profile: PathBuf,
    http: u16,
    controller: Option<Process>,
    agents: BTreeMap<String, Process>,
}

impl Fleet {
    /// Makes an installation below a directory and starts its controller.
    ///
    /// # Errors
    /// A program is missing or does not get ready.
    pub fn start(root: &Path) -> anyhow::Result<Self> {
        Self::start_talking(root, None)
    }

    /// The same, whose controller and agents log what this filter says.
    ///
    /// # Errors
    /// As for [`Fleet::start`].
    pub fn start_talking(root: &Path, talk: Option<&str>) -> anyhow::Result<Self> {
        let programs = Programs::beside_this_one()?;
        let (listen, http) = (free_port()?, free_port()?);
        let data = root.join("controller");
        let output = run(
            &programs.controller,
            &[
                "init",
                "--data-dir",
                path(&data)?,
                "--listen",
                &format!("127.0.0.1:{listen}"),
                "--http",
                &format!("127.0.0.1:{http}"),
            ],
        )?;
        let profile = output.lines().last().context("init printed no profile")?;
        let mut fleet = Self {
            root: root.to_owned(),
            profile: PathBuf::from(profile),
            programs,
            talk: talk.map(str::to_owned),
            http,
            controller: None,
            agents: BTreeMap::new(),
        };
        configure(&data)?;
        fleet.start_controller()?;
        Ok(fleet)
    }

    /// The operator's profile.
    pub fn profile(&self) -> &Path {
        &self.profile
    }

    /// The controller's data directory.
    pub fn controller_data(&self) -> PathBuf {
        self.root.join("controller")
    }

    /// An agent's data directory.
    pub fn agent_data(&self, host: &str) -> PathBuf {
        self.root.join("agents").join(host)
    }

    /// The CLI's path.
    pub fn cli(&self) -> &Path {
        &self.programs.cli
    }

    /// The port of `/metrics`, `/healthz` and `/readyz`.
    pub fn http_port(&self) -> u16 {
        self.http
    }

    /// Starts the controller and waits until it is ready.
    ///
    /// # Errors
    /// It does not get ready.
    pub fn start_controller(&mut self) -> anyhow::Result<()> {
        let data = self.controller_data();
        let log = self.root.join("controller.log");
        let arguments = ["serve", "--data-dir", path(&data)?];
        let mut controller = Process::start_talking(&self.programs.controller, &arguments, self.talk.as_deref(), &log)?;
        let http = self.http;
        wait_for(
            READY,
            || format!("the controller is not ready; see {}", log.display()),
            || (controller.has_ended() || is_ready(http)).then_some(()),
        )?;
        ensure!(!controller.has_ended(), "the controller ended at once:\n{}", last_lines(&log));
        self.controller = Some(controller);
        Ok(())
    }

    /// Ends the controller without warning, as a crash would.
    pub fn kill_controller(&mut self) {
        if let Some(mut controller) = self.controller.take() {
            controller.kill();
        }
    }

    /// Asks the controller to stop and waits until it has.
    ///
    /// # Errors
    /// It does not stop in time.
    pub fn stop_controller(&mut self) -> anyhow::Result<()> {
        self.controller.take().map_or(Ok(()), |mut controller| controller.stop(READY))
    }

    /// Joins a host and starts its agent.
    ///
    /// # Errors
    /// The token is refused or the agent does not come online.
    pub fn enrol(&mut self, host: &Host) -> anyhow::Result<()> {
        let data = self.agent_data(&host.name);
        fs::create_dir_all(&data)?;
        fs::write(data.join("agent.toml"), &host.agent_toml)?;
        let labels: Vec<String> = host.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut arguments = vec!["token", "create", "--ttl", "10m", "--uses", "1"];
        for label in &labels {
            arguments.extend(["--label", label]);
        }
        let token = self.quell(&arguments)?;
        self.join(&host.name, token.trim())?;
        self.start_agent(&host.name)
    }

    /// Joins a host by a join string.
    ///
    /// # Errors
    /// What `quell-agent join` says.
    pub fn join(&self, host: &str, token: &str) -> anyhow::Result<()> {
        let data = self.agent_data(host);
        run(&self.programs.agent, &["join", "--data-dir", path(&data)?, "--name", host, token]).map(drop)
    }

    /// Starts an agent that has joined, and waits until it is online.
    ///
    /// # Errors
    /// It does not come online.
    pub fn start_agent(&mut self, host: &str) -> anyhow::Result<()> {
        let log = self.run_agent(host)?;
        self.wait_until_online(host).with_context(|| format!("see {}:\n{}", log.display(), last_lines(&log)))
    }

    /// Waits until the controller hears a host.
    ///
    /// # Errors
    /// It does not come online.
    pub fn wait_until_online(&self, host: &str) -> anyhow::Result<()> {
        wait_for(READY, || format!("{host} does not come online"), || self.is_online(host).then_some(()))
    }

    /// Starts an agent that has joined, whoever its controller is; answers where its log is.
    ///
    /// # Errors
    /// The program is not there.
    pub fn run_agent(&mut self, host: &str) -> anyhow::Result<PathBuf> {
        let data = self.agent_data(host);
        let log = self.root.join(format!("{host}.log"));
        let agent = Process::start_talking(
            &self.programs.agent,
            &["run", "--data-dir", path(&data)?],
            self.talk.as_deref(),
            &log,
        )?;
        self.agents.insert(host.to_owned(), agent);
        Ok(log)
    }

    /// Ends an agent without warning.
    pub fn kill_agent(&mut self, host: &str) {
        if let Some(mut agent) = self.agents.remove(host) {
            agent.kill();
        }
    }

    /// The process of an agent.
    pub fn agent_pid(&self, host: &str) -> Option<u32> {
        self.agents.get(host).map(Process::pid)
    }

    fn is_online(&self, host: &str) -> bool {
        self.items("hosts", &[])
            .is_ok_and(|hosts| hosts.iter().any(|row| row["name"] == host && row["state"] == "online"))
    }

    /// Runs the CLI and answers what it printed.
    ///
    /// # Errors
    /// It exits with another status than 0; the message is what it said.
    pub fn quell(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let profile = path(&self.profile)?;
        run(&self.programs.cli, &[&["--profile", profile], arguments].concat())
    }

    /// What `quell get KIND -o json` lists.
    ///
    /// # Errors
    /// As for [`Fleet::quell`].
    pub fn items(&self, kind: &str, more: &[&str]) -> anyhow::Result<Vec<Value>> {
        let text = self.quell(&[&["get", kind, "-o", "json"], more].concat())?;
        let mut list: Value = serde_json::from_str(&text).with_context(|| format!("not JSON: {text}"))?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("get {kind} printed no items but {other}"),
        }
    }

    /// Applies manifests with settings.
    ///
    /// # Errors
    /// As for [`Fleet::quell`].
    pub fn apply(&self, manifests: &Path, settings: &[(String, String)]) -> anyhow::Result<String> {
        let settings: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut arguments = vec!["apply", "-f", path(manifests)?];
        for setting in &settings {
            arguments.extend(["--set", setting]);
        }
        self.quell(&arguments)
    }

    /// Follows the records from the oldest on.
    ///
    /// # Errors
    /// The CLI cannot be started.
    pub fn follow(&self) -> anyhow::Result<Events> {
        let profile = path(&self.profile)?;
        let arguments = ["--profile", profile, "events", "--follow", "-o", "json"];
        let (process, lines) = Process::start_piped(&self.programs.cli, &arguments, EVENTS)?;
        Ok(Events { _process: process, lines })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for agent in self.agents.values_mut() {
            agent.ask_to_stop();
        }
        for agent in self.agents.values_mut() {
            agent.kill_after(READY);
        }
        if let Some(controller) = &mut self.controller {
            controller.ask_to_stop();
            controller.kill_after(READY);
        }
    }
}

/// Records as they come.
#[derive(Debug)]
pub struct Events {
    _process: Process,
    lines: mpsc::Receiver<String>,
}

impl Events {
    /// The next record, when one comes within a time.
    pub fn next(&self, within: Duration) -> Option<Value> {
        let line = self.lines.recv_timeout(within).ok()?;
        serde_json::from_str(&line).ok()
    }
}

/// Lets the controller send webhooks to this machine, which by itself it refuses, and look at hosts every second.
fn configure(data: &Path) -> anyhow::Result<()> {
    let file = data.join("controller.toml");
    let mut config: toml::Table = fs::read_to_string(&file)?.parse()?;
    let mut set = |table: &str, key: &str, value: toml::Value| {
        let table = config.entry(table).or_insert_with(|| toml::Table::new().into());
        table.as_table_mut().map(|table| table.insert(key.to_owned(), value))
    };
    set("notify", "allow_addresses", toml::Value::Array(vec!["127.0.0.0/8".into()]));
    set("agents", "host_every", "1s".into());
    Ok(fs::write(&file, config.to_string())?)
}

fn is_ready(port: u16) -> bool {
    http_get(port, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// A plain HTTP GET on loopback: status line, headers and body.
///
/// # Errors
/// Nobody answers.
pub fn http_get(port: u16, resource: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {resource} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// A path as an argument.
fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// The end of a log, for messages.
pub fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
