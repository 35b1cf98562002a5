//! An agent: the real beliefs, ledger, journal, guards and outbox, on real files, driven by simulated time.
//!
//! What is a model here: the session and the queue of orders, after `quell_agent::session` and `quell_agent::execute`, which
//! run on a runtime of threads; recovery after a crash; the actions themselves, see [`crate::site`].

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime},
};

use quell_agent::{
    belief::Beliefs,
    clock::ClockOffset,
    config::Config,
    execute::{
        journal::{self, Journal, Line},
        journal_key,
        outcome::Stored,
        wire_key,
    },
    guard::{Signed, standing::Moment},
    session::outbox::Outbox,
};
use quell_model::name::HostName;
use quell_wire::v1;

use crate::{
    controller::labels,
    network::Connection,
    people,
    site::Way,
    time::{Millis, wall},
    world::HOSTS,
};

mod orders;
mod session;

/// What every host allows.
const AGENT_TOML: &str = r#"
    [allow]
    actions = ["exec", "service.restart", "log.rotate", "dns.failover"]
    services = ["web.service", "stock.service", "cache.service", "orders.service"]
    paths = ["/srv/log"]
    programs = ["/usr/bin/redeploy", "/usr/bin/drain", "/usr/bin/undrain", "/usr/bin/dnsTool"]
"#;

static CONFIG: LazyLock<Arc<Config>> = LazyLock::new(|| {
    Arc::new(Config::parse(AGENT_TOML, Path::new("agent.toml")).expect("the simulation's own agent.toml is right"))
});

/// How an order goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It has its effect.
    Apply,
    /// It ends.
    End,
}

/// An agent, dead or alive, and its disk.
pub(crate) struct Agent {
    directory: PathBuf,
    /// By how much the host's wall clock is ahead.
    pub(crate) offset: i64,
    /// Whether the host's administrator holds it.
    pub(crate) is_held: bool,
    /// Until when every order gives way to something else that goes on there.
    pub(crate) gives_way_until: Millis,
    pub(crate) incarnation: u64,
    process: Option<Process>,
}

/// What dies with the process.
struct Process {
    beliefs: Beliefs,
    journal: Journal,
    clock: ClockOffset,
    outbox: Outbox,
    link: Link,
    fence: u64,
    waiting: VecDeque<Order>,
    running: BTreeMap<String, Running>,
    /// The policies' names of the probes that are assigned, by their keys.
    probes: BTreeMap<String, String>,
    /// Failures and successes in a row.
    counts: BTreeMap<String, (u32, u32)>,
    newest_assignment: u64,
    told_hold: bool,
}

/// How it stands with the controller.
enum Link {
    Waiting,
    Connecting { connection: Connection, until: Millis },
    Online { connection: Connection, heard: Millis },
}

/// An order that was admitted and has not begun.
struct Order {
    command: v1::Command,
    key: String,
    resources: BTreeSet<String>,
    signed: Signed,
    not_after: Millis,
    cancelled: Option<String>,
}

/// An order that has begun.
struct Running {
    command: v1::Command,
    resources: BTreeSet<String>,
    begun: Millis,
    way: Way,
    applied: bool,
    cancelled: Option<String>,
}

impl Agent {
    /// An agent that has joined and was never started.
    pub(crate) fn new(host: &HostName, under: &Path) -> anyhow::Result<Self> {
        let directory = under.join(host.as_str());
        std::fs::create_dir(&directory)?;
        let role = HOSTS.iter().find(|(name, _)| *name == host.as_str()).map_or("", |(_, role)| role);
        Beliefs::establish(&directory, &people::root(), &labels(role))?;
        Ok(Self { directory, offset: 0, is_held: false, gives_way_until: 0, incarnation: 0, process: None })
    }

    /// Whether its process runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.process.is_some()
    }

    /// The connection that it has, or wants to have.
    pub(crate) fn connection(&self) -> Option<Connection> {
        match self.process.as_ref()?.link {
            Link::Waiting => None,
            Link::Connecting { connection, .. } | Link::Online { connection, .. } => Some(connection),
        }
    }

    /// Whether it does nothing and has nothing to say.
    pub(crate) fn is_quiet(&self) -> bool {
        self.process.as_ref().is_some_and(|process| {
            let is_online = matches!(process.link, Link::Online { .. });
            let has_said_all = process.journal.open_records().is_empty();
            is_online && has_said_all && process.waiting.is_empty() && process.running.is_empty()
        })
    }

    /// How an order ended, as the journal has it.
    pub(crate) fn journaled(&self, key: &str) -> Option<v1::Outcome> {
        let record = self.process.as_ref()?.journal.find(key)?;
        record.outcome.map(|stored| stored.wire(0))
    }

    /// Whether its journal has an order.
    pub(crate) fn knows(&self, command: &v1::Command) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.journal.find(&journal_key(command)).is_some())
    }

    /// Whether it has durably seen a later order than this one, which it never got.
    pub(crate) fn is_past(&self, command: &v1::Command) -> bool {
        let process = self.process.as_ref();
        process.is_some_and(|process| process.journal.fence() > command.fence)
    }

    fn moment(&self, now: Millis, epoch: std::time::Instant) -> Moment {
        let wall = wall(now, self.offset);
        let system = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(wall.as_millisecond()).unwrap_or(0));
        let clock = self.process.as_ref().map(|process| &process.clock);
        Moment {
            now: wall,
            ahead: clock.and_then(|clock| clock.seconds_at(system, epoch + Duration::from_millis(now))),
        }
    }

    /// The process is gone. With the power, what was written and not synced is gone as well.
    fn die(&mut self, with_power: bool) -> std::io::Result<()> {
        self.process = None;
        let (file, synced) = self.files();
        if with_power && synced.exists() {
            std::fs::rename(synced, file)?;
        }
        Ok(())
    }

    /// The journal, and a copy of what of it is certainly on the disk, where that is not all.
    fn files(&self) -> (PathBuf, PathBuf) {
        (self.directory.join(journal::FILE_NAME), self.directory.join("synced"))
    }

    /// Writes to the journal.
    fn write(&mut self, lines: &[Line], sync: bool) -> Result<(), String> {
        let (file, synced) = self.files();
        if !sync && !synced.exists() {
            std::fs::copy(file, &synced).map_err(|error| error.to_string())?;
        }
        let Some(process) = &self.process else { return Err("the agent is dead".to_owned()) };
        process.journal.append_now(lines, sync).map_err(|error| error.to_string())?;
        if sync && synced.exists() {
            std::fs::remove_file(synced).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// An outcome, and how old it is by the host's clock.
fn told(stored: &Stored, now: jiff::Timestamp) -> v1::Outcome {
    let age = now.as_millisecond().saturating_sub(stored.ended_unix_ms);
    stored.wire(u64::try_from(age).unwrap_or(0))
}

/// What the journal tells of an order.
fn entry(record: &journal::Record, now: jiff::Timestamp) -> Option<v1::JournalEntry> {
    let (key, command_id) = match (&record.intent, &record.outcome) {
        (_, Some(stored)) => (&stored.key, &stored.command_id),
        (Some(intent), None) => (&intent.key, &intent.command_id),
        (None, None) => return None,
    };
    Some(v1::JournalEntry {
        idempotency_key: wire_key(key).to_owned(),
        command_id: command_id.clone(),
        outcome: record.outcome.as_ref().map(|stored| told(stored, now)),
    })
}
