//! `quell-agent label`: shows or changes what this host believes its labels to be.
//!
//! Policies name hosts by labels, so they are the host's own: its administrator changes them here, or people by a signed
//! change (`quell host label`). The controller keeps the labels of the enrolment and of signed changes, so a change made
//! here can only take the host out of what policies mean: the controller plans by the others.

use std::process::ExitCode;

use anyhow::Context as _;
use quell_agent::{belief::Beliefs, data_dir::DataDir};
use quell_link::client::AgentIdentity;
use quell_model::{selector::Labels, trust::labels::check_labels};

use super::say;
use crate::{
    arguments::{Label, LabelSet, Place},
    exit::Usage,
};

pub(crate) async fn label(label: Label) -> anyhow::Result<ExitCode> {
    let work = move || match label {
        Label::Show(place) => show(place),
        Label::Set(options) => set(options),
    };
    tokio::task::spawn_blocking(work).await.context("the labels could not be looked at")?
}

fn show(place: Place) -> anyhow::Result<ExitCode> {
    let beliefs = open(&DataDir::new(place.data_dir))?;
    // Without whom it believes a host has no labels that count.
    beliefs.view()?;
    beliefs.told().labels.iter().for_each(|(key, value)| say(format_args!("{key}={value}")));
    Ok(ExitCode::SUCCESS)
}

fn set(options: LabelSet) -> anyhow::Result<ExitCode> {
    let labels = read(&options.labels)?;
    let data = DataDir::new(options.place.data_dir);
    let beliefs = open(&data)?;
    // The agent that runs would not see it.
    let _lock = data.lock()?;
    let before = beliefs.told().labels;
    beliefs.relabel(labels.clone())?;
    say(format_args!("labels       {} (before: {})", words(&labels), words(&before)));
    say(
        "the agent judges policies by them from its next start; the controller plans by those of the join and of signed",
    );
    say("changes: to change them there too, let people sign `quell host label`");
    Ok(ExitCode::SUCCESS)
}

fn open(data: &DataDir) -> anyhow::Result<Beliefs> {
    let identity = AgentIdentity::load(&data.identity())?;
    Ok(Beliefs::open(data.root(), identity.name)?)
}

/// Labels as people write them: `role=web zone=a`.
pub(crate) fn words(labels: &Labels) -> String {
    if labels.is_empty() {
        return "none".to_owned();
    }
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

fn read(words: &[String]) -> Result<Labels, Usage> {
    let mut labels = Labels::new();
    for word in words {
        let (key, value) = word.split_once('=').ok_or_else(|| Usage(format!("{word:?} is not KEY=VALUE")))?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Usage(format!("label {key:?} is there twice")));
        }
    }
    check_labels(&labels).map_err(|error| Usage(error.why))?;
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_pairs_each_once() {
        let read = |words: &[&str]| read(&words.iter().map(ToString::to_string).collect::<Vec<_>>());
        let labels = read(&["role=web", "zone=a=b"]);
        assert!(labels.is_err(), "= is no part of a value");
        let labels = read(&["role=web", "zone=a"]).unwrap();
        assert_eq!(words(&labels), "role=web zone=a");
        for wrong in [&["role"][..], &["role=a", "role=b"], &["=a"], &["role="], &["role=a b"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
