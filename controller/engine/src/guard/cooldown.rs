//! Time between two remedies of one target, whoever took them. The rungs of one incident are one remedy.

use quell_model::name::Target;

use super::Context;
use crate::{
    ledger,
    state::Hold,
    windows::{Compiled, after},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let holds = context.remedies().into_iter().filter_map(|(compiled, target)| lasts(context, compiled, target));
    // The one that lasts longest, so that what people are told is true of all of them.
    holds.max_by_key(|hold| hold.until)
}

fn lasts(context: &Context<'_>, compiled: &Compiled, target: &Target) -> Option<Hold> {
    let policy = &compiled.policy;
    let plan = context.plan;
    // From the last act on: a plan that goes in waves may act for longer than the cool-down lasts.
    let last = ledger::rows(context.view.state, |row| {
        row.plan != plan.id
            && row.is_remedy(&policy.name, target)
            && (row.incident.is_none() || row.incident != plan.incident)
    })
    .max_by_key(|row| row.at)?;
    let until = after(last.at, policy.guards.cooldown);
    (until > context.view.now).then(|| {
        let moment = crate::text::moment(last.at);
        let span = crate::text::span(policy.guards.cooldown);
        let acted = if last.policy.is_some() { String::new() } else { format!("{} of a person ", last.plan) };
        let whose = if plan.policy.is_some() { String::new() } else { format!(" of {}", policy.name) };
        context.no(
            "cooldown",
            format!("{acted}acted on {target} at {moment}; the cool-down{whose} lasts {span}"),
            Some(until),
        )
    })
}
