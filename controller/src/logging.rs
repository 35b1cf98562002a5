//! Logs: tracing to standard error, as text or JSON, filtered by `RUST_LOG`.

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` is not a filter.
    #[error("RUST_LOG is not a filter: {0}; write for example RUST_LOG=info,quell_controller=debug")]
    Filter(String),
    /// A subscriber is there already.
    #[error("logging is set up already")]
    Twice,
}

/// Begins to log; `RUST_LOG` says what, `info` when it is not set.
///
/// # Errors
/// `RUST_LOG` is not a filter, or logging was begun before.
pub fn start(format: Format) -> Result<(), Error> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) => EnvFilter::try_new(text).map_err(|error| Error::Filter(error.to_string()))?,
        Err(_) => EnvFilter::new("info"),
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        Format::Text => {
            builder.with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()).try_init()
        }
        Format::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|_| Error::Twice)
}
