//! How often a policy may act on one target and in all; what a person does in its place counts.

use jiff::Timestamp;
use quell_model::name::Target;

use super::Context;
use crate::{
    ledger,
    state::{Hold, LedgerRow},
    windows::{Compiled, after, before},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let holds = context.remedies().into_iter().filter_map(|(compiled, target)| is_spent(context, compiled, target));
    holds.max_by_key(|hold| hold.until)
}

fn is_spent(context: &Context<'_>, compiled: &Compiled, target: &Target) -> Option<Hold> {
    let policy = &compiled.policy;
    let budget = policy.guards.budget;
    let since = before(context.view.now, budget.within);
    let span = crate::text::span(budget.within);
    let whose = if context.plan.policy.is_some() { String::new() } else { format!(" ({})", policy.name) };
    let is_recent = |row: &LedgerRow| row.at > since && row.plan != context.plan.id;
    let spent = |times: &[Timestamp], most: u32, what: &str| {
        let over = times.len().checked_sub(most as usize)?;
        let until = times.get(over).map(|oldest| after(*oldest, budget.within));
        Some(context.no("budget", format!("{most} acts {what} within {span} are spent{whose}"), until))
    };
    let state = context.view.state;
    let times = ledger::times(state, |row| is_recent(row) && row.is_remedy(&policy.name, target));
    spent(&times, budget.per_target, &format!("on {target}")).or_else(|| {
        let times = ledger::times(state, |row| is_recent(row) && row.is_of_policy(&policy.name));
        spent(&times, budget.per_policy, "of the policy")
    })
}
