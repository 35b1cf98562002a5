//! One connection: handshake, who it is, and its calls until it ends or is cut.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, body::Body, service::Routes};
use tower::Service as _;

use super::{Gatekeeper, Options, Tls, handshakes::Handshakes};
use crate::{
    access,
    identity::{Certificate, Peer, Role, Subject},
};

/// How long a peer that is not welcome may stay to hear why.
const REFUSAL_LIFETIME: Duration = Duration::from_secs(5);

/// What the connections of one listener have in common.
pub(super) struct Shared {
    tls: Arc<Tls>,
    routes: Routes,
    gatekeeper: Arc<dyn Gatekeeper>,
    options: Options,
    shutdown: CancellationToken,
    handshakes: Handshakes,
    live: Mutex<[Peers; 3]>,
}

/// The live connections of one kind of peer, by number.
type Peers = HashMap<u64, Arc<Peer>>;

/// The place of a kind of peer among [`Shared::live`].
fn kind(peer: &Peer) -> usize {
    match peer.role {
        Some(Role::Agent { .. }) => 0,
        Some(Role::Operator { .. }) => 1,
        None => 2,
    }
}

/// A connection's place among those of its kind; dropping it gives the place back.
struct Place<'a> {
    shared: &'a Shared,
    kind: usize,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.shared.live()[self.kind].remove(&self.number);
    }
}

impl Shared {
    pub(super) fn new(
        tls: Arc<Tls>,
        routes: Routes,
        gatekeeper: Arc<dyn Gatekeeper>,
        options: Options,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            tls,
            routes: routes.prepare(),
            gatekeeper,
            handshakes: Handshakes::new(options.handshakes),
            options,
            shutdown,
            live: Mutex::default(),
        }
    }

    fn live(&self) -> std::sync::MutexGuard<'_, [Peers; 3]> {
        // Nothing panics while it is held; and if it did, the maps would still be sound.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts who is no longer welcome, and replaces the certificate when it is due.
    pub(super) fn sweep(&self) {
        let now = Timestamp::now();
        self.tls.rotate_if_due(now);
        let peers: Vec<Arc<Peer>> = self.live().iter().take(2).flat_map(HashMap::values).cloned().collect();
        for peer in peers {
            // An agent renews while its stream goes on, so its first certificate may end; an operator's may not.
            let is_late = matches!(peer.role, Some(Role::Operator { .. })) && peer.is_expired(now);
            let refused =
                if is_late { Some("its certificate ended".to_owned()) } else { self.gatekeeper.admit(&peer).err() };
            if let Some(reason) = refused.filter(|_| !peer.cut.is_cancelled()) {
                tracing::info!(%peer, reason, "cut a connection");
                peer.cut.cancel();
            }
        }
    }

    pub(super) fn make_room(&self) {
        self.handshakes.make_room();
    }

    pub(super) fn cut_all(&self) {
        self.live().iter().flat_map(HashMap::values).for_each(|peer| peer.cut.cancel());
    }

    /// Takes a place for the peer, unless those of its kind are all taken.
    fn take_place(&self, peer: &Peer) -> Option<Place<'_>> {
        let kind = kind(peer);
        let mut live = self.live();
        if live[kind].len() >= self.options.most(peer.role.as_ref()) {
            return None;
        }
        live[kind].insert(peer.connection, Arc::new(peer.clone()));
        drop(live);
        Some(Place { shared: self, kind, number: peer.connection })
    }

    /// Serves one connection to its end; `number` counts those that were accepted.
    pub(super) async fn run(self: Arc<Self>, stream: TcpStream, address: SocketAddr, number: u64) {
        let Some(stream) = self.handshake(stream, address).await else { return };
        let peer = match peer(&stream, address, number) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::info!(%address, %error, "refused a certificate that is not one of Quell's");
                return;
            }
        };
        let Some(_place) = self.take_place(&peer) else {
            tracing::warn!(%peer, "refused a connection: there are too many of its kind");
            return;
        };
        let refusal = peer.role.as_ref().and_then(|_| self.gatekeeper.admit(&peer).err());
        if let Some(reason) = &refusal {
            tracing::info!(%peer, reason, "refused a connection");
        }
        let lifetime = match (&refusal, &peer.role) {
            (Some(_), _) => Some(REFUSAL_LIFETIME),
            (None, None) => Some(self.options.anonymous_lifetime),
            (None, Some(_)) => None,
        };
        self.converse(stream, peer, refusal, lifetime).await;
    }

    async fn handshake(&self, stream: TcpStream, address: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let ticket = self.handshakes.enter(address.ip());
        // Small frames go out at once: a command waits for nobody.
        let _ = stream.set_nodelay(true);
        let accept = TlsAcceptor::from(self.tls.config()).accept(stream);
        tokio::select! {
            accepted = tokio::time::timeout(self.options.handshake_timeout, accept) => match accepted {
                Ok(Ok(stream)) => Some(stream),
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "a handshake failed");
                    None
                }
                Err(_) => {
                    tracing::debug!(%address, "a handshake took too long");
                    None
                }
            },
            () = ticket.evicted() => None,
            () = self.shutdown.cancelled() => None,
        }
    }

    async fn converse(
        &self,
        stream: TlsStream<TcpStream>,
        peer: Peer,
        refusal: Option<String>,
        lifetime: Option<Duration>,
    ) {
        let cut = peer.cut.clone();
        let service = Guarded {
            routes: self.routes.clone(),
            gatekeeper: Arc::clone(&self.gatekeeper),
            peer: peer.clone(),
            refusal: refusal.map(Arc::from),
        };
        let mut connection = pin!(self.http().serve_connection(TokioIo::new(stream), service));
        let ends_by_itself = async {
            match lifetime {
                Some(lifetime) => tokio::time::sleep(lifetime).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = connection.as_mut() => return report(&peer, ended),
            () = cut.cancelled() => return,
            () = ends_by_itself => return,
            () = self.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        // The streams may end in their own time; `serve` cuts what is left at its deadline.
        tokio::select! {
            ended = connection => report(&peer, ended),
            () = cut.cancelled() => {}
        }
    }

    fn http(&self) -> hyper::server::conn::http2::Builder<TokioExecutor> {
        let options = &self.options;
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(options.streams)
            .max_header_list_size(options.header_bytes)
            .max_pending_accept_reset_streams(options.pending_resets)
            .max_local_error_reset_streams(options.local_resets)
            .initial_stream_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .max_send_buf_size(options.send_buffer)
            .keep_alive_interval(options.keep_alive)
            .keep_alive_timeout(options.keep_alive_timeout);
        builder
    }
}

fn report(peer: &Peer, ended: Result<(), hyper::Error>) {
    match ended {
        Ok(()) => tracing::debug!(%peer, "a connection ended"),
        Err(error) => tracing::debug!(%peer, %error, "a connection broke"),
    }
}

/// Who the handshake has shown the other end to be.
fn peer(stream: &TlsStream<TcpStream>, address: SocketAddr, connection: u64) -> Result<Peer, crate::identity::Error> {
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let key = quell_model::digest::Digest::default();
    let stranger = Peer { role: None, key, not_after: None, address, connection, cut: CancellationToken::new() };
    let Some(shown) = shown else { return Ok(stranger) };
    let certificate = Certificate::read(shown)?;
    match certificate.subject {
        Subject::Role(role) => {
            let (key, not_after) = (certificate.key, Some(certificate.not_after));
            Ok(Peer { role: Some(role), key, not_after, ..stranger })
        }
        other @ Subject::Controller { .. } => Err(crate::identity::Error::Malformed(other.to_string())),
    }
}

/// The routes of one connection, behind the table of who may call what.
struct Guarded {
    routes: Routes,
    gatekeeper: Arc<dyn Gatekeeper>,
    peer: Peer,
    refusal: Option<Arc<str>>,
}

impl Guarded {
    fn check(&self, path: &str) -> Result<(), Status> {
        match &self.refusal {
            Some(reason) => Err(Status::permission_denied(&**reason)),
            None => access::check(path, &self.peer, &*self.gatekeeper, Timestamp::now()),
        }
    }

    /// What somebody without a certificate tries is not worth a line: anybody could fill the disk with it.
    fn report(&self, path: &str, status: &Status) {
        let (peer, reason) = (&self.peer, status.message());
        match peer.role {
            Some(_) => tracing::info!(%peer, path, reason, "refused a call"),
            None => tracing::debug!(%peer, path, reason, "refused a call"),
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Guarded {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Err(status) = self.check(request.uri().path()) {
            self.report(request.uri().path(), &status);
            self.gatekeeper.refused(&self.peer, request.uri().path(), &status);
            let answer = if is_grpc(&request) { status.into_http() } else { plain(&status) };
            return Box::pin(std::future::ready(Ok(answer)));
        }
        request.extensions_mut().insert(self.peer.clone());
        let (mut routes, gatekeeper, peer) = (self.routes.clone(), Arc::clone(&self.gatekeeper), self.peer.clone());
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let response = routes.call(request.map(Body::new)).await?;
            if let Some(status) = refusal(&response) {
                gatekeeper.refused(&peer, &path, &status);
            }
            Ok(response)
        })
    }
}

/// Why a call was refused by who serves it.
fn refusal(response: &Response<Body>) -> Option<Status> {
    // An answer that is nothing but a status has it among its headers.
    match Status::from_header_map(response.headers()) {
        Some(status) => Some(status).filter(|status| status.code() != Code::Ok),
        None if response.status().is_client_error() => {
            Some(Status::invalid_argument(format!("it was answered with HTTP status {}", response.status())))
        }
        None => None,
    }
}

fn is_grpc<T>(request: &Request<T>) -> bool {
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// A refusal for who does not speak gRPC, whose refusals are answers with status 200.
fn plain(status: &Status) -> Response<Body> {
    let code = match status.code() {
        Code::Unauthenticated => http::StatusCode::UNAUTHORIZED,
        _ => http::StatusCode::FORBIDDEN,
    };
    let mut answer = Response::new(Body::new(format!("{}\n", status.message())));
    *answer.status_mut() = code;
    answer
}
