//! Hosts: enrolled, connected, silent, revoked, retired.

use jiff::Timestamp;
use quell_model::name::HostName;

use crate::{
    Actor, Effect,
    draft::Entry,
    input::Refusal,
    plan::{self, rollout},
    service, session,
    state::{AlertRow, CommandState, HostRow, HostState, OutcomeKind, PlanState},
    tell::{self, Draught},
    turn::{Subject, Turn},
    windows::{HOST_EVERY, after, is_enrolled},
};

/// So many missing host samples are "no data".
const MISSED: u32 = 3;

/// Looks at whether a host is heard of, and which of its samples went stale.
pub(crate) fn reconcile(turn: &mut Turn<'_>, name: &HostName) -> Option<Timestamp> {
    let host = turn.state().hosts.get(name).cloned().filter(|host| is_enrolled(host))?;
    for key in turn.windows.gone_stale(name, turn.now) {
        session::went_stale(turn, name, &key);
    }
    let silent = look_for_silence(turn, name, &host);
    silent.into_iter().chain(turn.windows.next_stale(name)).min()
}

/// Looks at whether a host is heard of; says when it is silent if it is not heard again. Silence is said once.
fn look_for_silence(turn: &mut Turn<'_>, name: &HostName, host: &HostRow) -> Option<Timestamp> {
    let heard = turn.windows.heard(name).unwrap_or(host.since);
    let due = after(heard, HOST_EVERY.saturating_mul(MISSED));
    if due > turn.now {
        if let Some(since) = host.no_data_since {
            speaks_again(turn, name, since);
        }
        return Some(due);
    }
    if host.no_data_since.is_none() {
        falls_silent(turn, name, heard);
    }
    None
}

fn falls_silent(turn: &mut Turn<'_>, name: &HostName, heard: Timestamp) {
    let span = crate::text::span(turn.now.duration_since(heard).unsigned_abs());
    turn.draft.change::<HostRow>(name, |row| {
        row.no_data_since = Some(heard);
        row.state = HostState::Lost;
        row.last_seen.get_or_insert(heard);
    });
    let text = format!("{name}: no data for {span}");
    turn.record(Entry::new("hostSilent", Actor::Timer, text.clone()).id("host", name));
    let told: Vec<_> = service::all(turn.state())
        .filter(|service| service::members(turn.state(), service).contains(name))
        .flat_map(|service| {
            let namespace = service.name.namespace.clone();
            service
                .contacts
                .iter()
                .map(move |contact| quell_model::name::FullName { namespace: namespace.clone(), name: contact.clone() })
        })
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    for contact in told {
        let body = "What it does is unknown; nothing is done about it on that account.".to_owned();
        let severity = quell_model::policy::Severity::Ticket;
        tell::send(turn, Draught { contact, subject: text.clone(), body, severity, incident: None, logs: Vec::new() });
    }
}

fn speaks_again(turn: &mut Turn<'_>, name: &HostName, since: Timestamp) {
    turn.draft.change::<HostRow>(name, |row| row.no_data_since = None);
    turn.record(
        Entry::new("hostHeard", Actor::Agent(name.clone()), format!("{name}: data again, after silence since {since}"))
            .id("host", name),
    );
}

/// Notes that a host was heard of.
pub(crate) fn heard(turn: &mut Turn<'_>, name: &HostName) {
    turn.windows.hear(name, turn.now);
    let is_silent =
        turn.state().hosts.get(name).is_some_and(|host| host.no_data_since.is_some() || host.state == HostState::Lost);
    if is_silent {
        turn.draft.change::<HostRow>(name, |row| {
            if row.state == HostState::Lost {
                row.state = HostState::Online;
                row.last_seen = None;
            }
        });
        turn.touch(Subject::Host(name.clone()));
    }
}

/// Ends a host's certificate: its session is cut.
///
/// # Errors
/// There is no such host, or it is gone already.
pub(crate) fn revoke(turn: &mut Turn<'_>, actor: &Actor, name: &HostName, reason: &str) -> Result<(), Refusal> {
    leave(turn, actor, name, HostState::Revoked, reason)
}

/// A host is gone for good: its incidents close.
///
/// # Errors
/// There is no such host.
pub(crate) fn retire(turn: &mut Turn<'_>, actor: &Actor, name: &HostName, reason: &str) -> Result<(), Refusal> {
    leave(turn, actor, name, HostState::Retired, reason)?;
    let keys: Vec<_> = turn.state().alerts.keys().filter(|key| key.1.host() == Some(name)).cloned().collect();
    for (policy, target) in keys {
        crate::alert::drop_alert(turn, &policy, &target, "the host was retired");
    }
    let open: Vec<_> = turn.state().live.incidents.iter().copied().collect();
    for id in open {
        let is_here = turn.state().incidents.get(&id).is_some_and(|incident| incident.target.host() == Some(name));
        if is_here {
            cancel_plans(turn, id, "the host was retired");
            crate::incident::resolve(turn, id, "the host was retired");
        }
    }
    Ok(())
}

fn cancel_plans(turn: &mut Turn<'_>, id: crate::id::IncidentId, why: &str) {
    let plans = turn.state().incidents.get(&id).map(|incident| incident.plans.clone()).unwrap_or_default();
    for plan in plans {
        if turn.state().plans.get(&plan).is_some_and(|plan| plan.state.is_unbegun()) {
            plan::end(turn, plan, PlanState::Cancelled, why);
        }
    }
}

fn leave(turn: &mut Turn<'_>, actor: &Actor, name: &HostName, state: HostState, reason: &str) -> Result<(), Refusal> {
    let host =
        turn.state().hosts.get(name).cloned().ok_or_else(|| Refusal::NotFound(format!("there is no host {name}")))?;
    if host.state == state || host.state == HostState::Retired {
        return Err(Refusal::Conflict(format!("{name} is {} already", word(host.state))));
    }
    let now = turn.now;
    turn.draft.change::<HostRow>(name, |row| {
        row.state = state;
        row.since = now;
        row.last_seen.get_or_insert(now);
        row.no_data_since = None;
    });
    turn.windows.forget(name);
    let kind = if state == HostState::Revoked { "hostRevoked" } else { "hostRetired" };
    let text = format!("{name} is {}: {reason}", word(state));
    turn.record(Entry::new(kind, actor.clone(), text.clone()).id("host", name));
    lose_commands(turn, name, &text);
    leave_plans(turn, name, &text);
    turn.effect(Effect::Disconnect { host: name.clone(), reason: text });
    turn.touch_live();
    Ok(())
}

/// Of what a host that left was doing nobody will hear.
fn lose_commands(turn: &mut Turn<'_>, name: &HostName, why: &str) {
    let live: Vec<_> = turn
        .state()
        .live
        .commands
        .iter()
        .filter_map(|id| turn.command(*id))
        .filter(|command| command.host == *name)
        .collect();
    for command in live {
        let kind = OutcomeKind::Unknown;
        let outcome = crate::session::outcome(kind, why);
        debug_assert!(command.state != CommandState::Ended);
        let now = turn.now;
        rollout::end_command(turn, &command, outcome, now);
    }
}

/// What waits for its turn on a host that left is left out, and what has not begun is planned anew: a machine that joins
/// under its name is another one.
fn leave_plans(turn: &mut Turn<'_>, name: &HostName, why: &str) {
    let live: Vec<_> = turn.state().live.plans.iter().copied().collect();
    for id in live {
        let Some(plan) = turn.state().plans.get(&id).cloned() else { continue };
        let own = plan.commands.iter().filter_map(|id| turn.command(*id)).filter(|command| command.host == *name);
        let waiting: Vec<_> = own.filter(|command| command.state == CommandState::Waiting).collect();
        if waiting.is_empty() {
            continue;
        }
        if plan.state.is_unbegun() {
            plan::end(turn, plan.id, PlanState::Cancelled, why);
            continue;
        }
        for command in waiting {
            plan::end_unsent(turn, &command, OutcomeKind::Skipped, why);
        }
        turn.touch(Subject::Plan(plan.id));
    }
}

/// How a host's state reads.
pub(crate) fn word(state: HostState) -> &'static str {
    match state {
        HostState::Online => "online",
        HostState::Lost => "lost",
        HostState::Revoked => "revoked",
        HostState::Retired => "retired",
    }
}

/// Everything that is judged of a host is judged anew: its name belongs to another machine now.
pub(crate) fn start_afresh(turn: &mut Turn<'_>, name: &HostName) {
    turn.windows.forget(name);
    let keys: Vec<_> = turn.state().alerts.keys().filter(|key| key.1.host() == Some(name)).cloned().collect();
    for (policy, target) in keys {
        turn.draft.remove::<AlertRow>(&(policy, target));
    }
    let open: Vec<_> = turn.state().live.incidents.iter().copied().collect();
    for id in open {
        if turn.state().incidents.get(&id).and_then(|incident| incident.target.host().cloned()).as_ref() == Some(name) {
            cancel_plans(turn, id, "the host was enrolled anew");
            crate::incident::resolve(turn, id, "the host was enrolled anew");
        }
    }
}
