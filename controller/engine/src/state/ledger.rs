//! What was done and counts: acts, what may happen only once, and the breakers that follow from faults.

use jiff::Timestamp;
use quell_model::{
    name::{FullName, HostName, Target},
    policy::Mode,
};
use serde::{Deserialize, Serialize};

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
