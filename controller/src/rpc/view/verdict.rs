//! Verdicts: what the engine makes of a policy on a target, for people.

use quell_engine::{
    Explanation,
    explain::{GuardVerdict, SignalSeen},
    input::Saw,
    state::{Hold, VerdictRow},
};
use quell_model::name::{FullName, Target};
use quell_wire::v1::{GuardView, SignalView, VerdictView};

use super::{time, word};

/// Name under which the trigger itself is shown beside the signals, when it is not one of them.
const TRIGGER: &str = "(trigger)";

/// One explanation.
pub fn verdict(explanation: &Explanation) -> VerdictView {
    let mut signals: Vec<SignalView> = explanation.signals.iter().map(signal).collect();
    if signals.is_empty() || !explanation.saw.is_empty() {
        signals.push(SignalView {
            name: TRIGGER.to_owned(),
            value: explanation.truth.to_string(),
            expression: explanation.condition.clone(),
            quorum: String::new(),
            saw: explanation.saw.iter().map(saw).collect(),
            since: None,
        });
    }
    VerdictView {
        policy: explanation.policy.to_string(),
        target: explanation.target.to_string(),
        verdict: word(explanation.verdict),
        summary: explanation.summary.clone(),
        first_no: explanation.first_no.as_ref().map(no),
        guards: explanation.guards.iter().map(guard).collect(),
        signals,
        condition: explanation.condition.clone(),
        since: explanation.since.map(time),
        incident: explanation.incident.map(|id| id.to_string()),
        plan: explanation.plan.map(|id| id.to_string()),
        past: None,
    }
}

/// A verdict of which only the row is known: what was seen and what the guards said is not.
pub fn verdict_of_row(policy: &FullName, target: &Target, row: &VerdictRow) -> VerdictView {
    let signals = row.signals.iter().map(|(name, truth)| SignalView {
        name: name.clone(),
        value: truth.to_string(),
        ..SignalView::default()
    });
    VerdictView {
        policy: policy.to_string(),
        target: target.to_string(),
        verdict: word(row.verdict),
        summary: row.first_no.as_ref().map(|no| no.reason.clone()).unwrap_or_default(),
        first_no: row.first_no.as_ref().map(no),
        signals: signals.collect(),
        since: Some(time(row.since)),
        ..VerdictView::default()
    }
}

fn no(hold: &Hold) -> GuardView {
    GuardView { guard: hold.guard.clone(), allows: false, reason: hold.reason.clone(), until: hold.until.map(time) }
}

fn guard(verdict: &GuardVerdict) -> GuardView {
    GuardView {
        guard: verdict.guard.clone(),
        allows: verdict.allows,
        reason: verdict.reason.clone(),
        until: verdict.until.map(time),
    }
}

fn signal(seen: &SignalSeen) -> SignalView {
    SignalView {
        name: seen.name.clone(),
        value: seen.value.to_string(),
        expression: seen.expression.clone(),
        quorum: seen.quorum.map(|quorum| format!("{} of {}", quorum.of, quorum.among)).unwrap_or_default(),
        saw: seen.saw.iter().map(saw).collect(),
        since: None,
    }
}

/// `planthost1 probe.dns1.failures = 3`.
fn saw(saw: &Saw) -> String {
    let value = saw.value.as_ref().map_or_else(|| "missing or stale".to_owned(), ToString::to_string);
    format!("{} {} = {value}", saw.host, saw.name)
}
