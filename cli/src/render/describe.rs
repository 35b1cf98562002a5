//! One thing with all that belongs to it.

use jiff::Timestamp;
use quell_model::{preview, unit};
use quell_wire::v1::{
    AlertView, GetResponse, HoldView, HostView, IncidentView, ManifestView, OperatorView, PlanView, PolicyView,
    StepView, TokenView, WindowView,
};

use crate::exact;

use super::{
    page::{Page, pairs},
    rows::{full_name, newer, origin, progress},
    status::held,
    time::{clock, full},
};

/// Draws everything that an answer holds, one thing below the other.
pub fn draw(answer: &GetResponse, now: Timestamp) -> String {
    let mut page = Page::new();
    answer.hosts.iter().for_each(|view| host(&mut page, view, now));
    answer.policies.iter().for_each(|view| policy(&mut page, view, now));
    answer.incidents.iter().for_each(|view| incident(&mut page, view, now));
    answer.plans.iter().for_each(|view| plan(&mut page, view, now));
    answer.holds.iter().for_each(|view| hold(&mut page, view, now));
    answer.windows.iter().for_each(|view| window(&mut page, view, now));
    answer.alerts.iter().for_each(|view| alert(&mut page, view, now));
    answer.tokens.iter().for_each(|view| token(&mut page, view, now));
    answer.operators.iter().for_each(|view| operator(&mut page, view, now));
    answer.manifests.iter().for_each(|view| manifest(&mut page, view));
    page.into_text()
}

fn maybe(time: Option<&str>, now: Timestamp) -> String {
    time.map(|time| full(time, now)).unwrap_or_default()
}

fn host(page: &mut Page, view: &HostView, now: Timestamp) {
    page.heading(&view.name)
        .value("state", &view.state)
        .value("held", view.held.as_deref().unwrap_or_default())
        .value("labels", &pairs(&view.labels))
        .value("last seen", &maybe(view.last_seen.as_deref(), now))
        .value("agent", &view.agent_version)
        .value("host id", &view.host_id)
        .value("certificate", &maybe(view.certificate_expires.as_deref(), now))
        .value("samples", &format!("{} taken in, {} dropped by the agent", view.samples, view.dropped_samples))
        .value("probes", &view.probes.to_string());
    if !view.newer.is_empty() {
        page.heading("says that it has seen newer than is here");
        for line in newer(view) {
            page.line(&line);
        }
        page.line(
            "After a restore from an older backup: `quell trust give-back`, then `quell apply --prune`, with the",
        )
        .line("profile that has seen the newest. If nothing was restored, what the host says is not true.");
    }
    if !view.facts.is_empty() {
        page.heading("facts");
        for (name, value) in &view.facts {
            page.value(name, value);
        }
    }
}

fn policy(page: &mut Page, view: &PolicyView, now: Timestamp) {
    page.heading(&full_name(&view.namespace, &view.name))
        .value("description", &view.description)
        .value("mode", &view.mode)
        .value("in force", if view.effective_mode == view.mode { "" } else { &view.effective_mode })
        .value("breaker", view.breaker.as_deref().unwrap_or_default())
        .value("severity", &view.severity)
        .value("problem", &view.problem)
        .value("hosts", &view.hosts.to_string())
        .value("alerts", &format!("{} firing, {} pending", view.firing, view.pending))
        .value("acted", &format!("{} times in 24 h", view.acted))
        .value("digest", &view.digest);
    if !view.defaults.is_empty() {
        page.heading("defaults (the manifest says nothing)");
        view.defaults.iter().for_each(|default| {
            page.line(default);
        });
    }
    if let Some(shadow) = &view.shadow {
        super::shadow::draw(page, shadow, now);
    }
}

fn incident(page: &mut Page, view: &IncidentView, now: Timestamp) {
    page.heading(&format!("{}: {} on {}", view.id, view.problem, view.target))
        .value("state", &view.state)
        .value("summary", &view.summary)
        .value("severity", &view.severity)
        .value("opened", &full(&view.opened_at, now))
        .value("resolved", &maybe(view.resolved_at.as_deref(), now))
        .value("resolution", view.resolution.as_deref().unwrap_or_default())
        .value("waits", &view.hold.as_ref().map(|hold| held(hold, now)).unwrap_or_default())
        .value("acknowledged", view.acknowledged_by.as_deref().unwrap_or_default())
        .value("policies", &view.policies.join(", "));
    view.plans.iter().for_each(|view| plan(page, view, now));
    if !view.timeline.is_empty() {
        page.heading("timeline");
        for entry in &view.timeline {
            page.line(&format!("{}  {}", clock(&entry.at), entry.text));
        }
    }
    if !view.notes.is_empty() {
        page.heading("notes");
        for note in &view.notes {
            page.line(&format!("{}  {}", clock(&note.at), note.who)).quote(&note.text);
        }
    }
}

fn plan(page: &mut Page, view: &PlanView, now: Timestamp) {
    page.heading(&format!("{}: {} of {}", view.id, view.rung, origin(view)))
        .value("state", &view.state)
        .value("dry run", if view.dry_run { "yes: nothing is changed" } else { "" })
        .value("needs", view.needs.as_deref().unwrap_or_default())
        .value("choices", &offers(view))
        .value("waits", &view.hold.as_ref().map(|hold| held(hold, now)).unwrap_or_default())
        .value("verification", &view.verification)
        .value("incident", view.incident.as_deref().unwrap_or_default())
        .value("requester", if view.policy.is_empty() { "" } else { &view.requester })
        .value("created", &full(&view.created_at, now))
        .value("started", &maybe(view.started_at.as_deref(), now))
        .value("ended", &maybe(view.ended_at.as_deref(), now))
        .value("values", &pairs(&view.values))
        .value("steps", &progress(view))
        .value("hash", &view.hash);
    view.steps.iter().for_each(|view| step(page, view));
    for vote in &view.approvals {
        let what = if vote.denied { "denied" } else { "approved" };
        let reason = if vote.reason.is_empty() { String::new() } else { format!(": {}", vote.reason) };
        page.line(&format!("{}  {} {what} as {} ({}){reason}", clock(&vote.at), vote.who, vote.role, vote.choice));
    }
}

fn step(page: &mut Page, view: &StepView) {
    let took = if view.duration_ms > 0 { format!(" in {} ms", view.duration_ms) } else { String::new() };
    page.line(&format!("wave {}  {} on {}: {}{took}", view.wave + 1, view.action, view.host, view.outcome));
    page.line(&format!("  with {}", view.parameters));
    if !view.summary.is_empty() {
        page.line(&format!("  {}", view.summary));
    }
    would(page, view);
    if let Some(remedy) = view.remedy.as_deref().filter(|remedy| !remedy.is_empty()) {
        page.line(&format!("  to allow it, add to agent.toml on {}:", view.host)).quote(remedy);
    }
}

/// What can be chosen, and what comes of it.
fn offers(view: &PlanView) -> String {
    let offers: Vec<String> = view.offers.iter().map(|offer| format!("{} ({})", offer.name, offer.does)).collect();
    offers.join(", ")
}

/// What a plan would touch, host by host: what people read before they answer for it.
pub fn touched(view: &PlanView) -> String {
    let mut page = Page::new();
    for step in view.steps.iter().filter(|step| step.previewed.is_some()) {
        page.line(&format!("{} on {}", step.action, step.host));
        would(&mut page, step);
    }
    page.into_text()
}

/// What a host says that a step would touch. The lines are made here, from what is hashed.
fn would(page: &mut Page, view: &StepView) {
    let items = exact::items(view);
    match (&view.refusal, view.previewed) {
        (Some(refusal), _) => {
            page.line(&format!("  would be refused: {refusal}"));
        }
        (None, None) => {}
        (None, Some(false)) => {
            page.line("  asked what it would touch; no answer yet");
        }
        (None, Some(true)) if items.is_empty() => {
            page.line("  would touch nothing");
        }
        (None, Some(true)) => {
            let bytes = preview::total(&items);
            let bytes = if bytes > 0 { format!(", {} ({bytes} bytes)", unit::size_text(bytes)) } else { String::new() };
            page.line(&format!("  would touch {}{bytes}:", items.len()));
            for item in &items {
                page.line(&format!("    {}", item.line()));
            }
        }
    }
    if let Some(note) = &view.note {
        page.line(&format!("  {note}"));
    }
}

fn hold(page: &mut Page, view: &HoldView, now: Timestamp) {
    page.heading(&view.what)
        .value("guard", &view.guard)
        .value("reason", &view.reason)
        .value("since", &maybe(view.since.as_deref(), now))
        .value("until", &maybe(view.until.as_deref(), now));
}

fn window(page: &mut Page, view: &WindowView, now: Timestamp) {
    page.heading(&view.id)
        .value("kind", &view.kind)
        .value("scope", &view.scope)
        .value("reason", &view.reason)
        .value("who", &view.who)
        .value("from", &maybe(view.from.as_deref(), now))
        .value("until", &full(&view.until, now))
        .value("active", if view.active { "yes" } else { "no" });
}

fn alert(page: &mut Page, view: &AlertView, now: Timestamp) {
    page.heading(&format!("{} on {}", view.policy, view.target))
        .value("state", &view.state)
        .value("since", &maybe(view.since.as_deref(), now))
        .value("firing since", &maybe(view.firing_since.as_deref(), now))
        .value("incident", view.incident.as_deref().unwrap_or_default());
}

fn token(page: &mut Page, view: &TokenView, now: Timestamp) {
    page.heading(&view.id)
        .value("uses left", &view.uses_left.to_string())
        .value("ends", &full(&view.expires_at, now))
        .value("made by", &view.created_by)
        .value("labels", &pairs(&view.labels));
}

fn operator(page: &mut Page, view: &OperatorView, now: Timestamp) {
    page.heading(&view.name)
        .value("roles", &view.roles.join(", "))
        .value("state", if view.revoked { "revoked" } else { "active" })
        .value("certificate", &maybe(view.certificate_expires.as_deref(), now));
}

fn manifest(page: &mut Page, view: &ManifestView) {
    page.heading(&format!("{} {}", view.kind, full_name(&view.namespace, &view.name)))
        .value("digest", &view.digest)
        .quote(&view.yaml);
}
