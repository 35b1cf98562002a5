//! What the probes look at: real servers and files, in a state that a test chooses.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use quell_agent::{
    clock::ClockOffset,
    config::Config,
    managers::Managers,
    probes::{self, Attempt, Context, Probe},
    watch::Watcher,
};
use quell_model::{probe::ProbeSpec, value::Fields};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// Time-out of attempts that are to succeed: generous, machines are busy.
pub(crate) const PATIENT: Duration = Duration::from_secs(20);

/// What a host's administrator would allow for these tests.
pub(crate) const ALLOW: &str = r#"
[allow]
addresses = ["127.0.0.0/8", "::1"]
programs = ["/bin/sh"]
"#;

/// A host with this `agent.toml` and a data directory of its own.
pub(crate) async fn context(config: &str, data: &Path) -> Context {
    let config = Arc::new(Config::parse(config, Path::new("agent.toml")).unwrap());
    let managers = Arc::new(Managers::open(&config, data).await.unwrap());
    Context { config, managers, watcher: Watcher::start().unwrap(), clock: ClockOffset::default() }
}

/// A probe of this specification.
pub(crate) fn probe(spec: &ProbeSpec, context: &Context) -> Box<dyn Probe> {
    probes::build(spec, context).unwrap()
}

/// The fields of an attempt, and whether it was good; an attempt that was not judged is a failure of the test.
pub(crate) fn judged(attempt: Attempt) -> (bool, Fields) {
    match attempt {
        Attempt::Judged { result, fields } => (result.is_ok(), fields),
        Attempt::Unjudged { reason, .. } => panic!("not judged: {reason}"),
    }
}

/// A server that answers every connection with these bytes, after the client has said something.
pub(crate) async fn answering(bytes: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                if stream.read(&mut buffer).await.is_ok() {
                    let _ = stream.write_all(bytes).await;
                }
            });
        }
    });
    address
}

/// A server that takes connections and never says a word.
pub(crate) async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

/// A port that nobody listens at.
pub(crate) async fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// A process that sleeps for so many seconds, until dropped. It holds none of the test's own descriptors.
pub(crate) struct Sleeper(pub(crate) std::process::Child);

impl Sleeper {
    pub(crate) fn start(seconds: &str) -> Self {
        let mut command = std::process::Command::new("sleep");
        let null = std::process::Stdio::null;
        let child = command.arg(seconds).stdin(null()).stdout(null()).stderr(null()).spawn().unwrap();
        // Whoever starts a program goes on when the old memory is gone, a moment before the new one says what it is called.
        let named = format!("/proc/{}/cmdline", child.id());
        while !std::fs::read_to_string(&named).unwrap().contains(seconds) {
            std::thread::yield_now();
        }
        Self(child)
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        // It may have been killed by the test itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port whose queue of connections is full: who connects hears nothing. The sockets keep it so.
pub(crate) async fn unanswered() -> (SocketAddr, Vec<tokio::net::TcpStream>, TcpListener) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        kept.push(stream.unwrap());
    }
    (address, kept, listener)
}
