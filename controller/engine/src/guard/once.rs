//! What may happen once does not happen twice: a second time goes to people.

use super::Context;
use crate::state::Hold;

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let policy = context.plan.policy.as_ref()?;
    context.plan.onces.iter().find_map(|once| {
        let row = context.view.state.onces.get(&(policy.clone(), once.key.clone()))?;
        (row.until > context.view.now && row.plan != context.plan.id)
            .then(|| context.no("once", format!("{} did it already, for {:?}", row.plan, once.key), Some(row.until)))
    })
}
