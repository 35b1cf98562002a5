//! After a jump of the clock nothing new starts until a person has explained it: timers and calendars may be wrong.

use super::Context;
use crate::state::Hold;

pub(super) fn verdict(context: &Context<'_>) -> Option<Hold> {
    let reason = context.view.state.meta.clock_suspect.as_ref()?;
    Some(context.no("clock", format!("{reason}; explain it with `quell thaw`"), None))
}
