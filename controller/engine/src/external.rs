//! Alerts that other systems tell of: what they mean for policies whose trigger asks `alert.firing`.
//!
//! They are a symptom like any other, told by somebody who is known by a certificate and may do nothing else: what
//! follows is the policy's, by the same guards, ledger and signatures. An alert that was told of once and not again for
//! the rule's `stale` is unknown: it neither starts anything nor ends by that. It ends when the other system says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_model::{
    name::{FullName, Target},
    policy::{AlertRule, TargetRule},
    selector::Labels,
    value::Truth,
};

use crate::{
    Actor, alert,
    draft::Entry,
    input::{ForeignAlert, Reply},
    request::who,
    scope::View,
    state::{ExternalAlert, ExternalRow},
    turn::{Subject, Turn},
    windows::{Compiled, after},
};

/// Alerts that are remembered for a policy on a target: one is enough for it to fire, and more change nothing.
const MOST_KEPT: usize = 64;

/// Takes in what another system says. What concerns no policy is nobody's, and the answer counts it.
pub(crate) fn take(turn: &mut Turn<'_>, actor: &Actor, alerts: &[ForeignAlert]) -> Reply {
    let source = who(actor);
    let mut told: BTreeMap<(FullName, Target), Vec<&ForeignAlert>> = BTreeMap::new();
    let (mut concerning, mut unplaced) = (0, 0);
    for one in alerts {
        let policies = turn.windows.index.policies().filter(|compiled| is_meant(compiled, &source, &one.labels));
        let policies: Vec<_> = policies.cloned().collect();
        concerning += u32::from(!policies.is_empty());
        for compiled in policies {
            match target(&compiled, &one.labels) {
                Some(target) => told.entry((compiled.policy.name.clone(), target)).or_default().push(one),
                None => unplaced += 1,
            }
        }
    }
    let of = u32::try_from(alerts.len()).unwrap_or(u32::MAX);
    if concerning > 0 {
        let mut text = format!("{source} tells of {of} alerts, of which {concerning} concern a policy");
        if unplaced > 0 {
            text.push_str(&format!("; {unplaced} times no host that the policy means was named"));
        }
        let firing: Vec<_> = told.keys().map(|(policy, target)| format!("{policy} {target}")).collect();
        let data = serde_json::json!({ "about": firing });
        turn.record(Entry::new("alertsTold", actor.clone(), text).data(data));
    }
    for (key, alerts) in told {
        let Some(compiled) = turn.policy(&key.0) else { continue };
        let mut row = turn.state().externals.get(&key).map(|row| ExternalRow::clone(row)).unwrap_or_default();
        for one in alerts {
            take_one(&mut row, &compiled, one, turn.now);
        }
        if row.firing.is_empty() {
            turn.draft.remove::<ExternalRow>(&key);
        } else {
            turn.draft.put(key.clone(), row);
        }
        turn.touch(Subject::Alert(key.0, key.1));
    }
    Reply::Told { of, concerning, unplaced }
}

fn take_one(row: &mut ExternalRow, compiled: &Compiled, one: &ForeignAlert, now: Timestamp) {
    let Some(rule) = compiled.policy.alert.as_ref().filter(|_| one.fires) else {
        row.firing.remove(&one.fingerprint);
        return;
    };
    let since = row.firing.get(&one.fingerprint).map_or(now, |known| known.since);
    if row.firing.len() < MOST_KEPT || row.firing.contains_key(&one.fingerprint) {
        // What the rule asks about, and no more: an alert has labels without end.
        let labels = one.labels.iter().filter(|(label, _)| rule.matches.contains_key(*label));
        let labels = labels.map(|(label, value)| (label.clone(), value.clone())).collect();
        let alert = ExternalAlert { source: rule.source.clone(), labels, since, told_at: now };
        row.firing.insert(one.fingerprint.clone(), alert);
    }
}

/// Whether a policy asks for an alert with these labels from this source.
fn is_meant(compiled: &Compiled, source: &str, labels: &Labels) -> bool {
    compiled.policy.alert.as_ref().is_some_and(|rule| fits(rule, source, labels))
}

fn fits(rule: &AlertRule, source: &str, labels: &Labels) -> bool {
    rule.source == source
        && !rule.matches.is_empty()
        && rule.matches.iter().all(|(label, value)| labels.get(label) == Some(value))
}

/// The target that an alert with these labels is about.
fn target(compiled: &Compiled, labels: &Labels) -> Option<Target> {
    let target = match &compiled.policy.target {
        TargetRule::Fleet => Target::Fleet,
        TargetRule::Host => {
            let named = labels.get(compiled.policy.alert.as_ref()?.host_label.as_ref()?)?;
            let host =
                named.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(&**named, |it| it.0);
            Target::Host(host.parse().ok()?)
        }
        TargetRule::Each { .. } => return None,
    };
    alert::covers(compiled, &target).then_some(target)
}

/// Whether the alert that a policy asks for fires on a target; only what was told after a moment counts, when there is
/// one.
pub(crate) fn truth(view: View<'_>, compiled: &Compiled, target: &Target, after: Option<Timestamp>) -> Truth {
    let Some(rule) = &compiled.policy.alert else { return Truth::Unknown };
    let mut found = Truth::False;
    for alert in firing(view, compiled, target, rule) {
        let is_fresh = stale_at(rule, alert) > view.now && after.is_none_or(|after| alert.told_at > after);
        if is_fresh {
            return Truth::True;
        }
        found = Truth::Unknown;
    }
    found
}

/// When what was told of last is stale, and the alert unknown.
pub(crate) fn stale_from(view: View<'_>, compiled: &Compiled, target: &Target) -> Option<Timestamp> {
    let rule = compiled.policy.alert.as_ref()?;
    let last = firing(view, compiled, target, rule).map(|alert| stale_at(rule, alert)).max()?;
    Some(last).filter(|due| *due > view.now)
}

fn firing<'v>(
    view: View<'v>,
    compiled: &Compiled,
    target: &Target,
    rule: &'v AlertRule,
) -> impl Iterator<Item = &'v ExternalAlert> {
    let row = view.state.externals.get(&(compiled.policy.name.clone(), target.clone()));
    // The policy may ask for others by now.
    row.into_iter().flat_map(|row| row.firing.values()).filter(|alert| fits(rule, &alert.source, &alert.labels))
}

fn stale_at(rule: &AlertRule, alert: &ExternalAlert) -> Timestamp {
    after(alert.told_at, rule.stale)
}
