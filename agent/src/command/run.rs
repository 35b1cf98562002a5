//! `quell-agent run`: runs the agent until SIGTERM, SIGINT, or the terminal that it was started in goes away.

use std::process::ExitCode;

use anyhow::Context as _;
use quell_agent::{agent, data_dir::DataDir};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::arguments::Place;

/// SIGHUP in the masks of `/proc/PID/status`, which begin at signal 1.
const HANG_UP_BIT: u64 = 1;

pub(crate) async fn run(place: Place) -> anyhow::Result<ExitCode> {
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone()).context("signals cannot be received")?;
    agent::run(&DataDir::new(place.data_dir), stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let outlives_its_terminal = ignores_hang_up();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // Asked for in any case: what is ignored stays ignored in every process that this one starts, and a service that
    // the agent starts under `nohup` would then never open its log again.
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => if !outlives_its_terminal { break },
            }
        }
        tracing::info!("the agent stops");
        stop.cancel();
    });
    Ok(())
}

/// Whether this process was started with SIGHUP ignored, as `nohup` does.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & HANG_UP_BIT != 0)
}
