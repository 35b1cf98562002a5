//! Logs, to standard error: warnings only unless `RUST_LOG` says otherwise.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::error::Error;

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Begins to log.
///
/// # Errors
/// `RUST_LOG` is not a filter.
pub fn start(form: Form) -> Result<(), Error> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) => EnvFilter::try_new(text)
            .map_err(|error| Error::Usage(format!("RUST_LOG is not a filter: {error}; write RUST_LOG=info")))?,
        Err(_) => EnvFilter::new("warn"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match form {
        Form::Text => {
            builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).try_init()
        }
        Form::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| Error::Failed(format!("logging cannot be started: {error}")))
}
