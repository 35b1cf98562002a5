//! `quell check`: are manifests right, without asking the controller.

use clap::Args;
use quell_model::manifest;

use crate::{error::Error, exit::Exit, manifests::Source, output};

/// What is checked.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The manifests.
    #[command(flatten)]
    pub source: Source,
}

/// Checks, and says `ok`.
///
/// # Errors
/// Every error of every file.
pub fn run(arguments: &Arguments) -> Result<Exit, Error> {
    let files = arguments.source.read()?;
    let parsed = manifest::parse(&files).map_err(Error::Manifests)?;
    let manifests: Vec<_> = parsed.iter().map(|one| &one.manifest).collect();
    let passed = manifest::check_limits(&files, &manifests, &[]);
    if !passed.is_empty() {
        return Err(Error::Manifests(passed));
    }
    let count = parsed.len();
    let (files, plural) = (files.len(), |count| if count == 1 { "" } else { "s" });
    output::line(&format!("ok: {count} manifest{} in {files} file{}", plural(count), plural(files)))?;
    Ok(Exit::Done)
}
