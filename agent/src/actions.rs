//! What an order can do to this host: one file for each action, one list of them, one way through all.
//!
//! ```text
//! read → permitted → check ─ nothing to do → no change
//!                      └─ prepare → (intent is journaled) → apply → verify
//! ```
//! Everything up to and with `prepare` only looks; a dry run is this same code, ended before the journal. What `apply`
//! needs in order to be undone, or to be understood after a crash, is in what `prepare` answers.

mod disk_reclaim;
mod dns_failover;
mod exec;
mod log_rotate;
mod permission;
mod service_restart;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use quell_model::{action::Parameters, value::Value};
use serde_json::Value as Json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    legal_hold::{LegalHold, LegalHoldFile},
    managers::{Managers, Promise},
};

/// The names of every action that there is.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    quell_model::action::ACTIONS.iter().map(|action| action.name)
}

/// What carries an order out.
pub fn of(parameters: Parameters) -> Box<dyn Action> {
    match parameters {
        Parameters::ServiceRestart(restart) => Box::new(service_restart::Restart(restart)),
        Parameters::LogRotate(rotate) => Box::new(log_rotate::Rotation(rotate)),
        Parameters::DiskReclaim(reclaim) => Box::new(disk_reclaim::Reclaim(reclaim)),
        Parameters::DnsFailover(failover) => Box::new(dns_failover::Failover::new(failover)),
        Parameters::Exec(exec) => Box::new(exec::Run(exec)),
    }
}

/// The host, as actions see it.
pub struct Host {
    /// What is allowed.
    pub config: Arc<Config>,
    /// Who runs services.
    pub managers: Arc<Managers>,
    /// Where it stands what nothing may delete.
    pub legal_holds: LegalHoldFile,
}

/// Why an action is not done; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What speaks against it, about what, and what to do.
    pub reason: String,
    /// The line for `agent.toml` that would permit it; empty when no line would.
    pub remedy: String,
}

impl Refusal {
    /// A refusal that no line of `agent.toml` would lift.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: String::new() }
    }

    /// A refusal by one of the lists under `[allow]`.
    pub fn not_listed(list: &str, entry: &str) -> Self {
        let remedy = format!("{list} = [{entry:?}]");
        Self {
            reason: format!(
                "this host's agent.toml does not allow it: {entry:?} is not among allow.{list}; add it under [allow] and restart the agent: {remedy}"
            ),
            remedy,
        }
    }
}

/// One object that an action would touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// "restart", "rotate", "delete", "run", "switch".
    pub verb: &'static str,
    /// A unit, a path, an argv, a server.
    pub object: String,
    /// Its size in bytes, where it has one.
    pub size: u64,
    /// Anything else that a person would want to know.
    pub detail: String,
    /// Whether size and detail change by themselves: they are shown, and no approval binds them.
    pub moving: bool,
}

/// What an action would do; empty: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// The objects.
    pub items: Vec<Item>,
    /// Why there is nothing to do, or what would be left out and why.
    pub note: String,
}

/// What an action did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Change {
    /// One line for people.
    pub summary: String,
    /// Named values: `bytes_freed`, `exit`, `pid`.
    pub values: BTreeMap<String, Value>,
    /// The end of its output.
    pub output: String,
}

impl Change {
    /// A change that is told in one line.
    pub fn new(summary: impl Into<String>) -> Self {
        Self { summary: summary.into(), ..Self::default() }
    }

    /// Adds a number to what is reported.
    #[must_use]
    pub fn with(mut self, name: &str, number: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "all reported numbers are doubles; sizes stay below 2^53")]
        self.values.insert(name.to_owned(), Value::Number(number as f64));
        self
    }
}

/// What did not work, after the intent was journaled.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What happened, to what, and what to do.
    pub reason: String,
    /// What is reported all the same.
    pub change: Change,
    /// True when nobody can say whether it took effect.
    pub in_doubt: bool,
}

impl Failure {
    /// A failure that is told in one line.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), change: Change::default(), in_doubt: false }
    }
}

/// How the host looks after a crash between intent and outcome.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// The effect is there.
    Done(Change),
    /// The effect is not there, and applying (again) is safe.
    Open,
    /// A part of the effect is there, and applying again is safe.
    Begun(Change),
    /// Nobody can say.
    Doubtful(String),
}

/// What an action is given while it works.
pub struct Work<'a> {
    /// The host.
    pub host: &'a Host,
    /// When it must be done.
    pub deadline: Instant,
    /// Cancelled when an operator wants it stopped.
    pub cancel: CancellationToken,
    /// True when it was begun before a crash and goes on.
    pub resumed: bool,
}

impl Work<'_> {
    /// How much time is left.
    pub fn left(&self) -> std::time::Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// One order; its parameters have been read by the grammar that manifests share.
pub trait Action: Send + Sync {
    /// What it holds while it runs: `unit:orders`, `path:/var/log/app.log`, `dns:dnsTool`.
    fn resources(&self) -> Vec<String>;

    /// Asks the host's own rules.
    ///
    /// # Errors
    /// What is not allowed, and the line that would allow it.
    fn permitted(&self, config: &Config) -> Result<(), Refusal>;

    /// What it would do now. Changes nothing.
    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>>;

    /// What it needs to know of the host as it is now, to undo or to understand it later; it was just checked. Changes
    /// nothing.
    fn prepare<'a>(&'a self, host: &'a Host, checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>>;

    /// Does it.
    fn apply<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<Change, Failure>>;

    /// Looks whether the effect is there and stays.
    fn verify<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<(), Failure>>;

    /// Takes it back; absent when there is nothing to take back.
    fn undo<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>>;

    /// After a crash: whether the effect is there. Changes nothing.
    fn look<'a>(&'a self, host: &'a Host, prepared: &'a Json) -> Promise<'a, Standing>;

    /// Whether a failure is undone at once.
    fn undoes_failures(&self) -> bool {
        false
    }
}

/// Runs file work with its own thread, off the runtime.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| format!("the work was interrupted: {error}"))
}

/// What is said of a file that a legal hold keeps.
fn held(hold: &LegalHold) -> String {
    format!("a legal hold keeps it: {}", hold.reason)
}

/// A path in a message.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A program and its arguments on one line, for messages: arguments with unusual characters are quoted.
fn shown_argv(argv: &[String]) -> String {
    let usual = |argument: &String| {
        !argument.is_empty()
            && argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte))
    };
    let parts: Vec<String> =
        argv.iter().map(|argument| if usual(argument) { argument.clone() } else { format!("{argument:?}") }).collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests;
