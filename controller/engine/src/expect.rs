//! The dead-man's switch: a policy that should have acted and did not is reported, with the reason, on day one.
//!
//! It is judged from what was done, so a run that was held, or whose host was away, counts as missed.

use jiff::Timestamp;
use quell_model::name::{FullName, Target};

use crate::{alert, schedule, state::Cause, turn::Turn, windows::after};

/// Looks at whether a policy ran as often as it should.
pub(crate) fn reconcile(turn: &mut Turn<'_>, policy: &FullName, target: &Target) -> Option<Timestamp> {
    let compiled = turn.policy(policy).filter(|compiled| alert::covers(compiled, target))?;
    let every = compiled.policy.expect?;
    let row = schedule::row(turn, &(policy.clone(), target.clone()));
    let due = after(row.last_success.unwrap_or(row.since), every);
    if due > turn.now {
        return Some(due);
    }
    let why = schedule::last_reason(turn, policy, target, every);
    let summary = format!("no run succeeded for {}: {why}", crate::text::span(every));
    schedule::raise(turn, &compiled, target, Cause::RunMissed, summary);
    None
}
