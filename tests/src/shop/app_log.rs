//! The application that writes a log and never stops: a file that grows at a set rate.
//!
//! On SIGHUP it opens its log anew, as programs do that live with log rotation.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::interval,
};

use super::files;

/// How often it writes.
const BEAT: Duration = Duration::from_millis(100);
/// What it writes: requests that are processed, now and then one that timed out.
const LINES: [&str; 4] =
    ["Info: Processing Request", "Info: Placing Order", "Warming: Timeout. Retrying", "Info: Processing Request"];

/// The application's options.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The log.
    #[arg(long)]
    pub log: PathBuf,
    /// Bytes a second.
    #[arg(long, default_value_t = 4096)]
    pub rate: u64,
    /// Where to write the process number.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Runs until the process is stopped.
///
/// # Errors
/// The log cannot be written.
pub async fn run(options: Options) -> io::Result<()> {
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut log = open(&options.log)?;
    files::write_pid(options.pid_file.as_deref())?;
    let mut beat = interval(BEAT);
    let a_beat = options.rate / 10;
    let mut request = 400_u64;
    loop {
        tokio::select! {
            _ = hang_up.recv() => log = open(&options.log)?,
            _ = beat.tick() => write_lines(&mut log, a_beat, &mut request)?,
        }
    }
}

/// Writes whole lines, at least as many bytes as asked for.
fn write_lines(log: &mut File, bytes: u64, request: &mut u64) -> io::Result<()> {
    let mut text = String::new();
    while (text.len() as u64) < bytes {
        let kind = LINES[usize::try_from(*request % 4).unwrap_or(0)];
        text.push_str(&format!("{kind} {request}\n"));
        *request += 1;
    }
    log.write_all(text.as_bytes())
}
