//! Probes for agents.

use quell_model::{name::FullName, probe::ProbeKey};
use serde::{Deserialize, Serialize};

/// A probe for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Its key.
    pub key: ProbeKey,
    /// Its specification as canonical JSON.
    pub spec: String,
    /// The policies that want it.
    pub policies: Vec<FullName>,
}
