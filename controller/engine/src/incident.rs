//! Incidents: one problem on one target, however many alerts feed it and however often it is sampled.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{
    name::{FullName, Target},
    policy::{Severity, TellAt},
    value::Truth,
};

use crate::{
    draft::Entry,
    escalate,
    id::IncidentId,
    ladder, plan, service,
    shadow::{self, About},
    state::{AlertRow, AlertState, Cause, IncidentRow, IncidentState, Note, PlanState, State},
    tell,
    turn::{Turn, by_policy},
    verdict,
    windows::{Compiled, before},
};

/// A recurrence within this time of the resolution starts after the rung that healed.
const RECURRENCE: Duration = Duration::from_secs(6 * 3_600);
/// So many lines of its story are kept; the log has all.
const STORY: usize = 100;

/// What opens an incident.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) problem: String,
    pub(crate) target: Target,
    pub(crate) cause: Cause,
    pub(crate) severity: Severity,
    pub(crate) summary: String,
}

/// The open incident of a problem on a target.
pub(crate) fn find_open(state: &State, problem: &str, target: &Target) -> Option<IncidentId> {
    let id = state.live.latest.get(&(problem.to_owned(), target.clone()))?;
    state.live.incidents.contains(id).then_some(*id)
}

/// The rung that healed the incident before this one, when that is recent enough to learn from.
pub(crate) fn healer(state: &State, incident: &IncidentRow) -> Option<usize> {
    let earlier = state.incidents.range(..incident.id).rev().map(|(_, row)| row);
    let last = earlier.take(1_000).find(|row| row.problem == incident.problem && row.target == incident.target)?;
    let resolved = last.resolved_at?;
    (resolved >= before(incident.opened_at, RECURRENCE)).then_some(last.healed_by)?
}

/// Lets a firing alert join the open incident of its problem, or opens one.
pub(crate) fn join(turn: &mut Turn<'_>, compiled: &Compiled, target: &Target) -> IncidentId {
    let policy = &compiled.policy;
    if let Some(id) = find_open(turn.state(), &policy.problem, target) {
        let is_new = turn.state().incidents.get(&id).is_some_and(|row| !row.policies.contains(&policy.name));
        if is_new {
            turn.draft.change::<IncidentRow>(&id, |row| {
                row.policies.push(policy.name.clone());
                row.severity = row.severity.max(policy.severity);
            });
            turn.record(
                Entry::new(
                    "incidentJoined",
                    by_policy(&policy.name),
                    format!("{} joins {id}: {}", policy.name, policy.description),
                )
                .id("incident", id)
                .id("policy", &policy.name)
                .id("target", target),
            );
        }
        return id;
    }
    let opening = Opening {
        problem: policy.problem.clone(),
        target: target.clone(),
        cause: Cause::Symptom,
        severity: policy.severity,
        summary: policy.description.clone(),
    };
    open(turn, compiled, opening)
}

/// Opens an incident.
pub(crate) fn open(turn: &mut Turn<'_>, compiled: &Compiled, opening: Opening) -> IncidentId {
    let id = IncidentId(turn.draft.number("inc"));
    let policy = compiled.policy.name.clone();
    let mut row = blank(id, opening, policy.clone(), turn.now);
    if row.cause == Cause::Symptom
        && let Some(healer) = healer(turn.state(), &row)
    {
        row.rung = healer + 1;
    }
    let text = format!("{id}: {} on {}: {}", row.problem, row.target, row.summary);
    row.timeline.push(Note { at: turn.now, who: policy.to_string(), text: format!("opened: {}", row.summary) });
    let entry = Entry::new("incidentOpened", by_policy(&policy), text)
        .id("incident", id)
        .id("policy", &policy)
        .id("target", &row.target)
        .data(serde_json::json!({ "problem": row.problem, "severity": row.severity, "rung": row.rung }));
    turn.draft.put(id, row);
    turn.record(entry);
    turn.touch(crate::turn::Subject::Incident(id));
    id
}

fn blank(id: IncidentId, opening: Opening, policy: FullName, now: Timestamp) -> IncidentRow {
    IncidentRow {
        id,
        problem: opening.problem,
        target: opening.target,
        policies: vec![policy],
        state: IncidentState::Open,
        severity: opening.severity,
        summary: opening.summary,
        opened_at: now,
        resolved_at: None,
        resolution: None,
        acknowledged_by: None,
        rung: 0,
        plans: Vec::new(),
        hold: None,
        notes: Vec::new(),
        escalated_at: None,
        told: Vec::new(),
        untold: Vec::new(),
        timeline: Vec::new(),
        healed_by: None,
        cause: opening.cause,
        leader: None,
        ladder_ended: None,
        called: Vec::new(),
        inhibited_by: None,
    }
}

/// Adds a line to an incident's story.
pub(crate) fn story(turn: &mut Turn<'_>, id: IncidentId, at: Timestamp, text: &str) {
    turn.draft.change::<IncidentRow>(&id, |row| {
        row.timeline.push(Note { at, who: "quell".to_owned(), text: text.to_owned() });
        if row.timeline.len() > STORY {
            // The first line says what it is about.
            row.timeline.remove(1);
        }
    });
}

/// Looks at an incident that is not resolved.
pub(crate) fn reconcile(turn: &mut Turn<'_>, id: IncidentId) -> Option<Timestamp> {
    let incident = turn.state().incidents.get(&id).cloned()?;
    if !incident.is_open() {
        return None;
    }
    if incident.cause != Cause::Symptom {
        if turn.policy(incident.policies.first()?).is_none() {
            resolve(turn, id, "the policy was removed");
            return None;
        }
        tell::moment(turn, id, TellAt::Firing);
        return escalate::reconcile(turn, id);
    }
    if has_cleared(turn.state(), &incident) {
        return clear(turn, &incident);
    }
    inhibit(turn, &incident);
    tell::moment(turn, id, TellAt::Firing);
    let compiled = leader(turn, &incident).and_then(|name| turn.policy(&name))?;
    let incident = turn.state().incidents.get(&id).cloned()?;
    let is_under_way = incident.plans.iter().any(|plan| turn.state().live.plans.contains(plan));
    let climb = if is_under_way { None } else { ladder::climb(turn, &compiled, id) };
    let shadow = shadow::look_at_incident(turn, &compiled, id);
    let call = escalate::reconcile(turn, id);
    for policy in &incident.policies {
        if let Some(compiled) = turn.policy(policy) {
            verdict::update(turn, &compiled, &incident.target, Truth::True);
        }
    }
    climb.into_iter().chain(shadow).chain(call).min()
}

/// The policy whose ladder is climbed: the one that began, else the first that fires and has a ladder.
pub(crate) fn leader(turn: &Turn<'_>, incident: &IncidentRow) -> Option<FullName> {
    if let Some(leader) = &incident.leader
        && turn.policy(leader).is_some()
    {
        return Some(leader.clone());
    }
    let fires = |policy: &&FullName| {
        let alert = turn.state().alerts.get(&((*policy).clone(), incident.target.clone()));
        alert.is_some_and(|alert| alert.state == AlertState::Firing)
    };
    let has_ladder =
        |policy: &&FullName| turn.policy(policy).is_some_and(|compiled| !compiled.policy.ladder.is_empty());
    let of_policies = || incident.policies.iter();
    of_policies()
        .filter(fires)
        .find(has_ladder)
        .or_else(|| of_policies().find(fires))
        .or_else(|| of_policies().next())
        .cloned()
}

/// Whether no alert feeds it any more.
pub(crate) fn has_cleared(state: &State, incident: &IncidentRow) -> bool {
    incident.policies.iter().all(|policy| {
        let alert = state.alerts.get(&(policy.clone(), incident.target.clone()));
        alert.is_none_or(|alert| alert.state != AlertState::Firing || alert.incident != Some(incident.id))
    })
}

/// The symptom is gone: what has not begun is cancelled, what runs comes to its end, then the incident is over.
fn clear(turn: &mut Turn<'_>, incident: &IncidentRow) -> Option<Timestamp> {
    let mut is_under_way = false;
    for id in &incident.plans {
        match turn.state().plans.get(id).map(|plan| plan.state) {
            Some(state) if state.is_unbegun() => {
                plan::end(turn, *id, PlanState::Cancelled, "the symptom went away first");
            }
            Some(PlanState::Running | PlanState::Verifying) => is_under_way = true,
            _ => {}
        }
    }
    if is_under_way {
        return None;
    }
    let incident = turn.state().incidents.get(&incident.id).cloned()?;
    let is_judged = incident
        .policies
        .iter()
        .any(|policy| turn.state().alerts.contains_key(&(policy.clone(), incident.target.clone())));
    let how = match incident.healed_by {
        _ if !is_judged => "nobody judges the target any more".to_owned(),
        Some(_) => {
            let plan = incident
                .plans
                .iter()
                .rev()
                .find_map(|id| turn.state().plans.get(id).filter(|plan| plan.state == PlanState::Succeeded));
            let actions = plan.map(|plan| actions(turn.state(), plan)).unwrap_or_default();
            format!("the symptom cleared after {actions}")
        }
        None => "cleared by itself".to_owned(),
    };
    resolve(turn, incident.id, &how);
    None
}

/// The actions of a plan, each once.
fn actions(state: &State, plan: &crate::state::PlanRow) -> String {
    let mut names: Vec<&str> = Vec::new();
    for command in plan.commands.iter().filter_map(|id| state.commands.get(id)) {
        if !names.contains(&command.action.as_str()) {
            names.push(&command.action);
        }
    }
    names.join(", ")
}

/// Ends an incident.
pub(crate) fn resolve(turn: &mut Turn<'_>, id: IncidentId, how: &str) {
    let Some(incident) = turn.state().incidents.get(&id).cloned().filter(|row| row.is_open()) else { return };
    let now = turn.now;
    story(turn, id, now, &format!("resolved: {how}"));
    turn.draft.change::<IncidentRow>(&id, |row| {
        row.state = IncidentState::Resolved;
        row.resolved_at = Some(now);
        row.resolution = Some(how.to_owned());
        row.hold = None;
    });
    for policy in &incident.policies {
        let key = (policy.clone(), incident.target.clone());
        if turn
            .state()
            .alerts
            .get(&key)
            .is_some_and(|alert| alert.incident == Some(id) && alert.state != AlertState::Firing)
        {
            turn.draft.change::<AlertRow>(&key, |alert| alert.incident = None);
        }
    }
    turn.record(
        Entry::new("incidentResolved", crate::Actor::Controller, format!("{id} is over: {how}"))
            .id("incident", id)
            .id("target", &incident.target)
            .data(serde_json::json!({ "problem": incident.problem, "openedAt": incident.opened_at })),
    );
    tell::moment(turn, id, TellAt::Resolved);
    for policy in &incident.policies {
        shadow::drop_waiting(turn, policy, &About::Incident(id), "the symptom went away first");
        if let Some(compiled) = turn.policy(policy) {
            verdict::update(turn, &compiled, &incident.target, Truth::False);
        }
    }
    turn.touch_live();
    turn.touch(crate::turn::Subject::Retention);
}

/// Finds out whether a service underneath explains the incident.
fn inhibit(turn: &mut Turn<'_>, incident: &IncidentRow) {
    let below = incident.policies.iter().find_map(|policy| {
        let own = service::of_policy(turn.state(), policy)?;
        let service = service::find(turn.state(), Some(&policy.namespace), own.as_str())?;
        let under: Vec<&str> = service.depends_on.iter().map(|name| name.as_str()).collect();
        turn.state().live.incidents.iter().copied().find(|id| {
            *id != incident.id && turn.state().incidents.get(id).is_some_and(|other| is_of(turn.state(), other, &under))
        })
    });
    if below != incident.inhibited_by {
        turn.draft.change::<IncidentRow>(&incident.id, |row| row.inhibited_by = below);
        let text = match below {
            Some(below) => format!(
                "{} is explained by {below} underneath: nobody is told and nothing is done about it",
                incident.id
            ),
            None => format!("{} is not explained by another any more", incident.id),
        };
        turn.record(
            Entry::new("incidentInhibited", crate::Actor::Controller, text)
                .id("incident", incident.id)
                .id("target", &incident.target),
        );
    }
}

fn is_of(state: &State, incident: &IncidentRow, services: &[&str]) -> bool {
    incident.cause == Cause::Symptom
        && incident
            .policies
            .iter()
            .any(|policy| service::of_policy(state, policy).is_some_and(|name| services.contains(&name.as_str())))
}
