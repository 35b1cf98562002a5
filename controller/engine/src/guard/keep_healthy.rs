//! The last healthy members of a service are never taken: what is disturbed at the moment and the next wave together
//! leave as many as the service says.

use std::collections::BTreeSet;

use quell_model::name::HostName;

use super::Context;
use crate::{
    plan::taking,
    service,
    state::{Hold, HostState, PlanState},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    context.plan.services().find_map(|name| leaves_too_few(context, name))
}

fn leaves_too_few(context: &Context<'_>, name: &str) -> Option<Hold> {
    let state = context.view.state;
    let service = service::find(state, context.plan.policy.as_ref().map(|policy| &policy.namespace), name)?;
    if service.keep_healthy == 0 || context.plan.dry_run {
        return None;
    }
    let members = service::members(state, &service);
    if !context.taking.iter().any(|host| members.contains(host)) {
        return None;
    }
    let mut disturbed: BTreeSet<HostName> = context.taking.clone();
    let others = state.live.plans.iter().filter_map(|id| state.plans.get(id));
    for other in others.filter(|other| other.id != context.plan.id && !other.dry_run) {
        if matches!(other.state, PlanState::Running | PlanState::Verifying) {
            disturbed.extend(taking::now(state, other, context.view.now));
        }
    }
    let troubled = service::troubled(state, name);
    let left = members
        .iter()
        .filter(|host| !disturbed.contains(*host))
        .filter(|host| state.hosts.get(*host).is_some_and(|row| row.state == HostState::Online))
        .filter(|host| !troubled.contains(*host))
        .count();
    (left < service.keep_healthy as usize).then(|| {
        let reason = format!(
            "{left} healthy members of {} would be left undisturbed, {} must be (a service with a single member writes keepHealthy: 0)",
            service.name, service.keep_healthy
        );
        context.no("keepHealthy", reason, None)
    })
}
