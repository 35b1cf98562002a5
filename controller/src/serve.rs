//! `quell-controller serve`: builds the controller, runs it, and ends it in order.
//!
//! Building opens the store and binds the sockets, so that whatever is wrong is said before anything runs. Running
//! starts the tasks of [`crate::tasks`] and ends when somebody asks or one dies without which nothing works. Ending has
//! an order and a deadline: agents are told to come back, streams end, what they reported is decided, the store closes.

use std::{
    net::{IpAddr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use quell_link::{
    MESSAGE_BYTES,
    authority::{self, Authority},
    rpc::{
        agent_service_server::AgentServiceServer, enrolment_service_server::EnrolmentServiceServer,
        operator_service_server::OperatorServiceServer,
    },
    server::{self, Tls},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::ServingStatus;

use crate::{
    alerts,
    config::{self, Config},
    decider::{self, Decider},
    effects, init,
    metrics::{Measured, Metrics},
    notify,
    registry::Registry,
    rpc::{self, enrolment::Enrolments},
    session::{self, Sessions},
    store::{self, DiskStore, Store},
    systemd,
    tasks::{Death, End, Task, Tasks},
    web,
};

/// How long streams have to end once the controller stops.
const DRAIN: Duration = Duration::from_secs(6);
/// How long the decider has to decide and record what was reported before the end.
const LAST_TURN: Duration = Duration::from_secs(8);

/// Why the controller does not serve, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The certificate authority cannot be used.
    #[error("the certificate authority cannot be used: {0}; put the file back from a backup of this controller")]
    Authority(#[from] authority::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({field} in {}): {source}; {remedy}", file.display())]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The field of controller.toml.
        field: &'static str,
        /// controller.toml.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The listening side could not be set up.
    #[error(transparent)]
    Server(#[from] server::Error),
    /// gRPC reflection could not be set up.
    #[error("reflection cannot be set up: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The authorities that webhooks believe cannot be read.
    #[error(transparent)]
    WebhookAuthorities(#[from] notify::AuthoritiesError),
    /// An operator who was made on this machine cannot be admitted.
    #[error(transparent)]
    Admit(#[from] init::Error),
    /// A task without which nothing works has ended.
    #[error("{task:?} has ended: {reason}; start the controller again")]
    Died {
        /// The task.
        task: Task,
        /// Why it ended.
        reason: String,
    },
    /// The decider did not come to its end in time.
    #[error("the decider did not stop within {LAST_TURN:?}; what was acknowledged is durable all the same")]
    Slow,
}

/// What a controller is made of.
pub struct Parts {
    /// What it is told.
    pub config: Config,
    /// Its directory.
    pub data_dir: PathBuf,
    /// Who issues certificates, and signs heads of the log.
    pub authority: Arc<Authority>,
    /// What it keeps.
    pub store: Box<dyn Store>,
    /// What decides.
    pub engine: decider::Engine,
}

impl Parts {
    /// Opens the parts of a controller on disk. It blocks on files.
    ///
    /// # Errors
    /// A part is missing, damaged, in use, or of a newer version.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let config = Config::load(data_dir)?;
        let authority = Arc::new(Authority::load(&data_dir.join(init::AUTHORITY))?);
        let options = store::Options {
            keep_bytes: config.retention.bytes,
            keep_for: Duration::from_secs(u64::from(config.retention.days) * 86_400),
            ..store::Options::default()
        };
        let mut store = Box::new(DiskStore::open(data_dir, options)?);
        store.sign_with(authority.clone())?;
        let engine = Box::new(quell_engine::step);
        Ok(Self { config, data_dir: data_dir.to_owned(), authority, store, engine })
    }
}

/// A controller that is ready to run: its ports are bound, its decider has begun.
pub struct Controller {
    config: Config,
    data_dir: PathBuf,
    authority: Arc<Authority>,
    tls: Arc<Tls>,
    listener: TcpListener,
    http: Option<TcpListener>,
    decider: Decider,
    metrics: Arc<Metrics>,
    registry: Registry,
    effects: effects::Service,
    notifier: notify::Service,
}

impl Controller {
    /// Binds the sockets and starts the decider. It blocks on files.
    ///
    /// # Errors
    /// A port is taken, or the store cannot be read or written.
    pub fn build(parts: Parts) -> Result<Self, Error> {
        let Parts { config, data_dir, authority, store, engine } = parts;
        let listener = bind(config.listen, "listen", &data_dir)?;
        let http = config.http.map(|address| bind(address, "http", &data_dir)).transpose()?;
        let tls = Tls::new(authority.clone(), names(&config), Timestamp::now())?;
        let metrics = Metrics::new();
        let registry = Registry::default();
        let rules = notify::Rules::new(config.notify.allow_addresses.clone());
        let authorities = notify::authorities(config.notify.ca_file.as_deref())?;
        let webhook = notify::Webhook::new(&data_dir, rules, authorities, config.notify.timeout);
        let notifiers = notify::notifiers(webhook);
        let (messages, notifier) = notify::service(authority.installation(), notifiers, metrics.clone());
        let (released, effects) = effects::service(registry.clone(), messages);
        let store = Box::new(Measured::new(store, metrics.clone()));
        let holder = format!("quell-controller, process {}", std::process::id());
        let options = decider::Options { engine, ..decider::Options::new(store, Box::new(released), holder) };
        let decider = Decider::start(options)?;
        Ok(Self { config, data_dir, authority, tls, listener, http, decider, metrics, registry, effects, notifier })
    }

    /// The address for agents and operators.
    ///
    /// # Errors
    /// The socket is not bound any more.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The address for `/metrics`, where there is one.
    ///
    /// # Errors
    /// The socket is not bound any more.
    pub fn http_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.http.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// How to talk to the decider.
    pub fn decider(&self) -> decider::Handle {
        self.decider.handle()
    }

    /// Serves until cancelled.
    ///
    /// # Errors
    /// A task without which nothing works has ended, or the end took too long.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let decider = self.decider.handle();
        init::admit_pending(&self.data_dir, &decider).await?;
        let sessions = TaskTracker::new();
        let (health, probes) = tonic_health::server::health_reporter();
        health.set_serving::<AgentServiceServer<Sessions>>().await;
        health.set_serving::<OperatorServiceServer<rpc::Operators>>().await;
        health.set_serving::<EnrolmentServiceServer<Enrolments>>().await;
        let services = self.routes(&stop, &sessions)?.add_service(probes);
        let routes = Routes::from(services.into_axum_router().merge(alerts::routes(decider.clone())));
        // What carries out and tells goes on until the decider has said its last word.
        let last = CancellationToken::new();
        let mut tasks = Tasks::default();
        let watched = decider.clone();
        tasks.spawn(Task::Decider, async move { watched.ended().await.map_err(|error| error.to_string()) });
        tasks.spawn(Task::Effects, finite(self.effects.run(decider.clone(), last.clone())));
        tasks.spawn(Task::Notifier, finite(self.notifier.run(decider.clone(), last.clone())));
        let listener = into_tokio(self.listener);
        let (refusals, recorder) = rpc::refusals::service();
        let recorded = CancellationToken::new();
        let recording = recorder.run(decider.clone(), self.data_dir.clone(), stop.clone());
        let is_recorded = recorded.clone().drop_guard();
        tasks.spawn(Task::Recorder, async move {
            recording.await;
            drop(is_recorded);
            Ok(())
        });
        let gate = Arc::new(rpc::Gate::new(decider.clone(), refusals));
        let options = server::Options { drain: DRAIN, ..server::Options::default() };
        let (tls, shutdown) = (self.tls, stop.clone());
        tasks.spawn(Task::Server, async move {
            server::serve(listener?, tls, routes, gate, options, shutdown).await;
            Ok(())
        });
        if let Some(http) = self.http {
            let context = web::Context {
                decider: decider.clone(),
                registry: self.registry,
                metrics: self.metrics,
                stop: stop.clone(),
            };
            let listener = into_tokio(http);
            tasks.spawn(
                Task::Web,
                async move { web::serve(listener?, context).await.map_err(|error| error.to_string()) },
            );
        }
        systemd::notify(systemd::READY);
        tracing::info!(listen = %self.config.listen, installation = self.authority.installation(), "the controller serves");
        let died = watch(&mut tasks, &stop).await;
        systemd::notify(systemd::STOPPING);
        health.set_service_status("", ServingStatus::NotServing).await;
        stop.cancel();
        let ended = end(&sessions, &recorded, &decider).await;
        last.cancel();
        died.and(ended)
    }

    /// Every service on the main port but health.
    fn routes(&self, stop: &CancellationToken, sessions: &TaskTracker) -> Result<Routes, Error> {
        let decider = self.decider.handle();
        let agents = Sessions::new(session::Context {
            decider: decider.clone(),
            registry: self.registry.clone(),
            agents: self.config.agents.clone(),
            installation: self.authority.installation().to_owned(),
            metrics: self.metrics.clone(),
            stop: stop.clone(),
            tasks: sessions.clone(),
        });
        let operators = rpc::Operators::new(rpc::Context {
            decider: decider.clone(),
            registry: self.registry.clone(),
            authority: self.authority.clone(),
            addresses: self.reachable(),
            stop: stop.clone(),
        });
        let enrolments = Enrolments::new(decider, self.authority.clone());
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(quell_wire::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        Ok(Routes::new(AgentServiceServer::new(agents).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(OperatorServiceServer::new(operators).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(EnrolmentServiceServer::new(enrolments).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?))
    }

    /// What join strings say: the configured addresses, else the bound one.
    fn reachable(&self) -> Vec<String> {
        match self.address() {
            Ok(address) if self.config.addresses.is_empty() => vec![address.to_string()],
            _ => self.config.addresses.clone(),
        }
    }
}

/// A task that ends only when it is told to.
async fn finite(work: impl Future<Output = ()>) -> Result<(), String> {
    work.await;
    Ok(())
}

/// Waits until somebody asks for the end, or a task has died without which nothing works. Once somebody has asked, tasks
/// that end do what they should.
async fn watch(tasks: &mut Tasks, stop: &CancellationToken) -> Result<(), Error> {
    loop {
        let end = tokio::select! {
            // Tasks end because of it as well: then it comes first, and none of them has died.
            biased;
            () = stop.cancelled() => return Ok(()),
            end = tasks.next() => end,
        };
        let Some(End { task, result }) = end.filter(|_| !stop.is_cancelled()) else { return Ok(()) };
        let reason = result.err().unwrap_or_else(|| "it came to its end".to_owned());
        match task.death() {
            Death::Fatal => return Err(Error::Died { task, reason }),
            Death::Degrading => tracing::error!(?task, reason, "a task has ended, the controller goes on without it"),
        }
    }
}

/// Ends everything in order: sessions and what is refused, then the decider, which records what they still reported.
async fn end(sessions: &TaskTracker, recorded: &CancellationToken, decider: &decider::Handle) -> Result<(), Error> {
    tracing::info!("the controller stops");
    sessions.close();
    if tokio::time::timeout(DRAIN, sessions.wait()).await.is_err() {
        tracing::warn!(sessions = sessions.len(), "sessions did not end in time");
    }
    if tokio::time::timeout(DRAIN, recorded.cancelled()).await.is_err() {
        tracing::warn!("what was refused was not recorded in time");
    }
    decider.stop().await;
    match tokio::time::timeout(LAST_TURN, decider.ended()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::Died { task: Task::Decider, reason: error.to_string() }),
        Err(_) => Err(Error::Slow),
    }
}

/// Binds an address.
fn bind(address: SocketAddr, field: &'static str, data_dir: &Path) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| Error::Listen {
        address,
        field,
        file: data_dir.join(config::FILE),
        remedy: match source.kind() {
            std::io::ErrorKind::AddrInUse => "stop the program that has the port, or write another port",
            std::io::ErrorKind::PermissionDenied => {
                "write a port above 1023, or give the service the right to use this one"
            }
            _ => "write an address of this machine",
        },
        source,
    })
}

fn into_tokio(listener: TcpListener) -> Result<tokio::net::TcpListener, String> {
    tokio::net::TcpListener::from_std(listener).map_err(|error| error.to_string())
}

/// The names that the controller's own certificate bears: those by which agents and operators reach it.
fn names(config: &Config) -> Vec<String> {
    let hosts = config.addresses.iter().filter_map(|address| address.rsplit_once(':')).map(|(host, _)| host);
    let mut names: Vec<String> =
        hosts.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned()).collect();
    if config.listen.ip().is_unspecified() {
        names.extend(["127.0.0.1".to_owned(), "localhost".to_owned()]);
    } else {
        names.push(config.listen.ip().to_string());
    }
    names.sort_by_key(|name| (name.parse::<IpAddr>().is_err(), name.clone()));
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_bears_every_name_once_and_no_ports() {
        let mut config = Config::new("127.0.0.1:7443".parse().unwrap(), None);
        config.addresses = ["controller.example:7443", "127.0.0.1:7443", "[::1]:7443"].map(str::to_owned).to_vec();
        assert_eq!(names(&config), ["127.0.0.1", "::1", "controller.example"]);
        let everywhere = Config::new("0.0.0.0:7443".parse().unwrap(), None);
        assert_eq!(names(&everywhere), ["127.0.0.1", "localhost"]);
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_its_field_and_a_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(address, "http", Path::new("D")).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("http in D/controller.toml"), "{error}");
        assert!(error.contains("stop the program that has the port"), "{error}");
        assert!(!error.contains('\n'));
    }
}
