//! Incidents: a problem times a target, what became of it, and what people said about it.

use jiff::Timestamp;
use quell_model::{
    name::{FullName, Target},
    policy::{Severity, TellAt},
};
use serde::{Deserialize, Serialize};

use super::Hold;
use crate::id::{IncidentId, PlanId};

/// Problem × target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IncidentRow {
    /// Its number.
    pub id: IncidentId,
    /// The problem.
    pub problem: String,
    /// The target.
    pub target: Target,
    /// The policies whose alerts feed it; the first one's ladder is climbed.
    pub policies: Vec<FullName>,
    /// How it stands.
    pub state: IncidentState,
    /// How loudly people are told.
    pub severity: Severity,
    /// A sentence: the policy's description.
    pub summary: String,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// How it ended.
    pub resolution: Option<String>,
    /// Who acknowledged it.
    pub acknowledged_by: Option<String>,
    /// Where on the ladder it is: the rung to be tried next.
    pub rung: usize,
    /// Its plans.
    pub plans: Vec<PlanId>,
    /// Why nothing is done at the moment.
    pub hold: Option<Hold>,
    /// Notes of people.
    pub notes: Vec<Note>,
    /// When people were called.
    pub escalated_at: Option<Timestamp>,
    /// Messages of the firing that will not be sent: their condition was known not to hold, by policy and index.
    #[serde(default)]
    pub untold: Vec<(FullName, usize)>,
    /// Messages sent already: each goes once.
    #[serde(default)]
    pub told: Vec<Told>,
    /// Records that people read as its story, by time; the log has them all.
    #[serde(default)]
    pub timeline: Vec<Note>,
    /// The index of the rung that healed it: a recurrence within 6 h starts after that one.
    #[serde(default)]
    pub healed_by: Option<usize>,
    /// What opened it.
    #[serde(default)]
    pub cause: Cause,
    /// The policy whose ladder is climbed; set when the first plan is made.
    #[serde(default)]
    pub leader: Option<FullName>,
    /// Why no further rung is tried: people have it.
    #[serde(default)]
    pub ladder_ended: Option<String>,
    /// Who was called, in order.
    #[serde(default)]
    pub called: Vec<Called>,
    /// The open incident of a service underneath, which explains this one.
    #[serde(default)]
    pub inhibited_by: Option<IncidentId>,
}

impl IncidentRow {
    /// Whether it is not over.
    pub fn is_open(&self) -> bool {
        self.state != IncidentState::Resolved
    }
}

/// What opened an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// A policy's trigger.
    #[default]
    Symptom,
    /// A scheduled run that did not help.
    RunFailed,
    /// A run that should have been and was not.
    RunMissed,
    /// A fault of the policy itself: a condition that cannot be judged.
    PolicyFault,
}

/// A message of a policy that went out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The moment.
    pub at: TellAt,
    /// The contact, told once a moment and incident.
    pub contact: FullName,
    /// The plan that was carried out, of which each contact is told once.
    #[serde(default)]
    pub plan: Option<PlanId>,
}

/// Somebody who was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// The contact.
    pub contact: FullName,
    /// When.
    pub at: Timestamp,
}

/// How an incident stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IncidentState {
    /// Nobody looks at it but the policies.
    Open,
    /// A person has it.
    Acknowledged,
    /// A rung was verified; the alerts have not cleared yet.
    Mitigated,
    /// It is over.
    Resolved,
}

/// A remark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What.
    pub text: String,
}
