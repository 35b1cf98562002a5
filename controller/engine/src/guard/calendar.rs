//! Business hours: outside them what should be done waits for the opening, and says so.

use quell_model::policy::Manifest;

use super::Context;
use crate::{service, state::Hold};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let state = context.view.state;
    let now = context.view.now;
    let namespace = context.plan.policy.as_ref().map(|policy| &policy.namespace);
    let own = context.compiled.and_then(|compiled| compiled.policy.guards.calendar.as_ref());
    let of_services = context
        .plan
        .services()
        .filter_map(|name| service::find(state, namespace, name))
        .filter_map(|service| Some((service.name.namespace.clone(), service.calendar.clone()?)));
    let wanted =
        own.zip(namespace).map(|(name, namespace)| (namespace.clone(), name.clone())).into_iter().chain(of_services);
    for (namespace, name) in wanted {
        let full = quell_model::name::FullName { namespace, name };
        let Some(stored) = state.manifests.get(&("Calendar".to_owned(), full.clone())) else {
            return Some(context.no("calendar", format!("calendar {full} does not exist: it counts as closed"), None));
        };
        if let Manifest::Calendar(calendar) = &stored.manifest
            && !calendar.is_open(now)
        {
            let until = calendar.next_change(now);
            let opening = until.map_or_else(
                || "never again".to_owned(),
                |at| at.to_zoned(calendar.time_zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string(),
            );
            return Some(context.no("calendar", format!("{full} is closed; it opens {opening}"), until));
        }
    }
    None
}
