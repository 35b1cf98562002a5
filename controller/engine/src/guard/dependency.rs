//! A service is not repaired while what it stands on is broken, and the two are never disturbed at once.

use super::Context;
use crate::{
    service,
    state::{Hold, PlanState},
};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let state = context.view.state;
    if let Some(below) = context.incident.and_then(|incident| incident.inhibited_by) {
        return Some(context.no(
            "dependency",
            format!("{below} explains it: what the service stands on is broken"),
            None,
        ));
    }
    context.plan.services().find_map(|own| {
        let related = service::related(state, context.plan.policy.as_ref(), own);
        state.live.plans.iter().filter_map(|id| state.plans.get(id)).find_map(|other| {
            let is_under_way = matches!(other.state, PlanState::Running | PlanState::Verifying) && !other.dry_run;
            let name = other.services().find(|name| related.contains(*name))?;
            (is_under_way && other.id != context.plan.id).then(|| {
                let reason = format!("{} disturbs {name}, which depends on {own} or it on that", other.id);
                context.no("dependency", reason, None)
            })
        })
    })
}
