//! After any act on a host nothing else is judged there until it has settled. The rungs of one incident follow each
//! other without: each waits for its own verification.

use super::Context;
use crate::{ledger, state::Hold, windows::after};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let settle = context.rung?.rollout.settle;
    let plan = context.plan;
    let last = ledger::rows(context.view.state, |row| {
        row.plan != plan.id && plan.acts_on(&row.host) && (row.incident.is_none() || row.incident != plan.incident)
    })
    .max_by_key(|row| row.at)?;
    let until = after(last.at, settle);
    (until > context.view.now).then(|| {
        let reason = format!("{} acted on {}; it settles for {}", last.plan, last.host, crate::text::span(settle));
        context.no("settle", reason, Some(until))
    })
}
