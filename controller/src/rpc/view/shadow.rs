//! The shadow ledger of a policy, for people.

use quell_engine::{
    shadow::{Summary, summary},
    state::ShadowRow,
};
use quell_model::{name::FullName, policy::Policy};
use quell_wire::v1::{ShadowDecision, ShadowView};

use super::{Viewer, time};

/// So many decisions are shown one by one,
const DECISIONS: usize = 50;
/// so many hosts are counted,
const HOSTS: usize = 50;
/// and so many named in a decision.
const HOSTS_OF_ONE: usize = 10;

impl Viewer<'_> {
    /// What a policy would have done; nothing when nothing is kept and it may act.
    pub(super) fn shadow(&self, policy: &Policy, with_decisions: bool) -> Option<ShadowView> {
        let summary = summary(self.state, self.now, &policy.name)?;
        let mode = quell_engine::effective_mode(self.state, self.now, policy);
        let is_of_interest = mode != quell_model::policy::Mode::Enforce || !summary.decisions.is_empty();
        is_of_interest.then(|| shadow(&summary, &policy.name, with_decisions))
    }
}

fn shadow(summary: &Summary<'_>, policy: &FullName, with_decisions: bool) -> ShadowView {
    let mut hosts: Vec<_> = summary.hosts.iter().collect();
    hosts.sort_by_key(|(host, count)| (std::cmp::Reverse(**count), **host));
    let shown = if with_decisions { DECISIONS } else { 0 };
    ShadowView {
        policy: policy.to_string(),
        since: time(summary.since),
        acted: number(summary.acted),
        asked: number(summary.asked),
        waiting: number(summary.waiting),
        dropped: number(summary.dropped),
        hosts: hosts.into_iter().take(HOSTS).map(|(host, count)| (host.to_string(), number(*count))).collect(),
        held_by: summary.held_by.iter().map(|(guard, count)| ((*guard).to_owned(), number(*count))).collect(),
        first: summary.first.map(time),
        last: summary.last.map(time),
        worst_hour: summary.worst_hour.map(|(begin, _)| time(begin)),
        worst_hour_acts: summary.worst_hour.map_or(0, |(_, count)| number(count)),
        of_other_versions: number(summary.of_other_versions),
        decisions: summary.decisions.iter().take(shown).map(|row| decision(row)).collect(),
    }
}

fn decision(row: &ShadowRow) -> ShadowDecision {
    let (outcome, at, reason) = match (row.acted_at, &row.dropped, &row.hold) {
        (Some(at), _, _) if row.held_by.is_empty() => ("acted", at, String::new()),
        (Some(at), _, _) => ("acted", at, format!("after it was held by {}", row.held_by.join(", "))),
        (None, Some(why), _) => ("dropped", row.wanted_at, format!("{why}; it was held by {}", row.held_by.join(", "))),
        (None, None, Some(hold)) => ("held", row.wanted_at, format!("{} ({})", hold.reason, hold.guard)),
        (None, None, None) => ("held", row.wanted_at, String::new()),
    };
    ShadowDecision {
        at: time(at),
        target: row.target.to_string(),
        rung: row.rung.clone(),
        actions: row.actions.clone(),
        hosts: row.hosts.iter().take(HOSTS_OF_ONE).map(ToString::to_string).collect(),
        host_count: number(row.host_count),
        incident: row.incident.map(|id| id.to_string()),
        outcome: outcome.to_owned(),
        reason,
        asks_people: row.asks_people,
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
