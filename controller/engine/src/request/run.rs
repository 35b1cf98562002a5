//! A person's run: a one-shot policy that expires, on the same path as everything else.

use std::collections::BTreeSet;

use quell_model::{
    name::HostName,
    trust::{
        run::{Hosts, Run},
        set::SignedSet,
    },
};

use super::who;
use crate::{
    Actor, State,
    id::PlanId,
    input::{Refusal, Reply},
    plan::{self, Order},
    state::PlanRow,
    trust,
    turn::Turn,
    windows::is_enrolled,
};

/// Makes the plan of a person's run, and starts it when nothing holds it.
///
/// # Errors
/// It means nobody, is not complete, or is not signed by somebody who may.
pub(crate) fn run(turn: &mut Turn<'_>, actor: &Actor, run: &Run, signed: &SignedSet) -> Result<Reply, Refusal> {
    let Actor::Person(requester) = actor else {
        return Err(Refusal::Forbidden("only a person runs an action by hand".to_owned()));
    };
    if let Some(plan) = earlier(turn.state(), requester, &run.id) {
        return Ok(answer(plan, run));
    }
    run.check().map_err(|wrong| Refusal::Invalid(wrong.to_string()))?;
    let evidence = trust::run_evidence(turn.state(), turn.now, run, signed)?;
    let hosts = enrolled(turn.state(), &run.hosts);
    if hosts.is_empty() {
        return Err(Refusal::Invalid(
            "no host that is enrolled is meant; nothing is run (write `all` for every host)".to_owned(),
        ));
    }
    let id = PlanId(turn.state().meta.counters.get("plan").copied().unwrap_or(0) + 1);
    let order = Order {
        action: run.action.clone(),
        with: run.with.clone(),
        hosts,
        waves: run.waves.clone(),
        timeout: run.timeout(),
        dry_run: run.dry_run,
        requester: who(actor),
        reason: run.reason.clone(),
        request_id: run.id.clone(),
        evidence,
    };
    let candidate = plan::manual(turn.view(), order, id);
    let id = plan::commit(turn, candidate);
    // The plan is looked at at once, so that the answer says what holds it.
    plan::reconcile(turn, id);
    turn.state().plans.get(&id).map(|plan| answer(plan, run)).ok_or_else(|| Refusal::Conflict(format!("{id} is gone")))
}

fn enrolled(state: &State, meant: &Hosts) -> Vec<HostName> {
    let hosts = state.hosts.iter().filter(|(name, row)| is_enrolled(row) && meant.include(name, &row.labels));
    hosts.map(|(name, _)| name.clone()).collect()
}

fn earlier<'a>(state: &'a State, requester: &str, request_id: &str) -> Option<&'a PlanRow> {
    if request_id.is_empty() {
        return None;
    }
    let plans = state.plans.values().rev().map(AsRef::as_ref);
    plans.into_iter().find(|plan| plan.request_id == request_id && plan.requester.as_deref() == Some(requester))
}

fn answer(plan: &PlanRow, run: &Run) -> Reply {
    let targets = u32::try_from(plan.hosts.len()).unwrap_or(u32::MAX);
    let covered: BTreeSet<&HostName> = plan.hosts.iter().collect();
    let missing = run.hosts.names().into_iter().flatten().filter(|name| !covered.contains(name)).cloned().collect();
    Reply::Plan { plan: plan.id, targets, missing, hold: plan.hold.clone() }
}
