//! Rungs, by their names: what is done, where, how often, how fast, and who is asked.

use super::Found;
use crate::{
    policy::{ApprovalRule, Mode, Once, Policy, Rollout, Rung, Step},
    selector::Placement,
    unit::duration_text,
};

/// Compares ladders.
pub(super) fn compare(found: &mut Found, old: &Policy, new: &Policy) {
    // What is proposed without a rule of its own takes a signed approval of any operator.
    let was_proposed = old.mode == Mode::Propose;
    for new in &new.ladder {
        match old.ladder.iter().find(|old| old.name == new.name) {
            Some(old) => found.inside(&new.name, |found| rung(found, old, new, was_proposed)),
            None => {
                let actions: Vec<&str> = new.steps.iter().map(|step| step.action.as_str()).collect();
                found.note(&new.name, "no such rung", actions.join(", "));
            }
        }
    }
}

fn rung(found: &mut Found, old: &Rung, new: &Rung, was_proposed: bool) {
    removed(found, "if", old.only_if.is_some(), new.only_if.is_some());
    found.shortens("after", old.after.unwrap_or_default(), new.after.unwrap_or_default());
    if old.after.is_some() && new.after.is_some() && old.unless.is_none() && new.unless.is_some() {
        found.note("unless", "waits for `after` in any case", "may not wait");
    }
    for old in &old.require {
        if !new.require.iter().any(|new| new.that.text() == old.that.text()) {
            found.note("require", old.that.text().to_owned(), "none, or another");
        }
    }
    placement(found, "on", old.on.as_ref(), new.on.as_ref());
    steps(found, "do", &old.steps, &new.steps);
    steps(found, "finally", &old.finally, &new.finally);
    found.inside("rollout", |found| rollout(found, &old.rollout, &new.rollout));
    found.inside("approval", |found| {
        let was_signed = old.approval.as_ref().map_or(was_proposed, |rule| rule.signed);
        if was_signed && new.approval.as_ref().is_some_and(|rule| !rule.signed) {
            found.note("signed", "hosts count signatures", "hosts take the controller's word");
        }
        approval(found, old.approval.as_ref(), new.approval.as_ref());
    });
    match (&old.verify, &new.verify) {
        (Some(old), None) => found.note("verify", old.that.text().to_owned(), "none"),
        (Some(old), Some(new)) => {
            found.shortens("verify.stable", old.stable, new.stable);
            found.lengthens("verify.within", old.within, new.within);
        }
        _ => {}
    }
}

fn removed(found: &mut Found, field: &str, old: bool, new: bool) {
    if old && !new {
        found.note(field, "a condition", "none");
    }
}

/// Where something runs. Without a placement it runs on the target itself, which is one host.
fn placement(found: &mut Found, field: &str, old: Option<&Placement>, new: Option<&Placement>) {
    match (old, new) {
        (Some(old), Some(new)) => {
            found.widens(field, &old.selector, &new.selector);
            let most = |placement: &Placement| placement.pick.unwrap_or(u32::MAX);
            if most(new) > most(old) {
                let shown = |pick: Option<u32>| pick.map_or_else(|| "all".to_owned(), |pick| pick.to_string());
                found.note(&format!("{field}.pick"), shown(old.pick), shown(new.pick));
            }
        }
        (None, Some(new)) => found.note(field, "the target", super::selector(&new.selector)),
        _ => {}
    }
}

/// Steps are compared by their place among those of the same action.
fn steps(found: &mut Found, field: &str, old: &[Step], new: &[Step]) {
    for (index, step) in new.iter().enumerate() {
        let earlier = new[..index].iter().filter(|other| other.action == step.action).count();
        match old.iter().filter(|other| other.action == step.action).nth(earlier) {
            None => found.note(field, "not done", step.action.clone()),
            Some(before) => found.inside(&format!("{field}[{index}]"), |found| self::step(found, before, step)),
        }
    }
}

fn step(found: &mut Found, old: &Step, new: &Step) {
    placement(found, "on", old.on.as_ref(), new.on.as_ref());
    found.lengthens("timeout", old.timeout, new.timeout);
    match (&old.once, &new.once) {
        (Some(_), None) => found.note("once", once(old.once.as_ref()), "as often as the guards let it"),
        (Some(Once::Incident), Some(Once::Key { .. })) => {
            found.note("once", once(old.once.as_ref()), once(new.once.as_ref()));
        }
        (Some(Once::Key { within: old, .. }), Some(Once::Key { within: new, .. })) => {
            found.shortens("once.in", *old, *new);
        }
        _ => {}
    }
}

fn once(once: Option<&Once>) -> String {
    match once {
        None => "none".to_owned(),
        Some(Once::Incident) => "in an incident".to_owned(),
        Some(Once::Key { key, within }) => format!("for each {} in {}", key.text(), duration_text(*within)),
    }
}

fn rollout(found: &mut Found, old: &Rollout, new: &Rollout) {
    let size = |waves: &[u32], wave: usize| waves.get(wave).or(waves.last()).copied().unwrap_or_default();
    let longest = old.waves.len().max(new.waves.len());
    if (0..longest).any(|wave| size(&new.waves, wave) > size(&old.waves, wave)) {
        let shown = |waves: &[u32]| waves.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        found.note("waves", shown(&old.waves), shown(&new.waves));
    }
    found.shortens("settle", old.settle, new.settle);
    found.rises("maxErrors", old.max_errors, new.max_errors);
}

fn approval(found: &mut Found, old: Option<&ApprovalRule>, new: Option<&ApprovalRule>) {
    let Some(old) = old else { return };
    let asked = |rule: &ApprovalRule| match &rule.only_if {
        Some(condition) => format!("{} of {}, if {}", rule.count, rule.role, condition.text()),
        None => format!("{} of {}", rule.count, rule.role),
    };
    let Some(new) = new else { return found.note("role", asked(old), "nobody is asked") };
    found.replaced("role", Some(&old.role), Some(&new.role));
    if new.count < old.count {
        found.note("count", old.count.to_string(), new.count.to_string());
    }
    for choice in new.choices.iter().filter(|choice| choice.runs()) {
        let before = old.choices.iter().find(|other| other.name == choice.name && !other.runs());
        if let Some(before) = before {
            found.note(&format!("choices.{}", choice.name), before.does.to_string(), choice.does.to_string());
        }
    }
    match (&old.only_if, &new.only_if) {
        (None, Some(condition)) => found.note("if", "always", condition.text().to_owned()),
        (Some(old), Some(new)) if old.text() != new.text() => {
            found.note("if", old.text().to_owned(), new.text().to_owned());
        }
        _ => {}
    }
    found.lengthens("expires", old.expires, new.expires);
}
