//! The running agent, put together: what is opened in which order, and how it ends.
//!
//! Everything that can be wrong on the host is found before the first word with the controller; from then on the
//! controller may be away for as long as it likes.

use std::{io, sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_link::client::{self, AgentIdentity, keep_renewed};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    actions,
    belief::{self, Beliefs},
    clock::ClockOffset,
    config::{self, Config},
    data_dir::{self, DataDir},
    execute, facts,
    guard::{Held, HostHold, Surroundings},
    hold::{self, HoldFile},
    managers::Managers,
    notify::{self, State},
    probes::{self, Context, runner},
    session::{Ended, Grpc, Parts, Session},
    watch::Watcher,
};

/// How long orders that run may take to end when the agent stops.
const ORDERS_END_WITHIN: Duration = Duration::from_secs(15);

/// Why the agent does not run, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] data_dir::Error),
    /// `agent.toml`.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The identity.
    #[error(transparent)]
    Identity(#[from] client::Error),
    /// What the host believes.
    #[error(transparent)]
    Belief(#[from] belief::Error),
    /// The journal of orders.
    #[error(transparent)]
    Execute(#[from] execute::Error),
    /// What is known of the host's services.
    #[error("what is known of the host's services cannot be read from the data directory")]
    Managers(#[source] io::Error),
    /// Files cannot be watched.
    #[error("files cannot be watched; raise fs.inotify.max_user_instances with sysctl(8)")]
    Watch(#[source] io::Error),
    /// A thread for blocking work died.
    #[error("the agent could not start: {0}")]
    Broken(String),
    /// The agent is above its own ceilings.
    #[error("{0}; its service manager should start it afresh")]
    TooMuch(String),
}

/// Runs the agent of a data directory until `stop` is cancelled. Must be called within a runtime.
///
/// # Errors
/// It cannot start, or ended because it used too much.
pub async fn run(data: &DataDir, stop: CancellationToken) -> Result<(), Error> {
    if !data.root().is_dir() {
        // Nothing is made where nobody joined.
        return Err(client::Error::NotJoined(data.identity().display().to_string()).into());
    }
    let _lock = data.lock()?;
    let Loaded { config, identity, beliefs } = load(data.clone()).await?;
    tracing::info!(
        host = %identity.name,
        version = env!("CARGO_PKG_VERSION"),
        certificate_expires = %identity.expires(),
        "the agent starts"
    );
    if let Err(nobody) = beliefs.view() {
        tracing::error!(reason = %nobody, "the agent watches, and refuses every order");
    }
    let watcher = Watcher::start().map_err(Error::Watch)?;
    let managers = Arc::new(Managers::open(&config, data.root()).await.map_err(Error::Managers)?);
    let hold_file = HoldFile::new(data.root());
    let clock = ClockOffset::default();
    let (orders, reports) = execute::start(execute::Options {
        data_directory: data.root().to_owned(),
        config: Arc::clone(&config),
        managers: Arc::clone(&managers),
        beliefs,
        clock: clock.clone(),
        host_hold: ask(hold_file.clone()),
        surroundings: Surroundings::default(),
    })
    .await?;

    let context = Context { config, managers, watcher: watcher.clone(), clock: clock.clone() };
    let (sender, samples) = mpsc::channel(runner::SAMPLES);
    let session = Session::new(Parts {
        connect: Box::new(Grpc { identity: Arc::clone(&identity) }),
        orders: Arc::new(orders.clone()),
        reports,
        runner: runner::Runner::new(context, sender),
        samples,
        hold: hold::follow(hold_file, &watcher).await,
        clock,
        facts: tokio::task::spawn_blocking(facts::gather).await.unwrap_or_default(),
        capabilities: capabilities(),
        instance: uuid::Uuid::new_v4().to_string(),
    });
    tokio::spawn(keep_renewed(identity.addresses.clone(), identity, stop.clone()));

    notify::notify(State::Ready);
    let ended = session.run(stop.clone()).await;
    notify::notify(State::Stopping);
    stop.cancel();
    if tokio::time::timeout(ORDERS_END_WITHIN, orders.stop()).await.is_err() {
        tracing::warn!("orders still run; the next agent takes them up from the journal");
    }
    match ended {
        Ended::Stopped => Ok(()),
        Ended::TooMuch(reason) => Err(Error::TooMuch(reason)),
    }
}

/// What the agent is, what it may do, and whom it believes.
struct Loaded {
    config: Arc<Config>,
    identity: Arc<AgentIdentity>,
    beliefs: Arc<Beliefs>,
}

async fn load(data: DataDir) -> Result<Loaded, Error> {
    let read = move || {
        let config = Config::load(data.root())?;
        let identity = AgentIdentity::load(&data.identity())?;
        let beliefs = Beliefs::open(data.root(), identity.name.clone())?;
        Ok(Loaded { config: Arc::new(config), identity: Arc::new(identity), beliefs: Arc::new(beliefs) })
    };
    tokio::task::spawn_blocking(read).await.map_err(|error| Error::Broken(error.to_string()))?
}

/// What the guard asks before every order: the file itself, not what was last heard of it.
fn ask(file: HoldFile) -> HostHold {
    Arc::new(move || file.current(Timestamp::now()).map(|hold| Held { reason: hold.reason, until: hold.until }))
}

/// What this agent can do, for the controller to know.
pub fn capabilities() -> Vec<String> {
    let probes = probes::KINDS.iter().map(|kind| format!("probe.{}", kind.kind));
    let actions = actions::names().map(|name| format!("action.{name}"));
    probes.chain(actions).collect()
}
