//! `quell-agent join`: makes this machine a host of an installation.
//!
//! The join string may bring a first allow-list. It becomes `agent.toml` where there is none; one that is there is the
//! administrator's and stays as it is.

use std::{
    collections::BTreeMap, fs, io, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path, process::ExitCode,
};

use anyhow::Context as _;
use quell_agent::{belief::Beliefs, config::Config, data_dir::DataDir};
use quell_link::{client::join_with, join::JoinString};
use quell_model::{name::HostName, trust::TrustRoot};

use super::say;
use crate::{arguments, exit::Usage};

/// What stands above the allow-list of a new `agent.toml`.
const HEADER: &str = "\
# What this host allows. Everything that is not named here is refused, whatever the controller orders.
# `quell-agent check` reads this file and says what it means; a change takes effect when the agent is restarted.

";

pub(crate) async fn join(options: arguments::Join) -> anyhow::Result<ExitCode> {
    let name = match options.name {
        Some(name) => name,
        None => rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
    };
    let name: HostName = name.parse().map_err(|error| Usage(format!("{error}; give another with --name")))?;
    let join: JoinString = options.token.trim().parse().map_err(|error| Usage(format!("{error}")))?;
    let data = DataDir::new(options.place.data_dir);
    data.create()?;
    let _lock = data.lock()?;
    let (place, labels) = (data.root().to_owned(), join.labels.clone());
    let keep = move |root: &TrustRoot| Beliefs::establish(&place, root, &labels).map_err(|error| error.to_string());
    let joined = join_with(&join, name, &data.identity(), env!("CARGO_PKG_VERSION"), keep).await?;
    let config = data.config();
    let text = first_config(&joined.allow, &config)?;
    let place = config.clone();
    let written = tokio::task::spawn_blocking(move || write_new(&place, &text)).await??;
    say(format_args!("{} has joined {}", joined.identity.name, joined.identity.installation));
    say(format_args!("it believes trust root {} ({})", joined.trust.version, joined.trust.digest().short()));
    if !joined.allow.is_empty() && !written {
        say(format_args!(
            "{} was there already and stays as it is; the join string's allow-list was not used",
            config.display()
        ));
    }
    say(format_args!("next: quell-agent run --data-dir {}", data.root().display()));
    Ok(ExitCode::SUCCESS)
}

/// The text of the first `agent.toml`.
fn first_config(allow: &BTreeMap<String, Vec<String>>, path: &Path) -> anyhow::Result<String> {
    let table = BTreeMap::from([("allow", allow)]);
    let text =
        format!("{HEADER}{}", toml::to_string(&table).context("the allow-list of the join string cannot be written")?);
    Config::parse(&text, path).context("the allow-list of the join string is not one that this agent understands")?;
    Ok(text)
}

/// Writes the file, for its owner alone, unless there is one. Says whether it was written.
fn write_new(path: &Path, text: &str) -> anyhow::Result<bool> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = match file {
        Ok(mut file) => file.write_all(text.as_bytes()).and_then(|()| file.sync_all()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => Err(error),
    };
    written.with_context(|| format!("{} could not be written", path.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_allow_list_is_written_once_and_understood() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let allow = BTreeMap::from([
            ("actions".to_owned(), vec!["service.restart".to_owned()]),
            ("services".to_owned(), vec!["orders".to_owned()]),
        ]);
        let text = first_config(&allow, &path).unwrap();
        assert!(write_new(&path, &text).unwrap());
        assert!(!write_new(&path, "other").unwrap());
        let config = Config::load(dir.path()).unwrap();
        assert!(config.allow.actions.contains("service.restart") && config.allow.services.contains("orders"));
        let strange = BTreeMap::from([("everything".to_owned(), vec!["yes".to_owned()])]);
        assert!(first_config(&strange, &path).is_err());
    }
}
