//! Alerts: a policy times a target.

use jiff::Timestamp;
use quell_model::name::{FullName, Target};
use serde::{Deserialize, Serialize};

use crate::id::IncidentId;

/// Policy × target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertRow {
    /// The policy.
    pub policy: FullName,
    /// The target.
    pub target: Target,
    /// How it stands.
    pub state: AlertState,
    /// When the trigger first held without a known break: what `for` counts from.
    pub since: Timestamp,
    /// When it fired: what `after` counts from.
    pub firing_since: Option<Timestamp>,
    /// When it was resolved.
    pub resolved_at: Option<Timestamp>,
    /// The incident it belongs to.
    pub incident: Option<IncidentId>,
    /// The times of the last 21 changes between firing and not: flapping is judged from them.
    #[serde(default)]
    pub changes: Vec<Timestamp>,
}

/// How an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AlertState {
    /// The trigger holds, but not for long enough.
    Pending,
    /// It fired.
    Firing,
    /// It is over.
    Resolved,
}
