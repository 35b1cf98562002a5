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
    input::{ForeignAlert, Refusal, Reply},
    request::who,
    scope::View,
    state::{ExternalAlert, ExternalRow},
    turn::{Subject, Turn},
    windows::{Compiled, after},
};

/// Alerts that are kept for a policy on a target; of more, those told of last.
const MOST_KEPT: usize = 64;
/// Targets of policies that one message may concern.
const MOST_CONCERNED: usize = 1_000;
/// A repetition is written down when so many parts of the rule's `stale` have passed: one that comes every second changes
/// nothing.
const REFRESH: u32 = 4;

/// Takes in what another system says. What concerns no policy is nobody's, and the answer counts it.
///
/// # Errors
/// It concerns more than is taken in at once.
pub(crate) fn take(turn: &mut Turn<'_>, actor: &Actor, alerts: &[ForeignAlert]) -> Result<Reply, Refusal> {
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
    if told.len() > MOST_CONCERNED {
        let found = told.len();
        let why = format!("it concerns {found} targets of policies, and at most {MOST_CONCERNED} are taken in at once");
        return Err(Refusal::Invalid(format!("{why}: let Alertmanager group its alerts (`group_by`)")));
    }
    let of = u32::try_from(alerts.len()).unwrap_or(u32::MAX);
    let mut changed = Vec::new();
    for (key, alerts) in told {
        if take_on(turn, &key, &alerts) {
            changed.push(format!("{} {}", key.0, key.1));
            turn.touch(Subject::Alert(key.0, key.1));
        }
    }
    if !changed.is_empty() || unplaced > 0 {
        let mut text = format!("{source} tells of {of} alerts, of which {concerning} concern a policy");
        if unplaced > 0 {
            text.push_str(&format!("; {unplaced} times no host that the policy means was named"));
        }
        turn.record(Entry::new("alertsTold", actor.clone(), text).data(serde_json::json!({ "about": changed })));
    }
    Ok(Reply::Told { of, concerning, unplaced })
}

/// Takes in what is said of a policy on a target, and whether that is news.
fn take_on(turn: &mut Turn<'_>, key: &(FullName, Target), alerts: &[&ForeignAlert]) -> bool {
    let Some(compiled) = turn.policy(&key.0) else { return false };
    let Some(rule) = &compiled.policy.alert else { return false };
    let before = turn.state().externals.get(key).map(|row| ExternalRow::clone(row)).unwrap_or_default();
    let mut row = before.clone();
    for one in alerts {
        take_one(&mut row, rule, one, turn.now);
    }
    row.overflowed_at = row.overflowed_at.filter(|at| after(*at, rule.stale) > turn.now);
    if row == before {
        return false;
    }
    if row == ExternalRow::default() {
        turn.draft.remove::<ExternalRow>(key);
    } else {
        turn.draft.put(key.clone(), row);
    }
    true
}

fn take_one(row: &mut ExternalRow, rule: &AlertRule, one: &ForeignAlert, now: Timestamp) {
    if !one.fires {
        row.firing.remove(&one.fingerprint);
        return;
    }
    let known = row.firing.get(&one.fingerprint);
    if known.is_some_and(|known| {
        fits(rule, &known.source, &known.labels) && now < after(known.told_at, rule.stale / REFRESH)
    }) {
        return;
    }
    let since = known.map_or(now, |known| known.since);
    // What the rule asks about, and no more: an alert has labels without end.
    let labels = rule.matches.clone();
    let alert = ExternalAlert { source: rule.source.clone(), labels, since, told_at: now };
    row.firing.insert(one.fingerprint.clone(), alert);
    while row.firing.len() > MOST_KEPT {
        let oldest = row.firing.iter().min_by_key(|(_, alert)| alert.told_at).map(|(name, _)| name.clone());
        oldest.and_then(|name| row.firing.remove(&name));
        row.overflowed_at = Some(now);
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

/// Whether the alert that a policy asks for fires on a target. What another system says is no sample that was taken after
/// a moment: where only such count, nobody knows.
pub(crate) fn truth(view: View<'_>, compiled: &Compiled, target: &Target, after: Option<Timestamp>) -> Truth {
    let (Some(rule), None) = (&compiled.policy.alert, after) else { return Truth::Unknown };
    let Some(row) = row(view, compiled, target) else { return Truth::False };
    let is_meant = |alert: &&ExternalAlert| fits(rule, &alert.source, &alert.labels);
    let is_fresh = |alert: &ExternalAlert| stale_at(rule, alert.told_at) > view.now;
    if row.firing.values().filter(is_meant).any(is_fresh) {
        return Truth::True;
    }
    // What an older rule of the policy asked for says nothing about this one, until its source had the time to say more.
    let is_open = row.firing.values().any(|alert| is_meant(&alert) || is_fresh(alert));
    let overflows = row.overflowed_at.is_some_and(|at| stale_at(rule, at) > view.now);
    if is_open || overflows { Truth::Unknown } else { Truth::False }
}

/// When what was told is stale, and means something else.
pub(crate) fn stale_from(view: View<'_>, compiled: &Compiled, target: &Target) -> Option<Timestamp> {
    let rule = compiled.policy.alert.as_ref()?;
    let row = row(view, compiled, target)?;
    let told = row.firing.values().map(|alert| alert.told_at).chain(row.overflowed_at);
    told.map(|at| stale_at(rule, at)).filter(|due| *due > view.now).min()
}

fn row<'v>(view: View<'v>, compiled: &Compiled, target: &Target) -> Option<&'v ExternalRow> {
    view.state.externals.get(&(compiled.policy.name.clone(), target.clone())).map(AsRef::as_ref)
}

fn stale_at(rule: &AlertRule, told_at: Timestamp) -> Timestamp {
    after(told_at, rule.stale)
}
