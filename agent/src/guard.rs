//! What an order must pass before anything is looked at: the agent is the last to be convinced.
//!
//! In this order: seen before (answered, not done) → fence → still in time → this host's → signed by people ([`signed`]) → an action
//! that is known → parameters that make sense → the allow-list → the host's own hold → what the host has seen and done,
//! calendars among it ([`standing`]) → giving way. The first no is the answer, with what would lift it.

pub(crate) mod signed;
pub mod standing;
mod vouched;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use quell_model::{action::Parameters, name::HostName};
use quell_wire::v1;
use serde_json::{Map, Value as Json};

pub(crate) use self::vouched::vouched;
pub use self::{signed::Signed, vouched::needs_signature};
use crate::{
    actions::{self, Action, Refusal},
    belief::Beliefs,
    config::Config,
    units,
};

/// Longest parameters that are read, in bytes.
const PARAMETERS_LIMIT: usize = 64 * 1024;

/// Longest name of a command or key, in bytes.
const KEY_LIMIT: usize = 256;

/// How long a terminal must be quiet before its user counts as away.
const AWAY_AFTER: Duration = Duration::from_secs(15 * 60);

/// A hold that the host's administrator has put on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
}

/// Asks for the hold in force; it may read a small file.
pub type HostHold = Arc<dyn Fn() -> Option<Held> + Send + Sync>;

/// An order that has passed.
pub struct Admitted {
    /// What is to be done.
    pub action: Box<dyn Action>,
    /// What it holds while it runs: the action's own, those that the order names, and its policy's target.
    pub resources: BTreeSet<String>,
    /// In whose name it is done.
    pub signed: Signed,
}

/// Whether an order is one at all, and the newest controller's.
///
/// # Errors
/// It is not, or its fence is lower than the highest that was seen.
pub fn check_order(command: &v1::Command, fence: u64) -> Result<(), Refusal> {
    if command.idempotency_key.is_empty() || command.idempotency_key.len() > KEY_LIMIT {
        return Err(Refusal::because("the order has no usable idempotency key, so it could be carried out twice"));
    }
    if command.fence < fence {
        return Err(Refusal::because(format!(
            "the order's fence is {}, and this agent has seen {fence}: it comes from a controller that was superseded",
            command.fence
        )));
    }
    if command.timeout_ms == 0 {
        return Err(Refusal::because("the order does not say how long it may take"));
    }
    Ok(())
}

/// Reads an order, and asks who signed it and what the host's own rules say. Changes nothing; computes for up to a
/// millisecond.
///
/// # Errors
/// The first check that fails.
pub fn admit(command: &v1::Command, beliefs: &Beliefs, config: &Config, now: Timestamp) -> Result<Admitted, Refusal> {
    check_host(command, beliefs.host())?;
    let signed = signed::verify(beliefs, command, now)?;
    let action = permitted(command, config)?;
    let mut resources: BTreeSet<String> = action.resources().into_iter().collect();
    resources.extend(command.resources.iter().cloned());
    resources.extend(signed.resource());
    Ok(Admitted { action, resources, signed })
}

/// An order of another host is not this one's, even where the plan has the same step for both.
fn check_host(command: &v1::Command, host: &HostName) -> Result<(), Refusal> {
    if command.host.is_empty() || command.host == host.as_str() {
        return Ok(());
    }
    Err(Refusal::because(format!("the order is for {}, and this is {host}", command.host)))
}

/// The action, when this host's administrator allows it.
fn permitted(command: &v1::Command, config: &Config) -> Result<Box<dyn Action>, Refusal> {
    let action = read(&command.action, &command.parameters)?;
    if !config.allow.actions.contains(&command.action) {
        return Err(Refusal::not_listed("actions", &command.action));
    }
    action.permitted(config)?;
    for word in &command.yield_to {
        YieldTo::parse(word)?;
    }
    Ok(action)
}

/// Finds the action and reads its parameters.
pub(crate) fn read(name: &str, parameters: &[u8]) -> Result<Box<dyn Action>, Refusal> {
    if !actions::names().any(|known| known == name) {
        let known: Vec<&str> = actions::names().collect();
        return Err(Refusal::because(format!(
            "this agent knows no action {name:?}; it knows {}. A newer agent may know more",
            known.join(", ")
        )));
    }
    if parameters.len() > PARAMETERS_LIMIT {
        return Err(Refusal::because(format!("the parameters of {name} are longer than {PARAMETERS_LIMIT} bytes")));
    }
    let read: Result<Map<String, Json>, _> = serde_json::from_slice(parameters);
    let parameters =
        read.map_err(|error| Refusal::because(format!("the parameters of {name} are not a JSON object: {error}")))?;
    let parameters = Parameters::parse(name, &parameters)
        .map_err(|error| Refusal::because(format!("the parameters of {error}; mend the policy")))?;
    Ok(actions::of(parameters))
}

/// To whom an order gives way on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum YieldTo {
    /// A package manager that installs or removes.
    PackageLock,
    /// A boot that is not this long ago.
    Boot(Duration),
    /// Somebody who works at a terminal.
    HumanSession,
}

impl YieldTo {
    fn parse(word: &str) -> Result<Self, Refusal> {
        match word.split_once(' ') {
            None if word == "package-lock" => Ok(Self::PackageLock),
            None if word == "human-session" => Ok(Self::HumanSession),
            Some(("boot", span)) => units::duration(span).map(Self::Boot).map_err(Refusal::because),
            _ => Err(Refusal::because(format!(
                "this agent cannot give way to {word:?}; it knows package-lock, boot <duration> and human-session"
            ))),
        }
    }
}

/// Where the signs are that an order must give way; the defaults are the host's own.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Files that package managers lock while they work.
    pub package_locks: Vec<PathBuf>,
    /// Holds the seconds since the boot.
    pub uptime: PathBuf,
    /// Holds a file for each open terminal.
    pub terminals: PathBuf,
}

impl Default for Surroundings {
    fn default() -> Self {
        let locks = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock"];
        Self {
            package_locks: locks.map(PathBuf::from).to_vec(),
            uptime: "/proc/uptime".into(),
            terminals: "/dev/pts".into(),
        }
    }
}

impl Surroundings {
    /// Why an order must give way now; a few reads of small files.
    pub(crate) fn gives_way(&self, yield_to: &[String]) -> Option<String> {
        yield_to.iter().find_map(|word| match YieldTo::parse(word) {
            Ok(YieldTo::PackageLock) => self.package_locks.iter().find_map(|lock| locked(lock)),
            Ok(YieldTo::Boot(span)) => self.booted_within(span),
            Ok(YieldTo::HumanSession) => self.somebody_works(),
            Err(refusal) => Some(refusal.reason),
        })
    }

    fn booted_within(&self, span: Duration) -> Option<String> {
        let text = std::fs::read_to_string(&self.uptime).ok()?;
        let seconds: f64 = text.split(' ').next()?.trim().parse().ok()?;
        let uptime = Duration::try_from_secs_f64(seconds).ok()?;
        (uptime < span).then(|| format!("the host has booted {} s ago, and orders wait for {span:?}", uptime.as_secs()))
    }

    /// A terminal is read when somebody types: the file's access time is what `w` shows as idle time.
    fn somebody_works(&self) -> Option<String> {
        let now = SystemTime::now();
        std::fs::read_dir(&self.terminals).ok()?.flatten().find_map(|entry| {
            let name = entry.file_name();
            let is_terminal = name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
            let typed = entry.metadata().ok()?.accessed().ok()?;
            let busy = is_terminal && now.duration_since(typed).unwrap_or_default() < AWAY_AFTER;
            busy.then(|| format!("somebody works at terminal {}", entry.path().display()))
        })
    }
}

/// Whether another process holds a lock on the file, as fcntl(2) knows it; asking does not take it.
fn locked(path: &Path) -> Option<String> {
    use rustix::process::{Flock, FlockType, fcntl_getlk};
    let file = std::fs::File::open(path).ok()?;
    let holder = fcntl_getlk(&file, &Flock::from(FlockType::WriteLock)).ok()??;
    let pid = holder.pid.map_or(0, rustix::process::Pid::as_raw_pid);
    Some(format!("a package manager (process {pid}) holds {}", path.display()))
}

#[cfg(test)]
mod tests;
