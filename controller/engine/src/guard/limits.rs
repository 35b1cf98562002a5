//! Ceilings that others have set over the namespace: of the policy, or of orders by hand and the policies whose remedy
//! such an order is. Where hosts demand them signed, nothing is planned that hosts would refuse.

use std::collections::BTreeSet;

use quell_model::{
    limits::{Limits, Passed},
    name::{FullName, ObjectName},
    trust::{run::Run, set::RUNS},
};

use super::Context;
use crate::{
    ledger, limits,
    state::{Hold, LedgerRow},
    windows::{after, before},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let (state, plan) = (context.view.state, context.plan);
    if plan.dry_run {
        return None;
    }
    let own = limits::namespace_of(plan.policy.as_ref())?;
    if let Some(why) = limits::lacking(state, context.view.now, &own) {
        return Some(context.no("limits", why, None));
    }
    let concerned = plan.concerns.iter().map(|concern| concern.policy.namespace.clone());
    let namespaces: BTreeSet<ObjectName> = concerned.chain([own]).collect();
    namespaces.iter().flat_map(|namespace| limits::of_namespace(state, namespace)).find_map(|limits| {
        passed(context, limits)
            .map(|passed| context.no("limits", passed.to_string(), None))
            .or_else(|| host(context, limits))
            .or_else(|| calendar(context, limits))
            .or_else(|| budget(context, limits))
    })
}

/// What the policy or the order says and may not.
fn passed(context: &Context<'_>, limits: &Limits) -> Option<Passed> {
    let plan = context.plan;
    let passed = match (&context.compiled, &plan.evidence) {
        (Some(compiled), _) => limits.passed_by_rung(&compiled.policy, &plan.rung),
        (None, Some(evidence)) => {
            Run::parse(evidence.run.as_bytes()).map(|run| limits.passed_by_run(&run)).unwrap_or_default()
        }
        (None, None) => Vec::new(),
    };
    passed.into_iter().next()
}

fn host(context: &Context<'_>, limits: &Limits) -> Option<Hold> {
    let hosts = &context.view.state.hosts;
    let is_outside = |name: &&_| hosts.get(*name).is_some_and(|row| !limits.permit_host(&row.labels));
    let outside = context.plan.hosts.iter().find(is_outside)?;
    let reason =
        format!("Limits {} do not let {outside} be acted on: its labels are not those of `hosts`", limits.name);
    Some(context.no("limits", reason, None))
}

fn calendar(context: &Context<'_>, limits: &Limits) -> Option<Hold> {
    let (calendar, now) = (limits.calendar.as_ref()?, context.view.now);
    if calendar.is_open(now) {
        return None;
    }
    let until = calendar.next_change(now);
    let opening = until.map_or_else(|| "never again".to_owned(), crate::text::moment);
    Some(context.no("limits", format!("Limits {} are closed; they open {opening}", limits.name), until))
}

/// How often may be acted on each of the hosts, and in all.
fn budget(context: &Context<'_>, limits: &Limits) -> Option<Hold> {
    let budget = limits.budget?;
    let since = before(context.view.now, budget.within);
    let namespace = &limits.name.namespace;
    let is_counted = |row: &LedgerRow| row.at > since && row.plan != context.plan.id && is_of_namespace(row, namespace);
    let spent = |wanted: &dyn Fn(&LedgerRow) -> bool, most: u32, where_to: &str| {
        let times = ledger::times(context.view.state, |row| is_counted(row) && wanted(row));
        let over = times.len().checked_sub(most as usize)?;
        let until = times.get(over).map(|oldest| after(*oldest, budget.within));
        let span = crate::text::span(budget.within);
        let reason = format!("Limits {}: {most} acts {where_to} within {span} are spent", limits.name);
        Some(context.no("limits", reason, until))
    };
    let on_hosts = || {
        let most = budget.per_host?;
        context.plan.hosts.iter().find_map(|host| spent(&|row| row.host == *host, most, &format!("on {host}")))
    };
    on_hosts().or_else(|| spent(&|_| true, budget.per_namespace?, &format!("in {namespace}")))
}

/// Whether an act was of the namespace: of a policy of it, a person's that counts for one, or one by hand.
fn is_of_namespace(row: &LedgerRow, namespace: &ObjectName) -> bool {
    let is_of = |policy: &FullName| policy.namespace == *namespace;
    match &row.policy {
        Some(policy) => is_of(policy),
        None => namespace.as_str() == RUNS || row.counts_for.iter().any(|(policy, _)| is_of(policy)),
    }
}
