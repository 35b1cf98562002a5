//! `quell-agent`: reads what was typed, starts logging and a small runtime, and does one thing.

mod arguments;
mod command;
mod exit;

use std::{process::ExitCode, time::Duration};

use clap::Parser as _;

use arguments::{Arguments, Command};
use quell_agent::log;

/// Threads for blocking work (files, `/proc`, compression) that may exist at a time; they end when idle.
const BLOCKING_THREADS: usize = 16;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::start(arguments.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(1))
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return exit::failed(&anyhow::Error::new(error).context("the runtime could not be started")),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Join(join) => command::join::join(join).await,
            Command::Run(place) => command::run::run(place).await,
            Command::Check(place) => command::check::check(place).await,
            Command::Hold(hold) => command::hold::hold(hold).await,
            Command::Label(label) => command::label::label(label).await,
        }
    });
    // A read that hangs in a dead file system must not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) => exit::failed(&error),
    }
}
