//! Limits: ceilings over a namespace.

use std::collections::BTreeSet;

use crate::{
    action::{ACTIONS, whole},
    limits::{Budget, Consent, Disturb, Limits},
    manifest::object::{Object, unknown},
    name::ObjectName,
    policy::Mode,
    unit,
};

use super::{Head, others, parts::selector};

/// Every ceiling; limits without one would bound nothing.
const CEILINGS: [&str; 9] =
    ["actions", "hosts", "mode", "approvals", "calendar", "cooldown", "budget", "disturb", "wave"];

/// Reads limits.
pub(super) fn limits(head: Option<Head>, spec: &Object<'_>) -> Option<Limits> {
    let description = spec.text("description");
    if !CEILINGS.iter().any(|ceiling| spec.has(ceiling)) {
        let message = format!("`spec` bounds nothing: give at least one of {}", CEILINGS.join(", "));
        spec.report.fault(spec.place, message);
    }
    let actions = spec.has("actions").then(|| actions(spec));
    let hosts = spec.has("hosts").then(|| selector(spec, "hosts"));
    let mode = spec.parsed("mode", |text| match text {
        "observe" => Ok(Mode::Observe),
        "propose" => Ok(Mode::Propose),
        "enforce" => Ok(Mode::Enforce),
        other => Err(format!("`mode` is observe, propose or enforce, not {other:?}")),
    });
    let approvals = spec.objects("approvals").iter().filter_map(consent).collect();
    let cooldown = spec.parsed("cooldown", unit::duration);
    let budget = spec.object("budget").and_then(|budget| self::budget(&budget));
    let disturb = spec.object("disturb").map(|disturb| self::disturb(&disturb)).unwrap_or_default();
    let wave = spec.parsed("wave", |text| whole(text, 1, 10_000));
    let Head { name, digest } = head?;
    let calendar = spec.object("calendar").and_then(|calendar| {
        // Hours of its own: a calendar by name would be one of those whom the limits bound.
        others::calendar(Some(Head { name: name.clone(), digest }), &calendar)
    });
    Some(Limits {
        name,
        digest,
        description: description?,
        actions,
        hosts,
        mode,
        approvals,
        calendar,
        cooldown,
        budget,
        disturb,
        wave,
    })
}

/// A list of actions that this version knows.
fn actions(object: &Object<'_>) -> BTreeSet<String> {
    let named = object.list("actions", |text| match ACTIONS.iter().any(|known| known.name == text) {
        true => Ok(text.to_owned()),
        false => Err(unknown("action", text, ACTIONS.iter().map(|known| known.name))),
    });
    if named.is_empty() && object.report.is_clean() {
        let message = "`actions` is empty: to let nothing be done, write `mode: observe`";
        object.report.fault(object.place_of("actions"), message);
    }
    named.into_iter().collect()
}

fn consent(object: &Object<'_>) -> Option<Consent> {
    let actions = actions(object);
    let role = object.parsed("role", str::parse::<ObjectName>);
    let count = object.parsed("count", |text| whole(text, 1, 64));
    Some(Consent { actions, role: role?.to_string(), count: count? })
}

fn budget(object: &Object<'_>) -> Option<Budget> {
    let number = |name| object.parsed(name, |text| whole(text, 1, 1_000_000));
    let (per_host, per_namespace) = (number("perHost"), number("perNamespace"));
    if !object.has("perHost") && !object.has("perNamespace") {
        object.report.fault(object.place, "`budget` needs `perHost`, `perNamespace` or both");
    }
    let within = object.parsed("within", |text| match unit::duration(text) {
        Ok(span) if span.is_zero() => Err("`within` is more than 0s".to_owned()),
        other => other.map_err(|error| error.to_string()),
    });
    Some(Budget { per_host, per_namespace, within: within? })
}

fn disturb(object: &Object<'_>) -> Disturb {
    if !object.has("hosts") && !object.has("percent") {
        object.report.fault(object.place, "`disturb` needs `hosts`, `percent` or both");
    }
    Disturb {
        hosts: object.parsed("hosts", |text| whole(text, 0, 1_000_000)),
        percent: object.parsed("percent", unit::percent),
    }
}
