//! `quell-agent run`: runs the agent until SIGTERM or SIGINT.

use std::process::ExitCode;

use anyhow::Context as _;
use quell_agent::{agent, data_dir::DataDir};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::Place;

pub(crate) async fn run(place: Place) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone()).context("signals cannot be received")?;
    agent::run(&DataDir::new(place.data_dir), stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("the agent stops");
        stop.cancel();
    });
    Ok(())
}
