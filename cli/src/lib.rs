//! The command line of Quell.
//!
//! One file per command under [`commands`] says what it takes, what it asks of the controller and how it ends; what
//! people see is made in [`render`], from values and without asking anybody, so that it can be tested. All that a host
//! or a log supplied is hostile and is escaped there. Exit codes stand in [`exit`], and [`error`] maps errors to them.

pub mod arguments;
pub mod commands;
pub mod connect;
pub mod error;
pub mod exact;
pub mod exit;
pub mod files;
pub mod kind;
pub mod logging;
pub mod manifests;
pub mod memory;
pub mod output;
pub mod render;
pub mod saved;
pub mod sets;
pub mod settings;
pub mod shown;
pub mod signing;
#[cfg(test)]
mod tests;

use crate::{arguments::Arguments, connect::Context, error::Error, exit::Exit};

/// Does what was asked.
///
/// # Errors
/// Whatever stopped it; [`error::exit`] says which exit code that is.
pub fn run(arguments: Arguments) -> Result<Exit, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Failed(format!("no runtime could be started: {error}")))?;
    let context = Context { profile: arguments.profile, format: arguments.output };
    runtime.block_on(commands::run(arguments.command, &context))
}
