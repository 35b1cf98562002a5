//! One plan at a time holds a resource; who comes second is held and told by whom.

use super::Context;
use crate::state::{Hold, PlanState};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let state = context.view.state;
    state.live.plans.iter().filter_map(|id| state.plans.get(id)).find_map(|other| {
        if other.id == context.plan.id || !matches!(other.state, PlanState::Running | PlanState::Verifying) {
            return None;
        }
        let shared = other.resources.iter().find(|resource| context.plan.resources.binary_search(resource).is_ok())?;
        Some(context.no("resource", format!("{} holds {shared}", other.id), None))
    })
}
