//! What trips a policy to *propose*: an alert that flaps, too many targets firing at once, too many plans that failed.
//!
//! A fleet-wide simultaneous alarm is more often a broken probe than a broken fleet. A breaker stops new risk, never
//! recovery, and stays open until a person resets it.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{
    name::{FullName, Target},
    policy::{Mode, Policy},
};

use crate::{
    draft::Entry,
    state::{AlertRow, AlertState, BreakerRow, PlanState, State},
    turn::{Turn, by_policy},
    windows::{Compiled, before},
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

/// How far a policy may go at the moment: its own mode, lowered by a breaker or after a restore.
pub(crate) fn effective_mode(state: &State, policy: &Policy) -> Mode {
    let breaker = state.breakers.get(&policy.name).map_or(Mode::Enforce, |breaker| breaker.lowers_to);
    let restored = if state.meta.observe_only.is_some() { Mode::Observe } else { Mode::Enforce };
    policy.mode.min(breaker).min(restored)
}

/// Looks at a policy after one of its alerts fired or was resolved.
pub(crate) fn after_change(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target) {
    let name = &compiled.policy.name;
    if let Some(alert) = turn.state().alerts.get(&(name.clone(), target.clone()))
        && flaps(alert, compiled, turn)
    {
        let reason = format!("the alert on {target} flaps: it changed {} times lately", alert.changes.len());
        trip(turn, name, reason);
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
            );
        }
    }
}

/// Whether an alert changed too often among its last states; a state lasts one interval of the policy's slowest probe.
fn flaps(alert: &AlertRow, compiled: &Compiled, turn: &Turn<'_>) -> bool {
    let slowest = compiled.slowest(&turn.windows.index);
    let since = before(turn.now, slowest.saturating_mul(STATES));
    let changes = alert.changes.iter().filter(|at| **at >= since).count();
    let percent = changes * 100 / (STATES as usize - 1);
    // Having flapped, an alert must calm down before it can trip the policy again.
    let was_flapping = alert.changes.len() > changes && percent > CALM_PERCENT && percent < FLAPPING_PERCENT;
    percent >= FLAPPING_PERCENT && !was_flapping
}

/// Looks at a policy after one of its plans failed.
pub(crate) fn after_failure(turn: &mut Turn<'_>, policy: &FullName) {
    let since = before(turn.now, FAILURES_WITHIN);
    let failures = failures_since(turn.state(), policy, since);
    if failures >= FAILURES {
        trip(turn, policy, format!("{failures} of its plans failed within an hour"));
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

/// Opens the breaker, unless it is open.
pub(crate) fn trip(turn: &mut Turn<'_>, policy: &FullName, reason: String) {
    if turn.state().breakers.contains_key(policy) {
        return;
    }
    let since = turn.now;
    let entry =
        Entry::new("breakerTripped", by_policy(policy), format!("{policy} only proposes from now on: {reason}"))
            .id("policy", policy);
    turn.draft.put(policy.clone(), BreakerRow { policy: policy.clone(), reason, since, lowers_to: Mode::Propose });
    turn.record(entry);
    turn.touch_live();
}
