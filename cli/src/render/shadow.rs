//! What a policy that may not act would have done.

use std::collections::BTreeMap;

use jiff::Timestamp;
use quell_wire::v1::{ShadowDecision, ShadowView};

use super::{
    page::Page,
    time::{clock, full},
};

/// So many hosts are named.
const HOSTS: usize = 10;

/// Draws it, from the sum down to the single decisions.
pub fn draw(page: &mut Page, view: &ShadowView, now: Timestamp) {
    page.heading(&format!("what it would have done since {}", full(&view.since, now)));
    page.value("acts", &acts(view));
    if let (Some(first), Some(last)) = (&view.first, &view.last) {
        page.value("first", &full(first, now)).value("last", &full(last, now));
    }
    if let Some(worst) = &view.worst_hour {
        page.value("worst hour", &format!("{} from {}", times(view.worst_hour_acts), full(worst, now)));
    }
    page.value("hosts", &counted(&view.hosts));
    page.value("held by", &counted(&view.held_by));
    page.value("never begun", &wanted(view.dropped, "would have been held until it was not wanted any more"));
    page.value("held still", &wanted(view.waiting, "waits for a guard"));
    if view.of_other_versions > 0 {
        page.value(
            "versions",
            &format!("{} of these decisions are of another version of the policy", view.of_other_versions),
        );
    }
    page.line("a rung is taken to be carried out at once; whether it would have helped, nobody knows");
    for decision in &view.decisions {
        page.line(&line(decision));
    }
}

fn acts(view: &ShadowView) -> String {
    match (view.acted, view.asked) {
        (0, _) => "none".to_owned(),
        (acted, 0) => acted.to_string(),
        (acted, asked) => format!("{acted}, {asked} of them after asking people by a rule of the rung"),
    }
}

fn times(count: u32) -> String {
    if count == 1 { "1 act".to_owned() } else { format!("{count} acts") }
}

fn wanted(count: u32, what: &str) -> String {
    if count == 0 { String::new() } else { format!("{count}: {what}") }
}

/// The most frequent first.
fn counted(counts: &BTreeMap<String, u32>) -> String {
    let mut counts: Vec<_> = counts.iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
    let more = counts.len().saturating_sub(HOSTS);
    let mut shown: Vec<String> = counts.iter().take(HOSTS).map(|(name, count)| format!("{name} ×{count}")).collect();
    if more > 0 {
        shown.push(format!("{more} more"));
    }
    shown.join(", ")
}

fn line(decision: &ShadowDecision) -> String {
    let incident = decision.incident.as_ref().map(|id| format!(" ({id})")).unwrap_or_default();
    let what = match (decision.outcome.as_str(), decision.host_count) {
        ("acted", 1) => format!("would run {} on {}", decision.rung, decision.hosts.join(", ")),
        ("acted", count) => format!("would run {} on {count} hosts", decision.rung),
        ("held", _) => format!("would be held before {}", decision.rung),
        _ => format!("would not have run {}", decision.rung),
    };
    let reason = if decision.reason.is_empty() { String::new() } else { format!(": {}", decision.reason) };
    format!("{}  {}  {what}{reason}{incident}", clock(&decision.at), decision.target)
}
