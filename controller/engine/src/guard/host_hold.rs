//! The administrator of a host has the last word on it.

use super::Context;
use crate::state::Hold;

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    context.plan.hosts.iter().find_map(|host| {
        let (reason, until) = context.view.state.hosts.get(host)?.held.as_ref()?;
        let holds = *until > context.view.now;
        holds.then(|| context.no("hostHold", format!("{host} is held by its administrator: {reason}"), Some(*until)))
    })
}
