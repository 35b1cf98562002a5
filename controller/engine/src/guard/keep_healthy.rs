//! The last healthy members of a service are never taken.

use std::collections::BTreeSet;

use quell_model::name::HostName;

use super::Context;
use crate::{
    service,
    state::{Hold, HostState, PlanState},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let state = context.view.state;
    let name = context.plan.service.as_ref()?;
    let service = service::find(state, context.plan.policy.as_ref().map(|policy| &policy.namespace), name)?;
    if service.keep_healthy == 0 || context.plan.dry_run {
        return None;
    }
    let members = service::members(state, &service);
    if !context.plan.hosts.iter().any(|host| members.contains(host)) {
        return None;
    }
    let disturbed: BTreeSet<&HostName> = state
        .live
        .plans
        .iter()
        .filter_map(|id| state.plans.get(id))
        .filter(|other| matches!(other.state, PlanState::Running | PlanState::Verifying) && !other.dry_run)
        .flat_map(|other| &other.hosts)
        .chain(&context.plan.hosts)
        .collect();
    let left = members
        .iter()
        .filter(|host| !disturbed.contains(*host))
        .filter(|host| state.hosts.get(*host).is_some_and(|row| row.state == HostState::Online))
        .filter(|host| !service::is_troubled(state, name, host))
        .count();
    (left < service.keep_healthy as usize).then(|| {
        let reason = format!(
            "{left} healthy members of {} would be left undisturbed, {} must be (a service with a single member writes keepHealthy: 0)",
            service.name, service.keep_healthy
        );
        context.no("keepHealthy", reason, None)
    })
}
