//! Calling a plan off: what has not begun is left out, what is in flight is asked to stop, what runs in any case runs.
//! What succeeded is not undone: the person who stops a plan decides what comes next.

use crate::{
    Actor,
    draft::Entry,
    id::PlanId,
    input::{Refusal, Reply},
    plan,
    turn::Turn,
};

/// Calls a plan off.
///
/// # Errors
/// There is no such plan, it is over or on its way to its end, or nobody says why.
pub(crate) fn cancel(turn: &mut Turn<'_>, actor: &Actor, id: PlanId, reason: &str) -> Result<Reply, Refusal> {
    let Actor::Person(who) = actor else {
        return Err(Refusal::Forbidden("only a person calls a plan off".to_owned()));
    };
    if reason.trim().is_empty() {
        return Err(Refusal::Invalid("calling a plan off needs a reason (--reason)".to_owned()));
    }
    let plan = turn.state().plans.get(&id).cloned().ok_or_else(|| Refusal::NotFound(format!("there is no {id}")))?;
    if plan.state.has_ended() {
        return Err(Refusal::Conflict(format!("{id} {}: it is over", plan::word(plan.state))));
    }
    if plan.closing.is_some() {
        let why = &plan.verification;
        return Err(Refusal::Conflict(format!("{id} is stopped already ({why}): what is left of it is recovery")));
    }
    turn.record(
        Entry::new("planCancelled", actor.clone(), format!("{who} calls {id} off: {reason}"))
            .id("plan", id)
            .maybe_id("incident", plan.incident)
            .maybe_id("policy", plan.policy.as_ref()),
    );
    plan::call_off(turn, &plan, who, reason);
    Ok(Reply::Done)
}
