//! The ladder: which rung an incident tries next, and what it waits for.

use jiff::Timestamp;
use quell_model::{
    condition::Condition,
    policy::{Mode, Rung, TellAt},
    value::Truth,
};

use crate::{
    breaker,
    draft::Entry,
    guard,
    id::{IncidentId, PlanId},
    plan::{self, Candidate, Wanted},
    scope::{Notes, Site},
    state::{Hold, IncidentRow, IncidentState},
    tell,
    turn::{Turn, by_policy},
    windows::{Compiled, INSTANT, after, before},
};

/// How long the answer to a requirement may stay unknown before people are called.
const UNKNOWN_FOR: std::time::Duration = std::time::Duration::from_secs(60);
/// How long after a verified rung the symptom may still be seen before the next rung is tried.
const RELAPSE: std::time::Duration = std::time::Duration::from_secs(60);

/// What the next rung says.
enum Next {
    /// Not before this time, or before something else happens.
    Wait(Hold),
    /// Now.
    Try(Box<Candidate>),
    /// People have it.
    Ended(String),
    /// The rung before was verified.
    Mitigated(Option<Timestamp>),
}

/// Tries the next rung of an incident that has no plan under way; says when to look again.
pub(crate) fn climb(turn: &mut Turn<'_>, compiled: &Compiled, id: IncidentId) -> Option<Timestamp> {
    let policy = &compiled.policy;
    if policy.ladder.is_empty() {
        return None;
    }
    let incident = turn.state().incidents.get(&id).cloned()?;
    if incident.state == IncidentState::Mitigated
        && let Some(wait) = relapse(turn, compiled, &incident)
    {
        return wait;
    }
    match next(turn, compiled, id) {
        Next::Wait(hold) => {
            let until = hold.until;
            let people = people_at(&hold);
            set_hold(turn, compiled, id, Some(hold));
            until.into_iter().chain(people).filter(|at| *at > turn.now).min()
        }
        Next::Ended(why) => {
            turn.draft.change::<IncidentRow>(&id, |row| row.ladder_ended = Some(why.clone()));
            set_hold(
                turn,
                compiled,
                id,
                Some(Hold { guard: "ladder".to_owned(), reason: why, until: None, since: turn.now }),
            );
            None
        }
        Next::Mitigated(at) => at,
        Next::Try(candidate) => {
            begin(turn, compiled, id, *candidate);
            None
        }
    }
}

/// A verified rung whose symptom comes back: after a while the next one is tried. Absent: climb on.
#[expect(clippy::option_option, reason = "the outer says whether to wait at all, the inner until when")]
fn relapse(turn: &mut Turn<'_>, compiled: &Compiled, incident: &IncidentRow) -> Option<Option<Timestamp>> {
    let ended = incident.plans.iter().rev().find_map(|id| turn.state().plans.get(id)?.ended_at).unwrap_or(turn.now);
    let due = after(ended, RELAPSE);
    if due > turn.now {
        return Some(Some(due));
    }
    let quell_model::policy::Trigger::When { when, .. } = &compiled.policy.trigger else { return Some(None) };
    if !turn.view().judge(compiled, &incident.target, when).holds() {
        return Some(None);
    }
    let state = if incident.acknowledged_by.is_some() { IncidentState::Acknowledged } else { IncidentState::Open };
    turn.draft.change::<IncidentRow>(&incident.id, |row| {
        row.state = state;
        row.healed_by = None;
    });
    turn.record(
        Entry::new(
            "incidentRelapsed",
            by_policy(&compiled.policy.name),
            format!("{}: the symptom is there again", incident.id),
        )
        .id("incident", incident.id)
        .id("target", &incident.target),
    );
    None
}

/// Finds the next rung, passing over those whose `if` is known not to hold.
fn next(turn: &mut Turn<'_>, compiled: &Compiled, id: IncidentId) -> Next {
    loop {
        let Some(incident) = turn.state().incidents.get(&id).cloned() else { return Next::Mitigated(None) };
        if let Some(why) = &incident.ladder_ended {
            match applies_after_all(turn, compiled, &incident) {
                Some((index, rung, condition)) => {
                    resume(turn, compiled, &incident, (index, rung), condition);
                    continue;
                }
                None => return Next::Ended(why.clone()),
            }
        }
        let Some(rung) = compiled.policy.ladder.get(incident.rung) else {
            return last_resort(turn, compiled, &incident);
        };
        match rung_says(turn, compiled, &incident, rung) {
            Says::Skip(why) => skip(turn, compiled, &incident, rung, &why),
            Says::Wait(hold) => return Next::Wait(hold),
            Says::Try => return candidate(turn, compiled, &incident, incident.rung),
        }
    }
}

/// Whether the rung that an incident stands at is to be tried now.
pub(crate) fn wants_to(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow) -> bool {
    let rung = compiled.policy.ladder.get(incident.rung);
    rung.is_some_and(|rung| matches!(rung_says(turn, compiled, incident, rung), Says::Try))
}

enum Says {
    Skip(String),
    Wait(Hold),
    Try,
}

fn rung_says(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow, rung: &Rung) -> Says {
    let notes = Notes::default();
    let outcome = last_outcome(turn, incident);
    let mut site = turn.view().site(compiled, &incident.target, &notes);
    site.rung = Some(&rung.name);
    site.outcome = outcome.as_ref();
    let hold = |guard: &str, reason: String, until| {
        Says::Wait(Hold { guard: guard.to_owned(), reason, until, since: turn.now })
    };
    match rung
        .only_if
        .as_ref()
        .map(|condition| (condition, applies(&site, condition, firing_since(turn, compiled, incident))))
    {
        Some((condition, Truth::False)) => return Says::Skip(format!("`{}` does not hold", condition.text())),
        Some((condition, Truth::Unknown)) => {
            return hold("if", format!("whether rung {} applies is unknown: `{}`", rung.name, condition.text()), None);
        }
        _ => {}
    }
    if let Some(wait) = rung.after {
        let due = after(firing_since(turn, compiled, incident), wait);
        let hurries = rung.unless.as_ref().is_some_and(|condition| site.judge(condition).holds());
        if turn.now < due && !hurries {
            return hold(
                "after",
                format!("rung {} waits until {} after firing", rung.name, crate::text::span(wait)),
                Some(due),
            );
        }
    }
    for requirement in &rung.require {
        let truth = site.judge(&requirement.that);
        if truth != Truth::True {
            return hold(
                "require",
                format!("{} (`{}` is {truth})", requirement.because, requirement.that.text()),
                None,
            );
        }
    }
    Says::Try
}

/// Whether a rung applies. That it does not is believed only of samples taken after the alert fired: probes have
/// intervals of their own, and what one of them saw before the fault says nothing about it.
fn applies(site: &Site<'_>, condition: &Condition, firing_since: Timestamp) -> Truth {
    match site.judge(condition) {
        Truth::False if !site.compiled.looks_back(condition) => {
            Site { after: Some(before(firing_since, INSTANT)), ..*site }.judge(condition)
        }
        truth => truth,
    }
}

/// The rung, and its `if`, that holds by now although every rung was passed over: of an incident for which nothing was
/// tried yet, since what showed the cause may be seen later than the symptom.
fn applies_after_all<'a>(
    turn: &Turn<'_>,
    compiled: &'a Compiled,
    incident: &IncidentRow,
) -> Option<(usize, &'a Rung, &'a Condition)> {
    let ladder = &compiled.policy.ladder;
    if !incident.plans.is_empty() || incident.rung < ladder.len() {
        return None;
    }
    let first = crate::incident::healer(turn.state(), incident).map_or(0, |healer| healer + 1);
    let rungs = ladder.iter().enumerate().skip(first);
    let mut conditional = rungs.filter_map(|(index, rung)| Some((index, rung, rung.only_if.as_ref()?)));
    conditional.find_map(|(index, rung, condition)| {
        let notes = Notes::default();
        let site = Site { rung: Some(&rung.name), ..turn.view().site(compiled, &incident.target, &notes) };
        site.judge(condition).holds().then_some((index, rung, condition))
    })
}

/// Goes back to a rung that was passed over.
fn resume(
    turn: &mut Turn<'_>,
    compiled: &Compiled,
    incident: &IncidentRow,
    (index, rung): (usize, &Rung),
    condition: &Condition,
) {
    turn.draft.change::<IncidentRow>(&incident.id, |row| {
        row.rung = index;
        row.ladder_ended = None;
    });
    let what = format!("rung {} applies now: `{}` holds", rung.name, condition.text());
    let now = turn.now;
    turn.record(
        Entry::new("ladderResumed", by_policy(&compiled.policy.name), format!("{}: {what}", incident.id))
            .id("incident", incident.id)
            .id("rung", &rung.name)
            .id("target", &incident.target),
    );
    crate::incident::story(turn, incident.id, now, &what);
}

/// What the last command of an incident reported.
fn last_outcome(turn: &Turn<'_>, incident: &IncidentRow) -> Option<quell_model::value::Fields> {
    let plan = turn.state().plans.get(incident.plans.last()?)?;
    plan.commands.iter().rev().find_map(|id| turn.command(*id)?.outcome.as_ref().map(|outcome| outcome.values.clone()))
}

fn firing_since(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow) -> Timestamp {
    let key = (compiled.policy.name.clone(), incident.target.clone());
    turn.state().alerts.get(&key).and_then(|alert| alert.firing_since).unwrap_or(incident.opened_at)
}

fn skip(turn: &mut Turn<'_>, compiled: &Compiled, incident: &IncidentRow, rung: &Rung, why: &str) {
    turn.draft.change::<IncidentRow>(&incident.id, |row| row.rung += 1);
    let now = turn.now;
    turn.record(
        Entry::new(
            "rungSkipped",
            by_policy(&compiled.policy.name),
            format!("{}: rung {} is skipped: {why}", incident.id, rung.name),
        )
        .id("incident", incident.id)
        .id("rung", &rung.name)
        .id("target", &incident.target),
    );
    crate::incident::story(turn, incident.id, now, &format!("rung {} was skipped: {why}", rung.name));
}

/// The ladder is climbed. What healed before and was the last rung may be tried again only if people say so.
fn last_resort(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow) -> Next {
    let last = compiled.policy.ladder.len() - 1;
    let is_recurrence = incident.plans.is_empty() && crate::incident::healer(turn.state(), incident) == Some(last);
    if is_recurrence
        && let Some(rung) = compiled.policy.ladder.get(last)
        && rung.approval.is_some()
        && let Says::Try = rung_says(turn, compiled, incident, rung)
        && let Next::Try(candidate) = candidate(turn, compiled, incident, last)
        && candidate.plan.needs.is_some()
    {
        return Next::Try(candidate);
    }
    let why = if is_recurrence {
        "what healed it lately was the last rung: it is not tried again".to_owned()
    } else if incident.plans.is_empty() {
        "no rung applies".to_owned()
    } else {
        "every rung has been tried".to_owned()
    };
    Next::Ended(why)
}

fn candidate(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow, rung: usize) -> Next {
    let id = PlanId(turn.state().meta.counters.get("plan").copied().unwrap_or(0) + 1);
    let wanted = Wanted { compiled, target: &incident.target, rung, incident: Some(incident.id), scheduled: false };
    match plan::make(turn.view(), &wanted, id) {
        Ok(candidate) => Next::Try(Box::new(candidate)),
        Err(hold) => Next::Wait(hold),
    }
}

/// Makes the plan, unless the policy only observes.
fn begin(turn: &mut Turn<'_>, compiled: &Compiled, id: IncidentId, candidate: Candidate) {
    if breaker::effective_mode(turn.state(), turn.now, &compiled.policy) == Mode::Observe {
        let hold = plan::with_context_of(turn, compiled, &candidate, guard::first_no);
        set_hold(turn, compiled, id, hold);
        return;
    }
    let spent = plan::with_context_of(turn, compiled, &candidate, guard::first_no).filter(|hold| hold.guard == "once");
    if let Some(hold) = spent {
        let why = hold.reason.clone();
        turn.draft.change::<IncidentRow>(&id, |row| row.ladder_ended = Some(why));
        set_hold(turn, compiled, id, Some(hold));
        return;
    }
    plan::commit(turn, candidate);
}

/// When people are called because a requirement stays unmet: at once when it is known not to hold, after a while when
/// nobody knows.
pub(crate) fn people_at(hold: &Hold) -> Option<Timestamp> {
    (hold.guard == "require")
        .then(|| if hold.reason.ends_with("is unknown)") { after(hold.since, UNKNOWN_FOR) } else { hold.since })
}

/// Writes down why an incident waits, when that is news.
pub(crate) fn set_hold(turn: &mut Turn<'_>, compiled: &Compiled, id: IncidentId, hold: Option<Hold>) {
    let Some(incident) = turn.state().incidents.get(&id).cloned() else { return };
    let Some(merged) = plan::merge_hold(incident.hold.as_ref(), hold) else { return };
    turn.draft.change::<IncidentRow>(&id, |row| row.hold = merged.clone());
    if let Some(hold) = merged {
        turn.record(
            Entry::new(
                "incidentHeld",
                by_policy(&compiled.policy.name),
                format!("{id} waits ({}): {}", hold.guard, hold.reason),
            )
            .id("incident", id)
            .id("target", &incident.target)
            .id("policy", &compiled.policy.name)
            .data(serde_json::json!(hold)),
        );
        if hold.guard != "after" && hold.guard != "mode" {
            tell::moment(turn, id, TellAt::Held);
        }
    }
}
