//! A draft waits until every host has said what it would touch.

use super::Context;
use crate::{
    plan::preview,
    state::{Hold, PlanState},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let plan = context.plan;
    (plan.state == PlanState::Previewing).then(|| {
        let silent = preview::silent(context.view.state, plan);
        let hosts: Vec<&str> = silent.iter().map(|host| host.as_str()).collect();
        let reason = format!("asked what it would touch, not answered yet: {}", hosts.join(", "));
        context.no("preview", reason, plan.preview_until)
    })
}
