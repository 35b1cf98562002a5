//! The shadow ledger: what a policy that only observes or proposes would have done, had it been let loose.
//!
//! The plan is made and the guards are asked as for a policy in enforce, and nothing is released. The guards look at a
//! state in which what the policy would have done before has happened, so that its own cool-down, budgets, `once` and
//! disturbance hold it back as they would have. What they cannot know is how the world would have gone on: a rung is
//! taken to be carried out at once, and whether it would have helped, and which rung would have followed, nobody says.

mod summary;

use jiff::Timestamp;
use quell_model::{
    name::{FullName, Target},
    policy::Mode,
};

pub use self::summary::{Summary, summary};
use crate::{
    breaker,
    draft::Entry,
    guard::{self, Context},
    id::{CommandId, IncidentId, PlanId},
    ladder,
    plan::{self, Candidate, Wanted, taking},
    scope::View,
    state::{Hold, IncidentRow, IncidentState, LedgerRow, OnceRow, ShadowRow, State},
    turn::{Turn, by_policy},
    windows::Compiled,
};

/// So many decisions of a policy are kept,
pub(crate) const KEPT: usize = 200;
/// and twenty more before they are cut back;
const SLACK: usize = 20;
/// and so many hosts of each.
const HOSTS: usize = 100;

/// The policy, and what the decision is about: `inc-7/restart`, or the due time of a run.
type Key = (FullName, String);

/// Looks at the rung that an incident stands at.
pub(crate) fn look_at_incident(turn: &mut Turn<'_>, compiled: &Compiled, id: IncidentId) -> Option<Timestamp> {
    let mode = mode_of(turn, compiled)?;
    let incident = turn.state().incidents.get(&id).cloned()?;
    let rung = compiled.policy.ladder.get(incident.rung)?;
    let key = (compiled.policy.name.clone(), format!("{id}/{}", rung.name));
    let is_due = incident.ladder_ended.is_none() && incident.state != IncidentState::Mitigated;
    if !is_due || is_decided(turn.state(), &key) || !ladder::wants_to(turn, compiled, &incident) {
        return None;
    }
    let wanted =
        Wanted { compiled, target: &incident.target, rung: incident.rung, incident: Some(id), scheduled: false };
    consider(turn, key, &wanted, mode)
}

/// Looks at the run of a timetable that was due last.
pub(crate) fn look_at_run(
    turn: &mut Turn<'_>,
    compiled: &Compiled,
    target: &Target,
    rung: usize,
    due: Timestamp,
) -> Option<Timestamp> {
    let mode = mode_of(turn, compiled)?;
    let name = &compiled.policy.ladder.get(rung)?.name;
    let key = (compiled.policy.name.clone(), format!("{due}/{target}/{name}"));
    if is_decided(turn.state(), &key) {
        return None;
    }
    consider(turn, key, &Wanted { compiled, target, rung, incident: None, scheduled: true }, mode)
}

/// Looks again at a run that would be held.
pub(crate) fn look_again_at_run(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target) -> Option<Timestamp> {
    let waiting = waiting(turn.state(), &compiled.policy.name, |row| row.incident.is_none() && row.target == *target);
    let (key, row) = waiting.into_iter().next()?;
    let mode = mode_of(turn, compiled)?;
    let rung = compiled.policy.ladder.iter().position(|rung| rung.name == row.rung)?;
    consider(turn, key, &Wanted { compiled, target, rung, incident: None, scheduled: true }, mode)
}

/// What would still be held for an incident, or for a target's timetable, would not be done any more.
pub(crate) fn drop_waiting(turn: &mut Turn<'_>, policy: &FullName, about: &About<'_>, why: &str) {
    let is_about = |row: &ShadowRow| match about {
        About::Incident(id) => row.incident == Some(*id),
        About::Timetable(target) => row.incident.is_none() && row.target == **target,
    };
    for (key, row) in waiting(turn.state(), policy, is_about) {
        turn.draft.change::<ShadowRow>(&key, |row| row.dropped = Some(why.to_owned()));
        let text = format!("{policy} on {}: would not have run {}: {why}", row.target, row.rung);
        turn.record(entry("shadowDropped", &row, text));
    }
}

/// What is over.
pub(crate) enum About<'a> {
    Incident(IncidentId),
    Timetable(&'a Target),
}

fn mode_of(turn: &Turn<'_>, compiled: &Compiled) -> Option<Mode> {
    let mode = breaker::effective_mode(turn.state(), turn.now, &compiled.policy);
    (mode != Mode::Enforce).then_some(mode)
}

fn is_decided(state: &State, key: &Key) -> bool {
    state.shadows.get(key).is_some_and(|row| !row.is_waiting())
}

fn of_policy<'a>(state: &'a State, policy: &FullName) -> impl Iterator<Item = (&'a Key, &'a ShadowRow)> + use<'a> {
    let first = (policy.clone(), String::new());
    let policy = policy.clone();
    let rows = state.shadows.range(first..).take_while(move |(key, _)| key.0 == policy);
    rows.map(|(key, row)| (key, row.as_ref()))
}

fn waiting(state: &State, policy: &FullName, wanted: impl Fn(&ShadowRow) -> bool) -> Vec<(Key, ShadowRow)> {
    let rows = of_policy(state, policy).filter(|(_, row)| row.is_waiting() && wanted(row));
    rows.map(|(key, row)| (key.clone(), row.clone())).collect()
}

/// Decides, and notes what that is; says when it may be decided otherwise.
fn consider(turn: &mut Turn<'_>, key: Key, wanted: &Wanted<'_>, mode: Mode) -> Option<Timestamp> {
    let next = PlanId(turn.state().meta.counters.get("plan").copied().unwrap_or(0) + 1);
    let candidate = plan::make(turn.view(), wanted, next).ok()?;
    let hold = first_no(turn, wanted.compiled, &candidate);
    let until = hold.as_ref().and_then(|hold| hold.until);
    let old = turn.state().shadows.get(&key).map(|row| ShadowRow::clone(row));
    let row = match (old, hold) {
        // Why it is held may read differently each time; that is no news.
        (Some(old), Some(hold)) if old.hold.as_ref().is_some_and(|old| old.guard == hold.guard) => return until,
        (Some(old), hold) => advanced(old, hold, turn.now),
        (None, hold) => advanced(made(turn, wanted, &candidate), hold, turn.now),
    };
    note(turn, key, &row, mode);
    until
}

fn made(turn: &Turn<'_>, wanted: &Wanted<'_>, candidate: &Candidate) -> ShadowRow {
    let plan = &candidate.plan;
    let mut actions: Vec<String> = Vec::new();
    for command in candidate.commands.iter().filter(|command| !command.finally) {
        if !actions.contains(&command.action) {
            actions.push(command.action.clone());
        }
    }
    let policy = &wanted.compiled.policy;
    ShadowRow {
        policy: policy.name.clone(),
        digest: policy.digest,
        target: plan.target.clone(),
        rung: plan.rung.clone(),
        incident: plan.incident,
        actions,
        hosts: plan.hosts.iter().take(HOSTS).cloned().collect(),
        host_count: plan.hosts.len(),
        service: plan.service.clone(),
        onces: plan.onces.clone(),
        asks_people: plan::asks_people(turn.view(), wanted),
        wanted_at: turn.now,
        acted_at: None,
        hold: None,
        held_by: Vec::new(),
        dropped: None,
    }
}

fn advanced(mut row: ShadowRow, hold: Option<Hold>, now: Timestamp) -> ShadowRow {
    match hold {
        None => row.acted_at = Some(now),
        Some(hold) => {
            if !row.held_by.contains(&hold.guard) {
                row.held_by.push(hold.guard.clone());
            }
            row.hold = Some(hold);
        }
    }
    row
}

fn note(turn: &mut Turn<'_>, key: Key, row: &ShadowRow, mode: Mode) {
    let only = if mode == Mode::Observe { "observes" } else { "proposes" };
    let what = format!("{} on {}: would run {} ({})", row.policy, row.target, row.rung, row.actions.join(", "));
    let (kind, text) = match &row.hold {
        Some(hold) if row.acted_at.is_none() => {
            ("shadowHeld", format!("{what} and be held ({}): {}; the policy only {only}", hold.guard, hold.reason))
        }
        _ => ("shadowActed", format!("{what} on {}; the policy only {only}", hosts(row))),
    };
    let entry = entry(kind, row, text);
    turn.draft.put(key, row.clone());
    cut_back(turn, &row.policy);
    turn.record(entry);
}

fn entry(kind: &'static str, row: &ShadowRow, text: String) -> Entry {
    Entry::new(kind, by_policy(&row.policy), text)
        .id("policy", &row.policy)
        .id("target", &row.target)
        .id("rung", &row.rung)
        .maybe_id("incident", row.incident)
}

fn hosts(row: &ShadowRow) -> String {
    let shown: Vec<&str> = row.hosts.iter().take(10).map(|host| host.as_str()).collect();
    match row.host_count - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn cut_back(turn: &mut Turn<'_>, policy: &FullName) {
    let mut rows: Vec<(Timestamp, Key)> =
        of_policy(turn.state(), policy).map(|(key, row)| (row.wanted_at, key.clone())).collect();
    if rows.len() > KEPT + SLACK {
        rows.sort();
        for (_, key) in &rows[..rows.len() - KEPT] {
            turn.draft.remove::<ShadowRow>(key);
        }
    }
}

/// The first "no" of the guards, were the policy let loose and had it been before: not its mode, and not the approval,
/// which is taken to be given at once.
fn first_no(turn: &Turn<'_>, compiled: &Compiled, candidate: &Candidate) -> Option<Hold> {
    let state = with_shadows(turn.state(), &compiled.policy.name);
    let plan = &candidate.plan;
    let incident = plan.incident.and_then(|id| state.incidents.get(&id));
    let context = Context {
        view: View { windows: turn.windows, state: &state, now: turn.now },
        plan,
        compiled: Some(compiled),
        rung: compiled.policy.ladder.get(plan.rung_index),
        incident: incident.map(|row: &std::sync::Arc<IncidentRow>| &**row),
        taking: &taking::next(candidate.commands.iter()),
    };
    let asked = guard::GUARDS.iter().filter(|guard| !matches!(guard.name, "mode" | "approval"));
    asked.into_iter().find_map(|guard| (guard.verdict)(&context))
}

/// The state as it would be, had the policy done what it would have. Where people let it do the same, that counts once.
fn with_shadows(state: &State, policy: &FullName) -> State {
    let mut shadow = state.clone();
    let mut number = u64::MAX;
    for (_, row) in of_policy(state, policy) {
        let Some(at) = row.acted_at else { continue };
        let plan = PlanId(number);
        if let Some(incident) = row.incident {
            let is_real = |real: &LedgerRow| {
                real.policy.as_ref() == Some(policy) && real.incident == Some(incident) && real.rung == row.rung
            };
            let real: Vec<CommandId> =
                state.ledger.iter().filter(|(_, real)| is_real(real)).map(|(id, _)| *id).collect();
            real.iter().for_each(|id| shadow.put::<LedgerRow>(*id, None));
        }
        for host in &row.hosts {
            let command = CommandId(number);
            number -= 1;
            shadow.put(command, Some(LedgerRow::of_shadow(row, at, host, command, plan).into()));
        }
        for once in &row.onces {
            let until = once.within.map_or(Timestamp::MAX, |within| crate::windows::after(at, within));
            shadow.put((policy.clone(), once.key.clone()), Some(OnceRow { at, until, plan }.into()));
        }
    }
    shadow
}
