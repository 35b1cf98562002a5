//! The web application: answers `/health` and serves a page.
//!
//! Its fault is a file: while it is there, `/health` answers 503.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use clap::Args;
use tokio::net::TcpListener;

use super::files;

/// The application's options.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The address.
    #[arg(long)]
    pub listen: SocketAddr,
    /// While this file is there, the application is ill.
    #[arg(long)]
    pub fault: PathBuf,
    /// Where to write the process number.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
}

/// Runs until the process is stopped.
///
/// # Errors
/// The address is taken.
pub async fn run(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    files::write_pid(options.pid_file.as_deref())?;
    let fault = Arc::new(options.fault);
    let app =
        Router::new().route("/", get(|| async { "Exotic Plants\n" })).route("/health", get(health)).with_state(fault);
    axum::serve(listener, app).await
}

async fn health(State(fault): State<Arc<PathBuf>>) -> (StatusCode, &'static str) {
    if fault.exists() { (StatusCode::SERVICE_UNAVAILABLE, "ill\n") } else { (StatusCode::OK, "well\n") }
}
