//! A policy acts unattended only in enforce; in propose a person must have approved; in observe nothing is done.

use quell_model::policy::Mode;

use super::Context;
use crate::{breaker::effective_mode, state::Hold, trust};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let name = context.plan.policy.as_ref()?;
    let Some(compiled) = context.compiled else {
        return Some(context.no(
            "mode",
            format!("{name} is gone, or has no rung {} any more", context.plan.rung),
            None,
        ));
    };
    let policy = &compiled.policy;
    let mode = effective_mode(context.view.state, context.view.now, policy);
    let (signed, unsigned_because) = trust::signed_mode(context.view.state, context.view.now, policy);
    let why = match (context.view.state.breakers.get(&policy.name), &context.view.state.meta.observe_only) {
        (_, Some(reason)) => format!(" ({reason})"),
        (Some(breaker), None) => format!(" (the breaker is open: {})", breaker.reason),
        (None, None) if signed < policy.mode => format!(" ({})", unsigned_because.unwrap_or_default()),
        (None, None) => String::new(),
    };
    match mode {
        Mode::Enforce => None,
        Mode::Observe => Some(context.no("mode", format!("the policy only observes{why}"), None)),
        // What is proposed is let through by the approval that it needs.
        Mode::Propose if context.plan.needs.is_some() => None,
        Mode::Propose => {
            Some(context.no("mode", format!("the policy only proposes{why}: a person must approve"), None))
        }
    }
}
