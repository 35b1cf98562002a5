//! Timetables: when a run is due, spread by a hash, made good when it was missed, skipped when the last has not ended.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    name::{FullName, Target},
    policy::{Mode, Otherwise, Overlap, Schedule, Severity, Trigger},
};

use crate::{
    alert, breaker,
    draft::Entry,
    id::PlanId,
    incident::{self, Opening},
    plan::{self, Wanted},
    shadow::{self, About},
    state::{Cause, PlanRow, PlanState, ScheduleRow},
    turn::{Subject, Turn, by_policy},
    windows::{Compiled, after, before},
};

/// A run counts as missed when it could not begin within this time of its due time.
const PUNCTUAL: Duration = Duration::from_secs(60);

/// Looks at a policy's timetable on a target.
pub(crate) fn reconcile(turn: &mut Turn<'_>, policy: &FullName, target: &Target) -> Option<Timestamp> {
    let next = advance(turn, policy, target);
    let compiled = turn.policy(policy);
    let shadow = compiled.and_then(|compiled| shadow::look_again_at_run(turn, &compiled, target));
    next.into_iter().chain(shadow).min()
}

fn advance(turn: &mut Turn<'_>, policy: &FullName, target: &Target) -> Option<Timestamp> {
    let key = (policy.clone(), target.clone());
    let compiled = turn.policy(policy).filter(|compiled| alert::covers(compiled, target));
    let Some(compiled) = compiled else {
        turn.draft.remove::<ScheduleRow>(&key);
        return None;
    };
    let Trigger::Schedule(schedule) = &compiled.policy.trigger else { return None };
    let row = row(turn, &key);
    let splay = splay(policy, target, schedule.splay);
    let mut due = schedule.cron.next_after(row.last_due)?;
    if after(due, splay) > turn.now {
        return Some(after(due, splay));
    }
    // Of several that were missed only the latest counts.
    while let Some(later) = schedule.cron.next_after(due).filter(|later| after(*later, splay) <= turn.now) {
        due = later;
    }
    run(turn, &compiled, schedule, target, due, after(due, splay));
    schedule.cron.next_after(due).map(|next| after(next, splay))
}

/// The row of a timetable, made when the policy came into force.
pub(crate) fn row(turn: &mut Turn<'_>, key: &(FullName, Target)) -> ScheduleRow {
    if let Some(row) = turn.state().schedules.get(key) {
        return ScheduleRow::clone(row);
    }
    let row = ScheduleRow { last_due: turn.now, last_success: None, since: turn.now };
    turn.draft.put(key.clone(), row.clone());
    row
}

/// How long after the due time a target's run begins: the same each time, another for each target.
fn splay(policy: &FullName, target: &Target, within: Duration) -> Duration {
    let seconds = within.as_secs();
    if seconds == 0 {
        return Duration::ZERO;
    }
    let digest = Digest::of(format!("{policy} {target}").as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&digest.0[..8]);
    Duration::from_secs(u64::from_be_bytes(number) % seconds)
}

/// Runs what is due, or says why not.
fn run(
    turn: &mut Turn<'_>,
    compiled: &Compiled,
    schedule: &Schedule,
    target: &Target,
    due: Timestamp,
    begin: Timestamp,
) {
    let key = (compiled.policy.name.clone(), target.clone());
    let last = under_way(turn, compiled, target);
    if let Some(last) = last {
        if last.state.is_unbegun() {
            plan::end(turn, last.id, PlanState::Cancelled, "the next run is due");
        } else if schedule.overlap == Overlap::Queue {
            // The row stays as it is: the run is looked at again when the last has ended.
            return;
        } else {
            pass(turn, &key, due, "the last run has not ended");
            return;
        }
    }
    let late = turn.now.duration_since(begin).unsigned_abs();
    if late > PUNCTUAL && late > schedule.missed_within {
        pass(turn, &key, due, "it was missed and is too late to be made good");
        return;
    }
    turn.draft.change::<ScheduleRow>(&key, |row| row.last_due = due);
    shadow::drop_waiting(turn, &key.0, &About::Timetable(target), "the next run was due");
    begin_rung(turn, compiled, target, 0);
}

fn under_way(turn: &Turn<'_>, compiled: &Compiled, target: &Target) -> Option<std::sync::Arc<PlanRow>> {
    let plans = turn.state().live.plans.iter().filter_map(|id| turn.state().plans.get(id));
    plans
        .into_iter()
        .find(|plan| plan.scheduled && plan.policy.as_ref() == Some(&compiled.policy.name) && plan.target == *target)
        .cloned()
}

fn pass(turn: &mut Turn<'_>, key: &(FullName, Target), due: Timestamp, why: &str) {
    turn.draft.change::<ScheduleRow>(key, |row| row.last_due = due);
    turn.record(
        Entry::new(
            "runSkipped",
            by_policy(&key.0),
            format!("{} on {}: the run of {due} is skipped: {why}", key.0, key.1),
        )
        .id("policy", &key.0)
        .id("target", &key.1),
    );
}

/// Makes the plan of a rung of a scheduled policy, or says why there is none.
fn begin_rung(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target, rung: usize) {
    let name = &compiled.policy.name;
    let id = PlanId(turn.state().meta.counters.get("plan").copied().unwrap_or(0) + 1);
    let wanted = Wanted { compiled, target, rung, incident: None, scheduled: true };
    let due = turn.state().schedules.get(&(name.clone(), target.clone())).map_or(turn.now, |row| row.last_due);
    shadow::look_at_run(turn, compiled, target, rung, due);
    let made = plan::make(turn.view(), &wanted, id);
    let mode = breaker::effective_mode(turn.state(), turn.now, &compiled.policy);
    match made {
        Ok(_) if mode == Mode::Observe => {}
        Ok(candidate) => {
            plan::commit(turn, candidate);
        }
        Err(hold) => {
            let text = format!("{name} on {target}: the run could not be planned: {}", hold.reason);
            turn.record(Entry::new("runSkipped", by_policy(name), text).id("policy", name).id("target", target));
        }
    }
}

/// What the end of a scheduled plan means.
pub(crate) fn after_plan(turn: &mut Turn<'_>, plan: &PlanRow, state: PlanState) {
    let Some(policy) = &plan.policy else { return };
    let key = (policy.clone(), plan.target.clone());
    turn.touch(Subject::Schedule(key.0.clone(), key.1.clone()));
    let Some(compiled) = turn.policy(policy) else { return };
    match state {
        PlanState::Succeeded | PlanState::NothingToDo => {
            let now = turn.now;
            turn.draft.change::<ScheduleRow>(&key, |row| row.last_success = Some(now));
            for cause in [Cause::RunFailed, Cause::RunMissed] {
                if let Some(id) = incident::find_open(turn.state(), &problem(&compiled, cause), &plan.target) {
                    incident::resolve(turn, id, &format!("{} {}", plan.id, plan::word(state)));
                }
            }
            turn.touch(Subject::Expect(key.0, key.1));
        }
        PlanState::Failed => {
            let rung = compiled.policy.ladder.get(plan.rung_index);
            let goes_on = rung.is_some_and(|rung| rung.otherwise != Otherwise::Page);
            if goes_on && plan.rung_index + 1 < compiled.policy.ladder.len() {
                begin_rung(turn, &compiled, &plan.target, plan.rung_index + 1);
            } else {
                let summary = format!("the scheduled run failed: {}", compiled.policy.description);
                raise(turn, &compiled, &plan.target, Cause::RunFailed, summary);
            }
        }
        _ => {}
    }
}

/// The problem of a timetable.
pub(crate) fn problem(compiled: &Compiled, cause: Cause) -> String {
    let what = if cause == Cause::RunMissed { "missed" } else { "failed" };
    format!("{}-{what}", compiled.policy.problem)
}

/// Opens an incident about a timetable, unless it is open.
pub(crate) fn raise(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target, cause: Cause, summary: String) {
    let problem = problem(compiled, cause);
    if incident::find_open(turn.state(), &problem, target).is_none() {
        let severity = compiled.policy.severity.max(Severity::Ticket);
        incident::open(turn, compiled, Opening { problem, target: target.clone(), cause, severity, summary });
    }
}

/// Why the last run did not succeed, for people.
pub(crate) fn last_reason(turn: &Turn<'_>, policy: &FullName, target: &Target, within: Duration) -> String {
    let since = before(turn.now, within);
    let plan = turn
        .state()
        .plans
        .values()
        .rev()
        .find(|plan| plan.policy.as_ref() == Some(policy) && plan.target == *target && plan.created_at >= since);
    match plan {
        Some(plan) => match &plan.hold {
            Some(hold) => format!("{} is held ({}): {}", plan.id, hold.guard, hold.reason),
            None => format!("{} {}: {}", plan.id, plan::word(plan.state), plan.verification),
        },
        None => "no run was due, or none could be planned".to_owned(),
    }
}
