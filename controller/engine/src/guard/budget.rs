//! How often a policy may act on one target and in all.

use super::Context;
use crate::{
    ledger,
    state::Hold,
    windows::{after, before},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let policy = &context.compiled?.policy;
    let budget = policy.guards.budget;
    let since = before(context.view.now, budget.within);
    let span = crate::text::span(budget.within);
    let is_own = |row: &crate::state::LedgerRow| {
        row.policy.as_ref() == Some(&policy.name) && row.at > since && row.plan != context.plan.id
    };
    let times = ledger::times(context.view.state, |row| is_own(row) && row.target == context.plan.target);
    let spent = |times: &[jiff::Timestamp], most: u32, what: &str| {
        let over = times.len().checked_sub(most as usize)?;
        let until = times.get(over).map(|oldest| after(*oldest, budget.within));
        Some(context.no("budget", format!("{most} acts {what} within {span} are spent"), until))
    };
    spent(&times, budget.per_target, &format!("on {}", context.plan.target)).or_else(|| {
        let times = ledger::times(context.view.state, is_own);
        spent(&times, budget.per_policy, "of the policy")
    })
}
