//! The connector that tonic asks for a connection: TCP to the first address that answers, and TLS in it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{AgentIdentity, CONNECT_TIMEOUT, Error, Rotation, tls};

/// Makes connections to a controller that is known by several addresses.
#[derive(Clone)]
pub struct Connector {
    shared: Arc<Shared>,
}

struct Shared {
    addresses: Vec<String>,
    tls: Source,
    rotation: Rotation,
    last_error: LastError,
}

/// Where the TLS configuration comes from.
enum Source {
    Fixed(Arc<ClientConfig>),
    Renewing(Arc<AgentIdentity>),
}

/// The error of the last attempt: tonic's own says only that there was one.
#[derive(Clone, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<Error>>>);

impl LastError {
    /// The error, once.
    pub(crate) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: Option<Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}

impl Connector {
    /// With one certificate, or none, for good.
    pub(crate) fn fixed(addresses: Vec<String>, tls: Arc<ClientConfig>) -> Self {
        Self::new(addresses, Source::Fixed(tls))
    }

    /// With whatever certificate the agent has at the moment of connecting.
    pub(crate) fn renewing(addresses: Vec<String>, identity: Arc<AgentIdentity>) -> Self {
        Self::new(addresses, Source::Renewing(identity))
    }

    fn new(addresses: Vec<String>, tls: Source) -> Self {
        let shared = Shared { addresses, tls, rotation: Rotation::default(), last_error: LastError::default() };
        Self { shared: Arc::new(shared) }
    }

    /// What the last attempt failed with.
    pub(crate) fn last_error(&self) -> LastError {
        self.shared.last_error.clone()
    }
}

impl Shared {
    async fn connect(&self) -> Result<Speaking, Error> {
        if self.addresses.is_empty() {
            return Err(Error::NoAddress);
        }
        let config = match &self.tls {
            Source::Fixed(config) => Arc::clone(config),
            Source::Renewing(identity) => identity.tls(),
        };
        let mut unreachable = Vec::new();
        let mut refused = None;
        for (index, address) in self.rotation.order(&self.addresses) {
            let attempt = tokio::time::timeout(CONNECT_TIMEOUT, connect_to(address, &config)).await;
            match attempt {
                Ok(Ok(stream)) => {
                    self.rotation.begin_at(index);
                    return Ok(stream);
                }
                Ok(Err(Failure::Unreachable(reason))) => unreachable.push(format!("{address}: {reason}")),
                Ok(Err(Failure::Handshake(reason))) => {
                    refused = Some(Error::Handshake { address: address.clone(), reason });
                }
                Err(_) => unreachable.push(format!("{address}: no answer within {} s", CONNECT_TIMEOUT.as_secs())),
            }
        }
        Err(refused.unwrap_or_else(|| Error::Unreachable(unreachable.join(", "))))
    }
}

enum Failure {
    Unreachable(io::Error),
    Handshake(String),
}

async fn connect_to(address: &str, config: &Arc<ClientConfig>) -> Result<Speaking, Failure> {
    let stream = tcp(address).await.map_err(Failure::Unreachable)?;
    let _ = stream.set_nodelay(true);
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::Handshake(format!("{host:?} is neither an IP address nor a DNS name")))?;
    let connected = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    connected.map(Speaking).map_err(|error| match tls::reason_of(&error) {
        Some(reason) => Failure::Handshake(reason),
        None => Failure::Unreachable(error),
    })
}

/// A literal address is used as it is: asking the resolver would start a thread.
async fn tcp(address: &str) -> io::Result<TcpStream> {
    match address.parse::<std::net::SocketAddr>() {
        Ok(address) => TcpStream::connect(address).await,
        Err(_) => TcpStream::connect(address).await,
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Speaking>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let connected = shared.connect().await;
            match connected {
                Ok(stream) => {
                    shared.last_error.set(None);
                    Ok(TokioIo::new(stream))
                }
                Err(error) => {
                    let shown = Error::Broken(error.to_string());
                    shared.last_error.set(Some(error));
                    Err(shown)
                }
            }
        })
    }
}

/// A connection whose TLS errors say what they mean. In TLS 1.3 a server refuses a client's certificate only after the
/// client thinks that all is well, so the refusal comes out of a read; and of such an error HTTP keeps the text alone.
pub struct Speaking(TlsStream<TcpStream>);

fn explained(result: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
    result.map_err(|error| match tls::reason_of(&error) {
        Some(reason) => io::Error::new(error.kind(), format!("the connection was refused: {reason}")),
        None => error,
    })
}

impl AsyncRead for Speaking {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        explained(Pin::new(&mut self.0).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Speaking {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
