//! `quell apply`: all manifests or none, signed by whoever applies them or by those who signed them before.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use quell_model::{
    manifest,
    trust::{PolicySet, SetName},
};
use quell_wire::v1::{ApplyRequest, ApplyResponse, SignedSet};

use crate::{
    connect::{Client, Context},
    error::Error,
    exit::Exit,
    manifests::{self, Source},
    output,
    render::{escape, rows::full_name},
    sets::{self, Current, Files},
    settings,
    shown::Shown,
    signing::Key,
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
    /// With which key the sets are signed.
    #[command(flatten)]
    pub key: Key,
    /// Apply without a signature what is signed today: what changes only observes then.
    #[arg(long)]
    pub unsigned: bool,
    /// How long what is signed may act; afterwards it only observes. At most 400d.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = settings::span)]
    pub expires: Duration,
}

/// Applies, and says what changed.
///
/// # Errors
/// Every error of every file, the controller's included; then nothing was applied.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let files = arguments.source.read()?;
    let mut client = context.client().await?;
    let signed = match arguments.dry_run {
        true => None,
        false => Some(sign(arguments, &files, &mut client, context).await?),
    };
    let request = ApplyRequest {
        files: manifests::to_wire(files),
        prune: arguments.prune,
        dry_run: arguments.dry_run,
        sets: Vec::new(),
    };
    let answer = match signed {
        Some(signed) => signed.apply(request, &mut client).await?,
        None => checked(client.apply(request).await?.into_inner())?,
    };
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

/// The sets to be applied, and what was known when they were signed.
pub(super) struct SignedSets {
    /// The sets.
    pub(super) sets: Vec<SignedSet>,
    shown: Shown,
}

impl SignedSets {
    /// Applies manifests with these sets; they are remembered once the controller has taken them.
    ///
    /// # Errors
    /// The controller's refusal, or the connection's.
    pub(super) async fn apply(mut self, request: ApplyRequest, client: &mut Client) -> Result<ApplyResponse, Error> {
        let request = ApplyRequest { sets: self.sets.clone(), ..request };
        let answer = checked(client.apply(request).await?.into_inner())?;
        self.shown.taken(&self.sets, Timestamp::now());
        Ok(answer)
    }
}

/// The next of every set: what was signed before and lies beside the manifests, or signed now.
///
/// # Errors
/// There is no key where one is needed, or it refuses; the connection's.
pub(super) async fn sign(
    arguments: &Arguments,
    files: &[manifest::File],
    client: &mut Client,
    context: &Context,
) -> Result<SignedSets, Error> {
    let now = Timestamp::now();
    let mut shown = Shown::ask(client, context, now).await?;
    let parsed = manifest::parse(files).map_err(Error::Manifests)?;
    let current = shown.current(now)?;
    let wanted = current.next(&parsed, arguments.prune, now, arguments.expires)?;
    let (beside, key) = (Files::beside(&arguments.source.files), arguments.key.find(&shown.profile)?);
    let mut signed = Vec::new();
    for set in wanted {
        let name = set.name();
        let found = match (beside.read(&set, now)?, &key) {
            (Some(found), _) => found,
            (None, Some(key)) => current.sign(&set, &parsed, key)?,
            (None, None) if current.is_signed(&name) && !arguments.unsigned => {
                return Err(Error::Usage(format!(
                    "{name} is signed today, and without a signature what changes in it would only observe: sign with --key, \
                     beforehand with `quell sign`, or say --unsigned; nothing was applied"
                )));
            }
            (None, None) => {
                let then = if name.limits { "it binds no host" } else { "its policies only observe" };
                output::warning(&format!(
                    "{name} is not signed, so {then}: sign with --key, or beforehand with `quell sign`"
                ));
                continue;
            }
        };
        match sets::check(&found, &shown.believed, now) {
            Err(error) if name.limits => match without_limits(arguments, &current, &set) {
                Some(warning) => {
                    output::warning(&warning);
                    continue;
                }
                None => return Err(not_for_limits(&name, &error)),
            },
            checked => checked?,
        }
        signed.push(sets::to_wire(found));
    }
    Ok(SignedSets { sets: signed, shown })
}

/// Whether limits may stay as they are though this key does not sign them, and what is said then: when they are in force
/// already and would only be renewed, or are meant to be unsigned.
fn without_limits(arguments: &Arguments, current: &Current, set: &PolicySet) -> Option<String> {
    let name = set.name();
    match current.renews(set) {
        Some(expires) => Some(format!(
            "{name} expires on {expires:.0}, and this key does not sign it: let somebody with a key for quell-limits \
             apply it again"
        )),
        None if arguments.unsigned => Some(format!("{name} is not signed, so it binds no host")),
        None => None,
    }
}

fn not_for_limits(name: &SetName, error: &Error) -> Error {
    Error::Usage(format!(
        "limits take a key for quell-limits, and {name} is {error}; nothing was applied. Let somebody who has such a key \
         run `quell sign --only {name}` on these files and then apply, or leave the Limits out"
    ))
}

/// An answer in which the controller found no errors; those that it found are errors here.
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
    for warning in &answer.warnings {
        output::warning(warning);
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
