//! A person's run: a one-shot policy that expires, on the same path as everything else.

use std::time::Duration;

use quell_model::{name::HostName, selector::Selector};

use super::who;
use crate::{
    Actor, State,
    id::PlanId,
    input::{Refusal, Reply},
    plan::{self, Order},
    state::{PlanRow, PlanState},
    turn::Turn,
    windows::place,
};

/// How long a step may take when the person says nothing.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What a person wants to be run.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) action: String,
    pub(crate) selector: Selector,
    pub(crate) with: serde_json::Map<String, serde_json::Value>,
    pub(crate) waves: Vec<u32>,
    pub(crate) dry_run: bool,
    pub(crate) timeout: Duration,
    pub(crate) reason: String,
    pub(crate) request_id: String,
}

/// Makes the plan of a person's run, and starts it when nothing holds it.
///
/// # Errors
/// It means nobody, or is not complete.
pub(crate) fn run(turn: &mut Turn<'_>, actor: &Actor, wish: Wish) -> Result<Reply, Refusal> {
    let Actor::Person(requester) = actor else {
        return Err(Refusal::Forbidden("only a person runs an action by hand".to_owned()));
    };
    if let Some(plan) = earlier(turn.state(), requester, &wish.request_id) {
        return Ok(answer(plan));
    }
    let hosts: Vec<HostName> = place(turn.state(), &wish.selector, None);
    if hosts.is_empty() {
        return Err(Refusal::Invalid(
            "the selector means no host; nothing is run (write `all` for every host)".to_owned(),
        ));
    }
    if wish.waves.contains(&0) {
        return Err(Refusal::Invalid("a wave of no hosts never ends; give sizes from 1".to_owned()));
    }
    let id = PlanId(turn.state().meta.counters.get("plan").copied().unwrap_or(0) + 1);
    let order = Order {
        action: wish.action,
        with: wish.with,
        hosts,
        waves: wish.waves,
        timeout: if wish.timeout.is_zero() { TIMEOUT } else { wish.timeout },
        dry_run: wish.dry_run,
        requester: who(actor),
        reason: wish.reason,
        request_id: wish.request_id,
    };
    let candidate = plan::manual(turn.view(), order, id);
    let id = plan::commit(turn, candidate, PlanState::Held);
    // The plan is looked at at once, so that the answer says what holds it.
    plan::reconcile(turn, id);
    turn.state().plans.get(&id).map(|plan| answer(plan)).ok_or_else(|| Refusal::Conflict(format!("{id} is gone")))
}

fn earlier<'a>(state: &'a State, requester: &str, request_id: &str) -> Option<&'a PlanRow> {
    if request_id.is_empty() {
        return None;
    }
    let plans = state.plans.values().rev().map(AsRef::as_ref);
    plans.into_iter().find(|plan| plan.request_id == request_id && plan.requester.as_deref() == Some(requester))
}

fn answer(plan: &PlanRow) -> Reply {
    let targets = u32::try_from(plan.hosts.len()).unwrap_or(u32::MAX);
    Reply::Plan { plan: plan.id, targets, hold: plan.hold.clone() }
}
