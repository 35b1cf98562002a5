//! A policy's verdict on a target, recorded when it changes together with what `why` answers at that moment, so that it
//! can be answered for the past.

use quell_model::{name::Target, policy::Mode, value::Truth};

use crate::{
    breaker,
    draft::Entry,
    explain::Recorded,
    scope::View,
    state::{AlertState, Hold, PlanState, Verdict, VerdictRow},
    turn::{Turn, by_policy},
    windows::Compiled,
};

/// A verdict with the first "no".
pub(crate) fn judge(view: View<'_>, compiled: &Compiled, target: &Target, truth: Truth) -> (Verdict, Option<Hold>) {
    let key = (compiled.policy.name.clone(), target.clone());
    let alert = view.state.alerts.get(&key);
    let incident = match alert.map(|alert| (alert.state, alert.incident)) {
        Some((AlertState::Firing, Some(incident))) => view.state.incidents.get(&incident),
        Some((AlertState::Pending, _)) => return (Verdict::Pending, None),
        _ if truth == Truth::Unknown => return (Verdict::Unknown, None),
        _ => return (Verdict::NotFiring, None),
    };
    let Some(incident) = incident else { return (Verdict::NotFiring, None) };
    let plan =
        incident.plans.iter().rev().filter_map(|id| view.state.plans.get(id)).find(|plan| !plan.state.has_ended());
    match plan.map(|plan| (plan.state, plan.hold.clone())) {
        Some((PlanState::Proposed, hold)) => (Verdict::AwaitingApproval, hold),
        Some((PlanState::Held | PlanState::Previewing, hold)) => (Verdict::Held, hold),
        // Between two waves.
        Some((PlanState::Running, Some(hold))) => (Verdict::Held, Some(hold)),
        Some(_) => (Verdict::Fired, None),
        None if breaker::effective_mode(view.state, view.now, &compiled.policy) == Mode::Observe
            || compiled.policy.ladder.is_empty() =>
        {
            (Verdict::ObserveOnly, incident.hold.clone())
        }
        None if incident.hold.is_some() => (Verdict::Held, incident.hold.clone()),
        None => (Verdict::Fired, None),
    }
}

/// Records the verdict when it is another than before.
pub(crate) fn update(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target, truth: Truth) {
    let key = (compiled.policy.name.clone(), target.clone());
    let (verdict, first_no) = judge(turn.view(), compiled, target, truth);
    let old = turn.state().verdicts.get(&key).cloned();
    // What has never been known is no news, and neither is that nothing is known yet right after a start.
    if verdict == Verdict::Unknown && (old.is_none() || turn.windows.is_warming_up(turn.now)) {
        return;
    }
    let guard = |hold: &Option<Hold>| hold.as_ref().map(|hold| hold.guard.clone());
    if old.as_ref().is_some_and(|old| old.verdict == verdict && guard(&old.first_no) == guard(&first_no)) {
        return;
    }
    let notes = crate::scope::Notes::default();
    let signals = {
        let site = turn.view().site(compiled, target, &notes);
        let names = compiled.policy.signals.keys();
        names.map(|name| (name.clone(), quell_model::condition::Scope::signal(&site, name))).collect()
    };
    let text = match &first_no {
        Some(hold) => format!("{} on {target}: {}, {}: {}", key.0, word(verdict), hold.guard, hold.reason),
        None => format!("{} on {target}: {}", key.0, word(verdict)),
    };
    let row = VerdictRow { verdict, since: turn.now, first_no, signals };
    turn.draft.put(key.clone(), row.clone());
    let recorded = Recorded::of(turn.view(), compiled, target, row, old.map(|old| old.since));
    let data = serde_json::json!(recorded);
    turn.record(
        Entry::new("verdictChanged", by_policy(&key.0), text).id("policy", &key.0).id("target", target).data(data),
    );
}

/// How a verdict reads.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Fired => "acting",
        Verdict::Held => "held",
        Verdict::Pending => "pending",
        Verdict::NotFiring => "not firing",
        Verdict::Unknown => "unknown",
        Verdict::ObserveOnly => "observed only",
        Verdict::AwaitingApproval => "waiting for an approval",
    }
}
