//! `quell get`: lists.

use clap::Args;
use jiff::Timestamp;
use quell_wire::v1::{GetRequest, GetResponse};

use crate::{
    connect::{self, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    output::{self, Format},
    render::rows,
    settings,
};

/// What is listed.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What kind of things.
    #[arg(value_enum)]
    pub kind: Kind,
    /// Only the one of this name or number.
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Only those with all of these labels.
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    pub selector: Option<String>,
    /// Resolved incidents, ended plans and retired hosts too.
    #[arg(short, long)]
    pub all: bool,
    /// Print the list again whenever something in it changes, until interrupted.
    #[arg(short, long)]
    pub watch: bool,
}

/// Lists.
///
/// # Errors
/// Nothing has the name; the controller's refusal, or the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let request = GetRequest {
        kind: arguments.kind.as_str().to_owned(),
        labels: settings::labels(arguments.selector.as_deref())?,
        name: arguments.name.clone().unwrap_or_default(),
        // Who names one thing wants it, ended or not.
        all: arguments.all || arguments.name.is_some(),
        ..GetRequest::default()
    };
    let mut client = context.client().await?;
    if arguments.watch {
        let mut lists = client.watch(request).await?.into_inner();
        while let Some(answer) = connect::next_list(&mut lists).await? {
            show(arguments.kind, &answer, context.format, true)?;
        }
        return Err(Error::Unreachable("the controller ended the watch: run the command again".to_owned()));
    }
    let answer = connect::list(&mut client, request).await?;
    let found = show(arguments.kind, &answer, context.format, false)?;
    match &arguments.name {
        Some(name) if found == 0 => {
            let kind = arguments.kind.as_str();
            Err(Error::NotFound(format!("nothing is called {name} among the {kind}; see `quell get {kind} --all`")))
        }
        _ => Ok(Exit::Done),
    }
}

/// Prints a list and says how long it is. In a watch, JSON is one document a line and tables are parted by empty lines.
fn show(kind: Kind, answer: &GetResponse, format: Format, is_watch: bool) -> Result<usize, Error> {
    let listing = rows::list(kind, answer, format == Format::Wide, Timestamp::now())?;
    let count = listing.items.len();
    let items = serde_json::json!({ "items": listing.items });
    match format {
        Format::Json if is_watch => output::line(&output::json(&items, false))?,
        Format::Yaml if is_watch => {
            output::line("---")?;
            output::data(format, &items)?;
        }
        Format::Json | Format::Yaml => output::data(format, &items)?,
        Format::Name => {
            for name in &listing.names {
                output::line(&crate::render::escape::line(name))?;
            }
        }
        Format::Table | Format::Wide if count == 0 => output::line(&format!("no {}", kind.as_str()))?,
        Format::Table | Format::Wide => output::text(&listing.table)?,
    }
    if is_watch && !format.is_data() {
        output::line("")?;
    }
    Ok(count)
}
