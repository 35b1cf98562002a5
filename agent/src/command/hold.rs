//! `quell-agent hold`: puts or lifts the administrator's hold. Works whether or not the agent or the controller runs.

use std::process::ExitCode;

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use quell_agent::{
    data_dir::DataDir,
    hold::{Hold, HoldFile},
    units,
};

use super::say;
use crate::{arguments, exit::Usage};

pub(crate) async fn hold(options: arguments::Hold) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(move || change(&options)).await.context("the hold could not be changed")?
}

fn change(options: &arguments::Hold) -> anyhow::Result<ExitCode> {
    let data = DataDir::new(&options.place.data_dir);
    let file = HoldFile::new(data.root());
    if options.lift {
        let lifted = file.lift()?;
        say(if lifted { "the hold is lifted: actions may run again" } else { "there was no hold" });
        return Ok(ExitCode::SUCCESS);
    }
    if !data.root().is_dir() {
        let place = data.root().display();
        return Err(Usage(format!("{place} is no agent's data directory; give the agent's with --data-dir")).into());
    }
    let hold = wanted(options, Timestamp::now())?;
    file.put(&hold)?;
    say(format_args!("held until {}: no action runs on this host; lift it with `quell-agent hold --lift`", hold.until));
    Ok(ExitCode::SUCCESS)
}

fn wanted(options: &arguments::Hold, now: Timestamp) -> Result<Hold, Usage> {
    let reason = options.reason.clone().unwrap_or_default();
    if reason.trim().is_empty() {
        return Err(Usage("say why with --reason: others will ask".to_owned()));
    }
    let span = units::duration(options.span.as_deref().unwrap_or_default()).map_err(Usage)?;
    let span = SignedDuration::try_from(span).map_err(|_| Usage("the span is too long".to_owned()))?;
    let until = now.checked_add(span).map_err(|_| Usage("the span is too long".to_owned()))?;
    if until <= now {
        return Err(Usage("a hold must last some time: --for 2h".to_owned()));
    }
    Ok(Hold { reason, since: now, until })
}
