//! A machine that can be reached, until it cannot: a TCP port that stops taking connections.
//!
//! While the fault file is there, the port's queue of connections is filled and left unread, so that the kernel drops
//! what comes in: to others the machine is gone, as it would be with its network cut. A refused connection would not
//! do: whoever refuses is there.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use clap::Args;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::files;

/// The port's options.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The address.
    #[arg(long)]
    pub listen: SocketAddr,
    /// While this file is there, the machine cannot be reached.
    #[arg(long)]
    pub fault: PathBuf,
    /// Where to write the process number.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
}

/// How often the fault file is looked for.
const LOOK: Duration = Duration::from_millis(20);
/// A connection that is not taken within this long shows that the queue is full.
const FULL: Duration = Duration::from_millis(200);

/// Runs until the process is stopped.
///
/// # Errors
/// The address is taken.
pub async fn run(options: Options) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(options.listen)?;
    let listener = socket.listen(1)?;
    files::write_pid(options.pid_file.as_deref())?;
    loop {
        reachable(&listener, &options).await?;
        unreachable(&options).await?;
    }
}

/// Takes connections and drops them until the fault appears.
async fn reachable(listener: &TcpListener, options: &Options) -> io::Result<()> {
    while !options.fault.exists() {
        if let Ok(accepted) = tokio::time::timeout(LOOK, listener.accept()).await {
            drop(accepted?);
        }
    }
    Ok(())
}

/// Fills the queue and leaves it so until the fault goes.
async fn unreachable(options: &Options) -> io::Result<()> {
    let mut queue = Vec::new();
    while let Ok(filled) = tokio::time::timeout(FULL, TcpStream::connect(options.listen)).await {
        queue.push(filled?);
    }
    while options.fault.exists() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}
