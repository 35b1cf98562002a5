//! Limits: ceilings that are higher now, or gone.

use std::{collections::BTreeSet, time::Duration};

use super::{Found, calendar, selector};
use crate::{
    limits::{Budget, Limits},
    unit::duration_text,
};

/// Compares limits.
pub(super) fn compare(found: &mut Found, old: &Limits, new: &Limits) {
    match (&old.actions, &new.actions) {
        (Some(old), None) => found.note("actions", listed(old), "any"),
        (Some(old), Some(new)) if !new.is_subset(old) => found.note("actions", listed(old), listed(new)),
        _ => {}
    }
    match (&old.hosts, &new.hosts) {
        (Some(old), None) => found.note("hosts", selector(old), "any"),
        (Some(old), Some(new)) => found.widens("hosts", old, new),
        _ => {}
    }
    highest(found, "mode", old.mode, new.mode);
    for consent in &old.approvals {
        for action in &consent.actions {
            let is_asked = new
                .approvals
                .iter()
                .any(|now| now.actions.contains(action) && now.role == consent.role && now.count >= consent.count);
            if !is_asked {
                found.note(&format!("approvals.{action}"), format!("{} of {}", consent.count, consent.role), "fewer");
            }
        }
    }
    match (&old.calendar, &new.calendar) {
        (Some(_), None) => found.note("calendar", "hours", "always"),
        (Some(old), Some(new)) => found.inside("calendar", |found| calendar::compare(found, old, new)),
        _ => {}
    }
    if let Some(old) = old.cooldown {
        found.shortens("cooldown", old, new.cooldown.unwrap_or_default());
    }
    found.inside("budget", |found| budget(found, old.budget, new.budget));
    found.inside("disturb", |found| {
        highest(found, "hosts", old.disturb.hosts, new.disturb.hosts);
        highest(found, "percent", old.disturb.percent, new.disturb.percent);
    });
    highest(found, "wave", old.wave, new.wave);
}

/// Limits that are gone.
pub(super) fn removed(found: &mut Found, old: &Limits) {
    found.note("limits", old.description.clone(), "removed");
}

/// A number of which more, or none, lets more through.
fn highest<T: PartialOrd + ToString + Copy>(found: &mut Found, field: &str, old: Option<T>, new: Option<T>) {
    match (old, new) {
        (Some(old), None) => found.note(field, old.to_string(), "any"),
        (Some(old), Some(new)) => found.rises(field, old, new),
        _ => {}
    }
}

fn budget(found: &mut Found, old: Option<Budget>, new: Option<Budget>) {
    let Some(old) = old else { return };
    highest(found, "perHost", old.per_host, new.and_then(|new| new.per_host));
    highest(found, "perNamespace", old.per_namespace, new.and_then(|new| new.per_namespace));
    let within = new.map_or(Duration::ZERO, |new| new.within);
    if within < old.within {
        found.note("within", duration_text(old.within), duration_text(within));
    }
}

fn listed(actions: &BTreeSet<String>) -> String {
    actions.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
