//! Ending a plan before all of it was done: after one failure too many, when its leave to act is taken back, when the
//! symptom of its host is gone. Recovery runs in any case: the undo that its rung wants, and `finally`.

use std::{collections::HashSet, sync::Arc};

use quell_model::{name::HostName, policy::Otherwise};

use super::{
    end, end_unsent,
    rollout::{commands, has_failed, is_live},
    rung_of, with_context,
};
use crate::{
    Effect,
    draft::Entry,
    guard,
    id::CommandId,
    incident,
    state::{CommandRow, CommandState, OutcomeKind, PlanRow, PlanState},
    turn::{Subject, Turn},
};

/// A rung of which nothing was begun is tried so often before it counts as failed.
const TRIES: usize = 3;
/// How a plan ends whose hosts would touch something else than what was previewed.
const MOVED: &str =
    "what it would touch has moved since its preview: it is previewed anew, and no approval is carried over";

/// Stops the plan after one failure more than it may have; a host that `finally` did not bring back has failed too.
pub(super) fn stop_after_errors(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) {
    let failed: std::collections::BTreeSet<_> = commands
        .iter()
        .filter(|command| command.undoes.is_none() && has_failed(command))
        .map(|command| &command.host)
        .collect();
    if failed.len() > plan.max_errors as usize {
        let last =
            commands.iter().rev().find(|command| has_failed(command)).and_then(|command| command.outcome.as_ref());
        let summary = last.map(|outcome| outcome.summary.clone()).unwrap_or_default();
        let why = format!("{} of {} hosts failed, {} may: {summary}", failed.len(), plan.hosts.len(), plan.max_errors);
        turn.draft.change::<PlanRow>(&plan.id, |row| row.stopped = Some(why.clone()));
    }
}

/// Ends what will not be begun any more.
pub(super) fn leave_out(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) {
    let why = plan.stopped.clone().unwrap_or_else(|| "the plan is over".to_owned());
    let acted_on: HashSet<&HostName> =
        commands.iter().filter(|command| command.sent_at.is_some()).map(|command| &command.host).collect();
    for command in commands.iter().filter(|command| waits_its_turn(command)) {
        let kind = if acted_on.contains(&command.host) { OutcomeKind::Skipped } else { OutcomeKind::NotStarted };
        end_unsent(turn, command, kind, &why);
    }
}

/// Calls a plan off whose policy has no leave to act any more: no further wave, the undo that its rung wants, `finally`.
pub(super) fn take_back(turn: &mut Turn<'_>, plan: &PlanRow, why: &str) {
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.stopped = Some(why.to_owned());
        row.hold = None;
    });
    let Some(plan) = turn.state().plans.get(&plan.id).cloned() else { return };
    leave_out(turn, &plan, &commands(turn, &plan));
    if !begins_undo(turn, &plan, PlanState::Cancelled) {
        turn.draft.change::<PlanRow>(&plan.id, |row| {
            row.closing = Some(PlanState::Cancelled);
            why.clone_into(&mut row.verification);
        });
    }
    turn.touch(Subject::Plan(plan.id));
}

/// Calls a plan off for a person: what waits is over at once, of what runs nothing more is begun.
pub(crate) fn call_off(turn: &mut Turn<'_>, plan: &PlanRow, who: &str, reason: &str) {
    let why = format!("called off by {who}: {reason}");
    turn.draft.change::<PlanRow>(&plan.id, |row| row.cancelled_by = Some(who.to_owned()));
    if plan.state != PlanState::Running {
        end(turn, plan.id, PlanState::Cancelled, &why);
        return;
    }
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.stopped = Some(why.clone());
        row.closing = Some(PlanState::Cancelled);
        row.hold = None;
        row.verification.clone_from(&why);
    });
    for command in commands(turn, plan).into_iter().filter(|command| is_live(command)) {
        ask_to_stop(turn, &command);
    }
    turn.touch(Subject::Plan(plan.id));
}

/// Asks an agent not to begin what was called off, or to stop; recovery is never stopped.
pub(crate) fn ask_to_stop(turn: &mut Turn<'_>, command: &CommandRow) {
    if let Some(reason) = called_off(turn, command) {
        turn.effect(Effect::Cancel { host: command.host.clone(), command: command.id, reason });
    }
}

/// Asks an agent that has a command to leave it, if it is not to be begun any more; one that has begun, to stop it, if it
/// was called off.
pub(crate) fn ask_to_leave(turn: &mut Turn<'_>, command: &CommandRow) {
    let why = if command.state == CommandState::Begun { called_off } else { taken_back };
    if let Some(reason) = why(turn, command) {
        turn.effect(Effect::Cancel { host: command.host.clone(), command: command.id, reason });
    }
}

/// Why a command that did not reach its agent is not sent again, if so: it was called off, or people hold it by now.
pub(crate) fn taken_back(turn: &Turn<'_>, command: &CommandRow) -> Option<String> {
    called_off(turn, command).or_else(|| {
        let plan = turn.state().plans.get(&command.plan).filter(|_| !is_recovery(command))?;
        with_context(turn, plan, guard::first_no_to_step).map(|hold| hold.reason)
    })
}

fn called_off(turn: &Turn<'_>, command: &CommandRow) -> Option<String> {
    let plan = turn.state().plans.get(&command.plan).filter(|_| !is_recovery(command))?;
    plan.closing.and(plan.stopped.clone())
}

fn is_recovery(command: &CommandRow) -> bool {
    command.finally || command.undoes.is_some()
}

/// Leaves out the further waves of a plan about one host whose symptom is gone; says whether it is.
pub(super) fn is_enough(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) -> bool {
    let Some(incident) = plan.incident.and_then(|id| turn.state().incidents.get(&id)) else { return false };
    if plan.target.host().is_none() || !incident::has_cleared(turn.state(), incident) {
        return false;
    }
    for command in commands.iter().filter(|command| waits_its_turn(command)) {
        end_unsent(turn, command, OutcomeKind::Skipped, "the symptom is gone");
    }
    turn.draft.change::<PlanRow>(&plan.id, |row| row.hold = None);
    turn.touch(Subject::Plan(plan.id));
    true
}

fn waits_its_turn(command: &CommandRow) -> bool {
    command.state == CommandState::Waiting && !command.finally && command.undoes.is_none()
}

/// Whether nothing of a plan was ever begun: its orders were cancelled, or did not arrive in time.
fn was_never_begun(turn: &Turn<'_>, plan: &PlanRow) -> bool {
    let mut sent = commands(turn, plan).into_iter().filter(|command| command.sent_at.is_some()).peekable();
    sent.peek().is_some()
        && sent.all(|command| {
            let outcome = command.outcome.as_ref();
            outcome.is_some_and(|outcome| outcome.kind == OutcomeKind::NotStarted || outcome.moved)
        })
}

fn has_moved(commands: &[Arc<CommandRow>]) -> bool {
    commands.iter().filter_map(|command| command.outcome.as_ref()).any(|outcome| outcome.moved)
}

/// Whether an incident may try a rung again of which nothing was begun.
pub(super) fn may_try_again(turn: &Turn<'_>, plan: &PlanRow) -> bool {
    let Some(incident) = plan.incident.and_then(|id| turn.state().incidents.get(&id)) else { return false };
    let earlier = incident.plans.iter().filter_map(|id| turn.state().plans.get(id));
    earlier.filter(|other| other.rung == plan.rung && other.state == PlanState::Cancelled).count() < TRIES
}

/// Ends a plan that failed, after its undo where its rung wants one.
pub(super) fn fail(turn: &mut Turn<'_>, plan: &PlanRow, why: &str) {
    let why = why.to_owned();
    if was_never_begun(turn, plan) && may_try_again(turn, plan) {
        let why = if has_moved(&commands(turn, plan)) { MOVED } else { "nothing of it was begun" };
        end(turn, plan.id, PlanState::Cancelled, why);
        return;
    }
    turn.draft.change::<PlanRow>(&plan.id, |row| why.clone_into(&mut row.verification));
    let Some(current) = turn.state().plans.get(&plan.id).cloned() else { return };
    if !begins_undo(turn, &current, PlanState::Failed) {
        end(turn, plan.id, PlanState::Failed, &why);
    }
}

/// Begins to undo what succeeded, last first, when the rung wants that, before the plan ends as it is to; says whether it
/// does.
pub(super) fn begins_undo(turn: &mut Turn<'_>, plan: &PlanRow, ending: PlanState) -> bool {
    let wants = rung_of(turn, plan).is_some_and(|(_, rung)| rung.otherwise == Otherwise::Undo);
    if !wants || plan.closing.is_some() {
        return false;
    }
    let done: Vec<Arc<CommandRow>> = commands(turn, plan)
        .into_iter()
        .filter(|command| command.undoes.is_none() && !command.finally)
        .filter(|command| command.outcome.as_ref().is_some_and(|outcome| outcome.kind == OutcomeKind::Succeeded))
        .collect();
    let why =
        if plan.verification.is_empty() { plan.stopped.clone().unwrap_or_default() } else { plan.verification.clone() };
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.closing = Some(ending);
        row.state = PlanState::Running;
        row.verification.clone_from(&why);
    });
    if done.is_empty() {
        turn.touch(Subject::Plan(plan.id));
        return true;
    }
    let steps = commands(turn, plan).iter().map(|command| command.step).max().unwrap_or(0) + 1;
    for (place, command) in done.iter().rev().enumerate() {
        let id = CommandId(turn.draft.number("cmd"));
        let mut undo = CommandRow::clone(command);
        undo.id = id;
        undo.undoes = Some(command.id);
        undo.step = steps + place;
        undo.state = CommandState::Waiting;
        undo.fence = 0;
        undo.look = None;
        (undo.sent_at, undo.not_after, undo.ended_at, undo.outcome) = (None, None, None, None);
        let key = format!("{} undo {} {} 1", plan.hash, command.step, command.host);
        undo.idempotency_key = quell_model::digest::Digest::of(key.as_bytes()).to_string();
        turn.draft.put(id, undo);
        turn.draft.change::<PlanRow>(&plan.id, |row| row.commands.push(id));
    }
    turn.record(
        Entry::new("planUndone", crate::Actor::Controller, format!("{}: {why}; what it did is undone", plan.id))
            .id("plan", plan.id)
            .maybe_id("incident", plan.incident),
    );
    turn.touch(Subject::Plan(plan.id));
    true
}
