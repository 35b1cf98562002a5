//! Incidents, alerts, and what holds things back.

use std::collections::BTreeSet;

use quell_engine::{
    id::{IncidentId, PlanId},
    state::{AlertState, IncidentRow, IncidentState, Note},
};
use quell_wire::v1::{AlertView, HoldView, IncidentView, NoteView, TimelineView};

use super::{Filter, Viewer, hold, time, word};

impl Viewer<'_> {
    /// Incidents, newest first; resolved ones where all, or that one, are asked for.
    pub fn incidents(&self, filter: &Filter) -> Vec<IncidentView> {
        let rows = self.state.incidents.values().rev().filter(|row| {
            (filter.all || !filter.name.is_empty() || row.state != IncidentState::Resolved)
                && filter.wants(&row.id.to_string())
                && self.wants_target(filter, &row.target)
        });
        rows.map(|row| self.incident(row)).collect()
    }

    /// One incident, by its number.
    pub fn incident_with(&self, id: IncidentId) -> Option<IncidentView> {
        self.state.incidents.get(&id).map(|row| self.incident(row))
    }

    /// One incident.
    pub fn incident(&self, row: &IncidentRow) -> IncidentView {
        IncidentView {
            id: row.id.to_string(),
            problem: row.problem.clone(),
            target: row.target.to_string(),
            policies: row.policies.iter().map(ToString::to_string).collect(),
            state: word(row.state),
            opened_at: time(row.opened_at),
            resolved_at: row.resolved_at.map(time),
            severity: word(row.severity),
            summary: row.summary.clone(),
            plans: row.plans.iter().filter_map(|id| self.plan_with(*id)).collect(),
            notes: row.notes.iter().map(note).collect(),
            timeline: row.timeline.iter().map(moment).collect(),
            hold: row.hold.as_ref().map(|no| hold(&row.id, no)),
            acknowledged_by: row.acknowledged_by.clone(),
            resolution: row.resolution.clone(),
        }
    }

    /// Alerts; resolved ones where all are asked for.
    pub fn alerts(&self, filter: &Filter) -> Vec<AlertView> {
        let rows = self.state.alerts.values().filter(|row| {
            let name = row.policy.to_string();
            (filter.all || row.state != AlertState::Resolved)
                && (filter.wants(&name) || filter.wants(row.policy.name.as_str()))
                && self.wants_target(filter, &row.target)
        });
        rows.map(|row| AlertView {
            policy: row.policy.to_string(),
            target: row.target.to_string(),
            state: word(row.state),
            since: Some(time(row.since)),
            firing_since: row.firing_since.map(time),
            incident: row.incident.map(|id| id.to_string()),
        })
        .collect()
    }

    /// Everything that something holds back: plans, incidents without one, policies whose breaker is open, and the whole
    /// controller after a restore or a jump of the clock.
    pub fn holds(&self, filter: &Filter) -> Vec<HoldView> {
        let mut holds = self.holds_of_everything();
        holds.extend(self.state.breakers.values().map(|row| HoldView {
            what: row.policy.to_string(),
            guard: "breaker".to_owned(),
            reason: row.reason.clone(),
            until: None,
            since: Some(time(row.since)),
        }));
        let mut told: BTreeSet<PlanId> = BTreeSet::new();
        for plan in self.state.plans.values().filter(|plan| !plan.state.has_ended()) {
            if let Some(no) = &plan.hold {
                told.insert(plan.id);
                holds.push(hold(&plan.id, no));
            }
        }
        for incident in self.state.incidents.values().filter(|row| row.state != IncidentState::Resolved) {
            if let Some(no) = &incident.hold
                && !incident.plans.iter().any(|plan| told.contains(plan))
            {
                holds.push(hold(&incident.id, no));
            }
        }
        holds.retain(|hold| filter.wants(&hold.what));
        holds
    }

    fn holds_of_everything(&self) -> Vec<HoldView> {
        let reasons = [("restored", &self.state.meta.observe_only), ("clock", &self.state.meta.clock_suspect)];
        let holds = reasons.into_iter().filter_map(|(guard, reason)| {
            let reason = reason.clone()?;
            Some(HoldView { what: "everything".to_owned(), guard: guard.to_owned(), reason, until: None, since: None })
        });
        holds.collect()
    }
}

fn note(note: &Note) -> NoteView {
    NoteView { at: time(note.at), who: note.who.clone(), text: note.text.clone() }
}

fn moment(note: &Note) -> TimelineView {
    TimelineView { at: time(note.at), sequence: 0, text: note.text.clone() }
}
