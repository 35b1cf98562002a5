//! `quell ack` and `quell note`: what people say about an incident.

use clap::Args;
use quell_wire::v1::AnnotateRequest;

use crate::{connect::Context, error::Error, exit::Exit, output, render::escape};

/// What is acknowledged.
#[derive(Debug, Clone, Args)]
pub struct Acknowledge {
    /// The incident: inc-42.
    #[arg(value_name = "INCIDENT")]
    pub incident: String,
    /// A note for the others.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub note: String,
}

/// What is noted.
#[derive(Debug, Clone, Args)]
pub struct Note {
    /// The incident: inc-42.
    #[arg(value_name = "INCIDENT")]
    pub incident: String,
    /// The note.
    #[arg(value_name = "TEXT", required = true, num_args = 1..)]
    pub text: Vec<String>,
}

/// Acknowledges: escalation stops.
///
/// # Errors
/// There is no such incident; the controller's refusal, or the connection's.
pub async fn acknowledge(arguments: &Acknowledge, context: &Context) -> Result<Exit, Error> {
    annotate(&arguments.incident, true, &arguments.note, context).await
}

/// Adds a note.
///
/// # Errors
/// As for [`acknowledge`].
pub async fn note(arguments: &Note, context: &Context) -> Result<Exit, Error> {
    annotate(&arguments.incident, false, &arguments.text.join(" "), context).await
}

async fn annotate(incident: &str, acknowledge: bool, note: &str, context: &Context) -> Result<Exit, Error> {
    let request = AnnotateRequest { incident: incident.to_owned(), acknowledge, note: note.to_owned() };
    let answer = context.client().await?.annotate(request).await?.into_inner().incident;
    match answer {
        Some(view) if context.format.is_data() => output::data(context.format, &view)?,
        Some(view) => output::line(&escape::line(&format!("{} on {} is {}", view.id, view.target, view.state)))?,
        None => output::line("ok")?,
    }
    Ok(Exit::Done)
}
