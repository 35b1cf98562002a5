//! `quell diff`: what applying manifests would change.

use clap::Args;

use super::apply;
use crate::{connect::Context, error::Error, exit::Exit, manifests::Source, output};

/// What is compared.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The manifests.
    #[command(flatten)]
    pub source: Source,
    /// Compare as `apply --prune` would: what the files do not hold is removed.
    #[arg(long)]
    pub prune: bool,
    /// End with exit code 10 when there are changes.
    #[arg(long)]
    pub exit_code: bool,
}

/// Compares; nothing is changed.
///
/// # Errors
/// As for `apply`.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let mut answer = apply::send(&arguments.source, arguments.prune, true, context).await?;
    answer.changes.retain(|change| change.change != "unchanged");
    if context.format.is_data() {
        output::data(context.format, &answer)?;
    } else {
        apply::warn(&answer);
        for line in apply::changes(&answer) {
            output::line(&line)?;
        }
        if answer.changes.is_empty() {
            output::line("no changes")?;
        }
    }
    Ok(if arguments.exit_code && !answer.changes.is_empty() { Exit::Changes } else { Exit::Done })
}
