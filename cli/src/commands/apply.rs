//! `quell apply`: all manifests or none.

use clap::Args;
use quell_model::manifest;
use quell_wire::v1::{ApplyRequest, ApplyResponse};

use crate::{
    connect::Context,
    error::Error,
    exit::Exit,
    manifests::{self, Source},
    output,
    render::{escape, rows::full_name},
};

/// What is applied.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The manifests.
    #[command(flatten)]
    pub source: Source,
    /// Remove what the namespaces of these files hold and the files do not.
    #[arg(long)]
    pub prune: bool,
    /// Validate and compare; change nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Applies, and says what changed.
///
/// # Errors
/// Every error of every file, the controller's included; then nothing was applied.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let answer = send(&arguments.source, arguments.prune, arguments.dry_run, context).await?;
    if context.format.is_data() {
        output::data(context.format, &answer)?;
        return Ok(Exit::Done);
    }
    warn(&answer);
    for line in changes(&answer) {
        output::line(&line)?;
    }
    output::line(if arguments.dry_run { "ok: nothing was changed (dry run)" } else { "ok" })?;
    Ok(Exit::Done)
}

/// Sends manifests; errors that the controller found are errors here.
pub(super) async fn send(
    source: &Source,
    prune: bool,
    dry_run: bool,
    context: &Context,
) -> Result<ApplyResponse, Error> {
    let files = manifests::to_wire(source.read()?);
    let request = ApplyRequest { files, prune, dry_run, signatures: Vec::new() };
    checked(context.client().await?.apply(request).await?.into_inner())
}

/// An answer in which the controller found no errors.
pub(super) fn checked(answer: ApplyResponse) -> Result<ApplyResponse, Error> {
    if answer.errors.is_empty() {
        return Ok(answer);
    }
    let errors = answer.errors.into_iter().map(|error| manifest::Error {
        file: error.file,
        line: error.line,
        column: error.column,
        message: error.message,
    });
    Err(Error::Manifests(errors.collect()))
}

/// Warnings go to standard error: they are not part of the answer.
pub(super) fn warn(answer: &ApplyResponse) {
    use std::io::Write as _;
    for warning in &answer.warnings {
        // Standard error may be closed; a warning is not worth failing for.
        let _ = writeln!(anstream::stderr(), "warning: {}", escape::line(warning));
    }
}

/// One line for each manifest that changes.
pub(super) fn changes(answer: &ApplyResponse) -> Vec<String> {
    let lines = answer.changes.iter().map(|change| {
        let name = full_name(&change.namespace, &change.name);
        escape::line(&format!("{:9} {} {name}", change.change, change.kind)).into_owned()
    });
    lines.collect()
}
