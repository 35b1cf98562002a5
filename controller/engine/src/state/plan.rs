//! Plans: what is to be done exactly, the approval that it needs, and how it stands.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    name::{FullName, HostName, ObjectName, Target},
    value::Value,
};
use serde::{Deserialize, Serialize};

use super::{Hold, RunEvidence};
use crate::id::{CommandId, IncidentId, PlanId};

/// An exact plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlanRow {
    /// Its number.
    pub id: PlanId,
    /// SHA-256 of [`PlanRow::canonical`]: what is approved, what agents check.
    pub hash: Digest,
    /// RFC 8785 JSON of what is to be done: policy digest, rung, steps with frozen values, hosts in waves.
    pub canonical: String,
    /// The incident; absent for a schedule's or a person's run.
    pub incident: Option<IncidentId>,
    /// The policy; absent for a person's run.
    pub policy: Option<FullName>,
    /// Digest of the policy's manifest.
    pub policy_digest: Option<Digest>,
    /// The target.
    pub target: Target,
    /// The rung's name, and its index.
    pub rung: String,
    /// Its index on the ladder.
    pub rung_index: usize,
    /// Who asked for it; a policy's plan has no requester.
    pub requester: Option<String>,
    /// Why a person asked for it.
    #[serde(default)]
    pub reason: String,
    /// How it stands.
    pub state: PlanState,
    /// Values frozen into it.
    pub values: BTreeMap<String, Value>,
    /// Its commands in the order in which they run: by wave, then step.
    pub commands: Vec<CommandId>,
    /// Sizes of its waves.
    pub waves: Vec<u32>,
    /// The wave that runs, from 0.
    #[serde(default)]
    pub wave: usize,
    /// Pause between waves.
    pub settle: Duration,
    /// It stops after one more failure than this.
    pub max_errors: u32,
    /// When it was made,
    pub created_at: Timestamp,
    /// begun,
    pub started_at: Option<Timestamp>,
    /// carried out: what verification counts from,
    pub acted_at: Option<Timestamp>,
    /// and over.
    pub ended_at: Option<Timestamp>,
    /// Since when the symptom's verification holds without a break.
    pub verified_since: Option<Timestamp>,
    /// How verification went, in words.
    #[serde(default)]
    pub verification: String,
    /// The approval that it needs.
    pub needs: Option<Needs>,
    /// The votes.
    #[serde(default)]
    pub votes: Vec<Vote>,
    /// Why it waits.
    pub hold: Option<Hold>,
    /// Nothing is changed.
    #[serde(default)]
    pub dry_run: bool,
    /// Identifier of the request that asked for it.
    #[serde(default)]
    pub request_id: String,
    /// What a person signed; absent for a policy's plan, behind which its namespace's set stands.
    #[serde(default)]
    pub evidence: Option<RunEvidence>,
    /// Hosts disturbed: counted for `disturb`. In the order of their names, each once.
    #[serde(default)]
    pub hosts: Vec<HostName>,
    /// The service that they belong to.
    #[serde(default)]
    pub service: Option<String>,
    /// Further services whose members a person's run disturbs.
    #[serde(default)]
    pub also: Vec<AlsoDisturbed>,
    /// The policies of whose remedies a person's run is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub concerns: Vec<Concern>,
    /// Resources that it holds: `planthost1 unit:named`. In order, each once.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Whether a timetable asked for it.
    #[serde(default)]
    pub scheduled: bool,
    /// What it uses up of what may happen only once.
    #[serde(default)]
    pub onces: Vec<PlannedOnce>,
    /// How many hosts of the service may be disturbed, fixed when it was made; absent: none are disturbed.
    #[serde(default)]
    pub disturb: Option<DisturbLimit>,
    /// When the next wave may be judged.
    #[serde(default)]
    pub next_wave_at: Option<Timestamp>,
    /// Why nothing more of it is sent but what runs in any case.
    #[serde(default)]
    pub stopped: Option<String>,
    /// How it ends once what runs in any case (undo, `finally`) has ended; nothing else of it is begun any more.
    #[serde(default)]
    pub closing: Option<PlanState>,
    /// What was chosen by the people who approved it.
    #[serde(default)]
    pub choice: Option<String>,
    /// Who called it off.
    #[serde(default)]
    pub cancelled_by: Option<String>,
    /// Its hash before its previews were sealed into it; absent: it has none.
    #[serde(default)]
    pub draft: Option<Digest>,
    /// Until when its hosts may say what it would touch.
    #[serde(default)]
    pub preview_until: Option<Timestamp>,
}

impl PlanRow {
    /// Whether it disturbs a host.
    pub fn acts_on(&self, host: &HostName) -> bool {
        self.hosts.binary_search(host).is_ok()
    }
}

/// Something that a plan may do only once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedOnce {
    /// The key.
    pub key: String,
    /// For how long it is used up; absent: as long as the incident is remembered.
    pub within: Option<Duration>,
}

/// A further service that a person's run disturbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlsoDisturbed {
    /// Its name.
    pub service: String,
    /// How many of its hosts may be disturbed, fixed when the plan was made; absent: none are disturbed.
    pub limit: Option<DisturbLimit>,
}

/// A policy that would do what a person's run does, to the same things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concern {
    /// The policy.
    pub policy: FullName,
    /// The targets on which it would.
    pub targets: Vec<Target>,
    /// How many hosts the policy may disturb, fixed when the plan was made; absent: none are disturbed.
    pub disturb: Option<DisturbLimit>,
}

/// How many hosts of a service may be disturbed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisturbLimit {
    /// So many,
    pub limit: u32,
    /// of so many that count,
    pub eligible: u32,
    /// over so long.
    pub over: Duration,
}

/// How a plan stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PlanState {
    /// It is a draft: its hosts are asked what it would touch.
    Previewing,
    /// It waits for an approval.
    Proposed,
    /// It may start as soon as nothing holds it.
    Held,
    /// Its commands run.
    Running,
    /// Its commands have ended; the symptom is being judged.
    Verifying,
    /// The symptom is gone (for a person's run: the actions succeeded).
    Succeeded,
    /// It did not help, or an action failed.
    Failed,
    /// People said no.
    Denied,
    /// Nobody answered in time.
    Expired,
    /// The symptom went away first, or a person stopped it.
    Cancelled,
    /// The world moved: a newer plan took its place.
    Superseded,
    /// Every host says that there is nothing to do.
    NothingToDo,
}

impl PlanRow {
    /// The services that it disturbs.
    pub fn services(&self) -> impl Iterator<Item = &String> {
        self.service.iter().chain(self.also.iter().map(|also| &also.service))
    }
}

impl PlanState {
    /// Whether it waits for what comes before its first command.
    pub fn is_unbegun(self) -> bool {
        matches!(self, Self::Previewing | Self::Proposed | Self::Held)
    }

    /// Whether it is over.
    pub fn has_ended(self) -> bool {
        !self.is_unbegun() && !matches!(self, Self::Running | Self::Verifying)
    }
}

/// An approval that a plan needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// The role.
    pub role: String,
    /// How many distinct people.
    pub count: u32,
    /// When the question falls.
    pub expires: Timestamp,
    /// What can be chosen.
    pub choices: Vec<String>,
    /// The choices that run nothing, and tell somebody instead.
    #[serde(default)]
    pub instead: BTreeMap<String, Instead>,
    /// How often people are reminded.
    pub remind: Option<Duration>,
    /// When they were last.
    pub reminded_at: Timestamp,
    /// Whether a vote must be signed; agents ask for that too.
    #[serde(default)]
    pub signed: bool,
}

/// What comes of a choice that runs nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instead {
    /// Who is told.
    pub contact: ObjectName,
    /// What, with `$(name)` to be filled in; absent: that it was chosen.
    pub text: Option<String>,
}

/// A vote on a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub who: String,
    /// What was chosen.
    pub choice: String,
    /// Why.
    pub reason: String,
    /// Whether it is a no: nothing is run by it.
    pub denied: bool,
    /// SSHSIG signature over the ballot, armoured, where it was signed.
    #[serde(default)]
    pub signature: Option<String>,
    /// Until when what was signed is good. Signatures of older versions have no end, and count no more.
    #[serde(default)]
    pub expires: Option<Timestamp>,
}

impl Vote {
    /// Whether it still counts: what is signed does so until its end, as on the hosts.
    pub fn stands(&self, now: Timestamp) -> bool {
        self.denied || self.signature.is_none() || self.expires.is_some_and(|end| now < end)
    }
}
