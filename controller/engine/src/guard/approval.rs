//! A plan that needs people waits for them: enough distinct ones, none of them the requester.

use super::Context;
use crate::{approval, state::Hold};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let needs = context.plan.needs.as_ref()?;
    let given = approval::count(context.view.state, context.plan, context.view.now);
    (given < needs.count).then(|| {
        let reason = format!("it needs {} of role {} ({given} given)", needs.count, needs.role);
        context.no("approval", reason, Some(needs.expires))
    })
}
