//! What needs a person, on one screen.

use jiff::Timestamp;
use quell_wire::v1::{HoldView, StatusView};

use super::{
    page::Page,
    rows::{origin, short},
    time::{full, relative},
};

/// Draws the answer to bare `quell`.
pub fn draw(status: &StatusView, now: Timestamp) -> String {
    let mut page = Page::new();
    for warning in &status.warnings {
        page.line(&format!("warning: {warning}"));
    }
    if !status.approvals.is_empty() {
        page.heading(&format!("Waiting for an approval ({})", status.approvals.len()));
        for plan in &status.approvals {
            let needs = plan.needs.as_deref().unwrap_or("an approval");
            let since = relative(&plan.created_at, now);
            page.line(&format!("{}  {} {}: needs {needs}, made {since}", plan.id, origin(plan), plan.rung));
            page.line(&format!("  quell describe plan {}", plan.id));
            page.line(&format!("  quell approve {} --hash {}", plan.id, short(&plan.hash)));
        }
    }
    if !status.incidents.is_empty() {
        page.heading(&format!("Open incidents ({})", status.incidents.len()));
        for incident in &status.incidents {
            let opened = relative(&incident.opened_at, now);
            page.line(&format!(
                "{}  {} on {}: {}, opened {opened}",
                incident.id, incident.problem, incident.target, incident.state
            ));
            if let Some(hold) = &incident.hold {
                page.line(&format!("  waits: {}", held(hold, now)));
            }
        }
    }
    if !status.holds.is_empty() {
        page.heading(&format!("Held back ({})", status.holds.len()));
        for hold in &status.holds {
            page.line(&format!("{}: {}", hold.what, held(hold, now)));
        }
    }
    if !status.windows.is_empty() {
        page.heading(&format!("Windows ({})", status.windows.len()));
        for window in &status.windows {
            let ends = relative(&window.until, now);
            page.line(&format!(
                "{}  {} of {}, ends {ends}: {} ({})",
                window.id, window.kind, window.scope, window.reason, window.who
            ));
        }
    }
    if page.is_empty() {
        page.heading("Nothing needs you.");
    }
    page.heading("Fleet");
    page.line(&format!(
        "{} online, {} lost, {} revoked; {}; controller {}",
        status.hosts_online,
        status.hosts_lost,
        status.hosts_revoked,
        if status.policies == 1 { "1 policy".to_owned() } else { format!("{} policies", status.policies) },
        status.controller_version
    ));
    page.into_text()
}

/// A "no" in one line: which guard, why, until when.
pub fn held(hold: &HoldView, now: Timestamp) -> String {
    match hold.until.as_deref() {
        Some(until) => format!("{}: {} (until {})", hold.guard, hold.reason, full(until, now)),
        None => format!("{}: {}", hold.guard, hold.reason),
    }
}
