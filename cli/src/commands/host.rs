//! `quell host`: hosts come by joining; here they go, or bear other labels.

use std::collections::BTreeMap;

use clap::Subcommand;
use quell_model::trust::labels::LabelChange;
use quell_wire::v1::{ChangeHostRequest, HostView, SignedChange};

use super::countersign::{self, Sending};
use crate::{
    connect::{self, Client, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    output,
    render::{escape, page::pairs},
    saved::{Paper, Save},
    settings,
    signing::Key,
};

/// What is done with a host.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Its certificate is good no longer, at once; its session is cut.
    Revoke {
        /// The host.
        #[arg(value_name = "HOST")]
        name: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// It is gone for good: its incidents close.
    Retire {
        /// The host.
        #[arg(value_name = "HOST")]
        name: String,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give it labels, or take them away.
    Label {
        /// The host.
        #[arg(value_name = "HOST")]
        name: String,
        /// KEY=VALUE sets a label, KEY- removes it.
        #[arg(value_name = "KEY=VALUE|KEY-", required = true)]
        changes: Vec<String>,
        /// Why.
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// With which key the change is signed.
        #[command(flatten)]
        key: Key,
        /// Whether others sign it too.
        #[command(flatten)]
        save: Save,
    },
}

/// Changes a host.
///
/// # Errors
/// There is no such host; the controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let (name, change, reason) = match command {
        Command::Revoke { name, reason } => (name, "revoke", reason),
        Command::Retire { name, reason } => (name, "retire", reason),
        Command::Label { name, changes, reason, key, save } => {
            let host = connect::get(&mut client, Kind::Hosts, name).await?.hosts.into_iter().next();
            let host =
                host.ok_or_else(|| Error::NotFound(format!("no host is called {name}; see `quell get hosts`")))?;
            let paper = Paper::Labels(next(host, changes, &context.profile()?.installation)?);
            return countersign::sign_and_send(
                paper,
                (key, save),
                Sending { reason, wait: false },
                &mut client,
                context,
            )
            .await;
        }
    };
    let request =
        ChangeHostRequest { name: name.clone(), change: change.to_owned(), signed: None, reason: reason.clone() };
    send(request, &mut client, context).await
}

/// Puts signed labels in force.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub(super) async fn relabel(
    change: &LabelChange,
    (document, signatures): (Vec<u8>, Vec<String>),
    reason: &str,
    client: &mut Client,
    context: &Context,
) -> Result<Exit, Error> {
    let request = ChangeHostRequest {
        name: change.host.to_string(),
        change: "label".to_owned(),
        signed: Some(SignedChange { document, signatures }),
        reason: reason.to_owned(),
    };
    send(request, client, context).await
}

async fn send(request: ChangeHostRequest, client: &mut Client, context: &Context) -> Result<Exit, Error> {
    match client.change_host(request).await?.into_inner().host {
        Some(host) if context.format.is_data() => output::data(context.format, &host)?,
        Some(host) => {
            output::line(&escape::line(&format!("{} is {}; labels: {}", host.name, host.state, pairs(&host.labels))))?;
        }
        None => output::line("ok")?,
    }
    Ok(Exit::Done)
}

/// The host's labels after the changes, as they are signed.
fn next(host: HostView, changes: &[String], installation: &str) -> Result<LabelChange, Error> {
    Ok(LabelChange {
        installation: installation.to_owned(),
        host: host.name.parse().map_err(|error| Error::Failed(format!("{error}")))?,
        version: host.label_version.saturating_add(1),
        labels: relabelled(host.labels.into_iter().collect(), changes)?,
    })
}

/// Labels after the changes.
fn relabelled(mut labels: BTreeMap<String, String>, changes: &[String]) -> Result<BTreeMap<String, String>, Error> {
    for change in changes {
        match change.strip_suffix('-').filter(|_| !change.contains('=')) {
            Some(key) => {
                labels.remove(key).ok_or_else(|| Error::Usage(format!("the host has no label {key}")))?;
            }
            None => {
                let (key, value) = settings::pair(change).map_err(Error::Usage)?;
                labels.insert(key, value);
            }
        }
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_set_and_removed() {
        let labels = BTreeMap::from([("role".to_owned(), "web".to_owned()), ("zone".to_owned(), "a".to_owned())]);
        let change = |changes: &[&str]| {
            let changes: Vec<_> = changes.iter().map(|change| (*change).to_owned()).collect();
            relabelled(labels.clone(), &changes)
        };
        let changed = change(&["role=dns", "zone-", "note=a-"]).unwrap();
        assert_eq!(pairs(&changed), "note=a-, role=dns");
        assert!(change(&["rack-"]).is_err());
        assert!(change(&["rack"]).is_err());
    }
}
