//! Holds and freezes that people make: they stop what has not begun, and never recovery.

use std::time::Duration;

use super::who;
use crate::{
    Actor, Effect,
    draft::Entry,
    id::WindowId,
    input::{HoldScope, Refusal, Reply},
    state::{CommandRow, CommandState, WindowRow},
    turn::Turn,
    windows::after,
};

/// Holds something for a time.
///
/// # Errors
/// There is no such thing, no reason or no end.
pub(crate) fn hold(
    turn: &mut Turn<'_>,
    actor: &Actor,
    scope: &HoldScope,
    span: Duration,
    reason: &str,
) -> Result<Reply, Refusal> {
    if span.is_zero() || reason.trim().is_empty() {
        return Err(Refusal::Invalid("a hold needs an end (--for) and a reason (--reason)".to_owned()));
    }
    exists(turn, scope)?;
    let id = WindowId(turn.draft.number("win"));
    let row = WindowRow {
        id,
        scope: scope.clone(),
        from: turn.now,
        until: after(turn.now, span),
        reason: reason.to_owned(),
        who: who(actor),
    };
    let text = format!("{id}: {} until {}: {reason}", words(scope), row.until);
    turn.draft.put(id, row);
    turn.record(Entry::new("holdMade", actor.clone(), text).id("window", id));
    cancel_unbegun(turn, scope, reason);
    turn.touch_live();
    Ok(Reply::Window(id))
}

fn exists(turn: &Turn<'_>, scope: &HoldScope) -> Result<(), Refusal> {
    let state = turn.state();
    let (is_there, what) = match scope {
        HoldScope::Host(host) => (state.hosts.contains_key(host), format!("host {host}")),
        HoldScope::Policy(policy) => {
            (state.manifests.contains_key(&("Policy".to_owned(), policy.clone())), format!("policy {policy}"))
        }
        HoldScope::Incident(incident) => (state.incidents.contains_key(incident), incident.to_string()),
        HoldScope::Hosts(quell_model::selector::Selector::Nobody) => {
            return Err(Refusal::Invalid("a freeze of nobody holds nothing; write `--all` for everybody".to_owned()));
        }
        HoldScope::Hosts(_) => (true, String::new()),
    };
    if is_there { Ok(()) } else { Err(Refusal::NotFound(format!("there is no {what}"))) }
}

fn words(scope: &HoldScope) -> String {
    match scope {
        HoldScope::Host(host) => format!("host {host} is held"),
        HoldScope::Policy(policy) => format!("policy {policy} is held"),
        HoldScope::Incident(incident) => format!("{incident} is held"),
        HoldScope::Hosts(quell_model::selector::Selector::Labels(labels)) => {
            let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            format!("hosts with {} are frozen", pairs.join(","))
        }
        HoldScope::Hosts(_) => "all hosts are frozen".to_owned(),
    }
}

/// Asks agents not to begin what was sent but has not begun.
fn cancel_unbegun(turn: &mut Turn<'_>, scope: &HoldScope, reason: &str) {
    let live: Vec<_> = turn.state().live.commands.iter().filter_map(|id| turn.command(*id)).collect();
    for command in live {
        let is_recovery = command.finally || command.undoes.is_some();
        if command.state == CommandState::Sent && !is_recovery && covers(turn, scope, &command) {
            turn.effect(Effect::Cancel { host: command.host.clone(), command: command.id, reason: reason.to_owned() });
        }
    }
}

fn covers(turn: &Turn<'_>, scope: &HoldScope, command: &CommandRow) -> bool {
    let plan = turn.state().plans.get(&command.plan);
    match scope {
        HoldScope::Host(host) => command.host == *host,
        HoldScope::Policy(policy) => plan.is_some_and(|plan| plan.policy.as_ref() == Some(policy)),
        HoldScope::Incident(incident) => plan.is_some_and(|plan| plan.incident == Some(*incident)),
        HoldScope::Hosts(selector) => {
            turn.state().hosts.get(&command.host).is_some_and(|row| selector.matches(&row.labels))
        }
    }
}

/// Ends holds: one, or all; with all, doubts about the clock and the restriction after a restore end as well.
///
/// # Errors
/// There is no such hold, or nothing to end.
pub(crate) fn release(
    turn: &mut Turn<'_>,
    actor: &Actor,
    window: Option<WindowId>,
    reason: &str,
) -> Result<Reply, Refusal> {
    let now = turn.now;
    let active = |row: &WindowRow| row.until > now;
    let ids: Vec<WindowId> = match window {
        Some(id) if turn.state().windows.get(&id).is_some_and(|row| active(row)) => vec![id],
        Some(id) => return Err(Refusal::NotFound(format!("{id} is not in force"))),
        None => turn.state().windows.iter().filter(|(_, row)| active(row)).map(|(id, _)| *id).collect(),
    };
    let meta = &turn.state().meta;
    let lifts_doubt = window.is_none() && (meta.clock_suspect.is_some() || meta.observe_only.is_some());
    if ids.is_empty() && !lifts_doubt {
        return Err(Refusal::NotFound("nothing is held".to_owned()));
    }
    for id in &ids {
        turn.draft.change::<WindowRow>(id, |row| row.until = now);
    }
    if lifts_doubt {
        turn.draft.change_meta(|meta| {
            meta.clock_suspect = None;
            meta.observe_only = None;
        });
    }
    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let what = if names.is_empty() { "the doubt about clock and restore".to_owned() } else { names.join(", ") };
    turn.record(Entry::new("holdsEnded", actor.clone(), format!("{what} ended: {reason}")));
    turn.touch_live();
    Ok(Reply::Released(ids))
}
