//! Calling people: after a time without a cure, at once when the ladder has ended, along the chain of contacts until
//! somebody acknowledges. An incident that was remedied but does not clear is told as well: it must not wait for ever.

use jiff::Timestamp;
use quell_model::{
    name::FullName,
    policy::{Contact, Manifest, Trigger},
    value::Truth,
};

use crate::{
    draft::Entry,
    id::IncidentId,
    incident, ladder,
    scope::Notes,
    state::{AlertState, Called, Cause, IncidentRow, IncidentState, PlanState},
    tell::{self, Draught},
    turn::Turn,
    windows::after,
};

/// Looks at whether people are to be called about an incident; says when it will be time.
pub(crate) fn reconcile(turn: &mut Turn<'_>, id: IncidentId) -> Option<Timestamp> {
    let incident = turn.state().incidents.get(&id).cloned()?;
    let waits = matches!(incident.state, IncidentState::Open | IncidentState::Mitigated);
    if !waits || incident.acknowledged_by.is_some() || incident.inhibited_by.is_some() {
        return None;
    }
    let (contact, due, why) = next(turn, &incident)?;
    if due > turn.now {
        return Some(due);
    }
    call(turn, &incident, &contact, &why);
    reconcile_again(turn, id)
}

/// When the one after who was just called is due.
fn reconcile_again(turn: &Turn<'_>, id: IncidentId) -> Option<Timestamp> {
    let incident = turn.state().incidents.get(&id).cloned()?;
    next(turn, &incident).map(|(_, due, _)| due.max(after(turn.now, std::time::Duration::from_millis(1))))
}

/// Who is called next, when and why.
fn next(turn: &Turn<'_>, incident: &IncidentRow) -> Option<(FullName, Timestamp, String)> {
    let mitigated_at = mitigated_at(turn, incident);
    // Who was called before the remedy helped has not heard that its end is in doubt.
    let called: Vec<&Called> =
        incident.called.iter().filter(|called| mitigated_at.is_none_or(|at| called.at >= at)).collect();
    if let Some(last) = called.last() {
        let contact = contact(turn, &last.contact)?;
        let (name, wait) = contact.next.clone()?;
        let name = FullName { namespace: last.contact.namespace.clone(), name };
        if called.iter().any(|called| called.contact == name) {
            return None;
        }
        let why = format!("{} has not answered", last.contact.name);
        return Some((name, after(last.at, wait), why));
    }
    let name = incident::leader(turn, incident)?;
    let escalate = turn.policy(&name)?.policy.escalate.clone()?;
    let contact = FullName { namespace: name.namespace, name: escalate.to };
    if incident.cause != Cause::Symptom {
        return Some((contact, incident.opened_at, incident.summary.clone()));
    }
    if let Some(why) = &incident.ladder_ended {
        return Some((contact, turn.now, why.clone()));
    }
    if let Some(at) = mitigated_at {
        return Some((contact, after(at, escalate.after), lingering(turn, incident, escalate.after)));
    }
    let patience = after(incident.opened_at, escalate.after);
    let hold = incident.hold.as_ref().or_else(|| {
        let plan = incident.plans.last().and_then(|id| turn.state().plans.get(id));
        plan.filter(|plan| !plan.state.has_ended()).and_then(|plan| plan.hold.as_ref())
    });
    match hold.and_then(|hold| Some((ladder::people_at(hold)?, hold.reason.clone()))) {
        Some((at, why)) if at < patience => Some((contact, at, why)),
        _ => Some((contact, patience, format!("nothing has helped for {}", crate::text::span(escalate.after)))),
    }
}

/// When a rung was verified whose incident has not ended since.
fn mitigated_at(turn: &Turn<'_>, incident: &IncidentRow) -> Option<Timestamp> {
    if incident.state != IncidentState::Mitigated {
        return None;
    }
    let plans = incident.plans.iter().rev().filter_map(|id| turn.state().plans.get(id));
    let healer = plans.into_iter().find(|plan| plan.state == PlanState::Succeeded);
    Some(healer.and_then(|plan| plan.ended_at).unwrap_or(incident.opened_at))
}

/// Why an incident that was remedied is not over: what of its clearing is not known, or does not hold.
fn lingering(turn: &Turn<'_>, incident: &IncidentRow, span: std::time::Duration) -> String {
    let remedied = format!("remedied {} ago", crate::text::span(span));
    let firing = incident.policies.iter().find(|policy| {
        let alert = turn.state().alerts.get(&((*policy).clone(), incident.target.clone()));
        alert.is_some_and(|alert| alert.state == AlertState::Firing)
    });
    let Some(compiled) = firing.and_then(|policy| turn.policy(policy)) else { return format!("{remedied}, not over") };
    let Trigger::When { when, clear, .. } = &compiled.policy.trigger else { return format!("{remedied}, not over") };
    let condition = clear.as_ref().unwrap_or(when);
    let notes = Notes::seeing();
    let truth = turn.view().site(&compiled, &incident.target, &notes).judge(condition);
    if truth != Truth::Unknown {
        return format!("{remedied}, but not over: `{}` is {truth}", condition.text());
    }
    let saw = notes.saw.map(std::cell::RefCell::into_inner).unwrap_or_default();
    let missing: Vec<String> =
        saw.iter().filter(|saw| saw.value.is_none()).map(|saw| format!("{} of {}", saw.name, saw.host)).collect();
    let what = if missing.is_empty() { String::new() } else { format!(" (missing or stale: {})", missing.join(", ")) };
    format!("{remedied}, but nobody knows whether it is over: `{}` is unknown{what}", condition.text())
}

fn contact(turn: &Turn<'_>, name: &FullName) -> Option<std::sync::Arc<Contact>> {
    match &turn.state().manifests.get(&("Contact".to_owned(), name.clone()))?.manifest {
        Manifest::Contact(contact) => Some(std::sync::Arc::clone(contact)),
        _ => None,
    }
}

fn call(turn: &mut Turn<'_>, incident: &IncidentRow, contact: &FullName, why: &str) {
    let now = turn.now;
    turn.draft.change::<IncidentRow>(&incident.id, |row| {
        row.called.push(Called { contact: contact.clone(), at: now });
        row.escalated_at.get_or_insert(now);
    });
    incident::story(turn, incident.id, now, &format!("{} is called: {why}", contact.name));
    turn.record(
        Entry::new("escalated", crate::Actor::Controller, format!("{}: {contact} is called: {why}", incident.id))
            .id("incident", incident.id)
            .id("contact", contact)
            .id("target", &incident.target),
    );
    let story: Vec<String> = incident.timeline.iter().map(|note| format!("{} {}", note.at, note.text)).collect();
    tell::send(
        turn,
        Draught {
            contact: contact.clone(),
            subject: format!("{}: {} ({why})", incident.id, incident.summary),
            body: story.join("\n"),
            severity: incident.severity,
            incident: Some(incident.id),
            logs: Vec::new(),
        },
    );
}
