//! `quell`: shows and steers what agents and controller do.

use std::process::ExitCode;

use clap::Parser as _;
use quell_cli::{arguments::Arguments, error, logging};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = logging::start(arguments.log_format).and_then(|()| quell_cli::run(arguments));
    error::finish(ended)
}
