//! What trips a policy to *propose*: an alert that flaps, too many targets firing at once, too many plans that failed.
//!
//! A fleet-wide simultaneous alarm is more often a broken probe than a broken fleet. A breaker stops new risk, never
//! recovery, and stays open until a person resets it; one that only flapping opened closes by itself once the alerts
//! have calmed down.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{
    name::{FullName, Target},
    policy::{Mode, Policy},
};

use crate::{
    Actor,
    draft::Entry,
    state::{AlertRow, AlertState, BreakerRow, PlanState, State},
    trust,
    turn::{Turn, by_policy},
    windows::{Compiled, INSTANT, after, before},
};

/// Flapping is judged over so many states.
const STATES: u32 = 21;
/// An alert flaps from this share of changes among its states on,
const FLAPPING_PERCENT: usize = 30;
/// and has calmed down at this one.
const CALM_PERCENT: usize = 20;
/// So many targets of a policy must fire at once, and more than a third of them, to make the probe suspect.
const FIRING_AT_ONCE: usize = 5;
/// So many failed plans trip a policy,
const FAILURES: usize = 5;
/// within this span.
const FAILURES_WITHIN: Duration = Duration::from_secs(3_600);

/// How far a policy may go at the moment: its own mode, lowered by what was signed, by a breaker or after a restore.
pub fn effective_mode(state: &State, now: Timestamp, policy: &Policy) -> Mode {
    let breaker = state.breakers.get(&policy.name).map_or(Mode::Enforce, |breaker| breaker.lowers_to);
    let restored = if state.meta.observe_only.is_some() { Mode::Observe } else { Mode::Enforce };
    policy.mode.min(breaker).min(restored).min(trust::signed_mode(state, now, policy).0)
}

/// Looks at a policy after one of its alerts fired or was resolved.
pub(crate) fn after_change(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target) {
    let name = &compiled.policy.name;
    if let Some(alert) = turn.state().alerts.get(&(name.clone(), target.clone()))
        && percent(lately(turn, compiled, alert).len()) >= FLAPPING_PERCENT
    {
        let changes = lately(turn, compiled, alert).len();
        let reason = format!("the alert on {target} flaps: it changed {changes} times lately");
        trip(turn, name, reason, Some(target));
    }
    let firing =
        turn.state().alerts.iter().filter(|(key, row)| key.0 == *name && row.state == AlertState::Firing).count();
    if firing >= FIRING_AT_ONCE {
        let targets = turn.view().targets(compiled).len();
        if firing * 3 > targets {
            trip(
                turn,
                name,
                format!("{firing} of {targets} targets fire at once: the probe is as suspect as the fleet"),
                None,
            );
        }
    }
}

/// Closes what only flapping opened once the alert on a target has calmed down; says when that can be at the earliest.
///
/// As Nagios does: from the upper threshold on an alert flaps, at the lower one it has calmed down, and between the two
/// it is what it was.
pub(crate) fn calm(turn: &mut Turn<'_>, policy: &FullName, target: &Target) -> Option<Timestamp> {
    let breaker = turn.state().breakers.get(policy).cloned().filter(|breaker| breaker.flapping.contains(target))?;
    let alert = turn.state().alerts.get(&(policy.clone(), target.clone())).cloned();
    if let (Some(compiled), Some(alert)) = (turn.policy(policy), alert) {
        let changes = lately(turn, &compiled, &alert);
        if percent(changes.len()) > CALM_PERCENT {
            let leaving = changes.iter().rev().enumerate().find(|(index, _)| percent(index + 1) > CALM_PERCENT);
            return leaving.map(|(_, at)| after(after(*at, span(&compiled)), INSTANT));
        }
    }
    let text = format!("the alert on {target} has calmed down");
    if breaker.flapping.len() > 1 {
        turn.draft.change::<BreakerRow>(policy, |row| row.flapping.retain(|other| other != target));
        turn.record(Entry::new("alertCalmed", Actor::Controller, text).id("policy", policy).id("target", target));
        return None;
    }
    turn.draft.remove::<BreakerRow>(policy);
    turn.record(
        Entry::new("breakerReset", Actor::Controller, format!("the breaker of {policy} closes by itself: {text}"))
            .id("policy", policy)
            .id("target", target),
    );
    turn.touch_live();
    None
}

/// The changes of an alert among its last states, oldest first; a state lasts one interval of the policy's slowest probe.
fn lately(turn: &Turn<'_>, compiled: &Compiled, alert: &AlertRow) -> Vec<Timestamp> {
    let since = before(turn.now, span(compiled));
    alert.changes.iter().copied().filter(|at| *at >= since).collect()
}

fn span(compiled: &Compiled) -> Duration {
    compiled.slowest().saturating_mul(STATES)
}

/// The share of changes among the last states.
fn percent(changes: usize) -> usize {
    changes * 100 / (STATES as usize - 1)
}

/// Looks at a policy after one of its plans failed.
pub(crate) fn after_failure(turn: &mut Turn<'_>, policy: &FullName) {
    let since = before(turn.now, FAILURES_WITHIN);
    let failures = failures_since(turn.state(), policy, since);
    if failures >= FAILURES {
        trip(turn, policy, format!("{failures} of its plans failed within an hour"), None);
    }
}

/// How many plans of a policy failed since a moment.
fn failures_since(state: &State, policy: &FullName, since: Timestamp) -> usize {
    let plans = state.plans.values().rev();
    plans
        .filter(|plan| {
            plan.policy.as_ref() == Some(policy)
                && plan.state == PlanState::Failed
                && plan.ended_at.is_some_and(|at| at >= since)
        })
        .count()
}

/// Opens the breaker, or adds to what keeps it open: a target that flaps, or a reason that only a person can judge.
fn trip(turn: &mut Turn<'_>, policy: &FullName, reason: String, flapping: Option<&Target>) {
    let open = turn.state().breakers.get(policy).cloned();
    let flapping: Vec<Target> = match (&open, flapping) {
        (None, target) => target.into_iter().cloned().collect(),
        (Some(open), Some(target)) if !open.flapping.is_empty() && !open.flapping.contains(target) => {
            open.flapping.iter().chain([target]).cloned().collect()
        }
        (Some(open), None) if !open.flapping.is_empty() => Vec::new(),
        _ => return,
    };
    let since = open.map_or(turn.now, |open| open.since);
    let entry =
        Entry::new("breakerTripped", by_policy(policy), format!("{policy} only proposes from now on: {reason}"))
            .id("policy", policy);
    let row = BreakerRow { policy: policy.clone(), reason, since, lowers_to: Mode::Propose, flapping };
    turn.draft.put(policy.clone(), row);
    turn.record(entry);
    turn.touch_live();
}
