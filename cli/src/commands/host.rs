//! `quell host`: hosts come by joining; here they go, or bear other labels.

use std::collections::BTreeMap;

use clap::Subcommand;
use quell_model::trust::{NAMESPACE_TRUST, labels::LabelChange};
use quell_wire::v1::{ChangeHostRequest, HostView, SignedChange};

use crate::{
    connect::{self, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    output,
    render::{escape, page::pairs},
    settings,
    signing::{self, Key},
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
    },
}

/// Changes a host.
///
/// # Errors
/// There is no such host; the controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let (name, change, signed, reason) = match command {
        Command::Revoke { name, reason } => (name, "revoke", None, reason),
        Command::Retire { name, reason } => (name, "retire", None, reason),
        Command::Label { name, changes, reason, key } => {
            let host = connect::get(&mut client, Kind::Hosts, name).await?.hosts.into_iter().next();
            let host =
                host.ok_or_else(|| Error::NotFound(format!("no host is called {name}; see `quell get hosts`")))?;
            (name, "label", Some(sign(host, changes, key, context)?), reason)
        }
    };
    let request = ChangeHostRequest { name: name.clone(), change: change.to_owned(), signed, reason: reason.clone() };
    match client.change_host(request).await?.into_inner().host {
        Some(host) if context.format.is_data() => output::data(context.format, &host)?,
        Some(host) => {
            output::line(&escape::line(&format!("{} is {}; labels: {}", host.name, host.state, pairs(&host.labels))))?;
        }
        None => output::line("ok")?,
    }
    Ok(Exit::Done)
}

/// Signs the host's labels after the changes.
fn sign(host: HostView, changes: &[String], key: &Key, context: &Context) -> Result<SignedChange, Error> {
    let profile = context.profile()?;
    let change = LabelChange {
        installation: profile.installation.clone(),
        host: host.name.parse().map_err(|error| Error::Failed(format!("{error}")))?,
        version: host.label_version + 1,
        labels: relabelled(host.labels.into_iter().collect(), changes)?,
    };
    let document = change.canonical().into_bytes();
    let signature = signing::sign(&key.need(&profile)?, NAMESPACE_TRUST, &document)?;
    Ok(SignedChange { document, signatures: vec![signature] })
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
