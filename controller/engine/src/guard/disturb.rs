//! How many hosts of a service may be disturbed within a span, over all plans and people. When the hosts that were
//! resolved exceed it, nothing starts at all.

use std::collections::BTreeSet;

use quell_model::name::HostName;

use super::Context;
use crate::{
    ledger,
    service::{self, Group},
    state::{DisturbLimit, Hold, PlanState},
    windows::{after, before},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let plan = context.plan;
    if plan.dry_run {
        return None;
    }
    let own = service::group(context.view, plan, context.compiled);
    let of_services = || {
        plan.also.iter().find_map(|also| {
            exceeds(context, also.limit.as_ref(), &service::group_of(context.view, plan, &also.service))
        })
    };
    let of_policies = || {
        context.concerns().find_map(|(compiled, concern)| {
            exceeds(context, concern.disturb.as_ref(), &service::of_compiled(context.view, compiled))
        })
    };
    exceeds(context, plan.disturb.as_ref(), &own).or_else(of_services).or_else(of_policies)
}

/// Whether the plan would disturb too many hosts of a group.
fn exceeds(context: &Context<'_>, limit: Option<&DisturbLimit>, group: &Group) -> Option<Hold> {
    let limit = limit?;
    let since = before(context.view.now, limit.over);
    let rows: Vec<_> = ledger::rows(context.view.state, |row| {
        row.at > since && row.plan != context.plan.id && group.is_of(row) && group.members.contains(&row.host)
    })
    .collect();
    let state = context.view.state;
    // What is under way counts with all its hosts: it will come to those that it has not touched yet.
    let under_way = state
        .live
        .plans
        .iter()
        .filter_map(|id| state.plans.get(id))
        .filter(|other| other.id != context.plan.id && !other.dry_run && group.has(other))
        .filter(|other| matches!(other.state, PlanState::Running | PlanState::Verifying))
        .flat_map(|other| &other.hosts)
        .filter(|host| group.members.contains(*host));
    let lately: BTreeSet<&HostName> = rows.iter().map(|row| &row.host).chain(under_way).collect();
    let own: BTreeSet<&HostName> = context.plan.hosts.iter().filter(|host| group.members.contains(*host)).collect();
    let total = lately.union(&own).count();
    if own.is_empty() || total <= limit.limit as usize {
        return None;
    }
    let span = crate::text::span(limit.over);
    let reason = format!(
        "{} of {} hosts of {} may be disturbed within {span}; {} were, and the plan would disturb {}",
        limit.limit,
        limit.eligible,
        group.name,
        lately.len(),
        own.len()
    );
    let until = if own.len() > limit.limit as usize {
        None
    } else {
        rows.iter().map(|row| row.at).min().map(|at| after(at, limit.over))
    };
    Some(context.no("disturb", reason, until))
}
