//! Alerts: a policy's trigger on a target, over time.
//!
//! Unknown neither fires nor resolves. Pending keeps its `since` through unknown; firing needs a fresh *true* at or
//! after `since` plus `for`; only a known clearing ends it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use quell_model::{
    name::{FullName, HostName, Target},
    policy::{TargetRule, Trigger},
    probe::ProbeKey,
    value::Truth,
};

use crate::{
    Effect, breaker,
    draft::Entry,
    external, fault, incident,
    scope::{Notes, View},
    state::{AlertRow, AlertState, ExternalRow, VerdictRow},
    turn::{Subject, Turn, by_policy},
    verdict,
    windows::{Compiled, after},
};

/// So many changes between firing and not are remembered.
const CHANGES_KEPT: usize = 21;

/// Looks at a policy's trigger on a target.
pub(crate) fn reconcile(turn: &mut Turn<'_>, policy: &FullName, target: &Target) -> Option<Timestamp> {
    let Some(compiled) = turn.policy(policy) else {
        drop_alert(turn, policy, target, "the policy was removed");
        return None;
    };
    let Trigger::When { when, hold_for, clear } = &compiled.policy.trigger else {
        drop_alert(turn, policy, target, "the policy has a timetable now");
        return None;
    };
    if !covers(&compiled, target) {
        drop_alert(turn, policy, target, "the policy does not cover it any more");
        return None;
    }
    let notes = Notes::default();
    let (truth, cleared) = {
        let site = turn.view().site(&compiled, target, &notes);
        let truth = site.judge(when);
        let cleared = match clear {
            Some(clear) if truth != Truth::True => site.judge(clear),
            Some(_) => Truth::False,
            None => !truth,
        };
        (truth, cleared)
    };
    fault::note(turn, &compiled, target, notes.fault.into_inner());
    let due = advance(turn, &compiled, target, truth, cleared, *hold_for);
    if let Some(incident) = incident_of(turn, policy, target) {
        touch_incident(turn, incident);
    }
    verdict::update(turn, &compiled, target, truth);
    let calm = breaker::calm(turn, policy, target);
    let stale = external::stale_from(turn.view(), &compiled, target);
    due.into_iter().chain(calm).chain(stale).min()
}

fn incident_of(turn: &Turn<'_>, policy: &FullName, target: &Target) -> Option<crate::id::IncidentId> {
    // Of what is not open nothing waits.
    if turn.state().live.incidents.is_empty() {
        return None;
    }
    turn.state().alerts.get(&(policy.clone(), target.clone()))?.incident
}

/// Touches an incident and its plans that are under way.
pub(crate) fn touch_incident(turn: &mut Turn<'_>, incident: crate::id::IncidentId) {
    let Some(row) = turn.state().incidents.get(&incident).cloned() else { return };
    if row.is_open() {
        turn.touch(Subject::Incident(incident));
        for plan in &row.plans {
            if turn.state().live.plans.contains(plan) {
                turn.touch(Subject::Plan(*plan));
            }
        }
    }
}

/// Whether a policy judges a target at all.
pub(crate) fn covers(compiled: &Compiled, target: &Target) -> bool {
    match (&compiled.policy.target, target) {
        (TargetRule::Fleet, Target::Fleet) => true,
        (TargetRule::Host, Target::Host(host)) | (TargetRule::Each { .. }, Target::Element(host, _)) => {
            compiled.observers.contains(host)
        }
        _ => false,
    }
}

/// Moves the alert on; says when it is due to fire.
fn advance(
    turn: &mut Turn<'_>,
    compiled: &Compiled,
    target: &Target,
    truth: Truth,
    cleared: Truth,
    hold_for: std::time::Duration,
) -> Option<Timestamp> {
    let key = (compiled.policy.name.clone(), target.clone());
    let alert = turn.state().alerts.get(&key).cloned();
    match alert.as_ref().map(|alert| (alert.state, alert.since)) {
        Some((AlertState::Firing, _)) => {
            if cleared.holds() {
                resolve(turn, compiled, target, "the symptom is gone");
            }
            None
        }
        Some((AlertState::Pending, since)) => match truth {
            Truth::True if turn.now >= after(since, hold_for) => {
                fire(turn, compiled, target);
                None
            }
            Truth::False => {
                let entry = entry("alertEnded", compiled, target, "did not last long enough to fire");
                forget_pending(turn, &key, entry);
                None
            }
            _ => Some(after(since, hold_for)).filter(|due| *due > turn.now),
        },
        Some((AlertState::Resolved, _)) | None => {
            if !truth.holds() {
                return None;
            }
            let changes = alert.map(|alert| alert.changes.clone()).unwrap_or_default();
            turn.draft.put(
                key.clone(),
                AlertRow {
                    policy: key.0,
                    target: key.1,
                    state: AlertState::Pending,
                    since: turn.now,
                    firing_since: None,
                    resolved_at: None,
                    incident: None,
                    changes,
                },
            );
            if hold_for.is_zero() {
                fire(turn, compiled, target);
                return None;
            }
            let entry = entry("alertPending", compiled, target, "is seen; it fires if it lasts");
            turn.record(entry);
            Some(after(turn.now, hold_for))
        }
    }
}

fn entry(kind: &'static str, compiled: &Compiled, target: &Target, what: &str) -> Entry {
    let policy = &compiled.policy;
    Entry::new(kind, by_policy(&policy.name), format!("{} on {target}: {what}", policy.name))
        .id("policy", &policy.name)
        .id("target", target)
}

/// What the trigger saw, for the record.
fn seen(view: View<'_>, compiled: &Compiled, target: &Target) -> serde_json::Value {
    let notes = Notes::seeing();
    if let Trigger::When { when, .. } = &compiled.policy.trigger {
        view.site(compiled, target, &notes).judge(when);
    }
    let saw = notes.saw.map(std::cell::RefCell::into_inner).unwrap_or_default();
    serde_json::json!({ "saw": saw })
}

fn fire(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target) {
    let data = seen(turn.view(), compiled, target);
    let key = (compiled.policy.name.clone(), target.clone());
    let now = turn.now;
    turn.draft.change::<AlertRow>(&key, |alert| {
        alert.state = AlertState::Firing;
        alert.firing_since = Some(now);
        alert.resolved_at = None;
        push_change(&mut alert.changes, now);
    });
    let text = format!("fires: {}", compiled.policy.description);
    turn.record(entry("alertFiring", compiled, target, &text).data(data));
    let incident = incident::join(turn, compiled, target);
    turn.draft.change::<AlertRow>(&key, |alert| alert.incident = Some(incident));
    turn.touch(Subject::Incident(incident));
    breaker::after_change(turn, compiled, target);
    look_closer(turn, compiled, target);
}

/// Asks for fresh samples of what messages and rungs go by: probes have intervals of their own, and what one of them
/// saw before the fault says nothing about it.
fn look_closer(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target) {
    let policy = &compiled.policy;
    let conditions = policy.tell.iter().filter_map(|tell| tell.when.as_ref());
    let conditions = conditions.chain(policy.ladder.iter().filter_map(|rung| rung.only_if.as_ref()));
    let names: BTreeSet<String> = conditions.flat_map(|condition| compiled.reads(condition)).collect();
    let mut wanted: BTreeMap<HostName, Vec<ProbeKey>> = BTreeMap::new();
    let notes = Notes::default();
    for source in names.iter().filter_map(|name| compiled.probes.get(name)) {
        for host in turn.view().site(compiled, target, &notes).hosts_of(source) {
            wanted.entry(host).or_default().push(source.key.clone());
        }
    }
    for (host, keys) in wanted {
        turn.effect(Effect::ProbeNow { host, keys });
    }
}

fn push_change(changes: &mut Vec<Timestamp>, now: Timestamp) {
    changes.push(now);
    if changes.len() > CHANGES_KEPT {
        changes.remove(0);
    }
}

/// Ends a firing alert.
fn resolve(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target, why: &str) {
    let key = (compiled.policy.name.clone(), target.clone());
    let data = seen(turn.view(), compiled, target);
    close(turn, &key);
    turn.record(entry("alertResolved", compiled, target, why).data(data));
    breaker::after_change(turn, compiled, target);
}

fn close(turn: &mut Turn<'_>, key: &(FullName, Target)) {
    let now = turn.now;
    turn.draft.change::<AlertRow>(key, |alert| {
        alert.state = AlertState::Resolved;
        alert.resolved_at = Some(now);
        push_change(&mut alert.changes, now);
    });
}

/// A pending alert that ends leaves nothing behind but the memory of its changes.
fn forget_pending(turn: &mut Turn<'_>, key: &(FullName, Target), entry: Entry) {
    let now = turn.now;
    if turn.state().alerts.get(key).is_some_and(|alert| alert.changes.is_empty()) {
        turn.draft.remove::<AlertRow>(key);
    } else {
        turn.draft.change::<AlertRow>(key, |alert| {
            alert.state = AlertState::Resolved;
            alert.resolved_at = Some(now);
        });
    }
    turn.record(entry);
}

/// Ends an alert of which nobody judges any more whether it holds.
pub(crate) fn drop_alert(turn: &mut Turn<'_>, policy: &FullName, target: &Target, why: &str) {
    let key = (policy.clone(), target.clone());
    let alert = turn.state().alerts.get(&key).cloned();
    turn.draft.remove::<VerdictRow>(&key);
    turn.draft.remove::<ExternalRow>(&key);
    if let Some(alert) = alert {
        turn.draft.remove::<AlertRow>(&key);
        turn.record(
            Entry::new(
                "alertDropped",
                crate::Actor::Controller,
                format!("{policy} on {target} is judged no more: {why}"),
            )
            .id("policy", policy)
            .id("target", target),
        );
        breaker::calm(turn, policy, target);
        if let Some(incident) = alert.incident {
            touch_incident(turn, incident);
        }
    }
}
