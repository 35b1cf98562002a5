//! `quell-agent check`: looks at everything that the agent needs, and says what would be allowed.
//!
//! Nothing is changed. Every fault is named, not only the first; the exit code is that of the worst.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_agent::{
    actions, belief::Beliefs, config::Config, data_dir::DataDir, hold::HoldFile, legal_hold::LegalHoldFile, own_file,
};
use quell_link::client::{AgentIdentity, connect_agent};

use super::say;
use crate::{
    arguments::Place,
    exit::{UNREACHABLE, USAGE},
};

/// How long the controller may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

pub(crate) async fn check(place: Place) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(place.data_dir);
    let root = data.root().to_owned();
    let local = tokio::task::spawn_blocking(move || {
        (Config::load(&root), HoldFile::new(&root).current(Timestamp::now()), LegalHoldFile::new(&root).read())
    });
    let (config, hold, legal_holds) = local.await?;
    let mut worst = 0;
    match &config {
        Ok(config) => show(config, &data.config(), &mut worst),
        Err(error) => fault(&mut worst, USAGE, error),
    }
    if let Some(hold) = hold {
        say(format_args!("hold         until {}: {}", hold.until, hold.reason));
    }
    match legal_holds {
        Ok(held) => {
            let lines = held.holds.iter().map(|hold| format!("legal hold   {}: {}", hold.path, hold.reason));
            lines.for_each(say);
        }
        Err(error) => fault(&mut worst, USAGE, error),
    }
    let directory = data.identity();
    match tokio::task::spawn_blocking(move || AgentIdentity::load(&directory)).await? {
        Ok(identity) => {
            let (root, name) = (data.root().to_owned(), identity.name.clone());
            match tokio::task::spawn_blocking(move || Beliefs::open(&root, name)).await? {
                Ok(beliefs) => believed(&beliefs, &mut worst),
                Err(error) => fault(&mut worst, 1, error),
            }
            reach(Arc::new(identity), &mut worst).await;
        }
        Err(error) => fault(&mut worst, 1, error),
    }
    say(if worst == 0 { "everything is well" } else { "see the lines that begin with \"fault\"" });
    Ok(ExitCode::from(worst))
}

fn fault(worst: &mut u8, code: u8, what: impl std::fmt::Display) {
    say(format_args!("fault        {what}"));
    *worst = (*worst).max(code);
}

fn show(config: &Config, path: &Path, worst: &mut u8) {
    let allow = &config.allow;
    if allow.actions.is_empty() {
        say(format_args!("actions      none: add them to actions under [allow] in {}", path.display()));
    }
    for action in &allow.actions {
        if actions::names().any(|known| known == action) {
            say(format_args!("action       {action}"));
        } else {
            let known: Vec<_> = actions::names().collect();
            fault(worst, USAGE, format_args!("this agent has no action {action}; it has {}", known.join(", ")));
        }
    }
    allow.services.iter().for_each(|service| say(format_args!("service      {service}")));
    let directories = [("path         ", &allow.paths), ("reclaim      ", &allow.reclaim)];
    for (word, path) in directories.iter().flat_map(|(word, paths)| paths.iter().map(move |path| (word, path))) {
        say(format_args!("{word}{}", path.display()));
        if !path.is_dir() {
            fault(worst, 1, format_args!("{} is no directory", path.display()));
        }
    }
    for program in &allow.programs {
        say(format_args!("program      {}", program.display()));
        if !program.is_file() {
            fault(worst, 1, format_args!("{} is no program", program.display()));
        }
    }
    allow.environment.iter().for_each(|name| say(format_args!("environment  {name}")));
    for service in &config.services {
        say(format_args!("defined      {} (by {:?})", service.name, service.manager));
    }
    for record in &config.records {
        let (name, zone, server) = (&record.record, &record.zone, record.server);
        say(format_args!("dns          {name} of {zone} at {server}, with the key {}", record.key));
        if let Err(error) = own_file::read_secret(&record.secret_file) {
            fault(worst, USAGE, error);
        }
    }
    for mount in &config.mounts {
        say(format_args!("mount        {} of {} bytes", mount.path.display(), mount.capacity));
        if !mount.path.is_dir() {
            fault(worst, 1, format_args!("{} is no directory", mount.path.display()));
        }
    }
}

/// Whom the host believes, its labels and what it has seen.
fn believed(beliefs: &Beliefs, worst: &mut u8) {
    let view = match beliefs.view() {
        Ok(view) => view,
        Err(error) => return fault(worst, 1, error),
    };
    let root = view.root.root();
    say(format_args!("believes     trust root {} of {}, {}", root.version, root.installation, view.root.digest()));
    for line in view.root.signers().lines() {
        say(format_args!("signer       {} by {}", line.principals(), line.fingerprint()));
    }
    for (name, count) in &root.required {
        say(format_args!("signatures   {count} people for {name}"));
    }
    let whose = if beliefs.labelled_by_host() { " (by this host's administrator)" } else { "" };
    say(format_args!("labels       {}{whose}", super::label::words(&view.labels)));
    for (name, version) in &view.set_versions {
        say(format_args!("set          {name} at version {version}, or newer"));
    }
}

async fn reach(identity: Arc<AgentIdentity>, worst: &mut u8) {
    say(format_args!("host         {} of {}", identity.name, identity.installation));
    say(format_args!("certificate  until {}", identity.expires()));
    let addresses = identity.addresses.join(", ");
    match tokio::time::timeout(ANSWER_WITHIN, connect_agent(&identity.addresses, &identity)).await {
        Ok(Ok(_channel)) => say(format_args!("controller   reached at {addresses}")),
        Ok(Err(error)) => fault(worst, UNREACHABLE, error),
        Err(_) => fault(worst, UNREACHABLE, format_args!("{addresses} did not answer within {ANSWER_WITHIN:?}")),
    }
}
