//! Plans: exactly what would be done, with frozen values, to which hosts, in which waves; made from a rung, superseded
//! when the world moves before they start, and carried to their end.

mod candidate;
pub(crate) mod concern;
pub(crate) mod preview;
pub(crate) mod rollout;
pub(crate) mod stop;
pub(crate) mod taking;
mod verify;

use jiff::Timestamp;
use quell_model::policy::{Otherwise, Rung, TellAt};

pub(crate) use candidate::{Candidate, Order, Wanted, asks_people, make, manual};

pub(crate) use stop::call_off;

use crate::{
    approval, breaker,
    draft::Entry,
    guard::{self, Context},
    id::PlanId,
    incident, schedule,
    state::{CommandRow, CommandState, Hold, IncidentRow, IncidentState, Outcome, OutcomeKind, PlanRow, PlanState},
    tell,
    turn::{Subject, Turn},
    windows::Compiled,
};

/// A held plan that a person asked for is given up after this time: a one-shot policy expires.
const RUN_EXPIRES: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Looks at a plan that has not ended.
pub(crate) fn reconcile(turn: &mut Turn<'_>, id: PlanId) -> Option<Timestamp> {
    let plan = turn.state().plans.get(&id).cloned()?;
    match plan.state {
        PlanState::Previewing => preview::reconcile(turn, &plan),
        PlanState::Proposed => wait_for_people(turn, &plan),
        PlanState::Held => wait_for_guards(turn, &plan),
        PlanState::Running => rollout::advance(turn, id),
        PlanState::Verifying => verify::reconcile(turn, id),
        _ => None,
    }
}

/// The policy of a plan, and its rung, if both are still there.
pub(crate) fn rung_of(turn: &Turn<'_>, plan: &PlanRow) -> Option<(std::sync::Arc<Compiled>, Rung)> {
    let compiled = turn.policy(plan.policy.as_ref()?)?;
    let rung = compiled.policy.ladder.iter().find(|rung| rung.name == plan.rung)?.clone();
    Some((compiled, rung))
}

/// Puts a new plan with its commands into the state. It may start when nothing holds it, or is a draft whose hosts are
/// asked first what it would touch.
pub(crate) fn commit(turn: &mut Turn<'_>, candidate: Candidate) -> PlanId {
    let is_draft = preview::is_wanted(&candidate);
    let Candidate { mut plan, commands } = candidate;
    turn.draft.change_meta(|meta| {
        meta.counters.insert("plan".to_owned(), plan.id.0);
    });
    plan.state = PlanState::Held;
    plan.commands = Vec::with_capacity(commands.len());
    let numbers = turn.draft.numbers("cmd", commands.len());
    for (mut command, number) in commands.into_iter().zip(numbers) {
        command.id = crate::id::CommandId(number);
        plan.commands.push(command.id);
        turn.draft.put(command.id, command);
    }
    let id = plan.id;
    let who = plan.requester.as_ref().map_or_else(
        || plan.policy.as_ref().map_or(crate::Actor::Timer, crate::turn::by_policy),
        |name| crate::Actor::Person(name.clone()),
    );
    let steps: Vec<String> = describe(&plan, turn);
    let entry = Entry::new("planMade", who, format!("{id}: {}", steps.join(", then ")))
        .id("plan", id)
        .id("target", &plan.target)
        .id("hash", plan.hash)
        .maybe_id("incident", plan.incident)
        .maybe_id("policy", plan.policy.as_ref())
        .data(serde_json::json!({ "rung": plan.rung, "values": plan.values, "waves": plan.waves }));
    if let Some(incident) = plan.incident {
        let leader = plan.policy.clone();
        turn.draft.change::<IncidentRow>(&incident, |row| {
            row.plans.push(id);
            row.leader = leader;
            row.hold = None;
        });
    }
    turn.draft.put(id, plan);
    turn.record(entry);
    if is_draft {
        preview::begin(turn, id);
    }
    turn.touch(Subject::Plan(id));
    id
}

/// What a plan does, a phrase for each step.
fn describe(plan: &PlanRow, turn: &Turn<'_>) -> Vec<String> {
    let mut steps: Vec<(usize, String, Vec<String>)> = Vec::new();
    for command in plan.commands.iter().filter_map(|id| turn.state().commands.get(id)) {
        match steps.iter_mut().find(|step| step.0 == command.step) {
            Some(step) => step.2.push(command.host.to_string()),
            None => steps.push((command.step, command.action.clone(), vec![command.host.to_string()])),
        }
    }
    steps.into_iter().map(|(_, action, hosts)| format!("{action} on {}", hosts.join(", "))).collect()
}

/// Makes the plan again as it would be now; ends it when it became another or cannot be made.
fn still_stands(turn: &mut Turn<'_>, plan: &PlanRow) -> bool {
    if plan.policy.is_none() {
        return true;
    }
    let Some((compiled, _)) = rung_of(turn, plan) else {
        end(turn, plan.id, PlanState::Superseded, "the policy has changed and has no such rung");
        return false;
    };
    let wanted = Wanted {
        compiled: &compiled,
        target: &plan.target,
        rung: plan.rung_index,
        incident: plan.incident,
        scheduled: plan.scheduled,
    };
    match make(turn.view(), &wanted, plan.id) {
        Ok(now) if now.plan.hash == plan.draft.unwrap_or(plan.hash) => true,
        Ok(_) => {
            end(turn, plan.id, PlanState::Superseded, "the world has moved: the plan would be another one now");
            false
        }
        // What a plan is made of is unknown for the moment; its guards hold it.
        Err(_) => true,
    }
}

fn wait_for_people(turn: &mut Turn<'_>, plan: &PlanRow) -> Option<Timestamp> {
    let needs = plan.needs.clone()?;
    if turn.now >= needs.expires {
        end(turn, plan.id, PlanState::Expired, "nobody answered in time");
        return None;
    }
    if !still_stands(turn, plan) {
        return None;
    }
    let Ok(lapses) = approval::lapse(turn, plan) else { return None };
    if approval::count(turn.state(), plan, turn.now) >= needs.count {
        turn.draft.change::<PlanRow>(&plan.id, |row| {
            row.state = PlanState::Held;
            row.hold = None;
        });
        turn.record(
            Entry::new("planApproved", crate::Actor::Controller, format!("{} has its approval", plan.id))
                .id("plan", plan.id)
                .maybe_id("incident", plan.incident),
        );
        turn.touch(Subject::Plan(plan.id));
        return None;
    }
    let hold = hold_by(turn, plan, "approval");
    hold_plan(turn, plan, hold);
    let reminder = approval::remind(turn, plan.id);
    Some(needs.expires).into_iter().chain(reminder).chain(lapses).min()
}

/// What one guard says of a plan.
fn hold_by(turn: &Turn<'_>, plan: &PlanRow, name: &str) -> Option<Hold> {
    let guard = guard::GUARDS.iter().find(|guard| guard.name == name)?;
    with_context(turn, plan, guard.verdict)
}

/// Asks every guard; the first "no" holds the plan, none starts it, in this same step.
fn wait_for_guards(turn: &mut Turn<'_>, plan: &PlanRow) -> Option<Timestamp> {
    if plan.policy.is_none() && turn.now >= crate::windows::after(plan.created_at, RUN_EXPIRES) {
        end(turn, plan.id, PlanState::Cancelled, "it was held for too long to be what was meant");
        return None;
    }
    if !still_stands(turn, plan) {
        return None;
    }
    if ask_people_after_all(turn, plan) {
        return None;
    }
    let Ok(lapses) = approval::lapse(turn, plan) else { return None };
    if let Some(hold) = first_no(turn, plan) {
        let until = hold.until;
        let goes_to_people = hold.guard == "once";
        hold_plan(turn, plan, Some(hold));
        if goes_to_people {
            end(turn, plan.id, PlanState::Cancelled, "it was done before: people decide");
        }
        let expiry = plan.policy.is_none().then(|| crate::windows::after(plan.created_at, RUN_EXPIRES));
        return until.into_iter().chain(expiry).chain(lapses).filter(|at| *at > turn.now).min();
    }
    start(turn, plan);
    None
}

/// A plan that was made to act unattended needs people when its policy has been lowered to propose since.
fn ask_people_after_all(turn: &mut Turn<'_>, plan: &PlanRow) -> bool {
    let Some((compiled, rung)) = rung_of(turn, plan) else { return false };
    if plan.needs.is_some()
        || breaker::effective_mode(turn.state(), turn.now, &compiled.policy) != quell_model::policy::Mode::Propose
    {
        return false;
    }
    let needs = approval::needs(&rung, turn.now, turn.now);
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.state = PlanState::Proposed;
        row.needs = Some(needs);
    });
    if plan.draft.is_some() {
        approval::ask(turn, plan.id);
    } else {
        preview::begin(turn, plan.id);
    }
    turn.touch(Subject::Plan(plan.id));
    true
}

/// The first guard that says no to a plan.
pub(crate) fn first_no(turn: &Turn<'_>, plan: &PlanRow) -> Option<Hold> {
    with_context(turn, plan, guard::first_no)
}

/// Asks something of the guards about a plan.
pub(crate) fn with_context<T>(turn: &Turn<'_>, plan: &PlanRow, ask: impl FnOnce(&Context<'_>) -> T) -> T {
    let rung = rung_of(turn, plan);
    let incident = plan.incident.and_then(|id| turn.state().incidents.get(&id).cloned());
    let commands = rollout::commands(turn, plan);
    ask(&Context {
        view: turn.view(),
        plan,
        compiled: rung.as_ref().map(|(compiled, _)| &**compiled),
        rung: rung.as_ref().map(|(_, rung)| rung),
        incident: incident.as_deref(),
        taking: &taking::next(commands.iter().map(AsRef::as_ref)),
    })
}

/// Asks something of the guards about a plan that is not made yet.
pub(crate) fn with_context_of<T>(
    turn: &Turn<'_>,
    compiled: &Compiled,
    candidate: &Candidate,
    ask: impl FnOnce(&Context<'_>) -> T,
) -> T {
    let plan = &candidate.plan;
    let incident = plan.incident.and_then(|id| turn.state().incidents.get(&id).cloned());
    ask(&Context {
        view: turn.view(),
        plan,
        compiled: Some(compiled),
        rung: compiled.policy.ladder.get(plan.rung_index),
        incident: incident.as_deref(),
        taking: &taking::next(candidate.commands.iter()),
    })
}

/// Writes down why a plan waits, when that is news.
pub(crate) fn hold_plan(turn: &mut Turn<'_>, plan: &PlanRow, hold: Option<Hold>) {
    let Some(merged) = merge_hold(plan.hold.as_ref(), hold) else { return };
    turn.draft.change::<PlanRow>(&plan.id, |row| row.hold = merged.clone());
    if let Some(hold) = merged {
        let entry = Entry::new(
            "planHeld",
            crate::Actor::Controller,
            format!("{} is held ({}): {}", plan.id, hold.guard, hold.reason),
        )
        .id("plan", plan.id)
        .maybe_id("incident", plan.incident)
        .maybe_id("policy", plan.policy.as_ref())
        .data(serde_json::json!(hold));
        turn.record(entry);
        if let Some(incident) = plan.incident
            && !matches!(hold.guard.as_str(), "approval" | "preview")
        {
            tell::moment(turn, incident, TellAt::Held);
        }
    }
}

/// The hold to be written: absent when nothing changed; `since` is kept while the same guard holds.
pub(crate) fn merge_hold(old: Option<&Hold>, new: Option<Hold>) -> Option<Option<Hold>> {
    match (old, new) {
        (None, None) => None,
        (Some(old), Some(mut new)) => {
            if old.guard == new.guard {
                new.since = old.since;
            }
            (*old != new).then_some(Some(new))
        }
        (_, new) => Some(new),
    }
}

/// Starts a plan that nothing holds.
fn start(turn: &mut Turn<'_>, plan: &PlanRow) {
    let now = turn.now;
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.state = PlanState::Running;
        row.started_at = Some(now);
        row.hold = None;
    });
    if let Some(policy) = &plan.policy {
        for once in &plan.onces {
            let until = once.within.map_or(Timestamp::MAX, |within| crate::windows::after(now, within));
            turn.draft.put((policy.clone(), once.key.clone()), crate::state::OnceRow { at: now, until, plan: plan.id });
        }
    }
    let who = plan
        .policy
        .as_ref()
        .map_or_else(|| crate::Actor::Person(plan.requester.clone().unwrap_or_default()), crate::turn::by_policy);
    turn.record(
        Entry::new("planStarted", who, format!("{} starts: {}", plan.id, plan.rung))
            .id("plan", plan.id)
            .maybe_id("incident", plan.incident)
            .maybe_id("policy", plan.policy.as_ref()),
    );
    turn.touch(Subject::Plan(plan.id));
}

/// Ends a plan: what it has not begun is not started, and everything that waited for it is looked at.
pub(crate) fn end(turn: &mut Turn<'_>, id: PlanId, state: PlanState, why: &str) {
    let Some(plan) = turn.state().plans.get(&id).cloned() else { return };
    let now = turn.now;
    for command in rollout::commands(turn, &plan) {
        if command.state == CommandState::Waiting {
            end_unsent(turn, &command, OutcomeKind::NotStarted, why);
        }
    }
    turn.draft.change::<PlanRow>(&id, |row| {
        row.state = state;
        row.ended_at = Some(now);
        row.hold = None;
        why.clone_into(&mut row.verification);
    });
    turn.record(
        Entry::new("planEnded", crate::Actor::Controller, format!("{id} {}: {why}", word(state)))
            .id("plan", id)
            .maybe_id("incident", plan.incident)
            .maybe_id("policy", plan.policy.as_ref()),
    );
    if let Some(incident) = plan.incident {
        follow_up(turn, incident, &plan, state, why);
    }
    if plan.scheduled {
        schedule::after_plan(turn, &plan, state);
    }
    if state == PlanState::Failed
        && let Some(policy) = &plan.policy
    {
        breaker::after_failure(turn, policy);
    }
    if plan.started_at.is_some() {
        turn.touch_live();
    }
    turn.touch(Subject::Retention);
}

/// How a plan's end reads.
pub(crate) fn word(state: PlanState) -> &'static str {
    match state {
        PlanState::Previewing => "is previewed",
        PlanState::Proposed => "waits for an approval",
        PlanState::Held => "is held",
        PlanState::Running => "runs",
        PlanState::Verifying => "is verified",
        PlanState::Succeeded => "succeeded",
        PlanState::Failed => "failed",
        PlanState::Denied => "was denied",
        PlanState::Expired => "expired",
        PlanState::Cancelled => "was cancelled",
        PlanState::Superseded => "was superseded",
        PlanState::NothingToDo => "had nothing to do",
    }
}

/// What the end of a plan means for its incident's place on the ladder.
fn follow_up(turn: &mut Turn<'_>, id: crate::id::IncidentId, plan: &PlanRow, state: PlanState, why: &str) {
    let rung = rung_of(turn, plan);
    let doubt = plan
        .commands
        .iter()
        .filter_map(|id| turn.command(*id))
        .any(|command| command.outcome.as_ref().is_some_and(|outcome| outcome.kind == OutcomeKind::Unknown));
    let otherwise = rung.as_ref().map_or(Otherwise::Page, |(_, rung)| rung.otherwise);
    let index = plan.rung_index;
    let now = turn.now;
    turn.draft.change::<IncidentRow>(&id, |row| match state {
        PlanState::Succeeded => {
            row.healed_by = Some(index);
            row.rung = index + 1;
            row.state = IncidentState::Mitigated;
        }
        PlanState::Failed => {
            row.rung = index + 1;
            if otherwise == Otherwise::Page {
                row.ladder_ended = Some(format!("{} did not help ({why})", plan.rung));
            } else if doubt {
                row.ladder_ended = Some(format!("nobody can say what became of {}", plan.rung));
            }
        }
        PlanState::NothingToDo => {
            row.rung = index + 1;
            if otherwise == Otherwise::Page {
                row.ladder_ended = Some(format!("{} had nothing to do", plan.rung));
            }
        }
        PlanState::Cancelled if plan.cancelled_by.is_some() => {
            row.ladder_ended = Some(format!("{} was called off ({why})", plan.rung));
        }
        PlanState::Denied => row.ladder_ended = Some(format!("{} was not run: {why}", plan.rung)),
        PlanState::Cancelled if why.starts_with("it was done before") => {
            row.ladder_ended = Some(format!("{} was done before and may be done only once", plan.rung));
        }
        _ => {}
    });
    incident::story(turn, id, now, &format!("{} ({}) {}: {why}", plan.id, plan.rung, word(state)));
    if plan.started_at.is_some() {
        tell::moment(turn, id, TellAt::Acted);
    }
    turn.touch(Subject::Incident(id));
}

/// Ends a command that was never sent.
pub(crate) fn end_unsent(turn: &mut Turn<'_>, command: &CommandRow, kind: OutcomeKind, why: &str) {
    let now = turn.now;
    let outcome = Outcome {
        kind,
        summary: why.to_owned(),
        duration: std::time::Duration::ZERO,
        values: quell_model::value::Fields::new(),
        output: String::new(),
        remedy: String::new(),
        moved: false,
    };
    turn.draft.change::<CommandRow>(&command.id, |row| {
        row.state = CommandState::Ended;
        row.ended_at = Some(now);
        row.outcome = Some(outcome);
    });
}
