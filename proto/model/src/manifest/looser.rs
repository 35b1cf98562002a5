//! What becomes looser when one manifest takes another's place: what a reviewer must not overlook.
//!
//! Compared is all that bounds what may be done: modes, choices of hosts, ladders, approvals, guards, hours. Conditions
//! are programs, of which nobody can say in general which one lets more through: one that disappears is told, one that
//! is worded otherwise stands in the difference of the texts and not here.

mod calendar;
mod ladder;
mod limits;

use std::{fmt, time::Duration};

use crate::{
    policy::{AlertRule, Budget, Disturb, Guards, Manifest, Mode, Policy, Service, Trigger, Window},
    selector::{Labels, Selector},
    unit::duration_text,
};

/// One thing that a manifest bounds less than the one before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loosening {
    /// The field: `guards.cooldown`.
    pub field: String,
    /// What it said, for people.
    pub from: String,
    /// What it says.
    pub to: String,
}

impl fmt::Display for Loosening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} → {}", self.field, self.from, self.to)
    }
}

/// What `new` bounds less than `old`; absent is a manifest that was not there, or is removed.
pub fn looser(old: Option<&Manifest>, new: Option<&Manifest>) -> Vec<Loosening> {
    let mut found = Found::default();
    match (old, new) {
        (Some(Manifest::Policy(old)), Some(Manifest::Policy(new))) => policy(&mut found, old, new),
        (None, Some(Manifest::Policy(new))) if new.mode > Mode::Observe => {
            found.note("mode", "no policy", new.mode.to_string());
        }
        (Some(Manifest::Service(old)), Some(Manifest::Service(new))) => service(&mut found, old, new),
        (Some(Manifest::Service(old)), None) => removed_service(&mut found, old),
        (Some(Manifest::Calendar(old)), Some(Manifest::Calendar(new))) => calendar::compare(&mut found, old, new),
        (Some(Manifest::Window(old)), Some(Manifest::Window(new))) => window(&mut found, old, new),
        (Some(Manifest::Limits(old)), Some(Manifest::Limits(new))) => limits::compare(&mut found, old, new),
        (Some(Manifest::Limits(old)), None) => limits::removed(&mut found, old),
        (Some(Manifest::Window(old)), None) if old.suppress_act => {
            found.note("suppress", format!("no acts until {}", old.until), "removed");
        }
        _ => {}
    }
    found.loosenings
}

/// What has been found so far, and where it is looked.
#[derive(Debug, Default)]
struct Found {
    /// The beginning of fields: `ladder.restart.`.
    within: String,
    loosenings: Vec<Loosening>,
}

impl Found {
    fn note(&mut self, field: &str, from: impl Into<String>, to: impl Into<String>) {
        let field = format!("{}{field}", self.within);
        self.loosenings.push(Loosening { field, from: from.into(), to: to.into() });
    }

    /// Looks at what lies inside a field.
    fn inside(&mut self, field: &str, look: impl FnOnce(&mut Self)) {
        let outside = self.within.clone();
        self.within.push_str(field);
        self.within.push('.');
        look(self);
        self.within = outside;
    }

    /// A number of which more lets more through.
    fn rises<T: PartialOrd + ToString + Copy>(&mut self, field: &str, old: T, new: T) {
        if new > old {
            self.note(field, old.to_string(), new.to_string());
        }
    }

    /// A span of which a longer one lets more through.
    fn lengthens(&mut self, field: &str, old: Duration, new: Duration) {
        if new > old {
            self.note(field, duration_text(old), duration_text(new));
        }
    }

    /// A span of which a shorter one lets more through.
    fn shortens(&mut self, field: &str, old: Duration, new: Duration) {
        if new < old {
            self.note(field, duration_text(old), duration_text(new));
        }
    }

    /// Something by name that bounds: gone, or another one, of which nobody says here what it bounds.
    fn replaced<T: ToString + PartialEq>(&mut self, field: &str, old: Option<&T>, new: Option<&T>) {
        if let Some(old) = old
            && new != Some(old)
        {
            self.note(field, old.to_string(), new.map_or_else(|| "none".to_owned(), ToString::to_string));
        }
    }

    /// Hosts, of which more let more through.
    fn widens(&mut self, field: &str, old: &Selector, new: &Selector) {
        if !covers(old, new) {
            self.note(field, selector(old), selector(new));
        }
    }
}

/// Whether every host that `inner` can mean is one that `outer` means, whatever labels hosts have.
fn covers(outer: &Selector, inner: &Selector) -> bool {
    match (outer, inner) {
        (_, Selector::Nobody) | (Selector::All, _) => true,
        (Selector::Nobody, _) | (_, Selector::All) => false,
        (Selector::Labels(outer), Selector::Labels(inner)) => {
            outer.iter().all(|(key, value)| inner.get(key) == Some(value))
        }
    }
}

fn selector(selector: &Selector) -> String {
    match selector {
        Selector::Nobody => "nobody".to_owned(),
        Selector::All => "all".to_owned(),
        Selector::Labels(labels) => {
            let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            pairs.join(",")
        }
    }
}

fn policy(found: &mut Found, old: &Policy, new: &Policy) {
    found.rises("mode", old.mode, new.mode);
    found.widens("hosts", &old.hosts, &new.hosts);
    found.replaced("service", old.service.as_ref(), new.service.as_ref());
    trigger(found, &old.trigger, &new.trigger);
    alert(found, old.alert.as_ref(), new.alert.as_ref());
    signals(found, old, new);
    values(found, old, new);
    found.inside("ladder", |found| ladder::compare(found, old, new));
    found.inside("guards", |found| guards(found, &old.guards, &new.guards));
}

fn trigger(found: &mut Found, old: &Trigger, new: &Trigger) {
    match (old, new) {
        (Trigger::When { hold_for: old, .. }, Trigger::When { hold_for: new, .. }) => {
            found.shortens("trigger.for", *old, *new);
        }
        (Trigger::When { .. }, Trigger::Schedule(_)) => found.note("trigger", "a condition", "a timetable"),
        _ => {}
    }
}

fn alert(found: &mut Found, old: Option<&AlertRule>, new: Option<&AlertRule>) {
    match (old, new) {
        (Some(old), Some(new)) => found.inside("trigger.alert", |found| {
            found.replaced("source", Some(&old.source), Some(&new.source));
            if old.matches.iter().any(|(label, value)| new.matches.get(label) != Some(value)) {
                let shown = |labels: &Labels| {
                    labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(", ")
                };
                found.note("match", shown(&old.matches), shown(&new.matches));
            }
            found.replaced("target", old.host_label.as_ref(), new.host_label.as_ref());
            found.lengthens("stale", old.stale, new.stale);
        }),
        (None, Some(new)) => {
            found.note("trigger.alert", "what Quell sees by itself", format!("what {} says", new.source));
        }
        (_, None) => {}
    }
}

fn signals(found: &mut Found, old: &Policy, new: &Policy) {
    for (name, old) in &old.signals {
        let Some((new, quorum)) = new.signals.get(name).zip(old.quorum) else { continue };
        let is_looser = new.quorum.is_none_or(|new| new.of < quorum.of);
        if is_looser {
            let to = new.quorum.map_or_else(|| "none".to_owned(), |new| format!("{} of {}", new.of, new.among));
            found.note(&format!("signals.{name}.quorum"), format!("{} of {}", quorum.of, quorum.among), to);
        }
    }
}

fn values(found: &mut Found, old: &Policy, new: &Policy) {
    for new in &new.values {
        let Some(old) = old.values.iter().find(|old| old.name == new.name) else { continue };
        if new.one_of.iter().any(|value| !old.one_of.contains(value)) {
            let shown =
                |values: &[crate::value::Value]| values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            found.note(&format!("values.{}.oneOf", new.name), shown(&old.one_of), shown(&new.one_of));
        }
    }
}

fn guards(found: &mut Found, old: &Guards, new: &Guards) {
    found.shortens("cooldown", old.cooldown, new.cooldown);
    found.replaced("calendar", old.calendar.as_ref(), new.calendar.as_ref());
    found.inside("disturb", |found| disturb(found, old.disturb, new.disturb));
    found.inside("budget", |found| budget(found, old.budget, new.budget));
    for word in old.yield_to.iter().filter(|word| !new.yield_to.contains(word)) {
        found.note("yieldTo", word.clone(), "none");
    }
}

fn disturb(found: &mut Found, old: Disturb, new: Disturb) {
    found.rises("hosts", old.hosts, new.hosts);
    found.rises("percent", old.percent, new.percent);
    found.shortens("over", old.over, new.over);
}

fn budget(found: &mut Found, old: Budget, new: Budget) {
    found.rises("perTarget", old.per_target, new.per_target);
    found.rises("perPolicy", old.per_policy, new.per_policy);
    found.shortens("within", old.within, new.within);
}

fn service(found: &mut Found, old: &Service, new: &Service) {
    // A share of more members is more hosts.
    found.widens("members", &old.members, &new.members);
    if new.keep_healthy < old.keep_healthy {
        found.note("keepHealthy", old.keep_healthy.to_string(), new.keep_healthy.to_string());
    }
    found.replaced("calendar", old.calendar.as_ref(), new.calendar.as_ref());
    for name in old.depends_on.iter().filter(|name| !new.depends_on.contains(name)) {
        found.note("dependsOn", name.to_string(), "none");
    }
}

fn removed_service(found: &mut Found, old: &Service) {
    found.note("keepHealthy", old.keep_healthy.to_string(), "removed");
    if let Some(calendar) = &old.calendar {
        found.note("calendar", calendar.to_string(), "removed");
    }
}

fn window(found: &mut Found, old: &Window, new: &Window) {
    if !old.suppress_act {
        return;
    }
    if !new.suppress_act {
        found.note("suppress", "acts", "not acts");
    }
    // Here fewer hosts let more through.
    if !covers(&new.hosts, &old.hosts) {
        found.note("hosts", selector(&old.hosts), selector(&new.hosts));
    }
    if new.from > old.from {
        found.note("from", old.from.to_string(), new.from.to_string());
    }
    if new.until < old.until {
        found.note("until", old.until.to_string(), new.until.to_string());
    }
}

#[cfg(test)]
mod tests;
