//! A command goes to a host that is there to take it.

use super::Context;
use crate::state::{Hold, HostState};

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let missing: Vec<&str> = context
        .plan
        .hosts
        .iter()
        .filter(|host| context.view.state.hosts.get(*host).is_none_or(|row| row.state != HostState::Online))
        .map(|host| host.as_str())
        .collect();
    (!missing.is_empty()).then(|| context.no("online", format!("not connected: {}", missing.join(", ")), None))
}
