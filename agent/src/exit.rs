//! How the process ends: one place that turns errors into words and exit codes.

use std::process::ExitCode;

use quell_agent::{agent, config, data_dir, own_file};
use quell_link::client;

/// What was typed or written is wrong.
pub(crate) const USAGE: u8 = 2;
/// The controller or this host refuses.
const REFUSED: u8 = 3;
/// The controller cannot be reached.
pub(crate) const UNREACHABLE: u8 = 5;

/// Says what went wrong, to standard error, and gives the exit code.
pub(crate) fn failed(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let mut line = error.to_string();
    // A cause that the message holds already is not said twice.
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    // Standard error may be closed: then there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "quell-agent: {}", line.replace('\n', " "));
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(1)
}

fn code_of(error: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if let Some(error) = error.downcast_ref::<client::Error>() {
        return Some(of_client(error));
    }
    if let Some(error) = error.downcast_ref::<agent::Error>() {
        return match error {
            agent::Error::Config(error) => Some(of_config(error)),
            agent::Error::Identity(error) => Some(of_client(error)),
            _ => None,
        };
    }
    if let Some(error) = error.downcast_ref::<config::Error>() {
        return Some(of_config(error));
    }
    error.downcast_ref::<Usage>().map(|_| USAGE).or_else(|| error.downcast_ref::<data_dir::Error>().map(|_| 1))
}

fn of_config(error: &config::Error) -> u8 {
    match error {
        config::Error::Syntax { .. }
        | config::Error::Invalid { .. }
        | config::Error::File(own_file::Error::NotText { .. }) => USAGE,
        _ => 1,
    }
}

fn of_client(error: &client::Error) -> u8 {
    match error {
        client::Error::Unreachable(_) | client::Error::Broken(_) => UNREACHABLE,
        client::Error::Refused(_) | client::Error::Handshake { .. } => REFUSED,
        client::Error::AlreadyJoined { .. } => USAGE,
        _ => 1,
    }
}

/// Something typed makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);
