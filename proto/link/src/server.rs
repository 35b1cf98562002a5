//! The listening side: an accept loop of our own, so that certificates change and peers are refused while it runs.
//!
//! What it promises:
//!
//! - every call has passed [`crate::access::check`], and carries its [`Peer`] in the request's extensions;
//! - a peer that the [`Gatekeeper`] no longer admits is cut within [`Options::sweep`], and every call asks again;
//! - sockets that never finish their handshake cost a bounded number of descriptors, and the oldest of the address with
//!   the most of them gives way, so that an honest peer is not delayed;
//! - the loop outlives every error of `accept`;
//! - shutting down ends by [`Options::drain`], whatever the peers do.

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::identity::{Peer, Role};

mod connection;
mod handshakes;
mod tls;

use connection::Shared;
pub use tls::Tls;

/// The listening side could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The controller's certificate could not be issued.
    #[error(transparent)]
    Authority(#[from] crate::authority::Error),
    /// The TLS library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Knows who is welcome at this moment. Asked at each handshake, on each call and at each sweep: it answers at once,
/// from memory.
pub trait Gatekeeper: Send + Sync + 'static {
    /// Whether a peer with a certificate may be here: its key is the enrolled one and has not been revoked.
    ///
    /// # Errors
    /// The sentence that the peer is told.
    fn admit(&self, peer: &Peer) -> Result<(), String>;

    /// The roles of an operator; empty: none, and so no right at all.
    fn roles(&self, operator: &str) -> Vec<String>;

    /// A call was refused, by the table of who may call what or by the service itself.
    fn refused(&self, _peer: &Peer, _path: &str, _status: &tonic::Status) {}
}

/// The limits of the listening side.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// Most sockets that are in their handshake at one time.
    pub handshakes: usize,
    /// Most connections of agents.
    pub agents: usize,
    /// Most connections of operators. They have a limit of their own: a fleet that comes back at once does not lock
    /// people out.
    pub operators: usize,
    /// Most connections without a certificate: machines that join, and health checks.
    pub anonymous: usize,
    /// How long a connection without a certificate may last.
    pub anonymous_lifetime: Duration,
    /// Most streams that a connection may have open.
    pub streams: u32,
    /// Largest list of headers of a request, bytes.
    pub header_bytes: u32,
    /// Most streams that a peer may have reset and that are not yet forgotten, before the connection is closed.
    pub pending_resets: usize,
    /// Most streams that may be reset for the peer's errors over the life of a connection, before it is closed.
    pub local_resets: usize,
    /// Bytes that a peer may send on a stream before they are read.
    pub stream_window: u32,
    /// Bytes that a peer may send on a connection before they are read.
    pub connection_window: u32,
    /// Bytes that may wait to be sent on a stream.
    pub send_buffer: usize,
    /// After this long without a frame the peer is asked for a sign of life.
    pub keep_alive: Duration,
    /// How long the peer has to give it.
    pub keep_alive_timeout: Duration,
    /// How often the connections are compared with what the gatekeeper says.
    pub sweep: Duration,
    /// How long the streams have to end when the controller stops.
    pub drain: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            handshakes: 512,
            agents: 10_000,
            operators: 256,
            anonymous: 256,
            anonymous_lifetime: Duration::from_secs(30),
            streams: 64,
            header_bytes: 16 * 1024,
            pending_resets: 20,
            local_resets: 1024,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            send_buffer: 256 * 1024,
            keep_alive: Duration::from_secs(20),
            keep_alive_timeout: Duration::from_secs(10),
            sweep: Duration::from_millis(500),
            drain: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Most connections of one kind of peer.
    pub(crate) fn most(&self, role: Option<&Role>) -> usize {
        match role {
            Some(Role::Agent { .. }) => self.agents,
            Some(Role::Operator { .. }) => self.operators,
            None => self.anonymous,
        }
    }
}

/// After an error of `accept` that is not one connection's own (no descriptor, no memory) the loop waits this long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` is cancelled, then lets the streams end for at most [`Options::drain`].
///
/// The routes are those of tonic; [`crate::access::TABLE`] says who may call them. Services set
/// [`crate::MESSAGE_BYTES`] as their decoding limit.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    routes: Routes,
    gatekeeper: Arc<dyn Gatekeeper>,
    options: Options,
    shutdown: CancellationToken,
) {
    let drain = options.drain;
    let mut sweep = tokio::time::interval(options.sweep);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let shared = Arc::new(Shared::new(tls, routes, gatekeeper, options, shutdown.clone()));
    let connections = TaskTracker::new();
    let mut accepted = 0;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = sweep.tick() => shared.sweep(),
            connection = listener.accept() => match connection {
                Ok((stream, address)) => {
                    accepted += 1;
                    connections.spawn(Arc::clone(&shared).run(stream, address, accepted));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections; the oldest unfinished handshake gives way");
                    shared.make_room();
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Closed before the streams end: who comes now is told at once to go elsewhere.
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections did not end in time and are cut");
        shared.cut_all();
        connections.wait().await;
    }
}

/// Errors of `accept` that concern the connection that was to be accepted, and no other (accept(2), "Error handling").
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}
