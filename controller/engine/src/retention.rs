//! What is old enough to go, so that a year does not grow the state. The log keeps the story.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;

use crate::{
    Actor,
    draft::Entry,
    id::{CommandId, IncidentId, MessageId, PlanId},
    state::{
        AlertRow, AlertState, CommandRow, IncidentRow, LedgerRow, Message, OnceRow, PlanRow, ShadowRow, State,
        TokenRow, WindowRow,
    },
    turn::Turn,
    windows::{after, before},
};

/// So many ended incidents are kept, with everything that they refer to;
const INCIDENTS: usize = 1_000;
/// so many ended plans without an incident,
const PLANS: usize = 1_000;
/// so many messages that are no longer on their way,
const MESSAGES: usize = 1_000;
/// and twenty more of each before they are cut back, so that not every end of something cuts.
const SLACK: usize = 20;
/// The ledger is kept at least for this long; longer when a policy's guards look back further.
const LEDGER: Duration = Duration::from_secs(7 * 86_400);
/// Ended holds, used-up tokens and resolved alerts are kept for this long.
const SHORT: Duration = Duration::from_secs(86_400);
/// What policies would have done is kept for this long.
pub(crate) const SHADOWS: Duration = Duration::from_secs(30 * 86_400);
/// How often the passing of time alone is looked at.
const EVERY: Duration = Duration::from_secs(3_600);

/// Removes what is old enough.
pub(crate) fn reconcile(turn: &mut Turn<'_>) -> Option<Timestamp> {
    let incidents = old_incidents(turn.state());
    let plans = old_plans(turn.state(), &incidents);
    let messages = old_messages(turn.state());
    let short = before(turn.now, SHORT);
    for id in &incidents {
        turn.draft.remove::<IncidentRow>(id);
    }
    for id in &plans {
        let commands = turn.state().plans.get(id).map(|plan| plan.commands.clone()).unwrap_or_default();
        for command in commands {
            turn.draft.remove::<CommandRow>(&command);
        }
        turn.draft.remove::<PlanRow>(id);
        turn.windows.probed.retain(|(plan, _)| plan != id);
    }
    for id in &messages {
        turn.draft.remove::<Message>(id);
    }
    let ledger = before(turn.now, longest_look_back(turn.state()));
    let rows: Vec<CommandId> =
        turn.state().ledger.iter().filter(|(_, row)| row.at < ledger).map(|(id, _)| *id).collect();
    for id in &rows {
        turn.draft.remove::<LedgerRow>(id);
    }
    let mut count = incidents.len() + plans.len() + messages.len() + rows.len();
    count += remove_spent(turn, short);
    if count > 0 {
        turn.record(Entry::new(
            "retired",
            Actor::Timer,
            format!("{count} old rows left the state; the log has their story"),
        ));
    }
    Some(after(turn.now, EVERY))
}

fn remove_spent(turn: &mut Turn<'_>, short: Timestamp) -> usize {
    let state = turn.state();
    let now = turn.now;
    let onces: Vec<_> = state
        .onces
        .iter()
        .filter(|(_, row)| row.until <= now || (row.until == Timestamp::MAX && !state.plans.contains_key(&row.plan)))
        .map(|(key, _)| key.clone())
        .collect();
    let windows: Vec<_> = state.windows.iter().filter(|(_, row)| row.until < short).map(|(id, _)| *id).collect();
    let tokens: Vec<_> = state.tokens.iter().filter(|(_, row)| row.expires < short).map(|(id, _)| *id).collect();
    let shadows: Vec<_> = state
        .shadows
        .iter()
        .filter(|(key, row)| row.wanted_at < before(now, SHADOWS) || state.policy(&key.0).is_none())
        .map(|(key, _)| key.clone())
        .collect();
    let alerts: Vec<_> = state
        .alerts
        .iter()
        .filter(|(_, row)| row.state == AlertState::Resolved && row.resolved_at.is_none_or(|at| at < short))
        .map(|(key, _)| key.clone())
        .collect();
    onces.iter().for_each(|key| turn.draft.remove::<OnceRow>(key));
    windows.iter().for_each(|id| turn.draft.remove::<WindowRow>(id));
    tokens.iter().for_each(|id| turn.draft.remove::<TokenRow>(id));
    alerts.iter().for_each(|key| turn.draft.remove::<AlertRow>(key));
    shadows.iter().for_each(|key| turn.draft.remove::<ShadowRow>(key));
    onces.len() + windows.len() + tokens.len() + alerts.len() + shadows.len()
}

fn old_incidents(state: &State) -> Vec<IncidentId> {
    let ended = state.incidents.len() - state.live.incidents.len();
    if ended <= INCIDENTS + SLACK {
        return Vec::new();
    }
    let ended_ids = state.incidents.values().filter(|row| !row.is_open()).map(|row| row.id);
    let referred: BTreeSet<IncidentId> = live_incidents_refer(state);
    ended_ids.take(ended - INCIDENTS).filter(|id| !referred.contains(id)).collect()
}

/// Incidents that something under way refers to.
fn live_incidents_refer(state: &State) -> BTreeSet<IncidentId> {
    let of_alerts = state.alerts.values().filter_map(|row| row.incident);
    let of_plans = state.live.plans.iter().filter_map(|id| state.plans.get(id)?.incident);
    of_alerts.chain(of_plans).collect()
}

fn old_plans(state: &State, incidents: &[IncidentId]) -> Vec<PlanId> {
    let gone: BTreeSet<IncidentId> = incidents.iter().copied().collect();
    let is_orphan = |plan: &PlanRow| plan.incident.is_none_or(|id| !state.incidents.contains_key(&id));
    let mut old: Vec<PlanId> = state
        .plans
        .values()
        .filter(|plan| plan.state.has_ended() && plan.incident.is_some_and(|id| gone.contains(&id)))
        .map(|plan| plan.id)
        .collect();
    if state.plans.len() > PLANS + SLACK {
        let free: Vec<PlanId> =
            state.plans.values().filter(|plan| plan.state.has_ended() && is_orphan(plan)).map(|plan| plan.id).collect();
        if free.len() > PLANS + SLACK {
            old.extend(&free[..free.len() - PLANS]);
        }
    }
    old
}

fn old_messages(state: &State) -> Vec<MessageId> {
    let ended = state.messages.len() - state.live.messages.len();
    if ended <= MESSAGES + SLACK {
        return Vec::new();
    }
    let ids = state.messages.keys().filter(|id| !state.live.messages.contains(*id)).copied();
    ids.take(ended - MESSAGES).collect()
}

/// How far back any policy's guards look.
fn longest_look_back(state: &State) -> Duration {
    let spans = state.manifests.values().filter_map(|stored| match &stored.manifest {
        quell_model::policy::Manifest::Policy(policy) => {
            Some(policy.guards.cooldown.max(policy.guards.budget.within).max(policy.guards.disturb.over))
        }
        _ => None,
    });
    spans.max().unwrap_or_default().max(LEDGER)
}
