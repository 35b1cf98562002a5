//! `quell-controller`: what it does, in the order in which it does it.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser as _, error::ErrorKind};
use jiff::Timestamp;
use quell_controller::{
    arguments::{Arguments, Audit, Command},
    audit, backup, init, logging,
    serve::{self, Controller, Parts},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What was typed or configured makes no sense; as in the table of `quell --help`.
const USAGE: u8 = 2;
/// It was tried and failed.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return explain(&error),
    };
    if let Err(error) = logging::start(arguments.log_format) {
        return fail(USAGE, &error);
    }
    match arguments.command {
        Command::Init { data_dir, listen, http, addresses, operator, allowed_signers } => {
            let options = init::Options { data_dir, listen, http, addresses, operator, allowed_signers };
            profile(init::run(&options, Timestamp::now()))
        }
        Command::Operator { data_dir, name, roles } => {
            profile(init::add_operator(&data_dir, &name, &roles, Timestamp::now()))
        }
        Command::Serve { data_dir } => serve(&data_dir),
        Command::Backup { data_dir, to } => match backup::backup(&data_dir, &to) {
            Ok(summary) => {
                say(format_args!("{} ({} bytes, up to record {})", to.display(), summary.bytes(), summary.sequence))
            }
            Err(error) => fail(FAILED, &error),
        },
        Command::Audit(Audit::Verify { data_dir, since, fingerprint }) => {
            verify(&audit::Options { data_dir, since, fingerprint })
        }
        Command::Restore { data_dir, from } => match backup::restore(&from, &data_dir) {
            Ok(summary) => say(format_args!("{} (up to record {})", data_dir.display(), summary.sequence)),
            Err(error) => fail(FAILED, &error),
        },
    }
}

/// Every so many records progress is told on standard error.
const PROGRESS: u64 = 100_000;

fn verify(options: &audit::Options) -> ExitCode {
    let mut progress = |sequence: u64| {
        if sequence.is_multiple_of(PROGRESS) {
            // Nobody may be reading any more.
            let _ = writeln!(std::io::stderr(), "verified up to record {sequence}");
        }
    };
    match audit::verify(options, &mut progress) {
        Ok(summary) => say(format_args!("{summary}")),
        Err(error) => fail(FAILED, &error),
    }
}

/// The last line on standard output: the path of an operator's profile.
fn profile(made: Result<PathBuf, init::Error>) -> ExitCode {
    match made {
        Ok(path) => say(format_args!("{}", path.display())),
        Err(error) if error.is_usage() => fail(USAGE, &error),
        Err(error) => fail(FAILED, &error),
    }
}

/// Serves until SIGTERM or SIGINT.
fn serve(data_dir: &Path) -> ExitCode {
    let controller = match Parts::open(data_dir).and_then(Controller::build) {
        Ok(controller) => controller,
        Err(error @ serve::Error::Config(_)) => return fail(USAGE, &error),
        Err(error) => return fail(FAILED, &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, &error),
    };
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(stop_on_signal(stop.clone()));
        controller.run(stop).await
    });
    // Whatever still reads a file does not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

/// Asks for the end when the process is asked to end.
async fn stop_on_signal(stop: CancellationToken) {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be waited for: the process can only be killed");
        return;
    };
    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM"),
        _ = interrupt.recv() => tracing::info!("SIGINT"),
    }
    stop.cancel();
}

/// Help, version, or what was wrong with the call.
fn explain(error: &clap::Error) -> ExitCode {
    // Nobody may be reading any more.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

/// A line on standard output.
fn say(line: std::fmt::Arguments<'_>) -> ExitCode {
    match writeln!(std::io::stdout(), "{line}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &error),
    }
}

/// One line on standard error: what happened, why, and what to do.
fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !line.contains(&cause_text) {
            line = format!("{line}: {cause_text}");
        }
        source = cause.source();
    }
    let _ = writeln!(std::io::stderr(), "quell-controller: {}", line.replace('\n', " "));
    ExitCode::from(code)
}
