//! `quell countersign` and `quell send`: what more than one person signs.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::{host, run, trust};
use crate::{
    connect::{Client, Context},
    error::Error,
    exit::Exit,
    output,
    render::escape,
    saved::{Paper, Save, Signed},
    shown::Shown,
    signing::Key,
};

/// What is signed by one more person.
#[derive(Debug, Clone, Args)]
pub struct Countersign {
    /// What `--save` wrote.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// With which key.
    #[command(flatten)]
    pub key: Key,
}

/// What is sent.
#[derive(Debug, Clone, Args)]
pub struct Send {
    /// What `--save` wrote; its signatures are in FILE.sig.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Why: of a change of labels, it stands in the log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Of a run: wait until it has ended, and end with an exit code that says how.
    #[arg(long)]
    pub wait: bool,
}

/// How it is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sending<'a> {
    /// Why, where that is no part of what is signed.
    pub(super) reason: &'a str,
    /// Whether a run is waited for.
    pub(super) wait: bool,
}

/// Shows what it says, and adds a signature.
///
/// # Errors
/// The file holds nothing of the kind, there is no key; or the connection's.
pub async fn countersign(arguments: &Countersign, context: &Context) -> Result<Exit, Error> {
    let mut signed = Signed::open(&arguments.file)?;
    let shown = Shown::ask(&mut context.client().await?, context, Timestamp::now()).await?;
    output::text(&escape::block(&signed.paper.text(&shown.believed)?))?;
    signed.sign(&arguments.key.need(&shown.profile)?)?;
    signed.save_signatures(&arguments.file)?;
    say(&signed, &shown, &arguments.file)
}

/// Sends what enough people have signed.
///
/// # Errors
/// Too few have; the controller's refusal, or the connection's.
pub async fn send(arguments: &Send, context: &Context) -> Result<Exit, Error> {
    let signed = Signed::open(&arguments.file)?;
    let mut client = context.client().await?;
    let shown = Shown::ask(&mut client, context, Timestamp::now()).await?;
    signed.check(&shown.believed, Timestamp::now()).map_err(|denied| {
        Error::Usage(format!("nothing was sent: {} is not good yet: {denied}", signed.paper.name()))
    })?;
    let sending = Sending { reason: &arguments.reason, wait: arguments.wait };
    dispatch(signed, sending, &mut client, context).await
}

/// Signs a paper and saves it where that is wanted; else sends it.
///
/// # Errors
/// There is no key where one is needed; the controller's refusal, or the connection's.
pub(super) async fn sign_and_send(
    paper: Paper,
    (key, save): (&Key, &Save),
    sending: Sending<'_>,
    client: &mut Client,
    context: &Context,
) -> Result<Exit, Error> {
    let mut signed = Signed::new(paper);
    let Some(file) = &save.save else {
        signed.sign(&key.need(&context.profile()?)?)?;
        return dispatch(signed, sending, client, context).await;
    };
    let shown = Shown::ask(client, context, Timestamp::now()).await?;
    if let Some(key) = key.find(&shown.profile)? {
        signed.sign(&key)?;
    }
    signed.save(file)?;
    say(&signed, &shown, file)
}

async fn dispatch(signed: Signed, sending: Sending<'_>, client: &mut Client, context: &Context) -> Result<Exit, Error> {
    let (document, signatures) = (signed.bytes(), signed.signatures);
    match signed.paper {
        Paper::Trust(_) => {
            let sent = trust::send(document, signatures, client).await?;
            // Seen, and so remembered, before the controller can be set back. It is in force whatever comes of this.
            if let Err(error) = Shown::ask(client, context, Timestamp::now()).await {
                output::warning(&format!("the change is in force, and is not remembered yet: {error}"));
            }
            Ok(sent)
        }
        Paper::Labels(change) => host::relabel(&change, (document, signatures), sending.reason, client, context).await,
        Paper::Run(order, _) => run::send(&order, (document, signatures), sending.wait, client, context).await,
    }
}

/// Whether enough have signed, and what is next.
fn say(signed: &Signed, shown: &Shown, file: &std::path::Path) -> Result<Exit, Error> {
    let (name, file) = (signed.paper.name(), file.display());
    let text = match signed.check(&shown.believed, Timestamp::now()) {
        Ok(()) => format!("{name} is signed by enough people; next: quell send {file}"),
        Err(denied) => format!("{name} is not good yet: {denied}; next, for another person: quell countersign {file}"),
    };
    output::line(&escape::line(&text))?;
    Ok(Exit::Done)
}
