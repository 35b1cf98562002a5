//! A verdict, from the answer down to what was seen.

use jiff::Timestamp;
use quell_wire::v1::VerdictView;

use super::{page::Page, time::full};

/// Draws verdicts, one below the other.
pub fn draw(verdicts: &[VerdictView], now: Timestamp) -> String {
    let mut page = Page::new();
    for verdict in verdicts {
        one(&mut page, verdict, now);
    }
    page.into_text()
}

fn one(page: &mut Page, verdict: &VerdictView, now: Timestamp) {
    page.heading(&format!("{} on {}", verdict.policy, verdict.target));
    if let Some(past) = &verdict.past {
        page.value("at", &full(&past.at, now));
    }
    page.value("verdict", &verdict.verdict);
    page.value("summary", &verdict.summary);
    if let Some(no) = &verdict.first_no {
        page.value("first no", &format!("{}: {}", no.guard, no.reason));
        page.value("until", &no.until.as_deref().map(|until| full(until, now)).unwrap_or_default());
    }
    page.value("since", &verdict.since.as_deref().map(|since| full(since, now)).unwrap_or_default());
    page.value("incident", verdict.incident.as_deref().unwrap_or_default());
    page.value("plan", verdict.plan.as_deref().unwrap_or_default());
    if let Some(past) = &verdict.past {
        page.value("built from", &past.built_from);
    }
    page.value("condition", &verdict.condition);
    for signal in &verdict.signals {
        let quorum = if signal.quorum.is_empty() { String::new() } else { format!("  [{}]", signal.quorum) };
        page.line(&format!("{} = {}{quorum}", signal.name, signal.value));
        page.line(&format!("  {}", signal.expression));
        for saw in &signal.saw {
            page.line(&format!("    {saw}"));
        }
    }
    let refusing: Vec<_> = verdict.guards.iter().filter(|guard| !guard.allows).collect();
    for guard in &refusing {
        page.line(&format!("guard {}: no, {}", guard.guard, guard.reason));
    }
    let allowing: Vec<_> =
        verdict.guards.iter().filter(|guard| guard.allows).map(|guard| guard.guard.as_str()).collect();
    if !allowing.is_empty() {
        page.line(&format!("guards that allow it: {}", allowing.join(", ")));
    }
}
