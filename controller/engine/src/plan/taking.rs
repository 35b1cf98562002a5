//! Which hosts a plan takes out of service: at the moment, and when it goes on. A rollout takes its hosts wave by wave
//! and gives them back; one that `finally` brings back is taken until it has.

use std::collections::BTreeSet;

use jiff::Timestamp;
use quell_model::name::HostName;

use super::rollout::is_live;
use crate::{
    State,
    state::{CommandRow, CommandState, OutcomeKind, PlanRow},
};

/// The hosts that a plan takes when it goes on: those of its next wave, and those that it does not give back yet.
pub(crate) fn next<'c>(commands: impl Iterator<Item = &'c CommandRow> + Clone) -> BTreeSet<HostName> {
    let waiting = commands.clone().filter(|command| is_step(command) && command.state == CommandState::Waiting);
    let wave = waiting.map(|command| command.wave).min();
    let of_wave = commands.clone().filter(|command| is_step(command) && Some(command.wave) == wave);
    of_wave.map(|command| command.host.clone()).chain(kept(commands)).collect()
}

/// The hosts that a plan under way has taken and not given back: a wave is given back when it has settled, so that two
/// plans never wait for each other's waves.
pub(crate) fn now(state: &State, plan: &PlanRow, now: Timestamp) -> BTreeSet<HostName> {
    let has_settled = plan.next_wave_at.is_some_and(|at| at <= now);
    let commands = plan.commands.iter().filter_map(|id| state.commands.get(id)).map(AsRef::as_ref);
    let is_at_it = |command: &&CommandRow| {
        let of_wave = is_step(command) && command.wave == plan.wave && command.sent_at.is_some();
        is_live(command) || (of_wave && !has_settled)
    };
    commands.clone().filter(is_at_it).map(|command| command.host.clone()).chain(kept(commands)).collect()
}

/// The hosts that stay taken between waves: those that `finally` has not brought back yet, and those on which a step, or
/// bringing back, went wrong.
fn kept<'c>(commands: impl Iterator<Item = &'c CommandRow> + Clone) -> BTreeSet<HostName> {
    let begun: BTreeSet<&HostName> = commands
        .clone()
        .filter(|command| is_step(command) && command.sent_at.is_some())
        .map(|command| &command.host)
        .collect();
    let is_kept = |command: &&CommandRow| match command.outcome.as_ref().map(|outcome| outcome.kind) {
        None => command.finally && begun.contains(&command.host),
        Some(kind) => matches!(kind, OutcomeKind::Failed | OutcomeKind::Unknown),
    };
    commands.filter(is_kept).map(|command| command.host.clone()).collect()
}

fn is_step(command: &CommandRow) -> bool {
    !command.finally && command.undoes.is_none()
}
