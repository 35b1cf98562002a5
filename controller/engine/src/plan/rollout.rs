//! Carrying a plan out: wave by wave, step by step, each wave's `finally` after its steps, until it is done or has failed
//! once too often; then undo, then what of `finally` is left.
//!
//! Within a wave a step begins when the one before has ended on all of the wave's hosts, so what is in flight never
//! exceeds the wave. A host on which a step failed is skipped by the later ones; the others go on.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use quell_model::name::{FullName, HostName, Target};

use super::{
    end, end_unsent, hold_plan, rung_of,
    stop::{begins_undo, fail, is_enough, leave_out, stop_after_errors, take_back},
    with_context,
};
use crate::{
    Effect,
    draft::Entry,
    guard,
    id::{CommandId, PlanId},
    state::{CommandRow, CommandState, LedgerRow, Outcome, OutcomeKind, PlanRow, PlanState},
    turn::{Subject, Turn, by_policy},
    windows::after,
};

/// An agent begins a command within this time of its sending, or not at all.
const START_WITHIN: Duration = Duration::from_secs(120);
/// How long after a command must have ended its outcome is waited for.
const GRACE: Duration = Duration::from_secs(60);

/// Moves a running plan on; says when something of it is due.
pub(super) fn advance(turn: &mut Turn<'_>, id: PlanId) -> Option<Timestamp> {
    let overdue = give_up_overdue(turn, id);
    let plan = turn.state().plans.get(&id).cloned()?;
    let commands = commands(turn, &plan);
    if commands.iter().any(|command| is_live(command)) {
        return overdue;
    }
    if plan.closing.is_none() && plan.stopped.is_none() {
        stop_after_errors(turn, &plan, &commands);
    }
    let plan = turn.state().plans.get(&id).cloned()?;
    match stage(&commands) {
        Stage::Steps if plan.stopped.is_some() || plan.closing.is_some() => {
            leave_out(turn, &plan, &commands);
            turn.touch(Subject::Plan(id));
            None
        }
        Stage::Steps => next_steps(turn, &plan, &commands),
        Stage::Done if plan.closing.is_none() && plan.stopped.is_some() => {
            fail(turn, &plan, plan.stopped.as_deref().unwrap_or_default());
            None
        }
        Stage::Finally
            if plan.closing.is_none() && plan.stopped.is_some() && begins_undo(turn, &plan, PlanState::Failed) =>
        {
            None
        }
        Stage::Undo => {
            send_first_group(turn, &plan, &commands, |command| command.undoes.is_some());
            turn.touch(Subject::Plan(id));
            None
        }
        Stage::Finally => {
            bring_back(turn, &plan, &commands, usize::MAX);
            turn.touch(Subject::Plan(id));
            None
        }
        Stage::Done => {
            conclude(turn, &plan, &commands);
            None
        }
    }
}

/// What of a plan comes next.
enum Stage {
    Steps,
    Undo,
    Finally,
    Done,
}

fn stage(commands: &[Arc<CommandRow>]) -> Stage {
    let waits = |wanted: fn(&CommandRow) -> bool| {
        commands.iter().any(|command| command.state == CommandState::Waiting && wanted(command))
    };
    if waits(|command| !command.finally && command.undoes.is_none()) {
        Stage::Steps
    } else if waits(|command| command.undoes.is_some()) {
        Stage::Undo
    } else if waits(|command| command.finally) {
        Stage::Finally
    } else {
        Stage::Done
    }
}

/// A plan's commands in the order in which they run.
pub(super) fn commands(turn: &Turn<'_>, plan: &PlanRow) -> Vec<Arc<CommandRow>> {
    plan.commands.iter().filter_map(|id| turn.command(*id)).collect()
}

pub(super) fn is_live(command: &CommandRow) -> bool {
    matches!(command.state, CommandState::Sent | CommandState::Begun)
}

pub(super) fn has_failed(command: &CommandRow) -> bool {
    command.outcome.as_ref().is_some_and(|outcome| !outcome.kind.is_success() && outcome.kind != OutcomeKind::Skipped)
}

/// Ends commands of which no word came in time as unknown; says when the next will be.
fn give_up_overdue(turn: &mut Turn<'_>, id: PlanId) -> Option<Timestamp> {
    let plan = turn.state().plans.get(&id).cloned()?;
    let mut next = None;
    for command in commands(turn, &plan).into_iter().filter(|command| is_live(command)) {
        let sent = command.sent_at.unwrap_or(turn.now);
        let due = after(after(after(sent, START_WITHIN), command.timeout), GRACE);
        if due > turn.now {
            next = Some(next.map_or(due, |at: Timestamp| at.min(due)));
            continue;
        }
        let outcome = Outcome {
            kind: OutcomeKind::Unknown,
            summary: format!("no word came from {} in time", command.host),
            duration: Duration::ZERO,
            values: quell_model::value::Fields::new(),
            output: String::new(),
            remedy: String::new(),
            moved: false,
        };
        let now = turn.now;
        end_command(turn, &command, outcome, now);
    }
    next
}

/// Writes down how a command ended.
pub(crate) fn end_command(turn: &mut Turn<'_>, command: &CommandRow, outcome: Outcome, ended_at: Timestamp) {
    let ended_at = ended_at.min(turn.now).max(command.sent_at.unwrap_or(ended_at.min(turn.now)));
    let kind = outcome.kind;
    let text = format!("{} on {}: {} {}: {}", command.action, command.host, command.id, word(kind), outcome.summary);
    let data = serde_json::json!(outcome);
    turn.draft.change::<CommandRow>(&command.id, |row| {
        row.state = CommandState::Ended;
        row.ended_at = Some(ended_at);
        row.outcome = Some(outcome);
    });
    if matches!(kind, OutcomeKind::Refused | OutcomeKind::NotStarted) {
        crate::ledger::void(turn, command.id);
        give_back_onces(turn, command.plan);
    }
    let incident = turn.state().plans.get(&command.plan).and_then(|plan| plan.incident);
    turn.record(
        Entry::new("commandEnded", crate::Actor::Agent(command.host.clone()), text)
            .id("command", command.id)
            .id("plan", command.plan)
            .id("host", &command.host)
            .maybe_id("incident", incident)
            .data(data),
    );
    turn.touch(Subject::Plan(command.plan));
}

/// What could happen only once did not happen when none of a plan's commands began.
fn give_back_onces(turn: &mut Turn<'_>, id: PlanId) {
    let Some(plan) = turn.state().plans.get(&id).cloned() else { return };
    let all_void = commands(turn, &plan).iter().filter(|command| command.sent_at.is_some()).all(|command| {
        command
            .outcome
            .as_ref()
            .is_some_and(|outcome| matches!(outcome.kind, OutcomeKind::Refused | OutcomeKind::NotStarted))
    });
    if let (true, Some(policy)) = (all_void, &plan.policy) {
        for once in &plan.onces {
            let key = (policy.clone(), once.key.clone());
            if turn.state().onces.get(&key).is_some_and(|row| row.plan == id) {
                turn.draft.remove::<crate::state::OnceRow>(&key);
            }
        }
    }
}

/// How an outcome reads.
pub(crate) fn word(kind: OutcomeKind) -> &'static str {
    match kind {
        OutcomeKind::Succeeded => "succeeded",
        OutcomeKind::NoChange => "had nothing to do",
        OutcomeKind::Refused => "was refused",
        OutcomeKind::Failed => "failed",
        OutcomeKind::Undone => "failed and was undone",
        OutcomeKind::Unknown => "ended nobody knows how",
        OutcomeKind::Skipped => "was skipped",
        OutcomeKind::NotStarted => "was not started",
    }
}

/// Sends the next step of the wave, or begins the next wave when it may.
fn next_steps(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) -> Option<Timestamp> {
    let first = commands.iter().find(|command| command.state == CommandState::Waiting && !command.finally)?;
    if first.wave > plan.wave {
        if bring_back(turn, plan, commands, plan.wave) {
            turn.touch(Subject::Plan(plan.id));
            return None;
        }
        if is_enough(turn, plan, commands) {
            return None;
        }
        if let Some(wait) = settle_wave(turn, plan, commands) {
            return Some(wait);
        }
        if let Some(hold) = with_context(turn, plan, guard::first_no_to_wave) {
            if hold.guard == "mode" {
                take_back(turn, plan, &hold.reason);
                return None;
            }
            let until = hold.until;
            hold_plan(turn, plan, Some(hold));
            return until;
        }
        let wave = first.wave;
        turn.draft.change::<PlanRow>(&plan.id, |row| {
            row.wave = wave;
            row.hold = None;
            row.next_wave_at = None;
        });
    } else if commands.iter().any(|command| command.sent_at.is_some()) {
        let hold = with_context(turn, plan, guard::first_no_to_step);
        let until = hold.as_ref().map(|hold| hold.until);
        hold_plan(turn, plan, hold);
        if let Some(until) = until {
            return until;
        }
    }
    let group: Vec<Arc<CommandRow>> = commands
        .iter()
        .filter(|command| {
            let is_of_step = command.wave == first.wave && command.step == first.step;
            is_of_step && command.state == CommandState::Waiting && !command.finally && command.undoes.is_none()
        })
        .cloned()
        .collect();
    let earlier = Earlier::of(first, commands);
    for command in group {
        match earlier.failure_before(&command) {
            Some(why) => {
                end_unsent(turn, &command, OutcomeKind::Skipped, &why);
            }
            None => send(turn, plan, &command),
        }
    }
    turn.touch(Subject::Plan(plan.id));
    None
}

/// Waits for the pause after a wave; absent when it is over.
fn settle_wave(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) -> Option<Timestamp> {
    let due = plan.next_wave_at.unwrap_or_else(|| {
        let last = commands.iter().filter_map(|command| command.ended_at).max().unwrap_or(turn.now);
        after(last, plan.settle)
    });
    turn.draft.change::<PlanRow>(&plan.id, |row| row.next_wave_at = Some(due));
    (due > turn.now).then_some(due)
}

/// The earlier steps of a wave.
struct Earlier<'a> {
    failed: Vec<&'a CommandRow>,
    /// Which step runs on which hosts.
    places: HashSet<(usize, &'a HostName)>,
}

impl<'a> Earlier<'a> {
    fn of(first: &CommandRow, commands: &'a [Arc<CommandRow>]) -> Self {
        let in_wave = || commands.iter().map(AsRef::as_ref).filter(|command: &&CommandRow| command.wave == first.wave);
        let failed: Vec<&CommandRow> = in_wave()
            .filter(|other| other.step < first.step && !other.finally && other.undoes.is_none())
            .filter(|other| other.outcome.as_ref().is_some_and(|outcome| !outcome.kind.is_success()))
            .collect();
        let places = if failed.is_empty() {
            HashSet::new()
        } else {
            in_wave().map(|command| (command.step, &command.host)).collect()
        };
        Self { failed, places }
    }

    /// Why a command is skipped: an earlier step of its wave failed on its host or, where that step ran elsewhere,
    /// anywhere.
    fn failure_before(&self, command: &CommandRow) -> Option<String> {
        let concerns =
            |other: &&&CommandRow| other.host == command.host || !self.places.contains(&(other.step, &command.host));
        let other = self.failed.iter().find(concerns)?;
        Some(format!("{} on {} did not succeed", other.action, other.host))
    }
}

/// Begins what `finally` wants for the waves up to one, and leaves it out for the hosts that nothing was begun on; says
/// whether there was any.
fn bring_back(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>], wave: usize) -> bool {
    let is_due =
        |command: &CommandRow| command.finally && command.wave <= wave && command.state == CommandState::Waiting;
    let untouched = untouched(commands);
    let (left_out, due): (Vec<_>, Vec<_>) =
        commands.iter().filter(|command| is_due(command)).partition(|command| untouched.contains(&command.host));
    for command in &left_out {
        end_unsent(turn, command, OutcomeKind::Skipped, "nothing was begun on the host");
    }
    if left_out.is_empty() {
        send_first_group(turn, plan, commands, is_due);
    }
    !(left_out.is_empty() && due.is_empty())
}

/// The hosts that the plan was to act on, and on which nothing of it was begun.
fn untouched(commands: &[Arc<CommandRow>]) -> HashSet<&HostName> {
    let steps = || commands.iter().filter(|command| !command.finally && command.undoes.is_none());
    let was_begun = |command: &&Arc<CommandRow>| {
        let ended = command.outcome.as_ref().map(|outcome| outcome.kind);
        command.sent_at.is_some() && !matches!(ended, Some(OutcomeKind::Refused | OutcomeKind::NotStarted))
    };
    let touched: HashSet<&HostName> = steps().filter(was_begun).map(|command| &command.host).collect();
    steps().map(|command| &command.host).filter(|host| !touched.contains(host)).collect()
}

/// Sends the first step of those that wait, on all of its hosts.
fn send_first_group(
    turn: &mut Turn<'_>,
    plan: &PlanRow,
    commands: &[Arc<CommandRow>],
    wanted: impl Fn(&CommandRow) -> bool,
) {
    let mut waiting =
        commands.iter().filter(|command| command.state == CommandState::Waiting && wanted(command)).peekable();
    let Some(step) = waiting.peek().map(|command| command.step) else { return };
    for command in waiting.filter(|command| command.step == step) {
        send(turn, plan, command);
    }
}

/// Sends a command: its fence, its row in the ledger and its effect in one change.
fn send(turn: &mut Turn<'_>, plan: &PlanRow, command: &CommandRow) {
    let now = turn.now;
    let mut fence = 0;
    turn.draft.change_meta(|meta| {
        meta.fence += 1;
        fence = meta.fence;
    });
    turn.draft.change::<CommandRow>(&command.id, |row| {
        row.state = CommandState::Sent;
        row.fence = fence;
        row.sent_at = Some(now);
        row.not_after = Some(after(now, START_WITHIN));
    });
    if counts(command) {
        turn.draft.put(
            command.id,
            LedgerRow {
                command: command.id,
                plan: plan.id,
                policy: plan.policy.clone(),
                target: plan.target.clone(),
                host: command.host.clone(),
                service: plan.service.clone(),
                also: plan.also.iter().map(|also| also.service.clone()).collect(),
                counts_for: counts_for(plan, &command.host),
                at: now,
                rung: plan.rung.clone(),
                incident: plan.incident,
                void: false,
            },
        );
    }
    let who = plan
        .policy
        .as_ref()
        .map_or_else(|| crate::Actor::Person(plan.requester.clone().unwrap_or_default()), by_policy);
    turn.record(
        Entry::new("commandSent", who, format!("{}: {} on {}", command.id, command.action, command.host))
            .id("command", command.id)
            .id("plan", plan.id)
            .id("host", &command.host)
            .maybe_id("incident", plan.incident)
            .maybe_id("policy", plan.policy.as_ref())
            .data(serde_json::json!({ "with": command.parameters, "fence": fence, "wave": command.wave })),
    );
    emit(turn, command.id);
}

/// The policies' targets for which a command on a host counts: the host's own, and those that are on no host.
fn counts_for(plan: &PlanRow, host: &HostName) -> Vec<(FullName, Target)> {
    let near = plan.concerns.iter().flat_map(|concern| {
        let targets = concern.targets.iter().filter(|target| target.host().is_none_or(|own| own == host));
        targets.map(|target| (concern.policy.clone(), target.clone()))
    });
    near.collect()
}

/// Whether a command is counted by the ledger: recovery and dry runs are not.
pub(crate) fn counts(command: &CommandRow) -> bool {
    !command.dry_run && !command.finally && command.undoes.is_none()
}

/// Hands a command to its agent's session.
pub(crate) fn emit(turn: &mut Turn<'_>, id: CommandId) {
    let Some(command) = turn.command(id) else { return };
    let Some(plan) = turn.state().plans.get(&command.plan).cloned() else { return };
    turn.effect(Effect::Command { host: command.host.clone(), command, plan });
}

/// All steps have ended: the symptom is judged, or the plan is over.
fn conclude(turn: &mut Turn<'_>, plan: &PlanRow, commands: &[Arc<CommandRow>]) {
    if let Some(state) = plan.closing {
        let why = plan.verification.clone();
        end(turn, plan.id, state, &why);
        return;
    }
    let acted_at = commands.iter().filter_map(|command| command.ended_at).max().unwrap_or(turn.now);
    let has_verify = rung_of(turn, plan).is_some_and(|(_, rung)| rung.verify.is_some());
    if plan.dry_run || !has_verify {
        let done = commands.iter().filter(|command| !has_failed(command)).count();
        end(turn, plan.id, PlanState::Succeeded, &format!("{done} of {} commands did what was wanted", commands.len()));
        return;
    }
    turn.draft.change::<PlanRow>(&plan.id, |row| {
        row.state = PlanState::Verifying;
        row.acted_at = Some(acted_at);
        "not yet".clone_into(&mut row.verification);
    });
    turn.record(
        Entry::new(
            "planActed",
            crate::Actor::Controller,
            format!("{} was carried out; the symptom is judged by new samples", plan.id),
        )
        .id("plan", plan.id)
        .maybe_id("incident", plan.incident),
    );
    turn.touch(Subject::Plan(plan.id));
}
