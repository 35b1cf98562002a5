//! Managers of services: who runs a service on this host, and how it is asked to start, stop and restart it.
//!
//! A [`Manager`] speaks for one service. It tells a service that failed from one that a person wants to be down:
//! masked, disabled or stopped is not "down", and nothing here starts such a service unasked.

pub mod command;
pub mod systemd;

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    config::{Config, ManagerKind},
    process::Process,
    units,
};

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

/// Most systemd units that one agent keeps an eye on at the same time.
const MAXIMUM_UNITS: usize = 256;

/// Every service that this host can name, with who runs it.
pub struct Managers {
    defined: BTreeMap<String, Arc<dyn Manager>>,
    bus: Arc<systemd::Bus>,
    units: Mutex<BTreeMap<String, Arc<dyn Manager>>>,
}

impl Managers {
    /// Takes up the services that `agent.toml` defines; what an earlier agent started is found again and watched.
    /// Must be called within the runtime, once.
    ///
    /// # Errors
    /// When what is known of the services cannot be read from the data directory.
    pub async fn open(config: &Config, data_directory: &Path) -> std::io::Result<Self> {
        let bus = Arc::new(systemd::Bus::system());
        let mut defined = BTreeMap::new();
        for service in &config.services {
            let manager: Arc<dyn Manager> = match service.manager {
                ManagerKind::Command => command::Command::open(service.clone(), data_directory).await?,
                ManagerKind::Systemd => systemd::Unit::new(&service.name, service.unit(), Arc::clone(&bus)),
            };
            defined.insert(service.name.clone(), manager);
        }
        Ok(Self { defined, bus, units: Mutex::default() })
    }

    /// Who runs the service: as `agent.toml` defines it, else the systemd unit of that name. Whether there is such a
    /// unit only its state tells.
    ///
    /// # Errors
    /// When the name cannot be that of a service.
    pub fn find(&self, service: &str) -> Result<Arc<dyn Manager>, Error> {
        if let Some(manager) = self.defined.get(service) {
            return Ok(Arc::clone(manager));
        }
        if quell_model::name::unit(service).is_err() {
            return Err(Error::NotFound(service.to_owned()));
        }
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(manager) = units.get(service) {
            return Ok(Arc::clone(manager));
        }
        let manager: Arc<dyn Manager> = systemd::Unit::new(service, units::unit_name(service), Arc::clone(&self.bus));
        if units.len() < MAXIMUM_UNITS {
            units.insert(service.to_owned(), Arc::clone(&manager));
        }
        Ok(manager)
    }
}
