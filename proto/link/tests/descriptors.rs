//! Running out of file descriptors. It lowers the limit of its process, so it is alone in its program.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{io::Read as _, time::Duration};

use common::{Controller, Session};
use quell_link::{client, server::Options};
use rustix::process::{Resource, getrlimit, setrlimit};

#[tokio::test]
async fn the_accept_loop_outlives_running_out_of_descriptors() {
    let options = Options { handshake_timeout: Duration::from_secs(60), drain: Duration::ZERO, ..Options::default() };
    let controller = Controller::start_with(options).await;
    let identity = controller.join("planthost1").await;
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = Some(100);
    setrlimit(Resource::Nofile, limit).unwrap();

    // Connections that say nothing, until neither side gets another descriptor.
    let mut stuck = Vec::new();
    let exhausted = loop {
        match std::net::TcpStream::connect(controller.address) {
            Ok(stream) => stuck.push(stream),
            Err(error) => break error,
        }
        assert!(stuck.len() < 200, "the limit does not hold");
        tokio::task::yield_now().await;
    };
    assert_eq!(exhausted.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()), "{exhausted}");
    // The accept loop runs into it as well: the oldest of these connections gives way then, which its other end sees.
    let gave_way = |stream: &std::net::TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let read = (&mut &*stream).read(&mut [0]);
        !matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    };
    let room = tokio::time::timeout(Duration::from_secs(10), async {
        while !stuck.iter().any(gave_way) {
            tokio::task::yield_now().await;
        }
    });
    room.await.expect("the accept loop makes room when it finds no descriptor");

    drop(stuck);
    let connected = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            if let Ok(channel) = client::connect_agent(&controller.addresses(), &identity).await
                && let Ok(session) = Session::open(channel).await
            {
                return session;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    connected.await.expect("it accepts again").echo(1).await.unwrap();
    controller.stop().await;
}
