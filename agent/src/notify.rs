//! Tells systemd how the process is doing, by the datagram protocol of `sd_notify(3)`.
//!
//! Does nothing unless `NOTIFY_SOCKET` is set. A failure is logged and never stops the agent.

use std::{
    ffi::OsString,
    os::{linux::net::SocketAddrExt as _, unix::ffi::OsStrExt as _, unix::net},
};

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The agent runs: its journal is recovered and its probes are up, whether or not the controller is reachable.
    Ready,
    /// It is stopping.
    Stopping,
}

/// Tells systemd, when it asked to be told.
pub fn notify(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let message = match state {
        State::Ready => "READY=1",
        State::Stopping => "STOPPING=1",
    };
    if let Err(error) = send(&socket, message) {
        tracing::warn!(?socket, %error, "systemd could not be notified");
    }
}

fn send(socket: &OsString, message: &str) -> std::io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => net::SocketAddr::from_abstract_name(name)?,
        None => net::SocketAddr::from_pathname(socket)?,
    };
    net::UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_datagram_arrives_by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = net::UnixDatagram::bind(&path).unwrap();
        send(&path.into_os_string(), "READY=1").unwrap();
        let mut buffer = [0; 32];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");

        let name = format!("quell-notify-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = net::UnixDatagram::bind_addr(&address).unwrap();
        send(&format!("@{name}").into(), "STOPPING=1").unwrap();
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"STOPPING=1");
    }
}
