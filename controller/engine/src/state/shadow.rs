//! What policies that may not act would have done.

use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    name::{FullName, HostName, Target},
};
use serde::{Deserialize, Serialize};

use super::{Hold, PlannedOnce};
use crate::id::IncidentId;

/// One decision of a policy that may not act: a rung for an incident, or a run of a timetable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShadowRow {
    /// The policy.
    pub policy: FullName,
    /// Digest of its manifest at that time.
    pub digest: Digest,
    /// The target.
    pub target: Target,
    /// The rung's name.
    pub rung: String,
    /// The incident; absent for a timetable's run.
    pub incident: Option<IncidentId>,
    /// The actions of its steps, each once.
    pub actions: Vec<String>,
    /// The hosts that it would disturb, of very many the first ones,
    pub hosts: Vec<HostName>,
    /// and how many they are.
    pub host_count: usize,
    /// The service that they belong to.
    pub service: Option<String>,
    /// What it would use up of what may happen only once.
    #[serde(default)]
    pub onces: Vec<PlannedOnce>,
    /// Whether the rung's own rule would have asked people first.
    pub asks_people: bool,
    /// When it first wanted to.
    pub wanted_at: Timestamp,
    /// When it would have begun; absent: it has not.
    pub acted_at: Option<Timestamp>,
    /// What holds it, or held it last.
    pub hold: Option<Hold>,
    /// The guards that held it, each once, in the order in which they did.
    #[serde(default)]
    pub held_by: Vec<String>,
    /// Why it would not have begun at all: the symptom went away first, the next run was due.
    pub dropped: Option<String>,
}

impl ShadowRow {
    /// Whether it waits for a guard.
    pub fn is_waiting(&self) -> bool {
        self.acted_at.is_none() && self.dropped.is_none()
    }
}
