//! `quell diff`: what applying manifests would change, line by line, and what it would bound less.

use std::collections::BTreeMap;

use clap::Args;
use quell_model::{
    manifest::{self, File, Loosening, looser, to_yaml},
    policy::Manifest,
};
use quell_wire::v1::{ApplyRequest, GetRequest, ManifestChange};

use super::apply;
use crate::{
    connect::{self, Client, Context},
    error::Error,
    exit::Exit,
    manifests::{self, Source},
    output,
    render::{
        diff::{Difference, draw},
        rows::full_name,
    },
};

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
    let files = arguments.source.read()?;
    let after = files_side(&files);
    let request = ApplyRequest {
        files: manifests::to_wire(files),
        prune: arguments.prune,
        dry_run: true,
        ..ApplyRequest::default()
    };
    let mut client = context.client().await?;
    let mut answer = apply::checked(client.apply(request).await?.into_inner())?;
    answer.changes.retain(|change| change.change != "unchanged");
    let before = if answer.changes.iter().any(|change| change.change != "created") {
        in_force(&mut client).await?
    } else {
        BTreeMap::new()
    };
    let changes: Vec<_> = answer.changes.iter().map(|change| difference(change, &before, &after)).collect();
    if context.format.is_data() {
        let mut value = output::to_value(&answer)?;
        for (change, difference) in value["changes"].as_array_mut().into_iter().flatten().zip(&changes) {
            change["diff"] = difference.text().into();
            change["looser"] = looser_json(&difference.looser);
        }
        output::data(context.format, &value)?;
    } else {
        apply::warn(&answer);
        output::text(&draw(&changes))?;
    }
    Ok(if arguments.exit_code && !changes.is_empty() { Exit::Changes } else { Exit::Done })
}

/// Kind, namespace and name.
type Key = (String, String, String);

/// A manifest of one side: the YAML of its canonical form, and, where this version knows it, what it means.
type Meant = (String, Option<Manifest>);

/// What the files hold.
fn files_side(files: &[File]) -> BTreeMap<Key, Meant> {
    // They were checked when they were read.
    let parsed = manifest::parse(files).unwrap_or_default().into_iter();
    let named = parsed.map(|parsed| {
        let name = parsed.manifest.name();
        let key = (parsed.manifest.kind().to_owned(), name.namespace.to_string(), name.name.to_string());
        (key, (to_yaml(&parsed.canonical), Some(parsed.manifest)))
    });
    named.collect()
}

/// What is in force. One that only a newer version understands is shown and not judged.
async fn in_force(client: &mut Client) -> Result<BTreeMap<Key, Meant>, Error> {
    let request = GetRequest { kind: "manifests".to_owned(), ..GetRequest::default() };
    let manifests = connect::list(client, request).await?.manifests.into_iter();
    let named = manifests.map(|view| {
        let file = File { name: view.name.clone(), text: view.yaml };
        let parsed = manifest::parse(std::slice::from_ref(&file)).ok();
        let meant = parsed.and_then(|parsed| parsed.into_iter().next()).map(|parsed| parsed.manifest);
        ((view.kind, view.namespace, view.name), (file.text, meant))
    });
    Ok(named.collect())
}

fn difference(change: &ManifestChange, before: &BTreeMap<Key, Meant>, after: &BTreeMap<Key, Meant>) -> Difference {
    let key = (change.kind.clone(), change.namespace.clone(), change.name.clone());
    let before = before.get(&key).filter(|_| change.change != "created");
    let after = after.get(&key).filter(|_| change.change != "removed");
    let text = |side: Option<&Meant>| side.map(|(yaml, _)| yaml.clone()).unwrap_or_default();
    let meant = |side: Option<&Meant>| side.and_then(|(_, manifest)| manifest.clone());
    let is_judged = change.change == "created" || meant(before).is_some();
    Difference {
        change: change.change.clone(),
        what: format!("{} {}", change.kind, full_name(&change.namespace, &change.name)),
        before: text(before),
        after: text(after),
        looser: if is_judged { looser(meant(before).as_ref(), meant(after).as_ref()) } else { Vec::new() },
        is_judged,
    }
}

fn looser_json(looser: &[Loosening]) -> serde_json::Value {
    looser.iter().map(|one| serde_json::json!({ "field": one.field, "from": one.from, "to": one.to })).collect()
}
