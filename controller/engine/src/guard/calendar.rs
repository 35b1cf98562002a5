//! Business hours: outside them what should be done waits for the opening, and says so.

use quell_model::policy::Manifest;

use super::Context;
use crate::{service, state::Hold};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let state = context.view.state;
    let now = context.view.now;
    let namespace = context.plan.policy.as_ref().map(|policy| &policy.namespace);
    let own = context.compiled.into_iter().chain(context.concerns().map(|(compiled, _)| compiled));
    let own = own
        .map(|compiled| &compiled.policy)
        .filter_map(|policy| Some((policy.name.namespace.clone(), policy.guards.calendar.clone()?)));
    let of_services = context
        .plan
        .services()
        .filter_map(|name| service::find(state, namespace, name))
        .filter_map(|service| Some((service.name.namespace.clone(), service.calendar.clone()?)));
    for (namespace, name) in own.chain(of_services) {
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
