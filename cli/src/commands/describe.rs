//! `quell describe`: one thing with all that belongs to it.

use clap::Args;
use jiff::Timestamp;

use crate::{
    connect::{self, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    output,
    render::{describe, rows},
};

/// What is described.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What kind of thing.
    #[arg(value_enum)]
    pub kind: Kind,
    /// Its name or number.
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// Describes.
///
/// # Errors
/// Nothing has the name; the controller's refusal, or the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let answer = connect::get(&mut client, arguments.kind, &arguments.name).await?;
    let now = Timestamp::now();
    let listing = rows::list(arguments.kind, &answer, false, now)?;
    let kind = arguments.kind.as_str();
    match listing.items.as_slice() {
        [] => Err(Error::NotFound(format!(
            "nothing is called {} among the {kind}; see `quell get {kind}`",
            arguments.name
        ))),
        [only] if context.format.is_data() => output::data(context.format, only).map(|()| Exit::Done),
        several if context.format.is_data() => {
            output::data(context.format, &serde_json::json!({ "items": several })).map(|()| Exit::Done)
        }
        _ => output::text(&describe::draw(&answer, now)).map(|()| Exit::Done),
    }
}
