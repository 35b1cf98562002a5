//! Time between two remedies of one target. The rungs of one incident are one remedy.

use super::Context;
use crate::{ledger, state::Hold, windows::after};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let policy = &context.compiled?.policy;
    let plan = context.plan;
    // From the last act on: a plan that goes in waves may act for longer than the cool-down lasts.
    let last = ledger::rows(context.view.state, |row| {
        row.policy.as_ref() == Some(&policy.name)
            && row.target == plan.target
            && row.plan != plan.id
            && (row.incident.is_none() || row.incident != plan.incident)
    })
    .map(|row| row.at)
    .max()?;
    let until = after(last, policy.guards.cooldown);
    (until > context.view.now).then(|| {
        let reason = format!(
            "acted on {} at {}; the cool-down lasts {}",
            plan.target,
            crate::text::moment(last),
            crate::text::span(policy.guards.cooldown)
        );
        context.no("cooldown", reason, Some(until))
    })
}
