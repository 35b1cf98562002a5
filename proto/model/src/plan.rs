//! The exact plan: what people approve, what agents check behind every command, what the log names.
//!
//! Its hash is the SHA-256 of its canonical bytes (RFC 8785). A plan that changed is a new plan.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::{
    digest::{Digest, canonical},
    name::{FullName, HostName, Target},
    trust::{Malformed, document},
    value::Value,
};

/// A plan, down to each step on each host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExactPlan {
    /// The installation whose plan it is.
    pub installation: String,
    /// Grows at each restore.
    pub epoch: u64,
    /// Its number: `plan-7`.
    pub plan: String,
    /// The incident that it is for: `inc-42`.
    pub incident: Option<String>,
    /// The policy that wants it; absent for a person's order.
    pub policy: Option<FullName>,
    /// The digest of that policy's manifest.
    pub policy_digest: Option<Digest>,
    /// What is to be cured.
    pub target: Target,
    /// The rung of the policy's ladder; for a person's order the action.
    pub rung: String,
    /// The person who asked for it; absent when a policy did.
    pub requester: Option<String>,
    /// The policy's values, frozen.
    pub values: BTreeMap<String, Value>,
    /// Every step on every host.
    pub steps: Vec<PlannedStep>,
    /// Pause after each wave, milliseconds.
    pub settle_ms: u64,
    /// It stops after one more failure than this.
    pub max_errors: u32,
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// The digest of what a host said that it would touch, by [`preview_key`]; empty while nobody was asked.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub previews: BTreeMap<String, Digest>,
    /// The digest of the person's signed order ([`crate::trust::run::Run`]), when there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Digest>,
}

/// A step on one host. Its fields stand in the order of their names, as in canonical JSON, so that writing thousands of
/// steps sorts nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedStep {
    /// The action.
    pub action: String,
    /// Whether it is done in the end, whatever happened.
    pub finally: bool,
    /// Where.
    pub host: HostName,
    /// Its place in the rung: the steps of `do`, then those of `finally`, from 0.
    pub step: usize,
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
    /// Its wave, from 0.
    pub wave: usize,
    /// Its parameters, with every value filled in.
    pub with: Map<String, serde_json::Value>,
}

/// The key of a step on a host among the previews of a plan.
pub fn preview_key(host: &HostName, step: usize) -> String {
    format!("{host} {step}")
}

impl ExactPlan {
    /// Its canonical bytes: what is hashed.
    pub fn canonical(&self) -> String {
        document::write(self)
    }

    /// Reads a plan from its canonical bytes.
    ///
    /// # Errors
    /// The bytes are not canonical.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        document::read("plan", bytes)
    }

    /// What a host said that it would touch in a step.
    pub fn preview(&self, host: &HostName, step: usize) -> Option<Digest> {
        self.previews.get(&preview_key(host, step)).copied()
    }
}

impl PlannedStep {
    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Whether these are its parameters, however their numbers are written.
    pub fn has_parameters(&self, parameters: &Map<String, serde_json::Value>) -> bool {
        same(&self.with, parameters)
    }
}

/// Whether two sets of parameters are the same in canonical form.
pub(crate) fn same(one: &Map<String, serde_json::Value>, other: &Map<String, serde_json::Value>) -> bool {
    one == other || canonical(one) == canonical(other)
}
