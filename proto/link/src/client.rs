//! The calling side: agents and operators find the controller, and know it by its CA and its name.
//!
//! A controller is recognised by a chain to the installation's CA and the URI `quell:controller:<installation>` in its
//! certificate, not by a DNS name: the CA signs for one installation only, and addresses change.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

mod connector;
mod enrol;
mod identity;
pub(crate) mod tls;

pub use connector::Connector;
pub use enrol::{Joined, join, join_with, renew};
pub use identity::AgentIdentity;

/// How long an attempt to reach one address may take, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a call that is answered once may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// After this long without a frame the controller is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// How long it has to give it.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that the controller may send on a stream before they are read.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Largest list of headers of an answer, bytes.
const HEADER_BYTES: u32 = 16 * 1024;
/// Requests that may wait for the connection.
const REQUEST_QUEUE: usize = 8;

/// A connection or an enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No address is known.
    #[error("no address of the controller is known")]
    NoAddress,
    /// No address answered.
    #[error("cannot reach the controller: {0}; check that it runs and that the address is right")]
    Unreachable(String),
    /// What answered is not the controller, or does not want us.
    #[error("the connection to {address} was refused: {reason}")]
    Handshake {
        /// The address.
        address: String,
        /// What was wrong, and what to do.
        reason: String,
    },
    /// The controller answered with a refusal.
    #[error("{}", .0.message())]
    Refused(Box<Status>),
    /// The connection broke during a call.
    #[error("the connection to the controller broke: {0}")]
    Broken(String),
    /// The machine has not joined.
    #[error(
        "{0} holds no identity: this machine has not joined; get a join string from `quell token create` and run `quell-agent join`"
    )]
    NotJoined(String),
    /// What joining left is damaged or gone.
    #[error(
        "the identity in {directory} cannot be used: {source}; put the file back from a copy, or move that directory away, \
         run `quell host retire` for the host and join it again"
    )]
    Identity {
        /// The identity's directory.
        directory: String,
        /// The file, and what is wrong with it.
        source: crate::files::Error,
    },
    /// The machine has joined already.
    #[error("{directory} holds the identity of {name} already; to join again, move that directory away first")]
    AlreadyJoined {
        /// The directory.
        directory: String,
        /// The host's name there.
        name: String,
    },
    /// Whom the host believes could not be made durable.
    #[error("whom this host believes could not be kept, so it has not joined: {0}")]
    Keep(String),
    /// The controller's answer does not fit what was asked.
    #[error("the controller's answer is not what was asked for: {0}")]
    Answer(String),
    /// The operator's profile cannot be used.
    #[error("the profile cannot be used: {0}")]
    Profile(String),
    /// A file.
    #[error(transparent)]
    Files(#[from] crate::files::Error),
    /// A key or a request could not be made.
    #[error(transparent)]
    Authority(#[from] crate::authority::Error),
    /// The TLS library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl Error {
    /// Whether trying again later may help: the controller is away, busy or slow. A refusal stands until somebody acts.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => true,
            Self::Refused(status) => is_transient(status),
            _ => false,
        }
    }
}

fn is_transient(status: &Status) -> bool {
    use tonic::Code;
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted | Code::Cancelled
    )
}

/// What a status that stems from the connection, not from the controller, really means; absent when the controller
/// itself answered.
pub fn explain(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return Some(ours.to_string());
        }
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return Some(format!(
                "{error}; the controller may have stopped, or the certificate is of another installation"
            ));
        }
        cause = error.source();
    }
    None
}

/// For `map_err`: a refusal of the controller, or a connection that broke.
pub(crate) fn call_error(status: Status) -> Error {
    match explain(&status) {
        Some(reason) => Error::Broken(reason),
        None if std::error::Error::source(&status).is_some() => Error::Broken(status.message().to_owned()),
        None => Error::Refused(Box::new(status)),
    }
}

/// The agent's connection: tries the addresses in turn, with the newest certificate. An identity that has ended is
/// renewed first. The channel connects again by itself; a session that must notice the break opens its stream anew.
///
/// # Errors
/// No address answers, or what answers is not the installation's controller or refuses the agent.
pub async fn connect_agent(addresses: &[String], identity: &Arc<AgentIdentity>) -> Result<Channel, Error> {
    if identity.is_expired(jiff::Timestamp::now()) {
        renew(addresses, identity).await?;
    }
    connect_as_is(addresses, identity).await
}

/// Like [`connect_agent`], with the certificate as it is: one that has ended is shown, and good for renewing only.
///
/// # Errors
/// Those of [`connect_agent`].
pub async fn connect_as_is(addresses: &[String], identity: &Arc<AgentIdentity>) -> Result<Channel, Error> {
    connect(Connector::renewing(addresses.to_vec(), Arc::clone(identity))).await
}

/// Connects at once; the error is that of the last address.
pub(crate) async fn connect(connector: Connector) -> Result<Channel, Error> {
    let last = connector.last_error();
    // The name in the URI is for headers only: TLS and the address are the connector's.
    Endpoint::from_static("http://quell.controller")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW)
        .http2_max_header_list_size(HEADER_BYTES)
        .buffer_size(REQUEST_QUEUE)
        .connect_with_connector(connector)
        .await
        .map_err(|error| last.take().unwrap_or_else(|| Error::Broken(error.to_string())))
}

/// Renews the agent's certificate at two thirds of its life, for as long as the agent runs. Later connections use the
/// new one; the stream that stands goes on. Returns when `stop` is cancelled.
pub async fn keep_renewed(addresses: Vec<String>, identity: Arc<AgentIdentity>, stop: CancellationToken) {
    /// The wall clock is looked at this often: it may jump, and machines sleep.
    const LOOK: Duration = Duration::from_secs(600);
    /// Between two renewals at least: a clock that is wrong must not become a storm.
    const BREATH: Duration = Duration::from_secs(1);
    let mut backoff = crate::backoff::Backoff::new(Duration::from_secs(30), Duration::from_secs(1800));
    loop {
        let mut wait = identity.until_renewal(jiff::Timestamp::now()).min(LOOK);
        if wait.is_zero() {
            let renewed = tokio::select! {
                () = stop.cancelled() => return,
                renewed = renew(&addresses, &identity) => renewed,
            };
            let expires = identity.expires();
            wait = match renewed {
                Ok(()) => {
                    backoff.reset();
                    tracing::info!(%expires, "renewed the certificate");
                    BREATH
                }
                Err(error) => {
                    tracing::warn!(%error, %expires, "cannot renew the certificate; will try again");
                    backoff.next_delay()
                }
            };
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Counts through addresses, beginning where the last attempt ended.
#[derive(Debug, Default)]
pub(crate) struct Rotation(AtomicUsize);

impl Rotation {
    /// The addresses, the one that is next first.
    pub(crate) fn order<'a>(&self, addresses: &'a [String]) -> impl Iterator<Item = (usize, &'a String)> + use<'a> {
        let start = self.0.load(Ordering::Relaxed) % addresses.len().max(1);
        addresses.iter().enumerate().skip(start).chain(addresses.iter().enumerate().take(start))
    }

    /// The next attempt begins here.
    pub(crate) fn begin_at(&self, index: usize) {
        self.0.store(index, Ordering::Relaxed);
    }
}
