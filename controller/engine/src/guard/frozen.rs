//! Holds and freezes that people made, and windows of the manifests that suppress acts.

use jiff::Timestamp;
use quell_model::{name::HostName, policy::Manifest, selector::Selector};

use super::Context;
use crate::{input::HoldScope, scope::View, state::Hold};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let now = context.view.now;
    for window in context.view.state.windows.values().filter(|window| window.from <= now && now < window.until) {
        let covers = match &window.scope {
            HoldScope::Host(host) => context.plan.acts_on(host),
            HoldScope::Policy(policy) => context.plan.policy.as_ref() == Some(policy),
            HoldScope::Incident(incident) => context.plan.incident == Some(*incident),
            HoldScope::Hosts(selector) => covers_any(context.view, selector, &context.plan.hosts),
        };
        if covers {
            let guard = if matches!(window.scope, HoldScope::Hosts(_)) { "freeze" } else { "hold" };
            let reason = format!("{} by {}: {}", window.id, window.who, window.reason);
            return Some(context.no(guard, reason, Some(window.until)));
        }
    }
    let (name, reason, until) = suppressed(context.view, &context.plan.hosts)?;
    Some(context.no("freeze", format!("window {name}: {reason}"), Some(until)))
}

/// The window of the manifests that suppresses acts on some of the hosts.
fn suppressed(view: View<'_>, hosts: &[HostName]) -> Option<(String, String, Timestamp)> {
    view.state.manifests.values().find_map(|stored| match &stored.manifest {
        Manifest::Window(window)
            if window.suppress_act
                && window.from <= view.now
                && view.now < window.until
                && covers_any(view, &window.hosts, hosts) =>
        {
            Some((window.name.to_string(), window.reason.clone(), window.until))
        }
        _ => None,
    })
}

fn covers_any(view: View<'_>, selector: &Selector, hosts: &[HostName]) -> bool {
    hosts.iter().filter_map(|host| view.state.hosts.get(host)).any(|row| selector.matches(&row.labels))
}
