//! Messages that a policy sends beside its ladder: when it fires, is held, has acted, is over. Each contact hears of a
//! moment of an incident once, however many policies feed it.

use std::time::Duration;

use jiff::Timestamp;
use quell_model::{
    name::{FullName, HostName, ObjectName, Target},
    policy::{Manifest, Severity, Tell, TellAt},
    probe::{ProbeKey, ProbeSpec},
    value::Truth,
};

use crate::{
    Effect,
    draft::Entry,
    id::{IncidentId, MessageId},
    scope::Notes,
    state::{IncidentRow, Message, MessageState, PlanRow, Told},
    turn::{Subject, Turn},
    values,
    windows::{Compiled, INSTANT, after, before},
};

/// A message waits this long for a log that belongs to it.
const LOG_WAIT: Duration = Duration::from_secs(10);
/// So many recent changes are attached for `changes`.
const CHANGES: usize = 3;

/// Sends what the policies of an incident say at a moment.
pub(crate) fn moment(turn: &mut Turn<'_>, id: IncidentId, at: TellAt) {
    let Some(incident) = turn.state().incidents.get(&id).cloned() else { return };
    if incident.inhibited_by.is_some() {
        return;
    }
    for policy in &incident.policies {
        let Some(compiled) = turn.policy(policy) else { continue };
        for (index, tell) in compiled.policy.tell.iter().enumerate().filter(|(_, tell)| tell.at == at) {
            one(turn, &compiled, id, index, tell);
        }
    }
}

/// Sends one message, unless its contact has heard of this moment or its condition is not known to hold.
fn one(turn: &mut Turn<'_>, compiled: &Compiled, id: IncidentId, index: usize, tell: &Tell) {
    let Some(incident) = turn.state().incidents.get(&id).cloned() else { return };
    let contact = FullName { namespace: compiled.policy.name.namespace.clone(), name: tell.contact.clone() };
    let plan = if tell.at == TellAt::Acted { incident.plans.last().copied() } else { None };
    let told = Told { at: tell.at, contact: contact.clone(), plan };
    let choice = (compiled.policy.name.clone(), index);
    if incident.told.contains(&told) || incident.untold.contains(&choice) {
        return;
    }
    let notes = Notes::default();
    let (goes, text, attached) = {
        let mut site = turn.view().site(compiled, &incident.target, &notes);
        let goes = tell.when.as_ref().map_or(Truth::True, |when| {
            // What was seen before the fault says nothing about it.
            let after =
                (tell.at == TellAt::Firing && !compiled.looks_back(when)).then(|| before(incident.opened_at, INSTANT));
            crate::scope::Site { after, ..site }.judge(when)
        });
        site.plan = incident.plans.last().and_then(|id| turn.state().plans.get(id)).map(AsRef::as_ref);
        let text = values::fill(&tell.text, |name| Some(look(&site, name))).unwrap_or_else(|_| tell.text.clone());
        (goes, text, attach(turn, compiled, &incident, tell))
    };
    if !goes.holds() {
        if goes.fails() && tell.at == TellAt::Firing {
            turn.draft.change::<IncidentRow>(&id, |row| row.untold.push(choice));
        }
        return;
    }
    turn.draft.change::<IncidentRow>(&id, |row| row.told.push(told));
    let subject = if text.is_empty() { incident.summary.clone() } else { text };
    let logs = logs(turn, compiled, &incident, tell);
    send(turn, Draught { contact, subject, body: attached, severity: incident.severity, incident: Some(id), logs });
}

/// A text about a plan with its names filled in.
pub(crate) fn words(turn: &Turn<'_>, compiled: &Compiled, plan: &PlanRow, text: &str) -> String {
    let notes = Notes::default();
    let mut site = turn.view().site(compiled, &plan.target, &notes);
    site.plan = Some(plan);
    values::fill(text, |name| Some(look(&site, name))).unwrap_or_else(|_| text.to_owned())
}

/// What a name in a message's text stands for: a value, or `probe.NAME.FIELD`; what is not known says so.
fn look(site: &crate::scope::Site<'_>, name: &str) -> String {
    use quell_model::condition::{Lookup, Scope};
    if name == "target" {
        return site.target.to_string();
    }
    let found = match name.strip_prefix("probe.").and_then(|rest| rest.split_once('.')) {
        Some((probe, field)) => site.field(probe, field),
        None => match name.strip_prefix("host.") {
            Some(field) => site.field("host", field),
            None => match site.compiled.element_field(name) {
                Some(field) => site.element(field),
                None => site.value(name),
            },
        },
    };
    match found {
        Lookup::Known(value) => values::rounded(&value),
        Lookup::Unknown => "(unknown)".to_owned(),
    }
}

/// The values of the probes that are attached, and recent changes.
fn attach(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow, tell: &Tell) -> String {
    let mut lines = vec![format!("{} on {}: {}", incident.id, incident.target, incident.summary)];
    for name in &tell.attach {
        if name == "changes" {
            lines.extend(recent_changes(turn));
            continue;
        }
        let name = name.strip_prefix("probe.").unwrap_or(name);
        let Some(source) = compiled.probes.get(name) else { continue };
        let notes = Notes::default();
        let site = turn.view().site(compiled, &incident.target, &notes);
        for host in site.hosts_of(source) {
            let fields = turn.windows.fresh(&host, &source.key, turn.now).map(|newest| {
                let shown = newest.fields.iter().filter(|(field, _)| field.as_str() != "tail");
                shown.map(|(field, value)| format!("{field}={value}")).collect::<Vec<_>>().join(" ")
            });
            lines.push(format!("{name} at {host}: {}", fields.unwrap_or_else(|| "no fresh sample".to_owned())));
        }
    }
    lines.join("\n")
}

/// The manifests that changed last.
fn recent_changes(turn: &Turn<'_>) -> Vec<String> {
    let mut changes: Vec<_> = turn.state().manifests.values().map(|stored| (stored.applied_at, stored)).collect();
    changes.sort_by_key(|change| std::cmp::Reverse(change.0));
    let line = |(at, stored): &(Timestamp, &std::sync::Arc<crate::state::StoredManifest>)| {
        format!("changed {at}: {} {} by {}", stored.manifest.kind(), stored.manifest.name(), stored.applied_by)
    };
    changes.iter().take(CHANGES).map(line).collect()
}

/// The logs whose last lines are attached.
fn logs(turn: &Turn<'_>, compiled: &Compiled, incident: &IncidentRow, tell: &Tell) -> Vec<(HostName, ProbeKey, u32)> {
    let mut logs = Vec::new();
    for name in &tell.attach {
        let name = name.strip_prefix("probe.").unwrap_or(name);
        let (Some(probe), Some(source)) = (compiled.policy.probes.get(name), compiled.probes.get(name)) else {
            continue;
        };
        if let ProbeSpec::LogMatch { window, .. } = &probe.spec {
            let notes = Notes::default();
            let hosts = turn.view().site(compiled, &incident.target, &notes).hosts_of(source);
            logs.extend(hosts.into_iter().map(|host| (host, source.key.clone(), *window)));
        }
    }
    logs
}

/// A message before it has a number.
#[derive(Debug)]
pub(crate) struct Draught {
    pub(crate) contact: FullName,
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) severity: Severity,
    pub(crate) incident: Option<IncidentId>,
    pub(crate) logs: Vec<(HostName, ProbeKey, u32)>,
}

/// Makes a message, unless a window silences it.
pub(crate) fn send(turn: &mut Turn<'_>, draught: Draught) {
    if let Some(window) = silenced(turn, draught.incident) {
        turn.record(
            Entry::new(
                "messageSilenced",
                crate::Actor::Controller,
                format!("{} is not told: window {window}", draught.contact),
            )
            .id("contact", &draught.contact)
            .maybe_id("incident", draught.incident),
        );
        return;
    }
    let id = MessageId(turn.draft.number("msg"));
    let waits_for_log = (!draught.logs.is_empty()).then(|| after(turn.now, LOG_WAIT));
    let message = Message {
        id,
        contact: draught.contact.clone(),
        subject: draught.subject,
        body: draught.body,
        severity: draught.severity,
        incident: draught.incident,
        created_at: turn.now,
        waits_for_log,
        logs_awaited: draught.logs.len(),
        state: MessageState::Waiting,
        attempts: 0,
        next_attempt: None,
    };
    let entry = Entry::new(
        "messageMade",
        crate::Actor::Controller,
        format!("{id} to {}: {}", draught.contact, message.subject),
    )
    .id("message", id)
    .id("contact", &draught.contact)
    .maybe_id("incident", draught.incident);
    turn.draft.put(id, message);
    turn.record(entry);
    for (host, probe, lines) in draught.logs {
        turn.effect(Effect::FetchLog { host, probe, lines, message: id });
    }
    turn.touch(Subject::Message(id));
}

/// The window of the manifests that suppresses messages about an incident's target.
fn silenced(turn: &Turn<'_>, incident: Option<IncidentId>) -> Option<FullName> {
    let target = turn.state().incidents.get(&incident?)?.target.clone();
    turn.state().manifests.values().find_map(|stored| {
        let Manifest::Window(window) = &stored.manifest else { return None };
        let is_now = window.suppress_notify && window.from <= turn.now && turn.now < window.until;
        let covers = match &target {
            Target::Fleet => window.hosts == quell_model::selector::Selector::All,
            Target::Host(host) | Target::Element(host, _) => {
                turn.state().hosts.get(host).is_some_and(|row| window.hosts.matches(&row.labels))
            }
        };
        (is_now && covers).then(|| window.name.clone())
    })
}

/// The contact of a role, where there is one of its name; else those of the policy's service, else whom it escalates to.
pub(crate) fn contacts_for(turn: &Turn<'_>, policy: &FullName, role: Option<&str>) -> Vec<FullName> {
    let full = |name: ObjectName| FullName { namespace: policy.namespace.clone(), name };
    let exists = |name: &FullName| turn.state().manifests.contains_key(&("Contact".to_owned(), name.clone()));
    if let Some(contact) = role.and_then(|role| role.parse().ok()).map(full).filter(exists) {
        return vec![contact];
    }
    let of_service = crate::service::of_policy(turn.state(), policy)
        .and_then(|name| crate::service::find(turn.state(), Some(&policy.namespace), name.as_str()))
        .map(|service| service.contacts.iter().cloned().map(full).collect::<Vec<_>>())
        .unwrap_or_default();
    if !of_service.is_empty() {
        return of_service;
    }
    let escalate = turn.policy(policy).and_then(|compiled| compiled.policy.escalate.clone());
    escalate.map(|escalate| full(escalate.to)).into_iter().collect()
}
