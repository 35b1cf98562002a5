//! What was done and counts: acts, what may happen only once, and the breakers that follow from faults.

use jiff::Timestamp;
use quell_model::{
    name::{FullName, HostName, Target},
    policy::Mode,
};
use serde::{Deserialize, Serialize};

use super::ShadowRow;
use crate::id::{CommandId, IncidentId, PlanId};

/// Something that happened and may not happen again for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnceRow {
    /// When.
    pub at: Timestamp,
    /// Until when it is remembered.
    pub until: Timestamp,
    /// The plan that did it.
    pub plan: PlanId,
}

/// An act that counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRow {
    /// The command.
    pub command: CommandId,
    /// The plan.
    pub plan: PlanId,
    /// The policy; absent for a person's.
    pub policy: Option<FullName>,
    /// The target.
    pub target: Target,
    /// The host disturbed.
    pub host: HostName,
    /// The service it belongs to.
    pub service: Option<String>,
    /// Further services that it disturbs.
    #[serde(default)]
    pub also: Vec<String>,
    /// The policies' targets for which a person's act counts as well: it was a remedy of theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts_for: Vec<(FullName, Target)>,
    /// When it was sent.
    pub at: Timestamp,
    /// The name of the rung; empty for a person's run.
    #[serde(default)]
    pub rung: String,
    /// The incident.
    #[serde(default)]
    pub incident: Option<IncidentId>,
    /// Whether it turned out not to count: refused or not started.
    #[serde(default)]
    pub void: bool,
}

impl LedgerRow {
    /// The row of an act that was not done: what it would have disturbed on a host.
    pub(crate) fn of_shadow(row: &ShadowRow, at: Timestamp, host: &HostName, command: CommandId, plan: PlanId) -> Self {
        Self {
            command,
            plan,
            policy: Some(row.policy.clone()),
            target: row.target.clone(),
            host: host.clone(),
            service: row.service.clone(),
            also: Vec::new(),
            counts_for: Vec::new(),
            at,
            rung: row.rung.clone(),
            incident: row.incident,
            void: false,
        }
    }

    /// Whether it is an act of a policy, or a person's that counts as one.
    pub fn is_of_policy(&self, policy: &FullName) -> bool {
        self.policy.as_ref() == Some(policy) || self.counts_for.iter().any(|(other, _)| other == policy)
    }

    /// Whether it is an act of a policy on a target, or a person's that counts as one.
    pub fn is_remedy(&self, policy: &FullName, target: &Target) -> bool {
        let is_own = self.policy.as_ref() == Some(policy) && self.target == *target;
        is_own || self.counts_for.iter().any(|(other, on)| other == policy && on == target)
    }
}

/// What keeps a policy from acting until a person has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerRow {
    /// The policy.
    pub policy: FullName,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// The mode that it lowers the policy to.
    pub lowers_to: Mode,
    /// The targets whose flapping alone keeps it open: it closes by itself when they have calmed down. Empty: a person
    /// must look.
    #[serde(default)]
    pub flapping: Vec<Target>,
}
