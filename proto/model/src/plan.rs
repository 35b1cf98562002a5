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
    /// Every step, with every host that does it.
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

/// A step, said once for all of its hosts: each of them reads the whole plan with every command, to hash it, and a plan
/// for thousands is little more than their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlannedStep {
    /// The action.
    pub action: String,
    /// Whether it is done in the end, whatever happened.
    pub finally: bool,
    /// Its place in the rung: the steps of `do`, then those of `finally`, from 0.
    pub step: usize,
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
    /// Where, wave by wave; a wave in which nobody does it is empty.
    pub waves: Vec<Vec<HostName>>,
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

    /// The steps that take this place in the rung on a host: one, in a plan that says what it means.
    pub fn steps_on(&self, host: &HostName, step: usize) -> impl Iterator<Item = &PlannedStep> {
        let here = self.steps.iter().filter(move |planned| planned.step == step);
        here.flat_map(move |planned| planned.hosts().filter(move |one| *one == host).map(move |_| planned))
    }

    /// What a host said that it would touch in a step.
    pub fn preview(&self, host: &HostName, step: usize) -> Option<Digest> {
        self.previews.get(&preview_key(host, step)).copied()
    }
}

impl PlannedStep {
    /// Every host that does it.
    pub fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.waves.iter().flatten()
    }

    /// Adds a host to a wave, counted from 0.
    pub fn add(&mut self, wave: usize, host: HostName) {
        if self.waves.len() <= wave {
            self.waves.resize_with(wave + 1, Vec::new);
        }
        self.waves[wave].push(host);
    }

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
