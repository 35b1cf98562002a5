//! Managers of services: who runs a service on this host, and how it is asked to start, stop and restart it.
//!
//! A [`Manager`] speaks for one service. It tells a service that failed from one that a person wants to be down:
//! masked, disabled or stopped is not "down", and nothing here starts such a service unasked.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::sync::watch;

/// A boxed future: what the methods of a trait object return.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How a service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum State {
    /// The manager could not be asked yet.
    #[default]
    Unknown,
    /// It runs.
    Active,
    /// It is on its way up.
    Starting,
    /// It is on its way down.
    Stopping,
    /// It ended by itself although it should run.
    Failed,
    /// It does not run, and nothing says that it should.
    Stopped,
    /// It is disabled and does not run.
    Disabled,
    /// It is masked: its administrator forbids that it be started.
    Masked,
    /// There is no such service on this host.
    Missing,
}

impl State {
    /// The word that samples carry in their field `state`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Active => "active",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Disabled => "disabled",
            Self::Masked => "masked",
            Self::Missing => "missing",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A process, told from a later one that was given the same number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since the boot.
    pub started: u64,
    /// The boot in which it started.
    pub boot: String,
}

/// What is known of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// How it stands.
    pub state: State,
    /// Its main process, while it has one.
    pub process: Option<Process>,
    /// Since when it stands so.
    pub since: Option<jiff::Timestamp>,
    /// How often it was started again, by the manager's own count.
    pub restarts: u64,
    /// True when a person wants it to be down: it is not "down".
    pub stopped_by_person: bool,
    /// How its last process ended, or what the manager says of it.
    pub detail: String,
}

/// Why a manager could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No manager knows the service.
    #[error("this host has no service {0:?}: define it as a [[service]] in agent.toml, or name a systemd unit")]
    NotFound(String),
    /// A person wants it so.
    #[error("{service} is {state}: {reason}")]
    Unwanted {
        /// The service.
        service: String,
        /// How it stands.
        state: State,
        /// What a person would do to change it.
        reason: String,
    },
    /// The manager does not answer.
    #[error("the manager of {service} does not answer: {reason}")]
    Unreachable {
        /// The service.
        service: String,
        /// What it said instead.
        reason: String,
    },
    /// It was tried, and did not work.
    #[error("{service} could not be {what}: {reason}")]
    Failed {
        /// The service.
        service: String,
        /// "started", "stopped", "restarted".
        what: &'static str,
        /// What was seen.
        reason: String,
    },
    /// It took too long.
    #[error("{service} was not {what} within {limit:?}")]
    TimedOut {
        /// The service.
        service: String,
        /// "started", "stopped", "restarted".
        what: &'static str,
        /// How long was waited.
        limit: Duration,
    },
}

/// Who runs one service. Every method may be called at any time; acts on one service happen one after the other.
pub trait Manager: Send + Sync {
    /// The service's name.
    fn service(&self) -> &str;

    /// How it stands, asked afresh.
    fn state(&self) -> Promise<'_, Result<Status, Error>>;

    /// Starts it, unless it runs. Ends when the manager says that it is up.
    fn start(&self, limit: Duration) -> Promise<'_, Result<Status, Error>>;

    /// Stops it, unless it is down. Ends when its process is gone.
    fn stop(&self, limit: Duration) -> Promise<'_, Result<Status, Error>>;

    /// Stops it if it runs and starts it again. Ends when the manager says that it is up.
    fn restart(&self, limit: Duration) -> Promise<'_, Result<Status, Error>>;

    /// Its status, pushed when it changes: the end of a process is seen when it happens, not at an interval.
    fn watch(&self) -> watch::Receiver<Status>;
}
